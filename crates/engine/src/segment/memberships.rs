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
    /// Unknown: or never evaluated.
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

/// One evaluation.
struct Round<'a> {
    draft: &'a mut Draft,
    plan: &'a Plan,
    now: Timestamp,
    created: Timestamp,
    changes: Vec<Change>,
    /// Fingerprints that stand for nothing any more.
    removed_not_in: Vec<u32>,
    /// Segments that are not as they were.
    touched: Vec<usize>,
    steady_until: Timestamp,
}

/// Evaluates the segments that may not be what they were, each behind those it reads; all of them where nothing is known.
///
/// A change is told where somebody comes in or goes out: from no to unknown, or back, nobody does either.
pub(super) fn evaluate(draft: &mut Draft, judged: &mut Judged, created: Timestamp, now: Timestamp, plan: &Plan) -> Evaluated {
    let mut round = Round {
        draft,
        plan,
        now,
        created,
        changes: Vec::new(),
        removed_not_in: Vec::new(),
        touched: Vec::new(),
        steady_until: Timestamp::MAX,
    };
    let gone = match judged.under(plan, now) {
        Some(known) => {
            round.what_is_concerned(known);
            Vec::new()
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

    /// Returns the memberships in segments that are no longer in force.
    fn everything(&mut self) -> Vec<Membership> {
        let plan = self.plan;
        let gone = self.draft.memberships_mut().extract_if(.., |m| !plan.has(&m.segment)).collect();
        self.removed_not_in =
            self.draft.not_in_mut().extract_if(.., |fingerprint| !membership::is_in(&plan.fingerprints, *fingerprint)).collect();
        for index in 0..plan.segments.len() {
            self.judge(index);
        }
        gone
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
        let (before, until_before) = membership::of(self.draft, &segment.name);
        let differs = (before, until_before) != (after, valid_until);
        if self.keep(segment, before != after, after, valid_until) {
            self.touched.push(index);
        }
        if before != after && (before == Truth::Yes || after == Truth::Yes) {
            self.changes.push(Change { segment: segment.name.clone(), version: segment.version, before, after });
        }
        differs
    }

    /// Writes an answer down. Returns whether anything is not as it was.
    fn keep(&mut self, segment: &Planned, is_new: bool, truth: Truth, valid_until: i64) -> bool {
        let place = self.draft.memberships.binary_search_by(|m| m.segment.cmp(&segment.name));
        let (now, version) = (self.now.millis(), segment.version);
        let memberships = self.draft.memberships_mut();
        if membership::is_entry(truth, valid_until) {
            match place {
                Ok(at) if !is_new && (memberships[at].valid_until, memberships[at].version) == (valid_until, version) => return false,
                Ok(at) => {
                    let since = if is_new { now } else { memberships[at].since };
                    let entry = &mut memberships[at];
                    (entry.truth, entry.valid_until, entry.since, entry.version) = (truth.into(), valid_until, since, version);
                }
                Err(at) => {
                    let segment = segment.name.clone();
                    memberships.insert(at, Membership { segment, truth: truth.into(), valid_until, since: now, version });
                }
            }
            membership::remove(self.draft.not_in_mut(), segment.fingerprint);
            return true;
        }
        if let Ok(at) = place {
            memberships.remove(at);
        } else if !is_new {
            return false;
        }
        if truth == Truth::No {
            membership::add(self.draft.not_in_mut(), segment.fingerprint);
        } else if place.is_err() {
            membership::remove(self.draft.not_in_mut(), segment.fingerprint);
            membership::add(&mut self.removed_not_in, segment.fingerprint);
            return false;
        }
        true
    }

    fn end(mut self, gone: Vec<Membership>) -> Evaluated {
        let plan = self.plan;
        self.touched.sort_unstable_by_key(|index| plan.segments[*index].place);
        let mut delta = Person { removed_not_in: self.removed_not_in, ..Person::default() };
        for segment in self.touched.iter().map(|index| &plan.segments[*index]) {
            match person::membership(self.draft, &segment.name) {
                Some(entry) => delta.memberships.push(entry.clone()),
                None if membership::is_in(&self.draft.not_in, segment.fingerprint) => {
                    membership::add(&mut delta.not_in, segment.fingerprint);
                }
                None => delta.memberships.push(membership::removal(&segment.name)),
            }
        }
        for Membership { segment, truth, version, .. } in gone {
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
