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
    let mut evaluated = 0;
    for name in &workspace.segment_order {
        let Some(segment) = workspace.segments.get(name) else { continue };
        evaluated += 1;
        let facts = PersonFacts::new(now, person, workspace).with_profile_created(created);
        let (truth, until) = segment.condition.truth(&facts);
        let after = stored(truth);
        // An answer is valid beyond the instant it was given at, or its timer would never rest.
        let valid_until = until.filter(|t| *t < Timestamp::MAX).map_or(0, |t| t.millis().max(now.millis().saturating_add(1)));
        let entry = person::entry(&mut person.memberships, (name, ""), || Membership { segment: name.clone(), ..Membership::default() });
        let before = entry.truth();
        if before != after {
            (entry.truth, entry.since) = (after.into(), now.millis());
        }
        (entry.valid_until, entry.version) = (valid_until, segment.version);
        if before != after && (before != Truth::Unspecified || after == Truth::Yes) {
            changes.push(Change { segment: name.clone(), version: segment.version, before, after });
        }
    }
    // As many as are in force are those that are in force.
    if person.memberships.len() > evaluated {
        person.memberships.retain(|m| {
            let kept = workspace.segments.contains_key(&m.segment);
            if !kept && m.truth() == Truth::Yes {
                changes.push(Change { segment: m.segment.clone(), version: m.version, before: Truth::Yes, after: Truth::Unspecified });
            }
            kept
        });
    }
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
