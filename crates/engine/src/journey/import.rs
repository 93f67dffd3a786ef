//! Import: the state of a profile that was joined into this one (PROTOCOL §10.4).
//!
//! First the union of both halves, which is commutative, and but for the limits associative and idempotent;
//! then, before anything else is decided, every exit rule, goal and wait of both halves is evaluated
//! against the facts of both, and of two runs of one key the one that went further stays.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::state::{Fact, JourneyProfile, Run, RunSend, SendState};

use super::{
    MAX_RUN_BYTES, MAX_RUNS, asleep, bounced, entry, exits, facts, is_live, recall, sends, timers,
    trail::{self, Entry, What},
    turn::Turn,
    version_of,
};
use crate::definitions::{Class, Journey};

/// Runs that are older than what the other half still knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Horizon {
    beyond: BTreeSet<Bytes>,
}

/// The union of two halves of a person. Person and standing (moved, erased) are `ours`: the segmenter
/// has joined the persons already.
pub fn unite(ours: &JourneyProfile, theirs: &JourneyProfile) -> JourneyProfile {
    let united = |a: &[Bytes], b: &[Bytes]| a.iter().chain(b).cloned().collect::<BTreeSet<Bytes>>().into_iter().collect();
    let mut runs: BTreeMap<Bytes, Run> = BTreeMap::new();
    for run in ours.runs.iter().chain(&theirs.runs) {
        let same = runs.remove(&run.id);
        runs.insert(run.id.clone(), same.map_or_else(|| run.clone(), |same| united_run(&same, run)));
    }
    let mut runs: Vec<Run> = runs.into_values().collect();
    runs.sort_by(|a, b| (a.entered_at, &a.id).cmp(&(b.entered_at, &b.id)));
    JourneyProfile {
        moved_to: ours.moved_to.clone(),
        erased: ours.erased,
        person: ours.person.clone(),
        runs,
        past: exits::newest(&ours.past, &theirs.past),
        sends: sends::unite_logs(&ours.sends, &theirs.sends),
        facts: facts::unite(&ours.facts, &theirs.facts),
        trail: trail::unite(&ours.trail, &theirs.trail),
        ids: united(&ours.ids, &theirs.ids),
        losers: united(&ours.losers, &theirs.losers),
        now: ours.now.max(theirs.now),
        events: ours.events.max(theirs.events),
        draining: united(&ours.draining, &theirs.draining),
        draining_since: ours.draining_since.max(theirs.draining_since),
        erased_at: ours.erased_at,
        bounced: bounced::unite(&ours.bounced, &theirs.bounced),
    }
}

/// Looks at every run again with what both halves know.
pub(crate) fn reconsider(turn: &mut Turn<'_>, runs: &mut [Run], facts: &[Fact], horizon: &Horizon) {
    let ws = turn.ws;
    for run in runs.iter_mut() {
        timers::follow_zone(turn, run);
        judge(turn, run, facts);
        if let Some(journey) = version_of(ws, run).filter(|_| horizon.beyond.contains(&run.id)) {
            end_unknown(turn, run, journey);
        }
    }
    recall::permissions(turn, runs);
}

/// Makes one of two halves' runs: what holds of a profile also without another look at its runs.
pub(crate) fn settle(turn: &mut Turn<'_>, runs: &mut [Run]) {
    asleep::sort_out(turn, runs);
    keep_furthest(turn, runs);
    limit_runs(turn, runs);
}

/// Exit rules, goal and wait of one run on everything that is remembered, then on how things stand.
pub(crate) fn judge(turn: &mut Turn<'_>, run: &mut Run, facts: &[Fact]) {
    for fact in facts.iter().filter(|f| !facts::is_gap(f)) {
        // A wait looks at what was folded since the entry.
        turn.settle_on(run, Some(&facts::event(fact)), fact.at >= run.since);
    }
    turn.settle(run);
}

/// Ends a run whose stop may have been forgotten. A transactional one goes on: it is owed.
pub(crate) fn end_unknown(turn: &mut Turn<'_>, run: &mut Run, journey: &Journey) {
    if is_live(run) && journey.class == Class::Marketing {
        exits::merge(turn, run, "older than what is still known of the other half");
    }
}

/// Whether something that counts for this run may have happened before this log time: exit rules and goal go by
/// event time, which is never later.
pub(crate) fn began_before(run: &Run, until: i64) -> bool {
    run.since.min(run.entry_time) < until
}

/// Of two live runs of one journey and key the one with more accepted sends stays, then the older entry,
/// then the lower id; it takes over the other's sends, so that no step is sent twice.
fn keep_furthest(turn: &mut Turn<'_>, runs: &mut [Run]) {
    let mut best: BTreeMap<(String, String), usize> = BTreeMap::new();
    for at in 0..runs.len() {
        if !is_live(&runs[at]) {
            continue;
        }
        let key = (runs[at].journey.clone(), runs[at].key.clone());
        let Some(&other) = best.get(&key) else {
            best.insert(key, at);
            continue;
        };
        let (stays, goes) = if further(&runs[at], &runs[other]) { (at, other) } else { (other, at) };
        best.insert(key, stays);
        let mut gone = runs[goes].clone();
        take_over(turn, &mut runs[stays], &mut gone);
        trail::record(turn, What::Merged, Entry::of(&runs[stays]).note("took over the run of the other half"));
        exits::merge(turn, &mut gone, "the other half's run of this key stays");
        runs[goes] = gone;
    }
}

/// Both halves may have come near the limits: twice the bytes of one are allowed, then the runs entered
/// last end. With no limit here a person of many halves would outgrow what can be stored or moved.
fn limit_runs(turn: &mut Turn<'_>, runs: &mut [Run]) {
    let ws = turn.ws;
    loop {
        let live = || runs.iter().filter(|r| is_live(r));
        if live().count() <= MAX_RUNS && live().map(Run::encoded_len).sum::<usize>() <= 2 * MAX_RUN_BYTES {
            return;
        }
        let Some(last) = runs.iter_mut().filter(|r| is_live(r)).max_by(|a, b| (a.entered_at, &a.id).cmp(&(b.entered_at, &b.id))) else {
            return;
        };
        match version_of(ws, last) {
            Some(journey) => exits::end(turn, last, journey, "RUN_LIMIT", Vec::new(), "both halves had too many runs"),
            None => exits::cancel(turn, last),
        }
    }
}

fn further(a: &Run, b: &Run) -> bool {
    let accepted = |run: &Run| run.sends.iter().filter(|s| s.state() == SendState::Accepted).count();
    (accepted(b), a.entered_at, &a.id) < (accepted(a), b.entered_at, &b.id)
}

fn take_over(turn: &mut Turn<'_>, stays: &mut Run, gone: &mut Run) {
    // Both halves have decided the same step: one of the two is taken back.
    let standing: BTreeSet<String> = stays
        .sends
        .iter()
        .filter(|s| matches!(s.state(), SendState::Decided | SendState::Accepted | SendState::Unknown))
        .map(|s| s.step.clone())
        .collect();
    for at in 0..gone.sends.len() {
        if standing.contains(&gone.sends[at].step) {
            recall::one(turn, gone, at, exits::MERGED);
        }
    }
    stays.sends = united_sends(&stays.sends, &gone.sends);
    stays.goal_met |= gone.goal_met;
    // Variables are those of the newer entry; another version keeps other paths of it.
    if stays.version == gone.version && newness(gone) > newness(stays) {
        stays.entry = gone.entry.clone();
    }
    // Nothing of it is left to be recalled.
    gone.sends.clear();
}

fn newness(run: &Run) -> (i64, Bytes) {
    (entry::of(run).event_time, run.entry.clone())
}

/// One run as two states know it: the further one, with the sends of both.
fn united_run(a: &Run, b: &Run) -> Run {
    let rank = |run: &Run| {
        let accepted = run.sends.iter().filter(|s| s.state() == SendState::Accepted).count();
        (!is_live(run), accepted, run.arrived_at, run.encode_to_vec())
    };
    let mut run = if rank(a) >= rank(b) { a.clone() } else { b.clone() };
    run.sends = united_sends(&a.sends, &b.sends);
    run.goal_met = a.goal_met || b.goal_met;
    run
}

fn united_sends(a: &[RunSend], b: &[RunSend]) -> Vec<RunSend> {
    let mut all: Vec<RunSend> = a.iter().chain(b).cloned().collect();
    let rank = |s: &RunSend| (s.decided_at, s.id.clone(), Reverse(sends::known(s.state())), s.reason.clone());
    all.sort_by_cached_key(rank);
    all.dedup_by(|later, kept| later.id == kept.id);
    all
}

// === impl Horizon ===

impl Horizon {
    /// Live runs of one half that began no later than the newest fact that has fallen from the other's list:
    /// what stopped them may have been forgotten.
    pub(crate) fn of(ours: &JourneyProfile, theirs: &JourneyProfile) -> Self {
        let mut beyond = BTreeSet::new();
        for (half, other) in [(ours, theirs), (theirs, ours)] {
            let Some(whole_from) = facts::forgotten_until(&other.facts) else { continue };
            beyond.extend(half.runs.iter().filter(|r| began_before(r, whole_from)).map(|r| r.id.clone()));
        }
        Self { beyond }
    }
}
