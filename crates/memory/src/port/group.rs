//! Groups in memory: partitions dealt out evenly, taken away in order before somebody else gets them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use waypost_runtime::ports::{Consumer, Delivery, LogError, Membership, Offset};

use crate::MemoryLog;

/// All groups by (topic, name), and a number that changes with them.
#[derive(Debug)]
pub(crate) struct Groups {
    groups: Mutex<BTreeMap<(String, String), Group>>,
    changed: watch::Sender<u64>,
}

/// Where partitions start; none: at the end.
type Starts = Vec<(u32, Option<Offset>)>;

/// Partitions held, by member.
#[derive(Debug, Default)]
struct Group {
    next: u64,
    members: BTreeMap<u64, BTreeSet<u32>>,
    /// Partitions being drained by a member. Whoever looks first takes the answer in.
    revoking: BTreeMap<u64, (Vec<u32>, oneshot::Receiver<()>)>,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    groups: Arc<Groups>,
    name: (String, String),
    id: u64,
    partitions: u32,
    log: MemoryLog,
    appended: watch::Receiver<u64>,
    changed: watch::Receiver<u64>,
    news: VecDeque<Membership>,
    /// Where each assigned partition stands; none until its start is known.
    positions: BTreeMap<u32, Option<Offset>>,
    assigning: Vec<(Vec<u32>, oneshot::Receiver<Starts>)>,
}

// === impl Groups ===

impl Default for Groups {
    fn default() -> Self {
        Self { groups: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

// === impl Member ===

impl Member {
    pub(crate) fn join(groups: &Arc<Groups>, log: MemoryLog, topic: &str, group: &str, partitions: u32) -> Self {
        let name = (topic.to_owned(), group.to_owned());
        let id = {
            let mut all = groups.lock();
            let group = all.entry(name.clone()).or_default();
            group.next += 1;
            let id = group.next;
            group.members.insert(id, BTreeSet::new());
            id
        };
        groups.notify();
        let (appended, changed) = (log.watch(), groups.changed.subscribe());
        let (news, positions, assigning) = (VecDeque::new(), BTreeMap::new(), Vec::new());
        Self { groups: Arc::clone(groups), name, id, partitions, log, appended, changed, news, positions, assigning }
    }

    /// Compares what this member holds with its share, and starts to get or give what differs.
    fn balance(&mut self) {
        let mut all = self.groups.lock();
        let Some(group) = all.get_mut(&self.name) else { return };
        let members: Vec<u64> = group.members.keys().copied().collect();
        let Some(place) = members.iter().position(|m| *m == self.id) else { return };
        let share: BTreeSet<u32> = (0..self.partitions).filter(|p| *p as usize % members.len() == place).collect();
        let held = group.members.get(&self.id).cloned().unwrap_or_default();
        let surplus: Vec<u32> = held.difference(&share).copied().collect();
        if !surplus.is_empty() && !group.revoking.contains_key(&self.id) {
            let (drained, answer) = oneshot::channel();
            self.news.push_back(Membership::Revoke { partitions: surplus.clone(), drained });
            group.revoking.insert(self.id, (surplus, answer));
        }
        let free = |p: &u32| !group.members.values().any(|held| held.contains(p));
        let wanted: Vec<u32> = share.iter().copied().filter(free).collect();
        if !wanted.is_empty() {
            group.members.entry(self.id).or_default().extend(&wanted);
            for partition in &wanted {
                self.positions.insert(*partition, None);
            }
            let (starts, answer) = oneshot::channel();
            self.news.push_back(Membership::Assign { partitions: wanted.clone(), starts });
            self.assigning.push((wanted, answer));
        }
    }

    /// Takes in answers that have come; says whether there was one.
    fn settle(&mut self, context: Option<&mut Context<'_>>) -> bool {
        let mut context = context;
        let mut settled = false;
        let mut waiting = Vec::new();
        for (partitions, mut answer) in std::mem::take(&mut self.assigning) {
            let Poll::Ready(starts) = look(&mut answer, context.as_deref_mut()) else {
                waiting.push((partitions, answer));
                continue;
            };
            settled = true;
            let starts = starts.unwrap_or_default();
            for partition in partitions {
                let start = starts.iter().find(|(p, _)| *p == partition).and_then(|(_, start)| *start);
                let end = || self.log.watermarks(&self.name.0, partition).map_or(0, |(_, end)| end);
                // a seek may have come first
                if let Some(position @ None) = self.positions.get_mut(&partition) {
                    *position = Some(start.unwrap_or_else(end));
                }
            }
        }
        self.assigning = waiting;
        let mut given = false;
        if let Some(group) = self.groups.lock().get_mut(&self.name) {
            let members = &mut group.members;
            group.revoking.retain(|member, (partitions, answer)| {
                let waiting = look(answer, context.as_deref_mut()).is_pending();
                if let Some(held) = members.get_mut(member).filter(|_| !waiting) {
                    held.retain(|p| !partitions.contains(p));
                    given = true;
                }
                waiting
            });
            let held = members.entry(self.id).or_default();
            self.positions.retain(|p, _| held.contains(p));
        }
        if given {
            self.groups.notify();
        }
        settled || given
    }
}

/// The answer, if it has come; ready without one where nobody will give it.
fn look<T>(answer: &mut oneshot::Receiver<T>, context: Option<&mut Context<'_>>) -> Poll<Option<T>> {
    if let Some(context) = context {
        return Pin::new(answer).poll(context).map(Result::ok);
    }
    match answer.try_recv() {
        Ok(answer) => Poll::Ready(Some(answer)),
        Err(oneshot::error::TryRecvError::Closed) => Poll::Ready(None),
        Err(oneshot::error::TryRecvError::Empty) => Poll::Pending,
    }
}

#[async_trait]
impl Consumer for Member {
    fn take(&mut self, partition: u32) -> Option<Delivery> {
        self.settle(None);
        let position = self.positions.get_mut(&partition)?;
        let next = (*position)?;
        match self.log.read(&self.name.0, partition, next) {
            Ok(Some(delivery)) => {
                *position = Some(next + 1);
                Some(delivery)
            }
            Ok(None) => None,
            Err(error) => {
                // told once; a seek starts it again
                *position = None;
                self.news.push_back(Membership::Failed { partition, error });
                None
            }
        }
    }

    async fn ready(&mut self) {
        if !self.news.is_empty() {
            return;
        }
        let (mut appended, mut changed) = (self.appended.clone(), self.changed.clone());
        {
            let settled = poll_fn(|context| if self.settle(Some(context)) { Poll::Ready(()) } else { Poll::Pending });
            // a sender that is gone has nothing more to tell
            tokio::select! {
                _ = appended.changed() => {}
                _ = changed.changed() => {}
                () = settled => {}
            }
        }
        self.appended = appended;
        self.changed = changed;
    }

    fn membership(&mut self) -> Option<Membership> {
        self.settle(None);
        self.balance();
        self.news.pop_front()
    }

    fn seek(&mut self, partition: u32, offset: Offset) -> Result<(), LogError> {
        *self.positions.get_mut(&partition).ok_or(LogError::Unknown)? = Some(offset);
        Ok(())
    }

    fn note(&mut self, _: u32, _: Offset) {}

    async fn close(self: Box<Self>) {}
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(group) = self.groups.lock().get_mut(&self.name) {
            group.members.remove(&self.id);
            group.revoking.remove(&self.id);
        }
        self.groups.notify();
    }
}
