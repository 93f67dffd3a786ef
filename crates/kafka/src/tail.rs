//! One partition from an offset to its growing end, without a group.

use async_trait::async_trait;
use rdkafka::{
    Offset as At, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaError,
};
use tracing::debug;
use waypost_runtime::ports::{Delivery, LogError, Offset, Tail};

use crate::{
    convert::{Quiet, delivery, log_error, partition_error, raw_offset, signed},
    settings::Settings,
};

/// The reader.
pub(crate) struct PartitionTail {
    consumer: StreamConsumer<Quiet>,
}

// === impl PartitionTail ===

impl PartitionTail {
    pub(crate) fn open(settings: &Settings, topic: &str, partition: u32, from: Offset) -> Result<Self, LogError> {
        let consumer: StreamConsumer<Quiet> = settings.tail().create_with_context(Quiet).map_err(|e| log_error(&e))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, signed(partition), At::Offset(raw_offset(from))).map_err(|e| log_error(&e))?;
        consumer.assign(&list).map_err(|e| log_error(&e))?;
        Ok(Self { consumer })
    }
}

#[async_trait]
impl Tail for PartitionTail {
    async fn next(&mut self) -> Result<Option<Delivery>, LogError> {
        loop {
            match self.consumer.recv().await {
                Ok(message) => return Ok(Some(delivery(&message))),
                Err(KafkaError::PartitionEOF(_)) => return Ok(None),
                Err(error) => {
                    if let Some(error) = partition_error(&error) {
                        return Err(error);
                    }
                    // the client reconnects by itself
                    debug!(%error, "tail");
                }
            }
        }
    }
}
