//! The oracle's fold: one log from its start, one record after the other, in the plainest way.
//!
//! No batches, no cache, no windows, no store. It shares with the runtime the roles and the formats, and
//! nothing else: what it keeps, accepts and puts out is computed here anew (PROTOCOL §7.3, §8).

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{frame::Record, inbox, kind};
use waypost_runtime::{
    Config,
    digest::Digest,
    ports::{Delivery, Meta, Offset},
    processor::{Definitions, Entity, Fireable, Fold, Output, Poison, Processor},
};
use waypost_types::{EntityId, Layout, PartitionId, Position, Role, Timestamp, WorkspaceId};
use xxhash_rust::xxh3::Xxh3;

mod reading;

use reading::{chain, runs};

/// What a log means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Frames folded.
    pub off: Offset,
    /// As the store should have it.
    pub meta: Meta,
    /// `x:` and `i:` fields.
    pub sequences: BTreeMap<String, [u8; 16]>,
    /// Wake-ups.
    pub timers: BTreeMap<EntityId, Timestamp>,
    /// Blobs.
    pub entities: BTreeMap<EntityId, Bytes>,
    /// Put out, by field of the partition channel.
    pub put_out: BTreeMap<String, Vec<Out>>,
    /// Chain after each of them.
    pub chains: BTreeMap<String, Vec<u64>>,
    /// Accepted records and those without a source, in order.
    pub accepted: Vec<Accepted>,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// To an inbox.
    Record(Record),
    /// To a public topic: key, headers, body.
    Public(Bytes, Vec<(String, Bytes)>, Bytes),
    /// To the dead letters: origin, reason, the record.
    Dead(String, String, Bytes),
}

/// One record that was folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Where it stands.
    pub position: Position,
    /// When its frame was appended.
    pub appended: Timestamp,
    /// From whom.
    pub source: Option<(Role, u32)>,
    /// What.
    pub record: Record,
    /// It changed nothing and is a dead letter.
    pub aside: bool,
}

/// Why a record is set aside in every life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// The skip list names it.
    Skipped,
    /// Its fold panics.
    Panics,
}

struct Naive<'a, P: Processor> {
    role: P,
    id: PartitionId,
    layout: Layout,
    config: &'a Config,
    aside: BTreeMap<Position, Aside>,
    entities: BTreeMap<EntityId, P::Entity>,
    tips: BTreeMap<String, (u64, u64)>,
    folded: Folded,
    /// Of the record under way: its position, the log time of what it puts out now, outputs so far, its trace.
    position: Position,
    at: Timestamp,
    outputs: u32,
    trace: Bytes,
}

type Wrong = String;

/// Folds a whole log.
///
/// # Errors
/// What ought not to be there: a frame that is none, a record that is poison, a chain that differs.
pub fn fold<P: Processor>(
    role: P,
    index: u32,
    layout: Layout,
    config: &Config,
    aside: impl IntoIterator<Item = (Position, Aside)>,
    log: &[Delivery],
) -> Result<Folded, Wrong> {
    let id = PartitionId { role: P::ROLE, index };
    let mut naive = Naive {
        role,
        id,
        layout,
        config,
        aside: aside.into_iter().collect(),
        entities: BTreeMap::new(),
        tips: BTreeMap::new(),
        folded: Folded::default(),
        position: Position::default(),
        at: Timestamp::ZERO,
        outputs: 0,
        trace: Bytes::new(),
    };
    if !log.is_empty() {
        naive.folded.meta.eng = config.engine;
    }
    for delivery in log {
        naive.frame(delivery).map_err(|why| format!("{id} at {}: {why}", naive.position))?;
    }
    if let Some(Delivery { payload, offset, appended, .. }) = log.last() {
        naive.folded.meta.lastrec = format!("{offset}:{:08x}:{}", crc32c::crc32c(payload), appended.millis());
    }
    for (field, (seq, chain)) in &naive.tips {
        let bytes = (u128::from(*seq) << 64 | u128::from(*chain)).to_be_bytes();
        naive.folded.sequences.insert(field.clone(), bytes);
    }
    if !log.is_empty() {
        let Folded { entities, timers, sequences, .. } = &naive.folded;
        naive.folded.meta.digest = Digest::of(entities, timers, sequences).to_bytes();
    }
    Ok(naive.folded)
}

/// The engine that a record of this kind asks for: commands about runs came with the third.
fn asks(kind: u32) -> u32 {
    if [kind::RUN_COMMAND, kind::RUN_ITEM, kind::JOURNEY_RUN_ITEM, kind::PASS_RUN].contains(&kind) { 3 } else { 0 }
}

fn earliest<E: Entity>(entity: Option<&E>) -> Option<Timestamp> {
    let wakeups = entity?.wakeups();
    [wakeups.plain, wakeups.absent].into_iter().flatten().min()
}

// === impl Naive ===

impl<P: Processor> Naive<'_, P> {
    fn frame(&mut self, delivery: &Delivery) -> Result<(), Wrong> {
        let mut index = 0;
        for run in runs(delivery)? {
            let from = run.source.map(|(role, partition, ..)| (role, partition));
            let field = from.map(|(role, partition)| format!("i:{role}:{partition}"));
            let mut first = run.source.map_or(0, |(_, _, first, _)| first);
            let expected_chain = run.source.map(|(.., chain)| chain);
            let mut accepted_any = false;
            for record in run.records {
                self.position = Position { offset: delivery.offset, index };
                index += 1;
                if let Some(field) = &field {
                    let (seq, before) = self.tips.get(field).copied().unwrap_or_default();
                    let number = first;
                    first += 1;
                    if number != seq + 1 {
                        continue;
                    }
                    accepted_any = true;
                    self.tips.insert(field.clone(), (number, chain(before, record.kind, &record.key, &record.body)));
                }
                let aside = self.aside.contains_key(&self.position);
                let accepted = Accepted { position: self.position, appended: delivery.appended, source: from, record, aside };
                self.record(&accepted)?;
                self.folded.accepted.push(accepted);
            }
            if let (true, Some((role, partition)), Some(field), Some(expected)) = (accepted_any, from, field, expected_chain)
                && self.tips.get(&field).is_some_and(|(_, chain)| *chain != expected)
            {
                return Err(format!("what {role}/{partition} sent differs from what it had sent before"));
            }
        }
        self.folded.off = delivery.offset + 1;
        Ok(())
    }

    fn record(&mut self, accepted: &Accepted) -> Result<(), Wrong> {
        let Accepted { appended, record, .. } = accepted;
        self.at = record.at.unwrap_or_else(|| record.said.min(*appended));
        self.outputs = 0;
        self.trace = record.trace.clone();
        let body = record.body.clone();
        let mut hasher = Xxh3::new();
        hasher.update(&self.folded.meta.ochain.to_be_bytes());
        hasher.update(&self.position.offset.to_be_bytes());
        hasher.update(&self.position.index.to_be_bytes());
        self.folded.meta.ochain = hasher.digest();
        let aside = self.aside.get(&self.position).copied();
        if aside == Some(Aside::Skipped) {
            self.letter(record, "SKIPPED");
            return Ok(());
        }
        let unreadable = |e: prost::DecodeError| e.to_string();
        match record.kind {
            kind::LEADER => self.folded.meta.leader = self.position.offset + 1,
            kind::TICK => self.tick(&inbox::Tick::decode(body).map_err(unreadable)?, *appended)?,
            kind::MARK => {
                let wm = Timestamp::from_millis(inbox::Mark::decode(body).map_err(unreadable)?.wm);
                if wm > self.folded.meta.wm {
                    self.folded.meta.wm = wm;
                    self.relay(kind::MARK, record.body.clone());
                }
            }
            kind::DEF_ACTIVATE => {
                let set = inbox::DefActivate::decode(body).map_err(unreadable)?;
                let present = self.folded.meta.defv.split_once(':').map_or(0, |(number, _)| number.parse().unwrap_or(0));
                if set.set > present {
                    let defv = format!("{}:{}", set.set, hex::encode(&set.hash));
                    if self.role.define(&defv) == Definitions::Missing {
                        return Err(format!("no definitions for {defv}"));
                    }
                    self.folded.meta.defv = defv;
                    self.relay(kind::DEF_ACTIVATE, record.body.clone());
                }
            }
            kind::ENGINE_ACTIVATE => {
                let engine = inbox::EngineActivate::decode(body).map_err(unreadable)?.engine;
                self.folded.meta.eng = self.folded.meta.eng.max(engine);
            }
            _ => {
                let ids = self.role.entities(record).map_err(|poison| poison.to_string())?;
                if self.config.rules.own_timers_first {
                    self.own_timers(&ids)?;
                }
                if aside == Some(Aside::Panics) {
                    self.letter(record, "ENGINE_PANIC");
                    return Ok(());
                }
                let now = self.at;
                self.act(&ids, now, |role, fold| role.fold(fold, record))?;
            }
        }
        Ok(())
    }

    fn own_timers(&mut self, ids: &[EntityId]) -> Result<(), Wrong> {
        let now = self.at;
        let limit = Fireable { before: Some(now), ..self.limit() };
        let mut left = self.config.own_timers;
        for id in ids {
            while left > 0 {
                left -= 1;
                if !self.fire(id, limit)? {
                    break;
                }
            }
        }
        self.at = now;
        Ok(())
    }

    fn limit(&self) -> Fireable {
        let Meta { clk, wm, .. } = self.folded.meta;
        if !self.config.rules.wm_gate {
            return Fireable { plain: clk, absent: clk, proven: clk, before: None };
        }
        let proven = clk.min(wm.plus(self.config.slack));
        Fireable { plain: clk, absent: proven.max(clk.minus(self.config.patience)), proven, before: None }
    }

    /// Fires the earliest timer that may, if there is one.
    fn fire(&mut self, id: &EntityId, limit: Fireable) -> Result<bool, Wrong> {
        let Some(wakeups) = self.entities.get(id).map(Entity::wakeups) else { return Ok(false) };
        let plain = wakeups.plain.filter(|due| *due <= limit.plain);
        let absent = wakeups.absent.filter(|due| *due <= limit.absent);
        let due = [plain, absent].into_iter().flatten().min();
        let Some(due) = due.filter(|due| limit.before.is_none_or(|before| *due < before)) else { return Ok(false) };
        self.at = due;
        self.act(std::slice::from_ref(id), due, |role, fold| role.fire(fold, id, limit))
    }

    fn tick(&mut self, tick: &inbox::Tick, appended: Timestamp) -> Result<(), Wrong> {
        let meta = &mut self.folded.meta;
        meta.clk = meta.clk.max(appended.min(Timestamp::from_millis(tick.now)));
        let wm = Timestamp::from_millis(tick.wm);
        if P::WATERMARKED && wm > meta.wm {
            meta.wm = wm;
            self.relay(kind::MARK, inbox::Mark { wm: tick.wm }.encode_to_vec().into());
        }
        let (limit, mut woken, mut fired) = (self.limit(), BTreeSet::new(), 0);
        let mut after: Option<(Timestamp, EntityId)> = None;
        while fired < self.config.tick_entities && woken.len() < self.config.tick_examined {
            let due = self.folded.timers.iter().map(|(id, due)| (*due, id));
            let is_next = |next: &(Timestamp, &EntityId)| after.as_ref().is_none_or(|(due, id)| *next > (*due, id));
            let next = due.filter(|next| next.0 <= limit.plain && is_next(next)).min();
            let Some((due, id)) = next.map(|(due, id)| (due, id.clone())) else { break };
            after = Some((due, id.clone()));
            if woken.insert(id.clone()) && self.wake(&id, limit)? {
                fired += 1;
            }
        }
        Ok(())
    }

    fn wake(&mut self, id: &EntityId, limit: Fireable) -> Result<bool, Wrong> {
        let mut fired = false;
        for _ in 0..self.config.own_timers {
            if !self.fire(id, limit)? {
                break;
            }
            fired = true;
        }
        self.wake_at(id, earliest(self.entities.get(id)));
        Ok(fired)
    }

    fn wake_at(&mut self, id: &EntityId, due: Option<Timestamp>) {
        let latest = Timestamp::from_millis(999_999_999_999_999);
        match due {
            Some(due) => drop(self.folded.timers.insert(id.clone(), due.clamp(Timestamp::ZERO, latest))),
            None => drop(self.folded.timers.remove(id)),
        }
    }

    fn act<R>(
        &mut self,
        ids: &[EntityId],
        now: Timestamp,
        act: impl FnOnce(&P, &mut Fold<'_, P::Entity>) -> Result<R, Poison>,
    ) -> Result<R, Wrong> {
        let mut view: BTreeMap<EntityId, Option<P::Entity>> = ids.iter().map(|id| (id.clone(), self.entities.get(id).cloned())).collect();
        let meta = &self.folded.meta;
        let mut fold = Fold::new(now, self.position, &mut view).placed(self.id.index, meta.leader, meta.clk).under(meta.eng);
        let result = catch_unwind(AssertUnwindSafe(|| act(&self.role, &mut fold)));
        let outputs = fold.outputs().to_vec();
        let result = result.map_err(|_| "the fold panicked".to_owned())?.map_err(|poison| poison.to_string())?;
        for (id, entity) in view {
            let bytes = entity.as_ref().and_then(Entity::encode);
            let entity = entity.filter(|_| bytes.is_some());
            let (before, after) = (earliest(self.entities.get(&id)), earliest(entity.as_ref()));
            let overdue = before.is_some_and(|before| before <= self.folded.meta.clk);
            let changed = self.folded.entities.get(&id) != bytes.as_ref();
            if let (Some(entity), Some(bytes)) = (entity, bytes) {
                self.entities.insert(id.clone(), entity);
                self.folded.entities.insert(id.clone(), bytes);
                let exact = P::HOLDS_FOR.is_some() && after != before;
                if exact || after.is_some_and(|due| before.is_none_or(|before| due < before) || (changed && overdue)) {
                    self.wake_at(&id, after);
                }
            } else {
                self.folded.entities.remove(&id);
                if self.entities.remove(&id).is_some() {
                    self.wake_at(&id, None);
                }
            }
        }
        for output in outputs {
            self.emit(output)?;
        }
        Ok(result)
    }

    fn relay(&mut self, kind: u32, body: Bytes) {
        let Some(role) = P::RELAYS_TO else { return };
        let position = u128::from(self.position.offset) << 64 | u128::from(self.position.index) << 32 | u128::from(kind);
        let record = Record::new(kind, WorkspaceId::new(0), position.to_be_bytes(), Bytes::new(), self.at, body);
        self.send_on(role, self.id.index, Record { at: Some(self.at), ..record });
    }

    fn emit(&mut self, output: Output) -> Result<(), Wrong> {
        match output {
            Output::Inbox { role, workspace, key, kind, body, id, via, at } => {
                let index = self.layout.partition(workspace, &key);
                let at = at.unwrap_or(self.at);
                self.send_on(role, index, Record { at: Some(at), via, ..Record::new(kind, workspace, id, key, at, body) });
            }
            Output::Public { topic, key, kind, version, body } => {
                let spread = Layout { number: 0, partitions: self.config.public_partitions };
                let field = format!("x:{topic}:{}", spread.partition(WorkspaceId::new(0), &key));
                let name = format!("{}/{}/{}.{}", self.id.role, self.id.index, self.position, self.outputs);
                let number = self.number(&field, version, &key, &body);
                let headers = [
                    ("ce_specversion", "1.0".to_owned()),
                    ("ce_id", name),
                    ("ce_source", format!("/waypost/{}/{}", self.id.role, self.id.index)),
                    ("ce_type", kind.to_owned()),
                    ("ce_time", self.at.to_string()),
                    ("ce_subject", hex::encode(&key)),
                    ("content-type", "application/avro".to_owned()),
                    ("ce_sequence", number.to_string()),
                ];
                let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), Bytes::from(value))).collect();
                self.folded.put_out.entry(field).or_default().push(Out::Public(key, headers, body));
            }
            Output::Dead(letter) => return Err(format!("a dead letter: {} {}", letter.reason, letter.detail)),
        }
        Ok(())
    }

    /// The record changes nothing, and is kept whole where somebody may look at it.
    fn letter(&mut self, record: &Record, reason: &str) {
        let spread = Layout { number: 0, partitions: self.config.dead_partitions };
        let field = format!("x:wp1.dead:{}", spread.partition(record.workspace, &record.key));
        let origin = format!("{}/{}/{}.{}", self.id.role, self.id.index, self.position, self.outputs);
        let bytes = Bytes::from(record.to_proto().encode_to_vec());
        self.number(&field, 0, reason.as_bytes(), &bytes);
        self.folded.put_out.entry(field).or_default().push(Out::Dead(origin, reason.to_owned(), bytes));
    }

    fn send_on(&mut self, role: Role, index: u32, record: Record) {
        let record = Record { cause: self.position, trace: self.trace.clone(), eng_min: asks(record.kind), ..record };
        let field = format!("x:{role}:{index}");
        self.number(&field, record.kind, &record.key, &record.body);
        self.folded.put_out.entry(field).or_default().push(Out::Record(record));
    }

    fn number(&mut self, field: &str, kind: u32, key: &[u8], body: &[u8]) -> u64 {
        let (seq, before) = self.tips.get(field).copied().unwrap_or_default();
        let tip = (seq + 1, chain(before, kind, key, body));
        self.tips.insert(field.to_owned(), tip);
        self.folded.chains.entry(field.to_owned()).or_default().push(tip.1);
        let mut hasher = Xxh3::new();
        hasher.update(&self.folded.meta.ochain.to_be_bytes());
        hasher.update(field.as_bytes());
        hasher.update(&tip.0.to_be_bytes());
        hasher.update(&tip.1.to_be_bytes());
        self.folded.meta.ochain = hasher.digest();
        self.outputs += 1;
        tip.0
    }
}
