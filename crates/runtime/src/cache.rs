//! Entities in memory. What an uncommitted batch has touched is never evicted: read again, it would come
//! back as it was before (PROTOCOL §5.5).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use waypost_types::{EntityId, Timestamp};

use crate::ports::Offset;

/// Entities, present or known to be absent.
#[derive(Debug)]
pub(crate) struct Cache<E> {
    slots: BTreeMap<EntityId, Slot<E>>,
    ages: BTreeSet<(u64, EntityId)>,
    age: u64,
}

#[derive(Debug)]
struct Slot<E> {
    value: Option<E>,
    bytes: Option<Bytes>,
    /// When the store, as of the last frame folded, would wake it.
    wakeup: Option<Timestamp>,
    /// The store has it once its offset is at least this.
    stored_at: Offset,
    age: u64,
}

// === impl Cache ===

impl<E> Default for Cache<E> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), ages: BTreeSet::new(), age: 0 }
    }
}

impl<E> Cache<E> {
    /// Whether it is known, present or not.
    pub(crate) fn knows(&self, id: &EntityId) -> bool {
        self.slots.contains_key(id)
    }

    /// The entity, if it is known and present.
    pub(crate) fn get(&self, id: &EntityId) -> Option<&E> {
        self.slots.get(id).and_then(|slot| slot.value.as_ref())
    }

    /// Its bytes; none where it is absent, or not known.
    pub(crate) fn bytes(&self, id: &EntityId) -> Option<&Bytes> {
        self.slots.get(id).and_then(|slot| slot.bytes.as_ref())
    }

    /// Its stored wake-up, as of the last frame folded; none where it has none, or is not known.
    pub(crate) fn wakeup(&self, id: &EntityId) -> Option<Timestamp> {
        self.slots.get(id).and_then(|slot| slot.wakeup)
    }

    /// Takes the entity out to be folded; its bytes stay. It has to be put back or changed.
    pub(crate) fn take(&mut self, id: &EntityId) -> Option<E> {
        self.slots.get_mut(id).and_then(|slot| slot.value.take())
    }

    /// Puts back what was taken out, as its bytes say.
    pub(crate) fn put_back(&mut self, id: &EntityId, value: Option<E>) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.value = value;
        }
    }

    /// Takes in what a read brought; what is in memory already overrides it.
    pub(crate) fn load(&mut self, id: &EntityId, value: Option<E>, bytes: Option<Bytes>, wakeup: Option<Timestamp>) {
        if !self.knows(id) {
            self.set(id, value, bytes, wakeup, 0);
        }
    }

    /// Takes in what a fold left behind; the store has it once it is at `stored_at`.
    pub(crate) fn change(&mut self, id: &EntityId, value: Option<E>, bytes: Option<Bytes>, stored_at: Offset) {
        let wakeup = self.wakeup(id);
        self.set(id, value, bytes, wakeup, stored_at);
    }

    /// Takes in a wake-up that a fold has set; the store has it once it is at `stored_at`.
    pub(crate) fn rearm(&mut self, id: &EntityId, wakeup: Option<Timestamp>, stored_at: Offset) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.wakeup = wakeup;
            slot.stored_at = slot.stored_at.max(stored_at);
        }
    }

    fn set(&mut self, id: &EntityId, value: Option<E>, bytes: Option<Bytes>, wakeup: Option<Timestamp>, stored_at: Offset) {
        self.age += 1;
        let slot = Slot { value, bytes, wakeup, stored_at, age: self.age };
        if let Some(old) = self.slots.insert(id.clone(), slot) {
            self.ages.remove(&(old.age, id.clone()));
        }
        self.ages.insert((self.age, id.clone()));
    }

    /// Forgets the oldest down to `keep`, except those that the store at `off` has not got.
    pub(crate) fn evict(&mut self, keep: usize, off: Offset, keep_uncommitted: bool) {
        let Some(excess) = self.slots.len().checked_sub(keep).filter(|n| *n > 0) else { return };
        let stored = |id: &EntityId| self.slots.get(id).is_none_or(|slot| slot.stored_at <= off);
        // Those that must stay are skipped; a few rounds of looking are enough, the rest is for the next time.
        let old: Vec<(u64, EntityId)> =
            self.ages.iter().take(2 * excess + 64).filter(|(_, id)| !keep_uncommitted || stored(id)).take(excess).cloned().collect();
        for (age, id) in old {
            self.slots.remove(&id);
            self.ages.remove(&(age, id));
        }
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
    fn memory_overrides_what_was_read() {
        let mut cache = Cache::default();
        cache.change(&id(1), Some("new"), None, 5);
        cache.load(&id(1), Some("old"), None, Some(Timestamp::ZERO));
        assert_eq!((cache.get(&id(1)), cache.wakeup(&id(1))), (Some(&"new"), None));
    }

    #[test]
    fn a_wakeup_outlives_changes_and_is_not_evicted_before_it_is_stored() {
        let mut cache = Cache::default();
        cache.load(&id(1), Some("read"), None, Some(Timestamp::from_millis(7)));
        cache.change(&id(1), Some("changed"), None, 3);
        assert_eq!(cache.wakeup(&id(1)), Some(Timestamp::from_millis(7)));
        cache.rearm(&id(1), None, 5);
        cache.evict(0, 4, true);
        assert!(cache.knows(&id(1)));
        cache.evict(0, 5, true);
        assert!(!cache.knows(&id(1)));
    }

    #[test]
    fn what_is_uncommitted_is_not_evicted() {
        let mut cache = Cache::default();
        cache.change(&id(1), Some("uncommitted"), None, 5);
        cache.change(&id(2), Some("committed"), None, 4);
        cache.load(&id(3), Some("read"), None, None);
        cache.evict(1, 4, true);
        assert_eq!([1, 2, 3].map(|key| cache.knows(&id(key))), [true, false, false]);
        cache.evict(0, 4, false);
        assert!(!cache.knows(&id(1)), "with the rule off, it is");
    }

    #[test]
    fn an_absent_entity_is_known_too() {
        let mut cache: Cache<()> = Cache::default();
        cache.load(&id(1), None, None, None);
        assert!(cache.knows(&id(1)));
        assert_eq!((cache.get(&id(1)), cache.bytes(&id(1))), (None, None));
    }
}
