//! Stop beats send (PROTOCOL §1.3), told from the orchestrator's logs alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{Dispatch, Event, JourneyItem, JourneyMergeBegin, JourneyMergeState, Object, segment_item::Body},
    kind,
};
use waypost_types::{PartitionId, Position, Role, Timestamp};

use super::{Partitions, Wrong, commanded::start_of};
use crate::{
    naive::{Accepted, Out},
    world::World,
};

/// What the orchestrator's log says of one profile.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Event times of carts touched, by cart; of sign-ups under no name.
    entries: BTreeMap<String, i64>,
    /// Event time of the latest order.
    order: i64,
    erased: bool,
    /// Nodes whose other half has arrived here, so that the profile waits for what is on their old roads.
    joined: BTreeSet<Bytes>,
}

/// One order, as it reached the orchestrator.
#[derive(Clone, Debug)]
struct Order {
    acknowledged: Timestamp,
    event_time: i64,
    node: Bytes,
    /// By an old road.
    travelled: bool,
}

/// When the log of its identifier took an event, by the broker's clock. That is what a watermark speaks of: `at`
/// may be older by as much as the broker is ahead of the door. A copy that was set aside stops nobody; a later one does.
pub(super) fn acknowledged(folded: &Partitions) -> BTreeMap<[u8; 16], Timestamp> {
    let mut times = BTreeMap::new();
    for (_, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Identity) {
        for accepted in meaning.accepted.iter().filter(|a| a.record.kind == kind::EVENT && !a.aside) {
            times.entry(accepted.record.id).or_insert(accepted.appended);
        }
    }
    times
}

/// No send is decided for what an order ended that stands before it in the log of the same profile; and none against
/// an order that was acknowledged before the timer was due, unless it was under way to the other half of a person
/// whose halves had not met.
pub(super) fn stops_beat_sends(world: &mut World, folded: &Partitions) -> Result<(), Wrong> {
    let times = acknowledged(folded);
    let mut orders: BTreeMap<Bytes, Vec<Order>> = BTreeMap::new();
    for (_, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Orchestrator) {
        let watched = watched_from(&meaning.accepted);
        for accepted in &meaning.accepted[watched..] {
            if let Some(event) = event_of(accepted)
                && event.name == "Order Completed"
            {
                let acknowledged = times.get(&accepted.record.id).copied().unwrap_or(accepted.appended);
                let node = node_of(accepted).unwrap_or_default();
                let order = Order { acknowledged, event_time: event.event_time, node, travelled: accepted.record.via > 0 };
                orders.entry(accepted.record.key.clone()).or_default().push(order);
            }
        }
    }
    // A loser takes what it knows along; folded here in rounds, since it may move on.
    let mut moving: BTreeMap<(Bytes, Bytes), Known> = BTreeMap::new();
    for round in 0..4 {
        for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Orchestrator) {
            let mut known: BTreeMap<Bytes, Known> = BTreeMap::new();
            let mut sends = meaning
                .put_out
                .iter()
                .filter(|(field, _)| field.starts_with("x:sender:"))
                .flat_map(|(_, outs)| outs)
                .filter_map(send_of)
                .collect::<Vec<_>>();
            sends.sort_by_key(|(cause, _, _)| *cause);
            let mut sends = sends.into_iter().peekable();
            let watched = watched_from(&meaning.accepted);
            for (number, accepted) in meaning.accepted.iter().enumerate() {
                // The record is known before what it decides; timers it lets fire first are older than it.
                let before = known.clone();
                learn(&mut known, &mut moving, accepted, number >= watched);
                while let Some((_, at, dispatch)) = sends.next_if(|(cause, _, _)| *cause <= accepted.position) {
                    if round < 3 {
                        continue;
                    }
                    world.tally.sends += 1;
                    let own = accepted.record.at.unwrap_or(accepted.appended);
                    let knowledge = if at < own { &before } else { &known };
                    against(world, *id, knowledge, at, &dispatch, &orders)?;
                }
            }
        }
    }
    Ok(())
}

/// From where on orders are looked for: a journey knows what came while any looked for it, and in each set one does.
fn watched_from(accepted: &[Accepted]) -> usize {
    accepted.iter().position(|a| a.record.kind == kind::DEF_ACTIVATE && !a.aside).unwrap_or(accepted.len())
}

pub(super) fn event_of(accepted: &Accepted) -> Option<Event> {
    if accepted.record.kind != kind::JOURNEY_ITEM {
        return None;
    }
    match JourneyItem::decode(accepted.record.body.clone()).ok()?.item?.body? {
        Body::Event(bytes) => Event::decode(bytes).ok(),
        Body::Receipt(_) | Body::Settled(_) | Body::Erase(_) | Body::Command(_) => None,
    }
}

fn node_of(accepted: &Accepted) -> Option<Bytes> {
    JourneyItem::decode(accepted.record.body.clone()).ok()?.item.map(|item| item.node)
}

pub(super) fn send_of(out: &Out) -> Option<(Position, Timestamp, Dispatch)> {
    match out {
        Out::Record(record) if record.kind == kind::DISPATCH => {
            Some((record.cause, record.at?, Dispatch::decode(record.body.clone()).ok()?))
        }
        Out::Record(_) | Out::Public(..) | Out::Dead(..) => None,
    }
}

fn learn(known: &mut BTreeMap<Bytes, Known>, moving: &mut BTreeMap<(Bytes, Bytes), Known>, accepted: &Accepted, watched: bool) {
    let record = &accepted.record;
    if let Some(event) = event_of(accepted) {
        let profile = known.entry(record.key.clone()).or_default();
        let entry = match event.name.as_str() {
            "Order Completed" => {
                if watched {
                    profile.order = profile.order.max(event.event_time);
                }
                return;
            }
            "Product Added" => text_of(&event, "cart_id"),
            "Signed Up" => String::new(),
            _ => return,
        };
        let at = profile.entries.entry(entry).or_default();
        *at = event.event_time.max(*at);
    } else if let Some((start, at)) = start_of(accepted) {
        // Begun by hand, if it was: at this moment at the latest.
        let key = if start.journey == "cart" { start.key } else { String::new() };
        let entry = known.entry(record.key.clone()).or_default().entries.entry(key).or_default();
        *entry = at.millis().max(*entry);
    } else if record.kind == kind::ERASED {
        known.insert(record.key.clone(), Known { erased: true, ..Known::default() });
    } else if record.kind == kind::JOURNEY_MERGE_BEGIN {
        if let Some(begin) = JourneyMergeBegin::decode(record.body.clone()).ok().and_then(|moved| moved.begin) {
            moving.insert((begin.loser.clone(), begin.winner), known.remove(&begin.loser).unwrap_or_default());
        }
    } else if record.kind == kind::JOURNEY_MERGE_STATE
        && let Ok(state) = JourneyMergeState::decode(record.body.clone())
    {
        // It may have passed tombstones, so that the winner's id is another than it set out for.
        let arrived = moving.iter().find(|((loser, _), _)| *loser == state.loser).map(|(_, known)| known.clone()).unwrap_or_default();
        let profile = known.entry(record.key.clone()).or_default();
        profile.joined.extend(state.ids.into_iter().chain([state.node]).chain(arrived.joined));
        profile.order = profile.order.max(arrived.order);
        for (entry, at) in arrived.entries {
            let own = profile.entries.entry(entry).or_default();
            *own = at.max(*own);
        }
    }
}

pub(crate) fn text_of(event: &Event, name: &str) -> String {
    text(event.properties.as_ref(), name)
}

pub(super) fn trait_of(event: &Event, name: &str) -> String {
    text(event.traits.as_ref(), name)
}

fn text(object: Option<&Object>, name: &str) -> String {
    let entry = object.into_iter().flat_map(|object| &object.entries).find(|entry| entry.name == name);
    match entry.and_then(|entry| entry.value.as_ref()).and_then(|value| value.kind.as_ref()) {
        Some(waypost_codec::inbox::value::Kind::Text(text)) => text.clone(),
        Some(_) | None => String::new(),
    }
}

fn against(
    world: &World,
    id: PartitionId,
    known: &BTreeMap<Bytes, Known>,
    at: Timestamp,
    dispatch: &Dispatch,
    orders: &BTreeMap<Bytes, Vec<Order>>,
) -> Result<(), Wrong> {
    let profile = known.get(&dispatch.profile).cloned().unwrap_or_default();
    if profile.erased {
        return Err(format!("a send to somebody who is erased: {id}: {} {} at {at}", dispatch.journey, dispatch.step));
    }
    if !matches!(dispatch.journey.as_str(), "cart" | "welcome") {
        // Orders do not stop it.
        return Ok(());
    }
    let key = if dispatch.journey == "cart" { dispatch.run_key.as_str() } else { "" };
    let entered = profile.entries.get(key).copied().unwrap_or(0);
    let name = || format!("{id}: {} {} at {at}", dispatch.journey, dispatch.step);
    if entered == 0 {
        return Err(format!("a send without an entry: {}", name()));
    }
    if profile.order > entered {
        return Err(format!("a stop the state knew: {}", name()));
    }
    let slack = world.config.slack;
    let met = |order: &Order| !order.travelled || profile.joined.contains(&order.node);
    let stopped = |order: &Order| order.acknowledged.plus(slack) < at && order.event_time > entered && met(order);
    // What is sent at once, on an event, is gated by nothing: where halves were joined, only timers are.
    let waited = profile.joined.is_empty() || dispatch.step != "greet";
    if waited && orders.get(&dispatch.profile).is_some_and(|orders| orders.iter().any(stopped)) {
        return Err(format!("a timer against an acknowledged stop: {}", name()));
    }
    Ok(())
}
