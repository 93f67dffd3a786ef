//! The journeys of a workspace, and what an event of each name concerns among them.
//!
//! Nine events in ten concern no journey. What each name concerns is found once, when a set is compiled, so that such an event
//! costs one look-up, however many journeys there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    sync::Arc,
};

use super::{Entry, Journey, Match, Standing, StepKind};

/// The versions of one journey that may have runs.
#[derive(Clone, Debug, Default)]
pub struct JourneyVersions {
    /// The version that entries use; none when archived.
    pub active: Option<u32>,
    /// All that may have runs.
    pub versions: BTreeMap<u32, Arc<Journey>>,
}

/// Journeys by name; they never change, and so what is known of them stays true.
#[derive(Clone, Debug, Default)]
pub struct Journeys {
    by_name: BTreeMap<String, JourneyVersions>,
    by_event: BTreeMap<String, Concern>,
    any_killed: bool,
}

/// What an event of one name concerns.
#[derive(Clone, Debug, Default)]
pub struct Concern {
    /// Active versions with an entry for it, by priority, then name.
    pub entered: Vec<Arc<Journey>>,
    /// Paths of it that are read where an exit, a goal or a wait of some version looks for it; none where none does.
    pub watched: Option<BTreeSet<String>>,
}

// === impl JourneyVersions ===

impl JourneyVersions {
    /// The version that entries use.
    pub fn entered(&self) -> Option<&Arc<Journey>> {
        self.versions.get(&self.active?)
    }
}

// === impl Journeys ===

impl Journeys {
    /// What events of this name concern; none: nothing.
    pub fn concern(&self, event: &str) -> Option<&Concern> {
        self.by_event.get(event)
    }

    /// Whether some version was killed.
    pub fn any_killed(&self) -> bool {
        self.any_killed
    }
}

impl From<BTreeMap<String, JourneyVersions>> for Journeys {
    fn from(by_name: BTreeMap<String, JourneyVersions>) -> Self {
        let mut by_event: BTreeMap<String, Concern> = BTreeMap::new();
        for journey in by_name.values().filter_map(JourneyVersions::entered) {
            let names: BTreeSet<&String> = journey.entries.iter().flat_map(|entry| &entry.names).collect();
            for name in names {
                by_event.entry(name.clone()).or_default().entered.push(Arc::clone(journey));
            }
        }
        for journey in by_name.values().flat_map(|versions| versions.versions.values()) {
            for name in journey.event_names.iter().filter(|name| watches(journey, name)) {
                let watched = by_event.entry(name.clone()).or_default().watched.get_or_insert_default();
                watched.extend(journey.event_paths.iter().cloned());
            }
        }
        for concern in by_event.values_mut() {
            concern.entered.sort_by(|a, b| (Reverse(a.priority), &a.name).cmp(&(Reverse(b.priority), &b.name)));
        }
        let any_killed = by_name.values().flat_map(|j| j.versions.values()).any(|version| version.standing == Standing::Killed);
        Self { by_name, by_event, any_killed }
    }
}

impl Deref for Journeys {
    type Target = BTreeMap<String, JourneyVersions>;

    fn deref(&self) -> &Self::Target {
        &self.by_name
    }
}

/// Whether an exit, the goal or a wait looks for events of this name.
fn watches(journey: &Journey, name: &str) -> bool {
    journey.matches().any(|on| on.names().iter().any(|n| n == name))
}

// === impl Journey ===

impl Journey {
    /// The first entry whose runs have a key, or none, as this one is.
    pub fn entry_keyed_as(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.is_some() != key.is_empty())
    }

    /// What its exits, its goal and its waits look for.
    pub fn matches(&self) -> impl Iterator<Item = &Match> {
        let arms = self.steps.iter().flat_map(|step| match &step.kind {
            StepKind::Wait(wait) => wait.arms.as_slice(),
            StepKind::Delay(_) | StepKind::Branch { .. } | StepKind::Send(_) | StepKind::Exit { .. } => &[],
        });
        let goal = self.goal.iter().map(|goal| &goal.on);
        self.exit_on.iter().map(|rule| &rule.on).chain(goal).chain(arms.map(|arm| &arm.on))
    }
}
