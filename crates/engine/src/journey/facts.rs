//! The recent events that an exit, a goal or a wait could turn on, kept for a merge (PROTOCOL §10.4):
//! when two halves of a person meet, what stopped one must stop the other.

use std::collections::BTreeSet;

use waypost_codec::{inbox::Event, state::Fact};
use waypost_types::Timestamp;

use super::{MAX_FACTS, entry};
use crate::definitions::{Journey, Match, StepKind, Workspace};

/// Keeps an event if some version that may have runs looks for it; the oldest beyond 64 falls.
pub(crate) fn remember(facts: &mut Vec<Fact>, ws: &Workspace, event: &Event, now: Timestamp) {
    let watching = ws.journeys.values().flat_map(|v| v.versions.values()).filter(|j| watches(j, &event.name));
    let mut paths = BTreeSet::new();
    let mut watched = false;
    for journey in watching {
        watched = true;
        paths.extend(journey.event_paths.iter().cloned());
    }
    if !watched || facts.iter().any(|f| f.message_id == event.message_id) {
        return;
    }
    facts.push(Fact {
        name: event.name.clone(),
        at: now.millis(),
        event_time: event.event_time,
        message_id: event.message_id.clone(),
        properties: event.properties.as_ref().map(|o| entry::prune(o, &paths, "")),
        historical: event.historical,
    });
    limit(facts);
}

/// The event, as far as it was kept.
pub(crate) fn event(fact: &Fact) -> Event {
    Event {
        name: fact.name.clone(),
        message_id: fact.message_id.clone(),
        event_time: fact.event_time,
        received_at: fact.at,
        properties: fact.properties.clone(),
        historical: fact.historical,
        ..Event::default()
    }
}

/// At a merge: both halves' facts in the order of log time.
pub(crate) fn unite(a: &[Fact], b: &[Fact]) -> Vec<Fact> {
    let mut all: Vec<Fact> = a.iter().chain(b).cloned().collect();
    all.sort_by(|x, y| (x.at, &x.message_id).cmp(&(y.at, &y.message_id)));
    let mut seen = BTreeSet::new();
    all.retain(|f| seen.insert(f.message_id.clone()));
    limit(&mut all);
    all
}

fn limit(facts: &mut Vec<Fact>) {
    let surplus = facts.len().saturating_sub(MAX_FACTS);
    facts.drain(..surplus);
}

fn watches(journey: &Journey, name: &str) -> bool {
    // Most events are looked for by no journey: the sorted list of all names answers that.
    if journey.event_names.binary_search_by(|n| n.as_str().cmp(name)).is_err() {
        return false;
    }
    let named = |on: &Match| matches!(on, Match::Event { names, .. } if names.iter().any(|n| n == name));
    journey.exit_on.iter().any(|rule| named(&rule.on))
        || journey.goal.iter().any(|goal| named(&goal.on))
        || journey.steps.iter().any(|step| match &step.kind {
            StepKind::Wait(wait) => wait.arms.iter().any(|arm| named(&arm.on)),
            StepKind::Delay(_) | StepKind::Branch { .. } | StepKind::Send(_) | StepKind::Exit { .. } => false,
        })
}
