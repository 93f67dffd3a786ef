//! What a run is told: from the environment, as `deploy/local/chaos.sh` sets it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};

/// Partitions of each inbox.
pub const PARTITIONS: u32 = 4;

/// A run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long faults and workload last.
    pub lasts: Duration,
    /// Decides who comes, what they do and what is broken when.
    pub seed: u64,
    /// 1, or 3 with three replicas of which two must have a record.
    pub brokers: u32,
    /// Events a second at the door.
    pub rate: u64,
    /// Logs and data of the run.
    pub folder: PathBuf,
    /// Kinds of faults to inject; empty: all that this version is built for.
    pub only: Vec<String>,
    /// Programs.
    pub tools: Tools,
}

/// Where the programs lie.
#[derive(Clone, Debug)]
pub struct Tools {
    /// A Java.
    pub java: String,
    /// Folder of Kafka's jars.
    pub kafka_jars: PathBuf,
    /// Its logging.
    pub kafka_logging: PathBuf,
    /// `redis-server` or `valkey-server`.
    pub redis: String,
    /// `waypost`.
    pub waypost: PathBuf,
    /// `waypostctl`.
    pub waypostctl: PathBuf,
    /// Folder with the journeys of the run.
    pub journeys: PathBuf,
}

// === impl Settings ===

impl Settings {
    /// From variables: `CHAOS_MINUTES CHAOS_SEED CHAOS_BROKERS CHAOS_RATE CHAOS_DIR CHAOS_ONLY`, `STACK_JAVA
    /// STACK_KAFKA_JARS STACK_KAFKA_LOGGING STACK_REDIS_SERVER`, `WAYPOST_BIN WAYPOSTCTL_BIN`.
    ///
    /// # Errors
    /// A variable that is missing or is none of what it may be.
    pub fn from_environment() -> anyhow::Result<Self> {
        let find = |name: &str| std::env::vars().find(|(n, _)| n == name).map(|(_, value)| value).filter(|v| !v.is_empty());
        let need = |name: &str| find(name).with_context(|| format!("{name} is not set: run `make chaos`"));
        let number = |name: &str, default: u64| match find(name) {
            Some(text) => text.parse().with_context(|| format!("{name} must be a number")),
            None => Ok(default),
        };
        let minutes: f64 = find("CHAOS_MINUTES").map_or(Ok(10.0), |m| m.parse()).context("CHAOS_MINUTES must be a number")?;
        ensure!(minutes > 0.0 && minutes < 2_000.0, "CHAOS_MINUTES is {minutes}; it must lie between 0 and 2000");
        let brokers = u32::try_from(number("CHAOS_BROKERS", 1)?)?;
        ensure!(matches!(brokers, 1 | 3), "CHAOS_BROKERS is {brokers}; it must be 1 or 3");
        Ok(Self {
            lasts: Duration::from_secs_f64(minutes * 60.0),
            seed: number("CHAOS_SEED", 1)?,
            brokers,
            rate: number("CHAOS_RATE", 8)?.max(1),
            folder: need("CHAOS_DIR")?.into(),
            only: find("CHAOS_ONLY").map(|only| only.split(',').map(str::to_owned).collect()).unwrap_or_default(),
            tools: Tools {
                java: need("STACK_JAVA")?,
                kafka_jars: need("STACK_KAFKA_JARS")?.into(),
                kafka_logging: need("STACK_KAFKA_LOGGING")?.into(),
                redis: need("STACK_REDIS_SERVER")?,
                waypost: need("WAYPOST_BIN")?.into(),
                waypostctl: need("WAYPOSTCTL_BIN")?.into(),
                journeys: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/chaos"),
            },
        })
    }
}
