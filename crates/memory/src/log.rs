//! A log of topics in memory: dense offsets, append times that never decrease, a start that may be trimmed.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use waypost_runtime::ports::{Append, AppendError, Delivery, LogError, Offset, TopicSpec};
use waypost_types::Timestamp;

use crate::VirtualClock;

/// What a topic without the setting takes in one record: 2 MiB, as an inbox does.
const RECORD_BYTES: usize = 2 << 20;

/// A log that lives as long as its last clone.
#[derive(Clone)]
pub struct MemoryLog {
    topics: Arc<Mutex<BTreeMap<String, Topic>>>,
    time: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    appended: Arc<watch::Sender<u64>>,
}

#[derive(Debug)]
struct Topic {
    spec: TopicSpec,
    record_bytes: usize,
    partitions: Vec<Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    start: Offset,
    records: VecDeque<Delivery>,
    last: Timestamp,
}

// === impl MemoryLog ===

impl MemoryLog {
    /// A log whose append times are those of `clock`.
    pub fn new(clock: &VirtualClock) -> Self {
        let clock = clock.clone();
        Self::with_time(move || clock.now())
    }

    /// A log whose append times `time` tells.
    pub fn with_time(time: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { topics: Arc::default(), time: Arc::new(time), appended: Arc::new(watch::Sender::new(0)) }
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<String, Topic>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with every append, trim or cut; a reader that found nothing waits for it.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    fn notify(&self) {
        // Who comes later looks at the log first.
        if self.appended.receiver_count() > 0 {
            self.appended.send_modify(|n| *n += 1);
        }
    }

    /// Creates what is absent; says which were created.
    pub fn create(&self, specs: &[TopicSpec]) -> Vec<String> {
        let mut topics = self.topics();
        let mut created = Vec::new();
        for spec in specs {
            if topics.contains_key(&spec.name) {
                continue;
            }
            let limit = spec.settings.iter().find(|(name, _)| name == "max.message.bytes").and_then(|(_, value)| value.parse().ok());
            let partitions = (0..spec.partitions).map(|_| Partition::default()).collect();
            topics.insert(spec.name.clone(), Topic { spec: spec.clone(), record_bytes: limit.unwrap_or(RECORD_BYTES), partitions });
            created.push(spec.name.clone());
        }
        created
    }

    /// A topic with these many partitions and no settings.
    pub fn create_plain(&self, name: &str, partitions: u32) {
        self.create(&[TopicSpec { name: name.to_owned(), partitions, replication: 1, settings: Vec::new() }]);
    }

    /// Settings of a topic, if it is there.
    pub fn describe(&self, topic: &str) -> Option<TopicSpec> {
        self.topics().get(topic).map(|t| t.spec.clone())
    }

    /// Names of all topics, sorted.
    pub fn names(&self) -> Vec<String> {
        self.topics().keys().cloned().collect()
    }

    /// Appends one record; its time is now, or that of the record before it if that is later.
    pub fn append(&self, record: Append) -> Result<Offset, AppendError> {
        let now = (self.time)();
        let offset = {
            let mut topics = self.topics();
            let unknown = || AppendError::UnknownPartition { topic: record.topic.clone(), partition: record.partition };
            let topic = topics.get_mut(&record.topic).ok_or_else(unknown)?;
            let bytes = record.payload.len() + record.key.as_ref().map_or(0, bytes::Bytes::len);
            if bytes > topic.record_bytes {
                return Err(AppendError::TooLarge { topic: record.topic, bytes });
            }
            let partition = topic.partitions.get_mut(record.partition as usize).ok_or_else(unknown)?;
            partition.last = partition.last.max(now);
            let offset = partition.end();
            partition.records.push_back(Delivery {
                partition: record.partition,
                offset,
                appended: partition.last,
                key: record.key,
                headers: record.headers,
                payload: record.payload,
            });
            offset
        };
        self.notify();
        Ok(offset)
    }

    /// The record at `offset`; none at the end.
    ///
    /// # Errors
    /// Out of range below the start or beyond the end, unknown without such a partition.
    pub fn read(&self, topic: &str, partition: u32, offset: Offset) -> Result<Option<Delivery>, LogError> {
        let topics = self.topics();
        let partition = topics.get(topic).and_then(|t| t.partitions.get(partition as usize)).ok_or(LogError::Unknown)?;
        if offset > partition.end() {
            return Err(LogError::OutOfRange);
        }
        let index = offset.checked_sub(partition.start).ok_or(LogError::OutOfRange)?;
        Ok(usize::try_from(index).ok().and_then(|i| partition.records.get(i)).cloned())
    }

    /// All records of a partition that are still there.
    pub fn all(&self, topic: &str, partition: u32) -> Vec<Delivery> {
        let topics = self.topics();
        topics.get(topic).and_then(|t| t.partitions.get(partition as usize)).map_or_else(Vec::new, |p| p.records.iter().cloned().collect())
    }

    /// First offset there, and the next to be written.
    pub fn watermarks(&self, topic: &str, partition: u32) -> Result<(Offset, Offset), LogError> {
        let topics = self.topics();
        let partition = topics.get(topic).and_then(|t| t.partitions.get(partition as usize)).ok_or(LogError::Unknown)?;
        Ok((partition.start, partition.end()))
    }

    /// Lever: forgets everything before `start` (retention).
    pub fn trim(&self, topic: &str, partition: u32, start: Offset) {
        self.with_partition(topic, partition, |p| {
            while p.start < start && p.records.pop_front().is_some() {
                p.start += 1;
            }
        });
    }

    /// Lever: loses everything from `end` on, as a broker that lost its tail does.
    pub fn cut(&self, topic: &str, partition: u32, end: Offset) {
        self.with_partition(topic, partition, |p| while p.end() > end && p.records.pop_back().is_some() {});
    }

    fn with_partition(&self, topic: &str, partition: u32, change: impl FnOnce(&mut Partition)) {
        if let Some(partition) = self.topics().get_mut(topic).and_then(|t| t.partitions.get_mut(partition as usize)) {
            change(partition);
        }
        self.notify();
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").field("topics", &self.names()).finish_non_exhaustive()
    }
}

// === impl Partition ===

impl Partition {
    fn end(&self) -> Offset {
        self.start + self.records.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_types::Span;

    use super::*;

    fn record(payload: &'static [u8]) -> Append {
        Append { topic: "t".to_owned(), partition: 0, key: None, headers: Vec::new(), payload: Bytes::from_static(payload) }
    }

    fn log() -> (VirtualClock, MemoryLog) {
        let clock = VirtualClock::new(Timestamp::from_millis(10));
        let log = MemoryLog::new(&clock);
        log.create_plain("t", 2);
        (clock, log)
    }

    #[test]
    fn offsets_are_dense_and_times_do_not_decrease() {
        let (clock, log) = log();
        assert_eq!(log.append(record(b"a")), Ok(0));
        clock.advance(Span::from_millis(5));
        assert_eq!(log.append(record(b"b")), Ok(1));
        let times: Vec<_> = log.all("t", 0).iter().map(|d| (d.offset, d.appended.millis())).collect();
        assert_eq!(times, [(0, 10), (1, 15)]);
        assert_eq!(log.read("t", 0, 2), Ok(None));
    }

    #[test]
    fn a_position_outside_the_log_is_an_error() {
        let (_, log) = log();
        log.append(record(b"a")).unwrap();
        log.append(record(b"b")).unwrap();
        assert_eq!(log.read("t", 0, 3), Err(LogError::OutOfRange));
        log.trim("t", 0, 1);
        assert_eq!(log.read("t", 0, 0), Err(LogError::OutOfRange));
        assert_eq!(log.watermarks("t", 0), Ok((1, 2)));
        assert_eq!(log.watermarks("t", 2), Err(LogError::Unknown));
    }

    #[test]
    fn a_cut_log_gives_offsets_again() {
        let (_, log) = log();
        log.append(record(b"a")).unwrap();
        log.append(record(b"b")).unwrap();
        log.cut("t", 0, 1);
        assert_eq!(log.append(record(b"c")), Ok(1));
    }

    #[test]
    fn too_large_and_unknown_are_typed_errors() {
        let (_, log) = log();
        let spec = TopicSpec { name: "s".into(), partitions: 1, replication: 1, settings: vec![("max.message.bytes".into(), "2".into())] };
        assert_eq!(log.create(std::slice::from_ref(&spec)), ["s"]);
        assert!(log.create(&[spec]).is_empty());
        let too_large = Append { topic: "s".into(), ..record(b"abc") };
        assert!(matches!(log.append(too_large), Err(AppendError::TooLarge { bytes: 3, .. })));
        assert!(matches!(log.append(Append { partition: 9, ..record(b"a") }), Err(AppendError::UnknownPartition { partition: 9, .. })));
    }
}
