//! The machine of one role in one process: all its partitions' workers, one packer, one producer's
//! life. No IO: inputs in, commands out, so that the same code runs over Kafka and Redis, embedded,
//! and in the simulator, where it can be killed between any two of them.

use std::{collections::BTreeSet, fmt};

use bytes::Bytes;
use waypost_types::{EntityId, PartitionId, Position, Role, Span, Timestamp, trace::TraceContext};

use crate::{
    digest::Part,
    figures::{PartitionFigures, Spread, Tallies},
    ports::{
        AppendError, AuditReply, ClaimReply, Commit, CommitReply, Deaths, Delivery, LogError, Offset, Read, ReadReply, ReleaseReply,
        StoreError, Token,
    },
    processor::{DeadLetter, Job, Proposal},
};

/// Where a produced record goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A frame of an inbox.
    Inbox(PartitionId),
    /// A public topic's partition.
    Public {
        /// Topic without prefix.
        topic: &'static str,
        /// Partition.
        partition: u32,
    },
    /// The dead-letter topic's partition.
    Dead(u32),
}

/// What is produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Produced {
    /// An encoded frame.
    Frame(Bytes),
    /// A record of a public topic; the driver adds the registry's schema id.
    Public {
        /// Kafka key.
        key: Bytes,
        /// CloudEvents attributes by header name, `ce_id`, `ce_source`, `ce_sequence`, ….
        headers: Vec<(String, String)>,
        /// Version of the subject's schema.
        version: u32,
        /// Avro body without prefix.
        body: Bytes,
    },
    /// A dead letter.
    Dead {
        /// What and why.
        letter: DeadLetter,
        /// `role/partition` and position of the record it was.
        origin: String,
    },
}

/// Something that happened. `Machine::handle` never fails and never waits.
#[derive(Debug)]
pub enum Input {
    /// Partitions given to this process.
    Assigned(Vec<u32>),
    /// To be drained and given back.
    Revoke(Vec<u32>),
    /// Already gone.
    Lost(Vec<u32>),
    /// A record of the inbox.
    Delivered(Delivery),
    /// A partition of the consumer failed.
    LogFailed(u32, LogError),
    /// Watermarks asked for: first offset, next offset.
    Watermarks(u32, Offset, Offset),
    /// Reply to `Command::Claim`.
    Claimed(u32, Token, Result<ClaimReply, StoreError>),
    /// Reply to `Command::Release`.
    Released(u32, Token, Result<ReleaseReply, StoreError>),
    /// Reply to `Command::Commit`.
    Committed(u32, Token, Result<CommitReply, StoreError>),
    /// Reply to `Command::Read`, with its number.
    Loaded(u32, Token, u64, Result<ReadReply, StoreError>),
    /// Reply to `Command::Audit`.
    Audited(u32, Token, Part, Result<AuditReply, StoreError>),
    /// Reply to `Command::Deaths`.
    Deaths(u32, Token, Result<Option<Deaths>, StoreError>),
    /// Reply to `Command::NoteDeaths`.
    DeathsNoted(u32, Token, Result<(), StoreError>),
    /// Records to be set aside, all that are listed by now; an entry is never taken back.
    Skips(BTreeSet<(PartitionId, Position)>),
    /// Reply to `Command::Produce`, with its number.
    Produced(u64, Result<Offset, AppendError>),
    /// `Command::NewProducer` is done.
    ProducerReady(u64),
    /// A job of a partition came to this; appended whoever owns the partition by now.
    JobDone(u32, Vec<Proposal>),
    /// An identity partition's `through`, as published.
    Through(u32, Timestamp),
    /// Definitions arrived; waiting partitions try again.
    DefinitionsChanged,
    /// A read of an entity's bytes for lookup or explain; never enters a fold.
    Query(u64, u32, EntityId),
    /// Time may have passed `next_wake`.
    Wake,
    /// SIGTERM: drain everything.
    Drain,
}

/// Something to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// `Store::claim`.
    Claim(u32, Token),
    /// `Store::release`.
    Release(u32, Token),
    /// `Store::commit`; one in flight a partition.
    Commit(u32, Box<Commit>),
    /// `Store::read`, numbered.
    Read(u32, u64, Box<Read>),
    /// `Store::audit`, in the background.
    Audit(u32, Token, Part),
    /// `Store::deaths`.
    Deaths(u32, Token),
    /// `Store::note_deaths`; one under way a partition, but for the last of a life.
    NoteDeaths(u32, Token, Option<Deaths>),
    /// `Consumer::seek`; also what starts an assigned partition.
    Seek(u32, Offset),
    /// Append in this order, numbered, under the current producer.
    Produce(u64, Destination, Produced),
    /// Purge the producer, make a new one, say so with this life number.
    NewProducer(u64),
    /// Run the job; answer `JobDone`.
    Job(u32, Job),
    /// Ask for the partition's watermarks.
    Watermarks(u32),
    /// Answer of a query: bytes, and as of which offset; `None`: this process does not lead the partition.
    Answer(u64, Option<(Option<Bytes>, Offset)>),
    /// A partition is drained and released (after `Revoke` or `Drain`).
    Gone(u32),
    /// Stopped, with the reason; page somebody. The other partitions run on.
    Halted(u32, String),
    /// Leave the group with the present consumer and join it with a new one: every partition is lost meanwhile.
    Rejoin(String),
    /// Something is wrong that stops nothing; say so, and where it asks for it, page somebody.
    Alarm(u32, Alarm),
    /// Give up the process (watchdog, third time).
    Exit(String),
}

/// What a partition goes on with, and somebody should know of (PROTOCOL §7.3, §7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// A source's history differs from the one that was accepted.
    #[error(
        "what {from} sent as {first} to {end} differs from what it had sent: a fold of its log has given another result. \
         Fold both partitions again and compare (`waypost refold`); profiles named by those records may be wrong"
    )]
    Diverged {
        /// Whose.
        from: PartitionId,
        /// First number of the section that shows it.
        first: u64,
        /// Its last.
        end: u64,
    },
    /// A gap in a partition channel has stayed.
    #[error(
        "{from} has sent {sent}, and {expected} has not come for {age}: its owner is resending or missing. \
         If it has committed past it, the log has lost records (`waypost repair`)"
    )]
    Gap {
        /// Whose.
        from: PartitionId,
        /// The first number that is missing.
        expected: u64,
        /// The highest number seen behind the gap.
        sent: u64,
        /// How long it has been seen.
        age: Span,
    },
}

/// What `wp1.progress` says of one owned partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub partition: PartitionId,
    /// Every record appended before this instant is folded and its outputs acknowledged.
    pub through: Timestamp,
    /// Committed offset.
    pub off: Offset,
    /// Next offset to fold.
    pub next: Offset,
    /// Engine.
    pub eng: u32,
    /// Definition set.
    pub defv: String,
    /// Whether it leads.
    pub leading: bool,
    /// Why it is halted, if it is.
    pub halted: Option<String>,
    /// Sources whose history was found to differ, since this process has the partition.
    pub diverged: Vec<PartitionId>,
    /// Since when the oldest open gap in a partition channel has been seen.
    pub gap: Option<Timestamp>,
}

/// A record of a trace that is kept was folded by who leads the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Partition.
    pub partition: u32,
    /// Where the record lies.
    pub position: Position,
    /// Its kind.
    pub kind: u32,
    /// Where it was sent.
    pub sent: TraceContext,
    /// The place of the fold, from which what it puts out is sent.
    pub here: TraceContext,
    /// When the log took it.
    pub appended: Timestamp,
    /// When its batch was begun with.
    pub at: Timestamp,
}

/// What a machine counts; monotone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames folded.
    pub frames: u64,
    /// Records folded.
    pub records: u64,
    /// Records dropped as already had.
    pub repeats: u64,
    /// Sections dropped behind a gap.
    pub gaps: u64,
    /// Commits applied.
    pub commits: u64,
    /// Times the store was found rewound or moved.
    pub rewound: u64,
    /// Times the producer was recreated.
    pub producer_resets: u64,
    /// Density seeks.
    pub seeks: u64,
    /// Divergences found by the chain.
    pub divergences: u64,
    /// Dead letters put out.
    pub dead_letters: u64,
    /// Timers fired.
    pub timers: u64,
    /// Partitions that started at a log trimmed right up to their offset: nothing vouched for them.
    pub unvouched: u64,
    /// Parts of the stored state that were compared with their digest.
    pub audits: u64,
    /// Times a worker was dropped because it did not get on.
    pub stalls: u64,
    /// Times the consumer was to be made anew.
    pub rejoins: u64,
    /// What a limit or a rule of a role did not allow: identifiers not joined.
    pub refusals: u64,
    /// Records set aside because the skip list names them.
    pub skipped: u64,
    /// Claims that began below what this process had folded, or behind an owner that had not given the partition back.
    pub rewinds: u64,
    /// Times that a part of the stored state was not what its digest says.
    pub digest_mismatches: u64,
    /// What was decided and committed.
    pub tallies: Tallies,
    /// From when timers were due to when they fired, of those committed.
    pub lateness: Spread,
}

/// One role's machine, its processor type erased.
pub trait Machine: Send + fmt::Debug {
    /// Whose.
    fn role(&self) -> Role;
    /// Takes one input at real (or virtual) time `now`; appends what is to be done.
    fn handle(&mut self, now: Timestamp, input: Input, commands: &mut Vec<Command>);
    /// Whether the partition wants records now (back-pressure: if not, do not take any).
    fn wants(&self, partition: u32) -> bool;
    /// When it wants `Input::Wake` at the latest.
    fn next_wake(&self) -> Option<Timestamp>;
    /// What to publish on `wp1.progress`.
    fn progress(&self) -> Vec<Progress>;
    /// What was folded of traces since this was asked last; the first thousand, if nobody asked.
    fn take_traced(&mut self) -> Vec<Traced>;
    /// Counters.
    fn counters(&self) -> Counters;
    /// Records folded, of the counters: what a driver asks at every turn.
    fn folded(&self) -> u64;
    /// How its partitions stand.
    fn figures(&self) -> Vec<PartitionFigures>;
    /// Nothing read, unacknowledged, uncommitted or under way.
    fn idle(&self) -> bool;
}
