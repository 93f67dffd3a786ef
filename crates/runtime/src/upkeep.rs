//! What administration may do to a store: look at a partition whole, keep everybody off it, put another state in
//! its place (PROTOCOL §5.1, §13.3). Workers never do any of it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use waypost_types::{EntityId, PartitionId, Timestamp};

use crate::{
    digest::{self, Digest, Part},
    ports::{ClaimReply, Claimed, Commit, Extent, Install, Meta, Offset, Read, ReadReply, Store, StoreError, Token},
};

/// Everything under the keys of one partition but its owner, at one offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose.
    pub install: Install,
    /// First offset not folded.
    pub off: Offset,
    /// Meta at that offset.
    pub meta: Meta,
    /// `x:` and `i:` fields.
    pub sequences: BTreeMap<String, [u8; 16]>,
    /// Wake-ups.
    pub timers: BTreeMap<EntityId, Timestamp>,
    /// Blobs.
    pub entities: BTreeMap<EntityId, Bytes>,
}

/// What a partition says of itself without its entities and timers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose.
    pub install: Install,
    /// The operation that has it frozen, if one has.
    pub frozen: Option<String>,
    /// First offset not folded.
    pub off: Offset,
    /// Meta at that offset.
    pub meta: Meta,
    /// `x:` and `i:` fields.
    pub sequences: BTreeMap<String, [u8; 16]>,
}

/// Answer of a freeze, a thaw, a replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpkeepReply {
    /// Done.
    Ok,
    /// Another operation has the partition, or, for a thaw or a replacement, none has; nothing was written.
    /// What stands in its place: the other's name, empty for none.
    Held(String),
}

/// A store as administration sees it.
#[async_trait]
pub trait Upkeep: Store {
    /// Meta and sequences; none where the partition has no state.
    async fn head(&self, partition: PartitionId) -> Result<Option<Head>, StoreError>;
    /// Everything, at one instant; none where the partition has no state. Holds the store for as long as it
    /// takes to read the partition.
    async fn snapshot(&self, partition: PartitionId) -> Result<Option<Snapshot>, StoreError>;
    /// Takes the partition for `operation`: its owner's next commit is `Fenced`, a claim `Frozen`. The same
    /// operation may do it again. A partition without state can be frozen too, to be given one.
    async fn freeze(&self, partition: PartitionId, operation: &str) -> Result<UpkeepReply, StoreError>;
    /// Gives it back, if `operation` has it.
    async fn thaw(&self, partition: PartitionId, operation: &str) -> Result<UpkeepReply, StoreError>;
    /// Puts `snapshot` in the place of whatever is there and thaws, if `operation` has the partition. Cut short
    /// in the middle the partition stays frozen, and the same call again completes it.
    async fn replace(&self, partition: PartitionId, operation: &str, snapshot: &Snapshot) -> Result<UpkeepReply, StoreError>;
}

// === impl Snapshot ===

impl Snapshot {
    /// What `init` creates.
    pub fn empty(install: Install) -> Self {
        let (sequences, timers, entities) = Default::default();
        Self { install, off: 0, meta: Meta::default(), sequences, timers, entities }
    }

    /// The sums of what is here.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.entities, &self.timers, &self.sequences)
    }

    /// Why this is not what was committed, if it is not.
    pub fn lost(&self) -> Option<String> {
        let Some(stored) = Digest::stored(&self.meta.digest, self.off) else {
            return Some(digest::unreadable(&self.meta.digest).to_owned());
        };
        let there = self.digest();
        let part = Part::all().find(|part| stored.sum(*part) != there.sum(*part))?;
        Some(format!("{part}: not what its digest says"))
    }

    /// As a claim answers it.
    pub fn claimed(&self) -> ClaimReply {
        let sequences = self.sequences.iter().map(|(field, value)| (field.clone(), *value)).collect();
        ClaimReply::Ok(Box::new(Claimed { off: self.off, meta: self.meta.clone(), previous: None::<Token>, sequences }))
    }

    /// As a read answers it whose offset fits.
    pub fn read(&self, read: &Read) -> ReadReply {
        if !read.expected.contains(&self.off) {
            return ReadReply::Moved;
        }
        let entities = read.entities.iter().map(|id| self.entities.get(id).cloned()).collect();
        let wakeups = read.entities.iter().map(|id| self.timers.get(id).copied()).collect();
        let mut timers = Vec::new();
        if let Some((until, count)) = read.timers {
            timers = self.timers.iter().filter(|(_, due)| **due <= until).map(|(id, due)| (*due, id.clone())).collect();
            timers.sort();
            timers.truncate(count);
        }
        ReadReply::Ok { entities, wakeups, timers, extent: Extent::default() }
    }

    /// What a commit leaves behind.
    pub fn apply(&mut self, commit: &Commit) {
        self.off = commit.next;
        self.meta = commit.meta.clone();
        self.sequences.extend(commit.sequences.iter().cloned());
        for (id, due) in &commit.timers {
            match due {
                Some(due) => self.timers.insert(id.clone(), *due),
                None => self.timers.remove(id),
            };
        }
        for (id, blob) in &commit.entities {
            match blob {
                Some(blob) => self.entities.insert(id.clone(), blob.clone()),
                None => self.entities.remove(id),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use waypost_types::WorkspaceId;

    use super::*;

    #[test]
    fn a_lost_part_is_named_and_nothing_is_whole_without_a_digest() {
        let id = EntityId::new(WorkspaceId::new(1), b'p', b"a");
        let mut whole = Snapshot { off: 3, ..Snapshot::empty(Install { id: "00".repeat(16), layout: 1, format: 1 }) };
        whole.entities.insert(id.clone(), Bytes::from_static(b"blob"));
        whole.timers.insert(id.clone(), Timestamp::from_millis(5));
        assert_eq!(whole.lost().unwrap(), "it has no digest");
        whole.meta.digest = Bytes::from(vec![0; 288]);
        assert_eq!(whole.lost().unwrap(), "its digest is of another version of Waypost");
        whole.meta.digest = whole.digest().to_bytes();
        assert_eq!(whole.lost(), None);
        let mut sparse = whole.clone();
        sparse.timers.clear();
        assert_eq!(sparse.lost().unwrap(), "the timers: not what its digest says");
        whole.entities.clear();
        assert!(whole.lost().unwrap().starts_with(&Part::Bucket(id.bucket()).to_string()));
    }
}
