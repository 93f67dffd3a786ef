//! How a run ends: exit rules in any step, its own end, and what ending means.

use prost::Message as _;
use waypost_codec::{
    inbox::{CancelRuns, Event},
    state::{Check, PastRun, Run, TimerKind},
};
use waypost_types::Timestamp;

use super::{
    MAX_ENDED, MAX_ENDED_BYTES, MAX_PAST, is_live, recall, timers,
    trail::{self, Entry, What},
    turn::{Sight, Turn},
    version_of,
};
use crate::definitions::{Journey, Standing};

/// Exit of the run that gave way when two of one key met.
pub(crate) const MERGED: &str = "MERGED";

/// Exit of a run that was taken out: by an operator, or because its version is not there any more.
const CANCELLED: &str = "CANCELLED";
/// Exit of a run whose journey was killed.
const KILLED: &str = "KILLED";
/// Why its sends are stopped.
pub(crate) const JOURNEY_KILLED: &str = "JOURNEY_KILLED";

/// Whether an event counts for exit rules and goal: it happened at or after the run's entry, and is not
/// the entry itself. That it came late, or is history, does not matter here.
pub(crate) fn counts(run: &Run, entry: &Event, event: Option<&Event>) -> bool {
    event.is_some_and(|e| e.message_id != entry.message_id && e.event_time >= run.entry_time)
}

/// The first exit rule that matches, with what it looked at.
pub(crate) fn matching(turn: &Turn<'_>, journey: &Journey, sight: Sight<'_>) -> Option<(String, Check)> {
    let counts = counts(sight.run, sight.entry, sight.event);
    let rule = journey.exit_on.iter().find(|rule| turn.matches(&rule.on, sight, counts).truth.is_yes())?;
    Some((rule.id.clone(), turn.explain(format!("exit_on.{}", rule.id), &rule.on, sight)))
}

/// Ends a run: its timers fall, what it has decided and nobody has confirmed is recalled, and its goal
/// is watched until the window closes.
pub(crate) fn end(turn: &mut Turn<'_>, run: &mut Run, journey: &Journey, reason: &str, checks: Vec<Check>, note: &str) {
    close(turn, run, reason, checks, note);
    let Some(goal) = &journey.goal else { return };
    let closes = Timestamp::from_millis(run.entry_time).plus(goal.within);
    if !run.goal_met && closes > turn.now() {
        timers::set(run, timers::GOAL_WINDOW, closes, TimerKind::Absent);
    }
}

/// Ends a run because another half of the person knows better; its goal is not looked for.
pub(crate) fn merge(turn: &mut Turn<'_>, run: &mut Run, note: &str) {
    close(turn, run, MERGED, Vec::new(), note);
}

/// Ends the runs whose journey was killed; nothing that came with the record is looked at any more. There is no walk over
/// all profiles: each one comes to it with its next record or timer.
pub(crate) fn kill(turn: &mut Turn<'_>, runs: &mut [Run]) {
    let ws = turn.ws;
    if !ws.journeys.any_killed() {
        return;
    }
    for run in runs.iter_mut().filter(|run| is_live(run)) {
        if let Some(journey) = version_of(ws, run).filter(|journey| journey.standing == Standing::Killed) {
            end(turn, run, journey, KILLED, Vec::new(), "");
        }
    }
}

/// Ends every run of a person who is to be forgotten.
pub(crate) fn erase(turn: &mut Turn<'_>, runs: &mut [Run]) {
    for run in runs.iter_mut() {
        if is_live(run) {
            close(turn, run, "ERASED", Vec::new(), "");
        } else {
            recall::unconfirmed(turn, run, "ERASED");
        }
    }
}

/// Ends a run whose version is no longer among the definitions.
pub(crate) fn cancel(turn: &mut Turn<'_>, run: &mut Run) {
    close(turn, run, CANCELLED, Vec::new(), "its version is not among the definitions any more");
}

/// Ends the live runs that an operator named: one, or all of a journey.
pub(crate) fn cancel_asked(turn: &mut Turn<'_>, runs: &mut [Run], asked: &CancelRuns) {
    let ws = turn.ws;
    turn.looked_at = None;
    let is_meant = |run: &Run| if asked.run.is_empty() { run.journey == asked.journey } else { run.id == asked.run };
    for run in runs.iter_mut().filter(|run| is_live(run) && is_meant(run)) {
        match version_of(ws, run) {
            Some(journey) => end(turn, run, journey, CANCELLED, Vec::new(), "an operator asked for it"),
            None => cancel(turn, run),
        }
    }
}

fn close(turn: &mut Turn<'_>, run: &mut Run, reason: &str, checks: Vec<Check>, note: &str) {
    trail::record(turn, What::Exited, Entry::of(run).reason(reason).checks(checks).note(note));
    recall::unconfirmed(turn, run, reason);
    reason.clone_into(&mut run.exit_reason);
    run.exited_at = turn.now().millis();
    run.timers.clear();
    run.satisfied.clear();
    // Re-entry counts by event time: a touch that happened before the stop is not a new start.
    let exited_at = turn.looked_at.unwrap_or(run.exited_at).min(run.exited_at);
    let ended = PastRun {
        journey: run.journey.clone(),
        key: run.key.clone(),
        entered_at: run.entered_at,
        exited_at,
        reason: reason.to_owned(),
        id: run.id.clone(),
        entry_time: run.entry_time,
    };
    *turn.past = newest(turn.past, &[ended]);
}

/// The newest ended run of each journey and key, at most [`MAX_PAST`].
pub(crate) fn newest(a: &[PastRun], b: &[PastRun]) -> Vec<PastRun> {
    let mut all: Vec<PastRun> = a.iter().chain(b).cloned().collect();
    let rank = |p: &PastRun| (p.exited_at, p.entered_at, p.id.clone(), p.reason.clone());
    all.sort_by(|x, y| (&x.journey, &x.key).cmp(&(&y.journey, &y.key)).then_with(|| rank(y).cmp(&rank(x))));
    all.dedup_by(|later, kept| (&later.journey, &later.key) == (&kept.journey, &kept.key));
    all.sort_by_cached_key(rank);
    let surplus = all.len().saturating_sub(MAX_PAST);
    all.drain(..surplus);
    all
}

/// Drops ended runs that nothing is watched of any more.
pub(crate) fn forget(runs: &mut Vec<Run>) {
    runs.retain(|run| is_live(run) || !run.timers.is_empty());
    loop {
        let ended = || runs.iter().enumerate().filter(|(_, run)| !is_live(run));
        if ended().count() <= MAX_ENDED && ended().map(|(_, run)| run.encoded_len()).sum::<usize>() <= MAX_ENDED_BYTES {
            return;
        }
        let Some((first, _)) = ended().min_by_key(|(_, r)| (r.exited_at, r.id.clone())) else { return };
        runs.remove(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_runs_are_few_and_small_and_live_ones_stay() {
        let run = |n: i64, entry: usize, reason: &str| Run {
            id: vec![u8::try_from(n).unwrap()].into(),
            entry: vec![0; entry].into(),
            exited_at: n,
            exit_reason: reason.to_owned(),
            timers: vec![waypost_codec::state::RunTimer::default()],
            ..Run::default()
        };
        for (entry, kept) in [(10, MAX_ENDED), (4_000, 4)] {
            let mut runs: Vec<Run> = (0..50).map(|n| run(n, entry, if n == 0 { "" } else { "GOAL" })).collect();
            forget(&mut runs);
            assert_eq!(runs.len(), kept + 1, "entries of {entry} bytes");
            assert!(is_live(&runs[0]));
            assert_eq!(runs.last().map(|r| r.exited_at), Some(49));
        }
    }
}
