//! Between librdkafka's words and the port's.

use bytes::Bytes;
use rdkafka::{
    ClientContext, Message,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
};
use tracing::{debug, warn};
use waypost_runtime::ports::{Delivery, LogError};
use waypost_types::Timestamp;

/// What librdkafka says in passing, as log lines; a broker that comes and goes is no error of ours.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quiet;

// === impl Quiet ===

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Quiet {}

pub(crate) fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            warn!(facility, message, "kafka client");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            debug!(facility, message, "kafka client");
        }
    }
}

/// A partition or replica number; Kafka's are never negative where they come from a broker.
pub(crate) fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// The other way; a number beyond i32 names no partition.
pub(crate) fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub(crate) fn offset(raw: i64) -> u64 {
    u64::try_from(raw).unwrap_or(0)
}

pub(crate) fn raw_offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

pub(crate) fn delivery(message: &BorrowedMessage<'_>) -> Delivery {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|h| (h.key.to_owned(), Bytes::copy_from_slice(h.value.unwrap_or_default()))).collect()
    });
    Delivery {
        partition: unsigned(message.partition()),
        offset: offset(message.offset()),
        appended: Timestamp::from_millis(message.timestamp().to_millis().unwrap_or(0)),
        key: message.key().map(Bytes::copy_from_slice),
        headers,
        payload: message.payload().map_or_else(Bytes::new, Bytes::copy_from_slice),
    }
}

/// No such topic or partition, in librdkafka's words and the broker's.
pub(crate) const UNKNOWN: [RDKafkaErrorCode; 3] =
    [RDKafkaErrorCode::UnknownTopic, RDKafkaErrorCode::UnknownPartition, RDKafkaErrorCode::UnknownTopicOrPartition];

/// A partition's error; none where the client goes on by itself.
pub(crate) fn partition_error(error: &KafkaError) -> Option<LogError> {
    const RANGE: [RDKafkaErrorCode; 2] = [RDKafkaErrorCode::AutoOffsetReset, RDKafkaErrorCode::OffsetOutOfRange];
    let code = error.rdkafka_error_code()?;
    if RANGE.contains(&code) { Some(LogError::OutOfRange) } else { UNKNOWN.contains(&code).then_some(LogError::Unknown) }
}

/// Any error as the port's.
pub(crate) fn log_error(error: &KafkaError) -> LogError {
    partition_error(error).unwrap_or_else(|| LogError::Unavailable(error.to_string()))
}
