//! On what, and of which versions, figures were measured.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use waypost_runtime::{host::SystemClock, ports::Clock as _};

use crate::{servers::Servers, settings::Settings};

/// What stands beside every figure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// Name and value, in the order in which they are shown.
    pub(crate) facts: Vec<(&'static str, String)>,
}

// === impl Machine ===

impl Machine {
    pub(crate) fn look(servers: &Servers, settings: &Settings) -> anyhow::Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_owned()
        };
        let cores = std::thread::available_parallelism()?;
        let facts = vec![
            ("date", SystemClock.now().to_string()),
            ("processor", format!("{cores} cores, {}", field(&read("/proc/cpuinfo"), "model name"))),
            ("memory", field(&read("/proc/meminfo"), "MemTotal")),
            ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())),
            ("load before the run", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
            ("Waypost", first_line(Command::new(&settings.waypost).arg("--version"))),
            ("commit", commit()),
            ("compiler", first_line(Command::new("rustc").arg("--version"))),
            ("Kafka", kafka_version(servers.broker_pid)),
            ("Java", first_line(Command::new(format!("/proc/{}/exe", servers.broker_pid)).arg("-version"))),
            ("Redis", servers.redis_version()?),
            ("librdkafka", rdkafka::util::get_rdkafka_version().1),
        ];
        Ok(Self { facts })
    }

    pub(crate) fn json(&self) -> Value {
        self.facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
    }
}

/// Of what it says, wherever it says it.
fn first_line(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "unknown".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
}

fn commit() -> String {
    let hash = first_line(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]));
    let changed = Command::new("git").args(["status", "--porcelain", "--untracked-files=no"]).output();
    if changed.is_ok_and(|output| !output.stdout.is_empty()) { format!("{hash}, and changes that are not committed") } else { hash }
}

/// By the name of a jar on the broker's class path.
fn kafka_version(broker: u32) -> String {
    let line = fs::read(format!("/proc/{broker}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let path = words.iter().zip(words.iter().skip(1)).find(|(word, _)| *word == "-cp").map(|(_, path)| path.trim_end_matches('*'));
    let jars = path.and_then(|path| fs::read_dir(Path::new(path)).ok()).into_iter().flatten().flatten();
    let version = jars.filter_map(|jar| {
        let name = jar.file_name().into_string().ok()?;
        Some(name.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?.to_owned())
    });
    version.max().unwrap_or_else(|| "unknown".to_owned())
}
