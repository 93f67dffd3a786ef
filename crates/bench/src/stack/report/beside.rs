//! What is counted beside a throughput run and costs it nothing worth mentioning: commits, and system calls.

use std::time::Instant;

use waypost_types::Role;

use crate::{
    meter::Watched,
    pipeline::Pipeline,
    sampler::Usage,
    store_log::{ByRole, Seen, StoreLog},
    system_calls::{Counted, SystemCalls},
};

/// Whoever looks, and then what was seen.
pub(crate) struct Beside<S, C> {
    store: S,
    calls: C,
}

/// Commits of a window.
#[derive(Clone, Debug)]
pub(crate) struct Commits {
    pub(crate) by_role: ByRole,
    pub(crate) seconds: f64,
    pub(crate) partitions: u32,
}

// === impl Beside ===

impl Beside<StoreLog, SystemCalls> {
    pub(crate) fn start(pipeline: &Pipeline) -> Self {
        Self { store: StoreLog::follow(&pipeline.servers), calls: SystemCalls::start(&pipeline.servers, &pipeline.watched()) }
    }

    pub(crate) fn stop(self) -> anyhow::Result<Beside<Seen, Counted>> {
        Ok(Beside { calls: self.calls.stop(), store: self.store.stop()? })
    }
}

impl Beside<Seen, Counted> {
    /// Commits between two instants.
    pub(crate) fn commits(&self, pipeline: &Pipeline, (from, to): (Instant, Instant)) -> anyhow::Result<Option<Commits>> {
        let seconds = to.saturating_duration_since(from).as_secs_f64();
        let partitions = pipeline.layout.partitions;
        let by_role = self.store.written(&pipeline.prefix, from, to)?;
        Ok(by_role.map(|by_role| Commits { by_role, seconds, partitions }))
    }

    /// Adds the system calls of each process between two instants.
    pub(crate) fn calls(&self, watched: &[Watched], usage: &mut [Usage], (from, to): (Instant, Instant)) {
        for (one, usage) in watched.iter().zip(usage) {
            usage.system_calls = self.calls.of(one.pid, from, to);
        }
    }
}

// === impl Commits ===

impl Commits {
    /// By role that has committed: entities, and seconds between two commits of a partition.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Role, u64, f64)> {
        let committed = self.by_role.iter().filter(|(_, written)| written.commits > 0);
        committed.map(|(role, written)| (*role, written.entities, self.between(written.commits, 1)))
    }

    pub(crate) fn entities(&self) -> u64 {
        self.by_role.values().map(|written| written.entities).sum()
    }

    /// Seconds between two commits of a partition of the three roles through which every event goes.
    pub(crate) fn interval(&self) -> f64 {
        let stages: Vec<_> = crate::pipeline::STAGES.iter().filter_map(|role| self.by_role.get(role)).collect();
        self.between(stages.iter().map(|written| written.commits).sum(), stages.len())
    }

    fn between(&self, commits: u64, roles: usize) -> f64 {
        self.seconds * f64::from(self.partitions) * roles as f64 / commits.max(1) as f64
    }
}
