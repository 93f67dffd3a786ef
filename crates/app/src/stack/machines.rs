//! The machine of each role, as it runs and as it is folded again beside its owner.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive, sync::Arc};

use anyhow::{bail, ensure};
use waypost_control::Catalog;
use waypost_identity::IdentityProcessor;
use waypost_orchestrator::OrchestratorProcessor;
use waypost_runtime::{Config as Limits, Machine, Processor, RoleMachine, host::OsEntropy, install::InstallRecord};
use waypost_segmenter::SegmenterProcessor;
use waypost_sender::SenderProcessor;
use waypost_types::{PartitionId, Position, Role};

/// A role's machine without partitions.
///
/// # Errors
/// For a role that has none.
pub(super) fn machine(record: &InstallRecord, catalog: &Catalog, role: Role, limits: Limits) -> anyhow::Result<Box<dyn Machine>> {
    let library = Arc::clone(catalog.library());
    let layout = record.layout();
    // Listed records are set aside in every life, the first included.
    let skips: BTreeSet<(PartitionId, Position)> = catalog.journal().borrow().skipped().collect();
    Ok(match role {
        Role::Identity => of(record, limits, skips, move |_| IdentityProcessor::new(layout)),
        Role::Segmenter => of(record, limits, skips, move |_| SegmenterProcessor::new(Arc::clone(&library))),
        Role::Orchestrator => of(record, limits, skips, move |_| OrchestratorProcessor::new(Arc::clone(&library))),
        Role::Sender => of(record, limits, skips, move |_| SenderProcessor::new()),
        Role::Ingest | Role::Control => bail!("{role} owns no partitions; roles that do are identity segmenter orchestrator sender"),
    })
}

/// Engines that this binary folds with.
pub(super) fn engines() -> RangeInclusive<u32> {
    Limits::default().engines
}

/// Those of a release whose last one is `last`, or this binary's own.
///
/// # Errors
/// For one that this binary has not.
pub(super) fn engines_to(last: Option<u32>) -> anyhow::Result<RangeInclusive<u32>> {
    let has = engines();
    let last = last.unwrap_or_else(|| *has.end());
    ensure!(has.contains(&last), "--engines-to {last}: this binary has engines {} to {}", has.start(), has.end());
    Ok(*has.start()..=last)
}

fn of<P: Processor + fmt::Debug>(
    record: &InstallRecord,
    limits: Limits,
    skips: BTreeSet<(PartitionId, Position)>,
    make: impl Fn(u32) -> P + Send + 'static,
) -> Box<dyn Machine> {
    let limits = Limits { public_partitions: record.public_partitions, ..limits };
    Box::new(RoleMachine::new(limits, record.install(), record.layout(), Box::new(OsEntropy), Box::new(make)).skipping(skips))
}

/// The partition that the flags name, if the installation has it; `flag` is the one of its index.
pub(super) fn existing(record: &InstallRecord, flag: &str, partition: PartitionId) -> anyhow::Result<PartitionId> {
    let PartitionId { role, index } = partition;
    ensure!(Role::KEYED.contains(&role), "--role {role}: it owns no partitions; roles that do are identity segmenter orchestrator sender");
    ensure!(index < record.partitions, "{flag} {index}: partitions are 0 to {}", record.partitions - 1);
    Ok(partition)
}
