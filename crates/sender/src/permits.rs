//! How many calls a partition has under way, or about to be (PROTOCOL §12.2). A dispatch gets its permit
//! before it is rendered: between an attempt in the log and its call nothing may wait. What finds none waits here
//! for the end of a call, in this process and unlogged: only attempts are logged.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use waypost_runtime::processor::Job;
use waypost_types::{PartitionId, Span, Timestamp, WorkspaceId};

/// Calls of one partition at once.
pub(crate) const CALLS: usize = 256;
/// Proposals that wait for a permit; more ask again by their timers.
const WAITING: usize = 1_024;
/// Dispatches of which it is remembered which attempt was begun last.
const BEGUN: usize = 4_096;
/// An attempt that nobody calls for so long was lost, or folded to nothing.
const LOST_AFTER: Span = Span::from_secs(60);

/// Permits by partition and dispatch id.
#[derive(Debug, Default)]
pub(crate) struct Permits(Mutex<BTreeMap<PartitionId, Partition>>);

#[derive(Debug, Default)]
struct Partition {
    held: BTreeMap<Bytes, Held>,
    waiting: VecDeque<(Bytes, Job)>,
    /// The attempt of each dispatch that was begun last, and the order in which they were.
    begun: BTreeMap<Bytes, u32>,
    order: VecDeque<Bytes>,
    /// The leader under which the partition was last given back, as a job says it.
    closed: Option<u64>,
}

#[derive(Clone, Debug)]
struct Held {
    /// Calls under way; more than one only where a repeat meets a call of an earlier leader.
    calls: u32,
    /// When an attempt was last proposed, and which.
    proposed: Timestamp,
    attempt: Proposed,
}

/// An attempt about to be proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposed {
    pub(crate) workspace: WorkspaceId,
    pub(crate) dispatch: Bytes,
    pub(crate) number: u32,
    /// Of the address.
    pub(crate) key: Bytes,
    /// Of the job.
    pub(crate) leader: u64,
}

/// Whether an attempt may be proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It has a permit.
    Taken,
    /// All are taken.
    Full,
    /// There is nothing to propose: it was begun before, it is on its way to the log, or its leader is giving the
    /// partition back.
    Over,
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
    /// Takes a permit for this attempt; its dispatch may have one already. What was proposed stands in the log or will,
    /// as long as this process lives, so a timer that asks for it again in the meantime gets nothing.
    pub(crate) fn take(&self, partition: PartitionId, attempt: &Proposed, now: Timestamp) -> Admission {
        let mut all = self.all();
        let Partition { held, waiting, begun, closed, .. } = all.entry(partition).or_default();
        let dispatch = &attempt.dispatch;
        if closed.is_some_and(|closed| attempt.leader <= closed) || begun.get(dispatch).is_some_and(|begun| *begun >= attempt.number) {
            return Admission::Over;
        }
        if held.get(dispatch).is_some_and(|held| held.covers(attempt) && now.since(held.proposed) < LOST_AFTER) {
            return Admission::Over;
        }
        if held.len() >= CALLS && !held.contains_key(dispatch) {
            held.retain(|_, held| held.calls > 0 || now.since(held.proposed) < LOST_AFTER);
            if held.len() >= CALLS {
                return Admission::Full;
            }
        }
        waiting.retain(|(known, _)| known != dispatch);
        let calls = held.get(dispatch).map_or(0, |held| held.calls);
        held.insert(dispatch.clone(), Held { calls, proposed: now, attempt: attempt.clone() });
        Admission::Taken
    }

    /// The job waits until a call ends; of one dispatch the newest.
    pub(crate) fn wait(&self, partition: PartitionId, dispatch: &Bytes, job: Job) {
        let mut all = self.all();
        let waiting = &mut all.entry(partition).or_default().waiting;
        waiting.retain(|(known, _)| known != dispatch);
        if waiting.len() < WAITING {
            waiting.push_back((dispatch.clone(), job));
        }
    }

    /// A job that waited, if there is a permit to be had; those of leaders before `leader` are dropped.
    pub(crate) fn next(&self, partition: PartitionId, leader: u64) -> Option<Job> {
        let mut all = self.all();
        let here = all.get_mut(&partition)?;
        here.waiting.retain(|(_, job)| job.leader >= leader);
        if here.held.len() >= CALLS {
            return None;
        }
        here.waiting.pop_front().map(|(_, job)| job)
    }

    /// No call will follow what was proposed; one under way keeps its permit.
    pub(crate) fn free(&self, partition: PartitionId, dispatch: &Bytes) {
        let mut all = self.all();
        let Some(here) = all.get_mut(&partition) else { return };
        if here.held.get(dispatch).is_some_and(|held| held.calls == 0) {
            here.held.remove(dispatch);
        }
    }

    /// A call begins. It never waits: its attempt is in the log, and whoever finds it there takes it for made.
    /// None where it was said in the log that it will not be.
    pub(crate) fn call(&self, partition: PartitionId, attempt: &Proposed) -> Option<Calling<'_>> {
        let mut all = self.all();
        let here = all.entry(partition).or_default();
        if here.closed.is_some_and(|closed| attempt.leader <= closed) {
            return None;
        }
        let dispatch = attempt.dispatch.clone();
        let unproposed = Held { calls: 0, proposed: Timestamp::ZERO, attempt: attempt.clone() };
        here.held.entry(dispatch.clone()).or_insert(unproposed).calls += 1;
        let begun = here.begun.get(&dispatch).copied().unwrap_or(0).max(attempt.number);
        if here.begun.insert(dispatch.clone(), begun).is_none() {
            here.order.push_back(dispatch.clone());
        }
        if here.order.len() > BEGUN
            && let Some(oldest) = here.order.pop_front()
        {
            here.begun.remove(&oldest);
        }
        Some(Calling { permits: self, partition, dispatch })
    }

    /// Nothing more is proposed or begun under `leader`. Returns what was proposed and not begun, and will not be.
    pub(crate) fn close(&self, partition: PartitionId, leader: u64) -> Vec<Proposed> {
        let mut all = self.all();
        let Partition { held, waiting, begun, closed, .. } = all.entry(partition).or_default();
        let last = leader.max(closed.unwrap_or(0));
        *closed = Some(last);
        waiting.retain(|(_, job)| job.leader > last);
        let not_begun = |attempt: &Proposed| begun.get(&attempt.dispatch).is_none_or(|begun| *begun < attempt.number);
        let over = held.values().filter(|held| held.calls == 0 && held.attempt.leader <= last && not_begun(&held.attempt));
        let over: Vec<Proposed> = over.map(|held| held.attempt.clone()).collect();
        held.retain(|_, held| held.calls > 0);
        over
    }

    /// A call is over. The next attempt may have been proposed meanwhile; its permit stays.
    fn end(&self, partition: PartitionId, dispatch: &Bytes) {
        let mut all = self.all();
        let Some(Partition { held, begun, .. }) = all.get_mut(&partition) else { return };
        let Some(one) = held.get_mut(dispatch) else { return };
        one.calls = one.calls.saturating_sub(1);
        if one.calls == 0 && begun.get(dispatch).is_none_or(|begun| *begun >= one.attempt.number) {
            held.remove(dispatch);
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Partition>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Held ===

impl Held {
    /// Whether this attempt, or the same under a later leader, is the one that was proposed.
    fn covers(&self, attempt: &Proposed) -> bool {
        self.attempt.number == attempt.number && self.attempt.leader >= attempt.leader
    }
}

// === impl Calling ===

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.permits.end(self.partition, &self.dispatch);
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

    fn attempt(n: usize) -> Proposed {
        let dispatch = Bytes::copy_from_slice(&n.to_be_bytes());
        Proposed { workspace: WorkspaceId::new(1), dispatch, number: 1, key: Bytes::new(), leader: 5 }
    }

    fn full() -> Permits {
        let permits = Permits::default();
        assert!((0..CALLS).all(|n| permits.take(at(0), &attempt(n), T0) == Admission::Taken));
        permits
    }

    fn taken(permits: &Permits, n: usize) -> bool {
        permits.take(at(0), &attempt(n), T0) == Admission::Taken
    }

    #[test]
    fn a_partition_has_so_many_and_no_more() {
        let permits = full();
        assert!(!taken(&permits, CALLS));
        assert_eq!(permits.take(at(0), &Proposed { number: 2, ..attempt(0) }, T0), Admission::Taken, "its dispatch has one");
        assert_eq!(permits.take(at(1), &attempt(CALLS), T0), Admission::Taken, "another partition");
        permits.free(at(0), &attempt(0).dispatch);
        assert!(taken(&permits, CALLS));
    }

    #[test]
    fn what_is_on_its_way_to_the_log_is_not_proposed_again() {
        let permits = Permits::default();
        let later = |leader, seconds| permits.take(at(0), &Proposed { leader, ..attempt(0) }, T0.plus(Span::from_secs(seconds)));
        assert_eq!([later(5, 0), later(5, 5), later(4, 5)], [Admission::Taken, Admission::Over, Admission::Over]);
        assert_eq!([later(6, 5), later(6, 6), later(5, 6)], [Admission::Taken, Admission::Over, Admission::Over], "a later leader");
        assert_eq!([later(6, 64), later(6, 65)], [Admission::Over, Admission::Taken], "after a minute it was lost");
        permits.free(at(0), &attempt(0).dispatch);
        assert_eq!(later(6, 65), Admission::Taken, "no call follows, so another may");
    }

    #[test]
    fn the_end_of_a_call_leaves_the_permit_of_the_next_attempt() {
        let permits = Permits::default();
        let calling = permits.call(at(0), &attempt(0));
        let next = Proposed { number: 2, ..attempt(0) };
        assert_eq!(permits.take(at(0), &next, T0), Admission::Taken);
        drop(calling);
        assert_eq!(permits.take(at(0), &next, T0), Admission::Over);
        assert_eq!(permits.close(at(0), 5), [next], "it was not begun");
    }

    #[test]
    fn a_call_keeps_its_permit_until_it_ends() {
        let permits = full();
        let calling = permits.call(at(0), &attempt(0));
        permits.free(at(0), &attempt(0).dispatch);
        assert!(!taken(&permits, CALLS));
        drop(calling);
        assert!(taken(&permits, CALLS));
        assert_eq!(permits.take(at(0), &attempt(0), T0), Admission::Over, "it was made");
        assert!(permits.take(at(0), &Proposed { number: 2, ..attempt(0) }, T0) == Admission::Full);
    }

    #[test]
    fn none_waits_for_a_permit_to_call() {
        let permits = full();
        drop(permits.call(at(0), &attempt(CALLS)));
        assert_eq!(permits.all()[&at(0)].held.len(), CALLS);
    }

    #[test]
    fn a_proposal_without_a_call_is_lost_after_a_minute() {
        let permits = full();
        let _calling = permits.call(at(0), &attempt(0));
        assert_eq!(permits.take(at(0), &attempt(CALLS), T0.plus(Span::from_secs(59))), Admission::Full);
        assert_eq!(permits.take(at(0), &attempt(CALLS), T0.plus(LOST_AFTER)), Admission::Taken);
        assert_eq!(permits.all()[&at(0)].held.len(), 2, "and the call under way");
    }

    #[test]
    fn what_waits_comes_when_there_is_room_and_its_leader_is_in_force() {
        let permits = full();
        let job = |leader| Job { kind: 1, body: Bytes::new(), leader, trace: Bytes::new() };
        for (n, leader) in [(500, 4), (501, 5), (502, 5), (501, 6)] {
            permits.wait(at(0), &attempt(n).dispatch, job(leader));
        }
        assert_eq!(permits.next(at(0), 5), None, "no room");
        permits.free(at(0), &attempt(0).dispatch);
        assert_eq!([permits.next(at(0), 5), permits.next(at(0), 5), permits.next(at(0), 5)], [Some(job(5)), Some(job(6)), None]);
        permits.wait(at(0), &attempt(503).dispatch, job(5));
        assert!(taken(&permits, 503));
        assert_eq!(permits.next(at(0), 5), None, "it has its permit");
    }

    #[test]
    fn a_partition_that_is_given_back_says_what_it_will_not_do() {
        let permits = Permits::default();
        assert!((0..4).all(|n| taken(&permits, n)));
        let under_way = permits.call(at(0), &attempt(1));
        drop(permits.call(at(0), &attempt(2)));
        assert_eq!(permits.close(at(0), 5), [attempt(0), attempt(3)]);
        assert_eq!(permits.close(at(0), 5), [], "said once");
        assert!(permits.call(at(0), &attempt(3)).is_none(), "what was said is kept");
        assert_eq!(permits.take(at(0), &attempt(9), T0), Admission::Over);
        assert_eq!(permits.take(at(0), &Proposed { leader: 6, ..attempt(9) }, T0), Admission::Taken, "under the next leader");
        drop(under_way);
    }
}
