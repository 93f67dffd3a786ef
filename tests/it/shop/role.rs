//! One process of the product, and a watchdog that ends it if the tests end without doing so.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::stack::{self, PATIENCE};

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    // Its standard input is a pipe that nobody writes to: it ends when this process does, however.
    watchdog: Child,
}

/// How to start one.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) logs: PathBuf,
}

// === impl Launch ===

impl Launch {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(stack::variable("WAYPOST_BIN"));
        command.args(arguments).envs(self.environment.iter().cloned()).current_dir(&self.logs).stdin(Stdio::null());
        command
    }

    /// Starts it; what it says goes to `<name>.log`.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Process {
        let log = OpenOptions::new().create(true).append(true).open(self.logs.join(format!("{name}.log"))).unwrap();
        let child = self.command(arguments).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let watch = ["-c", "read -r _; kill -9 $0", &child.id().to_string()].map(str::to_owned);
        let watchdog = Command::new("sh").args(watch).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Process { child, watchdog }
    }
}

// === impl Process ===

impl Process {
    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(mut self, name: &str) -> ExitStatus {
        stack::signal("TERM", &self.child.id().to_string());
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "{name} does not end after SIGTERM");
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
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

/// The last lines of a log, for a test that fails.
pub(crate) fn tail(logs: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(logs.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
