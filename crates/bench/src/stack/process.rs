//! A process that the run started, and a watchdog that ends it if the run ends without doing so.

use std::{
    fs::OpenOptions,
    io,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    // Its standard input is a pipe that nobody writes to: it ends when the run does, however.
    watchdog: Child,
}

// === impl Process ===

impl Process {
    /// Starts `command`; what it says is appended to `log`. ^C at the terminal does not reach it.
    pub(crate) fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
        let words = ["-c", "read -r _; kill -9 $0", &child.id().to_string()].map(str::to_owned);
        let mut watch = Command::new("sh");
        watch.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self { child, watchdog: watch.spawn()? })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; none while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGTERM, and nobody waits.
    pub(crate) fn ask_to_end(&mut self) {
        if self.ended().is_none() {
            drop(Command::new("kill").args(["-TERM", &self.id().to_string()]).stderr(Stdio::null()).status());
        }
    }

    /// Waits so long. How it ended; none where it did not, and had to be killed.
    pub(crate) fn wait(mut self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // first the watchdog: a pid that is free again may be somebody else's
        drop(self.watchdog.kill());
        drop(self.watchdog.wait());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port nobody uses, below 32768, where the kernel takes none for outgoing connections.
pub(crate) fn free_port() -> Option<u16> {
    let begin = u16::try_from(std::process::id() % 12_000).unwrap_or(0);
    (0..12_000).map(|step| 20_000 + (begin + step) % 12_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}
