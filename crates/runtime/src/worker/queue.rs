//! Frames that have arrived: dense offsets, and nothing decoded twice (PROTOCOL §6.3, §6.4).

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use waypost_codec::{frame::Frame, inbox, kind};
use waypost_types::{EntityId, Span, Timestamp};

use super::{Phase, Turn, Worker, emitting};
use crate::{
    config::Config,
    machine::Command,
    ports::{Delivery, LogError, Offset},
    processor::Processor,
};

/// A seek that has not brought anything after this is repeated.
const SEEK_AGAIN: Span = Span::from_secs(1);

/// Frames in order, not folded yet.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Queued>,
    records: usize,
    bytes: usize,
    /// Frames have arrived since folding last looked.
    unseen: bool,
    /// When the last frame came.
    received: Timestamp,
    /// When a seek was sent whose frame has not come.
    sought: Option<Timestamp>,
    /// Since when nothing came although more is known to be there.
    silent: Option<Timestamp>,
    /// More than this is known to stand in the log.
    known_end: Offset,
}

/// A frame and what it asks for.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) offset: Offset,
    pub(super) appended: Timestamp,
    pub(super) payload: Bytes,
    pub(super) frame: Result<Frame, String>,
    /// Entities it will touch, as far as can be said before it is folded.
    pub(super) entities: BTreeSet<EntityId>,
}

// === impl Queue ===

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether a batch could be cut from it without waiting for more.
    fn is_full(&self, config: &Config) -> bool {
        self.records >= config.batch_records || self.bytes >= config.batch_bytes
    }

    /// Two batches' worth, so that one loads while the other folds.
    pub(super) fn has_room(&self, config: &Config) -> bool {
        self.records < 2 * config.batch_records && self.bytes < 2 * config.batch_bytes
    }

    pub(super) fn front(&self) -> Option<&Queued> {
        self.frames.front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.frames.iter()
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let frame = self.frames.pop_front()?;
        self.records -= frame.records();
        self.bytes -= frame.payload.len();
        Some(frame)
    }

    pub(super) fn clear(&mut self) {
        *self = Self { received: self.received, ..Self::default() };
    }

    pub(super) fn seen(&mut self) {
        self.unseen = false;
    }

    /// When the last frame came.
    pub(super) fn received(&self) -> Timestamp {
        self.received
    }

    /// Folding what has arrived cannot wait; and a log that should have more is asked again.
    pub(super) fn next_wake(&self, config: &Config) -> Option<Timestamp> {
        if self.unseen { Some(self.received) } else { self.silent.map(|at| at.plus(config.silence)) }
    }

    /// Something came, was sought, or was appended, so that `next` is to come.
    fn listen(&mut self, now: Timestamp, next: Offset) {
        self.silent = (self.known_end > next).then_some(now);
    }
}

// === impl Queued ===

impl Queued {
    pub(super) fn records(&self) -> usize {
        self.frame.as_ref().map_or(1, |frame| frame.sections.iter().map(|section| section.records.len()).sum::<usize>().max(1))
    }
}

impl<P: Processor> Worker<P> {
    /// A record of the inbox arrived. Returns whether it is time to fold.
    pub(crate) fn delivered(&mut self, turn: &mut Turn<'_>, delivery: Delivery) -> bool {
        if !self.is_folding() {
            return false;
        }
        if turn.config.rules.density_check {
            if delivery.offset < self.next {
                return false;
            }
            if delivery.offset > self.next {
                self.queue.known_end = self.queue.known_end.max(delivery.offset + 1);
                if self.queue.sought.is_none_or(|at| turn.now.since(at) >= SEEK_AGAIN) {
                    self.seek(turn);
                }
                return false;
            }
        }
        self.next = delivery.offset + 1;
        self.queue.sought = None;
        self.queue.listen(turn.now, self.next);
        let frame = Frame::decode(delivery.payload.clone()).map_err(|e| e.to_string());
        let entities = frame.as_ref().map_or_else(|_| BTreeSet::new(), |frame| self.touched_by(turn, frame));
        if !turn.config.rules.activations_in_log {
            self.define_early(frame.as_ref().ok());
        }
        let queued = Queued { offset: delivery.offset, appended: delivery.appended, payload: delivery.payload, frame, entities };
        self.queue.records += queued.records();
        self.queue.bytes += queued.payload.len();
        self.queue.unseen = true;
        self.queue.received = turn.now;
        self.queue.frames.push_back(queued);
        self.queue.is_full(turn.config)
    }

    /// A guess, for loading in advance; what the fold asks for is asked for again when it is folded.
    fn touched_by(&self, turn: &Turn<'_>, frame: &Frame) -> BTreeSet<EntityId> {
        let records = frame.sections.iter().flat_map(|section| &section.records);
        let role = records.filter(|record| !emitting::is_runtime_kind(record.kind));
        role.filter_map(|record| self.guarded(turn, |processor| processor.entities(record)).ok()).flatten().collect()
    }

    /// Only with its rule off: what the simulator must find.
    fn define_early(&mut self, frame: Option<&Frame>) {
        let records = frame.into_iter().flat_map(|frame| &frame.sections).flat_map(|section| &section.records);
        for record in records.filter(|record| record.kind == kind::DEF_ACTIVATE) {
            if let Ok(set) = <inbox::DefActivate as prost::Message>::decode(record.body.clone()) {
                self.processor.define(&format!("{}:{}", set.set, hex::encode(&set.hash)));
            }
        }
    }

    fn seek(&mut self, turn: &mut Turn<'_>) {
        turn.counters.seeks += 1;
        self.queue.sought = Some(turn.now);
        self.queue.listen(turn.now, self.next);
        turn.commands.push(Command::Seek(self.id.index, self.next));
    }

    /// A frame of this worker stands at `offset` of its own inbox.
    pub(crate) fn appended(&mut self, turn: &mut Turn<'_>, offset: Offset) {
        self.queue.known_end = self.queue.known_end.max(offset + 1);
        if self.queue.silent.is_none() {
            self.queue.listen(turn.now, self.next);
        }
    }

    /// More is known to stand in the log, it is wanted, and nothing comes: the client has lost its position.
    pub(super) fn watch_silence(&mut self, turn: &mut Turn<'_>) {
        if !self.is_folding() || self.queue.silent.is_none_or(|at| turn.now.since(at) < turn.config.silence) {
            return;
        }
        if self.queue.is_empty() {
            self.seek(turn);
        } else {
            // Not silence: this worker takes no more for the time being.
            self.queue.listen(turn.now, self.next);
        }
    }

    /// The consumer cannot go on with this partition.
    pub(crate) fn log_failed(&mut self, turn: &mut Turn<'_>, error: &LogError) {
        if !self.is_folding() {
            return;
        }
        match error {
            LogError::OutOfRange => turn.commands.push(Command::Watermarks(self.id.index)),
            LogError::Unknown => self.halt(turn, "the inbox has no such partition"),
            LogError::Unavailable(_) => self.queue.silent = Some(turn.now),
        }
    }

    /// Where the log begins and ends, after an out-of-range position.
    pub(crate) fn watermarks(&mut self, turn: &mut Turn<'_>, start: Offset, end: Offset) {
        if !matches!(self.phase, Phase::Replaying | Phase::Leading) {
            return;
        }
        if (start..=end).contains(&self.next) {
            self.seek(turn);
        } else if self.next < start {
            self.halt(turn, format!("the log starts at {start}, behind the offset {} to be folded: its records are gone", self.next));
        } else {
            self.halt(turn, format!("the log ends at {end}, before the offset {} to be folded: it lost its tail", self.next));
        }
    }
}
