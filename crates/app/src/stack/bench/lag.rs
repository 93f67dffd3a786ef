//! How far each inbox is behind, by what its partitions' owners say and where its log ends.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::bail;
use futures::future::try_join_all;
use tokio::time::Instant;
use waypost_runtime::{
    host::SystemClock,
    ports::{Clock as _, Log},
    progress::Directory,
};
use waypost_types::{PartitionId, Role};

/// Where the fold of a partition is, and where its log ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) partition: PartitionId,
    /// First frame not folded; none where nobody has spoken of it lately.
    pub(super) next: Option<u64>,
    pub(super) end: u64,
}

/// How long ago the end of each log was where the fold is now.
#[derive(Debug, Default)]
pub(super) struct Lag {
    ends: BTreeMap<PartitionId, VecDeque<(Instant, u64)>>,
    /// As somebody said last: while nobody speaks of a partition, nobody folds it.
    next: BTreeMap<PartitionId, u64>,
    /// By role: at the last look, and the greatest of all looks.
    pub(super) roles: BTreeMap<Role, (Duration, Duration)>,
}

/// All places.
///
/// # Errors
/// Where a partition has halted, or the log cannot be asked.
pub(super) async fn places(log: &Arc<dyn Log>, directory: &Directory, prefix: &str, partitions: u32) -> anyhow::Result<Vec<Place>> {
    let mut asked = Vec::new();
    for (role, index) in Role::KEYED.into_iter().flat_map(|role| (0..partitions).map(move |index| (role, index))) {
        let partition = PartitionId { role, index };
        let said = directory.owner(partition, SystemClock.now()).map(|owner| owner.progress);
        if let Some(why) = said.as_ref().and_then(|progress| progress.halted.as_ref()) {
            bail!("{partition} has halted, so nothing can be measured: {why}");
        }
        let topic = format!("{prefix}{}", role.inbox().unwrap_or_default());
        asked.push(async move {
            let (_, end) = log.watermarks(&topic, index).await?;
            anyhow::Ok(Place { partition, next: said.map(|progress| progress.next), end })
        });
    }
    try_join_all(asked).await
}

// === impl Lag ===

impl Lag {
    /// Takes in a look at all places.
    pub(super) fn look(&mut self, now: Instant, places: &[Place]) {
        for (last, _) in self.roles.values_mut() {
            *last = Duration::ZERO;
        }
        for place in places {
            if let Some(next) = place.next {
                self.next.insert(place.partition, next);
            }
            let Some(next) = self.next.get(&place.partition).copied() else { continue };
            let ends = self.ends.entry(place.partition).or_default();
            ends.push_back((now, place.end));
            // of the ends that have been reached only the last is of interest
            while ends.len() > 1 && ends[1].1 <= next {
                ends.pop_front();
            }
            let is_behind = ends[0].1 > next;
            let since = if ends.len() > 1 || is_behind { now.saturating_duration_since(ends[0].0) } else { Duration::ZERO };
            let (last, most) = self.roles.entry(place.partition.role).or_default();
            *last = since.max(*last);
            *most = since.max(*most);
        }
    }

    /// Of the role that is behind most, at the last look.
    pub(super) fn worst(&self) -> Duration {
        self.roles.values().map(|(last, _)| *last).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_time_since_the_end_was_where_the_fold_is() {
        let (mut lag, begin) = (Lag::default(), Instant::now());
        let mut at = |s: u64, next, end| {
            let partition = PartitionId { role: Role::Segmenter, index: 2 };
            lag.look(begin + Duration::from_secs(s), &[Place { partition, next, end }]);
            let (last, most) = lag.roles[&Role::Segmenter];
            (last.as_secs(), most.as_secs())
        };
        assert_eq!(at(0, Some(10), 10), (0, 0));
        assert_eq!(at(1, Some(10), 20), (1, 1));
        assert_eq!(at(2, Some(15), 30), (2, 2));
        assert_eq!(at(3, Some(20), 40), (2, 2));
        assert_eq!(at(4, Some(40), 40), (0, 2));
        // nobody folds, and nobody is forgotten for it
        assert_eq!(at(14, None, 50), (10, 10));
        assert_eq!(at(15, Some(50), 50), (0, 10));
    }
}
