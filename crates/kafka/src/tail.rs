//! One partition from an offset to its growing end, without a group.

use async_trait::async_trait;
use rdkafka::{
    Offset as At, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaError,
};
use tracing::{debug, info, warn};
use waypost_runtime::ports::{Delivery, LogError, Offset, Tail};

use crate::{
    convert::{delivery, log_error, partition_error, raw_offset, signed},
    settings::{Recipe, Settings},
    standing::{Accountable, leave},
};

/// The reader.
pub(crate) struct PartitionTail {
    consumer: StreamConsumer<Accountable>,
    /// Of the next client, if there has to be one.
    pub(crate) recipe: Recipe,
    topic: String,
    partition: u32,
    /// What it delivers next, or something behind it.
    next: Offset,
}

// === impl PartitionTail ===

impl PartitionTail {
    pub(crate) fn open(settings: &Settings, topic: &str, partition: u32, from: Offset) -> Result<Self, LogError> {
        Self::with(settings.tail(), topic, partition, from)
    }

    /// By a recipe of its own.
    pub(crate) fn with(recipe: Recipe, topic: &str, partition: u32, from: Offset) -> Result<Self, LogError> {
        let consumer = read(&recipe, topic, partition, from)?;
        Ok(Self { consumer, recipe, topic: topic.to_owned(), partition, next: from })
    }

    /// Lets a new client read on if this one knows no broker any more, or is known to none.
    fn replace_if_alone(&mut self) {
        let standing = &self.consumer.context().standing;
        if standing.is_alone() {
            warn!(topic = self.topic, "the client has known no broker for long: a new one reads on");
        } else if self.consumer.context().is_locked_out() {
            info!(topic = self.topic, "brokers refuse what was renewed in a file since: a new client reads on");
        } else {
            return;
        }
        match read(&self.recipe, &self.topic, self.partition, self.next) {
            Ok(consumer) => {
                let stuck = std::mem::replace(&mut self.consumer, consumer);
                leave(&self.topic, stuck);
            }
            Err(error) => {
                warn!(topic = self.topic, %error, "cannot read on");
                standing.start_over();
            }
        }
    }
}

fn read(recipe: &Recipe, topic: &str, partition: u32, from: Offset) -> Result<StreamConsumer<Accountable>, LogError> {
    let consumer: StreamConsumer<Accountable> = recipe.make(Accountable::new)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, signed(partition), At::Offset(raw_offset(from))).map_err(|e| log_error(&e))?;
    consumer.assign(&list).map_err(|e| log_error(&e))?;
    Ok(consumer)
}

#[async_trait]
impl Tail for PartitionTail {
    async fn next(&mut self) -> Result<Option<Delivery>, LogError> {
        loop {
            let received = tokio::select! {
                received = self.consumer.recv() => received,
                () = self.consumer.context().standing.heard() => {
                    self.replace_if_alone();
                    continue;
                }
            };
            match received {
                Ok(message) => {
                    let delivery = delivery(&message);
                    self.next = delivery.offset + 1;
                    return Ok(Some(delivery));
                }
                Err(KafkaError::PartitionEOF(_)) => return Ok(None),
                Err(error) => {
                    if let Some(error) = partition_error(&error) {
                        return Err(error);
                    }
                    // the client reconnects by itself, or is replaced
                    debug!(%error, "tail");
                }
            }
        }
    }
}
