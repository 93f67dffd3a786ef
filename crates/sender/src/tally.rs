//! What came of attempts, counted for operators since the process started; no part of the fold.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use waypost_codec::inbox::Outcome;

/// Calls of this process that are remembered as silent, so that they count once.
const SILENT: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    outcomes: BTreeMap<(String, Outcome), u64>,
    silent: VecDeque<(Bytes, u32)>,
}

// === impl Tally ===

impl Tally {
    /// A call of this process has ended.
    pub(crate) fn called(&mut self, channel: &str, dispatch: &Bytes, attempt: u32, outcome: Outcome) {
        if outcome == Outcome::Unknown {
            if self.silent.len() >= SILENT {
                self.silent.pop_front();
            }
            self.silent.push_back((dispatch.clone(), attempt));
        }
        self.count(channel, outcome);
    }

    /// The log has given these attempts up; those that this process called it has counted.
    pub(crate) fn given_up(&mut self, channel: &str, dispatch: &Bytes, attempts: &[u32]) {
        for attempt in attempts {
            if !self.silent.iter().any(|(silent, number)| silent == dispatch && number == attempt) {
                self.count(channel, Outcome::Unknown);
            }
        }
    }

    pub(crate) fn outcomes(&self) -> BTreeMap<(String, Outcome), u64> {
        self.outcomes.clone()
    }

    fn count(&mut self, channel: &str, outcome: Outcome) {
        *self.outcomes.entry((channel.to_owned(), outcome)).or_default() += 1;
    }
}
