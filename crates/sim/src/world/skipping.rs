//! A record that kills: processes die of it, the partition halts and names it, and an operator sets it aside
//! (PROTOCOL §12.1).
//!
//! As `waypost skip` does, the operator looks first whether somebody has folded it: then its outputs stand in other
//! logs under numbers that the skip would give to others, and it needs memory, not a skip.

use waypost_codec::frame::Frame;
use waypost_runtime::{Input, ports::Delivery};
use waypost_types::{PartitionId, Position, Role, Span, Timestamp};

use super::{PUBLIC, World};
use crate::{chance::Chance, fatal::Place, faults::Fault, naive::Aside, process::Process};

/// What a halt says that comes of deaths.
const DIED: &str = "was being folded when the process died";
/// A look that comes too early is repeated.
const AGAIN: Span = Span::from_secs(1);

/// Who looks after halted partitions.
#[derive(Debug)]
pub(super) struct Operator {
    /// When something is to be done.
    at: Option<Timestamp>,
    chance: Chance,
    /// Looks at the destinations before a skip.
    looks: bool,
}

// === impl Operator ===

impl Operator {
    pub(super) fn new(chance: Chance, looks: bool) -> Self {
        Self { at: None, chance, looks }
    }

    pub(super) fn next_instant(&self) -> Option<Timestamp> {
        self.at
    }
}

impl World {
    /// An event was appended; maybe it is one that nobody should fold.
    pub(super) fn curse(&mut self, place: Place) {
        let (partition, position) = place;
        if let Some(mut chance) = self.dice.strike(Fault::Deadly) {
            if self.fatal.kill_at(place, chance.index(2) == 0) {
                self.story.tell(self.clock.now(), || format!("FAULT deadly: {partition} {position} kills who folds it"));
                return;
            }
            self.dice.missed(Fault::Deadly);
        }
        if self.dice.strike(Fault::Poison).is_some() {
            self.story.tell(self.clock.now(), || format!("FAULT poison: the fold of {partition} {position} panics"));
            self.fatal.poison(place);
        }
    }

    /// Whoever has just handled an input may have died of it.
    pub(super) fn has_died(&mut self, i: usize) -> bool {
        if self.fatal.has_died() {
            self.story.tell(self.clock.now(), || format!("{} dies in the middle of a fold", self.processes[i]));
            self.processes[i].is_dead = true;
            self.tally.deaths += 1;
        }
        self.processes[i].is_dead
    }

    /// The dead are found, and others get their partitions.
    pub(super) fn bury_the_dead(&mut self) {
        while let Some(i) = self.processes.iter().position(|process| process.is_dead) {
            if self.processes[i].is_zombie() {
                let process = self.processes.swap_remove(i);
                self.leave_behind(process);
            } else {
                self.end(i);
            }
        }
    }

    /// The process that folded the record that kills others may die before that is stored.
    pub(super) fn has_sent(&mut self, i: usize) {
        if self.fatal.spared() == Some(self.processes[i].number)
            && let Some((partition, position)) = self.fatal.deadly()
            && !self.dice.is_over()
            && self.store.offset(partition).is_some_and(|off| off <= position.offset)
            && self.operator.chance.index(2) == 0
        {
            self.story.tell(self.clock.now(), || format!("{} has folded what kills others, and dies", self.processes[i]));
            self.processes[i].is_dead = true;
        }
    }

    /// Whether a partition halts at the record that kills, and says so; then somebody sees to it.
    pub(super) fn is_killer(&mut self, partition: PartitionId, why: &str) -> bool {
        let Some((of, position)) = self.fatal.deadly() else { return false };
        let named = format!("(offset {}, index {})", position.offset, position.index);
        if of != partition || !why.contains(DIED) || !why.contains(&named) {
            return false;
        }
        self.tally.killers += 1;
        let at = self.clock.now().plus(self.operator.chance.span(200, 4_000));
        self.operator.at.get_or_insert(at);
        true
    }

    /// Whether it halts because lives ended by chance at one record, as often as if it killed: then the operator lets
    /// it try again. Where something kills in this partition, the halt must name that.
    pub(super) fn is_unlucky(&mut self, i: usize, partition: PartitionId, why: &str) -> bool {
        let kills = self.fatal.deadly().is_some_and(|(of, _)| of == partition);
        let lives_end = self.dice.has_struck(Fault::Kill) || self.dice.has_struck(Fault::Zombie);
        if !why.contains(DIED) || kills || !lives_end {
            return false;
        }
        self.story.tell(self.clock.now(), || format!("the operator lets {partition} try again"));
        // Where the store refuses, the next life halts too, and so on. Else the process that halted notices by itself.
        self.processes[i].is_dead = self.store.note_deaths(partition, None).is_err();
        true
    }

    /// What the operator does about it, when the time has come.
    pub(super) fn operate(&mut self) {
        let now = self.clock.now();
        if self.operator.at.is_none_or(|at| at > now) {
            return;
        }
        self.operator.at = Some(now.plus(AGAIN));
        let Some((partition, position)) = self.fatal.deadly() else { return };
        // Only at the frame that comes next, and when whoever may have folded it is gone with all it had under way.
        if self.store.offset(partition) != Some(position.offset) {
            // It notices by itself that its store was rewound, and folds up to there again.
            return;
        }
        if !self.is_quiet() {
            return;
        }
        let folded = self.fatal.is_harmless() || (self.operator.looks && self.somebody_has_folded(partition, position));
        if folded && self.store.note_deaths(partition, None).is_err() {
            return;
        }
        self.operator.at = None;
        if folded {
            self.story.tell(now, || format!("the operator gives {partition} more memory"));
            self.tally.refused_skips += u64::from(!self.fatal.is_harmless());
            self.fatal.survive_from(0);
        } else {
            self.story.tell(now, || format!("the operator skips {partition} {position}"));
            self.tally.skips += 1;
            self.skips.insert((partition, position));
            for process in self.processes.iter_mut().filter(|process| process.role == partition.role) {
                process.answers.push(Input::Skips(self.skips.clone()));
            }
            if self.operator.chance.index(2) == 0 {
                // The next binary could fold it; it must not.
                self.fatal.survive_from(self.processes_so_far + 1);
            }
        }
        if (folded || self.operator.chance.index(2) == 0)
            && let Some(owner) = self.owner(partition)
        {
            self.end(owner);
        }
    }

    fn owner(&self, partition: PartitionId) -> Option<usize> {
        let owns = |process: &Process| process.role == partition.role && process.assigned.contains(&partition.index);
        self.processes.iter().position(|process| process.is_live() && owns(process))
    }

    /// Nothing of a process that has folded the record can land any more.
    fn is_quiet(&mut self) -> bool {
        let Some(spared) = self.fatal.spared() else { return true };
        match self.processes.iter().position(|process| process.number == spared) {
            Some(i) if self.processes[i].is_zombie() => false,
            Some(i) => {
                self.end(i);
                false
            }
            None => self.late.is_empty(),
        }
    }

    /// Whether an output of this partition stands in a log that the store knows nothing of.
    fn somebody_has_folded(&self, partition: PartitionId, position: Position) -> bool {
        let Some(dump) = self.store.dump(partition) else { return false };
        let committed =
            |field: String| dump.sequences.get(&field).map_or(0, |tip| u64::try_from(u128::from_be_bytes(*tip) >> 64).unwrap_or(0));
        let inboxes = Role::KEYED.into_iter().flat_map(|role| (0..self.layout.partitions).map(move |index| PartitionId { role, index }));
        let records = inboxes.into_iter().any(|to| {
            let last = committed(format!("x:{}:{}", to.role, to.index));
            self.whole_log(to).iter().filter_map(|delivery| numbered(delivery, partition)).any(|end| end > last)
        });
        let name = format!("/waypost/{}/{}", partition.role, partition.index);
        let rows = PUBLIC.into_iter().flat_map(|topic| (0..self.config.public_partitions).map(move |index| (topic, index)));
        let public = rows.into_iter().any(|(topic, index)| {
            let last = committed(format!("x:{topic}:{index}"));
            let log = self.log.all(topic, index);
            let own = log.iter().filter(|delivery| header(delivery, "ce_source") == name);
            own.filter_map(|delivery| header(delivery, "ce_sequence").parse::<u64>().ok()).any(|number| number > last)
        });
        let origin = format!("{}/{}/", partition.role, partition.index);
        let letters = (0..self.config.dead_partitions).any(|index| {
            let log = self.log.all("wp1.dead", index);
            let offset = |delivery: &Delivery| header(delivery, "origin").strip_prefix(&origin)?.split('.').next()?.parse::<u64>().ok();
            log.iter().filter_map(offset).any(|offset| offset >= position.offset)
        });
        records || public || letters
    }
}

/// The records of a partition that are set aside in every life.
pub(crate) fn set_aside(world: &World, partition: PartitionId) -> Vec<(Position, Aside)> {
    let poisons = world.fatal.poisons(partition).into_iter().map(|position| (position, Aside::Panics));
    let skips = world.skips.iter().filter(|(of, _)| *of == partition).map(|(_, position)| (*position, Aside::Skipped));
    poisons.chain(skips).collect()
}

/// The last number of `source` in a frame of an inbox.
fn numbered(delivery: &Delivery, source: PartitionId) -> Option<u64> {
    let frame = Frame::decode(delivery.payload.clone()).ok()?;
    let own = frame.sections.iter().filter_map(|section| {
        let from = section.source.filter(|from| (from.role, from.partition) == (source.role, source.index))?;
        Some(from.first + (section.records.len() as u64).saturating_sub(1))
    });
    own.max()
}

fn header(delivery: &Delivery, name: &str) -> String {
    let found = delivery.headers.iter().find(|(n, _)| n == name);
    found.map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
}
