//! Planning changes to the set in force: pure, all or nothing, nothing that a live journey reads is taken away.
//!
//! Journeys and templates become drafts when applied; publishing a journey puts its draft in force together with
//! the templates it names. Every other kind is in force at once. Runs finish on the version they entered, so an
//! older version stays pinned until its oldest possible run is over.

mod draft;
mod hold;
mod outlook;
mod parts;
mod prune;
mod quota;
mod revision;
mod rollback;
mod set;
mod workspace;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use waypost_types::{ContentHash, Span, Timestamp, WorkspaceId};

pub use self::{
    hold::{plan_kill, plan_pause, plan_resume},
    outlook::{Outlook, outlook},
    prune::plan_prune,
    quota::{Excess, Quota, Usage},
    revision::{Revised, revised},
    rollback::plan_rollback,
    set::{DefinitionEntry, SetManifest, State, WorkspaceEntry},
    workspace::{WorkspaceRefused, plan_workspace},
};
pub(crate) use self::{
    parts::{label, part, pinned},
    set::hash_of,
};
use crate::manifest::{Kind, Manifest, Problem, codes, diff, nearest, to_yaml};

/// Versions of one journey that may have runs.
const VERSIONS_MAX: usize = 8;
/// Live journeys of a workspace: the trigger index stays flat.
const JOURNEYS_MAX: usize = 1_000;
/// Segments of a workspace.
const SEGMENTS_MAX: usize = 1_000;
/// How long beyond its last possible run a version stays, for records that are late.
const GRACE: Span = Span::from_days(1);

/// Where bodies lie.
pub trait Bodies {
    /// The body with this hash.
    fn body(&self, hash: &ContentHash) -> Option<Bytes>;
}

/// A set that may follow the current one.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The next set; the current one where nothing changes.
    pub next: SetManifest,
    /// What became of each definition, in the order given.
    pub items: Vec<PlanItem>,
    /// Bodies that the next set names and the current one does not; to be stored before it.
    pub bodies: Vec<(ContentHash, Bytes)>,
}

/// What became of one definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanItem {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// The version it has now.
    pub version: u32,
    /// The state of that version.
    pub state: State,
    /// Whether anything happened.
    pub change: Change,
    /// Changed lines of the canonical form, as YAML; empty where nothing changed.
    pub diff: String,
    /// Of what was to be pruned and stays: why; else empty.
    pub because: String,
}

/// Whether anything happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There was nothing of that name.
    Created,
    /// There was something else.
    Changed,
    /// It is as it was.
    Unchanged,
    /// It is no more.
    Deleted,
    /// It was to be pruned, and stays.
    Kept,
}

/// Plans what applying `manifests` makes of the current set.
pub fn plan_apply(
    current: &SetManifest,
    bodies: &dyn Bodies,
    workspace: WorkspaceId,
    manifests: &[Manifest],
) -> Result<Plan, Vec<Problem>> {
    let mut next = current.clone();
    let mut items = Vec::new();
    let mut problems = Vec::new();
    for manifest in manifests {
        if let Some(problem) = other_policy(current, workspace, manifest) {
            problems.push(problem);
            continue;
        }
        items.push(draft::put(&mut next, bodies, workspace, manifest));
    }
    let segments = next.of_kind(workspace, Kind::Segment).count();
    if segments > SEGMENTS_MAX
        && let Some(m) = manifests.iter().find(|m| m.kind == Kind::Segment)
    {
        problems.push(m.problem(codes::LIMIT_EXCEEDED, "metadata.name", format!("a workspace has at most {SEGMENTS_MAX} segments")));
    }
    if problems.is_empty() {
        problems = parts::check(&next, bodies, workspace, manifests);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(finish(current, next, items, manifests.iter().map(|m| (m.hash, m.body.clone())).collect()))
}

/// Plans putting the draft of a journey in force, with the templates it names as they are now.
///
/// Without a draft, the version in force is published again where one of its templates has a newer form.
pub fn plan_publish(
    current: &SetManifest,
    bodies: &dyn Bodies,
    workspace: WorkspaceId,
    journey: &str,
    now: Timestamp,
) -> Result<Plan, Vec<Problem>> {
    let mut next = current.clone();
    let versions: Vec<&DefinitionEntry> = current.named(workspace, Kind::Journey, journey).collect();
    let draft = versions.iter().find(|e| e.state == State::Draft);
    let active = versions.iter().find(|e| e.state.is_in_force());
    let Some(from) = draft.or(active) else {
        return Err(vec![nothing(current, workspace, journey)]);
    };
    let label = format!("journeys/{journey}@{}", from.version);
    let manifest = parts::stored(bodies, from, &label)?;
    let templates = parts::templates(&next, workspace, &manifest);
    if draft.is_none() && active.is_some_and(|a| a.templates == set::names_of(&templates)) {
        let item = PlanItem::of(from, Change::Unchanged, String::new());
        return Ok(finish(current, next, vec![item], Vec::new()));
    }
    retire(&mut next, bodies, workspace, journey, now);
    room(&next, workspace, &manifest, active.is_some())?;
    let old = active.and_then(|a| bodies.body(&a.hash));
    let version = draft.map_or_else(|| next.newest(workspace, Kind::Journey, journey) + 1, |d| d.version);
    let hash = from.hash;
    // What is paused stays paused, in whichever version.
    let state = active.map_or(State::Active, |a| a.state);
    for entry in next.named_mut(workspace, Kind::Journey, journey) {
        if entry.state.is_in_force() {
            entry.state = State::Pinned;
            entry.superseded_at = Some(now.millis());
        }
    }
    next.definitions.retain(|e| !(e.is(workspace, Kind::Journey, journey) && e.state == State::Draft));
    let mut entry = DefinitionEntry::new(workspace, Kind::Journey, journey, version, hash, state);
    entry.templates = set::names_of(&templates);
    next.definitions.push(entry.clone());
    for used in templates.values() {
        for template in next.definitions.iter_mut().filter(|e| e.kind == Kind::Template && e.hash == *used) {
            if template.workspace == workspace.number() && template.state == State::Draft {
                template.state = State::Active;
            }
        }
    }
    settle_templates(&mut next, workspace);
    let problems = parts::check_published(&next, bodies, workspace, &entry);
    if !problems.is_empty() {
        return Err(problems);
    }
    let change = if versions.iter().any(|e| e.state != State::Draft) { Change::Changed } else { Change::Created };
    let old = old.map(|b| to_yaml(&b)).unwrap_or_default();
    let item = PlanItem::of(&entry, change, diff(&old, &to_yaml(&manifest.body)));
    Ok(finish(current, next, vec![item], Vec::new()))
}

/// Plans that a journey takes no more entries; its runs finish. Refused while it is paused: what waits would go.
pub fn plan_archive(current: &SetManifest, workspace: WorkspaceId, journey: &str, now: Timestamp) -> Result<Plan, Vec<Problem>> {
    if current.named(workspace, Kind::Journey, journey).any(|e| e.state == State::Paused) {
        return Err(vec![hold::refused(journey, "it is paused, and archived its runs would finish: resume it first, or kill it")]);
    }
    let mut next = current.clone();
    let mut item = None;
    for entry in next.named_mut(workspace, Kind::Journey, journey) {
        if entry.state == State::Active {
            entry.state = State::Pinned;
            entry.superseded_at = Some(now.millis());
            item = Some(PlanItem { state: State::Archived, ..PlanItem::of(entry, Change::Changed, String::new()) });
        }
    }
    if item.is_none() {
        let newest = current.named(workspace, Kind::Journey, journey).filter(|e| e.state != State::Draft).max_by_key(|e| e.version);
        let Some(newest) = newest else { return Err(vec![nothing(current, workspace, journey)]) };
        item = Some(PlanItem { state: State::Archived, ..PlanItem::of(newest, Change::Unchanged, String::new()) });
    }
    Ok(finish(current, next, item.into_iter().collect(), Vec::new()))
}

/// Plans taking a definition away; refused while a live journey reads it, or is it, or its runs may not be over.
pub fn plan_delete(
    current: &SetManifest,
    bodies: &dyn Bodies,
    workspace: WorkspaceId,
    kind: Kind,
    name: &str,
    now: Timestamp,
) -> Result<Plan, Vec<Problem>> {
    let file = format!("{kind}/{name}");
    let refuse = |code, message: String| Problem { code, file: file.clone(), message, ..Problem::nowhere() };
    let Some(newest) = current.named(workspace, kind, name).max_by_key(|e| e.version) else {
        return Err(vec![refuse(codes::UNKNOWN_REFERENCE, format!("there is no {kind} `{name}`"))]);
    };
    let mut next = current.clone();
    if kind == Kind::Journey {
        retire(&mut next, bodies, workspace, name, now);
        if next.named(workspace, kind, name).any(|e| e.state.is_live()) {
            return Err(vec![refuse(codes::IN_USE, "the journey is live, or its runs are not over".to_owned())]);
        }
    }
    next.definitions.retain(|e| !e.is(workspace, kind, name));
    let wrong = parts::check(&next, bodies, workspace, &[]);
    if !wrong.is_empty() {
        return Err(wrong.into_iter().map(|p| refuse(codes::IN_USE, format!("{}: {}", p.file, p.message))).collect());
    }
    let old = bodies.body(&newest.hash).map(|b| to_yaml(&b)).unwrap_or_default();
    let item = PlanItem { state: State::Archived, ..PlanItem::of(newest, Change::Deleted, diff(&old, "")) };
    Ok(finish(current, next, vec![item], Vec::new()))
}

/// Numbers the next set where it differs.
fn finish(current: &SetManifest, mut next: SetManifest, items: Vec<PlanItem>, bodies: Vec<(ContentHash, Bytes)>) -> Plan {
    next.settle();
    if next.definitions == current.definitions {
        return Plan { next: current.clone(), items, bodies: Vec::new() };
    }
    next.number = current.number + 1;
    let old: BTreeSet<ContentHash> = current.definitions.iter().map(|e| e.hash).collect();
    let new: BTreeSet<ContentHash> = next.definitions.iter().map(|e| e.hash).collect();
    let bodies = bodies.into_iter().filter(|(h, _)| new.contains(h) && !old.contains(h)).collect();
    Plan { next, items, bodies }
}

fn other_policy(current: &SetManifest, workspace: WorkspaceId, manifest: &Manifest) -> Option<Problem> {
    if manifest.kind != Kind::Policy {
        return None;
    }
    let other = current.of_kind(workspace, Kind::Policy).find(|e| e.name != manifest.name)?;
    let message = format!("a workspace has one Policy, and `{}` is it", other.name);
    let problem = manifest.problem(codes::DUPLICATE_ID, "metadata.name", message);
    Some(Problem { suggestion: Some(other.name.clone()), ..problem })
}

fn nothing(current: &SetManifest, workspace: WorkspaceId, journey: &str) -> Problem {
    let known: Vec<&str> = current.of_kind(workspace, Kind::Journey).map(|e| e.name.as_str()).collect();
    let message = if known.contains(&journey) {
        format!("`{journey}` has neither a draft nor a version in force; apply it first")
    } else {
        format!("there is no journey `{journey}`")
    };
    let suggestion = nearest(journey, known.into_iter().filter(|n| *n != journey));
    Problem { code: codes::UNKNOWN_REFERENCE, file: format!("journeys/{journey}"), message, suggestion, ..Problem::nowhere() }
}

/// Whether one more version of a journey may come into force.
fn room(next: &SetManifest, workspace: WorkspaceId, manifest: &Manifest, is_active: bool) -> Result<(), Vec<Problem>> {
    let live = next.named(workspace, Kind::Journey, &manifest.name).filter(|e| e.state.is_live()).count();
    if live >= VERSIONS_MAX {
        let message = format!("{VERSIONS_MAX} versions may still have runs; the oldest ends with its max_age");
        return Err(vec![manifest.problem(codes::LIMIT_EXCEEDED, "metadata.name", message)]);
    }
    let journeys = next.of_kind(workspace, Kind::Journey).filter(|e| e.state.is_in_force()).count();
    if !is_active && journeys >= JOURNEYS_MAX {
        let message = format!("a workspace has at most {JOURNEYS_MAX} live journeys");
        return Err(vec![manifest.problem(codes::LIMIT_EXCEEDED, "metadata.name", message)]);
    }
    Ok(())
}

/// Lets go of pinned versions whose last possible run is over.
fn retire(next: &mut SetManifest, bodies: &dyn Bodies, workspace: WorkspaceId, journey: &str, now: Timestamp) {
    for entry in next.named_mut(workspace, Kind::Journey, journey) {
        if ends(bodies, entry).is_some_and(|over| now >= over) {
            entry.state = State::Archived;
        }
    }
}

/// When the last possible run of a pinned or killed version is over; none where it is neither, or cannot be read.
fn ends(bodies: &dyn Bodies, entry: &DefinitionEntry) -> Option<Timestamp> {
    let since = entry.superseded_at.filter(|_| matches!(entry.state, State::Pinned | State::Killed))?;
    let manifest = parts::stored(bodies, entry, "").ok()?;
    let longest = manifest.span("spec.max_age", Span::from_days(90)).max(manifest.span("spec.goal.within", Span::from_days(7)));
    Some(Timestamp::from_millis(since).plus(longest).plus(GRACE))
}

/// Of each template the newest published form is in force; older ones stay while a live journey names them.
fn settle_templates(next: &mut SetManifest, workspace: WorkspaceId) {
    let used: BTreeSet<String> =
        next.of_kind(workspace, Kind::Journey).filter(|e| e.state.is_live()).flat_map(|e| e.templates.values().cloned()).collect();
    let mut newest: BTreeMap<String, u32> = BTreeMap::new();
    for entry in next.of_kind(workspace, Kind::Template).filter(|e| e.state != State::Draft) {
        let version = newest.entry(entry.name.clone()).or_default();
        *version = (*version).max(entry.version);
    }
    for entry in &mut next.definitions {
        if entry.workspace != workspace.number() || entry.kind != Kind::Template || entry.state == State::Draft {
            continue;
        }
        entry.state = if newest.get(&entry.name) == Some(&entry.version) {
            State::Active
        } else if used.contains(&set::hex_of(&entry.hash)) {
            State::Pinned
        } else {
            State::Archived
        };
    }
}

// === impl PlanItem ===

impl PlanItem {
    fn of(entry: &DefinitionEntry, change: Change, diff: String) -> Self {
        Self {
            kind: entry.kind,
            name: entry.name.clone(),
            version: entry.version,
            state: entry.state,
            change,
            diff,
            because: String::new(),
        }
    }
}

// === impl Plan ===

impl Plan {
    /// Whether the set differs from the current one.
    pub fn is_change(&self, current: &SetManifest) -> bool {
        self.next.number != current.number
    }
}

// === impl Change ===

impl Change {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Changed => "CHANGED",
            Self::Unchanged => "UNCHANGED",
            Self::Deleted => "DELETED",
            Self::Kept => "KEPT",
        }
    }
}

// === impl Bodies ===

impl Bodies for BTreeMap<ContentHash, Bytes> {
    fn body(&self, hash: &ContentHash) -> Option<Bytes> {
        self.get(hash).cloned()
    }
}

#[cfg(test)]
mod tests;
