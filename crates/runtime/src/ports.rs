//! The ports: what the runtime needs of a log, a store and a clock, and exactly what each may answer.
//!
//! One contract suite (`waypost-memory`'s `contract` module) holds `memory`, `kafka` and `redis` to
//! the same behaviour (PROTOCOL §15).

use std::{fmt, ops::RangeInclusive};

use async_trait::async_trait;
use bytes::Bytes;
use waypost_types::{ContentHash, EntityId, PartitionId, Timestamp};

use crate::{digest::Part, progress::Owner};

/// Offset of a frame in its inbox partition.
pub type Offset = u64;

/// A fresh random name for one claim of one partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub [u8; 16]);

/// What an installation is; stored at `init` and compared at every claim. Shown by a fingerprint of its id, which is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Install {
    /// Install id, 32 hex digits; the key of all identifier hashes.
    pub id: String,
    /// Layout number.
    pub layout: u16,
    /// Version of what lies in the store.
    pub format: u16,
}

// ---- store --------------------------------------------------------------------------------------

/// The meta fields that travel with every commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Running hash over (position, outputs) of every record.
    pub ochain: u64,
    /// Partition clock, ms.
    pub clk: Timestamp,
    /// Upstream watermark, ms.
    pub wm: Timestamp,
    /// [`Digest`](crate::digest::Digest) of everything stored; empty before the first commit.
    pub digest: Bytes,
    /// Engine version.
    pub eng: u32,
    /// The definition set in force, opaque to the runtime; empty: none yet.
    pub defv: String,
    /// Offset of the last folded leader record, plus 1; 0: none.
    pub leader: u64,
    /// Offset, crc32c and append time of the last folded frame, `offset:crc:time`; empty: none.
    pub lastrec: String,
}

/// One conditional write: state, timers, sequences and offset together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Who commits.
    pub token: Token,
    /// The offset the store must be at.
    pub expected: Offset,
    /// The offset it will be at: that of the first frame not folded.
    pub next: Offset,
    /// Meta at `next`.
    pub meta: Meta,
    /// Changed entities; `None` deletes.
    pub entities: Vec<(EntityId, Option<Bytes>)>,
    /// Changed wake-ups; `None` removes.
    pub timers: Vec<(EntityId, Option<Timestamp>)>,
    /// Changed sequences: field (`x:<channel>`, `i:<channel>`) and 16 bytes.
    pub sequences: Vec<(String, [u8; 16])>,
}

/// Offsets and dues are decimal text of at most 15 digits in Redis, whose scores are doubles.
const LARGEST: u64 = 999_999_999_999_999;

// === impl Commit ===

impl Commit {
    /// Whether it holds nothing that a store does not take; else the answer is [`CommitReply::BadArg`].
    pub fn is_sound(&self) -> bool {
        let fits = |due: &Timestamp| u64::try_from(due.millis()).is_ok_and(|ms| ms <= LARGEST);
        self.next > self.expected && self.next <= LARGEST && self.timers.iter().filter_map(|(_, due)| due.as_ref()).all(fits)
    }
}

/// How often a partition was taken at one committed offset without ever getting past it (PROTOCOL §12.1).
/// Beside the partition's state and no part of the fold: a hint for the next life, written by plain commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deaths {
    /// First offset that is not committed.
    pub offset: Offset,
    /// Lives that began to fold there, the present one included.
    pub count: u32,
    /// Random names of the processes whose lives these were, as far as they count: one that comes again lives.
    pub processes: Vec<u64>,
    /// Index of the record that is folded, where records are named before they are.
    pub index: Option<u32>,
}

/// Answer of `init`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitReply {
    /// The partition's state was created, empty, at offset 0.
    Created,
    /// It exists already; nothing was written.
    Exists,
}

/// Answer of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimReply {
    /// Claimed.
    Ok(Box<Claimed>),
    /// No state: never initialised, or lost.
    Uninit,
    /// Another installation, layout or format; what the store says.
    Mismatch(Install),
    /// An operation has it.
    Frozen(String),
    /// A key has the wrong type.
    Corrupt(String),
}

/// What a claim brings; entities and timers follow by checked reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// First offset not folded.
    pub off: Offset,
    /// Meta at that offset.
    pub meta: Meta,
    /// Who owned it; none after a release or at first.
    pub previous: Option<Token>,
    /// All sequences.
    pub sequences: Vec<(String, [u8; 16])>,
}

/// Answer of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseReply {
    /// Released.
    Ok,
    /// Somebody else owns it.
    Fenced,
}

/// Answer of a commit (PROTOCOL §5.3). After any but `Ok` and `Torn` the store is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitReply {
    /// Applied.
    Ok,
    /// Applied before; its reply got lost.
    Already,
    /// The store is at another offset: rewound, or somebody went on.
    Moved(Offset),
    /// Somebody claimed later.
    Fenced,
    /// No state.
    Uninit,
    /// Our bug: an argument that no store takes.
    BadArg,
    /// The store applied one part and refused another: somebody has changed the kind of one of the partition's keys.
    Torn,
}

/// A checked read (PROTOCOL §5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Who reads.
    pub token: Token,
    /// Offsets at which the answer may be used: the last commit, and the one in flight.
    pub expected: Vec<Offset>,
    /// Entities wanted.
    pub entities: Vec<EntityId>,
    /// Wake-ups of anybody due at or before this instant, at most so many, by (due, entity bytes).
    pub timers: Option<(Timestamp, usize)>,
}

/// Answer of a checked read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadReply {
    /// The values are those of one of the expected offsets.
    Ok {
        /// In the order asked; `None`: no such entity.
        entities: Vec<Option<Bytes>>,
        /// The stored wake-up of each entity asked for, in the same order.
        wakeups: Vec<Option<Timestamp>>,
        /// In order of (due, entity bytes).
        timers: Vec<(Timestamp, EntityId)>,
        /// How much there is where they were looked for.
        extent: Extent,
    },
    /// Another owner, or another offset: nothing may be folded on it.
    Moved,
}

/// How many entries the parts have that a read looked into, and what was committed of them, of one moment: what is
/// not found in a part that is whole was never there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// First offset not folded.
    pub off: Offset,
    /// The digest as committed.
    pub digest: Bytes,
    /// Parts looked into: the buckets of the entities, and the timers. None of a store that loses nothing.
    pub counts: Vec<(Part, u64)>,
}

/// One part of a partition's state and what vouches for it, of one moment (PROTOCOL §13.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Who owns the partition.
    pub own: Option<Token>,
    /// First offset not folded.
    pub off: Offset,
    /// The digest as committed.
    pub digest: Bytes,
    /// The sum of what is there.
    pub sum: u128,
}

/// Answer of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditReply {
    /// What is there.
    Ok(Audit),
    /// No state.
    Uninit,
}

/// The store did not answer, or refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Refused whole: nothing was written (out of memory, loading, no replicas). Retry the same.
    #[error("store refused: {0}")]
    Refused(String),
    /// Time-out or reset: whether it was applied is unknown. Retry the same bytes.
    #[error("store did not answer: {0}")]
    Unknown(String),
}

/// Per-partition state, behind one condition. Every method may be called for any partition.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Creates the partition's state. Administration only; workers never call it.
    async fn init(&self, partition: PartitionId, install: &Install) -> Result<InitReply, StoreError>;
    /// Takes the partition for `token`.
    async fn claim(&self, partition: PartitionId, token: Token, install: &Install) -> Result<ClaimReply, StoreError>;
    /// Gives it back.
    async fn release(&self, partition: PartitionId, token: Token) -> Result<ReleaseReply, StoreError>;
    /// Commits, if token and offset are the expected ones.
    async fn commit(&self, partition: PartitionId, commit: &Commit) -> Result<CommitReply, StoreError>;
    /// Reads, if token and offset are the expected ones.
    async fn read(&self, partition: PartitionId, read: &Read) -> Result<ReadReply, StoreError>;
    /// Adds up one part as it is stored, whoever owns the partition. It may take long and must hold up no commit.
    async fn audit(&self, partition: PartitionId, part: Part) -> Result<AuditReply, StoreError>;
    /// What was last noted of the partition's deaths.
    async fn deaths(&self, partition: PartitionId) -> Result<Option<Deaths>, StoreError>;
    /// Notes them, or forgets them; whoever owns the partition.
    async fn note_deaths(&self, partition: PartitionId, deaths: Option<Deaths>) -> Result<(), StoreError>;
}

// ---- log ----------------------------------------------------------------------------------------

/// A record of Kafka's to append: partition always explicit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Topic, prefix included.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Empty for inboxes.
    pub key: Option<Bytes>,
    /// Header names and values.
    pub headers: Vec<(String, Bytes)>,
    /// The value.
    pub payload: Bytes,
}

/// One delivered record of Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: Offset,
    /// When the broker appended it.
    pub appended: Timestamp,
    /// Key.
    pub key: Option<Bytes>,
    /// Headers.
    pub headers: Vec<(String, Bytes)>,
    /// Value; empty for a tombstone.
    pub payload: Bytes,
}

/// Why an append failed. Any error ends the producer's life for the runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The record is larger than the topic allows.
    #[error("record of {bytes} bytes is too large for {topic}")]
    TooLarge {
        /// Topic.
        topic: String,
        /// Size refused.
        bytes: usize,
    },
    /// No such topic or partition.
    #[error("no partition {partition} of {topic}")]
    UnknownPartition {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
    },
    /// The queue is full; nothing was taken. Wait and append again.
    #[error("producer queue is full")]
    Full,
    /// Anything else; whether it was appended is unknown.
    #[error("append failed: {0}")]
    Failed(String),
}

/// Why a partition of a consumer cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The position is below the log's start or beyond its end; never reset in silence.
    #[error("position out of range")]
    OutOfRange,
    /// No such topic or partition.
    #[error("unknown topic or partition")]
    Unknown,
    /// Passing: the broker is away.
    #[error("log unavailable: {0}")]
    Unavailable(String),
}

/// What a consumer has to tell besides records.
#[derive(Debug)]
pub enum Membership {
    /// Partitions assigned; answer with where each starts, `None` for "not known yet" (the end, until a seek).
    Assign {
        /// Which.
        partitions: Vec<u32>,
        /// The answer; dropping it assigns at the end.
        starts: tokio::sync::oneshot::Sender<Vec<(u32, Option<Offset>)>>,
    },
    /// Partitions about to be taken away in order; answer when they are drained.
    Revoke {
        /// Which.
        partitions: Vec<u32>,
        /// The answer.
        drained: tokio::sync::oneshot::Sender<()>,
    },
    /// Partitions already lost: no release.
    Lost(Vec<u32>),
    /// One partition failed.
    Failed {
        /// Which.
        partition: u32,
        /// Why.
        error: LogError,
    },
}

/// A producer's life. Within it, records of one partition are appended in the order of `append`.
#[async_trait]
pub trait Producer: Send + Sync + 'static {
    /// Queues the record now, in order; the future resolves with its offset once all replicas have it.
    ///
    /// # Errors
    /// [`AppendError`]; after any but `Full` this producer must not be used again.
    fn append(&self, record: Append) -> futures::future::BoxFuture<'static, Result<Offset, AppendError>>;
    /// Drops everything queued and in flight; their futures fail.
    fn purge(&self);
}

/// A member of a role's group over one inbox.
#[async_trait]
pub trait Consumer: Send + 'static {
    /// Takes the next record of `partition` if one is here; never waits. Not taking is the back-pressure.
    fn take(&mut self, partition: u32) -> Option<Delivery>;
    /// Waits until a record, or membership news, may be there.
    async fn ready(&mut self);
    /// Membership news, in order.
    fn membership(&mut self) -> Option<Membership>;
    /// Whether the group has it as a member, with partitions or without.
    fn is_member(&self) -> bool {
        true
    }
    /// Moves one partition's position.
    fn seek(&mut self, partition: u32, offset: Offset) -> Result<(), LogError>;
    /// Stores the group's offset, lazily; a lag gauge, nothing reads it back.
    fn note(&mut self, partition: u32, next: Offset);
    /// Leaves the group.
    async fn close(self: Box<Self>);
}

/// Reads one partition from an offset to its growing end, without a group.
#[async_trait]
pub trait Tail: Send + 'static {
    /// The next record; `Ok(None)` whenever the present end has been reached (then it waits for more on the next call).
    async fn next(&mut self) -> Result<Option<Delivery>, LogError>;
}

/// A member of a group whose offsets live in Kafka: the public door, the reporter.
#[async_trait]
pub trait Subscription: Send + 'static {
    /// The next record of any assigned partition.
    async fn next(&mut self) -> Result<Delivery, LogError>;
    /// Everything below `next` of this partition is dealt with.
    async fn commit(&mut self, partition: u32, next: Offset) -> Result<(), LogError>;
    /// Delivers again from `offset`.
    fn back(&mut self, partition: u32, offset: Offset) -> Result<(), LogError>;
}

/// How a topic is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name, prefix included.
    pub name: String,
    /// Partitions.
    pub partitions: u32,
    /// Replicas.
    pub replication: u32,
    /// Broker-side settings.
    pub settings: Vec<(String, String)>,
}

/// A log of many topics.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// A new producer's life.
    fn producer(&self) -> Result<std::sync::Arc<dyn Producer>, LogError>;
    /// Joins `group` over `topic`.
    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, LogError>;
    /// Reads one partition from `from` on.
    async fn tail(&self, topic: &str, partition: u32, from: Offset) -> Result<Box<dyn Tail>, LogError>;
    /// Joins `group` over `topic` with committed offsets, from the start where there are none.
    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Subscription>, LogError>;
    /// First offset there, and the next to be written.
    async fn watermarks(&self, topic: &str, partition: u32) -> Result<(Offset, Offset), LogError>;
    /// An offset at or before the first record appended at `instant` or later; the end where there is none. By default
    /// the log's start: always right, and more to read.
    async fn offset_at(&self, topic: &str, partition: u32, _instant: Timestamp) -> Result<Offset, LogError> {
        self.watermarks(topic, partition).await.map(|(start, _)| start)
    }
    /// How many brokers there are, as one of them says who knows this topic; a log without brokers is one.
    async fn reach(&self, _topic: &str) -> Result<usize, LogError> {
        Ok(1)
    }
    /// Creates what is absent; says which were created.
    async fn create(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError>;
    /// The settings a topic has: partitions and broker-side settings; none if it is absent.
    async fn describe(&self, topic: &str) -> Result<Option<TopicSpec>, LogError>;
    /// The settings of each broker, by its name; none where there are no brokers.
    async fn brokers(&self) -> Result<Vec<(String, Vec<(String, String)>)>, LogError> {
        Ok(Vec::new())
    }
}

// ---- owners ---------------------------------------------------------------------------------------

/// The owner of a partition does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the owner of partition {partition} does not answer: {why}")]
pub struct OwnersError {
    /// Which.
    pub partition: PartitionId,
    /// Why.
    pub why: String,
}

/// Reads from the memory of partitions' owners, for lookup and explain; never an input of a fold.
#[async_trait]
pub trait Owners: Send + Sync + 'static {
    /// The stored bytes of an entity, and the next offset of the partition's inbox they are as of.
    async fn read(&self, partition: PartitionId, entity: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError>;
    /// Who has said lately what it owns; none where nobody says, because one process owns everything.
    fn owned(&self) -> Option<Vec<Owner>> {
        None
    }
    /// First and last engine of every process that was heard lately, by its address; nobody where one process owns everything.
    fn engines(&self) -> Vec<(String, RangeInclusive<u32>)> {
        Vec::new()
    }
}

// ---- clock, chance --------------------------------------------------------------------------------

/// Real or virtual time.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Waits until then.
    async fn sleep_until(&self, instant: Timestamp);
}

/// Everything that is drawn at random: tokens, jitter.
pub trait Entropy: Send + 'static {
    /// 64 fresh bits.
    fn next(&mut self) -> u64;
}

impl fmt::Display for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = ContentHash::of(self.id.as_bytes()).to_string();
        write!(f, "installation {} (a fingerprint), layout {}, format {}", &fingerprint[..12], self.layout, self.format)
    }
}

impl fmt::Debug for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
