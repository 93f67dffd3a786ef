//! The next minutes of a partition's wake-ups, read from the store and overlaid with what was changed
//! since (PROTOCOL §8.4, §8.5).
//!
//! A stored wake-up is an instant at or before the entity's earliest due: it is written when the earliest
//! due moves earlier, and when the entity is woken. So a deadline that every event pushes back costs no write.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use waypost_types::{EntityId, Span, Timestamp};

use crate::ports::Offset;

/// Wake-ups in memory.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    entries: BTreeMap<EntityId, Timestamp>,
    order: BTreeSet<(Timestamp, EntityId)>,
    /// Changed by the frame at this offset; overrides what a read brings.
    fresh: BTreeMap<EntityId, Offset>,
    /// Every wake-up due at or before this is here.
    complete: Option<Timestamp>,
    /// Woken in vain, with the absent due they wait for: no reason to propose a tick by the clock alone.
    asleep: BTreeMap<EntityId, Timestamp>,
    /// Those that are not asleep.
    alarms: BTreeSet<(Timestamp, EntityId)>,
    asleep_order: BTreeSet<(Timestamp, EntityId)>,
}

// === impl Timers ===

impl Timers {
    /// Up to when every wake-up is here; none before the first load.
    pub(crate) fn complete_until(&self) -> Option<Timestamp> {
        self.complete
    }

    /// No wake-up is earlier than this; none before the first load.
    pub(crate) fn earliest(&self) -> Option<Timestamp> {
        let unknown = self.complete?.plus(Span::from_millis(1));
        Some(self.order.first().map_or(unknown, |(due, _)| unknown.min(*due)))
    }

    /// How many to ask for so that a page of unknown ones is among them.
    pub(crate) fn ask_for(&self, page: usize) -> usize {
        page.saturating_add(self.entries.len()).saturating_add(self.fresh.len())
    }

    /// Takes in what a read of `count` due until `until` brought.
    pub(crate) fn load(&mut self, until: Timestamp, count: usize, read: Vec<(Timestamp, EntityId)>) {
        let complete = match read.last() {
            // A full page may have cut others due at its last instant.
            Some((last, _)) if read.len() >= count => Timestamp::from_millis(last.millis().saturating_sub(1)),
            Some(_) | None => until,
        };
        for (due, id) in read {
            if !self.fresh.contains_key(&id) && !self.entries.contains_key(&id) {
                self.insert(id, due);
            }
        }
        self.complete = self.complete.max(Some(complete));
    }

    /// The frame at `offset` sets or removes a wake-up.
    pub(crate) fn set(&mut self, id: &EntityId, due: Option<Timestamp>, offset: Offset) {
        self.remove(id);
        self.fresh.insert(id.clone(), offset);
        if let Some(due) = due {
            self.insert(id.clone(), due);
        }
    }

    /// Its wake-up cannot lead to anything before absent timers due at `due` may fire.
    pub(crate) fn sleep(&mut self, id: &EntityId, due: Timestamp) {
        let Some(entry) = self.entries.get(id) else { return };
        self.alarms.remove(&(*entry, id.clone()));
        if let Some(before) = self.asleep.insert(id.clone(), due) {
            self.asleep_order.remove(&(before, id.clone()));
        }
        self.asleep_order.insert((due, id.clone()));
    }

    fn insert(&mut self, id: EntityId, due: Timestamp) {
        self.order.insert((due, id.clone()));
        self.alarms.insert((due, id.clone()));
        self.entries.insert(id, due);
    }

    fn remove(&mut self, id: &EntityId) {
        if let Some(due) = self.entries.remove(id) {
            let key = (due, id.clone());
            self.order.remove(&key);
            self.alarms.remove(&key);
        }
        if let Some(due) = self.asleep.remove(id) {
            self.asleep_order.remove(&(due, id.clone()));
        }
    }

    /// The first wake-up behind `after`, due at or before `until`, by (due, entity).
    pub(crate) fn next(&self, after: Option<&(Timestamp, EntityId)>, until: Timestamp) -> Option<&(Timestamp, EntityId)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).next().filter(|(due, _)| *due <= until)
    }

    /// Up to `count` wake-ups behind `after`, due at or before `until`.
    pub(crate) fn following<'a>(
        &'a self,
        after: Option<&(Timestamp, EntityId)>,
        until: Timestamp,
        count: usize,
    ) -> impl Iterator<Item = &'a EntityId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).take_while(move |(due, _)| *due <= until).take(count).map(|(_, id)| id)
    }

    /// When the clock alone calls for a tick.
    pub(crate) fn alarm(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(due, _)| *due)
    }

    /// The earliest absent due that waits for the watermark.
    pub(crate) fn asleep(&self) -> Option<Timestamp> {
        self.asleep_order.first().map(|(due, _)| *due)
    }

    /// The store is at `off`: forgets what lies beyond the horizon and is stored. Not while a read is under
    /// way, whose answer may be older than that.
    pub(crate) fn prune(&mut self, off: Offset) {
        let stored: Vec<EntityId> = self.fresh.iter().filter(|(_, offset)| **offset < off).map(|(id, _)| id.clone()).collect();
        for id in stored {
            self.fresh.remove(&id);
            if self.entries.get(&id).is_some_and(|due| Some(*due) > self.complete) {
                self.remove(&id);
            }
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

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn due(timers: &Timers, until: i64) -> Vec<u8> {
        timers.following(None, at(until), 100).map(|id| id.key()[0]).collect()
    }

    #[test]
    fn changes_override_what_is_read() {
        let mut timers = Timers::default();
        timers.set(&id(1), None, 7);
        timers.set(&id(2), Some(at(50)), 7);
        timers.load(at(100), 9, vec![(at(10), id(1)), (at(20), id(2)), (at(30), id(3))]);
        assert_eq!(due(&timers, 100), [3, 2]);
    }

    #[test]
    fn a_full_page_vouches_only_for_what_is_before_its_last_instant() {
        let mut timers = Timers::default();
        timers.load(at(100), 2, vec![(at(10), id(1)), (at(10), id(2))]);
        assert_eq!(timers.complete_until(), Some(at(9)));
        timers.load(at(100), timers.ask_for(2), vec![(at(10), id(1)), (at(10), id(2)), (at(11), id(3))]);
        assert_eq!(timers.complete_until(), Some(at(100)));
    }

    #[test]
    fn stored_wakeups_beyond_the_horizon_are_forgotten() {
        let mut timers = Timers::default();
        timers.load(at(100), 9, Vec::new());
        timers.set(&id(1), Some(at(500)), 3);
        timers.set(&id(2), Some(at(50)), 3);
        timers.prune(3);
        assert_eq!(due(&timers, 999), [2, 1], "the frame at 3 is not stored at offset 3");
        timers.prune(4);
        assert_eq!(due(&timers, 999), [2]);
    }

    #[test]
    fn sleepers_raise_no_alarm_until_they_change() {
        let mut timers = Timers::default();
        timers.set(&id(1), Some(at(10)), 1);
        timers.sleep(&id(1), at(10));
        assert_eq!((timers.alarm(), timers.asleep()), (None, Some(at(10))));
        assert_eq!(due(&timers, 10), [1], "a tick sees it all the same");
        timers.set(&id(1), Some(at(5)), 2);
        assert_eq!((timers.alarm(), timers.asleep()), (Some(at(5)), None));
    }

    #[test]
    fn walking_goes_by_due_then_entity() {
        let mut timers = Timers::default();
        for (key, ms) in [(3, 10), (1, 20), (2, 10)] {
            timers.set(&id(key), Some(at(ms)), 1);
        }
        assert_eq!(due(&timers, 20), [2, 3, 1]);
        assert_eq!(timers.next(Some(&(at(10), id(2))), at(20)), Some(&(at(10), id(3))));
        assert_eq!(timers.next(Some(&(at(10), id(3))), at(15)), None);
    }
}
