//! A member of a group whose offsets live in Kafka.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rdkafka::{
    Offset as At, TopicPartitionList,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
};
use tracing::{debug, info, warn};
use waypost_runtime::ports::{Delivery, LogError, Offset, Subscription};

use crate::{
    convert::{delivery, log_error, partition_error, raw_offset, signed},
    settings::{Recipe, Settings},
    standing::{ADRIFT, Accountable, leave},
};

/// The member.
pub(crate) struct GroupSubscription {
    consumer: Arc<StreamConsumer<Accountable>>,
    recipe: Recipe,
    topic: String,
    /// Accounts in a row without a place in the group that are too many.
    limit: u32,
}

// === impl GroupSubscription ===

impl GroupSubscription {
    pub(crate) fn join(settings: &Settings, topic: &str, group: &str) -> Result<Self, LogError> {
        Self::with(settings.subscription(group), topic, ADRIFT)
    }

    /// By a recipe of its own, and how many accounts in a row without a place are too many.
    pub(crate) fn with(recipe: Recipe, topic: &str, limit: u32) -> Result<Self, LogError> {
        let consumer = subscribe(&recipe, topic)?;
        Ok(Self { consumer, recipe, topic: topic.to_owned(), limit })
    }

    /// Lets a new client join if this one has lost its place and does not find it again, or brokers refuse it for what was renewed
    /// since. What was not committed comes again, as after any rebalance.
    fn replace_if_adrift(&mut self) {
        let standing = &self.consumer.context().standing;
        let has_partitions = || self.consumer.assignment().is_ok_and(|partitions| partitions.count() > 0);
        if self.consumer.context().is_locked_out() {
            info!(topic = self.topic, "brokers refuse what was renewed in a file since: a new client joins");
        } else if standing.is_adrift(self.limit) && !has_partitions() {
            warn!(topic = self.topic, "the client has found no place for long: a new one joins");
        } else {
            return;
        }
        match subscribe(&self.recipe, &self.topic) {
            Ok(consumer) => {
                let stuck = std::mem::replace(&mut self.consumer, consumer);
                leave(&self.topic, stuck);
            }
            Err(error) => {
                warn!(topic = self.topic, %error, "cannot join");
                standing.start_over();
            }
        }
    }
}

fn subscribe(recipe: &Recipe, topic: &str) -> Result<Arc<StreamConsumer<Accountable>>, LogError> {
    let consumer: StreamConsumer<Accountable> = recipe.make(Accountable::new)?;
    consumer.subscribe(&[topic]).map_err(|e| log_error(&e))?;
    Ok(Arc::new(consumer))
}

#[async_trait]
impl Subscription for GroupSubscription {
    async fn next(&mut self) -> Result<Delivery, LogError> {
        loop {
            let received = tokio::select! {
                received = self.consumer.recv() => received,
                () = self.consumer.context().standing.heard() => {
                    self.replace_if_adrift();
                    continue;
                }
            };
            match received {
                Ok(message) => return Ok(delivery(&message)),
                Err(error) => {
                    if let Some(error) = partition_error(&error) {
                        return Err(error);
                    }
                    // the client reconnects by itself, or is replaced
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
