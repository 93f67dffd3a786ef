//! Everything a world draws, from one seed.

use waypost_memory::Seeded;
use waypost_runtime::ports::Entropy as _;
use waypost_types::Span;

/// A reproducible sequence of choices.
#[derive(Clone, Debug)]
pub struct Chance(Seeded);

// === impl Chance ===

impl Chance {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        // One seed more must not be one draw further.
        Self(Seeded::new(seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x5851_f42d_4c95_7f2d)))
    }

    /// The sequence of this name beside it, whatever has been drawn here.
    #[must_use]
    pub fn at(&self, name: u64) -> Self {
        let mut here = self.0.clone();
        Self::new(here.next() ^ name.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Another sequence, of its own.
    #[must_use]
    pub fn fork(&mut self) -> Seeded {
        Seeded::new(self.0.next())
    }

    /// An index below `n`; 0 if `n` is 0.
    pub fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.0.below(n as u64)).unwrap_or(0)
    }

    /// From `low` to `high`, both included.
    pub fn within(&mut self, low: i64, high: i64) -> i64 {
        let width = u64::try_from(high.saturating_sub(low)).unwrap_or(0).saturating_add(1);
        low.saturating_add(i64::try_from(self.0.below(width)).unwrap_or(0))
    }

    /// 1 to `n`.
    pub fn small(&mut self, n: usize) -> usize {
        1 + self.index(n)
    }

    /// That many ms, both ends included.
    pub fn span(&mut self, low: i64, high: i64) -> Span {
        Span::from_millis(self.within(low, high))
    }

    /// Whether something of this probability, in 10,000ths, happens.
    pub fn hits(&mut self, odds: u64) -> bool {
        odds > 0 && self.0.below(10_000) < odds
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }

    /// Takes one of several out, their order not kept.
    pub fn draw<T>(&mut self, items: &mut Vec<T>) -> Option<T> {
        if items.is_empty() {
            return None;
        }
        let at = self.index(items.len());
        Some(items.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence_and_another_is_another() {
        let draws = |seed| {
            let mut chance = Chance::new(seed);
            (0..20).map(|_| chance.index(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert_ne!(draws(1)[1..], draws(2)[..19]);
    }

    #[test]
    fn ranges_include_both_ends() {
        let mut chance = Chance::new(3);
        let drawn: std::collections::BTreeSet<i64> = (0..100).map(|_| chance.within(-1, 1)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [-1, 0, 1]);
        assert!(!chance.hits(0));
        assert!(chance.hits(10_000));
    }
}
