//! `wp1.progress`: what every process says of the partitions it owns, and who reads it.
//!
//! Per process a record whenever something has changed, at the latest once a second: its private gRPC
//! address, and per owned partition `through`, offsets, engine, definitions. Never an input of a fold:
//! `through` is a true statement about the log whoever makes it, and an address only says whom to ask.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use prost::Message as _;
use tokio::sync::watch;
use tracing::{debug, warn};
use waypost_types::{PartitionId, Role, Span, Timestamp};

use crate::{
    config::Config,
    machine::Progress,
    ports::{Append, AppendError, Clock, Log, LogError, Offset, Producer},
};

/// The topic, without prefix.
pub const TOPIC: &str = "wp1.progress";
/// How often a process says the same again, so that a reader that comes later hears it.
const AGAIN: Span = Span::from_secs(1);
/// An owner that has said nothing for so long is none.
const FORGET: Span = Span::from_secs(10);
/// A producer that has not acknowledged anything for so long is given up: a client may forget all brokers.
const UNHEARD: Span = Span::from_secs(5);
/// How much of the past a reader that begins reads: enough for every process to have spoken.
const BACK: Offset = 200;

/// One process's record.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Statement {
    #[prost(string, tag = "1")]
    address: String,
    #[prost(message, repeated, tag = "2")]
    partitions: Vec<Line>,
    /// First and last engine that the process can fold with; 0 and 0 of a binary from before there were two.
    #[prost(uint32, tag = "3")]
    engines_from: u32,
    #[prost(uint32, tag = "4")]
    engines_to: u32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Line {
    #[prost(uint32, tag = "1")]
    role: u32,
    #[prost(uint32, tag = "2")]
    partition: u32,
    #[prost(int64, tag = "3")]
    through: i64,
    #[prost(uint64, tag = "4")]
    off: u64,
    #[prost(uint64, tag = "5")]
    next: u64,
    #[prost(uint32, tag = "6")]
    eng: u32,
    #[prost(string, tag = "7")]
    defv: String,
    #[prost(bool, tag = "8")]
    leading: bool,
    #[prost(string, tag = "9")]
    halted: String,
    /// `<role>/<partition>` of sources that diverged.
    #[prost(string, repeated, tag = "10")]
    diverged: Vec<String>,
    /// Since when the oldest gap is open.
    #[prost(int64, optional, tag = "11")]
    gap: Option<i64>,
}

/// What somebody said last of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Private gRPC address.
    pub address: String,
    /// What it says.
    pub progress: Progress,
    /// When the broker had it.
    pub heard: Timestamp,
}

/// Who owns what, as far as anybody has said; fed by one reader a process.
#[derive(Debug)]
pub struct Directory {
    owners: Mutex<BTreeMap<PartitionId, Owner>>,
    /// Highest `through` ever said, by identity partition; an owner that goes away takes none back.
    through: Mutex<BTreeMap<u32, Timestamp>>,
    /// What each process can fold with, and when it last said so.
    engines: Mutex<BTreeMap<String, (RangeInclusive<u32>, Timestamp)>>,
    changed: watch::Sender<u64>,
}

/// Says what this process owns; all roles of the process through one.
pub struct Speaker {
    topic: String,
    address: String,
    engines: RangeInclusive<u32>,
    said: Mutex<BTreeMap<Role, (Bytes, Timestamp)>>,
    voice: Mutex<Option<Voice>>,
}

/// A producer's life, and what it has not acknowledged yet, the oldest first.
struct Voice {
    producer: Arc<dyn Producer>,
    unanswered: VecDeque<(Timestamp, BoxFuture<'static, Result<Offset, AppendError>>)>,
}

// === impl Directory ===

impl Default for Directory {
    fn default() -> Self {
        Self { owners: Mutex::default(), through: Mutex::default(), engines: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Directory {
    /// A directory and the task that keeps it; the task ends with the runtime.
    pub fn follow(log: Arc<dyn Log>, prefix: &str) -> Arc<Self> {
        let directory = Arc::new(Self::default());
        let (mine, topic) = (Arc::clone(&directory), format!("{prefix}{TOPIC}"));
        drop(tokio::task::spawn(async move { mine.read(&*log, &topic).await }));
        directory
    }

    async fn read(&self, log: &dyn Log, topic: &str) {
        loop {
            if let Err(error) = self.read_once(log, topic).await {
                debug!(%error, "progress is not to be had");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn read_once(&self, log: &dyn Log, topic: &str) -> Result<(), LogError> {
        let (start, end) = log.watermarks(topic, 0).await?;
        let mut tail = log.tail(topic, 0, start.max(end.saturating_sub(BACK))).await?;
        loop {
            if let Some(delivery) = tail.next().await? {
                self.hear(&delivery.payload, delivery.appended);
            }
        }
    }

    /// Takes in one record.
    pub fn hear(&self, payload: &Bytes, heard: Timestamp) {
        // What the doctor appends to see the log's clock: nobody speaks.
        if payload.is_empty() {
            return;
        }
        let Ok(statement) = Statement::decode(payload.clone()) else {
            warn!("a record of the progress topic cannot be read");
            return;
        };
        let has = statement.engines_from.max(1)..=statement.engines_to.max(1);
        lock(&self.engines).insert(statement.address.clone(), (has, heard));
        for line in statement.partitions {
            let Some(role) = Role::from_number(line.role) else { continue };
            let progress = line.into_progress(role);
            if role == Role::Identity {
                let mut all = lock(&self.through);
                let known = all.entry(progress.partition.index).or_insert(progress.through);
                *known = progress.through.max(*known);
            }
            let owner = Owner { address: statement.address.clone(), progress, heard };
            let mut owners = lock(&self.owners);
            // two may say they own it for a moment; who has come further does
            let keep = owners.get(&owner.progress.partition).is_some_and(|known| {
                known.address != owner.address
                    && known.progress.leading
                    && !owner.progress.leading
                    && heard.since(known.heard) < FORGET
                    && known.progress.next > owner.progress.next
            });
            if !keep {
                owners.insert(owner.progress.partition, owner);
            }
        }
        self.changed.send_modify(|n| *n += 1);
    }

    /// Who owns the partition, if somebody has said so lately.
    pub fn owner(&self, partition: PartitionId, now: Timestamp) -> Option<Owner> {
        lock(&self.owners).get(&partition).filter(|o| now.since(o.heard) < FORGET).cloned()
    }

    /// All owners that were heard lately.
    pub fn owners(&self, now: Timestamp) -> Vec<Owner> {
        lock(&self.owners).values().filter(|o| now.since(o.heard) < FORGET).cloned().collect()
    }

    /// Engines of every process that was heard lately, by its address.
    pub fn engines(&self, now: Timestamp) -> Vec<(String, RangeInclusive<u32>)> {
        let engines = lock(&self.engines);
        engines.iter().filter(|(_, (_, heard))| now.since(*heard) < FORGET).map(|(a, (has, _))| (a.clone(), has.clone())).collect()
    }

    /// Highest `through` of each identity partition that has said one.
    pub fn through(&self) -> Vec<(u32, Timestamp)> {
        lock(&self.through).iter().map(|(p, t)| (*p, *t)).collect()
    }

    /// Changes with every record heard.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

// === impl Speaker ===

impl Speaker {
    /// Speaks for the process whose private gRPC address is `address`.
    pub fn new(prefix: &str, address: impl Into<String>) -> Self {
        let (said, voice) = (Mutex::default(), Mutex::default());
        let engines = Config::default().engines;
        Self { topic: format!("{prefix}{TOPIC}"), address: address.into(), engines, said, voice }
    }

    /// For a process whose machines have these engines.
    #[must_use]
    pub fn with_engines(self, engines: RangeInclusive<u32>) -> Self {
        Self { engines, ..self }
    }

    /// Says what a role owns, if it has changed or a second has passed. Nobody waits for it; what gets
    /// lost is said again.
    pub fn say(&self, log: &dyn Log, clock: &dyn Clock, role: Role, progress: Vec<Progress>) {
        let statement = Statement {
            address: self.address.clone(),
            partitions: progress.into_iter().map(Line::from).collect(),
            engines_from: *self.engines.start(),
            engines_to: *self.engines.end(),
        };
        let payload = Bytes::from(statement.encode_to_vec());
        let now = clock.now();
        {
            let mut said = lock(&self.said);
            if said.get(&role).is_some_and(|(last, at)| *last == payload && now.since(*at) < AGAIN) {
                return;
            }
            said.insert(role, (payload.clone(), now));
        }
        let mut voice = lock(&self.voice);
        if voice.as_mut().is_some_and(|voice| !voice.carries(now)) {
            *voice = None;
        }
        let voice = match &mut *voice {
            Some(voice) => voice,
            none => match log.producer() {
                Ok(producer) => none.insert(Voice { producer, unanswered: VecDeque::new() }),
                Err(error) => return debug!(%error, "progress is not said"),
            },
        };
        let append = Append { topic: self.topic.clone(), partition: 0, key: None, headers: Vec::new(), payload };
        voice.unanswered.push_back((now, voice.producer.append(append)));
    }
}

// === impl Voice ===

impl Voice {
    /// Whether it is still heard: nothing has failed, and nothing has been without an answer for too long. Not to be asked
    /// again once it is not.
    fn carries(&mut self, now: Timestamp) -> bool {
        while let Some((since, answer)) = self.unanswered.front_mut() {
            match answer.now_or_never() {
                Some(Ok(_)) => drop(self.unanswered.pop_front()),
                Some(Err(error)) => {
                    debug!(%error, "progress was not said");
                    return false;
                }
                None => return now.since(*since) < UNHEARD,
            }
        }
        true
    }
}

impl fmt::Debug for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speaker").field("address", &self.address).finish_non_exhaustive()
    }
}

// === impl Line ===

impl From<Progress> for Line {
    fn from(progress: Progress) -> Self {
        Self {
            role: progress.partition.role.number(),
            partition: progress.partition.index,
            through: progress.through.millis(),
            off: progress.off,
            next: progress.next,
            eng: progress.eng,
            defv: progress.defv,
            leading: progress.leading,
            halted: progress.halted.unwrap_or_default(),
            diverged: progress.diverged.iter().map(ToString::to_string).collect(),
            gap: progress.gap.map(Timestamp::millis),
        }
    }
}

impl Line {
    fn into_progress(self, role: Role) -> Progress {
        Progress {
            partition: PartitionId { role, index: self.partition },
            through: Timestamp::from_millis(self.through),
            off: self.off,
            next: self.next,
            eng: self.eng,
            defv: self.defv,
            leading: self.leading,
            halted: (!self.halted.is_empty()).then_some(self.halted),
            diverged: self.diverged.iter().filter_map(|source| partition(source)).collect(),
            gap: self.gap.map(Timestamp::from_millis),
        }
    }
}

/// `<role>/<partition>`.
fn partition(text: &str) -> Option<PartitionId> {
    let (role, index) = text.split_once('/')?;
    Some(PartitionId { role: role.parse().ok()?, index: index.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(through: i64, next: Offset, leading: bool) -> Progress {
        Progress {
            partition: PartitionId { role: Role::Identity, index: 3 },
            through: Timestamp::from_millis(through),
            off: next,
            next,
            eng: 1,
            defv: "1:x".into(),
            leading,
            halted: None,
            diverged: vec![PartitionId { role: Role::Sender, index: 2 }],
            gap: Some(Timestamp::from_millis(7)),
        }
    }

    fn statement(address: &str, progress: Progress) -> Bytes {
        let partitions = vec![Line::from(progress)];
        Statement { address: address.into(), partitions, engines_from: 1, engines_to: 2 }.encode_to_vec().into()
    }

    /// Answers with what it was made with; none is no answer.
    struct Answering(Option<Result<Offset, AppendError>>);

    impl Producer for Answering {
        fn append(&self, _: Append) -> BoxFuture<'static, Result<Offset, AppendError>> {
            match self.0.clone() {
                Some(answer) => Box::pin(std::future::ready(answer)),
                None => Box::pin(std::future::pending()),
            }
        }

        fn purge(&self) {}
    }

    #[test]
    fn a_voice_that_nobody_hears_is_given_up() {
        let failed = AppendError::Failed("late".into());
        for (answer, seconds, carries) in [(Some(Ok(7)), 9, true), (Some(Err(failed)), 0, false), (None, 4, true), (None, 5, false)] {
            let mut voice = Voice { producer: Arc::new(Answering(answer.clone())), unanswered: VecDeque::new() };
            let append = Append { topic: TOPIC.into(), partition: 0, key: None, headers: Vec::new(), payload: Bytes::new() };
            let said = Timestamp::from_millis(1_000);
            voice.unanswered.push_back((said, voice.producer.append(append)));
            assert_eq!(voice.carries(said.plus(Span::from_secs(seconds))), carries, "{answer:?} after {seconds} s");
        }
    }

    #[test]
    fn an_empty_record_is_no_process() {
        let directory = Directory::default();
        directory.hear(&Bytes::new(), Timestamp::ZERO);
        assert_eq!(directory.engines(Timestamp::ZERO), []);
    }

    #[test]
    fn through_only_rises_and_silence_ends_ownership() {
        let directory = Directory::default();
        let at = |s: i64| Timestamp::from_millis(s * 1_000);
        directory.hear(&statement("a:1", progress(500, 7, true)), at(1));
        directory.hear(&statement("b:1", progress(400, 5, false)), at(2));
        assert_eq!(directory.through(), [(3, Timestamp::from_millis(500))]);
        let partition = PartitionId { role: Role::Identity, index: 3 };
        assert_eq!(directory.owner(partition, at(3)).map(|o| o.address).as_deref(), Some("a:1"), "the one that leads");
        directory.hear(&statement("b:1", progress(600, 9, true)), at(4));
        let owner = directory.owner(partition, at(5)).unwrap();
        assert_eq!((owner.address.as_str(), owner.progress), ("b:1", progress(600, 9, true)));
        assert_eq!(directory.owner(partition, at(20)), None);
        directory.hear(&Bytes::from_static(b"\xff\xff"), at(6));
    }
}
