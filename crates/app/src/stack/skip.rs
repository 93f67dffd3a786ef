//! `waypost skip`: setting aside a record that kills every process that folds it. Two people, one record (PROTOCOL §12.1).

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use waypost_control::{Act, Audit, Catalog, Changes, Entry, Following, Line, Search, SkipPlace};
use waypost_redis::RedisStore;
use waypost_runtime::{
    host::SystemClock,
    install::{self, InstallRecord},
    ports::{Clock, Log, Store as _},
    upkeep::Upkeep as _,
};
use waypost_types::{PartitionId, Position};

use super::{block_on, log, machines::existing, store};
use crate::{
    cli::{self, SkipCommand, SkipRecord},
    config::Config,
    screen,
};

/// `waypost skip`.
pub(crate) fn skip(config: &Config, what: &SkipCommand) -> anyhow::Result<ExitCode> {
    block_on(async {
        let here = Here::open(config).await?;
        match what {
            SkipCommand::List => here.list(),
            SkipCommand::Propose { record, reason, who } => here.propose(record, reason, &cli::who(who.as_deref())).await?,
            SkipCommand::Retry { role, partition, who } => {
                here.retry(PartitionId { role: *role, index: *partition }, &cli::who(who.as_deref())).await?;
            }
            SkipCommand::Approve { record, who } => here.approve(record, &cli::who(who.as_deref())).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The installation, its journal, and who may write to it.
struct Here {
    log: Arc<dyn Log>,
    store: RedisStore,
    prefix: String,
    record: InstallRecord,
    catalog: Catalog,
    changes: Changes,
    audit: Audit,
    _following: Following,
}

// === impl Here ===

impl Here {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let prefix = config.install.prefix.clone();
        let (log, store) = (log(config)?, store(config)?);
        let record = install::load_install(&*log, &prefix).await?;
        let (catalog, following) = Catalog::follow(&log, &prefix).await.context("reading the control journal")?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let changes = Changes::new(Arc::clone(&log), Arc::clone(&clock), catalog.clone(), prefix.clone(), record.layout());
        let audit = Audit::new(Arc::clone(&log), clock, &prefix);
        Ok(Self { log, store, prefix, record, catalog, changes, audit, _following: following })
    }

    fn list(&self) {
        let journal = self.catalog.journal().borrow().clone();
        for (place, skip) in &journal.skips {
            let state = skip.approved_by.as_ref().map_or_else(|| "waits for approval".to_owned(), |by| format!("approved by {by}"));
            screen(&format!("{place}: proposed by {}, {state}: {}", skip.proposed_by, skip.reason), false);
        }
        screen(&format!("{} records", journal.skips.len()), false);
    }

    /// Whoever starts next folds the record again, as if no life had ended at it.
    async fn retry(&self, partition: PartitionId, by: &str) -> anyhow::Result<()> {
        existing(&self.record, "--partition", partition)?;
        let Some(deaths) = self.store.deaths(partition).await? else { bail!("no life of {partition} has ended at a record") };
        let line = Line::new(by, Act::SkipRetry, format!("partitions/{}/{}", partition.role, partition.index));
        self.audit.write(line.note(format!("offset {}, {} deaths", deaths.offset, deaths.count))).await?;
        self.store.note_deaths(partition, None).await?;
        screen(&format!("{partition} is folded again from offset {}; its owner notices within half a minute", deaths.offset), false);
        Ok(())
    }

    /// Refuses unless the record stands at the partition's offset and nobody has folded it.
    async fn check(&self, record: &SkipRecord) -> anyhow::Result<SkipPlace> {
        let partition = existing(&self.record, "--partition", PartitionId { role: record.role, index: record.partition })?;
        let head = self.store.head(partition).await?.with_context(|| format!("{partition} has no state in Redis"))?;
        let position = Position { offset: record.offset, index: record.index };
        let search = Search {
            log: &*self.log,
            prefix: &self.prefix,
            layout: self.record.layout(),
            public_partitions: self.record.public_partitions,
        };
        screen("reading every destination, and the partition's own inbox, to their ends", false);
        search.nothing_of(partition, &head, position).await?;
        Ok(SkipPlace::of(partition, position))
    }

    async fn propose(&self, record: &SkipRecord, reason: &str, by: &str) -> anyhow::Result<()> {
        let place = self.check(record).await?;
        if let Some(there) = self.catalog.journal().borrow().skips.get(&place) {
            bail!("{place} is proposed already, by {}", there.proposed_by);
        }
        self.audit.write(Line::new(by, Act::SkipPropose, subject(&place)).note(reason)).await?;
        let entry = Entry::SkipProposed { place: place.clone(), reason: reason.to_owned(), by: by.to_owned() };
        self.changes.enter(entry).await?;
        screen(&format!("{place} proposed by {by}; somebody else approves: waypost skip approve {}", flags(&place)), false);
        Ok(())
    }

    async fn approve(&self, record: &SkipRecord, by: &str) -> anyhow::Result<()> {
        let partition = PartitionId { role: record.role, index: record.partition };
        let wanted = SkipPlace::of(partition, Position { offset: record.offset, index: record.index });
        let proposed = self.catalog.journal().borrow().skips.get(&wanted).cloned();
        let Some(proposed) = proposed else { bail!("nobody has proposed to skip {wanted}: `waypost skip list` shows what was proposed") };
        if let Some(before) = proposed.approved_by {
            bail!("{wanted} is skipped already, approved by {before}");
        }
        ensure!(proposed.proposed_by != by, "{by} has proposed this one: somebody else has to approve it");
        let place = self.check(record).await?;
        self.audit.write(Line::new(by, Act::SkipApprove, subject(&place)).note(proposed.reason.clone())).await?;
        let (proposed_by, reason) = (proposed.proposed_by, proposed.reason);
        self.changes.enter(Entry::Skip { place: place.clone(), proposed_by, approved_by: by.to_owned(), reason }).await?;
        screen(&format!("{place} is skipped from now on, in every life: it folds to a dead letter"), false);
        Ok(())
    }
}

fn subject(place: &SkipPlace) -> String {
    format!("partitions/{}/{}", place.role, place.partition)
}

fn flags(place: &SkipPlace) -> String {
    format!("--role {} --partition {} --offset {} --index {}", place.role, place.partition, place.offset, place.index)
}
