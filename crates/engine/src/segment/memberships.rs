//! Which segments a person is in, with the instant at which time alone may change it (PRODUCT §6.4).

use waypost_codec::inbox::{Membership, Person, Truth};
use waypost_types::Timestamp;

use super::{
    Draft,
    plan::{Judged, Judgement, Plan},
};
use crate::{condition, facts::PersonFacts, person};

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
    /// Memberships as a delta has them.
    pub(super) delta: Vec<Membership>,
}

/// One evaluation.
struct Round<'a> {
    draft: &'a mut Draft,
    plan: &'a Plan,
    now: Timestamp,
    created: Timestamp,
    changes: Vec<Change>,
    /// Places of the memberships that are not as they were.
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
        let gone = self.line_up();
        for index in 0..self.plan.segments.len() {
            self.judge(index);
        }
        gone
    }

    /// Gives each segment its membership, at its place. Returns those without segment.
    fn line_up(&mut self) -> Vec<Membership> {
        let mut had = std::mem::take(self.draft.memberships_mut()).into_iter().peekable();
        let mut lined_up = Vec::with_capacity(self.plan.by_place.len());
        let mut gone = Vec::new();
        for index in &self.plan.by_place {
            let name = &self.plan.segments[*index].name;
            while let Some(other) = had.next_if(|m| m.segment < *name) {
                gone.push(other);
            }
            let own = had.next_if(|m| m.segment == *name);
            lined_up.push(own.unwrap_or_else(|| Membership { segment: name.clone(), ..Membership::default() }));
        }
        gone.extend(had);
        *self.draft.memberships_mut() = lined_up;
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
        let entry = &mut self.draft.memberships_mut()[segment.place];
        let before = entry.truth();
        let differs = before != after || entry.valid_until != valid_until;
        if differs || entry.version != segment.version {
            self.touched.push(segment.place);
        }
        if before != after {
            (entry.truth, entry.since) = (after.into(), now);
        }
        (entry.valid_until, entry.version) = (valid_until, segment.version);
        if before != after && (before != Truth::Unspecified || after == Truth::Yes) {
            self.changes.push(Change { segment: segment.name.clone(), version: segment.version, before, after });
        }
        differs
    }

    fn end(mut self, gone: Vec<Membership>) -> Evaluated {
        self.touched.sort_unstable();
        let memberships = &self.draft.memberships;
        let mut delta: Vec<Membership> = self.touched.iter().map(|place| memberships[*place].clone()).collect();
        for Membership { segment, truth, version, .. } in gone {
            person::upsert(&mut delta, &Membership { segment: segment.clone(), ..Membership::default() });
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
