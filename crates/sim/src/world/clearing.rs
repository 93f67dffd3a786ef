//! The end of all faults, and whether a world has come to rest behind it.

use waypost_types::{PartitionId, Role, Span};

use super::{FAR, TAIL, World};
use crate::{faults::Fault, process::Process};

/// By so long after the last event, all stored state has been compared with its digest.
const LOOKED: Span = Span::from_secs(90);

// === impl World ===

impl World {
    /// Nothing breaks any more.
    pub(super) fn heal(&mut self) {
        self.story.tell(self.clock.now(), || "no more faults".to_owned());
        self.dice.end();
        self.provider.heal();
        self.starved.clear();
        self.backups.clear();
        self.refused_until = None;
        self.store.refuse(None);
        while let Some(i) = self.processes.iter().position(Process::is_zombie) {
            self.bury(i);
        }
        for process in &mut self.processes {
            (process.asleep_until, process.stuck_until, process.split_until) = (None, None, None);
            process.store = self.store.clone();
        }
    }

    /// Whether anything happened that can leave a send unknown: what changes who leads, or hides an answer.
    pub(crate) fn something_hid_an_answer(&self) -> bool {
        let harmless = [
            Fault::Starved,
            Fault::SlowRoad,
            Fault::ProcessClocks,
            Fault::BrokerClock,
            Fault::BodiesLate,
            Fault::Stuck,
            Fault::Repacked,
            Fault::Overtaken,
            Fault::Skip,
            Fault::Transient,
            Fault::Throttled,
            Fault::LookUpFails,
            Fault::Deadly,
            Fault::Poison,
        ];
        let provider = self.provider.dice();
        self.dice.counts().chain(provider.counts()).any(|(fault, _)| !harmless.contains(&fault))
    }

    pub(super) fn is_at_rest(&self) -> bool {
        let now = self.clock.now();
        // What was due and does not fire is the oracle's to find.
        let all_fired = now >= self.ends.plus(TAIL) || self.store.earliest_timer(None).is_none_or(|due| due > now.plus(FAR));
        // Damage is noticed in the background, a part of the state a second.
        let looked = self.damage.is_none() || now >= self.ends.plus(LOOKED);
        all_fired
            && looked
            && self.late.is_empty()
            && self.workload.is_empty()
            && self.processes.iter().all(|process| !process.is_zombie() && process.is_idle())
            && Role::KEYED.into_iter().all(|role| (0..self.layout.partitions).all(|index| self.is_read(PartitionId { role, index })))
    }

    /// Whether somebody has read a partition to its end, and stored what it means.
    fn is_read(&self, partition: PartitionId) -> bool {
        let end = self.end_of(partition);
        let owners = self.processes.iter().filter(|process| process.role == partition.role);
        owners.filter_map(|process| process.positions.get(&partition.index)).any(|at| *at == end)
            && self.store.offset(partition) == Some(end)
    }
}
