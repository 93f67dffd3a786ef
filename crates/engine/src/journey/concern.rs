//! Which events concern a profile at all. Of nine in ten it is enough to know that they came, and what the segmenter made of
//! them; they need not be read.

use waypost_codec::state::{JourneyProfile, Run};

use super::{asleep, feedback::CALLBACKS, is_live, recall, steps, version_of};
use crate::definitions::{StepKind, Workspace};

/// Whether an event of this name, from this source, can come to more than [`super::Input::Passing`] does.
///
/// It may say yes too often, and never no where a fold of the event itself would leave anything else behind.
pub fn concerns(state: &JourneyProfile, ws: &Workspace, name: &str, source: &str) -> bool {
    source == CALLBACKS
        || recall::is_about_permission(name)
        || ws.journeys.concern(name).is_some()
        || state.runs.iter().any(|run| may_read_any_event(ws, run))
}

/// Whether a run may look at an event that no exit, goal or wait names: because a condition does, or because the run
/// may get on in this turn, through a step that reads the event.
fn may_read_any_event(ws: &Workspace, run: &Run) -> bool {
    if asleep::sleeps(run) {
        return true;
    }
    let Some(journey) = version_of(ws, run) else { return false };
    let is_at_send = || steps::current(journey, run).is_some_and(|step| matches!(step.kind, StepKind::Send(_)));
    journey.looks_at_states || !run.satisfied.is_empty() || (is_live(run) && is_at_send())
}
