//! What a keyed role brings to the runtime, and what it gets to see of it.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use waypost_codec::frame::Record;
use waypost_types::{EntityId, PartitionId, Position, Role, Span, Timestamp, WorkspaceId};

use crate::figures::Tally;

/// When an entity next wants to be woken. A **plain** timer fires at its due; an **absent** one rests
/// on something not having happened, and waits for the upstream watermark (PROTOCOL §8.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wakeups {
    /// Earliest plain timer.
    pub plain: Option<Timestamp>,
    /// Earliest absent timer.
    pub absent: Option<Timestamp>,
}

/// Up to which due timers may fire now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fireable {
    /// Plain timers with due at or before this.
    pub plain: Timestamp,
    /// Absent timers with due at or before this.
    pub absent: Timestamp,
    /// Of these, the ones due after this fire only because what is upstream has been behind for too long: an
    /// event that would have stopped them may still come.
    pub proven: Timestamp,
    /// Only timers with due strictly before this (own timers first); none for a tick.
    pub before: Option<Timestamp>,
}

/// Stored state of one entity.
pub trait Entity: Clone + fmt::Debug + Send + 'static {
    /// From stored bytes (the version is checked here).
    fn decode(id: &EntityId, bytes: &Bytes) -> Result<Self, String>;
    /// Canonical bytes; `None` where [nothing is left](Self::is_nothing).
    fn encode(&self) -> Option<Bytes>;
    /// Whether nothing is left, so that the entity is to be deleted.
    fn is_nothing(&self) -> bool;
    /// Its earliest timers.
    fn wakeups(&self) -> Wakeups;
}

/// A record that cannot be folded. Its changes are dropped, a dead letter is put out, the log goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Poison {
    /// `ENGINE_PANIC`, `DECODE_FAILED`, …
    pub reason: &'static str,
    /// For people; no personal data.
    pub detail: String,
}

/// Whether the definitions that a set names are at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definitions {
    /// Loaded and in force for the records that follow.
    Loaded,
    /// Their bodies have not arrived: the partition waits.
    Missing,
}

/// The logic of one keyed role, one instance a partition. Pure: everything it may know is in its
/// arguments, and everything it does is in the [`Fold`].
pub trait Processor: Send + 'static {
    /// What it keeps.
    type Entity: Entity;

    /// Whose inbox it reads.
    const ROLE: Role;
    /// Where marks and activations are forwarded in band, to the partition of the same number.
    const RELAYS_TO: Option<Role>;
    /// Whether ticks carry the upstream watermark (the segmenter).
    const WATERMARKED: bool;
    /// Whether idle partitions append ticks so that `through` moves (identity).
    const REPORTS_THROUGH: bool;
    /// How long after the log time of the oldest thing an entity holds back its wake-up is, where entities
    /// hold things back. Wake-ups are then exact, and `through` stays behind what is held (PROTOCOL §8.3).
    const HOLDS_FOR: Option<Span> = None;
    /// Reasons of [`Poison`] on which the partition halts: they say that state or log is not what it must be,
    /// and setting such records aside, one after another, would lose a person without anybody asking.
    const HALTS: &'static [&'static str] = &[];
    /// The job, without body, that a leading worker starts last when its partition is to be given back: what was
    /// proposed and will not be done any more can be said so in the log.
    const LAST_JOB: Option<u32> = None;

    /// Puts the set in force that `defv` names; `defv` is what `activate` recorded.
    fn define(&mut self, defv: &str) -> Definitions;

    /// Entities that folding this record reads or changes, in a fixed order.
    fn entities(&self, record: &Record) -> Result<Vec<EntityId>, Poison>;

    /// Folds one record. `fold.now()` is its log time.
    fn fold(&self, fold: &mut Fold<'_, Self::Entity>, record: &Record) -> Result<(), Poison>;

    /// Fires the earliest timer of `entity` that `limit` allows, with `fold.now()` its due.
    /// Returns false if none may fire. The runtime calls it again until it says so (at most 32 times).
    fn fire(&self, fold: &mut Fold<'_, Self::Entity>, entity: &EntityId, limit: Fireable) -> Result<bool, Poison>;
}

/// One output of a fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To another role's inbox; numbered.
    Inbox {
        /// Whose.
        role: Role,
        /// Workspace of the key.
        workspace: WorkspaceId,
        /// Routing key.
        key: Bytes,
        /// Record kind.
        kind: u32,
        /// Body.
        body: Bytes,
        /// Record id; a function of the log.
        id: [u8; 16],
        /// Tombstones passed.
        via: u32,
        /// The record's own log time where it differs from the fold's (a record passed on keeps its own).
        at: Option<Timestamp>,
    },
    /// To a public topic; numbered, Avro without prefix.
    Public {
        /// Topic without prefix: `waypost.decisions.v1`.
        topic: &'static str,
        /// Key of the Kafka record: the profile id.
        key: Bytes,
        /// CloudEvents type.
        kind: &'static str,
        /// Version of the subject's schema the body is written in.
        version: u32,
        /// Avro body.
        body: Bytes,
    },
    /// To the dead-letter topic.
    Dead(DeadLetter),
}

/// An input set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Reason code.
    pub reason: String,
    /// Door or role.
    pub door: String,
    /// For people; no personal data.
    pub detail: String,
    /// Original bytes.
    pub bytes: Bytes,
    /// Workspace, where known.
    pub workspace: WorkspaceId,
    /// Whose partition channel brought it; none for a record of a door, of control, or of the partition's own.
    pub source: Option<PartitionId>,
}

/// Work that only a leading owner starts, outside the fold: render and propose an attempt, call a
/// provider. What comes of it comes back as records the partition appends to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What to do; the role's own number.
    pub kind: u32,
    /// The role's own encoding.
    pub body: Bytes,
    /// Offset of the leader record under which it was started.
    pub leader: u64,
    /// Trace of the record that it follows from, as records carry it.
    pub trace: Bytes,
}

/// A record that a partition appends to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Workspace.
    pub workspace: WorkspaceId,
    /// Record kind.
    pub kind: u32,
    /// Routing key.
    pub key: Bytes,
    /// Body.
    pub body: Bytes,
    /// Trace of the job that brought it.
    pub trace: Bytes,
}

/// Where a fold finds its entities.
pub trait Entities<E>: fmt::Debug {
    /// The entity, if it is there.
    fn get(&self, id: &EntityId) -> Option<&E>;
    /// Takes it out.
    fn take(&mut self, id: &EntityId) -> Option<E>;
    /// What it is from now on; none: it is gone.
    fn set(&mut self, id: &EntityId, entity: Option<E>);
}

/// All that a log has made, where it is folded without the runtime.
impl<E: fmt::Debug> Entities<E> for BTreeMap<EntityId, Option<E>> {
    fn get(&self, id: &EntityId) -> Option<&E> {
        self.get(id).and_then(Option::as_ref)
    }

    fn take(&mut self, id: &EntityId) -> Option<E> {
        self.get_mut(id).and_then(Option::take)
    }

    fn set(&mut self, id: &EntityId, entity: Option<E>) {
        self.insert(id.clone(), entity);
    }
}

/// Those of one act: one, and rarely a few more.
impl<E: fmt::Debug> Entities<E> for Vec<(EntityId, Option<E>)> {
    fn get(&self, id: &EntityId) -> Option<&E> {
        self.iter().find(|(held, _)| held == id).and_then(|(_, entity)| entity.as_ref())
    }

    fn take(&mut self, id: &EntityId) -> Option<E> {
        self.iter_mut().find(|(held, _)| held == id).and_then(|(_, entity)| entity.take())
    }

    fn set(&mut self, id: &EntityId, entity: Option<E>) {
        match self.iter_mut().find(|(held, _)| held == id) {
            Some((_, held)) => *held = entity,
            None => self.push((id.clone(), entity)),
        }
    }
}

/// The view a fold has of its partition, and where its effects go. Entities not named by
/// [`Processor::entities`] are not reachable: asking for one is an error of the role.
#[derive(Debug)]
pub struct Fold<'a, E> {
    pub(crate) now: Timestamp,
    pub(crate) position: Position,
    pub(crate) partition: u32,
    pub(crate) leader: u64,
    pub(crate) clk: Timestamp,
    pub(crate) engine: u32,
    pub(crate) entities: &'a mut dyn Entities<E>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) refusals: u64,
    pub(crate) tallies: Vec<Tally>,
    pub(crate) touched: Vec<EntityId>,
}

// === impl Fold ===

impl<'a, E: Entity> Fold<'a, E> {
    /// A fold over these entities; for tests of processors, and for the runtime.
    pub fn new(now: Timestamp, position: Position, entities: &'a mut dyn Entities<E>) -> Self {
        Self {
            now,
            position,
            partition: 0,
            leader: 0,
            clk: now,
            engine: 1,
            entities,
            outputs: Vec::new(),
            jobs: Vec::new(),
            refusals: 0,
            tallies: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// The same, in this partition, under this leader record, at this partition clock; for those who fold a
    /// log without the runtime.
    #[must_use]
    pub fn placed(self, partition: u32, leader: u64, clock: Timestamp) -> Self {
        Self { partition, leader, clk: clock, ..self }
    }

    /// The same under this engine.
    #[must_use]
    pub fn under(self, engine: u32) -> Self {
        Self { engine, ..self }
    }

    /// Log time of the record, or the due of the timer.
    pub fn now(&self) -> Timestamp {
        self.now
    }
    /// Where the record stands in the inbox (for a timer: the record that made it fire).
    pub fn position(&self) -> Position {
        self.position
    }
    /// The partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }
    /// Offset of the last folded leader record, plus 1; 0: none.
    pub fn leader(&self) -> u64 {
        self.leader
    }
    /// The engine in force at this record: a fold that differs between engines asks for it (PROTOCOL §9.2).
    pub fn engine(&self) -> u32 {
        self.engine
    }
    /// The partition clock.
    pub fn clock(&self) -> Timestamp {
        self.clk
    }

    /// The entity, if it exists.
    pub fn get(&self, id: &EntityId) -> Option<&E> {
        self.entities.get(id)
    }

    /// Replaces the entity.
    pub fn put(&mut self, id: &EntityId, entity: E) {
        self.touch(id);
        self.entities.set(id, Some(entity));
    }

    /// Takes the entity out to change it; `put` it back.
    pub fn take(&mut self, id: &EntityId) -> Option<E> {
        self.touch(id);
        self.entities.take(id)
    }

    /// Deletes the entity.
    pub fn delete(&mut self, id: &EntityId) {
        self.touch(id);
        self.entities.set(id, None);
    }

    fn touch(&mut self, id: &EntityId) {
        if !self.touched.contains(id) {
            self.touched.push(id.clone());
        }
    }

    /// Puts out an effect.
    pub fn emit(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// Asks for work outside the fold; done only where this owner leads.
    pub fn start(&mut self, kind: u32, body: Bytes) {
        let leader = self.leader;
        self.jobs.push(Job { kind, body, leader, trace: Bytes::new() });
    }

    /// Counts something that a limit or a rule of the role did not allow; the record goes on.
    pub fn refuse(&mut self) {
        self.refusals += 1;
    }

    /// Counts a decision, once it is committed.
    pub fn tally(&mut self, tally: Tally) {
        self.tallies.push(tally);
    }

    /// What has been tallied so far; for tests.
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// What has been put out so far; for tests.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// What has been started so far; for tests.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }
}
