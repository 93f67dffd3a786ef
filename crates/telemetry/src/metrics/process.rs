//! The process itself, from `/proc`, and whether what it depends on answers.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use prometheus_client::metrics::counter::Counter;

use super::{
    family::{Bounded, Level, Single},
    labels::{Name, labels},
    register::{Kind, Register},
    role::number,
};

labels! {
    Build { version: Name, engine: Name }
}

/// The kernel counts CPU time in these for everybody outside of it, on every architecture that Linux has today.
const TICKS_A_SECOND: f64 = 100.0;

/// Metrics of the process; clones share them.
#[derive(Clone, Debug)]
pub struct ProcessMetrics {
    cpu: Counter<f64, AtomicU64>,
    memory: Level,
    files: Level,
    brokers: Single<Level>,
    store: Single<Level>,
}

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: f64,
}

// === impl ProcessMetrics ===

impl ProcessMetrics {
    pub(super) fn new(register: &mut Register, version: &str, engine: u32) -> Self {
        let build: Bounded<Build, Level> =
            register.gauges("waypost_build_info", "1; version of this binary, and the newest engine it folds with");
        build.at(&Build { version: Name::of(version), engine: Name::of(&engine.to_string()) }).set(1.0);
        let (cpu, memory, files) = (Counter::default(), Level::default(), Level::default());
        register.single("process_cpu_seconds_total", Kind::Counter, "CPU time that the process has used, user and system", &cpu);
        register.single("process_resident_memory_bytes", Kind::Gauge, "Memory of the process that is in RAM", &memory);
        register.single("process_open_fds", Kind::Gauge, "File descriptors that the process has open", &files);
        let brokers = register.known_later(
            "waypost_kafka_brokers_up",
            Kind::Gauge,
            "Brokers that the cluster has, as one of them says, asked every 5 s; 0 where none answers",
        );
        let store = register.known_later(
            "waypost_store_up",
            Kind::Gauge,
            "1 where the store's last answer to this process was one, else 0; only of processes with a keyed role",
        );
        Self { cpu, memory, files, brokers, store }
    }

    /// Looks at the process anew.
    pub fn look(&self) {
        if let Some(usage) = usage() {
            self.cpu.inner().store(usage.cpu_seconds.to_bits(), Ordering::Relaxed);
            self.memory.set(usage.resident_bytes);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // the one that lists them is among them
            let open = entries.count().saturating_sub(1);
            self.files.set(number(u64::try_from(open).unwrap_or(u64::MAX)));
        }
    }

    /// How many brokers there are; 0: none answers.
    pub fn brokers(&self, up: usize) {
        self.brokers.shown().set(number(u64::try_from(up).unwrap_or(u64::MAX)));
    }

    /// Whether the store answers.
    pub fn store(&self, is_up: bool) {
        self.store.shown().set(if is_up { 1.0 } else { 0.0 });
    }
}

fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(Usage { cpu_seconds: cpu_seconds(&stat)?, resident_bytes: resident_bytes(&status)? })
}

/// User and system time of `/proc/<pid>/stat`: the 14th and 15th field, behind a name that may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut times = behind_name.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    Some(number(times.next()?? + times.next()??) / TICKS_A_SECOND)
}

fn resident_bytes(status: &str) -> Option<f64> {
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?;
    kilobytes.trim().parse::<u64>().ok().map(|kb| number(kb * 1_024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 900 0 3 0 250 150 0 0 20 0 9 0 100 1000 200 184467";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(resident_bytes("Name:\twaypost\nVmRSS:\t   2048 kB\nThreads:\t9\n"), Some(2_097_152.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
        assert!(usage().is_some_and(|usage| usage.resident_bytes > 0.0), "of this very process");
    }
}
