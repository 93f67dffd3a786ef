//! A toy role that counts, in three stages one after another: enough to see every order, repeat and loss.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Buf, BufMut, Bytes};
use waypost_codec::{frame::Record, kind};
use waypost_runtime::{
    Entity, Fold, Poison, Processor,
    figures::Tally,
    processor::{Definitions, Fireable, Output, Wakeups},
};
use waypost_types::{EntityId, Role, Span, Timestamp, WorkspaceId};

/// A record to be counted; the body's first byte says what else is to happen.
pub(crate) const COUNT: u32 = 1;
/// What came of a job.
pub(crate) const OUTCOME: u32 = 2;
/// The job behind all others when a partition is given back.
pub(crate) const LAST: u32 = 99;
pub(crate) const TOPIC: &str = "waypost.decisions.v1";
/// A timer due just then is poison; before every world begins.
pub(crate) const POISONED: Timestamp = Timestamp::from_millis(500_000);
/// A timer due just then panics.
pub(crate) const KILLS: Timestamp = Timestamp::from_millis(500_001);
pub(crate) const W: WorkspaceId = WorkspaceId::new(1);

/// One stage: 0 identity, 1 segmenter, 2 orchestrator.
#[derive(Debug)]
pub(crate) struct Toy<const STAGE: usize> {
    /// Sets up to this number have arrived.
    pub(crate) available: Arc<AtomicU64>,
    pub(crate) set: u64,
}

/// A counter of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) count: u64,
    pub(crate) fired: u64,
    /// Hash over everything folded: order, log times, definitions.
    pub(crate) hash: u64,
    pub(crate) plain: Option<Timestamp>,
    pub(crate) absent: Option<Timestamp>,
}

pub(crate) fn counter_id(key: &[u8]) -> EntityId {
    EntityId::new(W, b'c', key)
}

/// Counts all records of this stage; two keys in three share it, so that batches meet.
fn total_id(key: &[u8]) -> EntityId {
    EntityId::new(W, b't', &[key.first().copied().unwrap_or(0) % 2])
}

pub(crate) fn record(key: &[u8], said: Timestamp, body: impl Into<Bytes>) -> Record {
    Record::new(COUNT, W, [7; 16], Bytes::copy_from_slice(key), said, body.into())
}

// === impl Counter ===

impl Counter {
    fn mix(&mut self, parts: &[u64]) {
        let bytes: Vec<u8> = std::iter::once(&self.hash).chain(parts).flat_map(|n| n.to_be_bytes()).collect();
        self.hash = xxhash_rust::xxh3::xxh3_64(&bytes);
    }
}

impl Entity for Counter {
    fn decode(_: &EntityId, bytes: &Bytes) -> Result<Self, String> {
        let mut bytes = bytes.clone();
        if bytes.len() != 40 {
            return Err("not 40 bytes".to_owned());
        }
        let (count, fired, hash) = (bytes.get_u64(), bytes.get_u64(), bytes.get_u64());
        let mut due = || Some(Timestamp::from_millis(bytes.get_i64())).filter(|t| *t != Timestamp::ZERO);
        Ok(Self { count, fired, hash, plain: due(), absent: due() })
    }

    fn encode(&self) -> Option<Bytes> {
        if self.is_nothing() {
            return None;
        }
        let mut bytes = Vec::new();
        for number in [self.count, self.fired, self.hash] {
            bytes.put_u64(number);
        }
        for due in [self.plain, self.absent] {
            bytes.put_i64(due.unwrap_or_default().millis());
        }
        Some(bytes.into())
    }

    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn wakeups(&self) -> Wakeups {
        Wakeups { plain: self.plain, absent: self.absent }
    }
}

// === impl Toy ===

impl<const STAGE: usize> Toy<STAGE> {
    pub(crate) fn new(available: &Arc<AtomicU64>) -> Self {
        Self { available: Arc::clone(available), set: 0 }
    }

    fn send(fold: &mut Fold<'_, Counter>, key: &[u8], body: Bytes) {
        let next = [Some(Role::Segmenter), Some(Role::Orchestrator), None][STAGE];
        let key = Bytes::copy_from_slice(key);
        fold.emit(match next {
            // one that begins with `r` is of a kind that only later engines read
            Some(role) if body.first() == Some(&b'r') => {
                Output::Inbox { role, workspace: W, key, kind: kind::RUN_ITEM, body, id: [1; 16], via: 0, at: None }
            }
            Some(role) => Output::Inbox { role, workspace: W, key, kind: COUNT, body, id: [1; 16], via: 0, at: None },
            None => Output::Public { topic: TOPIC, key, kind: "toy", version: 1, body },
        });
    }
}

impl<const STAGE: usize> Processor for Toy<STAGE> {
    type Entity = Counter;

    const ROLE: Role = [Role::Identity, Role::Segmenter, Role::Orchestrator][STAGE];
    const RELAYS_TO: Option<Role> = [None, Some(Role::Orchestrator), None][STAGE];
    const WATERMARKED: bool = STAGE == 1;
    const REPORTS_THROUGH: bool = STAGE == 0;
    const HALTS: &'static [&'static str] = &["TOY_HALTS"];
    const LAST_JOB: Option<u32> = if STAGE == 1 { Some(LAST) } else { None };

    fn define(&mut self, defv: &str) -> Definitions {
        let set = defv.split(':').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        if set > self.available.load(Ordering::SeqCst) {
            return Definitions::Missing;
        }
        self.set = set;
        Definitions::Loaded
    }

    fn entities(&self, record: &Record) -> Result<Vec<EntityId>, Poison> {
        match record.kind {
            COUNT => Ok(vec![counter_id(&record.key), total_id(&record.key)]),
            OUTCOME => Ok(vec![counter_id(&record.key)]),
            other => Err(Poison { reason: "KIND_UNKNOWN", detail: other.to_string() }),
        }
    }

    fn fold(&self, fold: &mut Fold<'_, Counter>, record: &Record) -> Result<(), Poison> {
        let id = counter_id(&record.key);
        let mut counter = fold.take(&id).unwrap_or_default();
        if record.kind == OUTCOME {
            counter.mix(&[99]);
            fold.put(&id, counter);
            return Ok(());
        }
        counter.count += 1;
        counter.mix(&[fold.now().millis().cast_unsigned(), self.set, xxhash_rust::xxh3::xxh3_64(&record.body)]);
        if fold.engine() > 1 {
            // What the second engine of toys does otherwise.
            counter.mix(&[u64::from(fold.engine())]);
        }
        let after = |n: &[u8]| Some(fold.now().plus(Span::from_millis(i64::from(n[1]) * 100)));
        match *record.body {
            [b'p', ..] => counter.plain = after(&record.body),
            [b'a', ..] => counter.absent = after(&record.body),
            [b'c', ..] => (counter.plain, counter.absent) = (None, None),
            [b'z', ..] => counter.plain = Some(POISONED),
            [b'k', ..] => counter.plain = Some(KILLS),
            [b'j', ..] => fold.start(1, record.key.clone()),
            [b't', ..] => {
                let (name, reason) = ("toy".to_owned(), String::new());
                fold.tally(Tally { what: "told", workspace: W, name, version: 1, reason });
            }
            [b'x', ..] if STAGE == 1 => panic!("toy"),
            [b'q', ..] if STAGE == 1 => return Err(Poison { reason: "TOY", detail: String::new() }),
            [b'h', ..] if STAGE == 1 => return Err(Poison { reason: "TOY_HALTS", detail: "why".to_owned() }),
            _ => {}
        }
        let hash = counter.hash;
        if record.body.first() == Some(&b'd') {
            fold.delete(&id);
        } else {
            fold.put(&id, counter);
        }
        let total = total_id(&record.key);
        let mut sum = fold.take(&total).unwrap_or_default();
        sum.count += 1;
        sum.mix(&[hash]);
        fold.put(&total, sum);
        Self::send(fold, &record.key, record.body.clone());
        Ok(())
    }

    fn fire(&self, fold: &mut Fold<'_, Counter>, entity: &EntityId, limit: Fireable) -> Result<bool, Poison> {
        let Some(mut counter) = fold.take(entity) else { return Ok(false) };
        let plain = counter.plain.filter(|due| *due <= limit.plain);
        let absent = counter.absent.filter(|due| *due <= limit.absent);
        let Some(due) = [plain, absent].into_iter().flatten().min() else {
            fold.put(entity, counter);
            return Ok(false);
        };
        assert_ne!(due, KILLS, "toy");
        if due == POISONED {
            return Err(Poison { reason: "TOY_TIMER", detail: "toy".to_owned() });
        }
        assert_eq!(due, fold.now(), "a timer's log time is its due");
        if plain == Some(due) {
            counter.plain = None;
        } else {
            counter.absent = None;
        }
        counter.fired += 1;
        counter.mix(&[due.millis().cast_unsigned(), u64::MAX]);
        fold.put(entity, counter);
        let mut body = vec![b'f'];
        body.put_i64(due.millis());
        Self::send(fold, entity.key(), body.into());
        Ok(true)
    }
}
