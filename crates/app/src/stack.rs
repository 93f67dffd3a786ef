//! Everything that runs against a real Kafka and a real Redis: `init`, `doctor`, `serve`, `registry`, and the operator's commands.

mod admin;
mod backup;
mod bench;
pub(crate) mod engine;
mod machines;
mod owners;
mod refold;
mod repair;
mod schemas;
mod serve;
mod skip;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use waypost_codec::schemas::MemorySchemas;
use waypost_kafka::KafkaLog;
use waypost_redis::{Accepts, RedisStore};
use waypost_runtime::{
    finding::Finding,
    host::{OsEntropy, SystemClock},
    install::{self, InitSettings, InstallError},
    ports::{Log, Store},
    upkeep::Upkeep as _,
};
use waypost_types::{PartitionId, Role};

pub(crate) use self::{
    backup::{backup, restore},
    bench::bench,
    refold::refold,
    repair::repair,
    serve::serve,
    skip::skip,
};
use crate::{config::Config, dev_registry, screen};

/// The log that the settings name.
fn log(config: &Config) -> anyhow::Result<Arc<dyn Log>> {
    Ok(Arc::new(KafkaLog::new(&config.kafka.brokers, Vec::new()).context("kafka")?))
}

fn store(config: &Config) -> anyhow::Result<RedisStore> {
    RedisStore::connect(&config.redis.url, &config.install.prefix, &[]).context("redis.url")
}

fn settings(config: &Config) -> InitSettings {
    InitSettings::new(config.install.prefix.clone(), config.install.partitions, config.install.replication)
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(future)
}

/// `waypost init`.
pub(crate) fn init(config: &Config) -> anyhow::Result<ExitCode> {
    block_on(async {
        let (log, store) = (log(config)?, store(config)?);
        let store: Arc<dyn Store> = Arc::new(store);
        let done = install::init(&*log, &*store, &mut OsEntropy, &settings(config)).await?;
        if !config.registry.url.is_empty() {
            schemas::register(config).await?;
        }
        screen(
            &format!(
                "installation {}: {} topics and the state of {} partitions created{}",
                if done.new { "created" } else { "found" },
                done.topics.len(),
                done.partitions,
                if config.registry.url.is_empty() { "" } else { "; schemas registered" }
            ),
            false,
        );
        Ok(ExitCode::SUCCESS)
    })
}

/// What is not as it must be, of Kafka, Redis and the installation. `thorough` also looks into the logs.
async fn findings(config: &Config, log: &dyn Log, store: &RedisStore, thorough: bool) -> anyhow::Result<Vec<Finding>> {
    let settings = settings(config);
    let mut all = install::doctor(log, &SystemClock, &settings).await?;
    let partitions: Vec<_> =
        Role::KEYED.into_iter().flat_map(|role| (0..settings.partitions).map(move |index| PartitionId { role, index })).collect();
    let accepts = Accepts { rdb_only: config.redis.rdb_only, settings_by: config.redis.settings_asserted_by.clone() };
    all.extend(store.doctor(&partitions, &accepts).await?);
    match install::load_install(log, &config.install.prefix).await {
        Ok(record) if record.partitions != config.install.partitions => all.push(Finding::refuse(
            "install.partitions",
            config.install.partitions.to_string(),
            record.partitions.to_string(),
            format!("set install.partitions = {}; the number never changes in place", record.partitions),
        )),
        Ok(record) => {
            let mut heads = BTreeMap::new();
            for partition in partitions {
                heads.insert(partition, store.head(partition).await?);
            }
            all.extend(install::judge_state(&heads, &record.install(), &machines::engines()));
            if thorough {
                all.extend(install::headroom(log, &config.install.prefix, &heads, settings.retention).await?);
            }
        }
        Err(error @ InstallError::Absent(_)) => {
            all.push(Finding::refuse("installation", "none", "an install record in wp1.control", error.to_string()));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(all)
}

/// `waypost doctor`.
pub(crate) fn doctor(config: &Config) -> anyhow::Result<ExitCode> {
    block_on(async {
        let (log, store) = (log(config)?, store(config)?);
        let all = findings(config, &*log, &store, true).await?;
        for finding in &all {
            screen(&finding.to_string(), false);
        }
        screen(install::NOT_ASKED, false);
        let refused = all.iter().filter(|f| f.refuses()).count();
        screen(&format!("{} refused, {} warnings", refused, all.len() - refused), false);
        Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// `waypost registry`.
pub(crate) fn registry(listen: &str) -> anyhow::Result<ExitCode> {
    block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        screen(&format!("development schema registry on http://{}, in memory", listener.local_addr()?), false);
        axum::serve(listener, dev_registry::router(Arc::new(MemorySchemas::with_committed()))).await?;
        Ok(ExitCode::SUCCESS)
    })
}
