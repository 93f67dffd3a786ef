//! How many calls a partition has under way, or about to be (PROTOCOL §12.2). A dispatch gets its permit
//! before it is rendered: between an attempt in the log and its call nothing may wait.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use waypost_types::{PartitionId, Span, Timestamp};

/// Calls of one partition at once.
pub(crate) const CALLS: usize = 256;
/// An attempt that nobody calls for so long was lost, or folded to nothing.
const LOST_AFTER: Span = Span::from_secs(60);

/// Permits by partition and dispatch id.
#[derive(Debug, Default)]
pub(crate) struct Permits(Mutex<BTreeMap<PartitionId, BTreeMap<Bytes, Held>>>);

#[derive(Clone, Copy, Debug)]
struct Held {
    /// Calls under way; more than one only where a repeat meets a call of an earlier leader.
    calls: u32,
    /// When an attempt was last proposed.
    proposed: Timestamp,
}

/// A call under way; its permit is free when this is dropped.
#[derive(Debug)]
pub(crate) struct Calling<'a> {
    permits: &'a Permits,
    partition: PartitionId,
    dispatch: Bytes,
}

// === impl Permits ===

impl Permits {
    /// Takes a permit for this dispatch, which may have one already. Returns whether it has one now.
    pub(crate) fn take(&self, partition: PartitionId, dispatch: &Bytes, now: Timestamp) -> bool {
        let mut all = self.all();
        let held = all.entry(partition).or_default();
        if held.len() >= CALLS && !held.contains_key(dispatch) {
            held.retain(|_, held| held.calls > 0 || now.since(held.proposed) < LOST_AFTER);
            if held.len() >= CALLS {
                return false;
            }
        }
        held.entry(dispatch.clone()).or_insert(Held { calls: 0, proposed: now }).proposed = now;
        true
    }

    /// No call will follow what was proposed; one under way keeps its permit.
    pub(crate) fn free(&self, partition: PartitionId, dispatch: &Bytes) {
        self.end(partition, dispatch, 0);
    }

    /// A call begins. It never waits: its attempt is in the log, and whoever finds it there takes it for made.
    pub(crate) fn call(&self, partition: PartitionId, dispatch: &Bytes) -> Calling<'_> {
        let unproposed = Held { calls: 0, proposed: Timestamp::ZERO };
        self.all().entry(partition).or_default().entry(dispatch.clone()).or_insert(unproposed).calls += 1;
        Calling { permits: self, partition, dispatch: dispatch.clone() }
    }

    fn end(&self, partition: PartitionId, dispatch: &Bytes, calls: u32) {
        let mut all = self.all();
        let Some(held) = all.get_mut(&partition) else { return };
        if let Some(one) = held.get_mut(dispatch) {
            one.calls = one.calls.saturating_sub(calls);
            if one.calls == 0 {
                held.remove(dispatch);
            }
        }
        if held.is_empty() {
            all.remove(&partition);
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<PartitionId, BTreeMap<Bytes, Held>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Calling ===

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.permits.end(self.partition, &self.dispatch, 1);
    }
}

#[cfg(test)]
mod tests {
    use waypost_types::Role;

    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000);

    fn at(index: u32) -> PartitionId {
        PartitionId { role: Role::Sender, index }
    }

    fn id(n: usize) -> Bytes {
        Bytes::copy_from_slice(&n.to_be_bytes())
    }

    fn full() -> Permits {
        let permits = Permits::default();
        assert!((0..CALLS).all(|n| permits.take(at(0), &id(n), T0)));
        permits
    }

    #[test]
    fn a_partition_has_so_many_and_no_more() {
        let permits = full();
        assert!(!permits.take(at(0), &id(CALLS), T0));
        assert!(permits.take(at(0), &id(0), T0), "it has one");
        assert!(permits.take(at(1), &id(CALLS), T0), "another partition");
        permits.free(at(0), &id(0));
        assert!(permits.take(at(0), &id(CALLS), T0));
    }

    #[test]
    fn a_call_keeps_its_permit_until_it_ends() {
        let permits = full();
        let calling = permits.call(at(0), &id(0));
        permits.free(at(0), &id(0));
        assert!(!permits.take(at(0), &id(CALLS), T0));
        drop(calling);
        assert!(permits.take(at(0), &id(CALLS), T0));
    }

    #[test]
    fn a_call_that_was_given_up_frees_its_permit_too_and_none_waits_for_one() {
        let permits = full();
        drop(permits.call(at(0), &id(CALLS)));
        assert_eq!(permits.all()[&at(0)].len(), CALLS);
    }

    #[test]
    fn a_proposal_without_a_call_is_lost_after_a_minute() {
        let permits = full();
        let _calling = permits.call(at(0), &id(0));
        assert!(!permits.take(at(0), &id(CALLS), T0.plus(Span::from_secs(59))));
        assert!(permits.take(at(0), &id(CALLS), T0.plus(LOST_AFTER)));
        assert_eq!(permits.all()[&at(0)].len(), 2, "and the call under way");
    }
}
