//! What happens at a rebalance, on the polling thread (PROTOCOL §6.2).
//!
//! `ConsumerContext::rebalance` is overridden, because `pre_rebalance` gets the list read-only and the
//! stock version ignores the result of the assignment. The context holds a `Weak` to its consumer,
//! since splitting a queue needs an `Arc`.

use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    ClientContext, Offset as At, Statistics, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, base_consumer::PartitionQueue},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use tokio::sync::{Notify, oneshot};
use tracing::{debug, error, info};
use waypost_runtime::ports::{LogError, Membership, Offset};

use crate::{
    connection::Identity,
    convert::{log_line, raw_offset, signed, unsigned},
    standing::Standing,
    tokens::token_for,
};

/// Claims may take this long together; what has no answer then starts at the end.
const STARTS_LIMIT: Duration = Duration::from_secs(2);
/// Draining takes at most this long: a sender waits 30 s for its calls to end, everybody else half a second.
const DRAIN_LIMIT: Duration = Duration::from_secs(35);
/// How often an answer is looked for on this thread, which has nothing else to do.
const LOOK: Duration = Duration::from_millis(2);

/// One assigned partition's queue.
pub(crate) struct Queue {
    pub(crate) records: PartitionQueue<Member>,
    /// Something may be in it. Set by the queue's callback, cleared by who found it empty.
    pub(crate) filled: Arc<AtomicBool>,
    /// Where it is to be moved; nothing is taken meanwhile.
    pub(crate) seek: Option<Offset>,
    /// It has reported an error and fetches no more, until it is assigned anew.
    pub(crate) failed: bool,
}

/// What the polling thread and the consumer share.
#[derive(Default)]
pub(crate) struct Shared {
    queues: Mutex<BTreeMap<u32, Queue>>,
    news: Mutex<VecDeque<Membership>>,
    notes: Mutex<BTreeMap<u32, Offset>>,
    pub(crate) changed: Arc<Notify>,
    pub(crate) closing: AtomicBool,
    /// The group has this member.
    pub(crate) placed: AtomicBool,
}

/// The context of a consumer.
pub(crate) struct Member {
    topic: String,
    shared: Arc<Shared>,
    consumer: OnceLock<Weak<BaseConsumer<Self>>>,
    standing: Standing,
    identity: Identity,
    /// Another client has its place: nothing that is shared is its own any more.
    given_up: AtomicBool,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn queues(&self) -> MutexGuard<'_, BTreeMap<u32, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notes(&self) -> MutexGuard<'_, BTreeMap<u32, Offset>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_news(&self) -> Option<Membership> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(crate) fn tell(&self, news: Membership) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).push_back(news);
        self.changed.notify_one();
    }

    /// Waits on this thread for an answer; none if it does not come in time or nobody will give it.
    fn answer<T>(&self, mut from: oneshot::Receiver<T>, limit: Duration) -> Option<T> {
        let mut waited = Duration::ZERO;
        while waited < limit && !self.closing.load(Ordering::Acquire) {
            match from.try_recv() {
                Ok(answer) => return Some(answer),
                Err(oneshot::error::TryRecvError::Closed) => return None,
                Err(oneshot::error::TryRecvError::Empty) => thread::sleep(LOOK),
            }
            waited += LOOK;
        }
        from.try_recv().ok()
    }
}

// === impl Member ===

impl Member {
    pub(crate) fn new(topic: &str, shared: Arc<Shared>, identity: Identity) -> Self {
        let (standing, given_up) = (Standing::default(), AtomicBool::new(false));
        Self { topic: topic.to_owned(), shared, consumer: OnceLock::new(), standing, identity, given_up }
    }

    /// To be called before the consumer subscribes.
    pub(crate) fn belongs_to(&self, consumer: &Arc<BaseConsumer<Self>>) {
        if self.consumer.set(Arc::downgrade(consumer)).is_err() {
            error!("a consumer's context was given away twice");
        }
    }

    /// What the client says of its place in the group.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Brokers have refused it, and by what it proves who it is was renewed since.
    pub(crate) fn is_locked_out(&self) -> bool {
        self.standing.was_refused() && self.identity.is_outdated()
    }

    /// Another client takes its place.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// What librdkafka makes of an answer that nobody but itself waits for.
    fn answer(&self, taken: Result<(), KafkaError>) {
        if let Err(error) = taken {
            debug!(topic = self.topic, %error, "a client that ends");
        }
    }

    /// Splitting comes first: a queue split after the assignment leaks records to the main queue.
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        let this = self.consumer.get().and_then(Weak::upgrade).filter(|_| !self.is_given_up());
        let Some(this) = this else {
            // it is being dropped: what it is assigned yet concerns nobody, but it waits for an answer before it can end
            return self.answer(consumer.incremental_assign(list));
        };
        self.standing.assign();
        let partitions: Vec<u32> = list.elements_for_topic(&self.topic).iter().map(|e| unsigned(e.partition())).collect();
        for partition in &partitions {
            let Some(mut queue) = this.split_partition_queue(&self.topic, signed(*partition)) else { continue };
            let filled = Arc::new(AtomicBool::new(true));
            let (flag, changed) = (Arc::clone(&filled), Arc::clone(&self.shared.changed));
            queue.set_nonempty_callback(move || {
                flag.store(true, Ordering::Release);
                changed.notify_one();
            });
            self.shared.queues().insert(*partition, Queue { records: queue, filled, seek: None, failed: false });
        }
        let starts = if partitions.is_empty() {
            Vec::new()
        } else {
            let (starts, answer) = oneshot::channel();
            self.shared.tell(Membership::Assign { partitions: partitions.clone(), starts });
            self.shared.answer(answer, STARTS_LIMIT).unwrap_or_default()
        };
        for partition in &partitions {
            let start = starts.iter().find(|(p, _)| p == partition).and_then(|(_, start)| *start);
            let at = start.map_or(At::End, |offset| At::Offset(raw_offset(offset)));
            if let Err(error) = list.set_partition_offset(&self.topic, signed(*partition), at) {
                error!(partition, %error, "cannot set a start");
            }
        }
        if let Err(error) = consumer.incremental_assign(list) {
            error!(%error, "assignment refused");
            for partition in partitions {
                let error = LogError::Unavailable(format!("assignment refused: {error}"));
                self.shared.tell(Membership::Failed { partition, error });
            }
        }
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        if self.is_given_up() {
            return self.answer(consumer.incremental_unassign(list));
        }
        let partitions: Vec<u32> = list.elements_for_topic(&self.topic).iter().map(|e| unsigned(e.partition())).collect();
        if !partitions.is_empty() && !self.shared.closing.load(Ordering::Acquire) {
            if consumer.assignment_lost() {
                self.standing.lose();
                self.shared.tell(Membership::Lost(partitions.clone()));
            } else {
                let (drained, answer) = oneshot::channel();
                self.shared.tell(Membership::Revoke { partitions: partitions.clone(), drained });
                if self.shared.answer(answer, DRAIN_LIMIT).is_none() {
                    info!(?partitions, "given back without being drained");
                }
            }
        }
        let gone: Vec<Queue> = {
            let mut queues = self.shared.queues();
            partitions.iter().filter_map(|p| queues.remove(p)).collect()
        };
        drop(gone);
        if let Err(error) = consumer.incremental_unassign(list) {
            error!(%error, "giving partitions back was refused");
        }
    }
}

impl ClientContext for Member {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        token_for(&self.identity)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.standing.hear_error(&error, reason);
        debug!(%error, reason, "kafka client");
    }

    fn stats(&self, account: Statistics) {
        self.standing.hear(&account);
        if !self.is_given_up() {
            self.shared.placed.store(self.standing.has_place(), Ordering::Release);
        }
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, list);
        } else {
            self.revoke(consumer, list);
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("topic", &self.topic).finish_non_exhaustive()
    }
}
