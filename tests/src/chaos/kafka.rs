//! The brokers: nodes of their own, with a listener for every seat, so that each process' road to each
//! broker can be broken by itself. Clients connect to what is advertised, and that is the seat's link.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, bail};
use tokio::sync::Mutex;

use super::{
    link::Link,
    process::{Process, free_port, listens},
    settings::{Settings, Tools},
};

/// The cluster.
#[derive(Debug)]
pub struct Kafka {
    tools: Tools,
    brokers: Vec<Broker>,
}

#[derive(Debug)]
struct Broker {
    folder: PathBuf,
    // Where the runner reads, past all links.
    port: u16,
    process: Mutex<Option<Process>>,
}

/// A seat's links, one a broker.
pub type SeatLinks = Vec<Link>;

const PATIENCE: Duration = Duration::from_mins(2);

// === impl Kafka ===

impl Kafka {
    /// Starts all brokers and opens links to them for `seats` seats.
    ///
    /// # Errors
    /// A broker that does not come up; its log says why.
    pub async fn start(settings: &Settings, seats: usize) -> anyhow::Result<(Self, Vec<SeatLinks>)> {
        let count = settings.brokers;
        let controllers: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let mut links: Vec<SeatLinks> = (0..seats).map(|_| Vec::new()).collect();
        let mut brokers = Vec::new();
        for (number, controller) in (1_u32..).zip(&controllers) {
            let folder = settings.folder.join(format!("kafka-{number}"));
            fs::create_dir_all(&folder)?;
            let port = free_port();
            let mut own = vec![format!("PLAINTEXT://127.0.0.1:{port}")];
            let mut told = own.clone();
            let mut protocols = vec!["PLAINTEXT:PLAINTEXT".to_owned(), "CONTROLLER:PLAINTEXT".to_owned()];
            for (seat, links) in links.iter_mut().enumerate() {
                let behind = free_port();
                let link = Link::open(behind).await?;
                own.push(format!("S{seat}://127.0.0.1:{behind}"));
                told.push(format!("S{seat}://127.0.0.1:{}", link.port()));
                protocols.push(format!("S{seat}:PLAINTEXT"));
                links.push(link);
            }
            own.push(format!("CONTROLLER://127.0.0.1:{controller}"));
            let voters: Vec<String> = (1..).zip(&controllers).map(|(n, p)| format!("{n}@127.0.0.1:{p}")).collect();
            let replicas = count.min(3);
            let properties = [
                "process.roles=broker,controller".to_owned(),
                format!("node.id={number}"),
                format!("controller.quorum.voters={}", voters.join(",")),
                format!("listeners={}", own.join(",")),
                format!("advertised.listeners={}", told.join(",")),
                format!("listener.security.protocol.map={}", protocols.join(",")),
                "controller.listener.names=CONTROLLER".to_owned(),
                "inter.broker.listener.name=PLAINTEXT".to_owned(),
                "num.network.threads=1".to_owned(),
                "num.io.threads=4".to_owned(),
                format!("log.dirs={}", folder.join("data").display()),
                "auto.create.topics.enable=false".to_owned(),
                "unclean.leader.election.enable=false".to_owned(),
                "group.initial.rebalance.delay.ms=0".to_owned(),
                format!("offsets.topic.replication.factor={replicas}"),
                "offsets.topic.num.partitions=8".to_owned(),
                format!("transaction.state.log.replication.factor={replicas}"),
                "transaction.state.log.min.isr=1".to_owned(),
                "transaction.state.log.num.partitions=4".to_owned(),
                "log.cleaner.dedupe.buffer.size=4194304".to_owned(),
                "broker.heartbeat.interval.ms=500".to_owned(),
                "broker.session.timeout.ms=4000".to_owned(),
            ];
            fs::write(folder.join("server.properties"), properties.join("\n"))?;
            brokers.push(Broker { folder, port, process: Mutex::new(None) });
        }
        let kafka = Self { tools: settings.tools.clone(), brokers };
        for broker in &kafka.brokers {
            kafka.format(broker)?;
            kafka.launch(broker).await?;
        }
        for index in 0..kafka.brokers.len() {
            kafka.await_port(index).await?;
        }
        Ok((kafka, links))
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.brokers.len()
    }

    /// Addresses for the runner itself.
    pub fn addresses(&self) -> String {
        self.brokers.iter().map(|b| format!("127.0.0.1:{}", b.port)).collect::<Vec<_>>().join(",")
    }

    /// `kill -9` of one.
    pub async fn kill(&self, index: usize) {
        if let Some(process) = self.brokers[index].process.lock().await.take() {
            process.kill();
        }
    }

    /// Starts one that was killed, with what it has on disk.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn revive(&self, index: usize) -> anyhow::Result<()> {
        self.launch(&self.brokers[index]).await?;
        self.await_port(index).await
    }

    fn java(&self, heap: u32) -> Command {
        let mut java = Command::new(&self.tools.java);
        java.args([&format!("-Xms{heap}m"), &format!("-Xmx{heap}m"), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        java.arg(format!("-Dlog4j2.configurationFile={}", self.tools.kafka_logging.display()));
        java.arg("-cp").arg(format!("{}/*", self.tools.kafka_jars.display()));
        java
    }

    fn format(&self, broker: &Broker) -> anyhow::Result<()> {
        let mut format = self.java(128);
        format.args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]);
        let done = format.arg(broker.folder.join("server.properties")).output().context("java")?;
        anyhow::ensure!(done.status.success(), "Kafka's format failed: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    async fn launch(&self, broker: &Broker) -> anyhow::Result<()> {
        let mut run = self.java(if self.brokers.len() == 1 { 384 } else { 256 });
        run.arg("kafka.Kafka").arg(broker.folder.join("server.properties"));
        *broker.process.lock().await = Some(Process::start(&mut run, &broker.folder.join("log"))?);
        Ok(())
    }

    async fn await_port(&self, index: usize) -> anyhow::Result<()> {
        let broker = &self.brokers[index];
        let until = tokio::time::Instant::now() + PATIENCE;
        while !listens(broker.port) {
            if let Some(status) = broker.process.lock().await.as_mut().and_then(Process::ended) {
                bail!("broker {} ended while starting ({status}); see {}", index + 1, broker.folder.join("log").display());
            }
            if tokio::time::Instant::now() > until {
                bail!("broker {} does not answer; see {}", index + 1, broker.folder.join("log").display());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}
