//! The way of a run through its graph. [`advance`] is the only function that moves a run to a step.

use waypost_codec::state::{Run, TimerKind, Visit};

use super::{
    entry, exits, sends, timers,
    trail::{self, Entry, What},
    turn::{Sight, Turn},
    waits,
};
use crate::definitions::{Journey, Step, StepKind};

/// The step a run is in.
pub(crate) fn current<'a>(journey: &'a Journey, run: &Run) -> Option<&'a Step> {
    journey.steps.iter().find(|step| step.id == run.step)
}

/// How often a run has come to a step.
pub(crate) fn visits(run: &Run, step: &str) -> u32 {
    run.visits.iter().find(|v| v.step == step).map_or(0, |v| v.count)
}

/// Leaves the current step for another, or for the end.
pub(crate) fn leave(turn: &mut Turn<'_>, run: &mut Run, journey: &Journey, to: Option<usize>) {
    run.previous_at = turn.now().millis();
    waits::left(run);
    advance(turn, run, journey, to);
}

/// Leaves a send step by an outcome; one that is not mapped goes on.
pub(crate) fn leave_by(turn: &mut Turn<'_>, run: &mut Run, journey: &Journey, outcome: &str) {
    let Some(step) = current(journey, run) else { return };
    let to = by_outcome(step, outcome);
    leave(turn, run, journey, to);
}

fn by_outcome(step: &Step, outcome: &str) -> Option<usize> {
    let mapped = if let StepKind::Send(send) = &step.kind { send.then.get(outcome).copied() } else { None };
    mapped.unwrap_or(step.next)
}

/// Takes a run to a step and on, until it rests in a delay, a wait or a send, or has ended.
pub(crate) fn advance(turn: &mut Turn<'_>, run: &mut Run, journey: &Journey, to: Option<usize>) {
    let mut to = to;
    loop {
        let Some(step) = to.and_then(|index| journey.steps.get(index)) else {
            return exits::end(turn, run, journey, "COMPLETED", Vec::new(), "");
        };
        if !turn.may_step(run) {
            return exits::end(turn, run, journey, "LOOP_GUARD", Vec::new(), "");
        }
        arrive(turn, run, step);
        to = match &step.kind {
            StepKind::Delay(delay) => {
                let (due, zone) = timers::due(turn, run, journey, delay);
                timers::set(run, timers::DELAY, due, TimerKind::Absent);
                return trail::record(turn, What::Waiting, Entry::of(run).note(format!("until {due}{zone}")));
            }
            StepKind::Wait(wait) => {
                let seen = entry::of(run);
                let Some((arm, check)) = waits::satisfied(turn, run, &seen, None, wait) else {
                    let (due, zone) = timers::due(turn, run, journey, &wait.timeout);
                    timers::set(run, timers::DEADLINE, due, TimerKind::Absent);
                    return trail::record(turn, What::Waiting, Entry::of(run).note(format!("until {due}{zone}")));
                };
                trail::record(turn, What::Branched, Entry::of(run).reason(&arm.id).checks(vec![check]));
                arm.then
            }
            StepKind::Branch { cases, otherwise } => branch(turn, run, cases, *otherwise),
            StepKind::Send(_) => match sends::standing(run) {
                // The other half of a merged person has sent this step already.
                Some(sends::Standing::Final(outcome)) => by_outcome(step, outcome),
                // Its receipt is on the way, or the gates decide at the end of the turn.
                Some(sends::Standing::Open) | None => return,
            },
            StepKind::Exit { reason } => return exits::end(turn, run, journey, reason, Vec::new(), ""),
        };
        run.previous_at = turn.now().millis();
        waits::left(run);
    }
}

fn arrive(turn: &Turn<'_>, run: &mut Run, step: &Step) {
    timers::clear_step(run);
    run.step.clone_from(&step.id);
    run.arrived_at = turn.now().millis();
    match run.visits.iter_mut().find(|v| v.step == step.id) {
        Some(visit) => visit.count = visit.count.saturating_add(1),
        None => run.visits.push(Visit { step: step.id.clone(), count: 1 }),
    }
}

fn branch(
    turn: &mut Turn<'_>,
    run: &Run,
    cases: &[(std::sync::Arc<crate::condition::Program>, Option<usize>)],
    otherwise: Option<usize>,
) -> Option<usize> {
    let seen = entry::of(run);
    let mut checks = Vec::new();
    for (index, (program, then)) in cases.iter().enumerate() {
        let check = turn.check(format!("case {}", index + 1), program, Sight { run, entry: &seen, event: turn.event });
        let yes = check.truth() == waypost_codec::inbox::Truth::Yes;
        checks.push(check);
        if yes {
            trail::record(turn, What::Branched, Entry::of(run).reason(&format!("case {}", index + 1)).checks(checks));
            return *then;
        }
    }
    trail::record(turn, What::Branched, Entry::of(run).reason("else").checks(checks));
    otherwise
}
