//! What nobody asked for: deaths, zombies, rewound stores; and the end of all that.

use waypost_runtime::{Command, Input};
use waypost_types::{PartitionId, Role};

use super::{Late, World};
use crate::{faults::Faults, process::Process};

// === impl World ===

impl World {
    pub(super) fn break_something(&mut self) {
        let now = self.clock.now();
        if self.refused_until.is_some_and(|until| until <= now) {
            self.refused_until = None;
            self.store.refuse(None);
        }
        while let Some(i) = self.processes.iter().position(|process| process.zombie_until.is_some_and(|until| until <= now)) {
            self.bury(i);
        }
        let Faults { kill, zombie, handover, rewind, restore, refuse, stuck, .. } = self.faults;
        if self.chance.hits(kill) {
            self.kill();
        }
        if self.chance.hits(zombie) {
            self.zombie();
        }
        if self.chance.hits(handover) {
            self.hand_over();
        }
        if self.chance.hits(rewind) {
            self.rewind();
        }
        if restore > 0 && self.backups.len() < 8 && self.chance.hits(50) {
            let partition = self.any_partition();
            self.backups.extend(self.store.dump(partition).map(|dump| (partition, dump)));
        }
        if self.chance.hits(restore)
            && let Some((partition, dump)) = self.chance.draw(&mut self.backups)
        {
            self.tally.fault("restore");
            self.story.tell(now, || format!("{partition} is restored as of {}", dump.off));
            self.store.restore(partition, dump);
        }
        if self.refused_until.is_none() && self.chance.hits(refuse) {
            self.tally.fault("store refuses");
            self.story.tell(now, || "the store refuses".to_owned());
            let span = self.chance.span(50, 1_500);
            self.refused_until = Some(now.plus(span));
            self.store.refuse(Some("LOADING"));
        }
        if self.chance.hits(stuck)
            && let Some(i) = if self.chance.index(2) == 0 { self.any_of(Role::Identity) } else { self.any_live() }
        {
            self.tally.fault("producer stuck");
            let process = &mut self.processes[i];
            self.story.tell(now, || format!("the producer of {} process {} is stuck", process.role, process.number));
            process.stuck_until = Some(now.plus(self.chance.span(50, 6_000)));
        }
        // Now and then, so that what is late is neither at once nor last.
        if self.chance.index(25) == 0 {
            self.late_step();
        }
    }

    fn any_partition(&mut self) -> PartitionId {
        let role = self.chance.pick(&Role::KEYED).copied().unwrap_or(Role::Identity);
        PartitionId { role, index: u32::try_from(self.chance.index(self.layout.partitions as usize)).unwrap_or(0) }
    }

    fn any_live(&mut self) -> Option<usize> {
        let mut live: Vec<usize> = (0..self.processes.len()).filter(|i| !self.processes[*i].is_zombie()).collect();
        let busy = |i: &usize| !self.processes[*i].sending.is_empty() || !self.processes[*i].timeouts.is_empty();
        // Rather one in the middle of something.
        if self.chance.index(2) == 0 && live.iter().any(busy) {
            live.retain(busy);
        }
        self.chance.pick(&live).copied()
    }

    fn kill(&mut self) {
        let Some(i) = self.any_live() else { return };
        self.tally.fault("kill");
        let process = self.processes.swap_remove(i);
        self.story.tell(self.clock.now(), || format!("{} process {} is killed", process.role, process.number));
        let (role, assigned) = (process.role, process.assigned.clone());
        self.leave_behind(process);
        for index in assigned {
            self.assign_anew(role, index);
        }
    }

    /// A process ends; what it had asked for may happen all the same.
    fn leave_behind(&mut self, process: Process) {
        self.tally.machine(&process.machine.counters());
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
                Command::Commit(p, commit) => self.late.push(Late::Commit(at(p), commit)),
                Command::Claim(p, token) => self.late.push(Late::Claim(at(p), token)),
                Command::Release(..)
                | Command::Read(..)
                | Command::Audit(..)
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

    fn zombie(&mut self) {
        let Some(i) = self.any_live() else { return };
        if self.processes.iter().filter(|process| process.is_zombie()).count() >= 4 {
            return;
        }
        self.tally.fault("zombie");
        let now = self.clock.now();
        let (sleeps, lives) = (self.chance.span(1, 3_000), self.chance.span(100, 8_000));
        let asleep = self.chance.index(2) == 0;
        let process = &mut self.processes[i];
        process.asleep_until = asleep.then(|| now.plus(sleeps));
        process.zombie_until = Some(now.plus(lives));
        let (role, assigned, number) = (process.role, process.assigned.clone(), process.number);
        self.story.tell(now, || format!("{role} process {number} is taken for dead{}", if asleep { ", and sleeps" } else { "" }));
        for index in assigned {
            self.assign_anew(role, index);
        }
    }

    /// A zombie hears that its partitions are gone, or ends without.
    fn bury(&mut self, i: usize) {
        if self.chance.index(2) == 0 {
            let assigned: Vec<u32> = self.processes[i].assigned.iter().copied().collect();
            self.handle(i, Input::Lost(assigned));
        }
        let process = self.processes.swap_remove(i);
        self.story.tell(self.clock.now(), || format!("{} process {} ends", process.role, process.number));
        self.leave_behind(process);
    }

    fn hand_over(&mut self) {
        let Some(i) = self.any_live() else { return };
        let assigned: Vec<u32> = self.processes[i].assigned.iter().copied().collect();
        if let Some(partition) = self.chance.pick(&assigned).copied() {
            self.tally.fault("handover");
            let role = self.processes[i].role;
            self.story.tell(self.clock.now(), || format!("{role}/{partition} is to be handed over"));
            self.handle(i, Input::Revoke(vec![partition]));
        }
    }

    fn rewind(&mut self) {
        let partition = self.any_partition();
        let k = self.chance.small(5);
        let lost = self.store.drop_last(partition, k);
        if lost > 0 {
            self.tally.fault("rewind");
            self.story.tell(self.clock.now(), || format!("the store of {partition} loses {lost} commits"));
        }
    }

    /// Nothing breaks any more.
    pub(super) fn heal(&mut self) {
        self.story.tell(self.clock.now(), || "no more faults".to_owned());
        self.faults = Faults::none();
        self.provider.heal();
        self.starved = None;
        self.backups.clear();
        self.refused_until = None;
        self.store.refuse(None);
        while let Some(i) = self.processes.iter().position(Process::is_zombie) {
            self.bury(i);
        }
        for process in &mut self.processes {
            (process.asleep_until, process.stuck_until) = (None, None);
        }
    }
}
