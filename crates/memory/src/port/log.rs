//! The port `Log` on the log in memory, with groups whose members share the partitions.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use tokio::sync::watch;
use waypost_runtime::ports::{Append, AppendError, Consumer, Delivery, Log, LogError, Offset, Producer, Subscription, Tail, TopicSpec};

use super::group::{Groups, Member};
use crate::MemoryLog;

/// A log in memory behind the port; clones share records and groups.
#[derive(Clone, Debug)]
pub struct LogPort {
    log: MemoryLog,
    groups: Arc<Groups>,
    offsets: Offsets,
}

/// Committed offsets by (topic, group).
type Offsets = Arc<Mutex<BTreeMap<(String, String), BTreeMap<u32, Offset>>>>;

/// A producer's life: over at the first error.
#[derive(Debug)]
struct Life {
    log: MemoryLog,
    over: AtomicBool,
}

#[derive(Debug)]
struct PartitionTail {
    log: MemoryLog,
    appended: watch::Receiver<u64>,
    topic: String,
    partition: u32,
    next: Offset,
    /// Whether the end has been told since the last record.
    told: bool,
}

/// The one member of its group: subscriptions in memory do not share partitions.
#[derive(Debug)]
struct Reader {
    log: MemoryLog,
    appended: watch::Receiver<u64>,
    offsets: Offsets,
    name: (String, String),
    positions: BTreeMap<u32, Offset>,
}

// === impl LogPort ===

impl LogPort {
    /// The port on `log`.
    pub fn new(log: MemoryLog) -> Self {
        Self { log, groups: Arc::default(), offsets: Offsets::default() }
    }

    /// The log behind it, with its levers.
    pub fn core(&self) -> &MemoryLog {
        &self.log
    }
}

#[async_trait]
impl Log for LogPort {
    fn producer(&self) -> Result<Arc<dyn Producer>, LogError> {
        Ok(Arc::new(Life { log: self.log.clone(), over: AtomicBool::new(false) }))
    }

    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        let partitions = self.log.describe(topic).ok_or(LogError::Unknown)?.partitions;
        Ok(Box::new(Member::join(&self.groups, self.log.clone(), topic, group, partitions)))
    }

    async fn tail(&self, topic: &str, partition: u32, from: Offset) -> Result<Box<dyn Tail>, LogError> {
        let (log, appended) = (self.log.clone(), self.log.watch());
        Ok(Box::new(PartitionTail { log, appended, topic: topic.to_owned(), partition, next: from, told: false }))
    }

    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Subscription>, LogError> {
        let partitions = self.log.describe(topic).ok_or(LogError::Unknown)?.partitions;
        let name = (topic.to_owned(), group.to_owned());
        let mut positions = BTreeMap::new();
        for partition in 0..partitions {
            let committed = lock(&self.offsets).get(&name).and_then(|o| o.get(&partition).copied());
            let next = committed.map_or_else(|| self.log.watermarks(topic, partition).map(|(start, _)| start), Ok)?;
            positions.insert(partition, next);
        }
        let (log, appended) = (self.log.clone(), self.log.watch());
        Ok(Box::new(Reader { log, appended, offsets: Arc::clone(&self.offsets), name, positions }))
    }

    async fn watermarks(&self, topic: &str, partition: u32) -> Result<(Offset, Offset), LogError> {
        self.log.watermarks(topic, partition)
    }

    async fn create(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        Ok(self.log.create(topics))
    }

    async fn describe(&self, topic: &str) -> Result<Option<TopicSpec>, LogError> {
        Ok(self.log.describe(topic))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Life ===

impl Producer for Life {
    fn append(&self, record: Append) -> Pin<Box<dyn Future<Output = Result<Offset, AppendError>> + Send + 'static>> {
        let answer = if self.over.load(Ordering::Acquire) {
            Err(AppendError::Failed("this producer's life is over".into()))
        } else {
            self.log.append(record)
        };
        if answer.is_err() {
            self.over.store(true, Ordering::Release);
        }
        Box::pin(std::future::ready(answer))
    }

    fn purge(&self) {
        self.over.store(true, Ordering::Release);
    }
}

// === impl PartitionTail ===

#[async_trait]
impl Tail for PartitionTail {
    async fn next(&mut self) -> Result<Option<Delivery>, LogError> {
        loop {
            if let Some(delivery) = self.log.read(&self.topic, self.partition, self.next)? {
                self.next += 1;
                self.told = false;
                return Ok(Some(delivery));
            }
            if !self.told {
                self.told = true;
                return Ok(None);
            }
            self.appended.changed().await.map_err(|_| LogError::Unavailable("the log is gone".into()))?;
        }
    }
}

// === impl Reader ===

#[async_trait]
impl Subscription for Reader {
    async fn next(&mut self) -> Result<Delivery, LogError> {
        loop {
            for (partition, next) in &mut self.positions {
                if let Some(delivery) = self.log.read(&self.name.0, *partition, *next)? {
                    *next += 1;
                    return Ok(delivery);
                }
            }
            self.appended.changed().await.map_err(|_| LogError::Unavailable("the log is gone".into()))?;
        }
    }

    async fn commit(&mut self, partition: u32, next: Offset) -> Result<(), LogError> {
        lock(&self.offsets).entry(self.name.clone()).or_default().insert(partition, next);
        Ok(())
    }

    fn back(&mut self, partition: u32, offset: Offset) -> Result<(), LogError> {
        *self.positions.get_mut(&partition).ok_or(LogError::Unknown)? = offset;
        Ok(())
    }
}
