//! Every order of arrival, and what must hold on the way and at rest.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{Event, JourneyItem, Person, SegmentItem, segment_item::Body},
    kind,
    state::Node,
};
use waypost_types::{Role, Span, Timestamp};

use crate::{
    line::{Line, Logic, Placement, Rules},
    scenarios::{START, Scenario},
};

/// How much of what comes to the same is explored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orders {
    /// Every order.
    All,
    /// An orchestrator's partition has one source, so that what arrives there arrives in one order, whatever happens
    /// elsewhere: it is delivered at once, unless its timers may still fire before or after it.
    Told,
}

/// What there was.
pub(crate) struct Explored {
    /// How many states.
    pub(crate) states: usize,
    /// Those in which nothing is under way.
    pub(crate) at_rest: BTreeSet<u128>,
}

/// Explores all of it; what there was, or what went wrong and on which way.
pub(crate) fn explore(scenario: &Scenario, placement: &Placement, orders: Orders, rules: Rules) -> Result<Explored, String> {
    let logic = Logic::new(&scenario.hashes(), placement, rules);
    let mut start = Line::default();
    for record in scenario.records() {
        logic.send(&mut start, None, Role::Identity, record);
    }
    let mut seen = HashSet::from([start.hash()]);
    let mut open: Vec<(Line, Vec<String>)> = vec![(start, Vec::new())];
    let mut resting = BTreeSet::new();
    while let Some((line, way)) = open.pop() {
        if line.channels.is_empty() {
            at_rest(scenario, &line).map_err(|wrong| told(&way, &wrong))?;
            resting.insert(line.hash());
        }
        for step in steps(scenario, &line, orders) {
            let mut next = line.clone();
            let mut way = way.clone();
            way.push(step.told(&line));
            take(scenario, &logic, &mut next, &step).map_err(|wrong| told(&way, &wrong))?;
            if seen.insert(next.hash()) {
                open.push((next, way));
            }
        }
    }
    Ok(Explored { states: seen.len(), at_rest: resting })
}

fn told(way: &[String], wrong: &str) -> String {
    format!("{wrong}\nafter:\n  {}", way.join("\n  "))
}

/// What may happen next.
enum Step {
    Deliver((Option<crate::line::Seat>, crate::line::Seat)),
    Fire(usize),
}

impl Step {
    fn told(&self, line: &Line) -> String {
        match self {
            Self::Fire(partition) => format!("timers of orchestrator/{partition} fire"),
            Self::Deliver(channel @ (from, (role, partition))) => {
                let from = from.map_or("a door".to_owned(), |(role, partition)| format!("{role}/{partition}"));
                format!("{role}/{partition} folds kind {} of {from}", line.channels[channel][0].kind)
            }
        }
    }
}

fn steps(scenario: &Scenario, line: &Line, orders: Orders) -> Vec<Step> {
    let still = line.fired || !scenario.timers;
    if let Some(channel @ (from, to)) = line.channels.keys().find(|(_, (role, _))| *role == Role::Orchestrator)
        && still
        && orders == Orders::Told
    {
        assert_eq!(*from, Some((Role::Segmenter, to.1)), "an orchestrator's partition has one source");
        return vec![Step::Deliver(*channel)];
    }
    let mut steps: Vec<Step> = line.channels.keys().map(|channel| Step::Deliver(*channel)).collect();
    if scenario.timers && !line.fired {
        steps.extend([Step::Fire(0), Step::Fire(1)]);
    }
    steps
}

fn take(scenario: &Scenario, logic: &Logic, line: &mut Line, step: &Step) -> Result<(), String> {
    match step {
        Step::Deliver(channel) => {
            let record = line.channels[channel][0].clone();
            before(scenario, line, channel.1, &record)?;
            logic.deliver(line, *channel)?;
            Ok(())
        }
        Step::Fire(partition) => {
            let late = Timestamp::from_millis(START).plus(Span::from_secs(20));
            let stopped: BTreeSet<Vec<u8>> = line.journeys[*partition]
                .iter()
                .filter(|(_, p)| p.as_ref().and_then(|p| p.0.person.as_ref()).is_some_and(|person| !person.orders.is_empty()))
                .map(|(id, _)| id.key().to_vec())
                .collect();
            for sent in logic.fire(line, *partition, late)? {
                let dispatch = waypost_codec::inbox::Dispatch::decode(sent.body.clone()).map_err(|e| e.to_string())?;
                if sent.kind == kind::DISPATCH && stopped.contains(&dispatch.profile.to_vec()) {
                    return Err("a message was decided although the state knew of the order that stops it".to_owned());
                }
            }
            Ok(())
        }
    }
}

/// A stage folds an identifier's event in a state that holds exactly its earlier events.
fn before(scenario: &Scenario, line: &Line, (role, partition): crate::line::Seat, record: &Record) -> Result<(), String> {
    let (item, person) = match (role, record.kind) {
        (Role::Segmenter, kind::ITEM) => {
            let state = line.segments[partition].values().zip(line.segments[partition].keys()).find(|(_, id)| id.key() == &record.key[..]);
            let state = state.and_then(|(p, _)| p.as_ref());
            if state.is_some_and(|p| !p.0.moved_to.is_empty() || p.0.erased) {
                return Ok(());
            }
            (SegmentItem::decode(record.body.clone()).ok(), state.and_then(|p| p.0.person.clone()))
        }
        (Role::Orchestrator, kind::JOURNEY_ITEM) => {
            let state = line.journeys[partition].values().zip(line.journeys[partition].keys()).find(|(_, id)| id.key() == &record.key[..]);
            let state = state.and_then(|(p, _)| p.as_ref());
            if state.is_some_and(|p| !p.0.moved_to.is_empty()) {
                return Err("an item met a tombstone at the orchestrator that it had not met at the segmenter".to_owned());
            }
            (JourneyItem::decode(record.body.clone()).ok().and_then(|i| i.item), state.and_then(|p| p.0.person.clone()))
        }
        _ => return Ok(()),
    };
    let Some(Body::Event(bytes)) = item.and_then(|item| item.body) else { return Ok(()) };
    let event = Event::decode(bytes).map_err(|e| e.to_string())?;
    if scenario.forgets() {
        return Ok(());
    }
    let identifier = event.identifiers[0].value.trim_start_matches('i').parse::<usize>().map_err(|e| e.to_string())?;
    let told = scenario.told(identifier);
    let place = told.iter().position(|t| *t == event.message_id).ok_or("an event that nobody sent")?;
    let known = tokens(&person.unwrap_or_default());
    let wanted: BTreeSet<String> = told[..place].iter().cloned().collect();
    let found: BTreeSet<String> = told.iter().filter(|t| known.contains(*t)).cloned().collect();
    if wanted == found {
        return Ok(());
    }
    Err(format!("{role}/{partition} folds {} where {found:?} of its identifier is known, not {wanted:?}", event.message_id))
}

fn tokens(person: &Person) -> BTreeSet<String> {
    person.carts.iter().map(|c| c.cart_id.clone()).chain(person.orders.iter().map(|o| o.order_id.clone())).collect()
}

/// Nothing held, nothing draining, one live profile a person, each with all that was told of it.
fn at_rest(scenario: &Scenario, line: &Line) -> Result<(), String> {
    let nodes: BTreeMap<Vec<u8>, Node> = line
        .identity
        .iter()
        .flat_map(BTreeMap::values)
        .flatten()
        .flat_map(|identifier| identifier.0.generations.clone())
        .map(|node| (node.id.to_vec(), node))
        .collect();
    let root = |mut id: Vec<u8>| {
        for _ in 0..nodes.len() {
            id = nodes.get(&id).map_or_else(|| id.clone(), |n| n.parent.to_vec());
        }
        id
    };
    for node in nodes.values() {
        if node.holding {
            return Err("a node holds at rest".to_owned());
        }
    }
    let current: Vec<Option<Vec<u8>>> = scenario
        .hashes()
        .iter()
        .map(|hash| nodes.values().filter(|n| !n.gone && n.id[1..17] == hash[..]).max_by_key(|n| n.id.clone()).map(|n| root(n.id.to_vec())))
        .collect();
    for person in &scenario.persons {
        let roots: BTreeSet<_> = person.iter().map(|n| current[*n].clone()).collect();
        if roots.len() != 1 {
            return Err(format!("{person:?} did not become one person"));
        }
    }
    profiles(scenario, line)
}

fn profiles(scenario: &Scenario, line: &Line) -> Result<(), String> {
    let mut known = Vec::new();
    for (segments, journeys) in line.segments.iter().zip(&line.journeys) {
        for (id, profile) in segments {
            let Some(state) = profile.as_ref().map(|p| &p.0) else { continue };
            let there = journeys.get(id).and_then(Option::as_ref).map(|p| p.0.clone()).unwrap_or_default();
            if (&state.moved_to, state.erased) != (&there.moved_to, there.erased) {
                return Err("the stages do not mirror each other".to_owned());
            }
            if !state.draining.is_empty() || !there.draining.is_empty() {
                return Err("a profile drains at rest".to_owned());
            }
            let ordered = there.person.as_ref().is_some_and(|person| !person.orders.is_empty());
            if ordered && there.runs.iter().any(|run| run.exit_reason.is_empty()) {
                // In every story that has an order it comes after the carts.
                return Err("a cart's run goes on although the person has ordered".to_owned());
            }
            let (here, there) = (tokens(&state.person.clone().unwrap_or_default()), tokens(&there.person.unwrap_or_default()));
            let dead = state.erased || !state.moved_to.is_empty();
            if dead && !(here.is_empty() && there.is_empty()) {
                return Err("a tombstone keeps something".to_owned());
            }
            if here != there {
                return Err(format!("the segmenter knows {here:?}, the orchestrator {there:?}"));
            }
            if !dead {
                known.push(here);
            }
        }
    }
    if let Some(kept) = known.iter().flatten().find(|token| scenario.forgotten.contains(&token.as_str())) {
        return Err(format!("{kept} of an erased person is still known"));
    }
    if scenario.forgets() {
        return Ok(());
    }
    let all: Vec<String> = known.iter().flatten().cloned().collect();
    let told: BTreeSet<String> = (0..scenario.identifiers.len()).flat_map(|n| scenario.told(n)).collect();
    if all.len() != told.len() || all.iter().cloned().collect::<BTreeSet<_>>() != told {
        return Err(format!("told {told:?}, known {known:?}"));
    }
    for person in &scenario.persons {
        let told: BTreeSet<String> = person.iter().flat_map(|n| scenario.told(*n)).collect();
        if !told.is_empty() && !known.contains(&told) {
            return Err(format!("{told:?} of one person lie apart: {known:?}"));
        }
    }
    Ok(())
}
