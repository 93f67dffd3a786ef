//! Identity, segmenter and orchestrator over perfect channels: what a source puts out for a destination arrives
//! once and in order, whenever it likes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use waypost_codec::{frame::Record, inbox::DefActivate, kind};
use waypost_engine::{identity::Limits, library::Library};
use waypost_identity::{Identifier, IdentityProcessor};
use waypost_orchestrator::{OrchestratorProcessor, Profile as JourneyProfile};
use waypost_runtime::processor::{Entity, Fireable, Fold, Output, Processor};
use waypost_segmenter::{Profile as SegmentProfile, SegmenterProcessor};
use waypost_sim::shop::Shop;
use waypost_types::{ContentHash, EntityId, Layout, Position, Role, Timestamp, WorkspaceId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// A stage's partition; 0 and 1.
pub(crate) type Seat = (Role, usize);
/// Which partitions an identifier's node and its profile fall to.
pub(crate) type Placement = [(usize, usize)];

/// The rules in force, all of them unless said otherwise.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rules {
    pub(crate) identity: waypost_engine::identity::Rules,
    pub(crate) segmenter: waypost_segmenter::Rules,
    pub(crate) orchestrator: waypost_orchestrator::Rules,
}

/// The logic, shared by all states.
pub(crate) struct Logic {
    identity: IdentityProcessor,
    segmenter: SegmenterProcessor,
    orchestrator: OrchestratorProcessor,
    /// Partitions by identifier hash.
    seats: BTreeMap<Bytes, (usize, usize)>,
}

/// What lies in one partition, encoded; a function of what was folded there.
type Store<E> = BTreeMap<EntityId, Option<E>>;

/// One state of the world.
#[derive(Clone, Default)]
pub(crate) struct Line {
    pub(crate) identity: [Store<Identifier>; 2],
    pub(crate) segments: [Store<SegmentProfile>; 2],
    pub(crate) journeys: [Store<JourneyProfile>; 2],
    /// By source, none for a door, and destination.
    pub(crate) channels: BTreeMap<(Option<Seat>, Seat), VecDeque<Record>>,
    /// Whether time has been let fire once.
    pub(crate) fired: bool,
    /// Log time of the latest record folded.
    pub(crate) now: Timestamp,
}

// === impl Logic ===

impl Logic {
    pub(crate) fn new(identifiers: &[Bytes], placement: &Placement, rules: Rules) -> Self {
        let shop = Shop::get();
        let newest: &DefActivate = shop.sets.last().unwrap();
        let defv = Library::defv_of(newest.set, &ContentHash::from_slice(&newest.hash).unwrap());
        let mut segmenter = SegmenterProcessor::new(Arc::clone(&shop.library)).with_rules(rules.segmenter);
        let mut orchestrator = OrchestratorProcessor::new(Arc::clone(&shop.library)).with_rules(rules.orchestrator);
        segmenter.define(&defv);
        orchestrator.define(&defv);
        Self {
            identity: IdentityProcessor::new(Layout { number: 1, partitions: 2 }).under(Limits::default(), rules.identity),
            segmenter,
            orchestrator,
            seats: identifiers.iter().cloned().zip(placement.iter().copied()).collect(),
        }
    }

    /// The partition of a key: an identifier's hash, or a profile id, which is a node and holds one.
    fn seat(&self, role: Role, key: &Bytes) -> usize {
        let hash = if key.len() == 31 { key.slice(1..17) } else { key.clone() };
        let (node, profile) = self.seats[&hash];
        if role == Role::Identity { node } else { profile }
    }

    /// Puts what a partition, or a door, said into its channel.
    pub(crate) fn send(&self, line: &mut Line, from: Option<Seat>, role: Role, record: Record) {
        let to = match from {
            // The stages mirror each other.
            Some((Role::Segmenter, partition)) if role == Role::Orchestrator => (role, partition),
            _ => (role, self.seat(role, &record.key)),
        };
        line.channels.entry((from, to)).or_default().push_back(record);
    }

    /// Folds the next record of a channel. What was put out besides records: messages decided.
    pub(crate) fn deliver(&self, line: &mut Line, channel: (Option<Seat>, Seat)) -> Result<Vec<Record>, String> {
        let queue = line.channels.get_mut(&channel).ok_or("no such channel")?;
        let record = queue.pop_front().ok_or("nothing to deliver")?;
        if queue.is_empty() {
            line.channels.remove(&channel);
        }
        let seat @ (role, partition) = channel.1;
        line.now = line.now.max(record.at.unwrap_or_default());
        let outputs = match role {
            Role::Identity => fold(&self.identity, &mut line.identity[partition], partition, &record),
            Role::Segmenter => fold(&self.segmenter, &mut line.segments[partition], partition, &record),
            Role::Orchestrator | Role::Ingest | Role::Sender | Role::Control => {
                fold(&self.orchestrator, &mut line.journeys[partition], partition, &record)
            }
        }
        .map_err(|why| format!("{role}/{partition} could not fold kind {}: {why}", record.kind))?;
        self.publish(line, seat, &record, outputs)
    }

    /// Fires everything due by `now` in a journey partition.
    pub(crate) fn fire(&self, line: &mut Line, partition: usize, now: Timestamp) -> Result<Vec<Record>, String> {
        line.fired = true;
        let store = &mut line.journeys[partition];
        let limit = Fireable { plain: now, absent: now, proven: now, before: None };
        let mut sent = Vec::new();
        for id in store.keys().cloned().collect::<Vec<_>>() {
            for _ in 0..32 {
                let position = position(&xxh3_128(id.as_bytes()).to_be_bytes());
                let mut entities = BTreeMap::from([(id.clone(), line.journeys[partition].get(&id).cloned().flatten())]);
                let mut fold = Fold::new(now, position, &mut entities);
                let fired = self.orchestrator.fire(&mut fold, &id, limit).map_err(|p| p.detail)?;
                let outputs = fold.outputs().to_vec();
                keep(&mut line.journeys[partition], entities);
                let cause = Record::new(kind::TICK, waypost_sim::shop::WORKSPACE, [0; 16], Bytes::new(), now, Bytes::new());
                sent.extend(self.publish(line, (Role::Orchestrator, partition), &Record { at: Some(now), ..cause }, outputs)?);
                if !fired {
                    break;
                }
            }
        }
        Ok(sent)
    }

    fn publish(&self, line: &mut Line, from: Seat, cause: &Record, outputs: Vec<Output>) -> Result<Vec<Record>, String> {
        let mut sent = Vec::new();
        for output in outputs {
            match output {
                Output::Inbox { role, workspace, key, kind, body, id, via, at } => {
                    let at = at.or(cause.at);
                    let record = Record { via, at, ..Record::new(kind, workspace, id, key, at.unwrap_or_default(), body) };
                    if role == Role::Sender { sent.push(record) } else { self.send(line, Some(from), role, record) }
                }
                Output::Dead(letter) => return Err(format!("a dead letter: {} {}", letter.reason, letter.detail)),
                Output::Public { .. } => {}
            }
        }
        Ok(sent)
    }
}

/// A position that depends on the record alone, so that orders which come to the same are the same state.
fn position(id: &[u8; 16]) -> Position {
    Position { offset: xxh3_64(id) >> 16, index: 0 }
}

fn fold<P: Processor>(processor: &P, store: &mut Store<P::Entity>, partition: usize, record: &Record) -> Result<Vec<Output>, String> {
    let wanted = processor.entities(record).map_err(|p| format!("{} {}", p.reason, p.detail))?;
    let mut entities: Store<P::Entity> = wanted.into_iter().map(|id| (id.clone(), store.get(&id).cloned().flatten())).collect();
    let clock = record.at.unwrap_or_default();
    let mut fold = Fold::new(clock, position(&record.id), &mut entities).placed(u32::try_from(partition).unwrap_or(0), 0, clock);
    processor.fold(&mut fold, record).map_err(|p| format!("{} {}", p.reason, p.detail))?;
    let outputs = fold.outputs().to_vec();
    keep(store, entities);
    Ok(outputs)
}

fn keep<E>(store: &mut Store<E>, entities: Store<E>) {
    for (id, entity) in entities {
        if entity.is_some() {
            store.insert(id, entity)
        } else {
            store.remove(&id)
        };
    }
}

// === impl Line ===

impl Line {
    /// Drops what is stored of a workspace.
    pub(crate) fn forget(&mut self, workspace: WorkspaceId) {
        self.identity.iter_mut().for_each(|store| store.retain(|id, _| id.workspace() != workspace));
        self.segments.iter_mut().for_each(|store| store.retain(|id, _| id.workspace() != workspace));
        self.journeys.iter_mut().for_each(|store| store.retain(|id, _| id.workspace() != workspace));
    }

    /// Two states of one hash are one state.
    pub(crate) fn hash(&self) -> u128 {
        let mut bytes = Vec::with_capacity(4_096);
        write(&mut bytes, &self.identity);
        write(&mut bytes, &self.segments);
        write(&mut bytes, &self.journeys);
        for (channel, queue) in &self.channels {
            bytes.extend(format!("{channel:?}").into_bytes());
            for record in queue {
                bytes.extend(prost::Message::encode_to_vec(&record.to_proto()));
                bytes.push(0xfe);
            }
        }
        bytes.push(u8::from(self.fired));
        xxh3_128(&bytes)
    }
}

fn write<E: Entity>(bytes: &mut Vec<u8>, stores: &[Store<E>; 2]) {
    for store in stores {
        bytes.push(0xff);
        for (id, entity) in store {
            bytes.extend(id.as_bytes());
            bytes.extend(entity.as_ref().and_then(Entity::encode).unwrap_or_default());
        }
    }
}
