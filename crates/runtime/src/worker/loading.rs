//! Checked reads: nothing is folded on a value that the store did not return under this worker's token at
//! its committed offset, or the one whose commit is under way (PROTOCOL §5.5).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use waypost_types::{EntityId, Span, Timestamp};

use super::{Turn, Worker, committing::InFlight};
use crate::{
    config::Config,
    digest::{self, Digest, Part},
    machine::Command,
    ports::{Extent, Offset, Read, ReadReply, StoreError, Token},
    processor::{Entity, Processor},
};

/// Entities asked for in one read.
const AT_ONCE: usize = 256;

/// Reads under way.
#[derive(Debug, Default)]
pub(super) struct Reads {
    number: u64,
    pending: BTreeMap<u64, Pending>,
    entities: BTreeSet<EntityId>,
    timers: bool,
}

#[derive(Clone, Debug)]
struct Pending {
    want: Want,
    expected: Vec<Offset>,
    attempts: u32,
    /// Not under way; asked again at this instant.
    again: Option<Timestamp>,
}

#[derive(Clone, Debug)]
enum Want {
    Entities(Vec<EntityId>),
    Timers { until: Timestamp, count: usize },
    Query { number: u64, entity: EntityId },
}

// === impl Reads ===

impl Reads {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.pending.values().filter_map(|pending| pending.again).min()
    }
}

/// What says that a part is not whole: what a read has not found there may have been lost.
fn lost(extent: &Extent) -> Option<(Part, String)> {
    let digest = Digest::stored(&extent.digest, extent.off);
    let is_whole = |(part, count): &(Part, u64)| digest.as_ref().is_some_and(|digest| digest.count(*part) == *count);
    let (part, count) = extent.counts.iter().copied().find(|there| !is_whole(there))?;
    let committed = digest.map_or_else(|| "no digest was".to_owned(), |digest| format!("{} were", digest.count(part)));
    let found = format!("{part} of the store: {count} entries are there and {committed} committed");
    Some((part, format!("{found}, at offset {}: {}", extent.off, digest::RESTORE)))
}

/// 10 ms, doubling up to 1 s.
pub(super) fn pause(attempts: u32) -> Span {
    Span::from_millis((10_i64 << attempts.min(7)).min(1_000))
}

impl<P: Processor> Worker<P> {
    /// Asks for those entities that are neither known nor asked for.
    pub(super) fn load(&mut self, turn: &mut Turn<'_>, wanted: impl IntoIterator<Item = EntityId>) {
        let missing: Vec<EntityId> = wanted
            .into_iter()
            .filter(|id| !self.cache.knows(id) && !self.reads.entities.contains(id))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        for chunk in missing.chunks(AT_ONCE) {
            self.reads.entities.extend(chunk.iter().cloned());
            self.ask(turn, Want::Entities(chunk.to_vec()), 0);
        }
    }

    /// Keeps the wake-ups of the next minutes in memory, and those that a tick under way asks for.
    pub(super) fn load_timers(&mut self, turn: &mut Turn<'_>) {
        if !self.is_folding() || self.reads.timers {
            return;
        }
        let present = turn.now.max(self.meta.clk);
        let horizon = Self::timer_horizon(turn.config);
        let half = Span::from_millis(horizon.millis() / 2);
        if self.timers.complete_until().is_some_and(|until| until >= present.plus(half)) {
            return;
        }
        let count = self.timers.ask_for(turn.config.timer_page);
        self.reads.timers = true;
        self.ask(turn, Want::Timers { until: present.plus(horizon), count }, 0);
    }

    /// How far ahead wake-ups are in memory: those of all that is held must be, or `through` stays behind what is not known.
    fn timer_horizon(config: &Config) -> Span {
        let held = P::HOLDS_FOR.map_or(0, |span| 3 * span.millis());
        Span::from_millis(config.timer_horizon.millis().max(held))
    }

    /// When the wake-ups in memory reach no further than half of what they should.
    pub(super) fn timers_wake(&self, config: &Config) -> Option<Timestamp> {
        if self.reads.timers {
            return None;
        }
        let half = Span::from_millis(Self::timer_horizon(config).millis() / 2);
        Some(self.timers.complete_until().unwrap_or(Timestamp::ZERO).minus(half).plus(Span::from_millis(1)))
    }

    /// Answers a query from memory, or asks the store.
    pub(crate) fn query(&mut self, turn: &mut Turn<'_>, number: u64, entity: EntityId) {
        if !self.is_folding() {
            turn.commands.push(Command::Answer(number, None));
        } else if self.cache.knows(&entity) {
            let bytes = self.guarded(turn, |_| Ok(self.cache.get(&entity).and_then(P::Entity::encode)));
            turn.commands.push(Command::Answer(number, bytes.ok().map(|bytes| (bytes, self.folded))));
        } else {
            self.ask(turn, Want::Query { number, entity }, 0);
        }
    }

    /// Those who asked must not wait for a life that is over.
    pub(super) fn answer_queries_with_none(&mut self, turn: &mut Turn<'_>) {
        for pending in self.reads.pending.values() {
            if let Want::Query { number, .. } = pending.want {
                turn.commands.push(Command::Answer(number, None));
            }
        }
        self.reads = Reads { number: self.reads.number, ..Reads::default() };
    }

    /// The offsets at which an answer may be used.
    pub(super) fn expected(&self) -> Vec<Offset> {
        std::iter::once(self.off).chain(self.commit.as_ref().map(InFlight::next)).collect()
    }

    fn ask(&mut self, turn: &mut Turn<'_>, want: Want, attempts: u32) {
        let expected = self.expected();
        let (entities, timers) = match &want {
            Want::Entities(ids) => (ids.clone(), None),
            Want::Timers { until, count } => (Vec::new(), Some((*until, *count))),
            Want::Query { entity, .. } => (vec![entity.clone()], None),
        };
        let read = Read { token: self.token, expected: expected.clone(), entities, timers };
        turn.commands.push(Command::Read(self.id.index, self.reads.number, Box::new(read)));
        self.reads.pending.insert(self.reads.number, Pending { want, expected, attempts, again: None });
        self.reads.number += 1;
    }

    pub(super) fn retry_reads(&mut self, turn: &mut Turn<'_>) {
        if !self.is_folding() {
            return;
        }
        let due: Vec<u64> =
            self.reads.pending.iter().filter(|(_, p)| p.again.is_some_and(|at| at <= turn.now)).map(|(number, _)| *number).collect();
        for number in due {
            if let Some(pending) = self.reads.pending.remove(&number) {
                self.ask(turn, pending.want, pending.attempts);
            }
        }
    }

    /// The store answered a read.
    pub(crate) fn loaded(&mut self, turn: &mut Turn<'_>, token: Token, number: u64, reply: Result<ReadReply, StoreError>) {
        if token != self.token || !self.is_folding() {
            return;
        }
        let Some(pending) = self.reads.pending.remove(&number) else { return };
        match reply {
            Ok(ReadReply::Ok { entities, wakeups, timers, extent }) => {
                self.watch.store_answered(true);
                if turn.config.rules.whole_parts
                    && let Some((part, why)) = lost(&extent)
                {
                    turn.counters.digest_mismatches += 1;
                    return self.halt_over(turn, part, why);
                }
                self.take_in(turn, pending, entities.into_iter().zip(wakeups), timers);
            }
            // Commits have gone through since it was asked: the question was out of date, not the worker.
            Ok(ReadReply::Moved) if pending.expected != self.expected() => self.ask(turn, pending.want, 0),
            Ok(ReadReply::Moved) => {
                self.reads.pending.insert(number, pending);
                self.moved(turn);
            }
            Err(StoreError::Refused(_) | StoreError::Unknown(_)) => {
                self.watch.store_answered(false);
                let again = Some(turn.now.plus(pause(pending.attempts)));
                self.reads.pending.insert(number, Pending { again, attempts: pending.attempts + 1, ..pending });
            }
        }
    }

    fn take_in(
        &mut self,
        turn: &mut Turn<'_>,
        pending: Pending,
        mut blobs: impl Iterator<Item = (Option<Bytes>, Option<Timestamp>)>,
        timers: Vec<(Timestamp, EntityId)>,
    ) {
        match pending.want {
            Want::Entities(ids) => {
                for (id, (bytes, wakeup)) in ids.into_iter().zip(blobs) {
                    self.reads.entities.remove(&id);
                    match bytes.as_ref().map(|bytes| P::Entity::decode(&id, bytes)).transpose() {
                        Ok(value) => self.cache.load(&id, value, bytes, wakeup),
                        Err(why) => return self.unreadable_entity(turn, &id, &why),
                    }
                }
            }
            Want::Timers { until, count } => {
                self.reads.timers = false;
                self.timers.load(until, count, timers);
                self.timers.prune(self.off);
            }
            Want::Query { number, .. } => {
                let bytes = blobs.next().and_then(|(bytes, _)| bytes);
                turn.commands.push(Command::Answer(number, Some((bytes, pending.expected.first().copied().unwrap_or(self.off)))));
            }
        }
    }

    /// What cannot be read must not be folded on, nor taken for absent.
    pub(super) fn unreadable_entity(&mut self, turn: &mut Turn<'_>, id: &EntityId, why: &str) {
        self.halt(turn, format!("an entity of kind {} cannot be read: {why}", char::from(id.kind())));
    }

    /// The store has everything below `off`.
    pub(super) fn prune_timers(&mut self) {
        if !self.reads.timers {
            self.timers.prune(self.off);
        }
    }
}
