//! Kafka Streams, by hand (`crates/bench/rivals/kafka-streams`): one JVM, one stage, a Kafka record an event.

use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    metadata::MetadataTopic,
};
use waypost_bench::{
    cart1::{Act, DELAY},
    traffic::Installation,
};
use waypost_kafka::{Connection, KafkaLog};
use waypost_runtime::ports::{Log as _, TopicSpec};
use waypost_tests::process::Process;
use waypost_types::{Layout, PartitionId, Role, WorkspaceId};

use super::{
    contender::{Contender, Parcel, Reader, Topic},
    follow::Found,
};
use crate::{
    generator::event_of,
    meter::{Kind, Watched},
    sampler::{Sample, Sampler},
    servers::Servers,
    settings::{Settings, Workload},
};

/// Where the one count of the application stands among the places of a sample.
const PLACE: PartitionId = PartitionId { role: Role::Orchestrator, index: 0 };
/// For anything that ought to take seconds.
const PATIENCE: Duration = Duration::from_mins(5);
/// To close in order.
const GRACE: Duration = Duration::from_secs(30);
/// The application looks ten times a second whether it is to pause.
const NOTICED: Duration = Duration::from_secs(1);
const ASK: Duration = Duration::from_secs(10);
/// Bytes of a send before the person: id, due, cart, value.
const SEND: usize = 40;

/// Options of the workload `cart-1`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How often rival and Waypost take turns, in CART-1
    #[arg(long, default_value_t = 3)]
    pub(crate) repetitions: usize,
    /// Events a second of CART-1's live traffic; its backlog has --events
    #[arg(long, default_value_t = 10_000)]
    pub(crate) cart_rate: u64,
    /// Seconds of live traffic before the --window, in which a JVM warms up
    #[arg(long, default_value_t = 60)]
    pub(crate) cart_warm_up: u64,
    /// Definitions of CART-1
    #[arg(long, default_value = "crates/bench/rivals/cart-1")]
    pub(crate) cart_journeys: PathBuf,
    /// The rival's settings: recommended ones, or those that were found to be best
    #[arg(long = "rival-set", value_enum, default_value_t = Set::Expert)]
    pub(crate) set: Set,
    /// Its threads
    #[arg(long, default_value_t = 2)]
    pub(crate) rival_threads: u32,
    /// Megabytes of its record cache; 0 sends every change to the changelog by itself
    #[arg(long, default_value_t = 256)]
    pub(crate) rival_cache_mb: u64,
    /// Its heap
    #[arg(long, default_value = "4g")]
    pub(crate) rival_heap: String,
    /// Where deploy/local/rival.sh has built it
    #[arg(long, default_value = "target/rival")]
    pub(crate) rival: PathBuf,
    /// What runs it
    #[arg(long, default_value = "java")]
    pub(crate) java: PathBuf,
}

/// How the rival is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Set {
    /// Stores in memory, timers in a heap, commits a second apart, lz4
    Expert,
    /// `RocksDB`, timers in a store, commits every 100 ms
    Typical,
}

/// The application, its topics and how far it is.
pub(crate) struct Rival {
    settings: Settings,
    servers: Servers,
    runtime: tokio::runtime::Runtime,
    prefix: String,
    folder: PathBuf,
    installation: Installation,
    process: Option<Process>,
    /// When everything was committed for the last time.
    settled: Option<Instant>,
}

// === impl Set ===

impl Set {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Expert => "expert",
            Self::Typical => "typical",
        }
    }
}

/// Refuses at once what would fail later.
pub(crate) fn check(settings: &Settings) -> anyhow::Result<()> {
    let cart = &settings.cart;
    if !settings.workload.contains(&Workload::Cart1) {
        return Ok(());
    }
    let built = cart.rival.join("classes").exists() && cart.rival.join("libs").exists();
    ensure!(built, "{} is not there: --workload cart-1 needs deploy/local/rival.sh, which needs Maven and a JDK", cart.rival.display());
    let java = Command::new(&cart.java).arg("-version").output();
    ensure!(java.is_ok_and(|java| java.status.success()), "--java {} does not run: install a Java, 17 or newer", cart.java.display());
    ensure!(cart.repetitions > 0, "--repetitions must be above 0");
    ensure!(cart.cart_rate >= 500, "--cart-rate must be at least 500: below, a cart is not touched again in time");
    let live = cart.cart_warm_up + settings.window;
    ensure!(live >= 15, "--cart-warm-up and --window must come to 15 s at least: timers are due after 10");
    ensure!(settings.events >= 30_000, "--workload cart-1 needs --events 30000 at least");
    Ok(())
}

/// Deletes the topics whose names begin so.
pub(crate) fn forget(brokers: &str, prefix: &str) -> anyhow::Result<()> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers);
    let consumer: BaseConsumer = settings.create().context("a consumer")?;
    let metadata = consumer.fetch_metadata(None, ASK)?;
    let names: Vec<&str> = metadata.topics().iter().map(MetadataTopic::name).filter(|name| name.starts_with(prefix)).collect();
    let admin: AdminClient<DefaultClientContext> = settings.create()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(admin.delete_topics(&names, &AdminOptions::new()))?;
    Ok(())
}

// === impl Rival ===

impl Rival {
    pub(crate) fn new(settings: &Settings, servers: &Servers, partitions: u32) -> anyhow::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let prefix = format!("k{}-{}.", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = servers.folder.join("roles").join(&prefix);
        std::fs::create_dir_all(&folder)?;
        let installation = Installation { hash_key: [7; 32], layout: Layout { number: 1, partitions }, workspace: WorkspaceId::new(1) };
        let runtime = tokio::runtime::Runtime::new()?;
        let rival = Self {
            settings: settings.clone(),
            servers: servers.clone(),
            runtime,
            prefix,
            folder,
            installation,
            process: None,
            settled: None,
        };
        let specs =
            [rival.inbox(), rival.outbox()].map(|topic| TopicSpec { name: topic.name, partitions, replication: 1, settings: Vec::new() });
        rival.runtime.block_on(KafkaLog::new(&Connection::new(servers.kafka.as_str()))?.create(&specs))?;
        Ok(rival)
    }

    /// Begins as its topics do, so that they go together.
    fn application(&self) -> String {
        format!("{}app", self.prefix)
    }

    fn topic(&self, name: &str) -> Topic {
        let (brokers, partitions) = (self.servers.kafka.clone(), self.installation.layout.partitions);
        Topic { brokers, name: format!("{}{name}", self.prefix), partitions }
    }

    fn start(&self) -> anyhow::Result<Process> {
        let (cart, home) = (&self.settings.cart, &self.settings.cart.rival);
        let mut command = Command::new(&cart.java);
        command.args([format!("-Xms{}", cart.rival_heap), format!("-Xmx{}", cart.rival_heap)]);
        command.arg(format!("-Dlog4j2.configurationFile={}", home.join("log4j2.properties").display()));
        // the JVM expands the star
        command.arg("-cp").arg(format!("{}:{}/*", home.join("classes").display(), home.join("libs").display()));
        command.arg("waypost.rival.Main").args(["--application", &self.application(), "--brokers", &self.servers.kafka]);
        command.args(["--input", &self.inbox().name, "--output", &self.outbox().name, "--set", cart.set.name()]);
        command.args(["--threads", &cart.rival_threads.to_string(), "--cache-mb", &cart.rival_cache_mb.to_string()]);
        command.args(["--delay-ms", &DELAY.millis().to_string()]).arg("--folder").arg(&self.folder);
        Process::start(&mut command, &self.folder.join("log")).with_context(|| format!("cannot start {}", cart.java.display()))
    }

    /// How many events it says it has processed.
    fn processed(folder: &std::path::Path) -> u64 {
        std::fs::read_to_string(folder.join("processed")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// Events that are not committed.
    fn behind(&self, consumer: &BaseConsumer) -> anyhow::Result<i64> {
        let inbox = self.inbox();
        let mut places = TopicPartitionList::new();
        for partition in 0..inbox.partitions {
            places.add_partition(&inbox.name, i32::try_from(partition)?);
        }
        let committed = consumer.committed_offsets(places, ASK)?;
        let mut behind = 0;
        for place in committed.elements() {
            let (_, end) = consumer.fetch_watermarks(&inbox.name, place.partition(), ASK)?;
            behind += if let Offset::Offset(offset) = place.offset() { end - offset } else { end };
        }
        Ok(behind)
    }
}

impl Contender for Rival {
    fn inbox(&self) -> Topic {
        self.topic("events")
    }

    fn outbox(&self) -> Topic {
        self.topic("sends")
    }

    fn reader(&self) -> Reader {
        Box::new(|_, payload| {
            ensure!(payload.len() > SEND, "a send of the rival has {} bytes", payload.len());
            let number = |at: usize| payload[at..at + 8].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            let person = std::str::from_utf8(&payload[SEND..]).ok().and_then(Act::number_in).context("a send of the rival names nobody")?;
            Ok(vec![Found { id: payload[..16].try_into()?, person, cart: number(24), cents: i64::try_from(number(32))? }])
        })
    }

    fn parcels(&mut self, acts: &[Act], _most: usize) -> anyhow::Result<Vec<Parcel>> {
        let parcel = |act: &Act| {
            let record = act.record(self.installation);
            let partition = self.installation.layout.partition(record.workspace, &record.key);
            Ok(Parcel { partition, key: Some(Bytes::from(Act::user(act.person))), bytes: act.plain(&event_of(&record)?) })
        };
        acts.iter().map(parcel).collect()
    }

    fn go(&mut self) -> anyhow::Result<()> {
        if self.process.is_some() {
            return std::fs::remove_file(self.folder.join("pause")).context("it was paused");
        }
        self.process = Some(self.start()?);
        Ok(())
    }

    fn pause(&mut self) -> anyhow::Result<()> {
        std::fs::write(self.folder.join("pause"), "")?;
        std::thread::sleep(NOTICED);
        Ok(())
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &self.servers.kafka).set("group.id", self.application());
        let consumer: BaseConsumer = settings.create().context("a consumer")?;
        let until = Instant::now() + PATIENCE;
        loop {
            let behind = self.behind(&consumer)?;
            if behind == 0 {
                self.settled = Some(Instant::now());
                return Ok(());
            }
            self.check_alive()?;
            ensure!(
                Instant::now() < until,
                "{behind} events are not committed after {} s; see {}",
                PATIENCE.as_secs(),
                self.folder.display()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn check_alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.process.as_mut().and_then(Process::ended) {
            bail!("the rival ended by itself ({status}): see {}", self.folder.join("log").display());
        }
        Ok(())
    }

    fn look(&self) -> Sampler {
        let jvm = self.process.iter().map(|process| Watched { name: "jvm".to_owned(), pid: process.id(), kind: Kind::Own });
        let others = [("broker", self.servers.broker_pid, Kind::Broker), ("generator", std::process::id(), Kind::Generator)];
        let others = others.map(|(name, pid, kind)| Watched { name: name.to_owned(), pid, kind });
        let folder = self.folder.clone();
        Sampler::with(jvm.chain(others).collect(), move || vec![(PLACE, Self::processed(&folder), 0)])
    }

    fn folded(&mut self, samples: &[Sample]) -> anyhow::Result<(Vec<u64>, Instant)> {
        let committed = self.settled.context("it has settled before")?;
        Ok((samples.iter().map(|sample| sample.next(PLACE)).collect(), committed))
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            // how a JVM ends that was asked to says nothing
            self.runtime.block_on(process.terminate(GRACE));
        }
        forget(&self.servers.kafka, &self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The version of an artifact in a file of Maven's.
    fn version(file: &str, artifact: &str) -> String {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let (_, rest) = text.split_once(&format!("<artifactId>{artifact}</artifactId><version>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    }

    #[test]
    fn the_rival_is_of_the_broker_s_version() {
        assert_eq!(version("rivals/kafka-streams/pom.xml", "kafka-streams"), version("../../deploy/local/kafka/pom.xml", "kafka_2.13"));
    }
}
