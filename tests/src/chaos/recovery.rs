//! How long the partitions of a killed process stand still: until the first new commit of somebody else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use waypost_redis::Keys;
use waypost_runtime::{host::SystemClock, ports::Clock as _, progress::Directory};
use waypost_types::PartitionId;

use super::{fleet::Seat, redis::Redis, resp, story::Diary};

/// How long is waited for.
const PATIENCE: Duration = Duration::from_mins(2);

/// Times.
#[derive(Debug)]
pub struct Recovery {
    /// Who owns what.
    pub directory: Arc<Directory>,
    keys: Keys,
    diary: Arc<Diary>,
    times: Arc<Mutex<Times>>,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
struct Times {
    killed: usize,
    took: Vec<Duration>,
}

/// Who has a partition in the store, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    owner: Vec<u8>,
    off: String,
}

// === impl Recovery ===

impl Recovery {
    /// Nothing measured yet.
    pub fn new(directory: Arc<Directory>, keys: Keys, diary: Arc<Diary>) -> Self {
        Self { directory, keys, diary, times: Arc::default() }
    }

    /// Times the partitions of whoever sits there, from its end.
    pub async fn killed<F: Future<Output = ()>>(&self, redis: &Arc<tokio::sync::Mutex<Redis>>, seat: &Seat, kill: impl FnOnce() -> F) {
        let address = format!("127.0.0.1:{}", seat.owner);
        let owned = self.directory.owners(SystemClock.now()).into_iter().filter(|owner| owner.address == address && owner.progress.leading);
        let partitions: Vec<PartitionId> = owned.map(|owner| owner.progress.partition).collect();
        kill().await;
        let began = Instant::now();
        self.times.lock().unwrap_or_else(PoisonError::into_inner).killed += partitions.len();
        for partition in partitions {
            let (redis, meta, times, diary) =
                (Arc::clone(redis), self.keys.meta(partition), Arc::clone(&self.times), Arc::clone(&self.diary));
            tokio::spawn(async move {
                let Some(time) = until_commit(&redis, &meta, began).await else {
                    diary.note(&format!("{partition} had no new commit within {} s of a kill", PATIENCE.as_secs()));
                    return;
                };
                times.lock().unwrap_or_else(PoisonError::into_inner).took.push(time);
            });
        }
    }

    /// Median, 99th percentile and longest, of how many, and how many were not seen to come back.
    pub fn line(&self) -> String {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).line()
    }
}

// === impl Times ===

impl Times {
    fn line(&self) -> String {
        let mut took = self.took.clone();
        took.sort();
        let at = |part: usize| took.get((took.len() * part / 100).min(took.len().saturating_sub(1))).map_or(0.0, Duration::as_secs_f64);
        let (back, missing) = (took.len(), self.killed - took.len());
        let missing = if missing == 0 { String::new() } else { format!(" and {missing} not seen to come back") };
        format!("back after kill -9 p50 {:.1} s p99 {:.1} s max {:.1} s of {back} partitions{missing}", at(50), at(99), at(100))
    }
}

async fn until_commit(redis: &tokio::sync::Mutex<Redis>, meta: &str, began: Instant) -> Option<Duration> {
    let mut old: Option<Standing> = None;
    let mut claimed: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    while began.elapsed() < PATIENCE {
        // A Redis that is being broken is not asked; the time goes on.
        if let Ok(redis) = redis.try_lock() {
            let port = redis.port();
            drop(redis);
            if let Some(now) = standing(port, meta).await {
                let first = old.get_or_insert_with(|| now.clone());
                if now.owner != first.owner && !now.owner.is_empty() {
                    let at_claim = claimed.entry(now.owner.clone()).or_insert_with(|| now.off.clone());
                    if *at_claim != now.off {
                        return Some(began.elapsed());
                    }
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    None
}

async fn standing(port: u16, meta: &str) -> Option<Standing> {
    let mut fields = resp::ask(port, &["HMGET", meta, "own", "off"]).await.ok()?.list().into_iter();
    let owner = fields.next()?.bytes();
    let off = fields.next()?.text();
    Some(Standing { owner, off })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_does_not_come_back_is_counted() {
        let took = vec![Duration::from_secs(3), Duration::from_secs(1), Duration::from_secs(2)];
        let all = "back after kill -9 p50 2.0 s p99 3.0 s max 3.0 s of 3 partitions";
        assert_eq!(Times { killed: 3, took: took.clone() }.line(), all);
        assert_eq!(Times { killed: 5, took }.line(), format!("{all} and 2 not seen to come back"));
    }
}
