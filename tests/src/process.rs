//! A process that a test started, and a watchdog that ends it if the test ends without doing so.

use std::{
    fs::OpenOptions,
    io,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    // Its standard input is a pipe that nobody writes to: it ends when the runner does, however.
    watchdog: Child,
}

// === impl Process ===

impl Process {
    /// Starts `command`; what it says is appended to `log`. ^C at the terminal does not reach it.
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
        let words = ["-c", "read -r _; kill -9 $0", &child.id().to_string()].map(str::to_owned);
        let mut watch = Command::new("sh");
        watch.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self { child, watchdog: watch.spawn()? })
    }

    /// Its pid.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name; none arrives where it has ended.
    pub fn signal(&mut self, name: &str) {
        if self.ended().is_none() {
            drop(Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).stderr(Stdio::null()).status());
        }
    }

    /// How it ended; none while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// `kill -9`, and waits for it.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM; waits so long, then kills. How it ended by itself; none where it had to be killed.
    pub async fn terminate(mut self, patience: Duration) -> Option<ExitStatus> {
        self.signal("TERM");
        let until = tokio::time::Instant::now() + patience;
        while tokio::time::Instant::now() < until {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    fn end(&mut self) {
        // first the watchdog: a pid that is free again may be somebody else's
        drop(self.watchdog.kill());
        drop(self.watchdog.wait());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A port nobody uses, below 32768, where the kernel takes none for outgoing connections: it is still free when
/// what listens on it was killed and starts again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let begin = u16::try_from(std::process::id() % 10_000).unwrap_or(0);
        let port = 20_000 + (begin.wrapping_mul(7) % 10_000 + step) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Whether somebody listens on a port of this machine.
pub fn listens(port: u16) -> bool {
    std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(500)).is_ok()
}
