//! One partition from an offset to its growing end, without a group.

use async_trait::async_trait;
use rdkafka::{
    ClientConfig, Offset as At, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaError,
};
use tracing::{debug, warn};
use waypost_runtime::ports::{Delivery, LogError, Offset, Tail};

use crate::{
    convert::{delivery, log_error, partition_error, raw_offset, signed},
    settings::Settings,
    standing::{Accountable, leave},
};

/// The reader.
pub(crate) struct PartitionTail {
    consumer: StreamConsumer<Accountable>,
    /// Of the next client, if there has to be one.
    pub(crate) settings: ClientConfig,
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

    /// With settings of librdkafka.
    pub(crate) fn with(settings: ClientConfig, topic: &str, partition: u32, from: Offset) -> Result<Self, LogError> {
        let consumer = read(&settings, topic, partition, from)?;
        Ok(Self { consumer, settings, topic: topic.to_owned(), partition, next: from })
    }

    /// Lets a new client read on if this one knows no broker any more.
    fn replace_if_alone(&mut self) {
        let standing = &self.consumer.context().standing;
        if !standing.is_alone() {
            return;
        }
        warn!(topic = self.topic, "the client has known no broker for long: a new one reads on");
        match read(&self.settings, &self.topic, self.partition, self.next) {
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

fn read(settings: &ClientConfig, topic: &str, partition: u32, from: Offset) -> Result<StreamConsumer<Accountable>, LogError> {
    let consumer: StreamConsumer<Accountable> = settings.create_with_context(Accountable::default()).map_err(|e| log_error(&e))?;
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
