//! Everything that runs against a real Kafka and a real Redis: `init`, `doctor`, `serve`, `registry`, and the operator's commands.

mod access;
mod admin;
mod backup;
mod bench;
mod connections;
pub(crate) mod engine;
mod machines;
mod metered;
mod observed;
mod owners;
mod pulse;
mod pushing;
mod refold;
mod repair;
mod schemas;
mod secrets;
mod series;
mod serve;
mod skip;
mod tokens;

use std::{collections::BTreeMap, ops::RangeInclusive, process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use waypost_codec::schemas::MemorySchemas;
use waypost_control::{Act, Audit, Line};
use waypost_kafka::KafkaLog;
use waypost_redis::{Accepts, RedisStore, Rights};
use waypost_runtime::{
    finding::Finding,
    host::{OsEntropy, SystemClock},
    install::{self, InitSettings, InstallError},
    ports::{Log, Offset},
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
use crate::{
    cli::{self, Init, RedisAcl},
    config::Config,
    dev_registry, screen,
};

/// The log that the settings name.
fn log(config: &Config) -> anyhow::Result<Arc<dyn Log>> {
    Ok(Arc::new(KafkaLog::new(&connections::kafka(&config.kafka)?)?))
}

fn store(config: &Config) -> anyhow::Result<RedisStore> {
    Ok(RedisStore::connect(&connections::redis(&config.redis), &config.install.prefix, &[])?)
}

fn settings(config: &Config) -> InitSettings {
    InitSettings::new(config.install.prefix.clone(), config.install.partitions, config.install.replication)
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(future)
}

/// `waypost init`.
pub(crate) fn init(config: &Config, args: &Init) -> anyhow::Result<ExitCode> {
    block_on(async {
        let (log, store) = (log(config)?, store(config)?);
        let lost = install::lost_state(&*log, &store, &config.install.prefix).await?;
        refuse_loss(&lost, args.fold_again)?;
        let audit = Audit::new(Arc::clone(&log), Arc::new(SystemClock), &config.install.prefix);
        let by = cli::who(args.who.as_deref());
        for (partition, _) in &lost {
            audit.write(Line::new(&by, Act::FoldAgain, format!("partitions/{partition}"))).await?;
        }
        let done = install::init(&*log, &store, &mut OsEntropy, &settings(config)).await?;
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

/// State that is gone is not made anew in silence: what the log has no longer would be forgotten.
fn refuse_loss(lost: &[(PartitionId, Offset)], fold_again: bool) -> anyhow::Result<()> {
    let Some((first, _)) = lost.first() else { return Ok(()) };
    if !fold_again {
        bail!(
            "the inboxes of {} partitions ({first} is the first) hold records, but Redis has no state of them: this is a loss, and no new \
             installation. Put a backup back (`waypost restore --from DIR --yes`). Where the inboxes still have everything from the \
             beginning, `waypost init --fold-again` lets it be folded once more",
            lost.len()
        );
    }
    match lost.iter().find(|(_, start)| *start > 0) {
        Some((partition, start)) => {
            bail!("the log of {partition} begins at {start}: what came before is in backups only, so it cannot be folded again")
        }
        None => Ok(()),
    }
}

/// What is not as it must be, of Kafka, Redis and the installation, for a process with these engines. `thorough` also looks into
/// the logs.
async fn findings(
    config: &Config,
    log: &dyn Log,
    store: &RedisStore,
    engines: &RangeInclusive<u32>,
    thorough: bool,
) -> anyhow::Result<Vec<Finding>> {
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
            all.extend(install::judge_state(&heads, &record.install(), engines));
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
        let all = findings(config, &*log, &store, &machines::engines(), true).await?;
        for finding in &all {
            screen(&finding.to_string(), false);
        }
        let warnings = config.warnings();
        for warning in &warnings {
            screen(&format!("warning: {warning}"), false);
        }
        screen(install::NOT_ASKED, false);
        let refused = all.iter().filter(|f| f.refuses()).count();
        screen(&format!("{} refused, {} warnings", refused, all.len() - refused + warnings.len()), false);
        Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// `waypost redis-acl`.
pub(crate) fn redis_acl(config: &Config, args: &RedisAcl) -> anyhow::Result<ExitCode> {
    let rights = if args.administration { Rights::Administration } else { Rights::Services };
    let asks_settings = config.redis.settings_asserted_by.is_empty();
    let line = waypost_redis::set_user(&args.user, &config.install.prefix, rights, asks_settings)
        .map_err(|why| anyhow::anyhow!("--user: {why}"))?;
    screen(&line, false);
    Ok(ExitCode::SUCCESS)
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
