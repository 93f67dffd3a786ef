//! Waits: what matches an arm is remembered from the entry on, evaluated as it is folded (PRODUCT §7.9,
//! questions 5 and 6); of several arms the first of the list wins.

use waypost_codec::{
    inbox::{Event, Truth},
    state::{Check, Run},
};

use super::{
    exits, steps,
    trail::{self, Entry, What},
    turn::{Sight, Turn, check},
};
use crate::definitions::{Arm, Journey, Match, StepKind, Wait};

/// Remembers what the event satisfies, and leaves the current wait if one of its arms is.
pub(crate) fn look(turn: &mut Turn<'_>, run: &mut Run, journey: &Journey, entry: &Event, event: Option<&Event>) {
    remember(turn, run, journey, entry, event);
    let Some(StepKind::Wait(wait)) = steps::current(journey, run).map(|s| &s.kind) else { return };
    if let Some((arm, check)) = satisfied(turn, run, entry, event, wait) {
        trail::record(turn, What::Branched, Entry::of(run).reason(&arm.id).checks(vec![check]));
        steps::leave(turn, run, journey, arm.then);
    }
}

/// The first arm that something has satisfied, with what it looked at.
pub(crate) fn satisfied<'w>(turn: &Turn<'_>, run: &Run, entry: &Event, event: Option<&Event>, wait: &'w Wait) -> Option<(&'w Arm, Check)> {
    let sight = Sight { run, entry, event };
    wait.arms.iter().find_map(|arm| {
        let what = format!("arm {}", arm.id);
        match &arm.on {
            Match::Event { names, .. } => run.satisfied.contains(&mark(&run.step, &arm.id)).then(|| {
                let seen = check(what, crate::condition::Truth::Yes, vec![format!("{} since the entry", names.join(" or "))], None);
                (arm, seen)
            }),
            Match::Segment { .. } | Match::When(_) => {
                let found = turn.explain(what, &arm.on, sight);
                let yes = match &arm.on {
                    Match::Segment { .. } => turn.matches(&arm.on, sight, false).truth.is_yes(),
                    Match::When(_) | Match::Event { .. } => found.truth() == Truth::Yes,
                };
                yes.then_some((arm, found))
            }
        }
    })
}

/// Forgets what satisfied the step that is left: one event satisfies one wait step once.
pub(crate) fn left(run: &mut Run) {
    let prefix = format!("{}/", run.step);
    run.satisfied.retain(|mark| !mark.starts_with(&prefix));
}

fn remember(turn: &Turn<'_>, run: &mut Run, journey: &Journey, entry: &Event, event: Option<&Event>) {
    // History satisfies no wait, and what happened before the entry is not since the entry.
    if !exits::counts(run, entry, event) || event.is_some_and(|e| e.historical) {
        return;
    }
    for step in &journey.steps {
        let StepKind::Wait(wait) = &step.kind else { continue };
        if step.id != run.step && steps::visits(run, &step.id) > 0 {
            continue;
        }
        for arm in wait.arms.iter().filter(|a| matches!(a.on, Match::Event { .. })) {
            let mark = mark(&step.id, &arm.id);
            if !run.satisfied.contains(&mark) && turn.matches(&arm.on, Sight { run, entry, event }, true).truth.is_yes() {
                run.satisfied.push(mark);
            }
        }
    }
    run.satisfied.sort();
}

fn mark(step: &str, arm: &str) -> String {
    format!("{step}/{arm}")
}
