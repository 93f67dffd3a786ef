//! One installation: `waypost init`, a process a role, definitions in force.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use waypost_bench::traffic::{Installation, Traffic};
use waypost_kafka::{Connection, KafkaLog};
use waypost_runtime::{
    host::SystemClock,
    install,
    ports::{Clock as _, Log},
    progress::Directory,
};
use waypost_tests::process::{Process, free_port};
use waypost_types::{Layout, PartitionId, Role, WorkspaceId};

use crate::{
    generator::Offered,
    meter::{Kind, Watched},
    servers::Servers,
    settings::Settings,
};

/// What is measured, in the order in which it is started.
const ROLES: &[Role] = &[Role::Control, Role::Sender, Role::Orchestrator, Role::Segmenter, Role::Identity];
/// The same up to `wp1.send`: a million letters would fill the disk, and writing them is another measure's.
const WITHOUT_SENDER: &[Role] = &[Role::Control, Role::Orchestrator, Role::Segmenter, Role::Identity];
/// The roles through which every event goes.
pub(crate) const STAGES: [Role; 3] = [Role::Identity, Role::Segmenter, Role::Orchestrator];
/// `default` is the first.
const WORKSPACE: WorkspaceId = WorkspaceId::new(1);
/// For anything that ought to take seconds.
const PATIENCE: Duration = Duration::from_mins(2);
/// After SIGTERM a process has the grace of its settings, 30 s.
const GRACE: Duration = Duration::from_secs(40);

/// The installation, its processes and its traffic.
pub(crate) struct Pipeline {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) servers: Servers,
    pub(crate) prefix: String,
    pub(crate) layout: Layout,
    pub(crate) installation: Installation,
    pub(crate) traffic: Traffic,
    /// Whether those who are known have come in.
    pub(crate) is_populated: bool,
    /// What has been sent so far.
    pub(crate) offered: Offered,
    logs: PathBuf,
    waypost: PathBuf,
    /// The client, and where the control API is.
    waypostctl: (PathBuf, String),
    environment: Vec<(String, String)>,
    roles: &'static [Role],
    processes: Vec<(Role, Process)>,
}

/// How far somebody is, and how far there is to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) partition: PartitionId,
    /// First frame not folded.
    pub(crate) next: u64,
    /// First frame not committed.
    pub(crate) off: u64,
    /// End of the log.
    pub(crate) end: u64,
}

// === impl Pipeline ===

impl Pipeline {
    /// A new installation beside earlier ones, whose state is forgotten; nobody runs when it is there.
    pub(crate) fn new(settings: &Settings, servers: &Servers, partitions: u32) -> anyhow::Result<Self> {
        Self::with(settings, servers, partitions, (ROLES, &[&settings.journeys]))
    }

    /// The same with the timers' journey, and without a sender.
    pub(crate) fn with_timers(settings: &Settings, servers: &Servers, partitions: u32) -> anyhow::Result<Self> {
        Self::with(settings, servers, partitions, (WITHOUT_SENDER, &[&settings.journeys, &settings.timer_journeys]))
    }

    fn with(
        settings: &Settings,
        servers: &Servers,
        partitions: u32,
        (roles, journeys): (&'static [Role], &[&PathBuf]),
    ) -> anyhow::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let prefix = format!("b{}-{}.", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        for binary in [&settings.waypost, &settings.waypostctl] {
            ensure!(binary.exists(), "{} is not built: run make bench, or make build", binary.display());
        }
        let logs = servers.folder.join("roles").join(&prefix);
        fs::create_dir_all(&logs)?;
        let control = free_port();
        let variable = |name: &str, value: &dyn ToString| (format!("WAYPOST_{name}"), value.to_string());
        let mut environment = vec![
            variable("INSTALL_PARTITIONS", &partitions),
            variable("INSTALL_PREFIX", &prefix),
            variable("KAFKA_BROKERS", &servers.kafka),
            variable("REDIS_URL", &servers.redis),
            variable("CONTROL_LISTEN", &format!("127.0.0.1:{control}")),
            variable("MAIL_CATCHER_DIR", &logs.join("mail").display()),
            variable("LOG_FILTER", &"info"),
        ];
        if let Some(seconds) = settings.commit_interval {
            environment.push(variable("STORE_COMMIT_INTERVAL_MAX_S", &seconds));
        }
        servers.empty_redis()?;
        let runtime = tokio::runtime::Runtime::new()?;
        let log: Arc<dyn Log> = Arc::new(KafkaLog::new(&Connection::new(servers.kafka.as_str()))?);
        let init = Command::new(&settings.waypost).arg("init").envs(environment.iter().cloned()).output()?;
        ensure!(init.status.success(), "waypost init: {}{}", String::from_utf8_lossy(&init.stdout), String::from_utf8_lossy(&init.stderr));
        let record = runtime.block_on(install::load_install(&*log, &prefix))?;
        let directory = {
            let _inside = runtime.enter();
            Directory::follow(Arc::clone(&log), &prefix)
        };
        let installation = Installation { hash_key: record.hash_key(), layout: record.layout(), workspace: WORKSPACE };
        let mut pipeline = Self {
            runtime,
            log,
            directory,
            servers: servers.clone(),
            prefix,
            layout: record.layout(),
            installation,
            traffic: Traffic::new(settings.seed, settings.size.size(), installation),
            is_populated: false,
            offered: Offered::default(),
            logs,
            waypost: settings.waypost.clone(),
            waypostctl: (settings.waypostctl.clone(), format!("http://127.0.0.1:{control}")),
            environment,
            roles,
            processes: Vec::new(),
        };
        pipeline.start()?;
        pipeline.define(journeys)?;
        pipeline.stop()?;
        Ok(pipeline)
    }

    /// A process a role.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        self.roles.iter().try_for_each(|role| self.start_role(*role, &[]))
    }

    /// One more process.
    pub(crate) fn start_role(&mut self, role: Role, environment: &[(String, String)]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.waypost);
        command.args(["serve", "--role", role.as_str()]).envs(self.environment.iter().chain(environment).cloned());
        let process = Process::start(&mut command, &self.logs.join(format!("{role}.log")))
            .with_context(|| format!("cannot start {} for {role}", self.waypost.display()))?;
        self.processes.push((role, process));
        Ok(())
    }

    /// A second process of a role, once it has taken its share; where it answers others.
    pub(crate) fn start_second(&mut self, role: Role) -> anyhow::Result<String> {
        let address = format!("127.0.0.1:{}", free_port());
        self.start_role(role, &[("WAYPOST_OWNER_LISTEN".to_owned(), address.clone())])?;
        self.until("a second process to take its share", |pipeline| {
            Ok(pipeline.owned_by(&address).len() >= pipeline.layout.partitions as usize / 2 && pipeline.is_still()?)
        })?;
        Ok(address)
    }

    /// Partitions of the process that answers there.
    pub(crate) fn owned_by(&self, address: &str) -> Vec<PartitionId> {
        let owners = self.directory.owners(SystemClock.now());
        owners.into_iter().filter(|owner| owner.address == address).map(|owner| owner.progress.partition).collect()
    }

    /// `kill -9` of the process that was started last.
    pub(crate) fn kill_last(&mut self) -> anyhow::Result<()> {
        self.processes.pop().context("nobody runs")?.1.kill();
        Ok(())
    }

    /// The process of a role.
    pub(crate) fn pid(&self, role: Role) -> anyhow::Result<u32> {
        let process = self.processes.iter().find(|(running, _)| *running == role);
        Ok(process.with_context(|| format!("{role} does not run"))?.1.id())
    }

    /// A new write key of a source, where nobody runs.
    pub(crate) fn write_key(&mut self, source: &str) -> anyhow::Result<String> {
        self.start_role(Role::Control, &[])?;
        self.until("the control API", |pipeline| Ok(pipeline.ctl(&["get"]).is_ok()))?;
        let key = self.ctl(&["source", "rotate-key", source, "--yes"])?;
        self.stop()?;
        Ok(key)
    }

    /// Starts the HTTP door alone; where it listens, once it knows the key.
    pub(crate) fn start_door(&mut self, write_key: &str) -> anyhow::Result<SocketAddr> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let url = format!("http://{address}");
        let variable = |name: &str, value: String| (format!("WAYPOST_INGEST_{name}"), value);
        let mut variables = vec![variable("LISTEN", address.to_string()), variable("PUBLIC_URL", url)];
        // What the door can do, not what it allows one caller.
        variables.extend(["KEY_RATE", "ADDRESS_RATE"].map(|name| variable(name, "0".to_owned())));
        self.start_role(Role::Ingest, &variables)?;
        self.until("the door to know its key", |_| Ok(knows(address, write_key)))?;
        Ok(address)
    }

    fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (ctl, server) = &self.waypostctl;
        let done = Command::new(ctl).args(["--server", server]).args(arguments).output()?;
        ensure!(done.status.success(), "waypostctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Ends all of them, with everything committed.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        let mut processes = std::mem::take(&mut self.processes);
        for (_, process) in &mut processes {
            process.signal("TERM");
        }
        for (role, process) in processes {
            let status = self.runtime.block_on(process.terminate(GRACE));
            ensure!(status.is_some_and(|s| s.success()), "{role} did not end in order ({status:?}): see {}", self.logs.display());
        }
        Ok(())
    }

    fn define(&mut self, journeys: &[&PathBuf]) -> anyhow::Result<()> {
        self.until("the control API", |pipeline| Ok(pipeline.ctl(&["get"]).is_ok()))?;
        for folder in journeys {
            self.ctl(&["apply", "-f", folder.to_str().with_context(|| format!("{} is no text", folder.display()))?])?;
        }
        for name in self.ctl(&["-o", "name", "get", "journey"])?.lines() {
            self.ctl(&["publish", name.rsplit('/').next().unwrap_or(name)])?;
        }
        self.until("definitions to be in force in every partition", |pipeline| {
            let owners = pipeline.directory.owners(SystemClock.now());
            let staged: Vec<_> = owners.iter().filter(|o| STAGES.contains(&o.progress.partition.role)).collect();
            let newest = staged.iter().map(|o| &o.progress.defv).max_by_key(|defv| set_number(defv));
            let all = staged.len() == STAGES.len() * pipeline.layout.partitions as usize;
            Ok(all
                && newest.is_some_and(|newest| !newest.is_empty() && staged.iter().all(|o| o.progress.defv == *newest))
                && pipeline.is_still()?)
        })
    }

    /// Waits until something is so, asking five times a second; a process that ended meanwhile ends it.
    pub(crate) fn until(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while !look(self)? {
            self.check_alive()?;
            if Instant::now() > until {
                bail!("waited {} s for {what}; logs are in {}", PATIENCE.as_secs(), self.logs.display());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// An error where a process has ended by itself.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        for (role, process) in &mut self.processes {
            if let Some(status) = process.ended() {
                bail!("{role} ended by itself ({status}): see {}/{role}.log", self.logs.display());
            }
        }
        Ok(())
    }

    /// Everybody whose use is counted.
    pub(crate) fn watched(&self) -> Vec<Watched> {
        let own = self.processes.iter().map(|(role, process)| Watched { name: role.to_string(), pid: process.id(), kind: Kind::Own });
        let others = [
            ("broker", self.servers.broker_pid, Kind::Broker),
            ("redis", self.servers.redis_pid, Kind::Redis),
            ("generator", std::process::id(), Kind::Generator),
        ];
        own.chain(others.map(|(name, pid, kind)| Watched { name: name.to_owned(), pid, kind })).collect()
    }

    /// Where every partition of the stages and of the sender, if one runs, is, and where its log ends; asks the broker.
    pub(crate) fn places(&self) -> anyhow::Result<Vec<Place>> {
        let mut places = Vec::new();
        for owner in self.directory.owners(SystemClock.now()) {
            let partition = owner.progress.partition;
            if let Some(why) = &owner.progress.halted {
                bail!("{partition} halted: {why}");
            }
            let Some(inbox) = partition.role.inbox() else { continue };
            let end = self.runtime.block_on(self.log.watermarks(&format!("{}{inbox}", self.prefix), partition.index))?.1;
            places.push(Place { partition, next: owner.progress.next, off: owner.progress.off, end });
        }
        Ok(places)
    }

    /// Where the logs of the stages end.
    pub(crate) fn ends(&self) -> anyhow::Result<BTreeMap<PartitionId, u64>> {
        let partitions = STAGES.into_iter().flat_map(|role| (0..self.layout.partitions).map(move |index| PartitionId { role, index }));
        let ends = partitions.map(|partition| {
            let topic = format!("{}{}", self.prefix, partition.role.inbox().context("a stage has an inbox")?);
            Ok((partition, self.runtime.block_on(self.log.watermarks(&topic, partition.index))?.1))
        });
        ends.collect()
    }

    /// Whether everybody is where his log ends, but for the ticks that are never all folded.
    pub(crate) fn is_still(&self) -> anyhow::Result<bool> {
        let places = self.places()?;
        let all = self.roles.iter().filter(|role| role.inbox().is_some()).count() * self.layout.partitions as usize;
        Ok(places.len() == all && places.iter().all(|place| place.next + TICKS_BEHIND >= place.end))
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Ticks and leader records that may be under way in an idle partition.
const TICKS_BEHIND: u64 = 3;

/// Whether a door takes the key: what is no JSON is refused for that, and not for its key.
fn knows(door: SocketAddr, write_key: &str) -> bool {
    let key = STANDARD.encode(format!("{write_key}:"));
    let request = format!(
        "POST /v1/track HTTP/1.1\r\nhost: {door}\r\nauthorization: Basic {key}\r\ncontent-length: 7\r\nconnection: close\r\n\r\nno JSON"
    );
    let Ok(mut stream) = TcpStream::connect(door) else { return false };
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 400 ")
}

/// `17:<hash>`: its number.
fn set_number(defv: &str) -> u64 {
    defv.split(':').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_definitions_has_a_number() {
        assert_eq!([set_number("12:abc"), set_number("")], [12, 0]);
    }
}
