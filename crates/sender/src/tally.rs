//! What came of attempts, counted for operators since the process started; no part of the fold.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use waypost_codec::inbox::Outcome;
use waypost_runtime::figures::Spread;

/// Calls of this process that are remembered as silent, so that they count once.
const SILENT: usize = 4_096;

/// A way out: the channel (`email`) and the name of its Channel definition.
pub(crate) type Way = (String, String);

/// What came of the calls of one way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WayFigures {
    /// How many calls came to each; among the unknown ones those that processes which are gone have left behind.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// What calls took.
    pub durations: Spread,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    ways: BTreeMap<Way, WayFigures>,
    silent: VecDeque<(Bytes, u32)>,
}

// === impl Tally ===

impl Tally {
    /// A call of this process has ended, and took so many microseconds.
    pub(crate) fn called(&mut self, way: Way, dispatch: &Bytes, attempt: u32, outcome: Outcome, micros: u64) {
        if outcome == Outcome::Unknown {
            if self.silent.len() >= SILENT {
                self.silent.pop_front();
            }
            self.silent.push_back((dispatch.clone(), attempt));
        }
        self.count(way, outcome).durations.add(micros);
    }

    /// The log has given these attempts up; those that this process called it has counted.
    pub(crate) fn given_up(&mut self, way: &Way, dispatch: &Bytes, attempts: &[u32]) {
        for attempt in attempts {
            if !self.silent.iter().any(|(silent, number)| silent == dispatch && number == attempt) {
                self.count(way.clone(), Outcome::Unknown);
            }
        }
    }

    pub(crate) fn outcomes(&self) -> BTreeMap<(String, Outcome), u64> {
        let mut all = BTreeMap::new();
        for ((_, name), figures) in &self.ways {
            for (outcome, count) in &figures.outcomes {
                *all.entry((name.clone(), *outcome)).or_default() += count;
            }
        }
        all
    }

    pub(crate) fn ways(&self) -> BTreeMap<Way, WayFigures> {
        self.ways.clone()
    }

    fn count(&mut self, way: Way, outcome: Outcome) -> &mut WayFigures {
        let figures = self.ways.entry(way).or_default();
        *figures.outcomes.entry(outcome).or_default() += 1;
        figures
    }
}
