//! What nobody asked for: deaths, zombies, rewound stores.

use waypost_runtime::{Command, Input};
use waypost_types::{PartitionId, Role};

use super::{Late, World};
use crate::{chance::Chance, faults::Fault, process::Process};

/// Does it; says whether there was anything to be done.
type Deed = fn(&mut World, &mut Chance) -> bool;

/// What may strike at any step.
const AT_A_STEP: [(Fault, Deed); 14] = [
    (Fault::Kill, World::kill),
    (Fault::Pause, World::pause),
    (Fault::Zombie, |world, chance| world.any_live(chance).is_some_and(|i| world.zombie(i, chance))),
    (Fault::Handover, World::hand_over),
    (Fault::Rewind, World::rewind),
    (Fault::Restore, World::restore),
    (Fault::Split, World::split),
    (Fault::Refuse, World::refuse),
    (Fault::Stuck, World::stick),
    (Fault::Repacked, World::repack),
    (Fault::FieldLost, World::lose_a_field),
    (Fault::LogCut, World::cut_a_log),
    (Fault::LogTrimmed, World::trim_a_log),
    (Fault::LogRecreated, World::recreate_a_log),
];
const MOST_BACKUPS: usize = 8;
const MOST_ZOMBIES: usize = 5;

// === impl World ===

impl World {
    pub(super) fn break_something(&mut self) {
        self.what_passes();
        for (fault, deed) in AT_A_STEP {
            if let Some(mut chance) = self.dice.strike(fault)
                && !deed(self, &mut chance)
            {
                self.dice.missed(fault);
            }
        }
        // Now and then, so that what is late is neither at once nor last.
        if self.chance.index(25) == 0 {
            self.late_step();
        }
        if self.chance.index(200) == 0 && self.backups.len() < MOST_BACKUPS {
            let index = self.chance.index(4 * self.layout.partitions as usize);
            let partition = self.partition(index);
            self.backups.extend(self.store.dump(partition).map(|dump| (partition, dump)));
        }
    }

    /// What was to last for a while ends.
    fn what_passes(&mut self) {
        let now = self.clock.now();
        if self.refused_until.is_some_and(|until| until <= now) {
            self.refused_until = None;
            self.store.refuse(None);
        }
        while let Some(i) = self.processes.iter().position(|process| process.zombie_until.is_some_and(|until| until <= now)) {
            self.bury(i);
        }
        self.renew();
        self.operate();
        for process in &mut self.processes {
            if process.split_until.is_some_and(|until| until <= now) {
                process.split_until = None;
                process.store = self.store.clone();
            }
        }
    }

    /// The n-th of all partitions.
    fn partition(&self, n: usize) -> PartitionId {
        let partitions = self.layout.partitions as usize;
        let role = Role::KEYED.get(n / partitions).copied().unwrap_or(Role::Identity);
        PartitionId { role, index: u32::try_from(n % partitions).unwrap_or(0) }
    }

    pub(super) fn any_partition(&self, chance: &mut Chance) -> PartitionId {
        self.partition(chance.index(4 * self.layout.partitions as usize))
    }

    fn any_live(&self, chance: &mut Chance) -> Option<usize> {
        let mut live: Vec<usize> = (0..self.processes.len()).filter(|i| !self.processes[*i].is_zombie()).collect();
        let busy = |i: &usize| !self.processes[*i].sending.is_empty() || !self.processes[*i].timeouts.is_empty();
        // Rather one in the middle of something.
        if chance.index(2) == 0 && live.iter().any(busy) {
            live.retain(busy);
        }
        chance.pick(&live).copied()
    }

    fn kill(&mut self, chance: &mut Chance) -> bool {
        let Some(i) = self.any_live(chance) else { return false };
        self.end(i);
        true
    }

    /// A process dies, and others get its partitions.
    pub(super) fn end(&mut self, i: usize) {
        let process = self.processes.swap_remove(i);
        self.story.tell(self.clock.now(), || format!("FAULT kill: {process} is killed"));
        let (role, assigned) = (process.role, process.assigned.clone());
        self.leave_behind(process);
        for index in assigned {
            self.assign_anew(role, index);
        }
    }

    /// A process ends; what it had asked for may happen all the same.
    pub(super) fn leave_behind(&mut self, process: Process) {
        self.tally.machine(&process.machine().counters());
        for (_, append) in process.sending {
            if self.chance.index(2) == 0 {
                self.late.push(Late::Append(append));
            }
        }
        for command in process.asked {
            if self.chance.index(2) > 0 {
                continue;
            }
            let at = |index| PartitionId { role: process.role, index };
            match command {
                Command::Commit(p, commit) => self.late.push(Late::Commit(process.store.clone(), at(p), commit)),
                Command::Claim(p, token) => self.late.push(Late::Claim(process.store.clone(), at(p), token)),
                Command::Release(..)
                | Command::Read(..)
                | Command::Audit(..)
                | Command::Deaths(..)
                | Command::NoteDeaths(..)
                | Command::Alarm(..)
                | Command::Seek(..)
                | Command::Produce(..)
                | Command::NewProducer(_)
                | Command::Job(..)
                | Command::Watermarks(_)
                | Command::Answer(..)
                | Command::Gone(_)
                | Command::Halted(..)
                | Command::Rejoin(_)
                | Command::Exit(_) => {}
            }
        }
    }

    fn pause(&mut self, chance: &mut Chance) -> bool {
        let Some(i) = self.any_live(chance) else { return false };
        let now = self.clock.now();
        let process = &mut self.processes[i];
        process.asleep_until = Some(now.plus(chance.span(1, 4_000)));
        self.story.tell(now, || format!("FAULT pause: {} does nothing for a while", self.processes[i]));
        true
    }

    /// Others get its partitions, and it goes on.
    fn zombie(&mut self, i: usize, chance: &mut Chance) -> bool {
        if self.processes[i].is_zombie() || self.processes.iter().filter(|process| process.is_zombie()).count() >= MOST_ZOMBIES {
            return false;
        }
        let now = self.clock.now();
        let (sleeps, lives) = (chance.span(1, 3_000), chance.span(100, 8_000));
        let asleep = chance.index(2) == 0;
        let process = &mut self.processes[i];
        process.asleep_until = asleep.then(|| now.plus(sleeps));
        process.zombie_until = Some(now.plus(lives));
        let (role, assigned) = (process.role, process.assigned.clone());
        let then = if asleep { ", sleeps and goes on" } else { " and goes on" };
        self.story.tell(now, || format!("FAULT zombie: {} is taken for dead{then}", self.processes[i]));
        for index in assigned {
            self.assign_anew(role, index);
        }
        true
    }

    /// A zombie hears that its partitions are gone, or ends without.
    pub(super) fn bury(&mut self, i: usize) {
        if self.chance.index(2) == 0 {
            let assigned: Vec<u32> = self.processes[i].assigned.iter().copied().collect();
            self.handle(i, Input::Lost(assigned));
        }
        let process = self.processes.swap_remove(i);
        self.story.tell(self.clock.now(), || format!("{process} ends"));
        self.leave_behind(process);
    }

    fn hand_over(&mut self, chance: &mut Chance) -> bool {
        let Some(i) = self.any_live(chance) else { return false };
        let assigned: Vec<u32> = self.processes[i].assigned.iter().copied().collect();
        let Some(partition) = chance.pick(&assigned).copied() else { return false };
        let role = self.processes[i].role;
        self.story.tell(self.clock.now(), || format!("FAULT handover: {role}/{partition} is to be handed over"));
        self.handle(i, Input::Revoke(vec![partition]));
        true
    }

    fn rewind(&mut self, chance: &mut Chance) -> bool {
        let partition = self.any_partition(chance);
        if self.damage.is_some() {
            return false;
        }
        let lost = self.store.drop_last(partition, chance.small(5));
        self.story.tell(self.clock.now(), || format!("FAULT rewind: the store of {partition} loses {lost} commits"));
        lost > 0
    }

    fn restore(&mut self, chance: &mut Chance) -> bool {
        if self.backups.is_empty() || self.damage.is_some() {
            return false;
        }
        // Half of the time the oldest there is.
        let at = if chance.index(2) == 0 { 0 } else { chance.index(self.backups.len()) };
        let (partition, dump) = self.backups.remove(at);
        self.story.tell(self.clock.now(), || format!("FAULT restore: {partition} is restored as of {}", dump.off));
        self.store.restore(partition, dump);
        true
    }

    /// The store fails over without its last writes. One process does not notice and goes on with the old master.
    fn split(&mut self, chance: &mut Chance) -> bool {
        let Some(i) = self.any_live(chance).filter(|_| self.damage.is_none()) else { return false };
        let now = self.clock.now();
        let (old, assigned) = (self.store.fork(), self.processes[i].assigned.clone());
        let role = self.processes[i].role;
        for index in assigned {
            self.store.drop_last(PartitionId { role, index }, chance.index(4));
        }
        let until = now.plus(chance.span(50, 4_000));
        let process = &mut self.processes[i];
        (process.store, process.split_until) = (old, Some(until));
        self.story.tell(now, || format!("FAULT split: {} stays with the old master of the store", self.processes[i]));
        if chance.index(3) > 0 {
            self.zombie(i, chance);
        }
        true
    }

    fn refuse(&mut self, chance: &mut Chance) -> bool {
        if self.refused_until.is_some() {
            return false;
        }
        let now = self.clock.now();
        let why = chance.pick(&["LOADING", "OOM", "NOREPLICAS", "READONLY", "CLUSTERDOWN"]).copied().unwrap_or("LOADING");
        self.story.tell(now, || format!("FAULT refuse: the store refuses, {why}"));
        self.refused_until = Some(now.plus(chance.span(50, 1_500)));
        self.store.refuse(Some(why));
        true
    }

    fn stick(&mut self, chance: &mut Chance) -> bool {
        let identity: Vec<usize> = (0..self.processes.len()).filter(|i| self.processes[*i].role == Role::Identity).collect();
        let i = if chance.index(2) == 0 { chance.pick(&identity).copied() } else { self.any_live(chance) };
        let Some(i) = i else { return false };
        let now = self.clock.now();
        self.processes[i].stuck_until = Some(now.plus(chance.span(50, 6_000)));
        self.story.tell(now, || format!("FAULT stuck: the producer of {} sends nothing for a while", self.processes[i]));
        true
    }
}
