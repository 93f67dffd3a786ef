//! Limits of the fold at an identifier (PRODUCT §5.2, PROTOCOL §12.2): a shared cookie must not become a person.

use waypost_types::{IdentifierClass, Span};

/// How long an item may wait, by log time, before its hold is given up.
pub const HELD_FOR: Span = Span::from_secs(120);

/// Limits that a fold enforces; the defaults are the engine's, others are for the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Links one event may cause.
    pub links: usize,
    /// Identifiers of one person, all classes together.
    pub identifiers: u32,
    /// Identifiers of one person by class, strongest first. Custom ones are limited by name, which no count
    /// here knows; they fall under the total.
    pub by_class: [u32; 6],
    /// Lives of one identifier that are remembered.
    pub generations: usize,
    /// Message ids that one identifier remembers.
    pub seen: usize,
    /// Items of one node that wait for a flush.
    pub held_items: usize,
    /// And their bytes.
    pub held_bytes: usize,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            links: 8,
            identifiers: 200,
            by_class: [1, 3, 3, 20, 100, 200],
            generations: 32,
            seen: 1_024,
            held_items: 64,
            held_bytes: 256 << 10,
        }
    }
}

impl Limits {
    /// Whether two components together would have too many identifiers.
    pub(super) fn over(&self, a: &[u32], b: &[u32]) -> bool {
        let sum = sum(a, b);
        sum.iter().zip(self.by_class).any(|(count, limit)| *count > limit) || total(&sum) > self.identifiers
    }
}

/// The counts of a lone identifier.
pub(super) fn one(class: IdentifierClass) -> Vec<u32> {
    IdentifierClass::ALL.into_iter().map(|c| u32::from(c == class)).collect()
}

/// The counts of two components together.
pub(super) fn sum(a: &[u32], b: &[u32]) -> Vec<u32> {
    let of = |counts: &[u32], class: usize| counts.get(class).copied().unwrap_or(0);
    (0..IdentifierClass::ALL.len()).map(|class| of(a, class).saturating_add(of(b, class))).collect()
}

/// Identifiers of all classes.
pub(super) fn total(counts: &[u32]) -> u32 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}
