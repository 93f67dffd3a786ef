//! Timers of runs: when a step, a run or a condition next wants to be looked at.
//!
//! All but a deferral are *absent*: they rest on something not having happened, and wait for the
//! upstream watermark. A delay that is due when the run arrives still sets a timer, because a stop that
//! happened before its due instant may be on its way (PROTOCOL §1.3).

use std::cmp::Reverse;

use waypost_codec::state::{JourneyProfile, Run, RunTimer, TimerKind};
use waypost_types::Timestamp;

use super::{
    asleep, entry, exits, is_live, steps,
    trail::{self, Entry, What},
    turn::{Sight, Turn},
    version_of,
};
use crate::{
    definitions::{Delay, Journey, Match, StepKind, Workspace},
    drain,
    localtime::Zone,
};

/// A delay ends.
pub(crate) const DELAY: &str = "delay";
/// A wait's deadline.
pub(crate) const DEADLINE: &str = "deadline";
/// The run's greatest age.
pub(crate) const MAX_AGE: &str = "max_age";
/// A condition may flip by time alone.
pub(crate) const RECHECK: &str = "recheck";
/// A deferred send tries again.
pub(crate) const DEFER: &str = "defer";
/// The goal of an ended run is looked for no longer.
pub(crate) const GOAL_WINDOW: &str = "goal_window";

/// Up to which due timers may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Plain timers with due at or before this.
    pub plain: Timestamp,
    /// Absent timers with due at or before this.
    pub absent: Timestamp,
    /// Of these, the ones due after this fire although a stop may still be upstream (PROTOCOL §8.4).
    pub proven: Timestamp,
    /// Only timers with due strictly before this.
    pub before: Option<Timestamp>,
}

/// A timer that is to fire.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) run: bytes::Bytes,
    pub(crate) what: String,
    pub(crate) at: Timestamp,
    /// A stop that happened before it may still come.
    pub(crate) unproven: bool,
}

/// The earliest plain and the earliest absent timer of a profile.
pub fn wakeups(state: &JourneyProfile) -> (Option<Timestamp>, Option<Timestamp>) {
    let earliest = |plain: bool| {
        let timers = state.runs.iter().flat_map(|r| &r.timers).filter(|t| (t.kind() == TimerKind::Plain) == plain);
        timers.map(|t| Timestamp::from_millis(t.due)).min()
    };
    if state.erased || !state.moved_to.is_empty() {
        return (None, None);
    }
    match drain::ends(state) {
        // What has not happened is not judged while the profile drains.
        Some(ends) => (earliest(true).into_iter().chain([ends]).min(), None),
        None => (earliest(true), earliest(false)),
    }
}

/// Whether this timer may be the next to fire.
fn may_fire(due: Timestamp, until: Timestamp, limit: &Limit) -> bool {
    due <= until && limit.before.is_none_or(|before| due < before)
}

/// When the profile stops draining because somebody has not answered, if that is next.
pub(crate) fn drain_ends(state: &JourneyProfile, limit: &Limit) -> Option<Timestamp> {
    drain::ends(state).filter(|ends| may_fire(*ends, limit.plain, limit))
}

/// The timer to fire next: by due, priority, run.
pub(crate) fn earliest(state: &JourneyProfile, ws: &Workspace, limit: &Limit) -> Option<Due> {
    let draining = drain::ends(state).is_some();
    let allowed = |timer: &RunTimer| {
        let due = Timestamp::from_millis(timer.due);
        match timer.kind() {
            TimerKind::Plain => may_fire(due, limit.plain, limit),
            TimerKind::Absent | TimerKind::Unspecified => !draining && may_fire(due, limit.absent, limit),
        }
    };
    let timers = state.runs.iter().flat_map(|run| run.timers.iter().map(move |timer| (run, timer)));
    let first = timers.filter(|(_, timer)| allowed(timer)).min_by_key(|(run, timer)| {
        let priority = version_of(ws, run).map_or(0, |j| j.priority);
        (timer.due, Reverse(priority), run.id.clone(), timer.what.clone())
    })?;
    let at = Timestamp::from_millis(first.1.due);
    let unproven = first.1.kind() != TimerKind::Plain && at > limit.proven;
    Some(Due { run: first.0.id.clone(), what: first.1.what.clone(), at, unproven })
}

/// Fires it. States are looked at first: a stop that came by time alone beats a send.
pub(crate) fn fire(turn: &mut Turn<'_>, runs: &mut [Run], due: &Due) {
    let ws = turn.ws;
    let Some(run) = runs.iter_mut().find(|r| r.id == due.run) else { return };
    unset(run, &due.what);
    if !is_live(run) {
        // The goal window has closed; the run is dropped at the end of the turn.
        return;
    }
    let Some(journey) = version_of(ws, run) else { return asleep::nap(turn, run, &due.what) };
    let before = (run.step.clone(), steps::visits(run, &run.step));
    turn.settle(run);
    let moved = (&run.step, steps::visits(run, &run.step)) != (&before.0, before.1);
    if !is_live(run) {
        return;
    }
    let step = steps::current(journey, run);
    match (due.what.as_str(), step) {
        (MAX_AGE, _) => exits::end(turn, run, journey, "MAX_AGE", Vec::new(), ""),
        (DELAY, Some(step)) if !moved => steps::leave(turn, run, journey, step.next),
        (DEADLINE, Some(step)) if !moved => {
            let StepKind::Wait(wait) = &step.kind else { return };
            trail::record(turn, What::Branched, Entry::of(run).reason("timeout"));
            steps::leave(turn, run, journey, wait.on_timeout);
        }
        // A deferred send is ready again without its timer; a recheck was the looking itself.
        _ => {}
    }
}

/// Sets the timer of this name, instead of the one that stands.
pub(crate) fn set(run: &mut Run, what: &str, due: Timestamp, kind: TimerKind) {
    unset(run, what);
    run.timers.push(RunTimer { due: due.millis(), kind: kind.into(), what: what.to_owned() });
    run.timers.sort_by(|a, b| (a.due, &a.what).cmp(&(b.due, &b.what)));
}

pub(crate) fn unset(run: &mut Run, what: &str) {
    run.timers.retain(|t| t.what != what);
}

/// Takes away the timers of the step that is left.
pub(crate) fn clear_step(run: &mut Run) {
    run.timers.retain(|t| !matches!(t.what.as_str(), DELAY | DEADLINE | DEFER));
}

/// When a delay that begins at the run's arrival ends, and the zone it was reckoned in.
pub(crate) fn due(turn: &Turn<'_>, run: &Run, journey: &Journey, delay: &Delay) -> (Timestamp, String) {
    let arrived = Timestamp::from_millis(run.arrived_at);
    match delay {
        Delay::For { span, from_entry, min } => {
            let base = if *from_entry { entry::of(run).event_time } else { run.previous_at };
            let due = Timestamp::from_millis(base).plus(*span);
            (min.map_or(due, |min| due.max(arrived.plus(min))), String::new())
        }
        Delay::Until { minute, days } => {
            let zone = Zone::of(journey.timezone.as_deref(), turn.person, &turn.ws.policy);
            (zone.next(arrived, *minute, days), format!(" {}", zone.source))
        }
    }
}

/// Reckons a local deadline again after the person's zone has changed; no other deadline ever moves.
pub(crate) fn follow_zone(turn: &mut Turn<'_>, run: &mut Run) {
    let ws = turn.ws;
    let Some(journey) = version_of(ws, run).filter(|_| is_live(run)) else { return };
    let (what, delay) = match steps::current(journey, run).map(|s| &s.kind) {
        Some(StepKind::Delay(delay)) => (DELAY, delay),
        Some(StepKind::Wait(wait)) => (DEADLINE, &wait.timeout),
        Some(StepKind::Branch { .. } | StepKind::Send(_) | StepKind::Exit { .. }) | None => return,
    };
    if matches!(delay, Delay::For { .. }) {
        return;
    }
    let (due, zone) = due(turn, run, journey, delay);
    let moved = run.timers.iter().any(|t| t.what == what && t.due != due.millis());
    if moved {
        set(run, what, due, TimerKind::Absent);
        trail::record(turn, What::Waiting, Entry::of(run).reason("ZONE_CHANGED").note(format!("until {due}{zone}")));
    }
}

/// Sets the timer for the instant at which an exit rule, a goal or an arm may flip by time alone.
pub(crate) fn set_recheck(turn: &Turn<'_>, run: &mut Run) {
    let ws = turn.ws;
    let Some(journey) = version_of(ws, run).filter(|_| is_live(run)) else { return };
    if !journey.looks_at_states {
        return unset(run, RECHECK);
    }
    let goal = journey.goal.iter().filter(|_| !run.goal_met).map(|g| &g.on);
    let arms = match steps::current(journey, run).map(|s| &s.kind) {
        Some(StepKind::Wait(wait)) => wait.arms.as_slice(),
        Some(StepKind::Delay(_) | StepKind::Branch { .. } | StepKind::Send(_) | StepKind::Exit { .. }) | None => &[],
    };
    let states = journey.exit_on.iter().map(|r| &r.on).chain(goal).chain(arms.iter().map(|a| &a.on));
    let states: Vec<&Match> = states.filter(|on| matches!(on, Match::When(_))).collect();
    let flips = if states.is_empty() {
        None
    } else {
        let seen = entry::of(run);
        let sight = Sight { run, entry: &seen, event: None };
        // What has flipped already is not looked at again: it would wake the profile for ever.
        states.iter().filter_map(|on| turn.matches(on, sight, false).valid_until).filter(|t| *t > turn.now()).min()
    };
    match flips {
        Some(due) => set(run, RECHECK, due, TimerKind::Absent),
        None => unset(run, RECHECK),
    }
}
