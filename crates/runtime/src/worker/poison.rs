//! What is set aside: listed records, and timers that are poison (PROTOCOL §12.1).

use std::collections::BTreeMap;

use waypost_types::{EntityId, PartitionId, Position, Timestamp, hash::hash64};

use super::{Phase, Turn, Worker};
use crate::{config::Config, processor::Processor, tip::Tip};

/// Poisonous timers remembered a partition. Over it the oldest of a slot is forgotten, and costs a further letter.
const SLOTS: u64 = 256;
const PREFIX: &str = "p:";

/// Timers that were poison, so that each is named in one letter and not in one a tick.
///
/// A part of the fold, kept among the sequences: which timer is here is a function of the log.
#[derive(Debug, Default)]
pub(super) struct SetAside {
    slots: BTreeMap<String, Tip>,
}

// === impl SetAside ===

impl SetAside {
    pub(super) fn is_slot(field: &str) -> bool {
        field.starts_with(PREFIX)
    }

    pub(super) fn load(&mut self, field: String, tip: Tip) {
        self.slots.insert(field, tip);
    }

    fn key(id: &EntityId, due: Timestamp, engine: u32) -> (String, Tip) {
        // Another engine may fold what this one cannot.
        let hash = hash64(&[id.as_bytes(), &engine.to_be_bytes()]);
        (format!("{PREFIX}{:02x}", hash % SLOTS), Tip { seq: hash, chain: due.millis().cast_unsigned() })
    }

    fn contains(&self, id: &EntityId, due: Timestamp, engine: u32) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let (field, tip) = Self::key(id, due, engine);
        self.slots.get(&field) == Some(&tip)
    }
}

/// For messages: which engines a binary has.
pub(super) fn engines(config: &Config) -> String {
    format!("{} to {}", config.engines.start(), config.engines.end())
}

impl<P: Processor> Worker<P> {
    /// Whether this timer was poison before.
    pub(super) fn is_set_aside(&self, id: &EntityId, due: Timestamp) -> bool {
        self.set_aside.contains(id, due, self.meta.eng)
    }

    /// This timer is poison; it is not tried again.
    pub(super) fn set_aside(&mut self, id: &EntityId, due: Timestamp) {
        let (field, tip) = SetAside::key(id, due, self.meta.eng);
        self.set_aside.slots.insert(field.clone(), tip);
        self.open.sequence(field, tip);
    }

    /// Halts at a record, which the skip list may take out of the way.
    pub(super) fn halt_at(&mut self, turn: &mut Turn<'_>, position: Position, why: impl Into<String>) {
        self.stuck = Some(position);
        self.halt(turn, why);
    }

    /// Whether the skip list names the record.
    pub(super) fn is_skipped(&self, turn: &Turn<'_>, position: Position) -> bool {
        turn.config.rules.skip_list && turn.skips.contains(&(self.id, position))
    }

    /// The skip list is longer: where its new entry is what this partition halted at, it begins again.
    pub(crate) fn skips_changed(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.phase, Phase::Halted(_)) && self.stuck.is_some_and(|position| self.is_skipped(turn, position)) {
            self.begin_anew(turn, "the record that it halted at is skipped");
        }
    }
}

/// Records to be set aside, by place.
pub(crate) type Skips = std::collections::BTreeSet<(PartitionId, Position)>;
