//! A member of a group whose offsets live in Kafka.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rdkafka::{
    Offset as At, TopicPartitionList,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
};
use tracing::debug;
use waypost_runtime::ports::{Delivery, LogError, Offset, Subscription};

use crate::{
    convert::{Quiet, delivery, log_error, partition_error, raw_offset, signed},
    settings::Settings,
};

/// The member.
pub(crate) struct GroupSubscription {
    consumer: Arc<StreamConsumer<Quiet>>,
    topic: String,
}

// === impl GroupSubscription ===

impl GroupSubscription {
    pub(crate) fn join(settings: &Settings, topic: &str, group: &str) -> Result<Self, LogError> {
        let consumer: StreamConsumer<Quiet> = settings.subscription(group).create_with_context(Quiet).map_err(|e| log_error(&e))?;
        consumer.subscribe(&[topic]).map_err(|e| log_error(&e))?;
        Ok(Self { consumer: Arc::new(consumer), topic: topic.to_owned() })
    }
}

#[async_trait]
impl Subscription for GroupSubscription {
    async fn next(&mut self) -> Result<Delivery, LogError> {
        loop {
            match self.consumer.recv().await {
                Ok(message) => return Ok(delivery(&message)),
                Err(error) => {
                    if let Some(error) = partition_error(&error) {
                        return Err(error);
                    }
                    // the client reconnects by itself
                    debug!(%error, "subscription");
                }
            }
        }
    }

    async fn commit(&mut self, partition: u32, next: Offset) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, signed(partition), At::Offset(raw_offset(next))).map_err(|e| log_error(&e))?;
        let consumer = Arc::clone(&self.consumer);
        let committed = tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync)).await;
        committed.map_err(|_| LogError::Unavailable("cancelled".into()))?.map_err(|e| log_error(&e))
    }

    fn back(&mut self, partition: u32, offset: Offset) -> Result<(), LogError> {
        // It waits for the fetcher, so that nothing from before the move is delivered after it. Rare:
        // only behind a failed append.
        self.consumer
            .seek(&self.topic, signed(partition), At::Offset(raw_offset(offset)), Duration::from_secs(1))
            .map_err(|e| log_error(&e))
    }
}
