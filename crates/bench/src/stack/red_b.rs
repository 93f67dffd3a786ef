//! RED-B: exactly our commits through our store's client, and nothing else: what the store costs if nobody folds, reads or appends.
//!
//! The machines fold the traffic in memory and their commits are recorded; then they are made again on the real store, one after
//! the other in each partition, all partitions at once.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use waypost_bench::{
    costs::commit_bytes,
    drive::{WORKSPACE, install},
    record::{Recording, record},
    shop::Shop,
    stages,
};
use waypost_redis::{RedisStore, Server};
use waypost_runtime::ports::{ClaimReply, Commit, CommitReply, InitReply, Store as _};
use waypost_types::{Layout, PartitionId, Span};

use crate::{meter::cpu_seconds, pipeline::STAGES, say, servers::Servers, settings::Settings};

/// Events a millisecond of the recording's clock, about what a pipeline at full load folds.
const PER_MILLISECOND: usize = 20;
/// So many commits of a partition have to count.
const COMMITS_MIN: usize = 3;
/// Events before those that count, in hundredths of these.
const RUN_IN_PERCENT: usize = 50;

/// One replay.
#[derive(Clone, Debug)]
pub(crate) struct RedB {
    pub(crate) partitions: u32,
    pub(crate) interval_ms: u64,
    pub(crate) events: usize,
    /// Events a second.
    pub(crate) rate: f64,
    /// Microseconds of CPU an event.
    pub(crate) redis: f64,
    pub(crate) client: f64,
    pub(crate) commits: usize,
    pub(crate) entities: usize,
    /// What the commits carry, and what came over the wire.
    pub(crate) carried: u64,
    pub(crate) wire: u64,
}

type Commits = BTreeMap<PartitionId, Vec<Commit>>;

/// Refuses too few events for the time between two commits.
pub(crate) fn check(settings: &Settings) -> anyhow::Result<()> {
    for interval_ms in &settings.red_intervals {
        let least = usize::try_from(*interval_ms)? * PER_MILLISECOND * COMMITS_MIN;
        ensure!(settings.red_events >= least, "--red-intervals {interval_ms} takes --red-events of {least} at least");
    }
    Ok(())
}

pub(crate) fn run(settings: &Settings, servers: &Servers, partitions: u32) -> anyhow::Result<Vec<RedB>> {
    let shop = Shop::from_folders(WORKSPACE, &[&settings.journeys])?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut all = Vec::new();
    for interval_ms in &settings.red_intervals {
        let of = stages::Settings {
            seed: settings.seed,
            size: settings.size.size(),
            known: settings.known(),
            events: settings.red_events,
            run_in: settings.red_events * RUN_IN_PERCENT / 100,
            frame: settings.frame,
            per_millisecond: PER_MILLISECOND,
            partitions,
            journeys: 0,
            segments: 0,
        };
        say(&format!("RED-B: recording the commits of {} events, {interval_ms} ms apart", of.events));
        let recording = record(&of, &shop, Span::from_millis(i64::try_from(*interval_ms)?))?;
        servers.empty_redis()?;
        let one = runtime.block_on(replay(recording, servers, partitions, *interval_ms, of.events))?;
        say(&format!("RED-B, commits {interval_ms} ms apart: {:.0} events/s, Redis {:.2} µs an event", one.rate, one.redis));
        all.push(one);
    }
    servers.empty_redis()?;
    Ok(all)
}

async fn replay(recording: Recording, servers: &Servers, partitions: u32, interval_ms: u64, events: usize) -> anyhow::Result<RedB> {
    let Recording { run_in, counted } = recording;
    ensure!(!counted.is_empty(), "nothing was committed");
    // a connection a role, as processes have them
    let mut stores = BTreeMap::new();
    for role in STAGES {
        stores.insert(role, Arc::new(RedisStore::connect(&Server::at(servers.redis.as_str()), "red-b.", &[])?));
    }
    let install = install(Layout { number: 1, partitions });
    let (run_in, counted) = (by_partition(run_in), by_partition(counted));
    for (partition, commits) in run_in.iter().chain(counted.iter().filter(|(partition, _)| !run_in.contains_key(partition))) {
        let store = &stores[&partition.role];
        ensure!(store.init(*partition, &install).await? == InitReply::Created, "{partition} is there already");
        let token = commits.first().context("a partition that commits")?.token;
        let claim = store.claim(*partition, token, &install).await?;
        ensure!(matches!(claim, ClaimReply::Ok(_)), "{partition}: {claim:?}");
    }
    commit_all(&stores, run_in).await?;

    let commits = || counted.values().flatten();
    let (count, entities) = (commits().count(), commits().map(|commit| commit.entities.len()).sum());
    let carried = commits().map(|commit| commit_bytes(commit) as u64).sum();
    let input = servers.redis_info()?.net_input_bytes;
    let (redis, client, began) = (cpu_seconds(servers.redis_pid), cpu_seconds(std::process::id()), Instant::now());
    commit_all(&stores, counted).await?;
    let seconds = began.elapsed().as_secs_f64();
    let (redis, client) = (cpu_seconds(servers.redis_pid) - redis, cpu_seconds(std::process::id()) - client);
    let wire = servers.redis_info()?.net_input_bytes - input;
    let each = 1e6 / events as f64;
    Ok(RedB {
        partitions,
        interval_ms,
        events,
        rate: events as f64 / seconds,
        redis: redis * each,
        client: client * each,
        commits: count,
        entities,
        carried,
        wire,
    })
}

fn by_partition(commits: Vec<(PartitionId, Commit)>) -> Commits {
    let mut all = Commits::new();
    for (partition, commit) in commits {
        all.entry(partition).or_default().push(commit);
    }
    all
}

/// All partitions at once, in each one commit after the other.
async fn commit_all(stores: &BTreeMap<waypost_types::Role, Arc<RedisStore>>, commits: Commits) -> anyhow::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for (partition, commits) in commits {
        let store = Arc::clone(&stores[&partition.role]);
        tasks.spawn(async move {
            for commit in commits {
                let reply = store.commit(partition, &commit).await?;
                ensure!(reply == CommitReply::Ok, "{partition} at {}: {reply:?}", commit.expected);
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}
