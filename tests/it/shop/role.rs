//! How a process of the product is started, and its last words.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use waypost_tests::process::Process;

use crate::stack;

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
        Process::start(&mut self.command(arguments), &self.logs.join(format!("{name}.log"))).unwrap()
    }
}

/// The last lines of a log, for a test that fails.
pub(crate) fn tail(logs: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(logs.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
