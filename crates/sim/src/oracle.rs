//! What must hold of a world at rest (PROTOCOL §16.3).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{Dispatch, Event, JourneyItem, JourneyMergeBegin, JourneyMergeState, segment_item::Body},
    kind, state, stored,
};
use waypost_identity::IdentityProcessor;
use waypost_memory::store::Dump;
use waypost_orchestrator::OrchestratorProcessor;
use waypost_runtime::ports::Delivery;
use waypost_segmenter::SegmenterProcessor;
use waypost_sender::{SenderProcessor, Settings};
use waypost_types::{DispatchId, PartitionId, Role, Timestamp};

use crate::{
    naive::{Accepted, Folded, Out, fold},
    process::CALL_TIMEOUT,
    shop::Shop,
    world::{PUBLIC, World},
};

type Wrong = String;
type Partitions = BTreeMap<PartitionId, Folded>;

/// Judges a world at rest.
///
/// # Errors
/// What does not hold.
pub fn judge(world: &mut World) -> Result<(), Wrong> {
    let folded = fold_all(world)?;
    for (partition, folded) in &folded {
        let dump = world.store.dump(*partition).ok_or_else(|| format!("{partition} has no state"))?;
        same_state(*partition, &dump, folded)?;
    }
    channels(world, &folded)?;
    nothing_lost(world, &folded)?;
    stops_beat_sends(world, &folded)?;
    calls(world, &folded)?;
    let diverged = world.tally.divergences > 0;
    if diverged { Err("a chain found a divergence".to_owned()) } else { Ok(()) }
}

fn all(world: &World) -> impl Iterator<Item = PartitionId> + use<> {
    let partitions = world.layout.partitions;
    Role::KEYED.into_iter().flat_map(move |role| (0..partitions).map(move |index| PartitionId { role, index }))
}

fn fold_all(world: &World) -> Result<Partitions, Wrong> {
    let (layout, config, library) = (world.layout, &world.config, &Shop::get().library);
    let mut folded = Partitions::new();
    for id in all(world) {
        let log: Vec<Delivery> = world.log.all(id.role.inbox().unwrap_or_default(), id.index);
        let meaning = match id.role {
            Role::Identity => fold(IdentityProcessor::new(layout), id.index, layout, config, &log),
            Role::Segmenter => fold(SegmenterProcessor::new(library.clone()), id.index, layout, config, &log),
            Role::Orchestrator => fold(OrchestratorProcessor::new(library.clone()), id.index, layout, config, &log),
            Role::Sender => fold(SenderProcessor::new(Settings { call_timeout: CALL_TIMEOUT }), id.index, layout, config, &log),
            Role::Ingest | Role::Control => continue,
        };
        folded.insert(id, meaning?);
    }
    Ok(folded)
}

/// The store holds what the log means.
fn same_state(id: PartitionId, dump: &Dump, folded: &Folded) -> Result<(), Wrong> {
    let differs = |what: &str, there: String, here: String| Err(format!("independent fold: {id}: {what} is {there}, ought to be {here}"));
    if dump.off != folded.off {
        return differs("the offset", dump.off.to_string(), folded.off.to_string());
    }
    for entity in dump.entities.keys().chain(folded.entities.keys()) {
        let (there, here) = (dump.entities.get(entity), folded.entities.get(entity));
        if there != here {
            let length = |bytes: Option<&Bytes>| bytes.map_or_else(|| "absent".to_owned(), |b| format!("{} bytes", b.len()));
            return differs(&format!("entity {}", hex::encode(entity.as_bytes())), length(there), length(here));
        }
    }
    if dump.timers != folded.timers {
        return differs("the timers", format!("{:?}", dump.timers), format!("{:?}", folded.timers));
    }
    if dump.sequences != folded.sequences {
        return differs("the sequences", format!("{:?}", dump.sequences), format!("{:?}", folded.sequences));
    }
    if dump.meta != folded.meta {
        return differs("meta", format!("{:?}", dump.meta), format!("{:?}", folded.meta));
    }
    Ok(())
}

/// What each partition channel accepted is what its source put out.
fn channels(world: &World, folded: &Partitions) -> Result<(), Wrong> {
    for (source, meaning) in folded {
        for (to, receiver) in folded {
            let field = format!("x:{}:{}", to.role, to.index);
            let put_out = meaning.put_out.get(&field).map_or(&[][..], Vec::as_slice);
            let from = Some((source.role, source.index));
            let accepted: Vec<Out> = receiver.accepted.iter().filter(|a| a.source == from).map(|a| Out::Record(a.record.clone())).collect();
            same_outputs(&format!("{source} → {to}"), put_out, &accepted)?;
        }
        for topic in PUBLIC {
            for partition in 0..world.config.public_partitions {
                let put_out = meaning.put_out.get(&format!("x:{topic}:{partition}")).map_or(&[][..], Vec::as_slice);
                let accepted = read_public(&world.log.all(topic, partition), *source)?;
                same_outputs(&format!("{source} → {topic}/{partition}"), put_out, &accepted)?;
            }
        }
    }
    Ok(())
}

fn same_outputs(channel: &str, put_out: &[Out], accepted: &[Out]) -> Result<(), Wrong> {
    if let Some(at) = put_out.iter().zip(accepted).position(|(a, b)| a != b) {
        return Err(format!("accepted ≠ put out: {channel}, number {}: {:?} ≠ {:?}", at + 1, accepted[at], put_out[at]));
    }
    if put_out.len() == accepted.len() {
        Ok(())
    } else {
        Err(format!("accepted ≠ put out: {channel}: {} accepted, {} put out", accepted.len(), put_out.len()))
    }
}

/// A reader that wants each record of a source once accepts only last + 1.
fn read_public(log: &[Delivery], source: PartitionId) -> Result<Vec<Out>, Wrong> {
    let name = format!("/waypost/{}/{}", source.role, source.index);
    let mut accepted = Vec::new();
    for delivery in log {
        let header = |wanted: &str| delivery.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        if header("ce_source").as_deref() != Some(name.as_bytes()) {
            continue;
        }
        let sequence = header("ce_sequence").and_then(|s| String::from_utf8(s.to_vec()).ok()).and_then(|s| s.parse::<usize>().ok());
        if sequence.ok_or("a public record without sequence")? == accepted.len() + 1 {
            accepted.push(Out::Public(delivery.key.clone().unwrap_or_default(), delivery.headers.clone(), delivery.payload.clone()));
        }
    }
    Ok(accepted)
}

/// Every event that a door appended was folded into one profile, once, at both stages.
fn nothing_lost(world: &mut World, folded: &Partitions) -> Result<(), Wrong> {
    let (mut events, mut items) = (BTreeSet::new(), BTreeSet::new());
    let mut in_profiles = 0;
    for (id, meaning) in folded {
        for accepted in &meaning.accepted {
            match accepted.record.kind {
                kind::EVENT => drop(events.insert(accepted.record.id)),
                kind::MERGE_BEGIN => world.tally.merges += 1,
                kind::JOURNEY_ITEM if event_of(accepted).is_some() && !items.insert(accepted.record.id) => {
                    return Err(format!("{id}: an event comes twice, at {} again", accepted.position));
                }
                _ => {}
            }
        }
        for bytes in meaning.entities.values().filter(|_| id.role == Role::Segmenter) {
            let (_, body) = stored::open(bytes).map_err(|e| format!("{id}: {e}"))?;
            in_profiles += state::SegmentProfile::decode(body).map_err(|e| e.to_string())?.events;
        }
    }
    world.tally.events += events.len() as u64;
    if events == items && events.len() as u64 == in_profiles {
        Ok(())
    } else {
        Err(format!("{} events came in, {in_profiles} are in profiles, {} at the orchestrator", events.len(), items.len()))
    }
}

/// What the orchestrator's log says of one profile.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Event times of carts touched, by cart; of sign-ups under no name.
    entries: BTreeMap<String, i64>,
    /// Event time of the latest order.
    order: i64,
    merged: bool,
}

/// No send is decided for what an order ended that stands before it in the log of the same profile; and, where
/// no profiles were joined, none against an order that was acknowledged before the timer was due.
fn stops_beat_sends(world: &mut World, folded: &Partitions) -> Result<(), Wrong> {
    let mut orders: BTreeMap<Bytes, Vec<(Timestamp, i64)>> = BTreeMap::new();
    for (_, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Orchestrator) {
        for accepted in &meaning.accepted {
            if let Some(event) = event_of(accepted)
                && event.name == "Order Completed"
            {
                let at = accepted.record.at.unwrap_or(accepted.appended);
                orders.entry(accepted.record.key.clone()).or_default().push((at, event.event_time));
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
            for accepted in &meaning.accepted {
                // The record is known before what it decides; timers it lets fire first are older than it.
                let before = known.clone();
                learn(&mut known, &mut moving, accepted);
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

fn event_of(accepted: &Accepted) -> Option<Event> {
    if accepted.record.kind != kind::JOURNEY_ITEM {
        return None;
    }
    match JourneyItem::decode(accepted.record.body.clone()).ok()?.item?.body? {
        Body::Event(bytes) => Event::decode(bytes).ok(),
        Body::Receipt(_) | Body::Settled(_) | Body::Erase(_) => None,
    }
}

fn send_of(out: &Out) -> Option<(waypost_types::Position, Timestamp, Dispatch)> {
    match out {
        Out::Record(record) if record.kind == kind::DISPATCH => {
            Some((record.cause, record.at?, Dispatch::decode(record.body.clone()).ok()?))
        }
        Out::Record(_) | Out::Public(..) => None,
    }
}

fn learn(known: &mut BTreeMap<Bytes, Known>, moving: &mut BTreeMap<(Bytes, Bytes), Known>, accepted: &Accepted) {
    let record = &accepted.record;
    if let Some(event) = event_of(accepted) {
        let profile = known.entry(record.key.clone()).or_default();
        let entry = match event.name.as_str() {
            "Order Completed" => {
                profile.order = profile.order.max(event.event_time);
                return;
            }
            "Product Added" => text_of(&event, "cart_id"),
            "Signed Up" => String::new(),
            _ => return,
        };
        let at = profile.entries.entry(entry).or_default();
        *at = event.event_time.max(*at);
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
        profile.merged = true;
        profile.order = profile.order.max(arrived.order);
        for (entry, at) in arrived.entries {
            let own = profile.entries.entry(entry).or_default();
            *own = at.max(*own);
        }
    }
}

fn text_of(event: &Event, name: &str) -> String {
    let property = event.properties.iter().flat_map(|object| &object.entries).find(|property| property.name == name);
    match property.and_then(|property| property.value.as_ref()).and_then(|value| value.kind.as_ref()) {
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
    orders: &BTreeMap<Bytes, Vec<(Timestamp, i64)>>,
) -> Result<(), Wrong> {
    let profile = known.get(&dispatch.profile).cloned().unwrap_or_default();
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
    let stopped = |(acknowledged, event_time): &(Timestamp, i64)| acknowledged.plus(slack) < at && *event_time > entered;
    if !profile.merged && orders.get(&dispatch.profile).is_some_and(|orders| orders.iter().any(stopped)) {
        return Err(format!("a timer against an acknowledged stop: {}", name()));
    }
    Ok(())
}

/// Marketing goes out once at most, and nobody knows nothing without a reason.
fn calls(world: &mut World, folded: &Partitions) -> Result<(), Wrong> {
    let sent = world.provider.sent();
    let (calls, _) = world.provider.calls();
    world.tally.calls += calls;
    if let Some((dispatch, count)) = sent.iter().find(|(_, count)| **count > 1) {
        return Err(format!("provider count: dispatch {dispatch} went out {count} times"));
    }
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Sender) {
        for (entity, bytes) in meaning.entities.iter().filter(|(entity, _)| entity.kind() == b'd') {
            let (_, body) = stored::open(bytes).map_err(|e| format!("{id}: {e}"))?;
            let dispatch = state::DispatchState::decode(body).map_err(|e| e.to_string())?;
            let name = DispatchId::from_slice(entity.key()).map_err(|e| e.to_string())?.to_string();
            let count = sent.get(&name).copied().unwrap_or(0);
            let phase = dispatch.phase();
            let fits = match phase {
                state::DispatchPhase::Done => count == 1,
                state::DispatchPhase::Stopped | state::DispatchPhase::Failed => count == 0,
                state::DispatchPhase::Unknown => true,
                state::DispatchPhase::Unspecified
                | state::DispatchPhase::Ready
                | state::DispatchPhase::Inflight
                | state::DispatchPhase::InDoubt
                | state::DispatchPhase::Retry => return Err(format!("dispatch {name} is {} at rest", phase.as_str_name())),
            };
            if !fits {
                return Err(format!("dispatch {name} is {} and went out {count} times", phase.as_str_name()));
            }
            if phase == state::DispatchPhase::Unknown {
                world.tally.unknowns += 1;
                if !world.drawn.may_leave_unknown() {
                    return Err(format!("dispatch {name} is unknown, and nothing was broken"));
                }
            }
        }
    }
    Ok(())
}
