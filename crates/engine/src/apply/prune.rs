//! Applying a folder as the whole truth of the kinds that are in it: what is not there falls, if nothing reads it.

use std::collections::BTreeSet;

use waypost_types::{Timestamp, WorkspaceId};

use super::{Bodies, Change, Plan, PlanItem, SetManifest, State, finish, parts, plan_apply, retire};
use crate::manifest::{Kind, Manifest, Problem, codes, diff, to_yaml};

/// What reads falls before what is read.
const ORDER: [Kind; 7] = [Kind::Journey, Kind::Template, Kind::Segment, Kind::Source, Kind::Topic, Kind::Channel, Kind::Policy];

/// Plans what applying `manifests` makes of the current set, and takes away what is not among them, of each kind that is.
///
/// A live journey that is not among them refuses the whole: no journey ends because its file was forgotten. What is still read
/// stays and says who reads it; so does an archived journey whose runs may not be over.
pub fn plan_prune(
    current: &SetManifest,
    bodies: &dyn Bodies,
    workspace: WorkspaceId,
    manifests: &[Manifest],
    now: Timestamp,
) -> Result<Plan, Vec<Problem>> {
    let Plan { mut next, mut items, .. } = plan_apply(current, bodies, workspace, manifests)?;
    let gone = missing(&next, workspace, manifests);
    let journeys = || gone.iter().filter(|(kind, _)| *kind == Kind::Journey);
    let problems: Vec<Problem> = journeys().filter(|(_, name)| is(&next, workspace, name, State::is_in_force)).map(live).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    for (_, name) in journeys() {
        retire(&mut next, bodies, workspace, name, now);
    }
    let (running, mut left): (Vec<_>, Vec<_>) =
        gone.iter().partition(|(kind, name)| *kind == Kind::Journey && is(&next, workspace, name, State::is_live));
    let mut kept: Vec<(&Name, String)> = running.into_iter().map(|one| (one, "its runs may not be over".to_owned())).collect();
    let all = next.clone();
    let wrong = |tried: &SetManifest| parts::check(tried, bodies, workspace, manifests);
    // What stayed for something that fell after it is tried again.
    let stays = loop {
        let stays = take(&mut next, workspace, &left, &wrong);
        if stays.len() == left.len() {
            break stays;
        }
        left = stays.into_iter().map(|(one, _)| one).collect();
    };
    kept.extend(stays);
    for one in &gone {
        let (kind, name) = one;
        let Some(newest) = all.named(workspace, *kind, name).max_by_key(|e| e.version) else { continue };
        items.push(if let Some((_, because)) = kept.iter().find(|(other, _)| *other == one) {
            PlanItem { because: because.clone(), ..PlanItem::of(newest, Change::Kept, String::new()) }
        } else {
            let old = bodies.body(&newest.hash).map(|b| to_yaml(&b)).unwrap_or_default();
            PlanItem { state: State::Archived, ..PlanItem::of(newest, Change::Deleted, diff(&old, "")) }
        });
    }
    Ok(finish(current, next, items, manifests.iter().map(|m| (m.hash, m.body.clone())).collect()))
}

type Name = (Kind, String);

/// What is defined and not given, of the kinds that are.
fn missing(set: &SetManifest, workspace: WorkspaceId, manifests: &[Manifest]) -> Vec<Name> {
    let mut names = Vec::new();
    for kind in ORDER.into_iter().filter(|kind| manifests.iter().any(|m| m.kind == *kind)) {
        let given: BTreeSet<&str> = manifests.iter().filter(|m| m.kind == kind).map(|m| m.name.as_str()).collect();
        let defined: BTreeSet<&str> = set.of_kind(workspace, kind).map(|e| e.name.as_str()).collect();
        names.extend(defined.difference(&given).map(|name| (kind, (*name).to_owned())));
    }
    names
}

fn is(set: &SetManifest, workspace: WorkspaceId, journey: &str, state: fn(State) -> bool) -> bool {
    set.named(workspace, Kind::Journey, journey).any(|e| state(e.state))
}

fn live((kind, name): &Name) -> Problem {
    let message = "the journey is live and not among what is given: archive it first, or give it".to_owned();
    Problem { code: codes::IN_USE, file: format!("{kind}/{name}"), message, ..Problem::nowhere() }
}

/// Takes away what can be, by halves, so that a few that stay cost a few checks. What stays, and why.
fn take<'a>(
    next: &mut SetManifest,
    workspace: WorkspaceId,
    some: &[&'a Name],
    wrong: &impl Fn(&SetManifest) -> Vec<Problem>,
) -> Vec<(&'a Name, String)> {
    if some.is_empty() {
        return Vec::new();
    }
    let mut tried = next.clone();
    let named: BTreeSet<(Kind, &str)> = some.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
    tried.definitions.retain(|e| e.workspace != workspace.number() || !named.contains(&(e.kind, e.name.as_str())));
    let problems = wrong(&tried);
    let Some(problem) = problems.first() else {
        *next = tried;
        return Vec::new();
    };
    if let [one] = some {
        return vec![(one, reader(problem))];
    }
    let (first, second) = some.split_at(some.len() / 2);
    let mut stays = take(next, workspace, first, wrong);
    stays.extend(take(next, workspace, second, wrong));
    stays
}

fn reader(problem: &Problem) -> String {
    let told = problem.message.split_once(" reads it").map_or(problem.file.as_str(), |(reader, _)| reader);
    format!("{told} reads it")
}
