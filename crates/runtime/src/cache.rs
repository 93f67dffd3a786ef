//! Entities in memory. What an uncommitted batch has touched is never evicted: read again, it would come
//! back as it was before (PROTOCOL §5.5).

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use foldhash::fast::RandomState;
use waypost_types::{EntityId, Timestamp};

use crate::ports::Offset;

/// Entities, present or known to be absent.
#[derive(Debug)]
pub(crate) struct Cache<E> {
    slots: HashMap<EntityId, Slot<E>, RandomState>,
    /// By age, the oldest first. What has changed again since stands here more than once; its last place counts.
    ages: VecDeque<(u64, EntityId)>,
    /// Grows with every eviction, which comes with every batch.
    age: u64,
}

#[derive(Debug)]
struct Slot<E> {
    value: Option<E>,
    /// What the value was when they were made.
    bytes: Option<Bytes>,
    /// The value has changed since.
    is_stale: bool,
    /// When the store, as of the last frame folded, would wake it.
    wakeup: Option<Timestamp>,
    /// The store has it once its offset is at least this.
    stored_at: Offset,
    age: u64,
}

/// What a change found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Was {
    /// Something with these bytes, or nothing.
    Stored(Option<Bytes>),
    /// Something that had changed since its bytes were made.
    Stale,
}

// === impl Cache ===

impl<E> Default for Cache<E> {
    fn default() -> Self {
        Self { slots: HashMap::default(), ages: VecDeque::new(), age: 0 }
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

    /// Its bytes when they were last made; none where it is absent, or not known.
    pub(crate) fn bytes(&self, id: &EntityId) -> Option<&Bytes> {
        self.slots.get(id).and_then(|slot| slot.bytes.as_ref())
    }

    /// Whether it has changed since its bytes were made.
    pub(crate) fn is_stale(&self, id: &EntityId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.is_stale)
    }

    /// Its bytes, made anew where it has changed since they were.
    pub(crate) fn refresh(&mut self, id: &EntityId, encode: impl FnOnce(&E) -> Option<Bytes>) -> Option<&Bytes> {
        let slot = self.slots.get_mut(id)?;
        if std::mem::take(&mut slot.is_stale) {
            slot.bytes = slot.value.as_ref().and_then(encode);
        }
        slot.bytes.as_ref()
    }

    /// Its stored wake-up, as of the last frame folded; none where it has none, or is not known.
    pub(crate) fn wakeup(&self, id: &EntityId) -> Option<Timestamp> {
        self.slots.get(id).and_then(|slot| slot.wakeup)
    }

    /// Takes the entity out to be folded; its bytes stay. It has to be put back or changed.
    pub(crate) fn take(&mut self, id: &EntityId) -> Option<E> {
        self.slots.get_mut(id).and_then(|slot| slot.value.take())
    }

    /// Puts back what was taken out, as it was or made anew; it counts as no change.
    pub(crate) fn put_back(&mut self, id: &EntityId, value: Option<E>) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.value = value;
        }
    }

    /// Takes in what a read brought; what is in memory already overrides it.
    pub(crate) fn load(&mut self, id: &EntityId, value: Option<E>, bytes: Option<Bytes>, wakeup: Option<Timestamp>) {
        if !self.knows(id) {
            self.slots.insert(id.clone(), Slot { value, bytes, is_stale: false, wakeup, stored_at: 0, age: self.age });
            self.note_age(id);
        }
    }

    /// Takes in what a fold left behind; the store has it once it is at `stored_at`.
    pub(crate) fn change(&mut self, id: &EntityId, value: Option<E>, stored_at: Offset) -> Was {
        let age = self.age;
        let Some(slot) = self.slots.get_mut(id) else {
            self.slots.insert(id.clone(), Slot { value, bytes: None, is_stale: true, wakeup: None, stored_at, age });
            self.note_age(id);
            return Was::Stored(None);
        };
        slot.value = value;
        slot.stored_at = stored_at;
        let was = if std::mem::replace(&mut slot.is_stale, true) { Was::Stale } else { Was::Stored(slot.bytes.clone()) };
        if std::mem::replace(&mut slot.age, age) != age {
            self.note_age(id);
        }
        was
    }

    /// Takes in a wake-up that a fold has set; the store has it once it is at `stored_at`.
    pub(crate) fn rearm(&mut self, id: &EntityId, wakeup: Option<Timestamp>, stored_at: Offset) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.wakeup = wakeup;
            slot.stored_at = slot.stored_at.max(stored_at);
        }
    }

    /// The entity is of this age now.
    fn note_age(&mut self, id: &EntityId) {
        /// Below this there is nothing to gain.
        const FEW: usize = 64;
        if self.ages.len() >= FEW.max(2 * self.slots.len()) {
            let slots = &self.slots;
            self.ages.retain(|(age, id)| slots.get(id).is_some_and(|slot| slot.age == *age));
        }
        self.ages.push_back((self.age, id.clone()));
    }

    /// Forgets the oldest down to `keep`, except those that the store at `off` has not got.
    pub(crate) fn evict(&mut self, keep: usize, off: Offset, keep_uncommitted: bool) {
        self.age += 1;
        let mut excess = self.slots.len().saturating_sub(keep);
        // Those that must stay are skipped; a few rounds of looking are enough, the rest is for the next time.
        let mut looks = 2 * excess + 64;
        let mut stay = Vec::new();
        while excess > 0 && looks > 0 {
            let Some((age, id)) = self.ages.pop_front() else { break };
            let Some(slot) = self.slots.get(&id).filter(|slot| slot.age == age) else { continue };
            looks -= 1;
            if keep_uncommitted && slot.stored_at > off {
                stay.push((age, id));
            } else {
                self.slots.remove(&id);
                excess -= 1;
            }
        }
        for place in stay.into_iter().rev() {
            self.ages.push_front(place);
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
        cache.change(&id(1), Some("new"), 5);
        cache.load(&id(1), Some("old"), None, Some(Timestamp::ZERO));
        assert_eq!((cache.get(&id(1)), cache.wakeup(&id(1))), (Some(&"new"), None));
    }

    #[test]
    fn a_wakeup_outlives_changes_and_is_not_evicted_before_it_is_stored() {
        let mut cache = Cache::default();
        cache.load(&id(1), Some("read"), None, Some(Timestamp::from_millis(7)));
        cache.change(&id(1), Some("changed"), 3);
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
        cache.change(&id(1), Some("uncommitted"), 5);
        cache.change(&id(2), Some("committed"), 4);
        cache.load(&id(3), Some("read"), None, None);
        cache.evict(1, 4, true);
        assert_eq!([1, 2, 3].map(|key| cache.knows(&id(key))), [true, false, false]);
        cache.evict(0, 4, false);
        assert!(!cache.knows(&id(1)), "with the rule off, it is");
    }

    #[test]
    fn bytes_are_made_once_for_many_changes() {
        let mut cache = Cache::default();
        let made = |value: &'static str| Some(Bytes::from_static(value.as_bytes()));
        cache.load(&id(1), Some("read"), made("read"), None);
        assert_eq!(cache.change(&id(1), Some("once"), 1), Was::Stored(made("read")));
        assert_eq!(cache.change(&id(1), Some("twice"), 2), Was::Stale, "the bytes are of before the first change");
        assert_eq!((cache.bytes(&id(1)).cloned(), cache.is_stale(&id(1))), (made("read"), true));
        assert_eq!(cache.refresh(&id(1), |value| made(value)).cloned(), made("twice"));
        assert_eq!(cache.refresh(&id(1), |_| unreachable!()).cloned(), made("twice"));
        assert_eq!(cache.change(&id(1), None, 3), Was::Stored(made("twice")));
        assert_eq!(cache.refresh(&id(1), |value| made(value)), None);
    }

    #[test]
    fn an_absent_entity_is_known_too() {
        let mut cache: Cache<()> = Cache::default();
        cache.load(&id(1), None, None, None);
        assert!(cache.knows(&id(1)));
        assert_eq!((cache.get(&id(1)), cache.bytes(&id(1))), (None, None));
    }
}
