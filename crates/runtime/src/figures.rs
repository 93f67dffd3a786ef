//! What a role counts and how its partitions stand, as plain values: whoever shows them to an operator asks the driver
//! now and then, and nobody else pays for it.
//!
//! What is decided is tallied when the commit that holds it has gone through: a record that is folded again, in this
//! process or another, counts once, whoever died in between.

use std::collections::BTreeMap;

use waypost_types::{Timestamp, WorkspaceId};

use crate::{machine::Counters, ports::Offset};

/// Upper ends of the buckets of a [`Spread`], in microseconds; one more holds the rest.
pub const BOUNDS: [u64; 26] = [
    10,
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    14_400_000_000,
];

/// [`Tally::what`] of a dead letter.
pub const DEAD_LETTER: &str = "dead_letter";

/// Different things that a machine tallies; one that comes later is only counted as left out.
const TALLIES: usize = 4_096;

/// How often something took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    counts: [u64; BOUNDS.len() + 1],
    micros: u64,
}

/// Something that a fold has decided, by the words that tell it apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tally {
    /// What it is: a word of the code.
    pub what: &'static str,
    /// Whose.
    pub workspace: WorkspaceId,
    /// The definition that it is about; empty: none.
    pub name: String,
    /// Its version; 0: of all.
    pub version: u32,
    /// Reason code; empty: none.
    pub reason: String,
}

/// How often each was decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    counts: BTreeMap<Tally, u64>,
    left_out: u64,
}

/// What a batch has decided; counted when it is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) tallies: Vec<Tally>,
    /// From when timers were due to when they fired.
    pub(crate) lateness: Spread,
}

/// How one partition of this process stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionFigures {
    /// Which.
    pub partition: u32,
    /// Whether it leads.
    pub leading: bool,
    /// Whether it folds what it takes, leading or not yet.
    pub folding: bool,
    /// Whether it has halted.
    pub halted: bool,
    /// First offset that is not committed.
    pub off: Offset,
    /// When the log took the frame before that; none before the first.
    pub committed: Option<Timestamp>,
    /// First offset that is not folded.
    pub next: Offset,
    /// When the log took the frame at `next`, if it is here.
    pub oldest: Option<Timestamp>,
    /// Bytes put out and not acknowledged.
    pub unacknowledged_bytes: u64,
    /// Records folded and not committed.
    pub uncommitted_records: u64,
    /// Entities with a wake-up.
    pub timers: u64,
    /// Since when the oldest gap in a partition channel has been seen.
    pub gap: Option<Timestamp>,
}

/// A role of this process at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// When this was so; [`Timestamp::ZERO`]: the driver has not begun.
    pub at: Timestamp,
    /// Whether it is a member of its group, with partitions or without.
    pub is_member: bool,
    /// Whether it has been one since it began, as far as anybody has looked.
    pub has_joined: bool,
    /// What its machine has counted.
    pub counters: Counters,
    /// What folding a record took, the work around it included: every record counts with the mean of those it was folded with.
    pub folds: Spread,
    /// How its partitions stand.
    pub partitions: Vec<PartitionFigures>,
}

// === impl Spread ===

impl Spread {
    /// One took so many microseconds.
    pub fn add(&mut self, micros: u64) {
        self.add_mean(1, micros);
    }

    /// So many took so many microseconds together.
    pub fn add_mean(&mut self, times: u64, micros: u64) {
        let Some(mean) = micros.checked_div(times) else { return };
        let bucket = BOUNDS.partition_point(|bound| *bound < mean);
        self.counts[bucket] += times;
        self.micros = self.micros.saturating_add(micros);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.micros = self.micros.saturating_add(other.micros);
    }

    /// How many fell into each bucket of [`BOUNDS`], and beyond.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All of them together, in microseconds.
    pub fn micros(&self) -> u64 {
        self.micros
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

// === impl Tallies ===

impl Tallies {
    pub(crate) fn add(&mut self, tally: Tally) {
        if let Some(count) = self.counts.get_mut(&tally) {
            *count += 1;
        } else if self.counts.len() < TALLIES {
            self.counts.insert(tally, 1);
        } else {
            self.left_out += 1;
        }
    }

    /// What was decided, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&Tally, u64)> {
        self.counts.iter().map(|(tally, count)| (tally, *count))
    }

    /// How often something was decided that there was no room for.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_end_where_they_say() {
        let mut spread = Spread::default();
        for micros in [0, 10, 11, 14_400_000_000, 14_400_000_001] {
            spread.add(micros);
        }
        let counts = spread.counts();
        assert_eq!((counts[0], counts[1], counts[BOUNDS.len() - 1], counts[BOUNDS.len()]), (2, 1, 1, 1));
        assert_eq!((spread.total(), spread.micros()), (5, 28_800_000_022));
        let twice = {
            let mut twice = spread;
            twice.merge(&spread);
            twice
        };
        assert_eq!((twice.total(), twice.micros()), (10, 57_600_000_044));
    }

    #[test]
    fn those_folded_together_count_with_their_mean() {
        let mut spread = Spread::default();
        spread.add_mean(0, 9);
        spread.add_mean(4, 100);
        assert_eq!((spread.counts()[1], spread.total(), spread.micros()), (4, 4, 100));
    }

    #[test]
    fn tallies_have_a_limit_and_say_when_it_is_reached() {
        let mut tallies = Tallies::default();
        let tally =
            |n: usize| Tally { what: "entered", workspace: WorkspaceId::new(1), name: format!("j{n}"), version: 1, reason: String::new() };
        for n in 0..TALLIES + 3 {
            tallies.add(tally(n));
        }
        tallies.add(tally(0));
        assert_eq!((tallies.iter().count(), tallies.left_out()), (TALLIES, 3));
        assert_eq!(tallies.iter().map(|(_, count)| count).max(), Some(2));
    }
}
