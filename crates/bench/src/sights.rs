//! Whom events find: somebody known, nobody yet, or two who turn out to be one. Reckoned from the identifiers that come together, in
//! the order in which events are made; which of a merge's halves wins, and limits of the identity service, are not in it.

use std::collections::HashMap;

use anyhow::Context as _;
use prost::Message as _;
use waypost_codec::{frame::Record, inbox::IdentityEvent};

/// What has been seen of all identifiers.
#[derive(Clone, Debug, Default)]
pub struct Sights {
    /// By the first bytes of an identifier's hash: its place among the parents.
    places: HashMap<u64, usize>,
    /// Whose parent is itself stands for a person.
    parents: Vec<usize>,
    count: Count,
}

/// Events by whom they found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub events: u64,
    /// None of whose identifiers was known.
    pub first: u64,
    /// That brought another identifier of somebody known.
    pub links: u64,
    /// That made one of two or more who were known.
    pub merges: u64,
}

// === impl Sights ===

impl Sights {
    /// An event of `wp1.identity`.
    ///
    /// # Errors
    /// If it is none.
    pub fn see(&mut self, record: &Record) -> anyhow::Result<()> {
        let event = IdentityEvent::decode(record.body.clone()).context("a record of the traffic is no event")?;
        let (mut person, mut is_new, mut is_merge) = (None, false, false);
        let mut new = Vec::new();
        for identifier in &event.identifiers {
            let hash = identifier.hash.first_chunk().context("an identifier has a hash")?;
            let Some(place) = self.places.get(&u64::from_be_bytes(*hash)).copied() else {
                new.push(u64::from_be_bytes(*hash));
                is_new = true;
                continue;
            };
            let root = self.root(place);
            match person {
                None => person = Some(root),
                Some(known) if known != root => {
                    self.parents[root] = known;
                    is_merge = true;
                }
                Some(_) => {}
            }
        }
        self.count.events += 1;
        self.count.first += u64::from(person.is_none());
        self.count.links += u64::from(person.is_some() && is_new);
        self.count.merges += u64::from(is_merge);
        for hash in new {
            let place = self.parents.len();
            self.parents.push(*person.get_or_insert(place));
            self.places.insert(hash, place);
        }
        Ok(())
    }

    fn root(&mut self, mut place: usize) -> usize {
        while self.parents[place] != place {
            self.parents[place] = self.parents[self.parents[place]];
            place = self.parents[place];
        }
        place
    }

    /// So far.
    pub const fn count(&self) -> Count {
        self.count
    }

    /// Different ones so far.
    pub fn identifiers(&self) -> u64 {
        self.places.len() as u64
    }
}

// === impl Count ===

impl Count {
    /// What was counted since then.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            events: self.events - earlier.events,
            first: self.first - earlier.first,
            links: self.links - earlier.links,
            merges: self.merges - earlier.merges,
        }
    }

    /// Of a thousand events: first sights, new identifiers of people who are known, and merges.
    #[expect(clippy::cast_precision_loss, reason = "counts that fit")]
    pub fn per_thousand(self) -> [f64; 3] {
        [self.first, self.links, self.merges].map(|count| count as f64 * 1e3 / self.events.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use waypost_codec::inbox::Event;
    use waypost_ingest::normalise::record;
    use waypost_types::{IdentifierClass, Layout, Timestamp, WorkspaceId};

    use super::*;
    use crate::traffic::Installation;

    #[test]
    fn who_comes_with_an_identifier_of_each_of_two_merges_them() {
        let installation = Installation { hash_key: [7; 32], layout: Layout { number: 1, partitions: 8 }, workspace: WorkspaceId::new(1) };
        let mut sights = Sights::default();
        let mut see = |names: &[&str]| {
            let identifiers = names.iter().map(|name| installation.identifier(IdentifierClass::UserId, (*name).to_owned())).collect();
            let event = Event { message_id: "m".to_owned(), identifiers, ..Event::default() };
            sights.see(&record(&event, installation.workspace, Timestamp::ZERO)).unwrap();
            let Count { first, links, merges, .. } = sights.count();
            [first, links, merges]
        };
        assert_eq!(see(&["a"]), [1, 0, 0]);
        assert_eq!(see(&["a", "b"]), [1, 1, 0]);
        assert_eq!(see(&["c", "d"]), [2, 1, 0]);
        assert_eq!(see(&["d", "b"]), [2, 1, 1]);
        assert_eq!(see(&["a", "c", "e"]), [2, 2, 1]);
    }
}
