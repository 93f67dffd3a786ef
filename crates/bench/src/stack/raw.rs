//! RAW-H: what an ordinary chain of consumers costs before it decides anything. The same events over the same hops, a Kafka
//! record each, through the client library: T1 → T2 → T3 → consume, 1.2 % → T4 → consume. RAW-F: the same with our frames. RAW-1: one
//! hop of it, T1 → T2.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use waypost_bench::traffic::{Installation, Traffic, frames};
use waypost_codec::frame::Record;
use waypost_kafka::{Connection, KafkaLog};
use waypost_runtime::{
    host::SystemClock,
    ports::{Clock as _, Log as _, TopicSpec},
};
use waypost_types::{Layout, WorkspaceId};

use crate::{
    generator::{Appender, event_of},
    meter::cpu_seconds,
    say,
    servers::Servers,
    settings::Settings,
};

const LINGERS: [u32; 4] = [2, 5, 20, 50];
const FETCHES: [u32; 2] = [65_536, 1_048_576];
/// One in so many goes on to T4: 1.2 %.
const SENT_OF: usize = 83;
/// The sweep takes half of the events.
const SWEEP: usize = 2;
/// The two runs may differ by so much.
const AGREE: f64 = 0.10;
/// Of a whole chain.
const ALL_HOPS: usize = 4;
/// Served delivery reports make room in the producer's queue.
const SERVE_EVERY: usize = 500;
/// Without a record for so long the chain is broken.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Knobs {
    pub(crate) linger_ms: u32,
    pub(crate) fetch_bytes: u32,
}

/// One passage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage {
    pub(crate) knobs: Knobs,
    pub(crate) rate: f64,
    /// Microseconds of CPU an event.
    pub(crate) client: f64,
    pub(crate) broker: f64,
}

/// Whether two runs of the same differ by more than they may: the machine did something else meanwhile.
pub(crate) fn differ(first: f64, second: f64) -> bool {
    (first - second).abs() > AGREE * f64::midpoint(first, second)
}

/// What the baselines came to.
#[derive(Clone, Debug)]
pub(crate) struct Baseline {
    pub(crate) partitions: u32,
    pub(crate) events: usize,
    pub(crate) first: Passage,
    pub(crate) second: Passage,
    /// RAW-1.
    pub(crate) single: Passage,
    /// RAW-F, whose rate is in events too.
    pub(crate) frames: Passage,
    /// Events a second of Waypost's backlog, where that was measured.
    pub(crate) waypost: Option<f64>,
}

/// The topics that are passed on.
pub(crate) struct Bench {
    servers: Servers,
    runtime: tokio::runtime::Runtime,
    log: KafkaLog,
    prefix: String,
    partitions: u32,
    events: usize,
    frames: usize,
    number: u32,
}

/// A chain's beginning and what had been used by then.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    client: f64,
    broker: f64,
}

/// One hop: so many records from here to there.
#[derive(Clone, Copy, Debug)]
struct Hop<'a> {
    brokers: &'a str,
    partitions: u32,
    from: &'a str,
    to: Option<&'a str>,
    records: usize,
    /// One in so many is passed on.
    of: usize,
    knobs: Knobs,
}

// === impl Baseline ===

impl Baseline {
    /// Waypost is compared with the mean of the two.
    pub(crate) fn rate(&self) -> f64 {
        f64::midpoint(self.first.rate, self.second.rate)
    }

    /// Whether the two runs differ by more than they may.
    pub(crate) fn is_void(&self) -> bool {
        differ(self.first.rate, self.second.rate)
    }
}

// === impl Bench ===

impl Bench {
    pub(crate) fn new(settings: &Settings, servers: &Servers, partitions: u32) -> anyhow::Result<Self> {
        ensure!(settings.raw_events >= SENT_OF * SWEEP, "--raw-events must be at least {}", SENT_OF * SWEEP);
        let mut bench = Self {
            servers: servers.clone(),
            runtime: tokio::runtime::Runtime::new()?,
            log: KafkaLog::new(&Connection::new(servers.kafka.as_str()))?,
            prefix: format!("raw{}-{partitions}.", std::process::id()),
            partitions,
            events: settings.raw_events,
            frames: 0,
            number: 0,
        };
        say(&format!("RAW: prefilling {} events", bench.events));
        let layout = Layout { number: 1, partitions };
        let installation = Installation { hash_key: [7; 32], layout, workspace: WorkspaceId::new(1) };
        let mut traffic = Traffic::new(settings.seed, settings.size.size(), installation);
        let names = ["h1", "s1", "f1"].map(|name| bench.topic(name));
        bench.create(&names)?;
        let appender = |name: &String| Appender::new(&servers.kafka, name, 20);
        let (mut whole, mut sweep, mut framed) = (appender(&names[0])?, appender(&names[1])?, appender(&names[2])?);
        let mut made = 0;
        while made < bench.events {
            let now = SystemClock.now();
            let records: Vec<Record> = (0..(bench.events - made).min(50_000)).map(|_| traffic.next(now)).collect();
            for record in &records {
                let (partition, event): (u32, Bytes) = (layout.partition(record.workspace, &record.key), event_of(record)?);
                whole.append(partition, &event)?;
                if made < bench.events / SWEEP {
                    sweep.append(partition, &event)?;
                }
                made += 1;
            }
            for (partition, bytes, _) in frames(records, layout, settings.frame) {
                framed.append(partition, &bytes)?;
                bench.frames += 1;
            }
        }
        for appender in [whole, sweep, framed] {
            appender.finish()?;
        }
        Ok(bench)
    }

    fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn create(&self, names: &[String]) -> anyhow::Result<()> {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let specs: Vec<TopicSpec> = names
            .iter()
            .map(|name| TopicSpec {
                name: name.clone(),
                partitions: self.partitions,
                replication: 1,
                settings: vec![setting("message.timestamp.type", "LogAppendTime"), setting("max.message.bytes", "2097152")],
            })
            .collect();
        self.runtime.block_on(self.log.create(&specs))?;
        Ok(())
    }

    fn delete(&self, names: &[String]) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &self.servers.kafka).create()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.runtime.block_on(admin.delete_topics(&names, &AdminOptions::new()))?;
        Ok(())
    }

    /// Sweeps the settings, then RAW-H with the best of them.
    pub(crate) fn first(&mut self) -> anyhow::Result<Passage> {
        let mut best: Option<Passage> = None;
        // the broker's first passage is slower, whatever the settings are
        let warm = Knobs { linger_ms: LINGERS[1], fetch_bytes: FETCHES[1] };
        self.pass("s1", self.events / SWEEP, warm, ALL_HOPS)?;
        for linger_ms in LINGERS {
            for fetch_bytes in FETCHES {
                let passage = self.pass("s1", self.events / SWEEP, Knobs { linger_ms, fetch_bytes }, ALL_HOPS)?;
                say(&format!(
                    "RAW-H, linger {linger_ms} ms, fetch {fetch_bytes} B: {:.0} events/s, client {:.1} µs",
                    passage.rate, passage.client
                ));
                if best.is_none_or(|best| passage.rate > best.rate) {
                    best = Some(passage);
                }
            }
        }
        let knobs = best.context("the sweep has settings")?.knobs;
        let passage = self.pass("h1", self.events, knobs, ALL_HOPS)?;
        say(&format!(
            "RAW-H first: {:.0} events/s, client {:.1} µs, broker {:.1} µs an event",
            passage.rate, passage.client, passage.broker
        ));
        Ok(passage)
    }

    /// RAW-H again, RAW-1 and RAW-F.
    pub(crate) fn second(&mut self, first: Passage, waypost: Option<f64>) -> anyhow::Result<Baseline> {
        let second = self.pass("h1", self.events, first.knobs, ALL_HOPS)?;
        say(&format!("RAW-H second: {:.0} events/s, client {:.1} µs, broker {:.1} µs an event", second.rate, second.client, second.broker));
        let single = self.pass("h1", self.events, first.knobs, 1)?;
        say(&format!("RAW-1: {:.0} events/s, client {:.1} µs, broker {:.1} µs an event", single.rate, single.client, single.broker));
        let each = self.events as f64 / self.frames.max(1) as f64;
        let mut best: Option<Passage> = None;
        for fetch_bytes in FETCHES {
            let passage = self.pass("f1", self.frames, Knobs { linger_ms: LINGERS[0], fetch_bytes }, ALL_HOPS)?;
            let passage = Passage { rate: passage.rate * each, client: passage.client / each, broker: passage.broker / each, ..passage };
            if best.is_none_or(|best| passage.rate > best.rate) {
                best = Some(passage);
            }
        }
        let frames = best.context("the sweep has settings")?;
        say(&format!("RAW-F: {:.0} events/s, client {:.2} µs, broker {:.2} µs an event", frames.rate, frames.client, frames.broker));
        self.delete(&["h1", "s1", "f1"].map(|name| self.topic(name)))?;
        Ok(Baseline { partitions: self.partitions, events: self.events, first, second, single, frames, waypost })
    }

    /// One passage over so many of the hops; figures are by record.
    fn pass(&mut self, first: &str, records: usize, knobs: Knobs, hops_count: usize) -> anyhow::Result<Passage> {
        self.number += 1;
        let names = ["t2", "t3", "t4"].map(|name| self.topic(&format!("{}{name}", self.number)));
        self.create(&names)?;
        let (first, [second, third, fourth]) = (self.topic(first), &names);
        let hop = |from, to, records, of| Hop { brokers: &self.servers.kafka, partitions: self.partitions, from, to, records, of, knobs };
        let hops = [
            hop(first.as_str(), Some(second.as_str()), records, 1),
            hop(second, Some(third), records, 1),
            hop(third, Some(fourth), records, SENT_OF),
            hop(fourth, None, records / SENT_OF, 1),
        ];
        let mark = || Mark { at: Instant::now(), client: cpu_seconds(std::process::id()), broker: cpu_seconds(self.servers.broker_pid) };
        let (began, done) = (Mutex::new(None), AtomicUsize::new(0));
        let note = || {
            began.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(mark);
        };
        let end = std::thread::scope(|scope| {
            let threads: Vec<_> = hops
                .into_iter()
                .take(hops_count)
                .map(|hop| {
                    let (note, done) = (&note, &done);
                    scope.spawn(move || {
                        let passed = hop.pass(note);
                        done.fetch_add(1, Ordering::Release);
                        passed
                    })
                })
                .collect();
            while done.load(Ordering::Acquire) < threads.len() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let end = mark();
            for thread in threads {
                thread.join().map_err(|_| anyhow!("a hop ended early"))??;
            }
            anyhow::Ok(end)
        })?;
        let began = began.into_inner().unwrap_or_else(PoisonError::into_inner).context("nothing was passed on")?;
        self.delete(&names)?;
        let count = records as f64;
        Ok(Passage {
            knobs,
            rate: count / end.at.duration_since(began.at).as_secs_f64(),
            client: (end.client - began.client) * 1e6 / count,
            broker: (end.broker - began.broker) * 1e6 / count,
        })
    }
}

// === impl Hop ===

impl Hop<'_> {
    fn consumer(&self) -> anyhow::Result<BaseConsumer> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", self.brokers).set("group.id", "raw").set("enable.auto.commit", "false");
        settings.set("fetch.message.max.bytes", self.knobs.fetch_bytes.to_string()).set("fetch.wait.max.ms", "100");
        let consumer: BaseConsumer = settings.create().context("a consumer")?;
        let mut places = TopicPartitionList::new();
        for partition in 0..self.partitions {
            places.add_partition_offset(self.from, i32::try_from(partition)?, Offset::Beginning)?;
        }
        consumer.assign(&places)?;
        Ok(consumer)
    }

    /// Passes all of them on, and waits until that is acknowledged.
    fn pass(self, begin: &(impl Fn() + Sync)) -> anyhow::Result<()> {
        let consumer = self.consumer()?;
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", self.brokers).set("enable.idempotence", "true").set("acks", "all");
        settings.set("linger.ms", self.knobs.linger_ms.to_string()).set("batch.size", "1000000").set("compression.type", "none");
        let producer: BaseProducer = settings.create().context("a producer")?;
        let (mut count, mut heard) = (0, Instant::now());
        while count < self.records {
            let Some(message) = consumer.poll(Duration::from_millis(100)) else {
                producer.poll(Duration::ZERO);
                ensure!(heard.elapsed() < PATIENCE, "{} gives nothing more behind {count} of {} records", self.from, self.records);
                continue;
            };
            let message = message.with_context(|| format!("reading {}", self.from))?;
            if count == 0 {
                begin();
            }
            count += 1;
            if count % SERVE_EVERY == 0 {
                heard = Instant::now();
                producer.poll(Duration::ZERO);
            }
            let Some(to) = self.to.filter(|_| count % self.of == 0) else { continue };
            loop {
                let record = BaseRecord::<(), [u8]>::to(to).partition(message.partition()).payload(message.payload().unwrap_or_default());
                match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                        producer.poll(Duration::from_millis(1));
                    }
                    Err((error, _)) => return Err(error).context(format!("appending to {to}")),
                }
            }
        }
        producer.flush(PATIENCE).with_context(|| format!("{} is not acknowledged", self.to.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_that_differ_by_more_than_a_tenth_are_void() {
        let passage = |rate| Passage { knobs: Knobs { linger_ms: 2, fetch_bytes: 65_536 }, rate, client: 1.0, broker: 1.0 };
        let of = |first, second| Baseline {
            partitions: 8,
            events: 1,
            first: passage(first),
            second: passage(second),
            single: passage(1.0),
            frames: passage(1.0),
            waypost: None,
        };
        assert!(!of(100.0, 109.0).is_void());
        assert!(of(100.0, 112.0).is_void());
    }
}
