//! The driver over a real Kafka whose producers fail in the middle of their work; and while others claim what is its own.

#[path = "../../runtime/tests/driver/story.rs"]
mod story;
#[path = "../../runtime/tests/machine/toy.rs"]
#[allow(unreachable_pub, dead_code, clippy::pedantic, reason = "shared with the tests of the machine")]
mod toy;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use waypost_kafka::{Connection, KafkaLog};
use waypost_memory::{
    MemoryStore,
    contract::{fresh_prefix, server},
};
use waypost_runtime::ports::{Append, AppendError, Consumer, Log, LogError, Offset, Producer, Subscription, Tail, TopicSpec};

/// What was resent in one burst would be purged again and again: after so many the producer is left alone.
const PURGES: u64 = 12;

/// Kafka, but for a purge behind every so many outputs, a limited number of times: some of what was queued or on its way
/// is in the log then, the rest is not, and every future fails.
struct Faulty {
    log: KafkaLog,
    every: u64,
    outputs: Arc<AtomicU64>,
    purges: Arc<AtomicU64>,
    joins: Arc<AtomicU64>,
}

struct Life {
    inner: Arc<dyn Producer>,
    every: u64,
    outputs: Arc<AtomicU64>,
    purges: Arc<AtomicU64>,
}

impl Producer for Life {
    fn append(&self, record: Append) -> BoxFuture<'static, Result<Offset, AppendError>> {
        // what a door appends is not repeated by anybody
        let is_output = ["wp1.segment", "wp1.journey", toy::TOPIC].iter().any(|topic| record.topic.ends_with(topic));
        let answer = self.inner.append(record);
        if is_output
            && (self.outputs.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(self.every)
            && self.purges.fetch_add(1, Ordering::SeqCst) < PURGES
        {
            self.inner.purge();
        }
        answer
    }

    fn purge(&self) {
        self.inner.purge();
    }
}

#[async_trait]
impl Log for Faulty {
    fn producer(&self) -> Result<Arc<dyn Producer>, LogError> {
        let (outputs, purges) = (Arc::clone(&self.outputs), Arc::clone(&self.purges));
        Ok(Arc::new(Life { inner: self.log.producer()?, every: self.every, outputs, purges }))
    }

    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        self.joins.fetch_add(1, Ordering::SeqCst);
        self.log.consumer(topic, group).await
    }

    async fn tail(&self, topic: &str, partition: u32, from: Offset) -> Result<Box<dyn Tail>, LogError> {
        self.log.tail(topic, partition, from).await
    }

    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Subscription>, LogError> {
        self.log.subscribe(topic, group).await
    }

    async fn watermarks(&self, topic: &str, partition: u32) -> Result<(Offset, Offset), LogError> {
        self.log.watermarks(topic, partition).await
    }

    async fn create(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        self.log.create(topics).await
    }

    async fn describe(&self, topic: &str) -> Result<Option<TopicSpec>, LogError> {
        self.log.describe(topic).await
    }
}

fn faulty(every: u64) -> Faulty {
    let log = KafkaLog::new(&Connection::new(server("WAYPOST_TEST_KAFKA"))).expect("settings");
    Faulty { log, every, outputs: Arc::default(), purges: Arc::default(), joins: Arc::default() }
}

#[tokio::test]
async fn whatever_a_failed_producer_leaves_open_is_sent_again_in_order() {
    let log = faulty(40);
    let purges = Arc::clone(&log.purges);
    story::story(Arc::new(log), Arc::new(MemoryStore::new()), fresh_prefix()).await;
    assert!(purges.load(Ordering::SeqCst) >= PURGES, "too few failures to show anything: {}", purges.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_process_that_is_fenced_again_and_again_joins_its_group_anew() {
    let log = faulty(u64::MAX);
    let joins = Arc::clone(&log.joins);
    story::duel(Arc::new(log), Arc::new(MemoryStore::new()), fresh_prefix(), joins).await;
}
