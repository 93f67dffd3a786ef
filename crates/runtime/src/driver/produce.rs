//! What is on its way to the producer: in order by destination, waiting where a schema's id is not
//! known yet or the producer's queue is full.
//!
//! A public topic whose registry does not answer holds its own records back and nobody else's; what
//! it holds back stays unacknowledged, and so stops the commits of those who put it out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use tracing::warn;
use waypost_types::{Span, Timestamp};

use crate::{
    append::dead,
    machine::{Destination, Produced},
    ports::{Append, AppendError, Offset, Producer},
};

/// When a full queue, or a registry that did not answer, is tried again.
const AGAIN: Span = Span::from_millis(20);
const REGISTRY_AGAIN: Span = Span::from_millis(500);

/// The result of an append.
pub(super) type Appending = BoxFuture<'static, Result<Offset, AppendError>>;

/// Topic and version of a public record's schema.
type Subject = (&'static str, u32);

pub(super) struct Outgoing {
    prefix: String,
    life: u64,
    producer: Option<Arc<dyn Producer>>,
    ready: VecDeque<(u64, Append)>,
    /// Behind a record whose subject is not known, all of its topic wait.
    held: BTreeMap<&'static str, VecDeque<(u64, u32, Append)>>,
    known: BTreeMap<Subject, [u8; 5]>,
    asking: BTreeSet<Subject>,
    ask_at: BTreeMap<Subject, Timestamp>,
    full_until: Option<Timestamp>,
}

// === impl Outgoing ===

impl Outgoing {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            life: 0,
            producer: None,
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            known: BTreeMap::new(),
            asking: BTreeSet::new(),
            ask_at: BTreeMap::new(),
            full_until: None,
        }
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn begin(&mut self, life: u64, producer: Arc<dyn Producer>) {
        self.life = life;
        self.producer = Some(producer);
    }

    /// Purges, and forgets what waits: the machine puts it out again.
    pub(super) fn end(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.purge();
        }
        self.ready.clear();
        self.held.clear();
        self.full_until = None;
    }

    /// Queues one record behind those of its destination.
    pub(super) fn push(&mut self, number: u64, destination: &Destination, produced: Produced) {
        let at = |name: &str, partition| (format!("{}{name}", self.prefix), partition);
        let (subject, (topic, partition)) = match destination {
            Destination::Inbox(id) => (None, at(id.role.inbox().unwrap_or_default(), id.index)),
            Destination::Public { topic, partition } => (Some(*topic), at(topic, *partition)),
            Destination::Dead(partition) => (None, at("wp1.dead", *partition)),
        };
        let mut append = Append { topic, partition, key: None, headers: Vec::new(), payload: Bytes::new() };
        match produced {
            Produced::Frame(frame) => append.payload = frame,
            Produced::Dead { letter, origin } => (append.headers, append.payload) = dead(letter, origin),
            Produced::Public { key, headers, version, body } => {
                append.key = Some(key);
                append.headers = headers.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect();
                append.payload = body;
                if let Some(topic) = subject {
                    self.held.entry(topic).or_default().push_back((number, version, append));
                    return self.release(topic);
                }
            }
        }
        self.ready.push_back((number, append));
    }

    /// Moves a topic's records on, as far as their subjects are known.
    fn release(&mut self, topic: &'static str) {
        let Some(held) = self.held.get_mut(topic) else { return };
        while let Some((_, version, _)) = held.front() {
            let subject = (topic, *version);
            let Some(prefix) = self.known.get(&subject) else {
                if !self.asking.contains(&subject) {
                    self.ask_at.entry(subject).or_insert(Timestamp::ZERO);
                }
                return;
            };
            if let Some((number, _, mut append)) = held.pop_front() {
                let mut payload = Vec::with_capacity(5 + append.payload.len());
                payload.extend_from_slice(prefix);
                payload.extend_from_slice(&append.payload);
                append.payload = payload.into();
                self.ready.push_back((number, append));
            }
        }
    }

    /// Subjects to ask the registry for now.
    pub(super) fn wanted(&mut self, now: Timestamp) -> Vec<Subject> {
        let due: Vec<Subject> = self.ask_at.iter().filter(|(_, at)| **at <= now).map(|(subject, _)| *subject).collect();
        for subject in &due {
            self.ask_at.remove(subject);
            self.asking.insert(*subject);
        }
        due
    }

    /// The registry has answered.
    pub(super) fn prefixed(&mut self, topic: &'static str, version: u32, prefix: Result<[u8; 5], String>, now: Timestamp) {
        self.asking.remove(&(topic, version));
        match prefix {
            Ok(prefix) => {
                self.known.insert((topic, version), prefix);
                self.release(topic);
            }
            Err(why) => {
                warn!(topic, version, why, "the registry does not give a schema's id");
                self.ask_at.insert((topic, version), now.plus(REGISTRY_AGAIN));
            }
        }
    }

    /// Appends what is ready, in order; a full queue ends it for now.
    pub(super) fn send(&mut self, now: Timestamp) -> Vec<(u64, Appending)> {
        let mut sent: Vec<(u64, Appending)> = Vec::new();
        if self.full_until.is_some_and(|until| now < until) {
            return sent;
        }
        self.full_until = None;
        let Some(producer) = &self.producer else { return sent };
        while let Some((number, append)) = self.ready.pop_front() {
            let mut appending = producer.append(append.clone());
            match (&mut appending).now_or_never() {
                Some(Err(AppendError::Full)) => {
                    self.ready.push_front((number, append));
                    self.full_until = Some(now.plus(AGAIN));
                    break;
                }
                Some(known) => sent.push((number, Box::pin(std::future::ready(known)))),
                None => sent.push((number, appending)),
            }
        }
        sent
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.ask_at.values().copied().chain(self.full_until).min()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("life", &self.life).field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}
