//! Holding a journey up and letting it go on, and ending it with its runs (PRODUCT §7.9, question 14).

use waypost_types::{Timestamp, WorkspaceId};

use super::{Change, DefinitionEntry, Plan, PlanItem, SetManifest, State, finish, nothing};
use crate::manifest::{Kind, Problem, codes};

/// Plans that nobody enters a journey and its sends wait, in all its versions; clocks, exits and goals go on.
pub fn plan_pause(current: &SetManifest, workspace: WorkspaceId, journey: &str) -> Result<Plan, Vec<Problem>> {
    hold(current, workspace, journey, State::Paused)
}

/// Plans that a paused journey goes on.
pub fn plan_resume(current: &SetManifest, workspace: WorkspaceId, journey: &str) -> Result<Plan, Vec<Problem>> {
    hold(current, workspace, journey, State::Active)
}

/// Plans that nobody enters a journey and its runs end, those of its older versions too.
pub fn plan_kill(current: &SetManifest, workspace: WorkspaceId, journey: &str, now: Timestamp) -> Result<Plan, Vec<Problem>> {
    let versions = || current.named(workspace, Kind::Journey, journey);
    if versions().next().is_none() {
        return Err(vec![nothing(current, workspace, journey)]);
    }
    let published = versions().filter(|e| e.state != State::Draft).max_by_key(|e| e.version);
    let Some(published) = published else { return Err(vec![refused(journey, "it was never published: it has no runs")]) };
    let mut next = current.clone();
    let mut change = Change::Unchanged;
    for entry in next.named_mut(workspace, Kind::Journey, journey) {
        if entry.state.is_live() && entry.state != State::Killed {
            entry.state = State::Killed;
            // A version that nobody has entered for a while is forgotten as soon as before.
            entry.superseded_at.get_or_insert_with(|| now.millis());
            change = Change::Changed;
        }
    }
    let item = PlanItem { state: State::Killed, ..PlanItem::of(published, change, String::new()) };
    Ok(finish(current, next, vec![item], Vec::new()))
}

/// What may not be done to a journey as it stands.
pub(super) fn refused(journey: &str, message: &str) -> Problem {
    Problem { code: codes::STATE_CONFLICT, file: format!("journeys/{journey}"), message: message.to_owned(), ..Problem::nowhere() }
}

/// Puts what is in force into this state. What is in it already changes nothing, so that it may be asked for again.
fn hold(current: &SetManifest, workspace: WorkspaceId, journey: &str, state: State) -> Result<Plan, Vec<Problem>> {
    let versions: Vec<&DefinitionEntry> = current.named(workspace, Kind::Journey, journey).collect();
    if versions.is_empty() {
        return Err(vec![nothing(current, workspace, journey)]);
    }
    let Some(in_force) = versions.iter().find(|e| e.state.is_in_force()) else {
        let why = match current.state(workspace, Kind::Journey, journey) {
            Some(State::Killed) => "it was killed; only a version that is published anew takes entries",
            Some(State::Archived) => "it is archived: nobody enters, and its runs finish",
            Some(State::Draft | State::Active | State::Paused | State::Pinned) | None => "it is not in force: publish it first",
        };
        return Err(vec![refused(journey, why)]);
    };
    let change = if in_force.state == state { Change::Unchanged } else { Change::Changed };
    let item = PlanItem { state, ..PlanItem::of(in_force, change, String::new()) };
    let mut next = current.clone();
    for entry in next.named_mut(workspace, Kind::Journey, journey).filter(|e| e.state.is_in_force()) {
        entry.state = state;
    }
    Ok(finish(current, next, vec![item], Vec::new()))
}
