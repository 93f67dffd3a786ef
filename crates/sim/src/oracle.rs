//! What must hold of a world at rest (PROTOCOL §16.3).

mod calls;
mod causal;
mod commanded;
mod decided;
mod erased;
mod fence;
mod folds;
mod held;
mod kept;
mod overflows;
mod own;
mod rest;
mod stops;
mod tokens;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{kind, state, stored};
use waypost_memory::store::Dump;
use waypost_runtime::ports::Delivery;
use waypost_types::{Node, PartitionId, Position, Role, Span};

pub(crate) use self::stops::text_of;
use self::{commanded::Meddled, folds::Ghosts, window::Counted};
use crate::{
    faults::Fault,
    naive::{Accepted, Folded, Out, fold},
    world::{PUBLIC, World, set_aside},
};

/// So long after its due, a timer has fired in a world at rest.
const OVERDUE: Span = Span::from_secs(10);

pub(crate) type Wrong = String;
pub(crate) type Partitions = BTreeMap<PartitionId, Folded>;

/// Judges a world at rest.
///
/// # Errors
/// What does not hold.
pub fn judge(world: &mut World) -> Result<(), Wrong> {
    let folded = fold_all(world)?;
    for (partition, folded) in &folded {
        let dump = world.store.dump(*partition).ok_or_else(|| format!("{partition} has no state"))?;
        same_state(*partition, &dump, folded)?;
        no_timer_forgotten(world, *partition, &dump)?;
    }
    channels(world, &folded)?;
    let counted = window::counted(&folded, world.roles.limits.seen);
    comes_once(world, &folded, &counted)?;
    let ghosts = folds::knew_what_they_should(&folded, &counted)?;
    nothing_lost(world, &folded, &counted, &ghosts)?;
    rest::rests(world, &folded)?;
    erased::nothing_is_left(&folded, &ghosts)?;
    world.tally.overflows += overflows::overflows(&folded);
    world.tally.engines += folded.values().filter(|meaning| meaning.meta.eng > world.config.engine).count() as u64;
    own::timers_before_what_came_later(world, &folded)?;
    // A false acknowledgement makes a watermark false: until the repair a timer may fire against a stop.
    if !world.dice.has_struck(Fault::FalselyAcknowledged) {
        stops::stops_beat_sends(world, &folded)?;
        let meddled = Meddled::of(world, &folded)?;
        world.tally.kept += kept::reminders(&folded, &meddled)? + tokens::tokens(world, &folded, &meddled)?;
    }
    held::held(world, &folded)?;
    commanded::commanded(world, &folded, &ghosts)?;
    calls::calls(world, &folded)?;
    fence::fence(world, &folded)?;
    let diverged = world.tally.divergences > 0;
    if diverged { Err("a chain found a divergence".to_owned()) } else { Ok(()) }
}

fn all(world: &World) -> impl Iterator<Item = PartitionId> + use<> {
    let partitions = world.layout.partitions;
    Role::KEYED.into_iter().flat_map(move |role| (0..partitions).map(move |index| PartitionId { role, index }))
}

pub(crate) fn fold_all(world: &World) -> Result<Partitions, Wrong> {
    let (layout, config, library) = (world.layout, &world.config, &world.shop.library);
    let mut folded = Partitions::new();
    for id in all(world) {
        let log: Vec<Delivery> = world.whole_log(id);
        let aside = set_aside(world, id);
        let meaning = match id.role {
            Role::Identity => fold(world.roles.identity(), id.index, layout, config, aside, &log),
            Role::Segmenter => fold(world.roles.segmenter(library), id.index, layout, config, aside, &log),
            Role::Orchestrator => fold(world.roles.orchestrator(library), id.index, layout, config, aside, &log),
            Role::Sender => fold(world.roles.sender(), id.index, layout, config, aside, &log),
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

/// Nobody is to be woken at an instant long gone by.
fn no_timer_forgotten(world: &World, id: PartitionId, dump: &Dump) -> Result<(), Wrong> {
    let before = world.clock.now().minus(OVERDUE);
    match dump.timers.iter().find(|(_, due)| **due < before) {
        Some((entity, due)) => Err(format!("{id}: the timer of {} was due at {due}", hex::encode(entity.as_bytes()))),
        None => Ok(()),
    }
}

/// What each partition channel accepted is what its source put out.
fn channels(world: &World, folded: &Partitions) -> Result<(), Wrong> {
    let in_public = |topic: &'static str| (0..world.config.public_partitions).map(move |partition| (topic, partition));
    let public: Vec<(&str, u32, Vec<Delivery>)> =
        PUBLIC.into_iter().flat_map(in_public).map(|(topic, partition)| (topic, partition, world.log.all(topic, partition))).collect();
    let dead: Vec<Delivery> = (0..world.config.dead_partitions).flat_map(|partition| world.log.all("wp1.dead", partition)).collect();
    for (source, meaning) in folded {
        for (to, receiver) in folded {
            let field = format!("x:{}:{}", to.role, to.index);
            let put_out = meaning.put_out.get(&field).map_or(&[][..], Vec::as_slice);
            let from = Some((source.role, source.index));
            let accepted: Vec<Out> = receiver.accepted.iter().filter(|a| a.source == from).map(|a| Out::Record(a.record.clone())).collect();
            same_outputs(&format!("{source} → {to}"), put_out, &accepted)?;
        }
        letters(&dead, *source, meaning)?;
        for (topic, partition, log) in &public {
            let put_out = meaning.put_out.get(&format!("x:{topic}:{partition}")).map_or(&[][..], Vec::as_slice);
            let accepted = read_public(log, *source)?;
            same_outputs(&format!("{source} → {topic}/{partition}"), put_out, &accepted)?;
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
        let header = |wanted: &str| delivery.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        if header("ce_source").map(|value| &value[..]) != Some(name.as_bytes()) {
            continue;
        }
        let sequence = header("ce_sequence").and_then(|s| String::from_utf8(s.to_vec()).ok()).and_then(|s| s.parse::<usize>().ok());
        if sequence.ok_or("a public record without sequence")? == accepted.len() + 1 {
            accepted.push(Out::Public(delivery.key.clone().unwrap_or_default(), delivery.headers.clone(), delivery.payload.clone()));
        }
    }
    Ok(accepted)
}

/// What was set aside is in the dead letters, whole, and nothing else is. Where, whoever reads them knows by name:
/// a letter that comes again is the same.
fn letters(dead: &[Delivery], source: PartitionId, meaning: &Folded) -> Result<(), Wrong> {
    let prefix = format!("{}/{}/", source.role, source.index);
    let mut there = BTreeMap::new();
    for delivery in dead {
        let header = |wanted: &str| delivery.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        let text = |wanted: &str| header(wanted).map_or_else(String::new, |value| String::from_utf8_lossy(&value).into_owned());
        if text("origin").starts_with(&prefix) {
            there.insert(text("origin"), (text("reason"), delivery.payload.clone()));
        }
    }
    let put_out = meaning.put_out.iter().filter(|(field, _)| field.starts_with("x:wp1.dead:")).flat_map(|(_, outs)| outs);
    let named = |out: &Out| match out {
        Out::Dead(origin, reason, bytes) => Some((origin.clone(), (reason.clone(), bytes.clone()))),
        Out::Record(_) | Out::Public(..) => None,
    };
    let put_out: BTreeMap<_, _> = put_out.filter_map(named).collect();
    if there == put_out {
        Ok(())
    } else {
        Err(format!("accepted ≠ put out: {source}: the dead letters are {there:?}, ought to be {put_out:?}"))
    }
}

/// No event is folded more often than it counts.
fn comes_once(world: &mut World, folded: &Partitions, counted: &Counted) -> Result<(), Wrong> {
    let (events, mut items) = (times(folded, counted), BTreeMap::<_, u64>::new());
    for (id, meaning) in folded {
        for accepted in &meaning.accepted {
            match accepted.record.kind {
                kind::MERGE_BEGIN => world.tally.merges += 1,
                kind::RECALL => world.tally.recalls += 1,
                kind::DETACH => world.tally.detaches += u64::from(began_a_life(meaning, accepted)?),
                kind::JOURNEY_ITEM if stops::event_of(accepted).is_some() => {
                    let times = items.entry(accepted.record.id).or_default();
                    *times += 1;
                    if *times > events.get(&accepted.record.id).copied().unwrap_or(0) {
                        return Err(format!("{id}: an event comes twice, at {} again", accepted.position));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a node is named after this record of its identifier.
fn began_a_life(meaning: &Folded, accepted: &Accepted) -> Result<bool, Wrong> {
    let state = meaning.entities.iter().find(|(entity, _)| entity.kind() == b'i' && entity.key() == &accepted.record.key[..]);
    let Some((_, bytes)) = state else { return Ok(false) };
    let (_, body) = stored::open(bytes).map_err(|e| e.to_string())?;
    let nodes = state::IdentifierState::decode(body).map_err(|e| e.to_string())?.generations;
    let Position { offset, index } = accepted.position;
    let begun = |node: &state::Node| Node::from_slice(&node.id).is_ok_and(|n| (n.generation.offset, n.generation.index) == (offset, index));
    Ok(nodes.iter().any(begun))
}

/// How often each event counts.
fn times(folded: &Partitions, counted: &Counted) -> BTreeMap<[u8; 16], u64> {
    let mut times = BTreeMap::new();
    for (id, meaning) in folded {
        for accepted in meaning.accepted.iter().filter(|accepted| counted.contains(&(*id, accepted.position))) {
            *times.entry(accepted.record.id).or_default() += 1;
        }
    }
    times
}

/// Every event that counts was folded into one profile, at both stages; or it came to somebody who was erased, and
/// was answered, or it waited at a node that went with its person.
fn nothing_lost(world: &mut World, folded: &Partitions, counted: &Counted, ghosts: &Ghosts) -> Result<(), Wrong> {
    let (events, mut items) = (times(folded, counted), BTreeMap::<_, u64>::new());
    for accepted in folded.values().flat_map(|meaning| &meaning.accepted).filter(|accepted| stops::event_of(accepted).is_some()) {
        *items.entry(accepted.record.id).or_default() += 1;
    }
    let there: BTreeSet<_> = items.keys().copied().collect();
    world.tally.events += events.len() as u64;
    world.tally.forgotten_ids += events.values().map(|times| times - 1).sum::<u64>();
    world.tally.erases += ghosts.erases;
    world.tally.expires += ghosts.expires;
    world.tally.buries += ghosts.buries;
    world.tally.answered += ghosts.answered.len() as u64;
    let fallen = erased::fallen(folded, &there)?;
    world.tally.fallen += fallen.len() as u64;
    let explained: BTreeSet<_> = ghosts.answered.union(&fallen).copied().collect();
    if let Some(both) = explained.intersection(&there).next() {
        return Err(format!("event {} came in, was folded, and went with somebody who was erased before", hex::encode(both)));
    }
    let arrived = |(id, times): (&[u8; 16], &u64)| explained.contains(id) || items.get(id) == Some(times);
    if events.iter().all(arrived) {
        Ok(())
    } else {
        let (gone, there) = (explained.len(), there.len());
        Err(format!("{} events came in, {there} are at the orchestrator, {gone} came to nobody who is there", events.len()))
    }
}
