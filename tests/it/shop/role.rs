//! How a process of the product is started, and its last words.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use waypost_tests::process::Process;

use crate::stack;

/// Whose processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The binary under test.
    This,
    /// The one before it: the binary that `WAYPOST_OLD_BIN` names (deploy/local/upgrade.sh), or this one with the engines of one
    /// that came before.
    Before,
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
        self.command_of(Release::This, arguments)
    }

    /// The same of a release.
    pub(crate) fn command_of(&self, release: Release, arguments: &[&str]) -> Command {
        let before = Some(Release::Before).filter(|before| *before == release).and_then(|_| old_binary());
        let mut command = Command::new(before.unwrap_or_else(|| stack::variable("WAYPOST_BIN")));
        command.args(arguments).envs(self.environment.iter().cloned()).current_dir(&self.logs).stdin(Stdio::null());
        command
    }

    /// Starts roles of a release.
    pub(crate) fn serve(&self, release: Release, name: &str, role: &str) -> Process {
        let mut arguments = vec!["serve", "--role", role];
        if release == Release::Before && old_binary().is_none() {
            arguments.extend(["--engines-to", "1"]);
        }
        Process::start(&mut self.command_of(release, &arguments), &self.logs.join(format!("{name}.log"))).unwrap()
    }

    /// Starts it; what it says goes to `<name>.log`.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Process {
        Process::start(&mut self.command(arguments), &self.logs.join(format!("{name}.log"))).unwrap()
    }
}

/// The binary of an earlier release, where one was built.
pub(crate) fn old_binary() -> Option<String> {
    std::env::var("WAYPOST_OLD_BIN").ok().filter(|path| !path.is_empty())
}

/// The last lines of a log, for a test that fails.
pub(crate) fn tail(logs: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(logs.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
