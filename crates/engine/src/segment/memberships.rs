//! Which segments a person is in, with the instant at which time alone may change it (PRODUCT §6.4).

use waypost_codec::inbox::{Membership, Person, Truth};
use waypost_types::Timestamp;

use crate::{condition, definitions::Workspace, facts::PersonFacts, person};

/// One membership that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Segment.
    pub segment: String,
    /// Definition version it was computed under.
    pub version: u32,
    /// Unspecified: never evaluated before.
    pub before: Truth,
    /// Unspecified: the segment is no longer in force.
    pub after: Truth,
}

/// Evaluates every segment, each behind those it reads.
///
/// A first answer of no or unknown is no change: nobody left anything.
pub(super) fn evaluate(person: &mut Person, now: Timestamp, workspace: &Workspace, created: Timestamp) -> Vec<Change> {
    let mut changes = Vec::new();
    for name in &workspace.segment_order {
        let Some(segment) = workspace.segments.get(name) else { continue };
        let facts = PersonFacts::new(now, person, workspace).with_profile_created(created);
        let (truth, until) = segment.condition.truth(&facts);
        let after = stored(truth);
        let known = person::membership(person, name);
        let before = known.map_or(Truth::Unspecified, Membership::truth);
        let since = known.filter(|m| m.truth() == after).map_or_else(|| now.millis(), |m| m.since);
        // An answer is valid beyond the instant it was given at, or its timer would never rest.
        let valid_until = until.filter(|t| *t < Timestamp::MAX).map_or(0, |t| t.millis().max(now.millis().saturating_add(1)));
        let entry = Membership { segment: name.clone(), truth: after.into(), valid_until, since, version: segment.version };
        person::upsert(&mut person.memberships, &entry);
        if before != after && (before != Truth::Unspecified || after == Truth::Yes) {
            changes.push(Change { segment: name.clone(), version: segment.version, before, after });
        }
    }
    person.memberships.retain(|m| {
        let kept = workspace.segments.contains_key(&m.segment);
        if !kept && m.truth() == Truth::Yes {
            changes.push(Change { segment: m.segment.clone(), version: m.version, before: Truth::Yes, after: Truth::Unspecified });
        }
        kept
    });
    changes
}

/// The earliest instant at which time alone may change a membership.
pub(super) fn next_flip(person: &Person) -> Option<Timestamp> {
    person.memberships.iter().map(|m| m.valid_until).filter(|ms| *ms > 0).min().map(Timestamp::from_millis)
}

fn stored(truth: condition::Truth) -> Truth {
    match truth {
        condition::Truth::Yes => Truth::Yes,
        condition::Truth::No => Truth::No,
        condition::Truth::Unknown => Truth::Unknown,
    }
}
