//! The digest of a partition's stored state: of each of 18 parts (the state buckets, the timers, the sequences)
//! a wrapping sum of 128-bit hashes, and how many entries it has (PROTOCOL §13.4).
//!
//! A loss that is not the end of the stream leaves the offset right and the state wrong: an evicted key, a
//! deleted field. Each batch subtracts what it replaces and adds what it leaves, so the sums do not depend on
//! how batches were cut, commits coalesce, and one part can be compared with its sum without the others.
//! The counts can be compared at every read, since a store knows the size of a key without looking through it:
//! nothing that was lost is ever taken for what never was.

use std::fmt;

use bytes::Bytes;
use waypost_types::{EntityId, Timestamp, hash::hash128};

use crate::ports::Offset;

/// State buckets, timers, sequences.
const PARTS: usize = 18;

/// What to do about a loss.
pub const RESTORE: &str = "a part of the state is lost; restore its shard";

/// What is wrong with bytes that are no digest.
pub fn unreadable(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() { "it has no digest" } else { "its digest is of another version of Waypost" }
}

/// What has a sum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// One of the 16 state buckets.
    Bucket(u8),
    /// All wake-ups.
    Timers,
    /// All sequences.
    Sequences,
}

/// The sum and the number of entries of each part.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Digest {
    sums: [u128; PARTS],
    counts: [u64; PARTS],
}

// === impl Part ===

impl Part {
    /// All of them, in the order in which the digest holds them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..16).map(Self::Bucket).chain([Self::Timers, Self::Sequences])
    }

    fn place(self) -> usize {
        match self {
            Self::Bucket(bucket) => usize::from(bucket & 15),
            Self::Timers => 16,
            Self::Sequences => 17,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(bucket) => write!(f, "state bucket {bucket:x}"),
            Self::Timers => f.write_str("the timers"),
            Self::Sequences => f.write_str("the sequences"),
        }
    }
}

// === impl Digest ===

impl Digest {
    /// From its stored form, as of `off`; nothing is stored before the first commit. None: it is no digest.
    pub fn stored(bytes: &[u8], off: Offset) -> Option<Self> {
        if bytes.is_empty() && off == 0 {
            return Some(Self::default());
        }
        let (sums, counts) = bytes.split_at_checked(16 * PARTS)?;
        let sums: [[u8; 16]; PARTS] = sums.as_chunks().0.try_into().ok()?;
        let (counts, rest) = counts.as_chunks();
        let counts: [[u8; 8]; PARTS] = counts.try_into().ok().filter(|_| rest.is_empty())?;
        Some(Self { sums: sums.map(u128::from_be_bytes), counts: counts.map(u64::from_be_bytes) })
    }

    /// Of a whole state.
    pub fn of<'a>(
        entities: impl IntoIterator<Item = (&'a EntityId, &'a Bytes)>,
        timers: impl IntoIterator<Item = (&'a EntityId, &'a Timestamp)>,
        sequences: impl IntoIterator<Item = (&'a String, &'a [u8; 16])>,
    ) -> Self {
        let mut digest = Self::default();
        entities.into_iter().for_each(|(id, bytes)| digest.entity(id, None, Some(bytes)));
        timers.into_iter().for_each(|(id, due)| digest.timer(id, None, Some(*due)));
        sequences.into_iter().for_each(|(field, value)| digest.sequence(field, None, *value));
        digest
    }

    /// Stored form: 432 bytes, the sums and then the counts.
    pub fn to_bytes(&self) -> Bytes {
        let (sums, counts) = (self.sums.map(u128::to_be_bytes), self.counts.map(u64::to_be_bytes));
        [sums.as_flattened(), counts.as_flattened()].concat().into()
    }

    /// The sum of one part.
    pub fn sum(&self, part: Part) -> u128 {
        self.sums[part.place()]
    }

    /// How many entries one part has.
    pub fn count(&self, part: Part) -> u64 {
        self.counts[part.place()]
    }

    /// An entity is replaced, created or deleted.
    pub fn entity(&mut self, id: &EntityId, before: Option<&Bytes>, after: Option<&Bytes>) {
        let hash = |bytes: &Bytes| entry(id.as_bytes(), bytes);
        self.change(Part::Bucket(id.bucket()), before.map(hash), after.map(hash));
    }

    /// A wake-up is replaced, set or removed.
    pub fn timer(&mut self, id: &EntityId, before: Option<Timestamp>, after: Option<Timestamp>) {
        let hash = |due: Timestamp| entry(id.as_bytes(), &due.millis().to_be_bytes());
        self.change(Part::Timers, before.map(hash), after.map(hash));
    }

    /// A sequence is replaced or begun.
    pub fn sequence(&mut self, field: &str, before: Option<[u8; 16]>, after: [u8; 16]) {
        let hash = |value: [u8; 16]| entry(field.as_bytes(), &value);
        self.change(Part::Sequences, before.map(hash), Some(hash(after)));
    }

    fn change(&mut self, part: Part, before: Option<u128>, after: Option<u128>) {
        let (sum, count) = (&mut self.sums[part.place()], &mut self.counts[part.place()]);
        *sum = sum.wrapping_sub(before.unwrap_or(0)).wrapping_add(after.unwrap_or(0));
        *count = count.wrapping_sub(before.is_some().into()).wrapping_add(after.is_some().into());
    }
}

/// Hash of one field and its value. The key's length stands before it, so that no other split of the same
/// bytes has the same hash.
fn entry(key: &[u8], value: &[u8]) -> u128 {
    hash128(&[&(key.len() as u64).to_be_bytes(), key, value])
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sums.iter().zip(self.counts).map(|(sum, count)| format!("{count} {sum:032x}"))).finish()
    }
}

#[cfg(test)]
mod tests {
    use waypost_types::WorkspaceId;

    use super::*;

    fn id(key: u8) -> EntityId {
        EntityId::new(WorkspaceId::new(1), b'p', &[key])
    }

    #[test]
    fn steps_in_any_order_and_size_make_the_digest_of_the_state() {
        let bytes = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        let mut digest = Digest::default();
        digest.entity(&id(1), None, Some(&bytes[0]));
        digest.entity(&id(2), None, Some(&bytes[0]));
        digest.entity(&id(1), Some(&bytes[0]), Some(&bytes[1]));
        digest.entity(&id(2), Some(&bytes[0]), None);
        digest.timer(&id(1), None, Some(Timestamp::from_millis(5)));
        digest.timer(&id(1), Some(Timestamp::from_millis(5)), Some(Timestamp::from_millis(6)));
        digest.sequence("x:sender:1", None, [1; 16]);
        digest.sequence("x:sender:1", Some([1; 16]), [2; 16]);
        let whole = Digest::of([(&id(1), &bytes[1])], [(&id(1), &Timestamp::from_millis(6))], [(&"x:sender:1".to_owned(), &[2; 16])]);
        assert_eq!(digest, whole);
        assert_eq!(Digest::stored(&digest.to_bytes(), 9), Some(digest.clone()));
        let counts = [Part::Bucket(id(1).bucket()), Part::Timers, Part::Sequences].map(|part| digest.count(part));
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn whatever_is_missing_shows_in_its_part_alone() {
        let mut digest = Digest::default();
        digest.entity(&id(1), None, Some(&Bytes::from_static(b"one")));
        let differs: Vec<Part> = Part::all().filter(|part| digest.sum(*part) != 0).collect();
        assert_eq!(differs, [Part::Bucket(id(1).bucket())]);
        digest.timer(&id(1), None, Some(Timestamp::ZERO));
        assert_ne!(digest.sum(Part::Timers), 0, "a wake-up at 0 is not the same as none");
    }

    #[test]
    fn nothing_stored_is_zero_only_before_the_first_commit() {
        assert_eq!(Digest::stored(&[], 0), Some(Digest::default()));
        assert_eq!(Digest::stored(&[], 1), None);
        assert_eq!(Digest::stored(&[0; 431], 1), None);
        assert_eq!(Digest::stored(&[0; 440], 1), None);
        assert_eq!(Digest::stored(&[0; 432], 1), Some(Digest::default()));
    }
}
