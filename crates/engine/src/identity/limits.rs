//! Limits of the fold at an identifier (PRODUCT §5.2, PROTOCOL §12.2): a shared cookie must not become a person.

use std::collections::BTreeMap;

use waypost_codec::{
    inbox::{Link, NamedCount},
    state::Node as Stored,
};
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
    /// Identifiers of one person by class, strongest first; the last is of each name of custom ones.
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

/// How many identifiers a component has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// By class, strongest first.
    pub(super) by_class: Vec<u32>,
    /// Those of class custom by name, sorted: five loyalty cards are many, five cards and a chat id are not.
    pub(super) by_name: Vec<NamedCount>,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            links: 8,
            identifiers: 200,
            by_class: [1, 3, 3, 20, 100, 5],
            generations: 32,
            seen: 1_024,
            held_items: 64,
            held_bytes: 256 << 10,
        }
    }
}

impl Limits {
    /// Whether two components together would have too many identifiers.
    ///
    /// Of a name only where both have some: links that were under way at once can leave a person with more than the
    /// limit, and whatever adds none of that name still joins. Classes are not as lenient, because logs of before are
    /// folded by them.
    pub(super) fn over(&self, a: &Counts, b: &Counts) -> bool {
        let sum = a.plus(b);
        let [classes @ .., _] = self.by_class;
        let both = |named: &NamedCount| a.of_name(&named.name) > 0 && b.of_name(&named.name) > 0;
        sum.by_class.iter().zip(classes).any(|(count, limit)| *count > limit)
            || sum.by_name.iter().any(|named| named.count > self.each_name() && both(named))
            || sum.total() > self.identifiers
    }

    /// Custom identifiers of one name that a person may have.
    pub(super) fn each_name(&self) -> u32 {
        let [.., each_name] = self.by_class;
        each_name
    }
}

// === impl Counts ===

impl Counts {
    /// Of a lone identifier; `custom` is the name of one of class custom.
    pub(super) fn one(class: IdentifierClass, custom: &str) -> Self {
        let by_class = IdentifierClass::ALL.into_iter().map(|c| u32::from(c == class)).collect();
        let named = (class == IdentifierClass::Custom).then(|| NamedCount { name: custom.to_owned(), count: 1 });
        Self { by_class, by_name: named.into_iter().collect() }
    }

    /// As a node has them.
    pub(super) fn of(node: &Stored) -> Self {
        Self { by_class: node.counts.clone(), by_name: node.custom_counts.clone() }
    }

    /// As a link tells them.
    pub(super) fn told(link: &Link) -> Self {
        Self { by_class: link.counts.clone(), by_name: link.custom_counts.clone() }
    }

    /// Of two components together.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let of = |counts: &[u32], class: usize| counts.get(class).copied().unwrap_or(0);
        let sum = |class| of(&self.by_class, class).saturating_add(of(&other.by_class, class));
        let mut by_name: BTreeMap<&str, u32> = BTreeMap::new();
        for named in self.by_name.iter().chain(&other.by_name) {
            let count = by_name.entry(&named.name).or_default();
            *count = count.saturating_add(named.count);
        }
        let by_name = by_name.into_iter().map(|(name, count)| NamedCount { name: name.to_owned(), count });
        Self { by_class: (0..IdentifierClass::ALL.len()).map(sum).collect(), by_name: by_name.collect() }
    }

    /// Custom identifiers of this name.
    pub(super) fn of_name(&self, name: &str) -> u32 {
        self.by_name.iter().find(|named| named.name == name).map_or(0, |named| named.count)
    }

    /// Identifiers of all classes.
    pub(super) fn total(&self) -> u32 {
        self.by_class.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}
