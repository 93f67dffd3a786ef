//! Putting one manifest into a set: as a draft, or in force.

use waypost_types::WorkspaceId;

use super::{Bodies, Change, DefinitionEntry, PlanItem, SetManifest, State};
use crate::manifest::{Manifest, diff, to_yaml};

/// Puts `manifest` into `next` and says what that changed.
pub(super) fn put(next: &mut SetManifest, bodies: &dyn Bodies, workspace: WorkspaceId, manifest: &Manifest) -> PlanItem {
    let (kind, name) = (manifest.kind, manifest.name.as_str());
    let of = |is: fn(State) -> bool| next.named(workspace, kind, name).find(|e| is(e.state)).cloned();
    let (draft, active) = (of(|state| state == State::Draft), of(State::is_in_force));
    let before = draft.as_ref().or(active.as_ref()).cloned();
    if let Some(entry) = before.as_ref().filter(|e| e.hash == manifest.hash) {
        return PlanItem::of(entry, Change::Unchanged, String::new());
    }
    let version = next.newest(workspace, kind, name) + 1;
    let change = if version == 1 { Change::Created } else { Change::Changed };
    let old = before.as_ref().and_then(|e| bodies.body(&e.hash)).map(|b| to_yaml(&b)).unwrap_or_default();
    let lines = diff(&old, &to_yaml(&manifest.body));
    if kind.drafts() {
        next.definitions.retain(|e| !(e.is(workspace, kind, name) && e.state == State::Draft));
        // Back to what is in force: the draft falls, and there is nothing to publish.
        if let Some(active) = active.filter(|a| a.hash == manifest.hash) {
            return PlanItem::of(&active, Change::Changed, lines);
        }
    } else {
        next.definitions.retain(|e| !e.is(workspace, kind, name));
    }
    let state = if kind.drafts() { State::Draft } else { State::Active };
    let entry = DefinitionEntry::new(workspace, kind, name, version, manifest.hash, state);
    next.definitions.push(entry.clone());
    PlanItem::of(&entry, change, lines)
}
