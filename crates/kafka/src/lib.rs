//! The [`Log`](waypost_runtime::ports::Log) on Apache Kafka, by librdkafka.
//!
//! The consumer is the one place of the product where a mistake of the client's becomes a mistake of
//! ours, so it keeps to PROTOCOL §6: a queue a partition, split off before the assignment; a thread
//! that polls for ever for rebalances and errors; back-pressure by not taking. `pause` and `resume`
//! are never called: librdkafka has lost assigned offsets under them (#2190, #4637, #5591).
//!
//! No name of rdkafka's leaves this crate.

mod admin;
mod asker;
mod connection;
mod consumer;
mod convert;
mod grant;
mod log;
mod member;
mod producer;
mod settings;
mod standing;
mod subscription;
mod tail;
mod tokens;

pub use connection::{Certificate, Connection, ConnectionError, Mechanism, Sasl, Tls};
pub use log::KafkaLog;
pub use tokens::{Token, TokenFile, Tokens};
