//! Handing on what was put out: at the end of a frame behind which nothing waits, of a tick, of a batch that is full; mostly long
//! before the batch ends that the frame belongs to. And what the acknowledgements of it prove (PROTOCOL §4, §7.2, §8.3).

use std::collections::{BTreeMap, VecDeque};

use waypost_types::Timestamp;

use super::{Turn, Worker, committing::Unhanded};
use crate::{config::Config, machine::Destination, packer::Waits, processor::Processor};

/// What was handed on in this life, in order.
#[derive(Debug, Default)]
pub(super) struct Handed {
    count: u64,
    /// Those whose outputs do not all stand in their logs, or that stand behind one.
    waiting: VecDeque<Outputs>,
}

/// Outputs that were handed on together.
#[derive(Debug)]
struct Outputs {
    /// Last number, by destination.
    ends: BTreeMap<Destination, u64>,
    /// Everything appended before this is folded with them, and nothing older is held; once they are acknowledged,
    /// that is `through`.
    proves: Timestamp,
}

// === impl Handed ===

impl Handed {
    /// How often.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Of how many, from the first, all outputs stand.
    fn standing(&self) -> u64 {
        self.count - self.waiting.len() as u64
    }
}

impl<P: Processor> Worker<P> {
    /// Sends what was put out since the last time, and starts what is to be done; the last frame was folded whole.
    pub(super) fn hand_on(&mut self, turn: &mut Turn<'_>) {
        let Some(Unhanded { appended, outputs, jobs }) = self.open.hand_on() else { return };
        // Frame by frame there is no company to wait for.
        let waits = if self.lives.is_bisecting() { Waits::none(turn.now) } else { Waits::new(turn.now, appended, turn.config) };
        let mut ends = BTreeMap::new();
        for (destination, before, item) in outputs {
            let seq = item.seq;
            turn.publisher.put(waits, &destination, self.id.index, self.life, before, item);
            ends.insert(destination, seq);
        }
        self.open.handed_to(ends.keys());
        let proves = self.proven(turn.config, appended);
        self.handed.count += 1;
        self.handed.waiting.push_back(Outputs { ends, proves });
        if !turn.config.rules.through_behind_acknowledgements {
            self.through = self.through.max(proves);
        }
        if turn.config.rules.calls_ahead_of_commits {
            self.start(turn, jobs);
        } else {
            self.open.jobs(jobs);
        }
    }

    /// What the frames folded so far prove of the log: that they were appended is not enough where something is held (PROTOCOL §8.3).
    pub(super) fn proven(&self, config: &Config, appended: Timestamp) -> Timestamp {
        match P::HOLDS_FOR {
            Some(held) if config.rules.held_in_through => {
                self.timers.earliest().map_or(Timestamp::ZERO, |wakeup| appended.min(wakeup.minus(held)))
            }
            Some(_) | None => appended,
        }
    }

    /// How often something was handed on of which, and of all before, every output stands in its log; they prove what is upstream.
    pub(super) fn outputs_standing(&mut self, turn: &Turn<'_>) -> u64 {
        let (publisher, partition) = (&turn.publisher, self.id.index);
        let stand = |(destination, end): (&Destination, &u64)| {
            publisher.acknowledged(destination, partition).is_some_and(|acknowledged| acknowledged >= *end)
        };
        while let Some(outputs) = self.handed.waiting.pop_front_if(|outputs| outputs.ends.iter().all(stand)) {
            if turn.config.rules.through_ahead_of_commits {
                self.through = self.through.max(outputs.proves);
            }
        }
        self.handed.standing()
    }
}
