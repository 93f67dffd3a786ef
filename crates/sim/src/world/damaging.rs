//! What no protocol survives: a store or a log that has lost a part of itself. It must be noticed, and halt (PROTOCOL §1).
//!
//! Whoever owned the partition dies at once, since what it has in memory would cover the loss up for a while; and
//! nothing else is taken from the store behind it, since two losses can hide each other.

use waypost_runtime::ports::Delivery;
use waypost_types::PartitionId;

use super::World;
use crate::{chance::Chance, faults::Fault};

// === impl World ===

impl World {
    pub(super) fn lose_a_field(&mut self, chance: &mut Chance) -> bool {
        let partition = self.any_partition(chance);
        let Some(dump) = self.store.dump(partition).filter(|_| self.may_be_damaged()) else { return false };
        let entities: Vec<_> = dump.entities.keys().collect();
        let timers: Vec<_> = dump.timers.keys().collect();
        let sequences: Vec<_> = dump.sequences.keys().collect();
        let lost = match chance.index(4) {
            0 => chance.pick(&timers).is_some_and(|id| self.store.delete_timer(partition, id)),
            1 => chance.pick(&sequences).is_some_and(|field| self.store.delete_sequence(partition, field)),
            _ => chance.pick(&entities).is_some_and(|id| self.store.delete_field(partition, id)),
        };
        lost && self.damaged(Fault::FieldLost, partition)
    }

    pub(super) fn cut_a_log(&mut self, chance: &mut Chance) -> bool {
        let partition = self.any_partition(chance);
        let Some(off) = self.store.offset(partition).filter(|off| *off > 0 && self.may_be_damaged()) else { return false };
        self.cut(partition, off.saturating_sub(chance.small(3) as u64));
        self.damaged(Fault::LogCut, partition)
    }

    pub(super) fn recreate_a_log(&mut self, chance: &mut Chance) -> bool {
        let partition = self.any_partition(chance);
        if self.store.offset(partition).unwrap_or(0) == 0 || !self.may_be_damaged() {
            return false;
        }
        self.cut(partition, 0);
        self.damaged(Fault::LogRecreated, partition)
    }

    fn cut(&mut self, partition: PartitionId, end: u64) {
        self.log.cut(partition.role.inbox().unwrap_or_default(), partition.index, end);
        self.ends_at(partition, end);
    }

    pub(super) fn trim_a_log(&mut self, chance: &mut Chance) -> bool {
        let partition = self.any_partition(chance);
        let Some(off) = self.store.offset(partition).filter(|_| self.may_be_damaged()) else { return false };
        if self.store.drop_last(partition, chance.small(3)) == 0 {
            return false;
        }
        let topic = partition.role.inbox().unwrap_or_default();
        let gone = self.log.all(topic, partition.index).into_iter().filter(|delivery| delivery.offset < off);
        self.trimmed.insert(partition, gone.collect());
        self.log.trim(topic, partition.index, off);
        self.damaged(Fault::LogTrimmed, partition)
    }

    /// Whether a partition may halt over what was lost: the one that lost it, before anything false goes out from there.
    /// A false acknowledgement leaves a gap, which halts nobody.
    pub(super) fn may_halt(&self, partition: PartitionId) -> bool {
        self.damage.is_some_and(|(_, damaged)| damaged == partition)
    }

    /// One loss a world, and none where a repair must follow.
    fn may_be_damaged(&self) -> bool {
        self.damage.is_none() && !self.dice.may(Fault::FalselyAcknowledged)
    }

    fn damaged(&mut self, fault: Fault, partition: PartitionId) -> bool {
        self.story.tell(self.clock.now(), || format!("FAULT {}: {partition} is damaged", fault.name()));
        self.damage = Some((fault, partition));
        let owns = |process: &crate::process::Process| process.role == partition.role && process.assigned.contains(&partition.index);
        if let Some(i) = self.processes.iter().position(|process| !process.is_zombie() && owns(process)) {
            self.end(i);
        }
        true
    }

    /// The whole log of a partition, as it was before anything was trimmed.
    pub(crate) fn whole_log(&self, partition: PartitionId) -> Vec<Delivery> {
        let mut log = self.trimmed.get(&partition).cloned().unwrap_or_default();
        log.extend(self.log.all(partition.role.inbox().unwrap_or_default(), partition.index));
        log
    }
}
