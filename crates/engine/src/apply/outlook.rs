//! What a publish would do now to what is in force.

use std::collections::BTreeMap;

use waypost_types::{Timestamp, WorkspaceId};

use super::{Bodies, Change, DefinitionEntry, PlanItem, SetManifest, ends, plan_publish, set};
use crate::manifest::{Kind, Problem, diff, to_yaml};

/// What would come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The journey.
    pub journey: PlanItem,
    /// The version in force now.
    pub active: Option<u32>,
    /// Templates of which it would take another form than the one in force takes.
    pub templates: Vec<PlanItem>,
    /// Older versions that still may have runs afterwards, and when the last possible run is over.
    pub pinned: Vec<(u32, Timestamp)>,
}

/// What publishing a journey would do now.
pub fn outlook(
    current: &SetManifest,
    bodies: &dyn Bodies,
    workspace: WorkspaceId,
    journey: &str,
    now: Timestamp,
) -> Result<Outlook, Vec<Problem>> {
    let plan = plan_publish(current, bodies, workspace, journey, now)?;
    let active = |set: &SetManifest| set.named(workspace, Kind::Journey, journey).find(|e| e.state.is_in_force()).cloned();
    let (before, after) = (active(current), active(&plan.next));
    let none = BTreeMap::new();
    let old = before.as_ref().map_or(&none, |e| &e.templates);
    let new = after.as_ref().map_or(&none, |e| &e.templates);
    let templates = new.iter().filter(|(name, hash)| old.get(*name) != Some(hash)).filter_map(|(name, hash)| {
        let entry = form(&plan.next, workspace, hash)?;
        let text = |hash: &String| set::hash_of(hash).and_then(|h| bodies.body(&h)).map(|b| to_yaml(&b)).unwrap_or_default();
        let before = old.get(name);
        let change = if before.is_some() { Change::Changed } else { Change::Created };
        Some(PlanItem::of(entry, change, diff(&before.map(text).unwrap_or_default(), &text(hash))))
    });
    let pinned = plan.next.named(workspace, Kind::Journey, journey).filter(|e| e.state.is_live() && !e.state.is_in_force());
    Ok(Outlook {
        active: before.as_ref().map(|e| e.version),
        templates: templates.collect(),
        pinned: pinned.filter_map(|e| Some((e.version, ends(bodies, e)?))).collect(),
        journey: plan.items.into_iter().next().ok_or_else(Vec::new)?,
    })
}

fn form<'a>(set: &'a SetManifest, workspace: WorkspaceId, hash: &str) -> Option<&'a DefinitionEntry> {
    set.of_kind(workspace, Kind::Template).filter(|e| set::hex_of(&e.hash) == hash).max_by_key(|e| e.version)
}
