//! The port `Log`.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use waypost_runtime::ports::{Consumer, Log, LogError, Offset, Producer, Subscription, Tail, TopicSpec};
use waypost_types::Timestamp;

use crate::{
    admin::Admin,
    connection::{Connection, ConnectionError},
    consumer::GroupConsumer,
    producer::LifeProducer,
    settings::Settings,
    subscription::GroupSubscription,
    tail::PartitionTail,
};

/// A Kafka cluster.
pub struct KafkaLog {
    settings: Settings,
    admin: Admin,
}

// === impl KafkaLog ===

impl KafkaLog {
    /// The cluster that `connection` leads to. Nothing connects before the first call.
    ///
    /// # Errors
    /// A file that cannot be read, or a setting that librdkafka does not take.
    pub fn new(connection: &Connection) -> Result<Self, ConnectionError> {
        let settings = Settings::new(connection);
        let admin = Admin::new(&settings)?;
        Ok(Self { settings, admin })
    }
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog").finish_non_exhaustive()
    }
}

#[async_trait]
impl Log for KafkaLog {
    fn producer(&self) -> Result<Arc<dyn Producer>, LogError> {
        Ok(Arc::new(LifeProducer::new(&self.settings)?))
    }

    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        Ok(Box::new(GroupConsumer::join(&self.settings, topic, group)?))
    }

    async fn tail(&self, topic: &str, partition: u32, from: Offset) -> Result<Box<dyn Tail>, LogError> {
        Ok(Box::new(PartitionTail::open(&self.settings, topic, partition, from)?))
    }

    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Subscription>, LogError> {
        Ok(Box::new(GroupSubscription::join(&self.settings, topic, group)?))
    }

    async fn watermarks(&self, topic: &str, partition: u32) -> Result<(Offset, Offset), LogError> {
        self.admin.watermarks(topic, partition).await
    }

    async fn offset_at(&self, topic: &str, partition: u32, instant: Timestamp) -> Result<Offset, LogError> {
        self.admin.offset_at(topic, partition, instant).await
    }

    async fn reach(&self, topic: &str) -> Result<usize, LogError> {
        self.admin.reach(topic).await
    }

    async fn create(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        self.admin.create(topics).await
    }

    async fn describe(&self, topic: &str) -> Result<Option<TopicSpec>, LogError> {
        self.admin.describe(topic).await
    }

    async fn brokers(&self) -> Result<Vec<(String, Vec<(String, String)>)>, LogError> {
        self.admin.brokers().await
    }
}
