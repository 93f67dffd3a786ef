//! The asynchronous driver of one role's [`Machine`]: performs its commands on the ports, one task a
//! role, and feeds it what comes of them.
//!
//! The loop is biased: what was completed comes first, then what others ask, then time, then records.
//! Nothing is decided here. A record is taken only where the machine wants one, so a partition that is
//! over its limits stops its own fetch and nobody else's.

mod local;
mod looking;
mod membership;
mod perform;
mod produce;
mod telling;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};
use tracing::info;
use waypost_types::{EntityId, PartitionId, Position, Role, Span, Timestamp, trace::Traces};

use crate::{
    figures::Figures,
    machine::{Command, Input, Machine},
    ports::{Clock, CommitReply, Consumer, Install, Log, LogError, Offset, Store},
    processor::{Job, Proposal},
    progress::{Directory, Speaker},
};

pub use local::LocalOwners;
use looking::{Look, Shown};
use membership::Membership;
use produce::Outgoing;
use telling::Uncommitted;

/// Records taken of one partition before the others get their turn.
const TAKE: usize = 64;
/// How often progress is looked at.
const PROGRESS: Duration = Duration::from_millis(100);
/// Questions of others that may wait.
const ASKED_MAX: usize = 1_024;

/// Work outside the fold: rendering, calling a provider (the sender's).
#[async_trait]
pub trait Jobs: Send + Sync + 'static {
    /// Does it; what comes of it is appended to the partition.
    async fn run(&self, partition: PartitionId, job: Job) -> Vec<Proposal>;
}

/// No work outside the fold: every role but the sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoJobs;

/// The registry's ids of the public topics' schemas.
#[async_trait]
pub trait SchemaIds: Send + Sync + 'static {
    /// The five bytes before a value of this version of the topic's subject (`topic` without prefix).
    ///
    /// # Errors
    /// Why the registry does not say; asked again later.
    async fn prefix(&self, topic: &str, version: u32) -> Result<[u8; 5], String>;
}

/// What a driver works on.
#[derive(Clone)]
pub struct Ports {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The role's work outside the fold.
    pub jobs: Arc<dyn Jobs>,
    /// Ids for what goes to public topics.
    pub schemas: Arc<dyn SchemaIds>,
    /// Who owns what; brings `through` to the segmenter.
    pub directory: Arc<Directory>,
    /// Says what this process owns.
    pub speaker: Arc<Speaker>,
    /// Where it is told what was folded of traces.
    pub traces: Arc<dyn Traces>,
}

/// What a driver has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Before every topic and group name.
    pub prefix: String,
    /// The installation.
    pub install: Install,
    /// How long a drain may take.
    pub grace: Span,
}

/// How a driver ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was folded, published, committed and given back.
    Drained,
    /// The grace was over before that; whoever takes over folds the rest again.
    Unfinished,
    /// The machine gave up the process.
    GaveUp(String),
}

/// Answer of a read: the bytes, if the entity exists, and as of which offset; none if the partition is not led here.
pub type ReadAnswer = Option<(Option<Bytes>, Offset)>;

/// What others tell a driver.
#[derive(Debug)]
enum Asked {
    Read(u32, EntityId, oneshot::Sender<ReadAnswer>),
    DefinitionsChanged,
    Skips(BTreeSet<(PartitionId, Position)>),
    Drain,
}

/// The way to a running driver; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    role: Role,
    asked: mpsc::Sender<Asked>,
    look: Look,
}

/// Completed work, and to what it belongs.
enum Done {
    Input(Input),
    /// An append of the producer's life of this number.
    Produced(u64, Input),
    Prefix(&'static str, u32, Result<[u8; 5], String>),
}

/// One role's machine, running.
pub struct Driver {
    machine: Box<dyn Machine>,
    ports: Ports,
    settings: Settings,
    asked: mpsc::Receiver<Asked>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    commands: Vec<Command>,
    membership: Membership,
    outgoing: Outgoing,
    queries: BTreeMap<u64, oneshot::Sender<ReadAnswer>>,
    query: u64,
    through: BTreeMap<u32, Timestamp>,
    gave_up: Option<String>,
    /// The consumer is to be made anew.
    rejoin: bool,
    /// Draining, until then.
    deadline: Option<Timestamp>,
    shown: Shown,
    uncommitted: Uncommitted,
}

// === impl NoJobs ===

#[async_trait]
impl Jobs for NoJobs {
    async fn run(&self, _: PartitionId, _: Job) -> Vec<Proposal> {
        Vec::new()
    }
}

// === impl Handle ===

impl Handle {
    /// Whose driver.
    pub fn role(&self) -> Role {
        self.role
    }

    /// An entity's bytes as the partition's owner has them; none if it is not led here.
    pub async fn read(&self, partition: u32, entity: EntityId) -> ReadAnswer {
        let (answer, answered) = oneshot::channel();
        self.asked.send(Asked::Read(partition, entity, answer)).await.ok()?;
        answered.await.ok().flatten()
    }

    /// Definitions have arrived: partitions that wait for them try again.
    pub async fn definitions_changed(&self) {
        self.tell(Asked::DefinitionsChanged).await;
    }

    /// The skip list, as far as it has come; a partition that halted at a listed record begins again.
    pub async fn skips(&self, skips: BTreeSet<(PartitionId, Position)>) {
        self.tell(Asked::Skips(skips)).await;
    }

    /// How the role stands, within a tenth of a second where its thread gets on; of a driver that has ended, how it stood last.
    pub async fn figures(&self) -> Arc<Figures> {
        self.look.fresh().await
    }

    /// How the role stood when it was last asked.
    pub fn last_figures(&self) -> Arc<Figures> {
        self.look.last()
    }

    /// Drain and end.
    pub async fn drain(&self) {
        self.tell(Asked::Drain).await;
    }

    async fn tell(&self, asked: Asked) {
        // a driver that has ended needs to be told nothing
        drop(self.asked.send(asked).await);
    }
}

// === impl Driver ===

impl Driver {
    /// A driver that has not joined its group yet, and the way to it.
    pub fn new(machine: Box<dyn Machine>, ports: Ports, settings: Settings) -> (Self, Handle) {
        let (sender, asked) = mpsc::channel(ASKED_MAX);
        let (shown, look) = Shown::new();
        let handle = Handle { role: machine.role(), asked: sender, look };
        let driver = Self {
            outgoing: Outgoing::new(&settings.prefix),
            machine,
            ports,
            settings,
            asked,
            running: FuturesUnordered::new(),
            commands: Vec::new(),
            membership: Membership::default(),
            queries: BTreeMap::new(),
            query: 0,
            through: BTreeMap::new(),
            gave_up: None,
            rejoin: false,
            deadline: None,
            shown,
            uncommitted: Uncommitted::default(),
        };
        (driver, handle)
    }

    /// The inbox, prefix included.
    fn inbox(&self) -> Result<String, LogError> {
        let inbox = self.machine.role().inbox().ok_or(LogError::Unknown)?;
        Ok(format!("{}{inbox}", self.settings.prefix))
    }

    /// Joins the role's group and works until it is told to drain, every [`Handle`] is gone, or the
    /// machine gives up.
    ///
    /// # Errors
    /// If the group or a producer cannot be had at all.
    pub async fn run(mut self) -> Result<Exit, LogError> {
        let role = self.machine.role();
        let inbox = self.inbox()?;
        let group = format!("{}waypost.{}.{role}", self.settings.prefix, self.settings.install.layout);
        self.outgoing.begin(0, self.ports.log.producer()?);
        let mut consumer = self.ports.log.consumer(&inbox, &group).await?;
        let mut directory = self.ports.directory.watch();
        let mut progress = tokio::time::interval(PROGRESS);
        progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut open = true;
        info!(%role, %group, "running");
        loop {
            self.news(&mut consumer);
            let took = self.timed(|driver| driver.take(&mut consumer));
            // time is looked at in every turn, because under load completed work always comes first
            if self.next_wake().is_some_and(|at| at <= self.ports.clock.now()) {
                self.timed(Self::wake);
            }
            if progress.tick().now_or_never().is_some() {
                self.report(&mut *consumer);
            }
            self.perform(&mut consumer);
            self.tell_traced();
            if std::mem::take(&mut self.rejoin) && self.deadline.is_none() {
                self.lose_all();
                consumer.close().await;
                consumer = self.ports.log.consumer(&inbox, &group).await?;
                continue;
            }
            if let Some(exit) = self.exit() {
                consumer.close().await;
                self.ports.speaker.say(&*self.ports.log, &*self.ports.clock, role, Vec::new());
                info!(%role, ?exit, "ended");
                return Ok(exit);
            }
            let (clock, wake) = (Arc::clone(&self.ports.clock), self.next_wake());
            let woken = async move {
                match wake {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(done) = self.running.next(), if !self.running.is_empty() => {
                    self.timed(|driver| driver.all_done(done));
                }
                asked = self.asked.recv(), if open => {
                    open = asked.is_some();
                    self.answer(asked.unwrap_or(Asked::Drain));
                }
                Ok(()) = directory.changed(), if role == Role::Segmenter => self.hear(),
                _ = progress.tick() => self.report(&mut *consumer),
                () = woken => self.timed(Self::wake),
                // more may lie there, but the others had their turn
                () = std::future::ready(()), if took => tokio::task::yield_now().await,
                () = consumer.ready() => {}
            }
        }
    }

    /// When something is due at the latest.
    fn next_wake(&self) -> Option<Timestamp> {
        [self.machine.next_wake(), self.membership.next_wake(), self.outgoing.next_wake(), self.deadline].into_iter().flatten().min()
    }

    fn wake(&mut self) {
        self.membership.expire(self.ports.clock.now());
        self.retry();
        self.feed(Input::Wake);
    }

    /// Says what is owned, and notes the group's offsets.
    fn report(&mut self, consumer: &mut dyn Consumer) {
        let all = self.machine.progress();
        for one in &all {
            consumer.note(one.partition.index, one.off);
        }
        self.ports.speaker.say(&*self.ports.log, &*self.ports.clock, self.machine.role(), all);
        self.show(consumer.is_member());
    }

    fn answer(&mut self, asked: Asked) {
        match asked {
            Asked::Read(partition, entity, answer) => {
                self.query += 1;
                self.queries.insert(self.query, answer);
                self.feed(Input::Query(self.query, partition, entity));
            }
            Asked::DefinitionsChanged => self.feed(Input::DefinitionsChanged),
            Asked::Skips(skips) => self.feed(Input::Skips(skips)),
            Asked::Drain => {
                if self.deadline.is_none() {
                    self.deadline = Some(self.ports.clock.now().plus(self.settings.grace));
                    self.feed(Input::Drain);
                }
            }
        }
    }

    /// Whether it is over, and how.
    fn exit(&mut self) -> Option<Exit> {
        if let Some(why) = self.gave_up.take() {
            return Some(Exit::GaveUp(why));
        }
        let deadline = self.deadline?;
        if self.membership.owned.is_empty() && self.machine.idle() {
            return Some(Exit::Drained);
        }
        (self.ports.clock.now() >= deadline).then_some(Exit::Unfinished)
    }

    /// Feeds one input; what is to be done is done before the next wait.
    fn feed(&mut self, input: Input) {
        self.machine.handle(self.ports.clock.now(), input, &mut self.commands);
    }

    /// Takes records where they are wanted; says whether there were any.
    fn take(&mut self, consumer: &mut Box<dyn Consumer>) -> bool {
        let mut took = false;
        let owned: BTreeSet<u32> = self.membership.owned.clone();
        for partition in owned {
            for _ in 0..TAKE {
                if !self.machine.wants(partition) {
                    break;
                }
                let Some(delivery) = consumer.take(partition) else { break };
                took = true;
                self.feed(Input::Delivered(delivery));
            }
        }
        took
    }

    /// Brings what identity has said to the segmenter, where it is news.
    fn hear(&mut self) {
        for (partition, through) in self.ports.directory.through() {
            let last = self.through.insert(partition, through);
            if last.is_none_or(|last| through > last) {
                self.feed(Input::Through(partition, through));
            }
        }
    }

    /// Takes in this and everything else that is complete by now, so that a commit covers more of it. What the
    /// jobs of one partition bring goes into the log together: attempts cost a frame a batch, not one each.
    fn all_done(&mut self, first: Done) {
        let mut brought: BTreeMap<u32, Vec<Proposal>> = BTreeMap::new();
        let mut next = Some(first);
        while let Some(done) = next {
            match done {
                Done::Input(Input::JobDone(partition, proposals)) => {
                    if let Some(others) = brought.get_mut(&partition) {
                        others.extend(proposals);
                        self.feed(Input::JobDone(partition, Vec::new()));
                    } else {
                        brought.insert(partition, proposals);
                    }
                }
                done @ (Done::Input(_) | Done::Produced(..) | Done::Prefix(..)) => self.done(done),
            }
            next = self.running.next().now_or_never().flatten();
        }
        for (partition, proposals) in brought {
            self.feed(Input::JobDone(partition, proposals));
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Input(input) => {
                if let Input::Committed(partition, _, Ok(CommitReply::Ok | CommitReply::Already)) = &input {
                    self.tell_committed(*partition);
                }
                self.feed(input);
            }
            // what a discarded producer still says is void
            Done::Produced(life, input) => {
                if life == self.outgoing.life() {
                    self.feed(input);
                }
            }
            Done::Prefix(topic, version, prefix) => {
                self.outgoing.prefixed(topic, version, prefix, self.ports.clock.now());
                self.retry();
            }
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ports")
    }
}
