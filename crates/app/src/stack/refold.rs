//! `waypost refold`: folds a partition's recorded log again and compares what comes out with what Redis holds.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use waypost_control::Catalog;
use waypost_runtime::{
    install,
    ports::Offset,
    refold::{Difference, Refold, differences},
    upkeep::{Snapshot, Upkeep as _},
};
use waypost_types::PartitionId;

use super::{backup, block_on, log, machines, store};
use crate::{cli, config::Config, screen};

/// Differences that are printed.
const SHOWN: usize = 20;

/// 0 same, 1 different, 2 could not.
pub(crate) fn refold(config: &Config, args: &cli::Refold) -> ExitCode {
    match block_on(fold_and_compare(config, args)) {
        Ok(found) if found.is_empty() => ExitCode::SUCCESS,
        Ok(found) => {
            for Difference { what, folded, stored } in found.iter().take(SHOWN) {
                screen(&format!("{what}: the log gives {folded}, Redis holds {stored}"), false);
            }
            screen(
                &format!("{} differences: restore this partition from a backup (`waypost restore`), and keep the log", found.len()),
                false,
            );
            ExitCode::from(1)
        }
        Err(error) => {
            screen(&format!("error: {error:#}"), true);
            ExitCode::from(2)
        }
    }
}

async fn fold_and_compare(config: &Config, args: &cli::Refold) -> anyhow::Result<Vec<Difference>> {
    let prefix = &config.install.prefix;
    let (log, store) = (log(config)?, store(config)?);
    let record = install::load_install(&*log, prefix).await?;
    let partition = machines::existing(&record, "--partition", PartitionId { role: args.role, index: args.partition })?;
    let (catalog, _following) = Catalog::follow(&log, prefix).await.context("reading definitions")?;
    let machine = machines::machine(&record, &catalog, args.role, waypost_runtime::Config::default())?;
    let from = begin(args.from.as_deref(), partition, &record)?;
    let stored = store.snapshot(partition).await?.with_context(|| format!("{partition} has no state in Redis"))?;
    let to = args.to.unwrap_or(stored.off);
    ensure!(to <= stored.off, "--to {to}: {partition} has only come to {}", stored.off);
    screen(&format!("{partition}: folding offsets {} to {to}, {} entities stored", from.off, stored.entities.len()), false);
    let mut watch = |off: Offset| screen(&format!("  {off} of {to}"), false);
    let folded = Refold { log: &*log, prefix, partition, machine, from, to }.run(&mut |_, _| {}, &mut watch).await?;
    if to < stored.off {
        screen(&format!("folded to {to}; Redis is at {} and has no state of that moment to compare with", stored.off), false);
        return Ok(Vec::new());
    }
    let found = differences(&folded, &stored);
    if found.is_empty() {
        let (e, t, s) = (stored.entities.len(), stored.timers.len(), stored.sequences.len());
        screen(&format!("the same: {e} entities, {t} wake-ups, {s} sequences at offset {to}"), false);
    }
    Ok(found)
}

/// Where a fold begins: at a backup, or at nothing.
pub(super) fn begin(from: Option<&std::path::Path>, partition: PartitionId, record: &install::InstallRecord) -> anyhow::Result<Snapshot> {
    let Some(path) = from else { return Ok(Snapshot::empty(record.install())) };
    let snapshot = backup::load(path, partition)?.snapshot;
    ensure!(snapshot.install == record.install(), "{} is of another installation or layout", path.display());
    Ok(snapshot)
}
