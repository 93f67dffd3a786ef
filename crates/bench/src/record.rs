//! What the machines commit, recorded for a replay against a real store.

use waypost_runtime::{Command, Config, Input, Machine, ports::Commit};
use waypost_types::{PartitionId, Role, Span, Timestamp};

use crate::{
    drive::{Watch, drive, lock, traffic},
    shop::Shop,
    stages::Settings,
};

/// The commits of identity, segmenter and orchestrator, in the order in which they were sent.
#[derive(Debug, Default)]
pub struct Recording {
    /// Of those who are known and of the run-in, from an empty store on.
    pub run_in: Vec<(PartitionId, Commit)>,
    /// Of the counted events.
    pub counted: Vec<(PartitionId, Commit)>,
}

#[derive(Debug, Default)]
struct Recorder {
    recording: Recording,
    is_counting: bool,
}

/// Folds a run-in and then the counted events; what is committed meanwhile, with so long between two commits of a partition.
///
/// # Errors
/// If a partition halts.
pub fn record(settings: &Settings, shop: &Shop, interval: Span) -> anyhow::Result<Recording> {
    let usual = Config::default();
    // as commits grow where a slow store stretches the interval
    let times = usize::try_from(interval.millis() / usual.commit_interval.millis().max(1)).unwrap_or(1).max(1);
    let config = Config {
        commit_interval: interval,
        commit_interval_max: interval.max(usual.commit_interval_max),
        commit_entities: (usual.commit_entities * times).min(usual.commit_entities_max),
        commit_bytes: (usual.commit_bytes * times).min(usual.commit_bytes_max),
        ..usual
    };
    let watch = drive(settings, traffic(settings), shop, &config, Recorder::default())?;
    let recording = std::mem::take(&mut lock(&watch).recording);
    Ok(recording)
}

// === impl Recorder ===

impl Watch for Recorder {
    fn begin(&mut self) {
        self.is_counting = true;
    }

    fn handle(&mut self, machine: &mut dyn Machine, now: Timestamp, input: Input, commands: &mut Vec<Command>) {
        let (role, before) = (machine.role(), commands.len());
        machine.handle(now, input, commands);
        if !matches!(role, Role::Identity | Role::Segmenter | Role::Orchestrator) {
            return;
        }
        let into = if self.is_counting { &mut self.recording.counted } else { &mut self.recording.run_in };
        for command in &commands[before..] {
            if let Command::Commit(index, commit) = command {
                into.push((PartitionId { role, index: *index }, (**commit).clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{drive::WORKSPACE, guards::settings};

    #[test]
    fn commits_follow_each_other_from_an_empty_store_on() {
        let shop = Shop::new(WORKSPACE, 2, 2).unwrap();
        let Recording { run_in, counted } = record(&settings(500, 2_000, 4_000), &shop, Span::from_millis(100)).unwrap();
        assert!(!run_in.is_empty() && !counted.is_empty());
        let mut at = BTreeMap::new();
        for (partition, commit) in run_in.iter().chain(&counted) {
            let off = at.insert(*partition, commit.next).unwrap_or(0);
            assert_eq!(commit.expected, off, "{partition}");
        }
        assert_eq!(at.len(), 3 * 4);
    }
}
