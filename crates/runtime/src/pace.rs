//! How often partitions commit: so that the commits of a process take no more than a share of the store's
//! time (PROTOCOL §5.4). Any schedule gives the same states; this one keeps replays short while the store has
//! time, and lets entities coalesce when it has not.
//!
//! Each partition counts with what its last commit cost, and no longer: where little is left to commit it is cheap at
//! once, and a mean of many would hold the next one back for minutes, because rare commits tell little.

use std::collections::BTreeMap;

use waypost_types::{Span, Timestamp};

use crate::config::Config;

/// What a machine knows of the price of its commits.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the store last answered a commit.
    answered: Timestamp,
    partitions: BTreeMap<u32, Last>,
}

/// A partition's last commit.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    sent: Timestamp,
    /// How long the store worked on the last one that it has answered, µs.
    cost: i64,
}

/// What one partition is to keep to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tempo {
    /// Time between two commits, τ.
    pub(crate) interval: Span,
    /// The same for a commit that is as large as it may be: what it costs is all that counts.
    pub(crate) full: Span,
    /// Entities at which a commit is cut.
    pub(crate) entities: usize,
    /// Bytes at which it is cut.
    pub(crate) bytes: usize,
}

// === impl Pace ===

impl Pace {
    /// A partition sends a commit.
    pub(crate) fn sent(&mut self, now: Timestamp, partition: u32) {
        self.partitions.entry(partition).or_default().sent = now;
    }

    /// The store has applied the partition's last commit. It works on one after the other, so this one
    /// had its time since it was sent or since the answer before, whichever is later.
    pub(crate) fn answered(&mut self, now: Timestamp, partition: u32) {
        let last = self.partitions.entry(partition).or_default();
        last.cost = now.since(self.answered.max(last.sent)).millis().max(0).saturating_mul(1_000);
        self.answered = now;
    }

    /// The partition is claimed anew, or gone.
    pub(crate) fn forget(&mut self, partition: u32) {
        self.partitions.remove(&partition);
    }

    /// As things are.
    pub(crate) fn tempo(&self, now: Timestamp, config: &Config) -> Tempo {
        let since = now.minus(Span::from_millis(2 * config.commit_interval_max.millis()));
        let committing = self.partitions.values().filter(|last| last.sent >= since);
        tempo(committing.fold(0, |sum: i64, last| sum.saturating_add(last.cost)), config)
    }
}

/// The tempo where a commit of every partition costs so many µs together.
fn tempo(cost_us: i64, config: &Config) -> Tempo {
    let share = i64::from(config.commit_share.clamp(1, 100));
    let price = cost_us.saturating_mul(100) / share;
    let full = Span::from_millis((price / 1_000).min(config.commit_interval_max.millis()));
    let interval = full.max(config.commit_interval);
    let floor = config.commit_interval.millis().max(1);
    let grown = |least: usize, most: usize| {
        let times = usize::try_from((interval.millis() / floor).max(1)).unwrap_or(1);
        least.saturating_mul(times).min(most.max(least))
    };
    Tempo {
        interval,
        full,
        entities: grown(config.commit_entities, config.commit_entities_max),
        bytes: grown(config.commit_bytes, config.commit_bytes_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cost_us: i64) -> (i64, i64, usize) {
        let Tempo { interval, full, entities, .. } = tempo(cost_us, &Config::default());
        (interval.millis(), full.millis(), entities)
    }

    #[test]
    fn commits_take_a_share_of_the_stores_time_and_grow_where_they_are_rare() {
        let cases = [
            // (cost in µs of all partitions; τ, τ of a full commit, entities)
            (0, (100, 0, 512)),
            (1_500, (100, 10, 512)),
            (15_000, (100, 100, 512)),
            (24_000, (160, 160, 512)),
            (48_000, (320, 320, 1_536)),
            (720_000, (4_800, 4_800, 16_000)),
            (240_000_000, (30_000, 30_000, 16_000)),
            (i64::MAX, (30_000, 30_000, 16_000)),
        ];
        for (cost, expected) in cases {
            assert_eq!(of(cost), expected, "{cost} µs");
        }
    }

    #[test]
    fn a_commit_costs_what_the_store_worked_on_it_not_what_it_waited() {
        let at = Timestamp::from_millis;
        let mut pace = Pace::default();
        // Sixteen at once, answered every 2 ms.
        for n in 1..=16 {
            pace.sent(at(1_000), n);
        }
        for n in 1..=16 {
            pace.answered(at(1_000 + 2 * i64::from(n)), n);
        }
        let tempo = pace.tempo(at(1_032), &Config::default());
        assert_eq!(tempo.interval.millis(), 2 * 16 * 100 / 15);
        let later = pace.tempo(at(200_000), &Config::default());
        assert_eq!(later.interval.millis(), 100, "partitions that no longer commit do not count");
    }

    #[test]
    fn a_partition_that_has_little_to_commit_is_cheap_at_once() {
        let at = Timestamp::from_millis;
        let mut pace = Pace::default();
        let mut commit = |from, until, partition| {
            pace.sent(at(from), partition);
            pace.answered(at(until), partition);
            pace.tempo(at(until), &Config::default()).full.millis()
        };
        assert_eq!(commit(0, 300, 1), 2_000);
        assert_eq!(commit(300, 600, 2), 4_000);
        assert_eq!(commit(4_600, 4_603, 1), 2_020);
        assert_eq!(commit(4_603, 4_606, 2), 40);
    }
}
