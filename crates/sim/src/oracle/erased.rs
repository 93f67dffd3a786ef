//! What is left of those who were erased, at rest: a mark at both stages, and nothing else anywhere (PROTOCOL §10.7).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use waypost_codec::{
    inbox::{Dispatch, EraseAddress, EraseNode, Flush, Recall, SegmentItem, Unsuppress, segment_item::Body},
    kind,
    state::{AddressState, IdentifierState, JourneyProfile, Node, SegmentProfile},
};
use waypost_engine::address;
use waypost_types::{EntityId, Position, Role};

use super::{
    Partitions, Wrong,
    folds::{Ghost, Ghosts, Stage, Standing, decode},
    rest::open,
};
use crate::naive::{Accepted, Out};

/// Every profile is what became of it, both stages agree, and nobody's road leads to somebody who is erased.
///
/// # Errors
/// What is left, and where.
pub(super) fn nothing_is_left(folded: &Partitions, ghosts: &Ghosts) -> Result<(), Wrong> {
    for (stage, ghosts) in [("segmenter", &ghosts.segmenter), ("orchestrator", &ghosts.orchestrator)] {
        if let Some(loser) = ghosts.moving.keys().next() {
            return Err(format!("{stage}: {} left and has not arrived anywhere", short(loser)));
        }
        let is_left = |(profile, ghost): &(&Bytes, &_)| is_tombstone(ghost) && ghosts.standing(&ghosts.end(profile)) == Standing::Erased;
        if let Some((profile, _)) = ghosts.profiles.iter().find(is_left) {
            return Err(format!("{stage}: the tombstone of {} is not buried with whom it moved to", short(profile)));
        }
    }
    for (id, meaning) in folded {
        for (entity, bytes) in &meaning.entities {
            let key = Bytes::copy_from_slice(entity.key());
            let left = match (id.role, entity.kind()) {
                (Role::Segmenter, b'p') => of_segmenter(&key, &open(*id, bytes)?, ghosts),
                (Role::Orchestrator, b'p') => of_orchestrator(&key, &open(*id, bytes)?, ghosts),
                (Role::Identity, b'i') => of_identifier(&open(*id, bytes)?, ghosts),
                _ => Ok(()),
            };
            left.map_err(|what| format!("{id}: {what}"))?;
        }
    }
    marks_stand(folded, ghosts)?;
    sends_are_taken_back(folded, ghosts)?;
    addresses_are_forgotten(folded, ghosts)
}

/// Events that were folded nowhere, since their node was gone when its hold would have ended.
///
/// # Errors
/// One that is missing for no such reason.
pub(super) fn fallen(folded: &Partitions, known: &BTreeSet<[u8; 16]>) -> Result<BTreeSet<[u8; 16]>, Wrong> {
    let mut fallen = BTreeSet::new();
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Identity) {
        // Nodes by what was put out of them: events, and the flushes that began a hold.
        let (mut sent, mut flushed) = (BTreeSet::new(), BTreeMap::<Bytes, Position>::new());
        for out in meaning.put_out.values().flatten() {
            let Out::Record(record) = out else { continue };
            if record.kind == kind::ITEM && matches!(decode::<SegmentItem>(&record.body)?.body, Some(Body::Event(_))) {
                sent.insert(record.id);
            } else if record.kind == kind::FLUSH {
                let node = decode::<Flush>(&record.body)?.node;
                flushed.entry(node).and_modify(|first| *first = record.cause.min(*first)).or_insert(record.cause);
            }
        }
        let mut waits: BTreeMap<Bytes, Vec<&Accepted>> = BTreeMap::new();
        for accepted in &meaning.accepted {
            let identifier = &accepted.record.key;
            if accepted.record.kind == kind::EVENT
                && !accepted.aside
                && !sent.contains(&accepted.record.id)
                && !known.contains(&accepted.record.id)
            {
                waits.entry(identifier.clone()).or_default().push(accepted);
            } else if accepted.record.kind == kind::ERASE_NODE {
                let node = decode::<EraseNode>(&accepted.record.body)?.node;
                let Some(since) = flushed.get(&node) else { continue };
                let held = waits.get_mut(identifier).map(std::mem::take).unwrap_or_default();
                let (held, before): (Vec<_>, Vec<_>) = held.into_iter().partition(|event| event.position > *since);
                fallen.extend(held.iter().map(|event| event.record.id));
                waits.insert(identifier.clone(), before);
            }
        }
        if let Some(lost) = waits.values().flatten().find(|event| !fallen.contains(&event.record.id)) {
            return Err(format!("{id}: the event that came in at {} was sent to nobody, and its node is not gone", lost.position));
        }
    }
    Ok(fallen)
}

fn of_segmenter(key: &Bytes, profile: &SegmentProfile, ghosts: &Ghosts) -> Result<(), Wrong> {
    agrees(key, standing(profile.erased, &profile.moved_to), &ghosts.segmenter)?;
    let mark = SegmentProfile {
        erased: true,
        erased_at: profile.erased_at,
        now: profile.now,
        suppress: profile.suppress,
        ..SegmentProfile::default()
    };
    let events = ghosts.segmenter.profiles.get(key).map_or(0, |ghost| ghost.events);
    if profile.events != events {
        return Err(format!("events came in, {} are in profile {}, {events} ought to be", profile.events, short(key)));
    }
    if !profile.draining.is_empty() {
        return Err(format!("profile {} is draining at rest", short(key)));
    }
    if profile.erased && *profile != mark { Err(format!("something of {} is left, who is erased", short(key))) } else { Ok(()) }
}

fn of_orchestrator(key: &Bytes, profile: &JourneyProfile, ghosts: &Ghosts) -> Result<(), Wrong> {
    agrees(key, standing(profile.erased, &profile.moved_to), &ghosts.orchestrator)?;
    let mark = JourneyProfile { erased: true, erased_at: profile.erased_at, now: profile.now, ..JourneyProfile::default() };
    if !profile.draining.is_empty() {
        return Err(format!("profile {} is draining at rest", short(key)));
    }
    if profile.erased && *profile != mark { Err(format!("something of {} is left, who is erased", short(key))) } else { Ok(()) }
}

/// Every node of an erased profile is gone, with what it held, and none that lives leads there.
fn of_identifier(state: &IdentifierState, ghosts: &Ghosts) -> Result<(), Wrong> {
    for node in &state.generations {
        let name = short(&node.id);
        let holds = node.holding || state.held.iter().any(|held| held.node == node.id);
        if holds {
            return Err(format!("node {name} still holds items back at rest"));
        }
        if node.gone && !(node.known.is_empty() && node.user.is_empty()) {
            return Err(format!("something of node {name} is left, which is gone"));
        }
        if !node.gone && [&ghosts.segmenter, &ghosts.orchestrator].into_iter().any(|stage| leads_nowhere(node, stage)) {
            return Err(format!("node {name} leads to somebody who is erased"));
        }
    }
    Ok(())
}

fn leads_nowhere(node: &Node, stage: &Stage) -> bool {
    stage.standing(&stage.end(&node.route)) == Standing::Erased
}

fn is_tombstone(ghost: &Ghost) -> bool {
    ghost.standing == Standing::Moved
}

fn standing(erased: bool, moved_to: &[u8]) -> Standing {
    match (erased, moved_to.is_empty()) {
        (true, _) => Standing::Erased,
        (false, false) => Standing::Moved,
        (false, true) => Standing::Live,
    }
}

fn agrees(key: &Bytes, there: Standing, stage: &Stage) -> Result<(), Wrong> {
    let here = stage.standing(key);
    if there == here { Ok(()) } else { Err(format!("profile {} is {there:?}, and ought to be {here:?}", short(key))) }
}

/// Who moved, or was erased, is known at both stages.
fn marks_stand(folded: &Partitions, ghosts: &Ghosts) -> Result<(), Wrong> {
    for (role, stage) in [(Role::Segmenter, &ghosts.segmenter), (Role::Orchestrator, &ghosts.orchestrator)] {
        let entities = || folded.iter().filter(|(id, _)| id.role == role).flat_map(|(_, meaning)| meaning.entities.keys());
        let there: BTreeSet<&[u8]> = entities().filter(|entity| entity.kind() == b'p').map(EntityId::key).collect();
        let missing = |(profile, ghost): &(&Bytes, &Ghost)| ghost.standing != Standing::Live && !there.contains(&profile[..]);
        if let Some((profile, _)) = stage.profiles.iter().find(missing) {
            return Err(format!("{role}: nothing says what became of {}", short(profile)));
        }
    }
    Ok(())
}

/// What the senders' logs say to an address, or of a dispatch.
#[derive(Debug, Default)]
struct Said {
    recalled: BTreeSet<Bytes>,
    /// With the profile that had the address, and whether it is never to be used again.
    erased: BTreeMap<Bytes, BTreeMap<Bytes, bool>>,
    /// Addresses that somebody asked to be written to again, whatever they were suppressed for.
    lifted: BTreeSet<Bytes>,
    dispatches: BTreeMap<Bytes, (Bytes, Bytes)>,
}

// === impl Said ===

impl Said {
    fn of(folded: &Partitions) -> Result<Self, Wrong> {
        let mut said = Self::default();
        let accepted = folded.iter().filter(|(id, _)| id.role == Role::Sender).flat_map(|(_, meaning)| &meaning.accepted);
        for Accepted { record, .. } in accepted {
            let key = record.key.clone();
            match record.kind {
                kind::RECALL => drop(said.recalled.insert(decode::<Recall>(&record.body)?.dispatch)),
                kind::ERASE_ADDRESS => {
                    let EraseAddress { suppress, profile, .. } = decode(&record.body)?;
                    *said.erased.entry(key).or_default().entry(profile).or_default() |= suppress;
                }
                kind::UNSUPPRESS if matches!(decode::<Unsuppress>(&record.body)?.reason.as_str(), "" | "ERASED") => {
                    said.lifted.insert(key);
                }
                kind::DISPATCH => {
                    let dispatch = decode::<Dispatch>(&record.body)?;
                    said.dispatches.insert(dispatch.dispatch, (key, dispatch.profile));
                }
                _ => {}
            }
        }
        Ok(said)
    }
}

/// A send that nothing was heard of is recalled, or its address knows that its person is gone.
fn sends_are_taken_back(folded: &Partitions, ghosts: &Ghosts) -> Result<(), Wrong> {
    let said = Said::of(folded)?;
    for send in ghosts.open_sends.difference(&said.recalled) {
        let told = said.dispatches.get(send).is_some_and(|(key, profile)| {
            said.erased.get(key).is_some_and(|erased| erased.iter().any(|(of, suppress)| *suppress || of == profile))
        });
        if !told {
            return Err(format!("the send {} of somebody who is erased was not taken back", short(send)));
        }
    }
    Ok(())
}

/// Each address of an erased profile has heard of it, and what is never to be used again says so.
fn addresses_are_forgotten(folded: &Partitions, ghosts: &Ghosts) -> Result<(), Wrong> {
    let said = Said::of(folded)?;
    let mut states: BTreeMap<Bytes, AddressState> = BTreeMap::new();
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Sender) {
        for (entity, bytes) in meaning.entities.iter().filter(|(entity, _)| entity.kind() == b'a') {
            states.insert(Bytes::copy_from_slice(entity.key()), open(*id, bytes)?);
        }
    }
    for ((profile, address), suppress) in &ghosts.addresses {
        let key = Bytes::copy_from_slice(&address::key("email", address));
        let heard = said.erased.get(&key).and_then(|profiles| profiles.get(profile));
        if heard.is_none_or(|heard| *suppress && !heard) {
            return Err(format!("the address {address} has not heard that {} is erased", short(profile)));
        }
        let state = states.get(&key).cloned().unwrap_or_default();
        if state.last_sends.iter().any(|send| send.profile == *profile) {
            return Err(format!("the address {address} still knows what {} was sent, who is erased", short(profile)));
        }
        let suppressed = state.suppressions.iter().any(|suppression| suppression.reason == "ERASED");
        if *suppress && !suppressed && !said.lifted.contains(&key) {
            return Err(format!("the address {address} of {}, who is erased, may be used again", short(profile)));
        }
    }
    Ok(())
}

fn short(id: &[u8]) -> String {
    hex::encode(&id[..id.len().min(4)])
}
