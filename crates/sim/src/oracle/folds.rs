//! What the state knew at every fold (PROTOCOL §16.3, 3).
//!
//! Beside the state, which the roles keep, the logs are told again to ghosts that know only of whom they have heard
//! what: which events of which identifier, and which sends. Wherever an event of an identifier is folded, all its
//! earlier ones are known, and no later one; the orchestrator decides on exactly the events that its segments were
//! computed from; and what became of a send is told to a profile that knows of the send.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use waypost_codec::{
    inbox::{JourneyItem, JourneyMergeState, MergeState, SegmentItem, segment_item::Body},
    kind,
};
use waypost_types::{PartitionId, Position, Role};

use super::{Partitions, Wrong, causal, stops::send_of};
use crate::naive::Accepted;

/// What one profile has heard at one stage.
#[derive(Clone, Debug, Default)]
struct Ghost {
    /// Number of the last event, by node.
    heard: BTreeMap<Bytes, u64>,
    events: u64,
    /// Dispatches decided here, or by a half that joined.
    sends: BTreeSet<Bytes>,
    moved: bool,
}

/// The profiles of one stage, and those on their way to another.
#[derive(Debug, Default)]
struct Stage {
    profiles: BTreeMap<Bytes, Ghost>,
    moving: BTreeMap<Bytes, Ghost>,
}

#[derive(Debug, Default)]
struct Ghosts {
    /// Of each event at its identifier: the how-manieth.
    numbers: BTreeMap<(Bytes, [u8; 16]), u64>,
    last: BTreeMap<Bytes, u64>,
    segmenter: Stage,
    orchestrator: Stage,
    /// Nodes that any stage has heard of.
    known: [BTreeSet<Bytes>; 2],
    /// How many events a segmenter's item was computed from.
    computed: BTreeMap<(u32, Position), u64>,
}

/// Goes through all folds of a world.
///
/// # Errors
/// A fold that knew too much, too little, or something else than the stage before it.
pub(super) fn knew_what_they_should(folded: &Partitions) -> Result<(), Wrong> {
    let mut ghosts = Ghosts::default();
    let mut decided: BTreeMap<(u32, Position), Vec<(Bytes, Bytes)>> = BTreeMap::new();
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Orchestrator) {
        let outputs = meaning.put_out.iter().filter(|(field, _)| field.starts_with("x:sender:")).flat_map(|(_, outputs)| outputs);
        for (cause, _, dispatch) in outputs.filter_map(send_of) {
            decided.entry((id.index, cause)).or_default().push((dispatch.profile, dispatch.dispatch));
        }
    }
    for (id, accepted) in causal::order(folded)? {
        if id.role == Role::Orchestrator {
            // Timers go before the record that finds them due, which may be the one that takes the profile away.
            for (profile, dispatch) in decided.remove(&(id.index, accepted.position)).into_iter().flatten() {
                ghosts.orchestrator.profiles.entry(profile).or_default().sends.insert(dispatch);
            }
        }
        ghosts.fold(id, accepted).map_err(|why| format!("{id} at {}: {why}", accepted.position))?;
    }
    Ok(())
}

// === impl Ghosts ===

impl Ghosts {
    fn fold(&mut self, id: PartitionId, accepted: &Accepted) -> Result<(), Wrong> {
        let record = &accepted.record;
        match (id.role, record.kind) {
            (Role::Identity, kind::EVENT) => {
                // A repeat is not a new event.
                if let std::collections::btree_map::Entry::Vacant(entry) = self.numbers.entry((record.key.clone(), record.id)) {
                    let last = self.last.entry(record.key.clone()).or_default();
                    *last += 1;
                    entry.insert(*last);
                }
            }
            (Role::Segmenter, kind::ITEM) => {
                let item = decode::<SegmentItem>(&record.body)?;
                if self.segmenter.is_live(&record.key) && matches!(item.body, Some(Body::Event(_))) {
                    self.hear(0, &record.key, record.id, &item)?;
                }
                let events = self.segmenter.profiles.get(&record.key).map_or(0, |ghost| ghost.events);
                self.computed.insert((id.index, accepted.position), events);
            }
            (Role::Segmenter, kind::MERGE_BEGIN) => self.segmenter.leave(&record.key),
            (Role::Segmenter, kind::MERGE_STATE) => self.segmenter.arrive(&record.key, &decode::<MergeState>(&record.body)?.loser),
            (Role::Orchestrator, kind::JOURNEY_MERGE_BEGIN) => self.orchestrator.leave(&record.key),
            (Role::Orchestrator, kind::JOURNEY_MERGE_STATE) => {
                self.orchestrator.arrive(&record.key, &decode::<JourneyMergeState>(&record.body)?.loser);
            }
            (Role::Orchestrator, kind::JOURNEY_ITEM) => self.journey_item(id, accepted)?,
            _ => {}
        }
        Ok(())
    }

    fn journey_item(&mut self, id: PartitionId, accepted: &Accepted) -> Result<(), Wrong> {
        let record = &accepted.record;
        let item = decode::<JourneyItem>(&record.body)?.item.unwrap_or_default();
        match &item.body {
            Some(Body::Event(_)) => self.hear(1, &record.key, record.id, &item)?,
            Some(Body::Receipt(receipt)) => {
                let knows = self.orchestrator.profiles.get(&record.key).is_some_and(|ghost| ghost.sends.contains(&receipt.dispatch));
                if !knows {
                    return Err(format!("a receipt without its send: {}", hex::encode(&receipt.dispatch)));
                }
            }
            Some(Body::Settled(_) | Body::Erase(_)) | None => {}
        }
        let computed = self.computed.get(&(id.index, record.cause)).copied().unwrap_or(0);
        let here = self.orchestrator.profiles.get(&record.key).map_or(0, |ghost| ghost.events);
        if computed == here {
            Ok(())
        } else {
            Err(format!("state at fold: its delta was computed from {computed} events, {here} are known here"))
        }
    }

    /// An event is folded at a live profile, whose ghost hears it.
    fn hear(&mut self, stage: usize, profile: &Bytes, id: [u8; 16], item: &SegmentItem) -> Result<(), Wrong> {
        let Some(identifier) = item.node.get(1..17) else { return Err("an item without node".to_owned()) };
        let number = self.numbers.get(&(Bytes::copy_from_slice(identifier), id)).copied().ok_or("an event that never came in")?;
        let profiles = if stage == 0 { &mut self.segmenter.profiles } else { &mut self.orchestrator.profiles };
        let ghost = profiles.entry(profile.clone()).or_default();
        let first_of_all = self.known[stage].insert(item.node.clone());
        let heard = ghost.heard.insert(item.node.clone(), number);
        ghost.events += 1;
        match heard {
            // A node's first: what came before belonged to an earlier life of its identifier.
            None if first_of_all => Ok(()),
            Some(before) if before + 1 == number => Ok(()),
            Some(before) => Err(format!("state at fold: event {number} of {} is folded on event {before}", hex::encode(identifier))),
            None => Err(format!("state at fold: event {number} of {} is folded where none before it is known", hex::encode(identifier))),
        }
    }
}

// === impl Stage ===

impl Stage {
    fn is_live(&self, profile: &Bytes) -> bool {
        self.profiles.get(profile).is_none_or(|ghost| !ghost.moved)
    }

    fn leave(&mut self, loser: &Bytes) {
        if self.is_live(loser) {
            let ghost = self.profiles.insert(loser.clone(), Ghost { moved: true, ..Ghost::default() });
            self.moving.insert(loser.clone(), ghost.unwrap_or_default());
        }
    }

    /// Only where it is at home; a tombstone passes it on.
    fn arrive(&mut self, winner: &Bytes, loser: &Bytes) {
        if !self.is_live(winner) {
            return;
        }
        let Some(arrived) = self.moving.remove(loser) else { return };
        let ghost = self.profiles.entry(winner.clone()).or_default();
        ghost.events += arrived.events;
        ghost.sends.extend(arrived.sends);
        ghost.heard.extend(arrived.heard);
    }
}

fn decode<M: prost::Message + Default>(body: &Bytes) -> Result<M, Wrong> {
    M::decode(body.clone()).map_err(|e| e.to_string())
}
