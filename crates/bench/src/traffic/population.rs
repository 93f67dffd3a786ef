//! Who has been there before: each person once, with what later traffic knows them by.

use std::collections::VecDeque;

use waypost_codec::frame::Record;
use waypost_memory::Seeded;
use waypost_types::Timestamp;

use super::{Kind, Traffic, Visit};

/// Seed of what people of any traffic did when they were there before.
const SEED: u64 = 11;
/// Message ids of the traffic itself are numbered below that.
const NUMBERS: u64 = 1 << 40;
/// Of so many people one has said an address: with a user id and a cookie that makes 2.1 identifiers a profile.
const ADDRESS_OF: u64 = 10;

/// The people of some traffic, the most frequent first.
#[derive(Debug)]
pub struct Population {
    shop: Traffic,
    person: u64,
    end: u64,
}

// === impl Traffic ===

impl Traffic {
    /// So many of its people, or all of them.
    ///
    /// Each is named, with a first browser: a later visit with that browser joins nobody. Other browsers stay unknown. What the
    /// traffic does is the same whether its people are known or not.
    pub fn population(&self, people: u64) -> Population {
        let shop = Self {
            chance: Seeded::new(SEED),
            installation: self.installation,
            workspaces: self.workspaces,
            people: self.people,
            visits: Vec::new(),
            count: NUMBERS,
            again: VecDeque::new(),
            of_one_bot: 0,
            is_plain: false,
        };
        Population { shop, person: 0, end: people.min(self.people) }
    }
}

// === impl Population ===

impl Population {
    /// How many are still to come.
    pub fn left(&self) -> usize {
        usize::try_from(self.end - self.person).unwrap_or(usize::MAX)
    }

    /// The next of them, said and received at `now`.
    pub fn next(&mut self, now: Timestamp) -> Option<Record> {
        let person = self.person;
        if person == self.end {
            return None;
        }
        self.person += 1;
        let Self { shop, .. } = self;
        shop.count += 1;
        // the bot has no name
        let visit = Visit { person, browser: 0, is_named: person != 0, events_left: 0, cart: 0 };
        let kind = if person != 0 && shop.chance.below(ADDRESS_OF) == 0 { Kind::Identified } else { Kind::PageViewed };
        Some(shop.said(visit, kind, 0, now))
    }
}

#[cfg(test)]
mod tests {
    use waypost_types::{Layout, WorkspaceId};

    use super::*;
    use crate::{
        sights::{Count, Sights},
        traffic::{Installation, Size},
    };

    const PEOPLE: u64 = 2_000;

    fn traffic() -> Traffic {
        let installation = Installation { hash_key: [7; 32], layout: Layout { number: 1, partitions: 8 }, workspace: WorkspaceId::new(1) };
        Traffic::new(7, Size::Of(PEOPLE), installation)
    }

    fn everybody(people: u64) -> Vec<Record> {
        let mut population = traffic().population(people);
        std::iter::from_fn(|| population.next(Timestamp::ZERO)).collect()
    }

    /// What the first events of the traffic find, behind these people.
    fn found(people: u64) -> Count {
        let (mut sights, mut traffic) = (Sights::default(), traffic());
        for record in everybody(people) {
            sights.see(&record).unwrap();
        }
        let before = sights.count();
        for _ in 0..20_000 {
            sights.see(&traffic.next(Timestamp::ZERO)).unwrap();
        }
        sights.count().since(before)
    }

    #[test]
    fn each_person_comes_once_and_with_about_two_identifiers() {
        let mut sights = Sights::default();
        for record in everybody(u64::MAX) {
            sights.see(&record).unwrap();
        }
        let Count { events, first, merges, .. } = sights.count();
        assert_eq!((events, first, merges), (PEOPLE, PEOPLE, 0));
        let identifiers = sights.identifiers() * 100 / PEOPLE;
        assert!((205..215).contains(&identifiers), "{identifiers}");
    }

    #[test]
    fn only_new_browsers_of_known_people_are_first_sights_and_some_of_them_merge() {
        let (known, unknown) = (found(PEOPLE), found(0));
        assert!(known.first * 4 < unknown.first, "{known:?}, {unknown:?}");
        // 1.2 % of all events identify, and of five one merges
        assert!((20..80).contains(&known.merges), "{known:?}");
    }

    #[test]
    fn traffic_is_the_same_whether_its_people_are_known_or_not() {
        let mut one = traffic();
        let mut other = traffic();
        let mut population = other.population(10);
        assert_eq!(population.left(), 10);
        while population.next(Timestamp::ZERO).is_some() {}
        assert_eq!(population.left(), 0);
        let some = |traffic: &mut Traffic| (0..100).map(|_| traffic.next(Timestamp::ZERO)).collect::<Vec<_>>();
        assert_eq!(some(&mut one), some(&mut other));
    }
}
