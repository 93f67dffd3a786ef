//! Giving a partition back: take no more, publish, wait for acknowledgements, commit, release. What is not
//! acknowledged in time is not committed; the next owner repeats it (PROTOCOL §4, §6.2).

use bytes::Bytes;
use waypost_types::Span;

use super::{Phase, Turn, Worker};
use crate::{
    machine::Command,
    processor::{Job, Processor},
};

/// How long the store may take to answer a release.
const RELEASE: Span = Span::from_millis(500);

impl<P: Processor> Worker<P> {
    /// Begins to give the partition back, in `within` at most.
    pub(crate) fn drain(&mut self, turn: &mut Turn<'_>, within: Span) {
        let until = turn.now.plus(within);
        match &mut self.phase {
            Phase::Replaying | Phase::Leading => {
                self.answer_queries_with_none(turn);
                self.queue.clear();
                // A frame folded in part is the next owner's, with all behind the last batch.
                if self.work.is_none() {
                    self.freeze(turn);
                }
                if !self.is_folding() {
                    return self.leave(turn);
                }
                turn.publisher.hurry(self.id.index);
                if let (Phase::Leading, Some(kind)) = (&self.phase, P::LAST_JOB) {
                    *turn.jobs.entry(self.id.index).or_default() += 1;
                    let job = Job { kind, body: Bytes::new(), leader: self.meta.leader, trace: Bytes::new() };
                    turn.commands.push(Command::Job(self.id.index, job));
                }
                self.phase = Phase::Draining(until);
            }
            Phase::Draining(before) => *before = until.min(*before),
            Phase::Releasing(_) | Phase::Gone => {}
            // Nothing folded, nothing to give back but a claim whose answer nobody waits for.
            Phase::NotReady(_) | Phase::Halted(_) => self.leave(turn),
        }
    }

    pub(super) fn drain_further(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Draining(until) => {
                let index = self.id.index;
                let calls = turn.jobs.get(&index).copied().unwrap_or(0);
                let done = self.is_committed() && calls == 0 && !turn.publisher.own_pending(index);
                if done || until <= turn.now {
                    self.phase = Phase::Releasing(turn.now.plus(RELEASE));
                    self.note_release(turn);
                    turn.commands.push(Command::Release(index, self.token));
                }
            }
            Phase::Releasing(until) if until <= turn.now => self.leave(turn),
            Phase::NotReady(_) | Phase::Replaying | Phase::Leading | Phase::Releasing(_) | Phase::Gone | Phase::Halted(_) => {}
        }
    }

    /// The store answered the release; whatever it said, the partition is given back.
    pub(crate) fn released(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.phase, Phase::Releasing(_)) {
            self.leave(turn);
        }
    }

    pub(super) fn leave(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Gone;
        turn.pace.forget(self.id.index);
        turn.commands.push(Command::Gone(self.id.index));
    }

    /// Taken away without asking: no release.
    pub(crate) fn lost(&mut self, turn: &mut Turn<'_>) {
        self.answer_queries_with_none(turn);
        self.phase = Phase::Gone;
        turn.pace.forget(self.id.index);
    }
}
