//! Checking a planned set: what is new is held against the whole, what is live against what is new.

use std::collections::{BTreeMap, BTreeSet};

use waypost_types::{ContentHash, WorkspaceId};

use super::{Bodies, DefinitionEntry, SetManifest, set};
use crate::manifest::{Kind, Manifest, Problem, codes, link};

/// The manifest of a stored body.
pub(super) fn stored(bodies: &dyn Bodies, entry: &DefinitionEntry, label: &str) -> Result<Manifest, Vec<Problem>> {
    let Some(body) = bodies.body(&entry.hash) else {
        let message = "its body is not at hand yet; try again".to_owned();
        return Err(vec![Problem { code: codes::UNKNOWN_REFERENCE, file: label.to_owned(), message, ..Problem::nowhere() }]);
    };
    Manifest::from_body(&body, label)
}

/// The bodies that the templates of a journey mean now: the draft, else what is in force; `name@7` is that version.
pub(super) fn templates(set: &SetManifest, workspace: WorkspaceId, journey: &Manifest) -> BTreeMap<String, ContentHash> {
    let mut found = BTreeMap::new();
    for written in journey.template_names() {
        let (name, version) = written.split_once('@').map_or((written.as_str(), None), |(n, v)| (n, v.parse::<u32>().ok()));
        let entry = match version {
            Some(version) => set.named(workspace, Kind::Template, name).find(|e| e.version == version),
            None => set.named(workspace, Kind::Template, name).max_by_key(|e| e.version),
        };
        if let Some(entry) = entry {
            found.insert(written.clone(), entry.hash);
        }
    }
    found
}

/// Checks the set that comes of applying `manifests`.
pub(super) fn check(next: &SetManifest, bodies: &dyn Bodies, workspace: WorkspaceId, manifests: &[Manifest]) -> Vec<Problem> {
    let applied = |e: &DefinitionEntry| manifests.iter().find(|m| m.kind == e.kind && m.name == e.name && m.hash == e.hash);
    let mut wanted: BTreeSet<ContentHash> = BTreeSet::new();
    for journey in manifests.iter().filter(|m| m.kind == Kind::Journey) {
        wanted.extend(templates(next, workspace, journey).into_values());
    }
    let mut parts = Vec::new();
    let mut problems = Vec::new();
    for entry in next.definitions.iter().filter(|e| e.workspace == workspace.number()) {
        let own = applied(entry);
        if own.is_none() && !entry.state.is_live() && !(entry.kind == Kind::Template && wanted.contains(&entry.hash)) {
            continue;
        }
        let fresh = own.is_some();
        match own.map_or_else(|| stored(bodies, entry, &label(entry)), |m| Ok(m.clone())) {
            Ok(manifest) => {
                // A live version keeps the templates it was published with; a draft takes what there is now.
                let templates = if entry.state.is_live() { pinned(entry) } else { templates(next, workspace, &manifest) };
                parts.push(part(next, entry, manifest, fresh, templates));
            }
            Err(wrong) => problems.extend(wrong),
        }
    }
    problems.extend(assemble(next, workspace, &parts, manifests));
    problems
}

/// Checks the set in which `published` is in force.
pub(super) fn check_published(
    next: &SetManifest,
    bodies: &dyn Bodies,
    workspace: WorkspaceId,
    published: &DefinitionEntry,
) -> Vec<Problem> {
    let used: BTreeSet<&String> = published.templates.values().collect();
    let mut parts = Vec::new();
    let mut problems = Vec::new();
    for entry in next.definitions.iter().filter(|e| e.workspace == workspace.number() && e.state.is_live()) {
        let fresh = entry == published || (entry.kind == Kind::Template && used.contains(&set::hex_of(&entry.hash)));
        match stored(bodies, entry, &label(entry)) {
            Ok(manifest) => {
                let templates = pinned(entry);
                parts.push(part(next, entry, manifest, fresh, templates));
            }
            Err(wrong) => problems.extend(wrong),
        }
    }
    problems.extend(assemble(next, workspace, &parts, &[]));
    problems
}

/// A stored definition as it takes part in its set.
pub(crate) fn part(
    set: &SetManifest,
    entry: &DefinitionEntry,
    manifest: Manifest,
    fresh: bool,
    templates: BTreeMap<String, ContentHash>,
) -> link::Part {
    let (active, standing) = (entry.state.is_in_force(), set.standing(entry));
    link::Part { manifest, version: entry.version, active, standing, fresh, templates }
}

fn assemble(next: &SetManifest, workspace: WorkspaceId, parts: &[link::Part], manifests: &[Manifest]) -> Vec<Problem> {
    let journeys: BTreeSet<String> = next.of_kind(workspace, Kind::Journey).map(|e| e.name.clone()).collect();
    let assembled = link::assemble(workspace, next.workspace_name(workspace), parts, &journeys);
    let mut problems: Vec<Problem> = Vec::new();
    for (index, problem) in assembled.problems {
        let problem = match parts.get(index) {
            Some(part) if !part.fresh => in_use(problem, manifests),
            Some(_) | None => problem,
        };
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems
}

/// A live definition that would break: the fault lies with what is applied.
fn in_use(problem: Problem, manifests: &[Manifest]) -> Problem {
    let message = format!("{} reads it: {}", problem.file, problem.message);
    let others = || manifests.iter().filter(|m| m.kind != Kind::Journey);
    let named = others().find(|m| problem.message.contains(&format!("`{}`", m.name)));
    match named.or_else(|| others().find(|m| m.kind == Kind::Policy)).or_else(|| others().next()) {
        Some(manifest) => manifest.problem(codes::IN_USE, "metadata.name", message),
        None => Problem { code: codes::IN_USE, ..problem },
    }
}

/// The templates that a published version names.
pub(crate) fn pinned(entry: &DefinitionEntry) -> BTreeMap<String, ContentHash> {
    entry.templates.iter().filter_map(|(name, hash)| Some((name.clone(), set::hash_of(hash)?))).collect()
}

/// How a stored definition is called in problems.
pub(crate) fn label(entry: &DefinitionEntry) -> String {
    format!("{}/{}@{}", entry.kind, entry.name, entry.version)
}
