//! What nobody says by itself: where the logs end, whether the brokers answer, and whether each role's thread gets on. Asked every
//! five seconds, beside the work.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::timeout;
use waypost_runtime::{
    driver::Handle,
    figures::{Figures, PartitionFigures},
    ports::{Clock, Log, LogError, Offset, Store},
    progress,
};
use waypost_types::{PartitionId, Role, Timestamp};

/// How often.
const EVERY: Duration = Duration::from_secs(5);
/// How long a role's thread may take to show its figures; it looks ten times a second whether somebody wants them.
const PATIENCE: Duration = Duration::from_secs(2);
/// One log's first record is read in so many rounds at most: that takes a client of its own.
const FIRST_RECORDS: u64 = 12;

/// Asks, and remembers.
pub(super) struct Pulse {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    prefix: String,
    handles: Vec<Handle>,
    seen: Mutex<Seen>,
}

/// What was seen last.
#[derive(Debug)]
struct Seen {
    /// Brokers that there were.
    brokers: Option<usize>,
    /// When a broker last answered; at first, when this process began.
    answered: Timestamp,
    ends: BTreeMap<PartitionId, Offset>,
    /// Frames that are known to be there and have not been fetched: of which offset, and since when.
    behind: BTreeMap<PartitionId, (Offset, Timestamp)>,
    /// Where a log begins that has been trimmed, and when its first record was appended.
    firsts: BTreeMap<PartitionId, (Offset, Timestamp)>,
    /// When a role's thread last showed that it gets on.
    beats: BTreeMap<Role, Timestamp>,
}

/// What the brokers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Brokers {
    /// How many there are; none: nobody has asked yet.
    pub(super) up: Option<usize>,
    /// When one last answered; at first, when this process began.
    pub(super) answered: Timestamp,
}

// === impl Pulse ===

impl Pulse {
    pub(super) fn new(log: Arc<dyn Log>, store: Arc<dyn Store>, clock: Arc<dyn Clock>, prefix: &str, handles: Vec<Handle>) -> Self {
        let now = clock.now();
        let seen = Seen {
            brokers: None,
            // the start-up check has just had answers
            answered: now,
            ends: BTreeMap::new(),
            behind: BTreeMap::new(),
            firsts: BTreeMap::new(),
            beats: handles.iter().map(|handle| (handle.role(), now)).collect(),
        };
        Self { log, store, clock, prefix: prefix.to_owned(), handles, seen: Mutex::new(seen) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches the roles' threads, whatever else hangs.
    ///
    /// # Errors
    /// Never; it does not end.
    pub(super) async fn beat(&self) -> anyhow::Result<()> {
        loop {
            for handle in &self.handles {
                if timeout(PATIENCE, handle.figures()).await.is_ok() {
                    let now = self.clock.now();
                    self.seen().beats.insert(handle.role(), now);
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Asks log and store.
    ///
    /// # Errors
    /// Never; it does not end.
    pub(super) async fn ask(&self) -> anyhow::Result<()> {
        let mut round = 0_u64;
        loop {
            self.ask_brokers().await;
            let mut reads_first = round.is_multiple_of(FIRST_RECORDS);
            for handle in &self.handles {
                if self.ask_ends(handle, &mut reads_first).await.is_err() {
                    break;
                }
            }
            if let Some(handle) = self.handles.first() {
                // Whoever watches the store notes whether it has answered; what it says is a hint for others.
                drop(self.store.deaths(PartitionId { role: handle.role(), index: 0 }).await);
            }
            round += 1;
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn ask_brokers(&self) {
        let reach = self.log.reach(&format!("{}{}", self.prefix, progress::TOPIC)).await;
        let now = self.clock.now();
        let mut seen = self.seen();
        match reach {
            Ok(brokers) => (seen.brokers, seen.answered) = (Some(brokers), now),
            Err(error) => {
                tracing::debug!(%error, "brokers do not answer");
                seen.brokers = Some(0);
            }
        }
    }

    /// Asks where the logs of a role's partitions end. An error ends the round: each further question could take as long.
    async fn ask_ends(&self, handle: &Handle, reads_first: &mut bool) -> Result<(), LogError> {
        let (role, figures) = (handle.role(), handle.last_figures());
        let Some(inbox) = role.inbox() else { return Ok(()) };
        let topic = format!("{}{inbox}", self.prefix);
        self.seen().forget(role, &figures);
        for here in &figures.partitions {
            let partition = PartitionId { role, index: here.partition };
            let (start, end) = self.log.watermarks(&topic, here.partition).await?;
            let now = self.clock.now();
            self.seen().ends_at(partition, here, end, now);
            let known = self.seen().firsts.get(&partition).is_some_and(|(at, _)| *at == start);
            if start > 0 && start < end && !known && std::mem::take(reads_first) {
                let mut tail = self.log.tail(&topic, here.partition, start).await?;
                if let Ok(Ok(Some(first))) = timeout(EVERY, tail.next()).await {
                    self.seen().firsts.insert(partition, (start, first.appended));
                }
            }
        }
        Ok(())
    }

    /// What the brokers say.
    pub(super) fn brokers(&self) -> Brokers {
        let seen = self.seen();
        Brokers { up: seen.brokers, answered: seen.answered }
    }

    /// Since when the role's thread has shown nothing that is the longest of all.
    pub(super) fn slowest(&self) -> Option<(Role, Timestamp)> {
        self.seen().beats.iter().map(|(role, beat)| (*role, *beat)).min_by_key(|(_, beat)| *beat)
    }

    /// Frames between what is folded and the end, where that is known.
    pub(super) fn lag(&self, partition: PartitionId, next: Offset) -> Option<u64> {
        self.seen().ends.get(&partition).map(|end| end.saturating_sub(next))
    }

    /// Since when the oldest frame that is not folded has been there, as far as is known; none: there is none.
    pub(super) fn oldest(&self, partition: PartitionId, figures: &PartitionFigures) -> Option<Timestamp> {
        figures.oldest.or_else(|| self.seen().behind.get(&partition).filter(|(next, _)| *next == figures.next).map(|(_, since)| *since))
    }

    /// When the first record was appended that the partition's log still has; none: the log has not been trimmed, or nobody has looked.
    pub(super) fn first(&self, partition: PartitionId) -> Option<Timestamp> {
        self.seen().firsts.get(&partition).map(|(_, first)| *first)
    }
}

// === impl Seen ===

impl Seen {
    /// Partitions that are gone are somebody else's to look at.
    fn forget(&mut self, role: Role, figures: &Figures) {
        let is_here = |partition: &PartitionId| partition.role != role || figures.partitions.iter().any(|p| p.partition == partition.index);
        self.ends.retain(|partition, _| is_here(partition));
        self.behind.retain(|partition, _| is_here(partition));
        self.firsts.retain(|partition, _| is_here(partition));
    }

    fn ends_at(&mut self, partition: PartitionId, figures: &PartitionFigures, end: Offset, now: Timestamp) {
        self.ends.insert(partition, end);
        if end <= figures.next {
            self.behind.remove(&partition);
        } else if self.behind.get(&partition).is_none_or(|(next, _)| *next != figures.next) {
            self.behind.insert(partition, (figures.next, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId { role: Role::Sender, index: 3 };

    fn at(next: Offset) -> PartitionFigures {
        PartitionFigures { partition: 3, next, ..PartitionFigures::default() }
    }

    #[test]
    fn what_waits_unfetched_waits_since_it_was_first_seen() {
        let now = Timestamp::from_millis;
        let mut seen = Seen {
            brokers: None,
            answered: now(0),
            ends: BTreeMap::new(),
            behind: BTreeMap::new(),
            firsts: BTreeMap::new(),
            beats: BTreeMap::new(),
        };
        for (next, end, time, expected) in
            [(5, 5, 1, None), (5, 6, 2, Some((5, now(2)))), (5, 9, 3, Some((5, now(2)))), (6, 9, 4, Some((6, now(4)))), (9, 9, 5, None)]
        {
            seen.ends_at(P, &at(next), end, now(time));
            assert_eq!(seen.behind.get(&P).copied(), expected, "{next} of {end} at {time}");
        }
        seen.forget(Role::Sender, &Figures { partitions: vec![at(9)], ..Figures::default() });
        assert_eq!(seen.ends.len(), 1);
        seen.forget(Role::Identity, &Figures::default());
        assert_eq!(seen.ends.len(), 1, "another role's");
        seen.forget(Role::Sender, &Figures::default());
        assert!(seen.ends.is_empty());
    }
}
