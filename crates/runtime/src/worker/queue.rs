//! Frames that have arrived: dense offsets, and nothing decoded twice (PROTOCOL §6.3).

use std::collections::VecDeque;

use bytes::Bytes;
use waypost_codec::{frame::Frame, inbox, kind};
use waypost_types::{EntityId, Timestamp};

use super::{Turn, Worker, emitting};
use crate::{
    config::Config,
    late::is_late,
    ports::{Delivery, Offset},
    processor::Processor,
    publisher::Own,
};

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
    /// Whether that one came late.
    is_late: bool,
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
    /// Entities it will touch that were not known when it came, as far as can be said before it is folded.
    pub(super) unknown: Vec<EntityId>,
}

// === impl Queue ===

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether a batch could be cut from it without waiting for more.
    fn is_full(&self, config: &Config) -> bool {
        let (records, bytes) = config.batch(self.is_late);
        self.records >= records || self.bytes >= bytes
    }

    /// Two batches' worth, so that one loads while the other folds.
    pub(super) fn has_room(&self, config: &Config) -> bool {
        let (records, bytes) = config.batch(self.is_late);
        self.records < records.saturating_mul(2) && self.bytes < bytes.saturating_mul(2)
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
    pub(super) fn listen(&mut self, now: Timestamp, next: Offset) {
        self.silent = (self.known_end > next).then_some(now);
    }

    /// Begins to listen if nobody does.
    pub(super) fn listens(&mut self, now: Timestamp, next: Offset) {
        if self.silent.is_none() {
            self.listen(now, next);
        }
    }

    /// The consumer said that it fails.
    pub(super) fn fails(&mut self, now: Timestamp) {
        self.silent = Some(now);
    }

    /// `next` was sought.
    pub(super) fn sought(&mut self, now: Timestamp, next: Offset) {
        self.sought = Some(now);
        self.listen(now, next);
    }

    pub(super) fn is_sought_since(&self, instant: Timestamp) -> bool {
        self.sought.is_some_and(|at| at > instant)
    }

    pub(super) fn is_silent_since(&self, instant: Timestamp) -> bool {
        self.silent.is_some_and(|at| at <= instant)
    }

    /// The log is known to reach up to here.
    pub(super) fn known_end(&self) -> Offset {
        self.known_end
    }

    pub(super) fn knows_of(&mut self, end: Offset) {
        self.known_end = self.known_end.max(end);
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
                self.gap(turn, delivery.offset);
                return false;
            }
        }
        self.next = delivery.offset + 1;
        self.in_step();
        self.queue.sought = None;
        self.queue.listen(turn.now, self.next);
        if self.vouches(turn, &delivery) {
            return false;
        }
        let frame = Frame::decode(delivery.payload.clone()).map_err(|e| e.to_string());
        let unknown = match &frame {
            // Frame by frame nothing looks at a record before it is named.
            Ok(frame) if !self.lives.is_bisecting() => self.unknown_to(turn, frame),
            Ok(_) | Err(_) => Vec::new(),
        };
        if !turn.config.rules.activations_in_log {
            self.define_early(frame.as_ref().ok());
        }
        let queued = Queued { offset: delivery.offset, appended: delivery.appended, payload: delivery.payload, frame, unknown };
        self.queue.records += queued.records();
        self.queue.bytes += queued.payload.len();
        self.queue.unseen = true;
        self.queue.received = turn.now;
        self.queue.is_late = is_late(turn.now, delivery.appended);
        self.queue.frames.push_back(queued);
        self.queue.is_full(turn.config)
    }

    /// A guess, for loading in advance; what the fold asks for is asked for again when it is folded.
    fn unknown_to(&self, turn: &Turn<'_>, frame: &Frame) -> Vec<EntityId> {
        let records = frame.sections.iter().flat_map(|section| &section.records);
        let role = records.filter(|record| !emitting::is_runtime_kind(record.kind));
        let entities = role.filter_map(|record| self.guarded(turn, |processor| processor.entities(record)).ok()).flatten();
        let mut unknown: Vec<EntityId> = entities.filter(|id| !self.cache.knows(id)).collect();
        unknown.sort();
        unknown.dedup();
        unknown
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

    /// A frame of this worker stands at `offset` of its own inbox.
    pub(crate) fn appended(&mut self, turn: &mut Turn<'_>, what: Own, offset: Offset) {
        self.queue.knows_of(offset + 1);
        self.queue.listens(turn.now, self.next);
        if what != Own::Leader(self.life) {
            return;
        }
        if turn.config.rules.lastrec_check && offset < self.claimed_at && self.is_folding() {
            let committed = self.claimed_at;
            self.halt(turn, format!("the log appends at {offset}, before the offset {committed} that is committed: it lost its tail"));
        } else if offset >= self.leader_behind {
            self.leader_at = Some(offset);
            self.miss_leader(turn);
        }
    }
}
