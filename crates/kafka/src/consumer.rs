//! A member of a role's group: a thread that polls for ever, and a queue a partition.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    Message as _, Offset as At, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};
use waypost_runtime::ports::{Consumer, Delivery, LogError, Membership, Offset};

use crate::{
    convert::{delivery, log_error, partition_error, raw_offset, signed, unsigned},
    member::{Member, Shared},
    settings::{Recipe, Settings},
    standing::{ADRIFT, leave},
};

/// How long the polling thread waits for an event; also how late a seek may begin.
const POLL: Duration = Duration::from_millis(20);
/// How long one attempt of a seek may take.
const SEEK: Duration = Duration::from_millis(500);
/// The group's offsets are a gauge of lag, so they need not be new: every so many polls.
const NOTE_EVERY: u32 = 100;

/// The member.
pub(crate) struct GroupConsumer {
    shared: Arc<Shared>,
    ended: Option<oneshot::Receiver<()>>,
}

// === impl GroupConsumer ===

impl GroupConsumer {
    pub(crate) fn join(settings: &Settings, topic: &str, group: &str) -> Result<Self, LogError> {
        Self::with(settings.member(group), topic, ADRIFT)
    }

    /// By a recipe of its own, and how many accounts in a row without a place are too many.
    pub(crate) fn with(recipe: Recipe, topic: &str, limit: u32) -> Result<Self, LogError> {
        let shared = Arc::new(Shared::default());
        let place = Place { recipe, topic: topic.to_owned(), shared: Arc::clone(&shared), limit };
        let (end, ended) = oneshot::channel();
        let poller = Poller { consumer: place.join()?, place };
        thread::Builder::new()
            .name(format!("poll {topic}"))
            .spawn(move || {
                poller.run();
                // nobody may be waiting any more
                drop(end);
            })
            .map_err(|e| LogError::Unavailable(e.to_string()))?;
        Ok(Self { shared, ended: Some(ended) })
    }

    fn leave(&self) {
        self.shared.closing.store(true, Ordering::Release);
    }
}

#[async_trait]
impl Consumer for GroupConsumer {
    fn take(&mut self, partition: u32) -> Option<Delivery> {
        let mut queues = self.shared.queues();
        let queue = queues.get_mut(&partition)?;
        if queue.seek.is_some() || !queue.filled.load(Ordering::Acquire) {
            return None;
        }
        let mut again = true;
        loop {
            match queue.records.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    queue.filled.store(true, Ordering::Release);
                    return Some(delivery(&message));
                }
                Some(Err(error)) => {
                    if let Some(error) = partition_error(&error) {
                        queue.failed = true;
                        self.shared.tell(Membership::Failed { partition, error });
                    } else {
                        debug!(partition, %error, "partition queue");
                    }
                }
                // once more behind the flag, for a record that came between the look and the flag
                None if again => {
                    queue.filled.store(false, Ordering::Release);
                    again = false;
                }
                None => return None,
            }
        }
    }

    async fn ready(&mut self) {
        self.shared.changed.notified().await;
    }

    fn membership(&mut self) -> Option<Membership> {
        self.shared.next_news()
    }

    fn is_member(&self) -> bool {
        self.shared.placed.load(Ordering::Acquire)
    }

    fn seek(&mut self, partition: u32, offset: Offset) -> Result<(), LogError> {
        let mut queues = self.shared.queues();
        let queue = queues.get_mut(&partition).ok_or(LogError::Unknown)?;
        queue.seek = Some(offset);
        Ok(())
    }

    fn note(&mut self, partition: u32, next: Offset) {
        self.shared.notes().insert(partition, next);
    }

    async fn close(mut self: Box<Self>) {
        self.leave();
        if let Some(ended) = self.ended.take() {
            // it never sends; the end of the thread closes it
            ended.await.unwrap_or_default();
        }
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What a member is made of, and made anew.
struct Place {
    recipe: Recipe,
    topic: String,
    shared: Arc<Shared>,
    /// Accounts in a row without a place in the group that are too many.
    limit: u32,
}

// === impl Place ===

impl Place {
    fn join(&self) -> Result<Arc<BaseConsumer<Member>>, LogError> {
        let member = |identity| Member::new(&self.topic, Arc::clone(&self.shared), identity);
        let consumer: Arc<BaseConsumer<Member>> = Arc::new(self.recipe.make(member)?);
        consumer.context().belongs_to(&consumer);
        consumer.subscribe(&[&self.topic]).map_err(|e| log_error(&e))?;
        Ok(consumer)
    }
}

/// The polling thread. It serves rebalances and errors, moves positions and notes offsets; records
/// never pass through it.
struct Poller {
    consumer: Arc<BaseConsumer<Member>>,
    place: Place,
}

// === impl Poller ===

impl Poller {
    fn run(mut self) {
        let mut polls = 0u32;
        while !self.place.shared.closing.load(Ordering::Acquire) {
            match self.consumer.poll(POLL) {
                None => {}
                // the density check brings it back
                Some(Ok(message)) => warn!(partition = message.partition(), offset = message.offset(), "record on the main queue dropped"),
                Some(Err(error)) => debug!(%error, "consumer"),
            }
            self.seek();
            if self.is_adrift() {
                self.join_anew();
            }
            polls = polls.wrapping_add(1);
            if polls.is_multiple_of(NOTE_EVERY) {
                self.note();
                self.replace_if_locked_out();
            }
        }
        self.note();
        // the queues hold the consumer; dropping its last holder leaves the group
        let queues = std::mem::take(&mut *self.place.shared.queues());
        drop(queues);
    }

    /// Whoever still has partitions loses them first: its session ends after ten seconds.
    fn is_adrift(&self) -> bool {
        self.consumer.context().standing().is_adrift(self.place.limit) && self.place.shared.queues().is_empty()
    }

    /// Brokers refuse the client, and what they ask for was renewed since: it is not waited for until all of them do. Its partitions
    /// are lost to it, as when its session ends.
    fn replace_if_locked_out(&mut self) {
        if !self.consumer.context().is_locked_out() {
            return;
        }
        info!(topic = self.place.topic, "brokers refuse what was renewed in a file since: a new client joins");
        self.replace();
    }

    fn join_anew(&mut self) {
        warn!(topic = self.place.topic, "the client has found no place for long: a new one joins");
        self.replace();
    }

    fn replace(&mut self) {
        match self.place.join() {
            Ok(consumer) => {
                let gone = std::mem::take(&mut *self.place.shared.queues());
                if !gone.is_empty() {
                    self.place.shared.tell(Membership::Lost(gone.keys().copied().collect()));
                }
                drop(gone);
                let stuck = std::mem::replace(&mut self.consumer, consumer);
                stuck.context().give_up();
                leave(&self.place.topic, stuck);
            }
            Err(error) => {
                warn!(topic = self.place.topic, %error, "cannot join");
                self.consumer.context().standing().start_over();
            }
        }
    }

    /// Moves what is to be moved. A partition that is not fetching yet refuses: again at the next turn.
    fn seek(&self) {
        let (mut wanted, mut failed) = (Vec::new(), Vec::new());
        for (partition, queue) in self.place.shared.queues().iter() {
            if let Some(offset) = queue.seek {
                if queue.failed { &mut failed } else { &mut wanted }.push((*partition, offset));
            }
        }
        for (partition, offset) in failed {
            self.assign_anew(partition, offset);
        }
        if wanted.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &wanted {
            if let Err(error) = list.add_partition_offset(&self.place.topic, signed(*partition), At::Offset(raw_offset(*offset))) {
                warn!(partition, %error, "cannot seek");
            }
        }
        match self.consumer.seek_partitions(list, SEEK) {
            Err(error) => debug!(%error, "seek"),
            Ok(list) => {
                let mut queues = self.place.shared.queues();
                for element in list.elements_for_topic(&self.place.topic) {
                    let partition = unsigned(element.partition());
                    if let Err(error) = element.error() {
                        debug!(partition, %error, "seek");
                        continue;
                    }
                    let done = wanted.iter().find(|(p, _)| *p == partition).map(|(_, offset)| *offset);
                    if let Some(queue) = queues.get_mut(&partition).filter(|q| q.seek == done) {
                        queue.seek = None;
                        queue.filled.store(true, Ordering::Release);
                    }
                }
                self.place.shared.changed.notify_one();
            }
        }
    }

    /// Behind an error librdkafka has stopped the partition's fetcher for good, and a seek is refused;
    /// taking the partition out of the assignment and back in starts a new one on the same queue.
    fn assign_anew(&self, partition: u32, offset: Offset) {
        let list = |at| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&self.place.topic, signed(partition), at).map(|()| list)
        };
        let moved = list(At::Invalid)
            .and_then(|list| self.consumer.incremental_unassign(&list))
            .and_then(|()| list(At::Offset(raw_offset(offset))))
            .and_then(|list| self.consumer.incremental_assign(&list));
        let mut queues = self.place.shared.queues();
        match (moved, queues.get_mut(&partition)) {
            (Ok(()), Some(queue)) => {
                queue.failed = false;
                queue.filled.store(true, Ordering::Release);
                if queue.seek == Some(offset) {
                    queue.seek = None;
                }
            }
            (Err(error), _) => warn!(partition, %error, "cannot assign anew"),
            (Ok(()), None) => {}
        }
        self.place.shared.changed.notify_one();
    }

    fn note(&self) {
        let notes = std::mem::take(&mut *self.place.shared.notes());
        if notes.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (partition, next) in notes {
            if let Err(error) = list.add_partition_offset(&self.place.topic, signed(partition), At::Offset(raw_offset(next))) {
                debug!(partition, %error, "note");
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            debug!(%error, "note");
        }
    }
}
