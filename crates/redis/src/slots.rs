//! Which node of a Redis Cluster a key lies on: its slot, and what the nodes say of slots.

use std::collections::{BTreeMap, BTreeSet};

use redis::Value;

use crate::{
    reply,
    server::{self, Place},
};

/// Slots of every cluster.
const SLOTS: u16 = 16_384;

/// One of a cluster's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u16);

/// Where each slot's master is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotMap {
    /// By the first slot of a range: its last, and its master.
    ranges: BTreeMap<u16, (u16, Place)>,
    /// What single answers have said since.
    moved: BTreeMap<u16, Place>,
}

// === impl Slot ===

impl Slot {
    /// Of a key: of its hash tag, where it has one.
    pub(crate) fn of(key: &str) -> Self {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag).filter(|tag| !tag.is_empty());
        Self(checksum(tag.unwrap_or(key).as_bytes()) % SLOTS)
    }
}

/// CRC-16 as in XMODEM, which is what a cluster hashes with.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 })
    })
}

// === impl SlotMap ===

impl SlotMap {
    /// What `CLUSTER SLOTS` answers: ranges, each with its first and last slot, its master and its replicas. A node may leave out
    /// the host where it is the one that was `asked`. None: it is no such answer, or no slot is anybody's.
    pub(crate) fn read(answer: &Value, asked: &str) -> Option<Self> {
        let Value::Array(rows) = answer else { return None };
        let mut ranges = BTreeMap::new();
        for row in rows {
            let Value::Array(row) = row else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = row.as_slice() else { return None };
            let [host, Value::Int(port), ..] = master.as_slice() else { return None };
            let host = reply::bytes(host).and_then(|host| std::str::from_utf8(host).ok()).filter(|host| is_told(host)).unwrap_or(asked);
            let place = (host.to_owned(), u16::try_from(*port).ok()?);
            ranges.insert(u16::try_from(*first).ok()?, (u16::try_from(*last).ok()?, place));
        }
        (!ranges.is_empty()).then(|| Self { ranges, moved: BTreeMap::new() })
    }

    /// Where a slot is; none: nobody serves it.
    pub(crate) fn at(&self, slot: Slot) -> Option<&Place> {
        let range = || self.ranges.range(..=slot.0).next_back().filter(|(_, (last, _))| slot.0 <= *last).map(|(_, (_, place))| place);
        self.moved.get(&slot.0).or_else(range)
    }

    /// A node has said where the slot is now.
    pub(crate) fn learn(&mut self, slot: Slot, place: Place) {
        self.moved.insert(slot.0, place);
    }

    /// Every master that has a slot.
    pub(crate) fn masters(&self) -> BTreeSet<Place> {
        self.ranges.values().map(|(_, place)| place).chain(self.moved.values()).cloned().collect()
    }
}

/// `MOVED slot host:port`, said by the node at `asked`: the slot, and where it is now.
pub(crate) fn moved(refusal: &str, asked: &str) -> Option<(Slot, Place)> {
    let (slot, address) = refusal.strip_prefix("MOVED ")?.split_once(' ')?;
    let (host, port) = server::place(address)?;
    let host = if is_told(&host) { host } else { asked.to_owned() };
    Some((Slot(slot.parse().ok()?), (host, port)))
}

/// A node that does not know its own name says nothing, or a question mark.
fn is_told(host: &str) -> bool {
    !host.is_empty() && host != "?"
}

#[cfg(test)]
mod tests {
    use waypost_types::{PartitionId, Role};

    use super::*;
    use crate::Keys;

    fn place(host: &str, port: u16) -> Place {
        (host.to_owned(), port)
    }

    #[test]
    fn slots_are_the_clients() {
        for key in ["", "123456789", "{wp1:segmenter:3}:15:s:a", "a{b}c{d}", "{}x", "a{b", "{t1.wp1:identity:0q}:0:m"] {
            let theirs = redis::cluster_routing::Slot::for_key(key);
            assert_eq!(redis::cluster_routing::Slot::new(Slot::of(key).0), Some(theirs), "{key}");
        }
    }

    #[test]
    fn all_keys_of_a_partition_lie_in_one_slot() {
        let keys = Keys::new("shop.", &[]);
        let mut slots = BTreeSet::new();
        for role in Role::KEYED {
            for index in 0..64 {
                let partition = PartitionId { role, index };
                let slot = Slot::of(&keys.meta(partition));
                slots.insert(slot);
                for key in keys.all(partition).into_iter().chain([keys.deaths(partition)]) {
                    assert_eq!(Slot::of(&key), slot, "{key}");
                }
            }
        }
        assert!(slots.len() > 16, "and not all partitions in the same one");
    }

    #[test]
    fn a_map_is_read_and_learns() {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), Value::SimpleString("id".into())]);
        let host = |name: &str| Value::BulkString(name.as_bytes().to_vec());
        let answer = Value::Array(vec![
            Value::Array(vec![Value::Int(0), Value::Int(99), node(host("10.0.0.1"), 7000), node(host("10.0.0.9"), 7000)]),
            Value::Array(vec![Value::Int(200), Value::Int(200), node(Value::Nil, 7001)]),
            Value::Array(vec![Value::Int(201), Value::Int(16_383), node(host(""), 7002)]),
        ]);
        let mut map = SlotMap::read(&answer, "asked").unwrap();
        for (slot, found) in [
            (0, Some(place("10.0.0.1", 7000))),
            (99, Some(place("10.0.0.1", 7000))),
            (100, None),
            (200, Some(place("asked", 7001))),
            (16_383, Some(place("asked", 7002))),
        ] {
            assert_eq!(map.at(Slot(slot)), found.as_ref(), "{slot}");
        }
        assert_eq!(map.masters().len(), 3);
        map.learn(Slot(5), place("10.0.0.2", 7000));
        assert_eq!(map.at(Slot(5)), Some(&place("10.0.0.2", 7000)));
        assert_eq!(map.at(Slot(6)), Some(&place("10.0.0.1", 7000)));
        for odd in [Value::Nil, Value::Array(Vec::new()), Value::Array(vec![Value::Int(1)]), Value::Okay] {
            assert_eq!(SlotMap::read(&odd, "asked"), None, "{odd:?}");
        }
    }

    #[test]
    fn a_redirect_says_where() {
        assert_eq!(moved("MOVED 3999 127.0.0.1:6381", "asked"), Some((Slot(3999), place("127.0.0.1", 6381))));
        assert_eq!(moved("MOVED 3999 :6381", "asked"), Some((Slot(3999), place("asked", 6381))));
        assert_eq!(moved("MOVED 3999 ?:6381", "asked"), Some((Slot(3999), place("asked", 6381))));
        assert_eq!(moved("MOVED 3999 ::1:6381", "asked"), Some((Slot(3999), place("::1", 6381))));
        assert_eq!(moved("ASK 3999 127.0.0.1:6381", "asked"), None);
        assert_eq!(moved("MOVED nowhere", "asked"), None);
    }
}
