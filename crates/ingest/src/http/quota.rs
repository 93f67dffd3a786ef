//! So many events a second for each workspace, of all its keys together.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use waypost_types::{Timestamp, WorkspaceId};

const SECOND: i64 = 1_000_000_000;

/// Up to when each workspace has used what it may. A request whose events are more than what is left is taken whole, and the next one
/// waits until it is paid for: a batch is never cut, and one that is larger than a second's worth is not refused for ever.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    /// As many as there are workspaces with a quota.
    used: Mutex<HashMap<WorkspaceId, Used>>,
}

#[derive(Clone, Copy, Debug)]
struct Used {
    until: i64,
    /// When that was said; a clock that is behind it has been set back.
    at: i64,
}

// === impl Quotas ===

impl Quotas {
    /// Uses so many; or in how many seconds there is room again.
    pub(super) fn take(&self, workspace: WorkspaceId, per_second: u32, events: usize, now: Timestamp) -> Result<(), u64> {
        let cost = SECOND / i64::from(per_second.max(1));
        let now = now.millis().saturating_mul(1_000_000);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let until = used.get(&workspace).filter(|used| used.at <= now).map_or(now, |used| used.until.max(now));
        // A second's worth may go at once.
        let late = until.saturating_add(cost).saturating_sub(now.saturating_add(SECOND));
        if late > 0 {
            return Err(u64::try_from(late).unwrap_or(0).div_ceil(SECOND.unsigned_abs()));
        }
        let until = until.saturating_add(cost.saturating_mul(i64::try_from(events).unwrap_or(i64::MAX)));
        used.insert(workspace, Used { until, at: now });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: WorkspaceId = WorkspaceId::new(1);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_772_366_400_000 + millis)
    }

    #[test]
    fn a_seconds_worth_at_once_and_then_as_time_goes_by() {
        let quotas = Quotas::default();
        let taken = |now| (0..1_000).take_while(|_| quotas.take(SHOP, 10, 1, now).is_ok()).count();
        assert_eq!(taken(at(0)), 10);
        assert_eq!(quotas.take(SHOP, 10, 1, at(0)), Err(1));
        assert_eq!(taken(at(500)), 5);
        assert_eq!(taken(at(60_000)), 10, "and never more than a second's worth");
        assert!(quotas.take(WorkspaceId::new(2), 10, 1, at(60_000)).is_ok(), "each workspace by itself");
    }

    #[test]
    fn a_large_batch_is_taken_whole_and_paid_for() {
        let quotas = Quotas::default();
        assert_eq!(quotas.take(SHOP, 10, 45, at(0)), Ok(()));
        assert_eq!(quotas.take(SHOP, 10, 1, at(0)), Err(4));
        assert_eq!(quotas.take(SHOP, 10, 1, at(3_500)), Err(1));
        assert_eq!(quotas.take(SHOP, 10, 1, at(3_600)), Ok(()));
        assert_eq!(quotas.take(SHOP, 10, 0, at(9_000)), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let quotas = Quotas::default();
        assert_eq!(quotas.take(SHOP, 1, 2_500, at(3_600_000)), Ok(()));
        assert_eq!(quotas.take(SHOP, 1, 1, at(0)), Ok(()));
    }
}
