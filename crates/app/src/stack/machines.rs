//! The machine of each role, as it runs and as it is folded again beside its owner.

use std::{fmt, ops::RangeInclusive, sync::Arc};

use anyhow::bail;
use waypost_control::Catalog;
use waypost_identity::IdentityProcessor;
use waypost_orchestrator::OrchestratorProcessor;
use waypost_runtime::{Config as Limits, Machine, Processor, RoleMachine, host::OsEntropy, install::InstallRecord};
use waypost_segmenter::SegmenterProcessor;
use waypost_sender::SenderProcessor;
use waypost_types::Role;

/// A role's machine without partitions.
///
/// # Errors
/// For a role that has none.
pub(super) fn machine(record: &InstallRecord, catalog: &Catalog, role: Role, limits: Limits) -> anyhow::Result<Box<dyn Machine>> {
    let library = Arc::clone(catalog.library());
    let layout = record.layout();
    Ok(match role {
        Role::Identity => of(record, limits, move |_| IdentityProcessor::new(layout)),
        Role::Segmenter => of(record, limits, move |_| SegmenterProcessor::new(Arc::clone(&library))),
        Role::Orchestrator => of(record, limits, move |_| OrchestratorProcessor::new(Arc::clone(&library))),
        Role::Sender => of(record, limits, move |_| SenderProcessor::new()),
        Role::Ingest | Role::Control => bail!("{role} owns no partitions; roles that do are identity segmenter orchestrator sender"),
    })
}

/// Whether workers read the skip list; without it an approval would promise what nobody keeps.
pub(super) const SKIPS: bool = false;

/// Engines that this binary folds with.
pub(super) fn engines() -> RangeInclusive<u32> {
    Limits::default().engine..=Limits::default().engine
}

fn of<P: Processor + fmt::Debug>(record: &InstallRecord, limits: Limits, make: impl Fn(u32) -> P + Send + 'static) -> Box<dyn Machine> {
    let limits = Limits { public_partitions: record.public_partitions, ..limits };
    Box::new(RoleMachine::new(limits, record.install(), record.layout(), Box::new(OsEntropy), Box::new(make)))
}
