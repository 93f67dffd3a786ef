//! What the index says of an event comes to what a walk over all journeys finds, and an event that concerns nobody leaves behind what
//! it would have, had it been read.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    harness::{World, shop},
    properties::Dice,
    stories::ANA,
};
use crate::definitions::{Journey, Journeys, Match, StepKind, Workspace};

const EVENTS: [&str; 8] =
    ["Ping", "Pong", "Cart Updated", "Order Completed", "Page Viewed", "Subscribed", "Unsubscribed", "Product Viewed"];

/// Journeys of every kind, each looking for some of [`EVENTS`].
fn journeys(dice: &mut Dice) -> String {
    let mut text = String::new();
    for number in 0..=dice.roll(5) {
        let mut one_of = |events: &[&'static str]| events[usize::try_from(dice.roll(events.len() as u64)).unwrap()];
        let (first, second) = (one_of(&EVENTS[..4]), one_of(&EVENTS[..3]));
        let exit = one_of(&["event: Order Completed", "event: Pong", "segment: vip, is: in", "when: 'profile.order_count >= 1'"]);
        let goal = one_of(&["", "goal: {event: Order Completed, within: 2h}", "goal: {event: Unsubscribed, within: 2h, exit: false}"]);
        let arm = one_of(&["event: Pong", "event: Page Viewed, where: event.page == run.key", "segment: vip, is: in"]);
        let rest = one_of(&["", "    - {id: last, delay: {for: 1h}}\n"]);
        let key = one_of(&["", ", key: event.page"]);
        let again = one_of(&["skip", "rearm"]);
        let priority = one_of(&["10", "50", "90"]);
        let start = one_of(&["delay: {for: 10m}", "send: {channel: email, template: hello}"]);
        text.extend([format!(
            "journey j{number}\n  topic: news\n  priority: {priority}\n  entries:\n    - {{id: in, on_event: {{names: [{first}]}}{key}, while_live: {again}}}\n    \
             - {{id: or, on_event: {{name: {second}}}, while_live: {again}}}\n  exit_on: [{{id: out, {exit}}}]\n  {goal}\n  steps:\n    \
             - {{id: begin, {start}}}\n    - id: watch\n      wait:\n        any: [{{id: seen, {arm}, then: mail}}]\n        timeout: {{for: 1h}}\n        \
             on_timeout: mail\n    - {{id: mail, send: {{channel: email, template: hello}}}}\n{rest}"
        )]);
    }
    text
}

/// Some of them archived, some in a second version that is, or is not, the active one.
fn versioned(ws: &Workspace, dice: &mut Dice) -> BTreeMap<String, crate::definitions::JourneyVersions> {
    let mut journeys = BTreeMap::clone(&ws.journeys);
    let others: Vec<Arc<Journey>> = ws.journeys.values().filter_map(|v| v.entered().cloned()).collect();
    for (name, versions) in &mut journeys {
        let other = &others[usize::try_from(dice.roll(others.len() as u64)).unwrap()];
        versions.versions.insert(2, Arc::new(Journey { name: name.clone(), version: 2, ..Journey::clone(other) }));
        versions.active = [None, Some(1), Some(2)][usize::try_from(dice.roll(3)).unwrap()];
    }
    journeys
}

fn watches(journey: &Journey, name: &str) -> bool {
    let named = |on: &Match| matches!(on, Match::Event { names, .. } if names.iter().any(|n| n == name));
    let waits = |kind: &StepKind| if let StepKind::Wait(wait) = kind { wait.arms.iter().any(|arm| named(&arm.on)) } else { false };
    journey.exit_on.iter().any(|rule| named(&rule.on))
        || journey.goal.iter().any(|goal| named(&goal.on))
        || journey.steps.iter().any(|step| waits(&step.kind))
}

#[test]
fn the_index_says_what_a_walk_over_all_journeys_finds() {
    let mut dice = Dice(31);
    let (mut entered, mut watched, mut nothing) = (0, 0, 0);
    for round in 0..60 {
        let ws = shop(&journeys(&mut dice));
        let journeys = versioned(&ws, &mut dice);
        let index = Journeys::from(journeys.clone());
        for name in EVENTS {
            let concern = index.concern(name).cloned().unwrap_or_default();
            let mut walked: Vec<&Journey> = journeys.values().filter_map(|v| Some(v.versions.get(&v.active?)?.as_ref())).collect();
            walked.retain(|j| j.entries.iter().any(|e| e.names.iter().any(|n| n == name)));
            walked.sort_by(|a, b| (Reverse(a.priority), &a.name).cmp(&(Reverse(b.priority), &b.name)));
            let names = |j: &Journey| (j.name.clone(), j.version);
            assert_eq!(concern.entered.iter().map(|j| names(j)).collect::<Vec<_>>(), walked.iter().map(|j| names(j)).collect::<Vec<_>>());
            let watching: Vec<&Arc<Journey>> = journeys.values().flat_map(|v| v.versions.values()).filter(|j| watches(j, name)).collect();
            let paths: BTreeSet<String> = watching.iter().flat_map(|j| j.event_paths.clone()).collect();
            assert_eq!(concern.watched, (!watching.is_empty()).then_some(paths), "round {round}: {name}");
            entered += walked.len();
            watched += watching.len();
            nothing += usize::from(index.concern(name).is_none());
        }
    }
    assert!(entered > 100 && watched > 100 && nothing > 50, "all are tried: {entered} entered, {watched} watched, {nothing} neither");
}

/// The comparison itself is in the harness, for every event of every story.
#[test]
fn an_event_that_concerns_nothing_leaves_behind_what_it_would_have() {
    let mut dice = Dice(37);
    let (mut passed, mut events) = (0, 0);
    for _ in 0..120 {
        let mut world = World::new(&shop(&journeys(&mut dice))).with(ANA);
        let mut minute = 0;
        for _ in 0..dice.roll(40) {
            minute += dice.roll(25);
            let name = EVENTS[usize::try_from(dice.roll(16).min(7)).unwrap()];
            let with =
                ["", " with segment vip yes", " with segment vip no", " with consent email/news denied", " with field timezone Asia/Tokyo"];
            let with = if dice.roll(4) == 0 { with[usize::try_from(dice.roll(5)).unwrap()] } else { "" };
            world.play(&format!("{minute}m event {name} page=p{}{with}", dice.roll(2)));
            events += 1;
        }
        passed += world.passed;
    }
    assert!(passed > 200 && passed < events - 200, "both are tried: {passed} of {events} concern nothing");
}
