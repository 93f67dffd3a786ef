//! So many a second: for each key, for each address, in memory that does not grow.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    mem,
    sync::{Mutex, PoisonError},
};

use waypost_types::Timestamp;

const SECOND: i64 = 1_000_000_000;

/// So many a second for each of those who ask, a second's worth of them at once. One instant is kept of each: up to when it
/// has used what it may (GCRA). Whoever is refused has room again within a second.
pub(super) struct Rate<K> {
    /// Nanoseconds that one uses; none: nobody is held back.
    cost: Option<i64>,
    /// How many are remembered in either half.
    most: usize,
    seen: Mutex<Seen<K>>,
}

/// Where the younger half is full the older one is forgotten. Who can drive another out has so many addresses that a rate of
/// each would not hold him.
struct Seen<K> {
    young: HashMap<K, i64>,
    old: HashMap<K, i64>,
}

// === impl Rate ===

impl<K: Copy + Eq + Hash> Rate<K> {
    /// `per_second` for each, or any number where it is 0; up to twice `most` are remembered.
    pub(super) fn new(per_second: u32, most: usize) -> Self {
        let cost = (per_second > 0).then(|| SECOND / i64::from(per_second));
        Self { cost, most, seen: Mutex::new(Seen { young: HashMap::new(), old: HashMap::new() }) }
    }

    /// Uses one; whether one was left.
    pub(super) fn take(&self, who: K, now: Timestamp) -> bool {
        self.ask(who, now, true)
    }

    /// Whether one is left.
    pub(super) fn has(&self, who: K, now: Timestamp) -> bool {
        self.ask(who, now, false)
    }

    fn ask(&self, who: K, now: Timestamp, takes: bool) -> bool {
        let Some(cost) = self.cost else { return true };
        let now = now.millis().saturating_mul(1_000_000);
        let full = now.saturating_add(SECOND);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Farther ahead than a second is only what a clock said that has been set back since.
        let used = seen.used(&who).filter(|used| *used <= full).map_or(now, |used| used.max(now));
        let next = used.saturating_add(cost);
        if next > full {
            return false;
        }
        if takes {
            seen.keep(who, next, self.most);
        }
        true
    }
}

impl<K> fmt::Debug for Rate<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rate").field("cost", &self.cost).finish_non_exhaustive()
    }
}

// === impl Seen ===

impl<K: Eq + Hash> Seen<K> {
    fn used(&self, who: &K) -> Option<i64> {
        self.young.get(who).or_else(|| self.old.get(who)).copied()
    }

    fn keep(&mut self, who: K, used: i64, most: usize) {
        if self.young.len() >= most && !self.young.contains_key(&who) {
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(who, used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_772_366_400_000 + millis)
    }

    fn taken(rate: &Rate<u8>, who: u8, now: Timestamp) -> usize {
        (0..10_000).take_while(|_| rate.take(who, now)).count()
    }

    #[test]
    fn a_seconds_worth_at_once_and_then_as_time_goes_by() {
        for per_second in [1_u32, 3, 10, 1_000] {
            let rate = Rate::new(per_second, 4);
            let whole = usize::try_from(per_second).unwrap();
            assert_eq!(taken(&rate, 1, at(0)), whole);
            assert!(!rate.has(1, at(0)));
            assert_eq!(taken(&rate, 2, at(0)), whole, "each by itself");
            assert_eq!(taken(&rate, 1, at(500)), whole / 2, "half a second, half of it");
            assert_eq!(taken(&rate, 1, at(60_000)), whole, "and never more than a second's worth");
            assert!(rate.has(1, at(61_000)) && rate.has(1, at(61_000)), "asking uses nothing");
        }
    }

    #[test]
    fn nobody_is_held_back_where_there_is_no_rate() {
        assert_eq!(taken(&Rate::new(0, 4), 1, at(0)), 10_000);
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let rate = Rate::new(2, 4);
        assert_eq!(taken(&rate, 1, at(3_600_000)), 2);
        assert_eq!(taken(&rate, 1, at(0)), 2);
    }

    #[test]
    fn of_many_the_last_are_remembered_and_memory_does_not_grow() {
        let rate = Rate::new(1, 10);
        for who in 0..=200_u8 {
            assert!(rate.take(who, at(0)));
        }
        assert!((191..=200).all(|who| !rate.has(who, at(0))), "the last ten");
        let seen = rate.seen.lock().unwrap();
        assert!(seen.young.len() <= 10 && seen.old.len() <= 10);
    }
}
