//! How often partitions commit: so that the commits of a process take no more than a share of the store's
//! time (PROTOCOL §5.4). Any schedule gives the same states; this one keeps replays short while the store has
//! time, and lets entities coalesce when it has not.

use std::collections::BTreeMap;

use waypost_types::{Span, Timestamp};

use crate::config::Config;

/// What a machine knows of the price of its commits.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Moving estimate of how long the store works on one commit, µs; none before the first.
    cost: Option<i64>,
    /// When the store last answered a commit.
    answered: Timestamp,
    /// When each partition last sent one.
    sent: BTreeMap<u32, Timestamp>,
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
        self.sent.insert(partition, now);
    }

    /// The store has applied a commit that was sent at `sent`. It works on one after the other, so this one
    /// had its time since then or since the answer before, whichever is later.
    pub(crate) fn answered(&mut self, now: Timestamp, sent: Timestamp) {
        let took = now.since(self.answered.max(sent)).millis().max(0).saturating_mul(1_000);
        self.answered = now;
        let cost = self.cost.unwrap_or(took);
        self.cost = Some(cost + (took - cost) / 8);
    }

    /// As things are.
    pub(crate) fn tempo(&self, now: Timestamp, config: &Config) -> Tempo {
        let cost = self.cost.unwrap_or(0);
        let since = now.minus(Span::from_millis(2 * config.commit_interval_max.millis()));
        let partitions = self.sent.values().filter(|at| **at >= since).count().max(1);
        tempo(cost, partitions, config)
    }
}

/// The tempo of each of so many partitions whose commits cost so many µs.
fn tempo(cost_us: i64, partitions: usize, config: &Config) -> Tempo {
    let partitions = i64::try_from(partitions).unwrap_or(i64::MAX);
    let share = i64::from(config.commit_share.clamp(1, 100));
    let price = cost_us.saturating_mul(partitions).saturating_mul(100) / share;
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

    fn of(cost_us: i64, partitions: usize) -> (i64, i64, usize) {
        let Tempo { interval, full, entities, .. } = tempo(cost_us, partitions, &Config::default());
        (interval.millis(), full.millis(), entities)
    }

    #[test]
    fn commits_take_a_share_of_the_stores_time_and_grow_where_they_are_rare() {
        let cases = [
            // (cost in µs, partitions, τ, τ of a full commit, entities)
            (0, 1, (100, 0, 512)),
            (1_500, 1, (100, 10, 512)),
            (1_500, 10, (100, 100, 512)),
            (1_500, 16, (160, 160, 512)),
            (3_000, 16, (320, 320, 1_536)),
            (15_000, 16, (1_600, 1_600, 4_000)),
            (15_000_000, 16, (30_000, 30_000, 4_000)),
            (i64::MAX, usize::MAX, (30_000, 30_000, 4_000)),
        ];
        for (cost, partitions, expected) in cases {
            assert_eq!(of(cost, partitions), expected, "{cost} µs, {partitions} partitions");
        }
    }

    #[test]
    fn a_commit_costs_what_the_store_worked_on_it_not_what_it_waited() {
        let at = Timestamp::from_millis;
        let mut pace = Pace::default();
        // Sixteen at once, answered every 2 ms.
        for n in 1..=16 {
            pace.sent(at(1_000), u32::try_from(n).unwrap());
            pace.answered(at(1_000 + 2 * n), at(1_000));
        }
        assert_eq!(pace.cost, Some(2_000));
        let tempo = pace.tempo(at(1_032), &Config::default());
        assert_eq!(tempo.interval.millis(), 2 * 16 * 100 / 15);
        let later = pace.tempo(at(200_000), &Config::default());
        assert_eq!(later.interval.millis(), 100, "partitions that no longer commit do not count");
    }

    #[test]
    fn the_estimate_follows_slowly() {
        let at = Timestamp::from_millis;
        let mut pace = Pace::default();
        pace.answered(at(10), at(8));
        pace.answered(at(100), at(90));
        assert_eq!(pace.cost, Some(3_000));
    }
}
