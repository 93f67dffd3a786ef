//! Which segments a person is in, with the instant at which time alone may change it (PRODUCT §6.4).

use waypost_codec::inbox::{Membership, Person, Truth};
use waypost_types::Timestamp;

use super::{
    Draft,
    plan::{Judged, Judgement, Plan, Planned},
};
use crate::{condition, facts::PersonFacts, membership, person};

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

/// What an evaluation came to.
#[derive(Debug, Default)]
pub(super) struct Evaluated {
    pub(super) changes: Vec<Change>,
    /// What a delta has of segments.
    pub(super) delta: Person,
}

/// What falls away where other definitions have come into force.
#[derive(Debug, Default)]
struct Gone {
    memberships: Vec<Membership>,
    not_in: Vec<u32>,
}

/// One evaluation.
struct Round<'a> {
    draft: &'a mut Draft,
    plan: &'a Plan,
    now: Timestamp,
    created: Timestamp,
    changes: Vec<Change>,
    /// Segments that are not as they were.
    touched: Vec<usize>,
    steady_until: Timestamp,
}

/// Evaluates the segments that may not be what they were, each behind those it reads; all of them where nothing is known.
///
/// A first answer of no or unknown is no change: nobody left anything.
pub(super) fn evaluate(draft: &mut Draft, judged: &mut Judged, created: Timestamp, now: Timestamp, plan: &Plan) -> Evaluated {
    let mut round = Round { draft, plan, now, created, changes: Vec::new(), touched: Vec::new(), steady_until: Timestamp::MAX };
    let gone = match judged.under(plan, now) {
        Some(known) => {
            round.what_is_concerned(known);
            Gone::default()
        }
        None => round.everything(),
    };
    judged.note(Judgement { set: plan.set(), at: now, created, steady_until: round.steady_until });
    round.end(gone)
}

/// The earliest instant at which time alone may change a membership.
pub(super) fn next_flip(person: &Person) -> Option<Timestamp> {
    person.memberships.iter().map(|m| m.valid_until).filter(|ms| *ms > 0).min().map(Timestamp::from_millis)
}

// === impl Round ===

impl Round<'_> {
    fn what_is_concerned(&mut self, known: Judgement) {
        let time = self.now >= known.steady_until || self.created != known.created;
        if !time {
            self.steady_until = known.steady_until;
        }
        let mut concerned = self.plan.concerned(self.draft, time);
        while let Some(index) = concerned.pop_first() {
            if self.judge(index) {
                concerned.extend(&self.plan.segments[index].readers);
            }
        }
    }

    /// Returns what was of segments that are no longer in force.
    fn everything(&mut self) -> Gone {
        let plan = self.plan;
        let memberships = self.draft.memberships_mut().extract_if(.., |m| !plan.has(&m.segment)).collect();
        let not_in = self.draft.not_in_mut().extract_if(.., |fingerprint| !membership::is_in(&plan.fingerprints, *fingerprint)).collect();
        for index in 0..plan.segments.len() {
            self.judge(index);
        }
        Gone { memberships, not_in }
    }

    /// Evaluates one segment. Returns whether those that read it may see a difference.
    fn judge(&mut self, index: usize) -> bool {
        let segment = &self.plan.segments[index];
        let facts = PersonFacts::new(self.now, self.draft, &self.plan.workspace).with_profile_created(self.created);
        let (truth, until, steady_until) = segment.condition.judge(&facts);
        if let Some(until) = steady_until {
            self.steady_until = self.steady_until.min(until);
        }
        let (now, after) = (self.now.millis(), stored(truth));
        // An answer is valid beyond the instant it was given at, or its timer would never rest.
        let valid_until = until.filter(|t| *t < Timestamp::MAX).map_or(0, |t| t.millis().max(now.saturating_add(1)));
        let (before, until_before) = membership::of(self.draft, &segment.name).unwrap_or((Truth::Unspecified, 0));
        let differs = before != after || until_before != valid_until;
        if self.keep(segment, (before, after), valid_until, differs) {
            self.touched.push(index);
        }
        if before != after && (before != Truth::Unspecified || after == Truth::Yes) {
            self.changes.push(Change { segment: segment.name.clone(), version: segment.version, before, after });
        }
        differs
    }

    /// Writes an answer down. Returns whether anything is not as it was.
    fn keep(&mut self, segment: &Planned, (before, after): (Truth, Truth), valid_until: i64, differs: bool) -> bool {
        let now = self.now.millis();
        let place = self.draft.memberships.binary_search_by(|m| m.segment.cmp(&segment.name));
        let memberships = self.draft.memberships_mut();
        match place {
            Ok(_) if !differs && membership::is_plain(after, valid_until) => return false,
            Ok(at) if membership::is_plain(after, valid_until) => drop(memberships.remove(at)),
            Ok(at) => {
                let entry = &mut memberships[at];
                if !differs && entry.version == segment.version {
                    return false;
                }
                if before != after {
                    (entry.truth, entry.since) = (after.into(), now);
                }
                (entry.valid_until, entry.version) = (valid_until, segment.version);
                return true;
            }
            Err(_) if !differs => return false,
            Err(_) if membership::is_plain(after, valid_until) => {}
            Err(at) => {
                let (segment, version) = (segment.name.clone(), segment.version);
                memberships.insert(at, Membership { segment, truth: after.into(), valid_until, since: now, version });
            }
        }
        let not_in = self.draft.not_in_mut();
        if membership::is_plain(after, valid_until) {
            membership::add(not_in, segment.fingerprint);
        } else {
            membership::remove(not_in, segment.fingerprint);
        }
        true
    }

    fn end(mut self, gone: Gone) -> Evaluated {
        let plan = self.plan;
        self.touched.sort_unstable_by_key(|index| plan.segments[*index].place);
        let mut delta = Person { removed_not_in: gone.not_in, ..Person::default() };
        for segment in self.touched.iter().map(|index| &plan.segments[*index]) {
            match person::membership(self.draft, &segment.name) {
                Some(entry) => delta.memberships.push(entry.clone()),
                None => membership::add(&mut delta.not_in, segment.fingerprint),
            }
        }
        for Membership { segment, truth, version, .. } in gone.memberships {
            person::upsert(&mut delta.memberships, &membership::removal(&segment));
            if truth == i32::from(Truth::Yes) {
                self.changes.push(Change { segment, version, before: Truth::Yes, after: Truth::Unspecified });
            }
        }
        Evaluated { changes: self.changes, delta }
    }
}

fn stored(truth: condition::Truth) -> Truth {
    match truth {
        condition::Truth::Yes => Truth::Yes,
        condition::Truth::No => Truth::No,
        condition::Truth::Unknown => Truth::Unknown,
    }
}
