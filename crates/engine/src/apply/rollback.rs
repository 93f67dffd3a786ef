//! Going back: an earlier version's body as a new version. What was is never rewritten.

use waypost_types::{Timestamp, WorkspaceId};

use super::{
    Bodies, Change, DefinitionEntry, Plan, PlanItem, SetManifest, State, finish, parts, plan_apply, retire, room, set, settle_templates,
};
use crate::manifest::{Kind, Problem, codes, diff, to_yaml};

/// Plans putting what `from` was in force again, after the checks of a publish; runs finish on the version they entered.
///
/// A journey comes back with the templates it had, for these may be what has to go; its draft stays a draft. Of the other kinds
/// the body is applied again, so a template becomes a draft.
pub fn plan_rollback(
    current: &SetManifest,
    bodies: &dyn Bodies,
    workspace: WorkspaceId,
    from: &DefinitionEntry,
    now: Timestamp,
) -> Result<Plan, Vec<Problem>> {
    let manifest = parts::stored(bodies, from, &parts::label(from))?;
    if from.kind != Kind::Journey {
        return plan_apply(current, bodies, workspace, &[manifest]);
    }
    let journey = from.name.as_str();
    let active = current.named(workspace, Kind::Journey, journey).find(|e| e.state.is_in_force());
    if let Some(active) = active.filter(|a| a.hash == from.hash && a.templates == from.templates) {
        return Ok(finish(current, current.clone(), vec![PlanItem::of(active, Change::Unchanged, String::new())], Vec::new()));
    }
    let mut next = current.clone();
    retire(&mut next, bodies, workspace, journey, now);
    room(&next, workspace, &manifest, active.is_some())?;
    let version = next.newest(workspace, Kind::Journey, journey) + 1;
    // What is paused stays paused, in whichever version.
    let state = active.map_or(State::Active, |a| a.state);
    for entry in next.named_mut(workspace, Kind::Journey, journey) {
        match entry.state {
            State::Active | State::Paused => {
                entry.state = State::Pinned;
                entry.superseded_at = Some(now.millis());
            }
            // It stays what comes next.
            State::Draft => entry.version = version + 1,
            State::Pinned | State::Killed | State::Archived => {}
        }
    }
    let mut entry = DefinitionEntry::new(workspace, Kind::Journey, journey, version, from.hash, state);
    entry.templates.clone_from(&from.templates);
    next.definitions.push(entry.clone());
    let gone = from.templates.iter().filter(|(_, hash)| !bring_back(&mut next, workspace, hash));
    let gone: Vec<Problem> = gone
        .map(|(name, _)| {
            let message =
                format!("version {} was published with a form of template `{name}` that was deleted: apply that form again", from.version);
            manifest.problem(codes::UNKNOWN_REFERENCE, "metadata.name", message)
        })
        .collect();
    if !gone.is_empty() {
        return Err(gone);
    }
    settle_templates(&mut next, workspace);
    let problems = parts::check_published(&next, bodies, workspace, &entry);
    if !problems.is_empty() {
        return Err(problems);
    }
    let old = active.and_then(|a| bodies.body(&a.hash)).map(|b| to_yaml(&b)).unwrap_or_default();
    let item = PlanItem::of(&entry, Change::Changed, diff(&old, &to_yaml(&manifest.body)));
    Ok(finish(current, next, vec![item], Vec::new()))
}

/// Whether the form with this hash is there; a draft of it, if there is nothing else, comes into force.
fn bring_back(next: &mut SetManifest, workspace: WorkspaceId, hash: &str) -> bool {
    let same = |e: &DefinitionEntry| e.workspace == workspace.number() && e.kind == Kind::Template && set::hex_of(&e.hash) == hash;
    let published = next.definitions.iter().any(|e| same(e) && e.state != State::Draft);
    let Some(found) = next.definitions.iter_mut().find(|e| same(e)) else { return false };
    if !published {
        found.state = State::Active;
    }
    true
}
