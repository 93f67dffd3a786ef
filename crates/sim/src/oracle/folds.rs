//! What the state knew at every fold (PROTOCOL §16.3, 3).
//!
//! Beside the state, which the roles keep, the logs are told again to ghosts that know only of whom they have heard
//! what: which events of which identifier, and which sends. Wherever an event of an identifier is folded, all its
//! earlier ones are known, and no later one; the orchestrator decides on exactly the events that its segments were
//! computed from; and what became of a send is told to a profile that knows of the send. Who is erased knows nothing
//! from then on and stays where they are; what still comes to them is answered, and nobody else ever is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{Erased, Event, Gone, JourneyItem, JourneyMergeState, MergeBegin, MergeState, SegmentItem, segment_item::Body},
    kind,
};
use waypost_types::{IdentifierClass, PartitionId, Position, Role};

use super::{
    Partitions, Wrong, causal,
    stops::{send_of, trait_of},
    window::Counted,
};
use crate::naive::{Accepted, Out};

/// What became of a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    #[default]
    Live,
    Moved,
    Erased,
}

/// What one profile has heard at one stage.
#[derive(Clone, Debug, Default)]
pub(super) struct Ghost {
    pub(super) standing: Standing,
    /// Where it moved, whatever became of that.
    pub(super) moved_to: Bytes,
    /// It was erased, and its addresses are never to be used again.
    suppress: bool,
    pub(super) events: u64,
    /// Number of the last event, by node.
    heard: BTreeMap<Bytes, u64>,
    /// Dispatches decided here, or by a half that joined; those that nothing was heard of.
    sends: BTreeMap<Bytes, bool>,
    addresses: BTreeSet<String>,
}

/// The profiles of one stage, and those on their way to another.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) profiles: BTreeMap<Bytes, Ghost>,
    pub(super) moving: BTreeMap<Bytes, Ghost>,
}

/// By identifier and event.
type Numbers = BTreeMap<(Bytes, [u8; 16]), VecDeque<u64>>;

/// All there is to know of a world's people.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    pub(super) segmenter: Stage,
    pub(super) orchestrator: Stage,
    /// Events that came to somebody who was erased.
    pub(super) answered: BTreeSet<[u8; 16]>,
    /// Sends of erased people that nothing had been heard of.
    pub(super) open_sends: BTreeSet<Bytes>,
    /// Erased profiles with each address they had, and whether it is never to be used again.
    pub(super) addresses: BTreeMap<(Bytes, String), bool>,
    /// Profiles erased with suppression of their addresses, and without.
    pub(super) erases: u64,
    pub(super) expires: u64,
    /// Tombstones that went with the profile they lead to.
    pub(super) buries: u64,
    /// Of each event at its identifier, the how-manieth it is, each time that it counts: what either stage has not heard.
    numbers: [Numbers; 2],
    /// Of events by where they came in, and by where a segmenter heard them: a copy of an event whose id was forgotten
    /// may overtake it, and has a number of its own.
    came: BTreeMap<(u32, Position), u64>,
    told: BTreeMap<(u32, Position), u64>,
    last: BTreeMap<Bytes, u64>,
    /// Nodes that any stage has heard of.
    known: [BTreeSet<Bytes>; 2],
    /// How many events a segmenter's item was computed from.
    computed: BTreeMap<(u32, Position), u64>,
    /// Records that a segmenter's partition answered as those of an erased profile.
    answers: BTreeSet<(u32, Position)>,
}

/// Goes through all folds of a world.
///
/// # Errors
/// A fold that knew too much, too little, or something else than the stage before it.
pub(super) fn knew_what_they_should(folded: &Partitions, counted: &Counted) -> Result<Ghosts, Wrong> {
    let mut ghosts = Ghosts::default();
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Segmenter) {
        ghosts.answers.extend(meaning.put_out.values().flatten().filter_map(answer_of).map(|cause| (id.index, cause)));
    }
    let mut decided: BTreeMap<(u32, Position), Vec<(Bytes, Bytes)>> = BTreeMap::new();
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Orchestrator) {
        let outputs = meaning.put_out.iter().filter(|(field, _)| field.starts_with("x:sender:")).flat_map(|(_, outputs)| outputs);
        for (cause, _, dispatch) in outputs.filter_map(send_of) {
            decided.entry((id.index, cause)).or_default().push((dispatch.profile, dispatch.dispatch));
        }
    }
    for (id, accepted) in causal::order(folded)? {
        if accepted.record.kind == kind::EVENT && !counted.contains(&(id, accepted.position)) {
            // A repeat is not a new event.
            continue;
        }
        if id.role == Role::Orchestrator {
            // Timers go before the record that finds them due, which may be the one that takes the profile away.
            for (profile, dispatch) in decided.remove(&(id.index, accepted.position)).into_iter().flatten() {
                ghosts.orchestrator.profiles.entry(profile).or_default().sends.insert(dispatch, true);
            }
        }
        ghosts.fold(id, accepted).map_err(|why| format!("{id} at {}: {why}", accepted.position))?;
    }
    Ok(ghosts)
}

/// What a segmenter's output answers, if it says that a profile is gone for somebody.
fn answer_of(out: &Out) -> Option<Position> {
    let Out::Record(record) = out else { return None };
    let names_any = record.kind == kind::GONE && !Gone::decode(record.body.clone()).ok()?.nodes.is_empty();
    names_any.then_some(record.cause)
}

// === impl Ghosts ===

impl Ghosts {
    fn fold(&mut self, id: PartitionId, accepted: &Accepted) -> Result<(), Wrong> {
        let record = &accepted.record;
        if id.role == Role::Segmenter
            && self.answers.contains(&(id.index, accepted.position))
            && self.segmenter.standing(&record.key) != Standing::Erased
        {
            return Err("state at fold: somebody is answered as if erased, and is not".to_owned());
        }
        match (id.role, record.kind) {
            (Role::Identity, kind::EVENT) => {
                let last = self.last.entry(record.key.clone()).or_default();
                *last += 1;
                for numbers in &mut self.numbers {
                    numbers.entry((record.key.clone(), record.id)).or_default().push_back(*last);
                }
                self.came.insert((id.index, accepted.position), *last);
            }
            (Role::Segmenter, kind::ITEM | kind::RUN_ITEM) => {
                self.item(id, accepted)?;
                let events = self.segmenter.profiles.get(&record.key).map_or(0, |ghost| ghost.events);
                self.computed.insert((id.index, accepted.position), events);
            }
            (Role::Segmenter, kind::MERGE_BEGIN) => self.segmenter.leave(&record.key, &decode::<MergeBegin>(&record.body)?.winner),
            (Role::Segmenter, kind::MERGE_STATE) => {
                if let Some(late) = self.segmenter.arrive(&record.key, &decode::<MergeState>(&record.body)?.loser) {
                    let suppress = self.segmenter.profiles.get(&record.key).is_some_and(|ghost| ghost.suppress);
                    self.forget_addresses(&record.key, late, suppress);
                }
            }
            (Role::Segmenter, kind::BURY) => self.bury(&record.key),
            (Role::Orchestrator, kind::JOURNEY_MERGE_BEGIN) => {
                let winner = self.segmenter.profiles.get(&record.key).map(|ghost| ghost.moved_to.clone()).unwrap_or_default();
                self.orchestrator.leave(&record.key, &winner);
            }
            (Role::Orchestrator, kind::JOURNEY_MERGE_STATE) => {
                drop(self.orchestrator.arrive(&record.key, &decode::<JourneyMergeState>(&record.body)?.loser));
            }
            (Role::Orchestrator, kind::JOURNEY_ITEM | kind::JOURNEY_RUN_ITEM) => self.journey_item(id, accepted)?,
            (Role::Orchestrator, kind::ERASED) => self.erased(&record.key, &decode::<Erased>(&record.body)?),
            _ => {}
        }
        Ok(())
    }

    fn item(&mut self, id: PartitionId, accepted: &Accepted) -> Result<(), Wrong> {
        let record = &accepted.record;
        let item = decode::<SegmentItem>(&record.body)?;
        match (self.segmenter.standing(&record.key), &item.body) {
            (Standing::Live, Some(Body::Event(bytes))) => {
                let straight = accepted.source.filter(|(role, _)| *role == Role::Identity);
                let number = straight.and_then(|(_, index)| self.came.get(&(index, record.cause)).copied());
                let number = self.hear(0, &record.key, record.id, &item, number)?;
                self.told.insert((id.index, accepted.position), number);
                let ghost = self.segmenter.profiles.entry(record.key.clone()).or_default();
                ghost.addresses.extend(addresses(&decode::<Event>(bytes)?));
            }
            (Standing::Live, Some(Body::Erase(erase))) => {
                let count = if erase.suppress { &mut self.erases } else { &mut self.expires };
                *count += 1;
                let was = self.segmenter.erase(&record.key, erase.suppress);
                self.forget_addresses(&record.key, was, erase.suppress);
            }
            (Standing::Erased, Some(Body::Event(_))) => {
                self.answered.insert(record.id);
                // Nobody folds anything of it any more.
                self.known[0].insert(item.node);
            }
            (Standing::Live | Standing::Erased | Standing::Moved, _) => {}
        }
        Ok(())
    }

    /// A tombstone goes with the profile at the end of its road, and as that one went.
    fn bury(&mut self, loser: &Bytes) {
        if self.segmenter.standing(loser) == Standing::Moved {
            self.buries += 1;
            let end = self.segmenter.end(loser);
            let suppress = self.segmenter.profiles.get(&end).is_some_and(|ghost| ghost.suppress);
            self.segmenter.erase(loser, suppress);
        }
    }

    fn forget_addresses(&mut self, profile: &Bytes, was: Ghost, suppress: bool) {
        for address in was.addresses {
            *self.addresses.entry((profile.clone(), address)).or_default() |= suppress;
        }
    }

    fn erased(&mut self, profile: &Bytes, erased: &Erased) {
        let late = erased.losers.iter().filter_map(|loser| self.orchestrator.moving.remove(loser)).collect::<Vec<_>>();
        for was in late.into_iter().chain([self.orchestrator.erase(profile, erased.suppress)]) {
            self.open_sends.extend(was.sends.into_iter().filter(|(_, open)| *open).map(|(dispatch, _)| dispatch));
        }
    }

    fn journey_item(&mut self, id: PartitionId, accepted: &Accepted) -> Result<(), Wrong> {
        let record = &accepted.record;
        let item = decode::<JourneyItem>(&record.body)?.item.unwrap_or_default();
        if self.orchestrator.standing(&record.key) == Standing::Erased {
            return Err("state at fold: an item of somebody who is erased".to_owned());
        }
        match &item.body {
            Some(Body::Event(_)) => {
                let number = self.told.get(&(id.index, record.cause)).copied();
                self.hear(1, &record.key, record.id, &item, number)?;
            }
            Some(Body::Receipt(receipt)) => {
                let send = self.orchestrator.profiles.get_mut(&record.key).and_then(|ghost| ghost.sends.get_mut(&receipt.dispatch));
                *send.ok_or_else(|| format!("a receipt without its send: {}", hex::encode(&receipt.dispatch)))? = false;
            }
            Some(Body::Settled(_) | Body::Erase(_) | Body::Command(_)) | None => {}
        }
        let computed = self.computed.get(&(id.index, record.cause)).copied().unwrap_or(0);
        let here = self.orchestrator.profiles.get(&record.key).map_or(0, |ghost| ghost.events);
        if computed == here {
            Ok(())
        } else {
            Err(format!("state at fold: its delta was computed from {computed} events, {here} are known here"))
        }
    }

    /// An event is folded at a live profile, whose ghost hears it: the `copy`, where that is known, else the first there is.
    fn hear(&mut self, stage: usize, profile: &Bytes, id: [u8; 16], item: &SegmentItem, copy: Option<u64>) -> Result<u64, Wrong> {
        let Some(identifier) = item.node.get(1..17) else { return Err("an item without node".to_owned()) };
        let numbers = self.numbers[stage].get_mut(&(Bytes::copy_from_slice(identifier), id));
        let take = |numbers: &mut VecDeque<u64>| {
            let at = numbers.iter().position(|number| copy.is_none_or(|copy| copy == *number))?;
            numbers.remove(at)
        };
        let number = numbers.and_then(take).ok_or("an event that never came in")?;
        let profiles = if stage == 0 { &mut self.segmenter.profiles } else { &mut self.orchestrator.profiles };
        let ghost = profiles.entry(profile.clone()).or_default();
        let first_of_all = self.known[stage].insert(item.node.clone());
        let heard = ghost.heard.insert(item.node.clone(), number);
        ghost.events += 1;
        match heard {
            // A node's first: what came before belonged to an earlier life of its identifier.
            None if first_of_all => Ok(number),
            Some(before) if before + 1 == number => Ok(number),
            Some(before) => Err(format!("state at fold: event {number} of {} is folded on event {before}", hex::encode(identifier))),
            None => Err(format!("state at fold: event {number} of {} is folded where none before it is known", hex::encode(identifier))),
        }
    }
}

// === impl Stage ===

impl Stage {
    pub(super) fn standing(&self, profile: &Bytes) -> Standing {
        self.profiles.get(profile).map_or(Standing::Live, |ghost| ghost.standing)
    }

    /// Where the road from a profile ends.
    pub(super) fn end(&self, from: &Bytes) -> Bytes {
        let mut at = from;
        while let Some(ghost) = self.profiles.get(at).filter(|ghost| !ghost.moved_to.is_empty()) {
            at = &ghost.moved_to;
        }
        at.clone()
    }

    fn leave(&mut self, loser: &Bytes, winner: &Bytes) {
        if self.standing(loser) == Standing::Live {
            let tombstone = Ghost { standing: Standing::Moved, moved_to: winner.clone(), ..Ghost::default() };
            let ghost = self.profiles.insert(loser.clone(), tombstone);
            self.moving.insert(loser.clone(), ghost.unwrap_or_default());
        }
    }

    /// Only where it is at home; a tombstone passes it on. Returned where it comes too late.
    fn arrive(&mut self, winner: &Bytes, loser: &Bytes) -> Option<Ghost> {
        match self.standing(winner) {
            Standing::Moved => None,
            Standing::Erased => self.moving.remove(loser),
            Standing::Live => {
                let arrived = self.moving.remove(loser)?;
                let ghost = self.profiles.entry(winner.clone()).or_default();
                ghost.events += arrived.events;
                for (dispatch, open) in arrived.sends {
                    *ghost.sends.entry(dispatch).or_insert(open) &= open;
                }
                ghost.heard.extend(arrived.heard);
                ghost.addresses.extend(arrived.addresses);
                None
            }
        }
    }

    /// Nothing is left of a profile but what became of it.
    fn erase(&mut self, profile: &Bytes, suppress: bool) -> Ghost {
        let ghost = self.profiles.entry(profile.clone()).or_default();
        if ghost.standing == Standing::Erased {
            return Ghost::default();
        }
        let mark = Ghost { standing: Standing::Erased, suppress, moved_to: ghost.moved_to.clone(), ..Ghost::default() };
        std::mem::replace(ghost, mark)
    }
}

/// Where an event says that its person can be written to.
fn addresses(event: &Event) -> impl Iterator<Item = String> {
    let named = event.identifiers.iter().filter(|i| i.class == IdentifierClass::Email.number()).map(|i| i.value.clone());
    named.chain([trait_of(event, "email")]).filter(|address| !address.is_empty()).collect::<Vec<_>>().into_iter()
}

pub(super) fn decode<M: prost::Message + Default>(body: &Bytes) -> Result<M, Wrong> {
    M::decode(body.clone()).map_err(|e| e.to_string())
}
