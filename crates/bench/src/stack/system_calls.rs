//! System calls of each process within a window, counted by the kernel for `perf stat`; where there is no perf, or it may not, there is
//! no such figure. (`/proc/<pid>/io` would leave out what Kafka's client does: it sends and receives messages.)

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use waypost_tests::process::Process;

use crate::{
    meter::{Kind, Watched},
    servers::Servers,
};

/// Milliseconds between two counts, as far as the borders of a window may be off.
const EVERY_MS: &str = "200";
/// For perf to write its last line.
const PATIENCE: Duration = Duration::from_secs(2);

/// One perf a process.
pub(crate) struct SystemCalls(Vec<Counter>);

struct Counter {
    pid: u32,
    perf: Process,
    file: PathBuf,
    began: Instant,
}

/// By process: when, and how many since the count before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted(Vec<(u32, Vec<(Instant, u64)>)>);

// === impl SystemCalls ===

impl SystemCalls {
    pub(crate) fn start(servers: &Servers, watched: &[Watched]) -> Self {
        let folder = servers.folder.join("perf");
        let start = |one: &Watched| {
            fs::create_dir_all(&folder).ok()?;
            let file = folder.join(format!("{}.csv", one.pid));
            let mut command = Command::new("perf");
            command.args(["stat", "-x,", "-I", EVERY_MS, "-e", "raw_syscalls:sys_enter", "-p", &one.pid.to_string(), "-o"]).arg(&file);
            let began = Instant::now();
            let perf = Process::start(&mut command, &folder.join("log")).ok()?;
            Some(Counter { pid: one.pid, perf, file, began })
        };
        Self(watched.iter().filter(|one| one.kind != Kind::Generator).filter_map(start).collect())
    }

    pub(crate) fn stop(mut self) -> Counted {
        for counter in &mut self.0 {
            counter.perf.signal("INT");
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && self.0.iter_mut().any(|counter| counter.perf.ended().is_none()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let counts = |counter: &Counter| {
            let text = fs::read_to_string(&counter.file).unwrap_or_default();
            (counter.pid, counts(&text).into_iter().map(|(after, calls)| (counter.began + after, calls)).collect())
        };
        Counted(self.0.iter().map(counts).collect())
    }
}

// === impl Counted ===

impl Counted {
    /// Of a process between two instants.
    pub(crate) fn of(&self, pid: u32, from: Instant, to: Instant) -> Option<u64> {
        let (_, counts) = self.0.iter().find(|(known, counts)| *known == pid && !counts.is_empty())?;
        Some(counts.iter().filter(|(at, _)| *at > from && *at <= to).map(|(_, calls)| calls).sum())
    }
}

/// Lines of `seconds,calls,…`; a process that slept has none counted.
fn counts(text: &str) -> Vec<(Duration, u64)> {
    let line = |line: &str| {
        let mut fields = line.split(',');
        let after = Duration::try_from_secs_f64(fields.next()?.trim().parse().ok()?).ok()?;
        match fields.next()? {
            "<not counted>" => Some((after, 0)),
            calls => Some((after, calls.parse().ok()?)),
        }
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_perf_are_counts_within_a_window() {
        let text = "# started on Mon\n\n     0.200,1234,,raw_syscalls:sys_enter,0,100.00,,\n     0.401,<not counted>,,raw_syscalls:sys_enter,0,100.00,,\n     0.600,6,,x\n";
        let began = Instant::now();
        let all = counts(text).into_iter().map(|(after, calls)| (began + after, calls)).collect();
        let counted = Counted(vec![(7, all), (8, Vec::new())]);
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!(
            [counted.of(7, at(0), at(700)), counted.of(7, at(250), at(700)), counted.of(8, at(0), at(700))],
            [Some(1240), Some(6), None]
        );
        assert!(counts("<not supported>,,raw_syscalls:sys_enter").is_empty());
    }
}
