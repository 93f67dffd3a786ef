//! Records that nobody should fold (PROTOCOL §12.1): one kills every process that does, others make the fold panic.
//!
//! A process that dies in the middle of a fold does nothing of what that input would have led to: the world asks
//! after every input whether its process is still there.

use std::{
    collections::BTreeSet,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use waypost_codec::frame::Record;
use waypost_runtime::{
    Processor,
    processor::{Definitions, Fireable, Fold, Poison},
};
use waypost_types::{EntityId, PartitionId, Position, Role, Span};

/// Where a record stands.
pub(crate) type Place = (PartitionId, Position);

/// Those of one world; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fatal(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    poisons: BTreeSet<Place>,
    deadly: Option<Deadly>,
    /// Whoever folds at this moment has died of it.
    died: bool,
}

/// The record that kills.
#[derive(Debug)]
struct Deadly {
    place: Place,
    /// The first process that comes to it has memory enough.
    spares_the_first: bool,
    /// Which that was.
    spared: Option<u64>,
    /// Processes from this one on survive it.
    survived_from: Option<u64>,
}

/// A role in a process of this number.
pub(crate) struct Mortal<P> {
    pub(crate) processor: P,
    pub(crate) fatal: Fatal,
    pub(crate) number: u64,
}

// === impl Fatal ===

impl Fatal {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the fold of this record panics.
    pub(crate) fn poison(&self, place: Place) {
        self.inner().poisons.insert(place);
    }

    /// From now on this record kills, but maybe not the first that comes to it. One a world: whether it is this one.
    pub(crate) fn kill_at(&self, place: Place, spares_the_first: bool) -> bool {
        let mut inner = self.inner();
        if inner.deadly.is_some() {
            return false;
        }
        inner.deadly = Some(Deadly { place, spares_the_first, spared: None, survived_from: None });
        true
    }

    /// The record that kills.
    pub(crate) fn deadly(&self) -> Option<Place> {
        self.inner().deadly.as_ref().map(|deadly| deadly.place)
    }

    /// The process that folded it, if one has.
    pub(crate) fn spared(&self) -> Option<u64> {
        self.inner().deadly.as_ref()?.spared
    }

    /// Processes from this one on survive it.
    pub(crate) fn survive_from(&self, number: u64) {
        if let Some(deadly) = &mut self.inner().deadly {
            deadly.survived_from = Some(number);
        }
    }

    /// Whether everybody survives it.
    pub(crate) fn is_harmless(&self) -> bool {
        self.inner().deadly.as_ref().is_none_or(|deadly| deadly.survived_from == Some(0))
    }

    /// Of a partition: the records whose fold panics.
    pub(crate) fn poisons(&self, partition: PartitionId) -> Vec<Position> {
        self.inner().poisons.iter().filter(|(of, _)| *of == partition).map(|(_, position)| *position).collect()
    }

    /// Whether the process that has just folded has died of it.
    pub(crate) fn has_died(&self) -> bool {
        std::mem::take(&mut self.inner().died)
    }

    fn meet(&self, number: u64, place: Place) {
        let mut inner = self.inner();
        if inner.poisons.contains(&place) {
            drop(inner);
            // Without the hook's words: that it panics is what is wanted.
            resume_unwind(Box::new("a poisonous record"));
        }
        let Some(deadly) = inner.deadly.as_mut().filter(|deadly| deadly.place == place) else { return };
        if deadly.spares_the_first && deadly.spared.is_none() {
            deadly.spared = Some(number);
        }
        let survives = deadly.spared == Some(number) || deadly.survived_from.is_some_and(|from| number >= from);
        inner.died |= !survives;
    }
}

// === impl Mortal ===

impl<P: Processor> Processor for Mortal<P> {
    type Entity = P::Entity;

    const ROLE: Role = P::ROLE;
    const RELAYS_TO: Option<Role> = P::RELAYS_TO;
    const WATERMARKED: bool = P::WATERMARKED;
    const REPORTS_THROUGH: bool = P::REPORTS_THROUGH;
    const HOLDS_FOR: Option<Span> = P::HOLDS_FOR;
    const HALTS: &'static [&'static str] = P::HALTS;
    const LAST_JOB: Option<u32> = P::LAST_JOB;

    fn define(&mut self, defv: &str) -> Definitions {
        self.processor.define(defv)
    }

    fn entities(&self, record: &Record) -> Result<Vec<EntityId>, Poison> {
        self.processor.entities(record)
    }

    fn fold(&self, fold: &mut Fold<'_, P::Entity>, record: &Record) -> Result<(), Poison> {
        self.fatal.meet(self.number, (PartitionId { role: P::ROLE, index: fold.partition() }, fold.position()));
        self.processor.fold(fold, record)
    }

    fn fire(&self, fold: &mut Fold<'_, P::Entity>, entity: &EntityId, limit: Fireable) -> Result<bool, Poison> {
        self.processor.fire(fold, entity, limit)
    }
}
