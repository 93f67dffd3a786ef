//! Sends as they can be read: by a plain consumer that sees what is committed, the same for everybody.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::contender::{Reader, Topic};

/// A send, as it stands in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: [u8; 16],
    pub(crate) person: u64,
    pub(crate) cart: u64,
    pub(crate) cents: i64,
}

/// A send that could be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) id: [u8; 16],
    pub(crate) person: u64,
    pub(crate) cart: u64,
    pub(crate) cents: i64,
    pub(crate) at: Instant,
}

/// Reads a topic from its beginning until it is told to stop.
#[derive(Debug)]
pub(crate) struct Follower {
    stop: Arc<AtomicBool>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    thread: JoinHandle<anyhow::Result<()>>,
}

// === impl Follower ===

impl Follower {
    pub(crate) fn start(brokers: &str, topic: &Topic, mut reader: Reader) -> anyhow::Result<Self> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers).set("group.id", "bench").set("enable.auto.commit", "false");
        settings.set("isolation.level", "read_committed").set("fetch.min.bytes", "1");
        let consumer: BaseConsumer = settings.create().context("a consumer")?;
        let mut places = TopicPartitionList::new();
        for partition in 0..topic.partitions {
            places.add_partition_offset(&topic.name, i32::try_from(partition)?, Offset::Beginning)?;
        }
        consumer.assign(&places)?;
        let (stop, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, seen, name) = (Arc::clone(&stop), Arc::clone(&arrived), topic.name.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
                let (at, message) = (Instant::now(), message.with_context(|| format!("reading {name}"))?);
                let payload = Bytes::copy_from_slice(message.payload().unwrap_or_default());
                let found = reader(u32::try_from(message.partition())?, payload)?;
                let came = found.into_iter().map(|Found { id, person, cart, cents }| Arrived { id, person, cart, cents, at });
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend(came);
            }
            Ok(())
        });
        Ok(Self { stop, arrived, thread })
    }

    /// Everything so far.
    pub(crate) fn arrived(&self) -> MutexGuard<'_, Vec<Arrived>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error where nobody reads any more.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.thread.is_finished() {
            bail!("the topic of sends cannot be read any more");
        }
        Ok(())
    }

    pub(crate) fn stop(self) -> anyhow::Result<Vec<Arrived>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the reader of sends ended early"))??;
        let arrived = std::mem::take(&mut *self.arrived.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(arrived)
    }
}
