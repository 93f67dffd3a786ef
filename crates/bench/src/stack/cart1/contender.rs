//! What CART-1 asks of a system.

use std::time::Instant;

use bytes::Bytes;
use waypost_bench::cart1::Act;

use super::follow::Found;
use crate::sampler::{Sample, Sampler};

/// A topic, and the broker and partitions that it has.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) brokers: String,
    pub(crate) name: String,
    pub(crate) partitions: u32,
}

/// A Kafka record to be appended.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) partition: u32,
    pub(crate) key: Option<Bytes>,
    pub(crate) bytes: Bytes,
}

/// Finds sends in a record of a partition of the outbox.
pub(crate) type Reader = Box<dyn FnMut(u32, Bytes) -> anyhow::Result<Vec<Found>> + Send>;

/// A system under test.
pub(crate) trait Contender {
    /// Where events go.
    fn inbox(&self) -> Topic;
    /// Where sends come out.
    fn outbox(&self) -> Topic;
    /// How they are read.
    fn reader(&self) -> Reader;
    /// Events as they are appended; those of a partition together at most so many a record, where several go into one.
    fn parcels(&mut self, acts: &[Act], most: usize) -> anyhow::Result<Vec<Parcel>>;
    /// Begins, or goes on behind a pause.
    fn go(&mut self) -> anyhow::Result<()>;
    /// Stands still.
    fn pause(&mut self) -> anyhow::Result<()>;
    /// Waits until everything that lies there is folded and committed.
    fn settle(&mut self) -> anyhow::Result<()>;
    /// An error where something has ended by itself.
    fn check_alive(&mut self) -> anyhow::Result<()>;
    /// Begins to look at what everybody uses and how far he is.
    fn look(&self) -> Sampler;
    /// How many events were folded at each look since the beginning, and when all of them were committed.
    fn folded(&mut self, samples: &[Sample]) -> anyhow::Result<(Vec<u64>, Instant)>;
    /// Ends it and forgets its topics.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}
