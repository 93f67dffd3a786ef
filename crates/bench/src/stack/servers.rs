//! The broker and the store that the run has for itself.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

use crate::settings::Settings;

/// What an event takes of the disk, all logs and the store's file together, and as much again to spare.
const EVENT_BYTES: f64 = 4_000.0;

/// Both, as `deploy/local/stack.sh` has started them.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    /// `host:port`.
    pub(crate) kafka: String,
    /// `redis://host:port/0`.
    pub(crate) redis: String,
    /// Of the broker.
    pub(crate) broker_pid: u32,
    /// Of the store.
    pub(crate) redis_pid: u32,
    /// Their folder.
    pub(crate) folder: PathBuf,
}

/// What Redis says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RedisInfo {
    pub(crate) used_memory: u64,
    pub(crate) net_input_bytes: u64,
    pub(crate) commands: u64,
}

// === impl Servers ===

impl Servers {
    pub(crate) fn find(settings: &Settings) -> anyhow::Result<Self> {
        let folder = fs::canonicalize(&settings.stack).with_context(|| {
            format!("--stack {}: start it with STACK_DIR={0} deploy/local/stack.sh up, or run make bench", settings.stack.display())
        })?;
        let pid = |part: &str| -> anyhow::Result<u32> {
            let file = folder.join(part).join("pid");
            let text = fs::read_to_string(&file).with_context(|| format!("{}: {part} does not run; run make bench", file.display()))?;
            text.trim().parse().with_context(|| format!("{} holds no number", file.display()))
        };
        let (broker_pid, redis_pid) = (pid("kafka")?, pid("redis")?);
        Ok(Self { kafka: settings.kafka.clone(), redis: settings.redis.clone(), broker_pid, redis_pid, folder })
    }

    /// Forgets everything in the store.
    pub(crate) fn empty_redis(&self) -> anyhow::Result<()> {
        let answer = self.ask_redis("FLUSHALL")?;
        ensure!(answer.starts_with("+OK"), "FLUSHALL: {answer}");
        Ok(())
    }

    pub(crate) fn redis_info(&self) -> anyhow::Result<RedisInfo> {
        let text = self.ask_redis("INFO")?;
        let field = |name: &str| -> anyhow::Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.with_context(|| format!("INFO has no {name}"))?.trim().parse().with_context(|| format!("INFO {name}"))
        };
        Ok(RedisInfo {
            used_memory: field("used_memory")?,
            net_input_bytes: field("total_net_input_bytes")?,
            commands: field("total_commands_processed")?,
        })
    }

    fn ask_redis(&self, command: &str) -> anyhow::Result<String> {
        let address = self.redis.trim_start_matches("redis://").split('/').next().unwrap_or_default();
        let mut stream = BufReader::new(TcpStream::connect(address).with_context(|| format!("Redis at {address} does not answer"))?);
        stream.get_ref().set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        let mut head = String::new();
        stream.read_line(&mut head)?;
        match head.strip_prefix('$').map(|length| length.trim().parse::<usize>()) {
            Some(Ok(length)) => {
                let mut body = vec![0; length];
                stream.read_exact(&mut body)?;
                Ok(String::from_utf8_lossy(&body).into_owned())
            }
            Some(Err(_)) => bail!("Redis answers {head}"),
            None => Ok(head),
        }
    }

    /// The version that Redis says it has.
    pub(crate) fn redis_version(&self) -> anyhow::Result<String> {
        let text = self.ask_redis("INFO server")?;
        Ok(text.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown").trim().to_owned())
    }

    /// Whether the disk takes so many more events through all stages; an error says that there is no telling.
    pub(crate) fn has_room(&self, events: f64) -> anyhow::Result<bool> {
        let output = Command::new("df").args(["-Pk"]).arg(&self.folder).output().context("df")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let free = text.lines().nth(1).and_then(|line| line.split_whitespace().nth(3)?.parse::<f64>().ok());
        Ok(free.with_context(|| format!("df says {text}"))? * 1_024.0 > events * EVENT_BYTES)
    }

    /// Bytes of the logs of all topics whose names begin so, by topic.
    pub(crate) fn log_bytes(&self, prefix: &str) -> anyhow::Result<Vec<(String, u64)>> {
        let mut topics: Vec<(String, u64)> = Vec::new();
        for entry in fs::read_dir(self.folder.join("kafka/data"))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some((topic, _)) = name.rsplit_once('-').filter(|(topic, _)| topic.starts_with(prefix)) else { continue };
            let bytes = segments(&path)?;
            match topics.iter_mut().find(|(known, _)| known == topic) {
                Some((_, sum)) => *sum += bytes,
                None => topics.push((topic.to_owned(), bytes)),
            }
        }
        topics.sort();
        Ok(topics)
    }
}

fn segments(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|e| e == "log") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
