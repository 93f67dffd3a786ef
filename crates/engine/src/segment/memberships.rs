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
    /// Fingerprints of what nobody reads; put among the others at the end, all at once.
    added_not_in: Vec<u32>,
    /// Fingerprints that stand for nothing any more.
    removed_not_in: Vec<u32>,
    /// Segments that are not as they were.
    touched: Vec<usize>,
    /// Whether all there is now was not there before.
    is_new: bool,
    steady_until: Timestamp,
}

/// Of more fingerprints than these, the list is sorted once instead of making room for each.
const FEW: usize = 16;

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
        added_not_in: Vec::new(),
        removed_not_in: Vec::new(),
        touched: Vec::new(),
        is_new: false,
        steady_until: Timestamp::MAX,
    };
    let gone = match judged.under(plan, now) {
        Some(known) => {
            round.what_is_concerned(known);
            Vec::new()
        }
        None if round.draft.was_blank() => {
            round.newcomer();
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
                concerned.extend(self.plan.segments[index].readers.iter().copied());
            }
        }
    }

    /// Of whom nothing was known, that is plainly in none of the segments that what is known now does not concern.
    fn newcomer(&mut self) {
        let plan = self.plan;
        let mut concerned = plan.concerned(self.draft, true);
        concerned.extend(plan.open.iter().copied());
        let fingerprint = |index: usize| plan.segments[index].fingerprint;
        let mut judged: Vec<u32> = concerned.iter().map(fingerprint).collect();
        judged.sort_unstable();
        let mut judged = judged.into_iter().peekable();
        let is_not_judged = |fingerprint: &&u32| {
            while judged.next_if(|judged| judged < *fingerprint).is_some() {}
            judged.peek() != Some(*fingerprint)
        };
        *self.draft.not_in_mut() = plan.blank_not_in.iter().filter(is_not_judged).copied().collect();
        self.is_new = true;
        while let Some(index) = concerned.pop_first() {
            self.judge(index);
            let segment = &plan.segments[index];
            let is_as_ever = segment.blank.is_none_or(|blank| membership::of(self.draft, &segment.name) == (blank, 0));
            for reader in segment.readers.iter().filter(|_| !is_as_ever) {
                if concerned.insert(*reader) {
                    membership::remove(self.draft.not_in_mut(), fingerprint(*reader));
                }
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
        let place = self.draft.memberships.binary_search_by(|m| m.segment.cmp(&segment.name));
        let (before, until_before) = match place {
            Ok(at) => (self.draft.memberships[at].truth(), self.draft.memberships[at].valid_until),
            Err(_) if membership::is_in(&self.draft.not_in, segment.fingerprint) => (Truth::No, 0),
            Err(_) => (Truth::Unknown, 0),
        };
        let differs = (before, until_before) != (after, valid_until);
        if self.keep(segment, place, before != after, after, valid_until) {
            self.touched.push(index);
        }
        if before != after && (before == Truth::Yes || after == Truth::Yes) {
            self.changes.push(Change { segment: segment.name.clone(), version: segment.version, before, after });
        }
        differs
    }

    /// Writes an answer down, at the place of its entry or where that would be. Returns whether anything is not as it was.
    fn keep(&mut self, segment: &Planned, place: Result<usize, usize>, is_new: bool, truth: Truth, valid_until: i64) -> bool {
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
            if segment.readers.is_empty() {
                self.added_not_in.push(segment.fingerprint);
            } else {
                membership::add(self.draft.not_in_mut(), segment.fingerprint);
            }
        } else if place.is_err() {
            membership::remove(self.draft.not_in_mut(), segment.fingerprint);
            membership::add(&mut self.removed_not_in, segment.fingerprint);
            return false;
        }
        true
    }

    fn end(mut self, gone: Vec<Membership>) -> Evaluated {
        let plan = self.plan;
        let not_in = self.draft.not_in_mut();
        if self.added_not_in.len() > FEW {
            not_in.append(&mut self.added_not_in);
            not_in.sort_unstable();
        }
        for fingerprint in self.added_not_in {
            membership::add(not_in, fingerprint);
        }
        if self.is_new {
            let (memberships, not_in) = (self.draft.memberships.clone(), self.draft.not_in.clone());
            return Evaluated { changes: self.changes, delta: Person { memberships, not_in, ..Person::default() } };
        }
        self.touched.sort_unstable_by_key(|index| plan.segments[*index].place);
        let mut delta = Person { removed_not_in: self.removed_not_in, ..Person::default() };
        for segment in self.touched.iter().map(|index| &plan.segments[*index]) {
            match person::membership(self.draft, &segment.name) {
                Some(entry) => delta.memberships.push(entry.clone()),
                None if membership::is_in(&self.draft.not_in, segment.fingerprint) => {
                    delta.not_in.push(segment.fingerprint);
                }
                None => delta.memberships.push(membership::removal(&segment.name)),
            }
        }
        delta.not_in.sort_unstable();
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
