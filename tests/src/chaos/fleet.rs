//! The product's processes: seats, each with its own roads to Kafka and Redis, and somebody who sits there.
//!
//! Whoever ends by himself is started again after a second, as an orchestrator of containers would do.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::sync::Mutex;
use waypost_types::{PartitionId, Role};

use super::{
    kafka::SeatLinks,
    link::Link,
    process::{Process, free_port},
    settings::{PARTITIONS, Settings, Tools},
    story::Diary,
};

/// Every role in two processes; the keyed ones have a third seat, for rebalances.
const SEATS: [(Role, usize); 6] =
    [(Role::Ingest, 2), (Role::Identity, 3), (Role::Segmenter, 3), (Role::Orchestrator, 3), (Role::Sender, 3), (Role::Control, 2)];

/// How long a process may take to end after SIGTERM: its grace, and a bit.
const GRACE: Duration = Duration::from_secs(40);

/// How long the control API may take to come up.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a panic makes of a process.
const PANIC: i32 = 101;

/// Its number.
const SIGTERM: i32 = 15;

/// A place for a process.
#[derive(Debug)]
pub struct Seat {
    /// What it does.
    pub role: Role,
    /// `identity-2`.
    pub name: String,
    /// Roads to the brokers.
    pub kafka: SeatLinks,
    /// Road to Redis.
    pub redis: Arc<Link>,
    /// Private reads; names the process on `wp1.progress`.
    pub owner: u16,
    /// Its door or API, where it has one.
    pub door: u16,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    process: Option<Process>,
    wanted: bool,
}

/// All of them.
#[derive(Debug)]
pub struct Fleet {
    /// In the order in which they are started.
    pub seats: Vec<Seat>,
    /// How often one ended by itself.
    pub ended_by_themselves: AtomicUsize,
    tools: Tools,
    logs: PathBuf,
    environment: Vec<(String, String)>,
    journeys: PathBuf,
    diary: Arc<Diary>,
}

/// How many seats there are.
pub fn seats() -> usize {
    SEATS.iter().map(|(_, count)| count).sum()
}

/// Copies the journeys of the run; where they say `RELAY_PORT` the port of this run's relay is put.
fn lay_out(from: &Path, to: &Path, relay: &str) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if path.is_dir() {
            lay_out(&path, &to.join(name), relay)?;
        } else {
            fs::write(to.join(name), fs::read_to_string(&path)?.replace("RELAY_PORT", relay))?;
        }
    }
    Ok(())
}

/// Whether it ended as nobody should: by a panic or a signal. SIGTERM while it still starts ends it where it stands.
fn crashed(status: ExitStatus) -> bool {
    status.code() == Some(PANIC) || status.signal().is_some_and(|signal| signal != SIGTERM)
}

// === impl Fleet ===

impl Fleet {
    /// Sets the table; nobody sits yet.
    ///
    /// # Errors
    /// If the folder of logs cannot be made.
    pub fn new(
        settings: &Settings,
        kafka: Vec<SeatLinks>,
        redis: Vec<Arc<Link>>,
        (smtp, relay): (u16, u16),
        diary: Arc<Diary>,
    ) -> anyhow::Result<Self> {
        let logs = settings.folder.join("roles");
        fs::create_dir_all(&logs)?;
        let names = SEATS.iter().flat_map(|(role, count)| (1..=*count).map(move |n| (*role, n)));
        let place = |((role, number), (kafka, redis)): ((Role, usize), (SeatLinks, Arc<Link>))| Seat {
            role,
            name: format!("{role}-{number}"),
            kafka,
            redis,
            owner: free_port(),
            door: free_port(),
            state: Mutex::default(),
        };
        let seats: Vec<Seat> = names.zip(kafka.into_iter().zip(redis)).map(place).collect();
        let ingest = seats.iter().find(|s| s.role == Role::Ingest).context("a seat of ingest")?.door;
        let variable = |name: &str, value: &dyn ToString| (format!("WAYPOST_{name}"), value.to_string());
        let environment = vec![
            variable("INSTALL_PARTITIONS", &PARTITIONS),
            variable("INSTALL_REPLICATION", &settings.brokers.min(3)),
            variable("INGEST_PUBLIC_URL", &format!("http://127.0.0.1:{ingest}")),
            variable("MAIL_SMTP_HOST", &"127.0.0.1"),
            variable("MAIL_SMTP_PORT", &smtp),
            variable("MAIL_SMTP_TLS", &"none"),
            variable("MAIL_HTTP_ALLOW", &format!("http://127.0.0.1:{relay}/")),
            variable("MAIL_CATCHER_DIR", &logs.join("mail").display()),
            variable(
                "LOG_FILTER",
                &std::env::vars().find(|(n, _)| n == "WAYPOST_LOG_FILTER").map_or_else(|| "info".to_owned(), |(_, v)| v),
            ),
        ];
        let tools = settings.tools.clone();
        let journeys = settings.folder.join("journeys");
        lay_out(&tools.journeys, &journeys, &relay.to_string())?;
        Ok(Self { seats, ended_by_themselves: AtomicUsize::new(0), tools, logs, environment, journeys, diary })
    }

    /// The seat of the process with this private address.
    pub fn at(&self, address: &str) -> Option<&Seat> {
        self.seats.iter().find(|seat| address.ends_with(&format!(":{}", seat.owner)))
    }

    /// Seats of a role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Seat> {
        self.seats.iter().filter(move |seat| seat.role == role)
    }

    fn command(&self, seat: &Seat, arguments: &[&str]) -> Command {
        let brokers: Vec<String> = seat.kafka.iter().map(|link| format!("127.0.0.1:{}", link.port())).collect();
        let mut command = Command::new(&self.tools.waypost);
        command.args(arguments).envs(self.environment.iter().cloned()).current_dir(&self.logs);
        command.env("WAYPOST_KAFKA_BROKERS", brokers.join(","));
        command.env("WAYPOST_REDIS_URL", format!("redis://127.0.0.1:{}/0", seat.redis.port()));
        command.env("WAYPOST_OWNER_LISTEN", format!("127.0.0.1:{}", seat.owner));
        command.env(
            if seat.role == Role::Control { "WAYPOST_CONTROL_LISTEN" } else { "WAYPOST_INGEST_LISTEN" },
            format!("127.0.0.1:{}", seat.door),
        );
        command
    }

    /// `waypost init`, then the first two of each role, then definitions and write keys: the backend's and the browser's.
    ///
    /// # Errors
    /// If something refuses or does not come up.
    pub async fn open(&self) -> anyhow::Result<(String, String)> {
        let first = self.seats.first().context("a seat")?;
        let init = self.command(first, &["init"]).output()?;
        ensure!(init.status.success(), "waypost init: {}{}", String::from_utf8_lossy(&init.stdout), String::from_utf8_lossy(&init.stderr));
        for seat in &self.seats {
            if !seat.name.ends_with('3') {
                self.sit(seat).await?;
            }
        }
        self.until("the control API", || self.ctl(&["get"]).is_ok()).await?;
        self.ctl(&["apply", "-f", &self.journeys.display().to_string()])?;
        for name in self.ctl(&["-o", "name", "get", "journey"])?.lines() {
            self.ctl(&["publish", name.rsplit('/').next().unwrap_or(name)])?;
        }
        Ok((self.ctl(&["source", "rotate-key", "shop-backend", "--yes"])?, self.ctl(&["source", "rotate-key", "web", "--yes"])?))
    }

    async fn until(&self, what: &str, mut look: impl FnMut() -> bool) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + PATIENCE;
        while !look() {
            if tokio::time::Instant::now() > until {
                bail!("waited {} s for {what}; logs are in {}", PATIENCE.as_secs(), self.logs.display());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Runs `waypostctl`; its standard output.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let control = self.of(Role::Control).next().context("a seat of control")?;
        let server = format!("http://127.0.0.1:{}", control.door);
        let done = Command::new(&self.tools.waypostctl).args(["--server", &server]).args(arguments).output()?;
        ensure!(done.status.success(), "waypostctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Folds the recorded log of one partition again and compares it with what the store holds (`waypost refold`), beside
    /// whoever owns it. What it said, where the two differ.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn refold(&self, partition: PartitionId) -> anyhow::Result<Result<String, String>> {
        let seat = self.of(partition.role).next().context("a seat of that role")?;
        let (role, index) = (partition.role.as_str(), partition.index.to_string());
        let mut command = tokio::process::Command::from(self.command(seat, &["refold", "--role", role, "--partition", &index]));
        let done = command.output().await?;
        let told = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        let last = told.lines().last().unwrap_or_default().to_owned();
        match done.status.code() {
            Some(0) => Ok(Ok(last)),
            Some(1) => Ok(Err(told)),
            _ => bail!("waypost refold of {partition}: {}", String::from_utf8_lossy(&done.stderr)),
        }
    }

    fn start(&self, seat: &Seat) -> anyhow::Result<Process> {
        let mut command = self.command(seat, &["serve", "--role", seat.role.as_str()]);
        Ok(Process::start(&mut command, &self.logs.join(format!("{}.log", seat.name)))?)
    }

    /// Somebody sits down.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub async fn sit(&self, seat: &Seat) -> anyhow::Result<()> {
        let mut state = seat.state.lock().await;
        state.wanted = true;
        if state.process.is_none() {
            state.process = Some(self.start(seat)?);
        }
        Ok(())
    }

    /// Whether somebody sits there and is meant to.
    pub async fn is_taken(&self, seat: &Seat) -> bool {
        let state = seat.state.lock().await;
        state.wanted && state.process.is_some()
    }

    /// `kill -9`; nobody sits there until [`Self::sit`].
    pub async fn kill(&self, seat: &Seat) {
        let mut state = seat.state.lock().await;
        state.wanted = false;
        if let Some(process) = state.process.take() {
            process.kill();
        }
    }

    /// SIGTERM; waits for the end, and says where it was not as it should be. Nothing excuses whoever does not go within the
    /// grace: a seat has one fault at a time, so it is neither stopped nor cut off from its servers.
    pub async fn terminate(&self, seat: &Seat) {
        let process = {
            let mut state = seat.state.lock().await;
            state.wanted = false;
            state.process.take()
        };
        let Some(process) = process else { return };
        match (process.terminate(GRACE).await, &seat.name) {
            (None, name) => self.diary.complain(&format!("{name} was still there {} s after SIGTERM, and was killed", GRACE.as_secs())),
            (Some(status), name) if crashed(status) => self.diary.complain(&format!("{name} crashed after SIGTERM ({status})")),
            (Some(status), name) if !status.success() => self.diary.note(&format!("{name} ended after SIGTERM with {status}")),
            (Some(_), _) => {}
        }
    }

    /// Sends a signal by name to whoever sits there.
    pub async fn signal(&self, seat: &Seat, name: &str) {
        if let Some(process) = seat.state.lock().await.process.as_mut() {
            process.signal(name);
        }
    }

    /// Starts again whoever ended by himself; for ever.
    pub async fn supervise(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for seat in &self.seats {
                let mut state = seat.state.lock().await;
                let Some(status) = state.process.as_mut().and_then(Process::ended) else { continue };
                state.process = None;
                if state.wanted {
                    self.ended_by_themselves.fetch_add(1, Ordering::Relaxed);
                    self.diary.note(&format!("{} ended by itself ({status}), starting it again", seat.name));
                    // To give up is its right, where a server was gone; to crash is not.
                    if crashed(status) {
                        self.diary.complain(&format!("{} crashed ({status})", seat.name));
                    }
                    match self.start(seat) {
                        Ok(process) => state.process = Some(process),
                        Err(error) => self.diary.note(&format!("{} does not start: {error:#}", seat.name)),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_give_up_is_no_crash() {
        let exit = |code| ExitStatus::from_raw(code << 8);
        assert!(crashed(exit(PANIC)) && !crashed(exit(1)) && !crashed(exit(0)));
        // SIGSEGV, SIGABRT
        assert!(crashed(ExitStatus::from_raw(11)) && crashed(ExitStatus::from_raw(6)) && !crashed(ExitStatus::from_raw(SIGTERM)));
    }
}
