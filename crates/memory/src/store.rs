//! Per-partition state in memory, with the replies of the store's scripts (PROTOCOL §5).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use waypost_runtime::digest::{Digest, Part};
use waypost_runtime::ports::{
    Audit, AuditReply, ClaimReply, Claimed, Commit, CommitReply, Deaths, Extent, InitReply, Install, Meta, Offset, Read, ReadReply,
    ReleaseReply, StoreError, Token,
};
use waypost_types::{EntityId, PartitionId, Timestamp};

/// Commits that [`MemoryStore::drop_last`] can still take back, a partition.
const HISTORY: usize = 256;

/// State of many partitions; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

/// Conditions that the store checks; all on, and switched off one by one by the simulator (PROTOCOL §16.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is the switch of one independent rule")]
pub struct Checks {
    /// A commit is made only at the expected offset.
    pub commit_offset: bool,
    /// A commit is made only by the owner.
    pub commit_token: bool,
    /// A read is answered only at one of the expected offsets.
    pub read_offset: bool,
    /// A read is answered only to the owner.
    pub read_token: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Self { commit_offset: true, commit_token: true, read_offset: true, read_token: true }
    }
}

#[derive(Clone, Debug, Default)]
struct Inner {
    refusing: Option<String>,
    checks: Checks,
    partitions: BTreeMap<PartitionId, Slot>,
    /// Beside the state: no rewind takes it back, no dump shows it.
    deaths: BTreeMap<PartitionId, Deaths>,
}

#[derive(Clone, Debug)]
struct Slot {
    state: Dump,
    /// Entities in each state bucket.
    counts: [u64; 16],
    corrupt: Option<String>,
    /// What each of the last commits replaced, newest last.
    undo: VecDeque<Undo>,
}

/// Who has a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody.
    None,
    /// A worker.
    Worker(Token),
    /// An operation of this name.
    Frozen(String),
}

/// Everything under the keys of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Fixed fields.
    pub install: Install,
    /// By claim.
    pub own: Owner,
    /// First offset not folded.
    pub off: Offset,
    /// By commit.
    pub meta: Meta,
    /// `x:` and `i:` fields.
    pub sequences: BTreeMap<String, [u8; 16]>,
    /// Wake-ups.
    pub timers: BTreeMap<EntityId, Timestamp>,
    /// Blobs.
    pub entities: BTreeMap<EntityId, Bytes>,
}

#[derive(Clone, Debug)]
struct Undo {
    off: Offset,
    meta: Meta,
    own: Owner,
    sequences: Vec<(String, Option<[u8; 16]>)>,
    timers: Vec<(EntityId, Option<Timestamp>)>,
    entities: Vec<(EntityId, Option<Bytes>)>,
}

// === impl MemoryStore ===

impl MemoryStore {
    /// An empty store: every claim answers `Uninit` until `init`.
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let inner = self.inner();
        match &inner.refusing {
            Some(why) => Err(StoreError::Refused(why.clone())),
            None => Ok(inner),
        }
    }

    /// Creates the partition's state.
    pub fn init(&self, partition: PartitionId, install: &Install) -> Result<InitReply, StoreError> {
        let mut inner = self.ready()?;
        if inner.partitions.contains_key(&partition) {
            return Ok(InitReply::Exists);
        }
        let state = Dump {
            install: install.clone(),
            own: Owner::None,
            off: 0,
            meta: Meta::default(),
            sequences: BTreeMap::new(),
            timers: BTreeMap::new(),
            entities: BTreeMap::new(),
        };
        inner.partitions.insert(partition, Slot::new(state));
        Ok(InitReply::Created)
    }

    /// Takes the partition for `token`.
    pub fn claim(&self, partition: PartitionId, token: Token, install: &Install) -> Result<ClaimReply, StoreError> {
        let mut inner = self.ready()?;
        let Some(slot) = inner.partitions.get_mut(&partition) else { return Ok(ClaimReply::Uninit) };
        let state = &mut slot.state;
        if state.install != *install {
            return Ok(ClaimReply::Mismatch(state.install.clone()));
        }
        let previous = match &state.own {
            Owner::Frozen(operation) => return Ok(ClaimReply::Frozen(operation.clone())),
            Owner::None => None,
            Owner::Worker(token) => Some(*token),
        };
        if let Some(key) = &slot.corrupt {
            return Ok(ClaimReply::Corrupt(key.clone()));
        }
        state.own = Owner::Worker(token);
        let sequences = state.sequences.iter().map(|(field, value)| (field.clone(), *value)).collect();
        Ok(ClaimReply::Ok(Box::new(Claimed { off: state.off, meta: state.meta.clone(), previous, sequences })))
    }

    /// Gives it back.
    pub fn release(&self, partition: PartitionId, token: Token) -> Result<ReleaseReply, StoreError> {
        let mut inner = self.ready()?;
        match inner.partitions.get_mut(&partition) {
            Some(slot) if slot.state.own == Owner::Worker(token) => {
                slot.state.own = Owner::None;
                Ok(ReleaseReply::Ok)
            }
            Some(_) | None => Ok(ReleaseReply::Fenced),
        }
    }

    /// Commits, if token and offset are the expected ones.
    pub fn commit(&self, partition: PartitionId, commit: &Commit) -> Result<CommitReply, StoreError> {
        let mut inner = self.ready()?;
        let checks = inner.checks;
        let Some(slot) = inner.partitions.get_mut(&partition) else { return Ok(CommitReply::Uninit) };
        if checks.commit_token && slot.state.own != Owner::Worker(commit.token) {
            return Ok(CommitReply::Fenced);
        }
        if checks.commit_offset && slot.state.off != commit.expected {
            let off = slot.state.off;
            return Ok(if off == commit.next { CommitReply::Already } else { CommitReply::Moved(off) });
        }
        if !commit.is_sound() {
            return Ok(CommitReply::BadArg);
        }
        slot.apply(commit);
        Ok(CommitReply::Ok)
    }

    /// Reads, if token and offset are the expected ones.
    pub fn read(&self, partition: PartitionId, read: &Read) -> Result<ReadReply, StoreError> {
        let inner = self.ready()?;
        let Some(Slot { state, counts, .. }) = inner.partitions.get(&partition) else { return Ok(ReadReply::Moved) };
        let owned = state.own == Owner::Worker(read.token) || !inner.checks.read_token;
        let expected = read.expected.contains(&state.off) || !inner.checks.read_offset;
        if !owned || !expected {
            return Ok(ReadReply::Moved);
        }
        let entities = read.entities.iter().map(|id| state.entities.get(id).cloned()).collect();
        let wakeups = read.entities.iter().map(|id| state.timers.get(id).copied()).collect();
        let mut timers = Vec::new();
        if let Some((until, count)) = read.timers {
            timers = state.timers.iter().filter(|(_, due)| **due <= until).map(|(id, due)| (*due, id.clone())).collect();
            timers.sort();
            timers.truncate(count);
        }
        let buckets: BTreeSet<u8> = read.entities.iter().map(EntityId::bucket).collect();
        let mut counts: Vec<(Part, u64)> = buckets.into_iter().map(|b| (Part::Bucket(b), counts[usize::from(b)])).collect();
        counts.push((Part::Timers, state.timers.len() as u64));
        let extent = Extent { off: state.off, digest: state.meta.digest.clone(), counts };
        Ok(ReadReply::Ok { entities, wakeups, timers, extent })
    }

    /// Adds up one part as it is stored.
    pub fn audit(&self, partition: PartitionId, part: Part) -> Result<AuditReply, StoreError> {
        let inner = self.ready()?;
        let Some(Slot { state, .. }) = inner.partitions.get(&partition) else { return Ok(AuditReply::Uninit) };
        let mut sums = Digest::default();
        match part {
            Part::Bucket(bucket) => {
                let there = state.entities.iter().filter(|(id, _)| id.bucket() == bucket);
                there.for_each(|(id, bytes)| sums.entity(id, None, Some(bytes)));
            }
            Part::Timers => state.timers.iter().for_each(|(id, due)| sums.timer(id, None, Some(*due))),
            Part::Sequences => state.sequences.iter().for_each(|(field, value)| sums.sequence(field, None, *value)),
        }
        let own = if let Owner::Worker(token) = &state.own { Some(*token) } else { None };
        Ok(AuditReply::Ok(Audit { own, off: state.off, digest: state.meta.digest.clone(), sum: sums.sum(part) }))
    }

    /// What was last noted of the partition's deaths.
    pub fn deaths(&self, partition: PartitionId) -> Result<Option<Deaths>, StoreError> {
        Ok(self.ready()?.deaths.get(&partition).cloned())
    }

    /// Notes them, or forgets them.
    pub fn note_deaths(&self, partition: PartitionId, deaths: Option<Deaths>) -> Result<(), StoreError> {
        set(&mut self.ready()?.deaths, &partition, deaths);
        Ok(())
    }

    // ---- levers ---------------------------------------------------------------------------------

    /// Everything stored for the partition.
    pub fn dump(&self, partition: PartitionId) -> Option<Dump> {
        self.inner().partitions.get(&partition).map(|slot| slot.state.clone())
    }

    /// First offset of the partition that is not folded, as stored.
    pub fn offset(&self, partition: PartitionId) -> Option<Offset> {
        self.inner().partitions.get(&partition).map(|slot| slot.state.off)
    }

    /// The earliest wake-up of any partition behind `after`.
    pub fn earliest_timer(&self, after: Option<Timestamp>) -> Option<Timestamp> {
        let inner = self.inner();
        inner.partitions.values().flat_map(|slot| slot.state.timers.values()).copied().filter(|due| Some(*due) > after).min()
    }

    /// Partitions that have state.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.inner().partitions.keys().copied().collect()
    }

    /// Lever: puts an older dump in place (a restored backup); its owner comes with it.
    pub fn restore(&self, partition: PartitionId, dump: Dump) {
        self.inner().partitions.insert(partition, Slot::new(dump));
    }

    /// Lever: loses the last `k` commits, as a failover does; says how many were there to lose.
    /// The owner goes back only as far as the claim before the lost commits.
    pub fn drop_last(&self, partition: PartitionId, k: usize) -> usize {
        let mut inner = self.inner();
        let Some(slot) = inner.partitions.get_mut(&partition) else { return 0 };
        let mut dropped = 0;
        while dropped < k {
            let Some(undo) = slot.undo.pop_back() else { break };
            slot.revert(undo);
            dropped += 1;
        }
        dropped
    }

    /// Lever: a second store with the same content, as after a split brain.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { inner: Arc::new(Mutex::new(self.inner().clone())) }
    }

    /// Lever: loses one entity in silence, which only the digest can find.
    pub fn delete_field(&self, partition: PartitionId, entity: &EntityId) -> bool {
        self.inner().partitions.get_mut(&partition).is_some_and(|slot| slot.set(entity, None).is_some())
    }

    /// Lever: loses one wake-up in silence.
    pub fn delete_timer(&self, partition: PartitionId, entity: &EntityId) -> bool {
        self.inner().partitions.get_mut(&partition).is_some_and(|slot| slot.state.timers.remove(entity).is_some())
    }

    /// Lever: loses one sequence in silence.
    pub fn delete_sequence(&self, partition: PartitionId, field: &str) -> bool {
        self.inner().partitions.get_mut(&partition).is_some_and(|slot| slot.state.sequences.remove(field).is_some())
    }

    /// Lever: loses the partition whole.
    pub fn forget(&self, partition: PartitionId) {
        self.inner().partitions.remove(&partition);
    }

    /// Lever: checks less.
    pub fn check(&self, checks: Checks) {
        self.inner().checks = checks;
    }

    /// Lever: every call is refused with this text, until `None`.
    pub fn refuse(&self, why: Option<&str>) {
        self.inner().refusing = why.map(ToOwned::to_owned);
    }

    /// Lever: a key of the partition has the wrong type, until `None`.
    pub fn corrupt(&self, partition: PartitionId, key: Option<&str>) {
        if let Some(slot) = self.inner().partitions.get_mut(&partition) {
            slot.corrupt = key.map(ToOwned::to_owned);
        }
    }

    /// Freezes the partition for an operation; its owner's next commit is `Fenced`.
    pub fn freeze(&self, partition: PartitionId, operation: &str) {
        self.own(partition, Owner::Frozen(operation.to_owned()));
    }

    /// Ends a freeze.
    pub fn thaw(&self, partition: PartitionId) {
        self.own(partition, Owner::None);
    }

    fn own(&self, partition: PartitionId, owner: Owner) {
        if let Some(slot) = self.inner().partitions.get_mut(&partition) {
            slot.state.own = owner;
        }
    }
}

// === impl Slot ===

impl Slot {
    fn new(state: Dump) -> Self {
        let mut counts = [0; 16];
        state.entities.keys().for_each(|id| counts[usize::from(id.bucket())] += 1);
        Self { state, counts, corrupt: None, undo: VecDeque::new() }
    }

    /// Puts an entity in its place, or takes it away; what was there.
    fn set(&mut self, id: &EntityId, blob: Option<Bytes>) -> Option<Bytes> {
        let count = &mut self.counts[usize::from(id.bucket())];
        *count += u64::from(blob.is_some());
        let before = set(&mut self.state.entities, id, blob);
        *count -= u64::from(before.is_some());
        before
    }

    fn apply(&mut self, commit: &Commit) {
        let state = &mut self.state;
        let mut undo = Undo {
            off: state.off,
            meta: std::mem::replace(&mut state.meta, commit.meta.clone()),
            own: state.own.clone(),
            sequences: Vec::with_capacity(commit.sequences.len()),
            timers: Vec::with_capacity(commit.timers.len()),
            entities: Vec::with_capacity(commit.entities.len()),
        };
        state.off = commit.next;
        for (id, due) in &commit.timers {
            undo.timers.push((id.clone(), set(&mut state.timers, id, *due)));
        }
        for (field, value) in &commit.sequences {
            undo.sequences.push((field.clone(), set(&mut state.sequences, field, Some(*value))));
        }
        for (id, blob) in &commit.entities {
            undo.entities.push((id.clone(), self.set(id, blob.clone())));
        }
        if self.undo.len() == HISTORY {
            self.undo.pop_front();
        }
        self.undo.push_back(undo);
    }

    fn revert(&mut self, undo: Undo) {
        let state = &mut self.state;
        state.off = undo.off;
        state.meta = undo.meta;
        state.own = undo.own;
        // Backwards, since a commit that names a field twice changed it twice.
        for (field, value) in undo.sequences.into_iter().rev() {
            set(&mut state.sequences, &field, value);
        }
        for (id, due) in undo.timers.into_iter().rev() {
            set(&mut state.timers, &id, due);
        }
        for (id, blob) in undo.entities.into_iter().rev() {
            self.set(&id, blob);
        }
    }
}

/// Sets or removes; returns what was there.
fn set<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    }
}

#[cfg(test)]
mod tests;
