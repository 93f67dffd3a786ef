//! Traffic into `wp1.identity`: frames built beforehand, through the client library, as fast as they are taken or each at
//! its intended time.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use prost::Message as _;
use rdkafka::{
    ClientConfig, ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};
use waypost_bench::{
    sights::Sights,
    traffic::{Traffic, frames},
};
use waypost_codec::{frame::Record, inbox};
use waypost_runtime::{host::SystemClock, ports::Clock as _};
use waypost_types::{Layout, Timestamp};

/// How many records are cut into frames at a time.
pub(crate) const CHUNK: usize = 50_000;
/// How long the broker may take for what was sent last.
const FLUSH: Duration = Duration::from_mins(2);

/// Which events were offered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offered {
    /// A fingerprint of each message id, and of each copy of one.
    pub(crate) ids: Vec<u64>,
    /// Whom they find.
    pub(crate) sights: Sights,
}

/// A frame to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Prebuilt {
    pub(crate) partition: u32,
    pub(crate) bytes: Bytes,
    pub(crate) records: usize,
}

/// What goes out at one instant.
#[derive(Clone, Debug)]
pub(crate) struct Tick {
    /// Since the beginning.
    pub(crate) at: Duration,
    pub(crate) frames: Vec<Prebuilt>,
}

/// How open-loop traffic went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) events: u64,
    /// How late the generator itself was, at most.
    pub(crate) latest: Duration,
}

/// Appends to one topic and counts what is acknowledged.
pub(crate) struct Appender {
    producer: ThreadedProducer<Counting>,
    topic: String,
    counts: Arc<Counts>,
    sent: u64,
}

#[derive(Debug, Default)]
struct Counts {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

struct Counting(Arc<Counts>);

/// What only has a message id, read from an event.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    message_id: String,
}

/// The fingerprint of an encoded event's message id.
pub(crate) fn fingerprint(event: &Bytes) -> Option<u64> {
    Some(fingerprint_of(&Named::decode(event.clone()).ok()?.message_id))
}

/// The fingerprint of a message id.
pub(crate) fn fingerprint_of(message_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    message_id.hash(&mut hasher);
    hasher.finish()
}

/// The event within a record of `wp1.identity`.
pub(crate) fn event_of(record: &Record) -> anyhow::Result<Bytes> {
    Ok(inbox::IdentityEvent::decode(record.body.clone()).context("a record of the traffic is no event")?.event)
}

// === impl ProducerContext for Counting ===

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.0.acknowledged } else { &self.0.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

// === impl Offered ===

impl Offered {
    pub(crate) fn add(&mut self, records: &[Record]) -> anyhow::Result<()> {
        for record in records {
            self.ids.push(fingerprint(&event_of(record)?).context("an event of the traffic has no message id")?);
            self.sights.see(record)?;
        }
        Ok(())
    }
}

// === impl Appender ===

impl Appender {
    pub(crate) fn new(brokers: &str, topic: &str, linger_ms: u32) -> anyhow::Result<Self> {
        let counts = Arc::new(Counts::default());
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers).set("enable.idempotence", "true").set("acks", "all");
        settings.set("linger.ms", linger_ms.to_string()).set("batch.size", "1000000").set("batch.num.messages", "10000");
        settings.set("queue.buffering.max.kbytes", "65536").set("compression.type", "none");
        let producer = settings.create_with_context(Counting(Arc::clone(&counts))).context("a producer")?;
        Ok(Self { producer, topic: topic.to_owned(), counts, sent: 0 })
    }

    /// Appends; waits while the queue is full.
    pub(crate) fn append(&mut self, partition: u32, payload: &[u8]) -> anyhow::Result<()> {
        self.append_keyed(partition, None, payload)
    }

    /// The same, with a key where there is one.
    pub(crate) fn append_keyed(&mut self, partition: u32, key: Option<&[u8]>, payload: &[u8]) -> anyhow::Result<()> {
        loop {
            let record = BaseRecord::<[u8], [u8]>::to(&self.topic).partition(i32::try_from(partition)?).payload(payload);
            let record = match key {
                Some(key) => record.key(key),
                None => record,
            };
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => std::thread::sleep(Duration::from_millis(1)),
                Err((error, _)) => return Err(error).context(format!("appending to {}", self.topic)),
            }
        }
        self.sent += 1;
        Ok(())
    }

    /// Waits until everything is acknowledged.
    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        self.producer.flush(FLUSH).with_context(|| format!("{} takes nothing", self.topic))?;
        let until = Instant::now() + FLUSH;
        loop {
            let (acknowledged, failed) = (self.counts.acknowledged.load(Ordering::Relaxed), self.counts.failed.load(Ordering::Relaxed));
            ensure!(failed == 0, "{failed} of {} records were not appended to {}", self.sent, self.topic);
            if acknowledged == self.sent {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{acknowledged} of {} records acknowledged by {}", self.sent, self.topic);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Appends a backlog of at most `events` events in frames of `most`.
pub(crate) fn prefill(
    mut next: impl FnMut(Timestamp) -> Option<Record>,
    layout: Layout,
    offered: &mut Offered,
    (events, most): (usize, usize),
    into: &mut Appender,
) -> anyhow::Result<()> {
    let mut left = events;
    while left > 0 {
        let now = SystemClock.now();
        let records: Vec<Record> = (0..left.min(CHUNK)).map_while(|_| next(now)).collect();
        if records.is_empty() {
            break;
        }
        left -= records.len();
        offered.add(&records)?;
        for (partition, bytes, _) in frames(records, layout, most) {
            into.append(partition, &bytes)?;
        }
    }
    into.finish()
}

/// Open-loop traffic of so many events a second for so long, in ticks; `more` gives what goes with each.
pub(crate) fn build(
    traffic: &mut Traffic,
    layout: Layout,
    offered: &mut Offered,
    pace: (f64, Duration, Duration),
    more: impl FnMut(Duration, Timestamp) -> Vec<Record>,
) -> anyhow::Result<Vec<Tick>> {
    build_from(SystemClock.now(), traffic, layout, offered, pace, more)
}

/// The same, whose first event is of `begin`.
pub(crate) fn build_from(
    begin: Timestamp,
    traffic: &mut Traffic,
    layout: Layout,
    offered: &mut Offered,
    (rate, length, tick): (f64, Duration, Duration),
    mut more: impl FnMut(Duration, Timestamp) -> Vec<Record>,
) -> anyhow::Result<Vec<Tick>> {
    let (mut made, mut at) = (0_u64, Duration::ZERO);
    let mut ticks = Vec::new();
    while at < length {
        let now = Timestamp::from_millis(begin.millis() + i64::try_from(at.as_millis())?);
        let mut records = Vec::new();
        while (made as f64) < (at + tick).as_secs_f64() * rate {
            records.push(traffic.next(now));
            made += 1;
        }
        records.extend(more(at, now));
        offered.add(&records)?;
        let frames = frames(records, layout, usize::MAX).into_iter();
        let frames = frames.map(|(partition, bytes, records)| Prebuilt { partition, bytes, records }).collect();
        ticks.push(Tick { at, frames });
        at += tick;
    }
    Ok(ticks)
}

/// Sends each tick at its time, which is not moved by whatever happened before.
pub(crate) fn play(ticks: &[Tick], begin: Instant, into: &mut Appender) -> anyhow::Result<Sent> {
    let mut sent = Sent::default();
    for tick in ticks {
        let due = begin + tick.at;
        let now = Instant::now();
        match due.checked_duration_since(now) {
            Some(early) => std::thread::sleep(early),
            None => sent.latest = sent.latest.max(now.duration_since(due)),
        }
        for frame in &tick.frames {
            into.append(frame.partition, &frame.bytes)?;
            sent.events += frame.records as u64;
        }
    }
    into.finish()?;
    Ok(sent)
}
