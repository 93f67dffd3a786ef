//! What one set changed beside another.

use std::collections::BTreeSet;

use waypost_types::WorkspaceId;

use super::{Change, DefinitionEntry, SetManifest};
use crate::manifest::Kind;

/// What became of one definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revised {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// The version it had: in force if one comes into force, else the newest; none where there was none.
    pub before: Option<DefinitionEntry>,
    /// The version that changed: the one that came into force, else the newest; none where it was deleted.
    pub after: Option<DefinitionEntry>,
}

/// What differs between two sets of a workspace, by kind and name.
pub fn revised(before: &SetManifest, after: &SetManifest, workspace: WorkspaceId) -> Vec<Revised> {
    let of = |set: &SetManifest| -> BTreeSet<(Kind, String, u32, String)> {
        let own = set.definitions.iter().filter(|e| e.workspace == workspace.number());
        own.map(|e| (e.kind, e.name.clone(), e.version, e.etag.clone())).collect()
    };
    let (old, new) = (of(before), of(after));
    let names: BTreeSet<(Kind, String)> = old.symmetric_difference(&new).map(|(kind, name, ..)| (*kind, name.clone())).collect();
    names.into_iter().map(|(kind, name)| one(before, after, workspace, kind, name)).collect()
}

fn one(before: &SetManifest, after: &SetManifest, workspace: WorkspaceId, kind: Kind, name: String) -> Revised {
    let had: Vec<&DefinitionEntry> = before.named(workspace, kind, &name).collect();
    let has: Vec<&DefinitionEntry> = after.named(workspace, kind, &name).collect();
    let fresh = has.iter().copied().filter(|e| !had.iter().any(|o| o.version == e.version && o.etag == e.etag));
    let (was, is) = if let Some(is) = fresh.max_by_key(|e| (e.state.is_in_force(), e.version)) {
        let active = had.iter().filter(|_| is.state.is_in_force()).find(|e| e.state.is_in_force());
        let same = had.iter().find(|e| e.version == is.version);
        (active.or(same).copied().or_else(|| newest(&had)), Some(is))
    } else {
        // a draft that fell, or the whole of it
        let gone: Vec<_> = had.iter().copied().filter(|o| !has.iter().any(|e| e.version == o.version)).collect();
        (newest(&gone), after.shown(workspace, kind, &name))
    };
    let (before, after) = (was.cloned(), is.cloned());
    Revised { kind, name, before, after }
}

fn newest<'a>(entries: &[&'a DefinitionEntry]) -> Option<&'a DefinitionEntry> {
    entries.iter().copied().max_by_key(|e| e.version)
}

// === impl Revised ===

impl Revised {
    /// Whether it came, changed or went.
    pub fn change(&self) -> Change {
        match (&self.before, &self.after) {
            (None, _) => Change::Created,
            (Some(_), Some(_)) => Change::Changed,
            (Some(_), None) => Change::Deleted,
        }
    }
}
