//! Folding: frames whole, records in order, each under a net that turns a panic into a dead letter (PROTOCOL §4, §12.1).
//!
//! A fold never waits. What it needs and has not got stops it *before* the record, with everything done so
//! far kept, and it goes on there when that has arrived.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    frame::{Frame, Record},
    inbox, kind,
};
use waypost_types::{EntityId, PartitionId, Position, Timestamp, WorkspaceId, trace::TraceContext};

use super::{Phase, Turn, Worker, emitting::Scene, poison::engines, queue::Queued, ticking::Tick};
use crate::{
    cache::Was,
    channel_in::Verdict,
    figures::Tally,
    machine::Traced,
    ports::{Meta, Offset},
    processor::{Definitions, Entity, Fireable, Fold, Job, Output, Poison, Processor},
    tip::accepted_field,
};

/// What is told of traces waits until the driver asks; where nobody does, this is enough.
const TRACED_MAX: usize = 1_024;

/// A frame being folded.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) offset: Offset,
    pub(super) appended: Timestamp,
    /// As it was received.
    payload: Bytes,
    /// Accepted and not folded yet.
    items: VecDeque<Item>,
    /// Outputs of the record under way, over all its acts.
    pub(super) outputs: u32,
    /// The tick under way.
    pub(super) tick: Option<Tick>,
    /// What it fires is due: it waits for no frame behind it.
    has_tick: bool,
    ends_batch: bool,
    records: usize,
}

/// A record and its index in its frame.
#[derive(Debug)]
struct Item {
    index: u32,
    record: Record,
    source: Option<PartitionId>,
}

/// Whether a record, or a whole frame, is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is.
    Done,
    /// Something has been asked for and must arrive first.
    Blocked,
}

/// What one act leaves behind, if it is not poison.
pub(super) struct Done {
    /// Whether anything was done: a timer may not fire.
    result: bool,
    pub(super) outputs: Vec<Output>,
    pub(super) jobs: Vec<Job>,
    pub(super) refusals: u64,
    pub(super) tallies: Vec<Tally>,
}

/// What is done to entities in one act of the role.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// A record is folded.
    Record(Record),
    /// The earliest timer of an entity fires, if there is one that may.
    Timer(EntityId, Fireable),
}

/// Under what an act is done: all that it may know beside its entities.
#[derive(Clone, Copy, Debug)]
struct Circumstances {
    now: Timestamp,
    position: Position,
    leader: u64,
    clk: Timestamp,
    engine: u32,
}

/// An act on entities whose bytes have not been made since.
#[derive(Debug)]
pub(super) struct Act {
    deed: Deed,
    circumstances: Circumstances,
}

/// What an entity was before an act.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    existed: bool,
    /// Its earliest due.
    earliest: Option<Timestamp>,
}

// === impl Before ===

impl Before {
    fn of<E: Entity>(entity: Option<&E>) -> Self {
        Self { existed: entity.is_some(), earliest: entity.and_then(earliest) }
    }
}

impl<P: Processor> Worker<P> {
    /// Folds what has arrived, batch by batch, as far as it goes.
    pub(super) fn fold_ready(&mut self, turn: &mut Turn<'_>) {
        self.queue.seen();
        while self.is_folding() && self.define_missing() {
            let idle = self.work.is_none();
            if idle && (self.queue.is_empty() || self.is_over_limits(turn.config, turn.publisher) || self.waits_for_commit()) {
                break;
            }
            let Some(mut work) = self.work.take().or_else(|| self.next_work(turn)) else { break };
            let step = self.fold_frame(turn, &mut work);
            if step == Step::Blocked {
                self.work = Some(work);
                break;
            }
            if !self.is_folding() {
                break;
            }
            self.finish(turn, work);
        }
        if self.is_folding() && self.work.is_none() {
            self.hand_on(turn);
            // Of frames that put nothing out no acknowledgement comes.
            self.count_acknowledged(turn);
            if self.freeze_at(turn.config).is_some_and(|at| at <= turn.now) {
                self.freeze(turn);
            }
        }
    }

    /// Puts in force what was missing, if it has arrived.
    fn define_missing(&mut self) -> bool {
        if let Some(defv) = &self.missing {
            if self.processor.define(defv) == Definitions::Missing {
                return false;
            }
            self.missing = None;
        }
        true
    }

    /// The next frame, once everything it is known to touch is here; asks for what is not.
    fn next_work(&mut self, turn: &mut Turn<'_>) -> Option<Work> {
        let front = self.queue.front()?;
        if front.unknown.iter().any(|id| !self.cache.knows(id)) {
            let wanted: Vec<EntityId> = self.queue.iter().flat_map(|frame| &frame.unknown).cloned().collect();
            self.load(turn, wanted);
            return None;
        }
        let queued = self.queue.pop()?;
        Some(self.begin(turn, queued))
    }

    /// Judges the sections of a frame; what is accepted becomes work.
    fn begin(&mut self, turn: &mut Turn<'_>, queued: Queued) -> Work {
        let mut work = Work {
            offset: queued.offset,
            appended: queued.appended,
            payload: queued.payload.clone(),
            items: VecDeque::new(),
            outputs: 0,
            tick: None,
            has_tick: false,
            ends_batch: false,
            records: 0,
        };
        match queued.frame {
            Ok(frame) => self.accept(turn, frame, &mut work),
            Err(why) => {
                let mut scene = Scene::new(queued.appended, Position { offset: queued.offset, index: 0 }, Bytes::new());
                self.begin_chain(scene.position);
                self.dead_letter(turn, &mut scene, "FRAME_UNREADABLE", &why, queued.payload, WorkspaceId::new(0), &[]);
            }
        }
        work
    }

    fn accept(&mut self, turn: &mut Turn<'_>, frame: Frame, work: &mut Work) {
        work.items.reserve_exact(frame.sections.iter().map(|section| section.records.len()).sum());
        let mut index = 0;
        for section in frame.sections {
            let count = section.records.len();
            let mut skip = 0;
            let from = section.source.map(|source| PartitionId { role: source.role, index: source.partition });
            if let Some(source) = section.source {
                match self.received.judge(source, &section.records, &turn.config.rules) {
                    Verdict::Repeat { diverged } => {
                        turn.counters.repeats += count as u64;
                        if diverged {
                            self.diverged(turn, source, count);
                        }
                        skip = count;
                    }
                    Verdict::Gap => {
                        self.gapped(turn, source, count);
                        skip = count;
                    }
                    Verdict::Accept { skip: had, diverged } => {
                        turn.counters.repeats += had as u64;
                        if diverged {
                            self.diverged(turn, source, count);
                        }
                        self.continued(turn, source);
                        let tip = self.received.last(source.role, source.partition);
                        self.open.sequence(accepted_field(source.role, source.partition), tip);
                        skip = had;
                    }
                }
            }
            for (i, record) in section.records.into_iter().enumerate() {
                if i >= skip {
                    work.has_tick |= record.kind == kind::TICK;
                    work.ends_batch |= record.kind == kind::ENGINE_ACTIVATE;
                    work.items.push_back(Item { index, record, source: from });
                }
                index += 1;
            }
        }
        work.records = work.items.len();
        turn.counters.records += work.items.len() as u64;
    }

    fn fold_frame(&mut self, turn: &mut Turn<'_>, work: &mut Work) -> Step {
        while let Some(item) = work.items.pop_front() {
            let step = self.fold_item(turn, work, &item);
            if step == Step::Blocked {
                work.items.push_front(item);
                return Step::Blocked;
            }
            work.outputs = 0;
            if !self.is_folding() {
                break;
            }
        }
        Step::Done
    }

    /// The frame is folded whole: the batch is one frame longer, or ends here.
    fn finish(&mut self, turn: &mut Turn<'_>, work: Work) {
        let Work { offset, appended, has_tick, ends_batch, .. } = work;
        turn.counters.frames += 1;
        self.folded = offset + 1;
        self.open.frame(appended, work.records, work.payload);
        self.survived_frame(offset);
        self.miss_leader(turn);
        if ends_batch || self.lives.is_bisecting() || self.open.is_full(turn.now, turn.config) {
            self.freeze(turn);
        } else if has_tick {
            self.hand_on(turn);
        }
    }

    fn fold_item(&mut self, turn: &mut Turn<'_>, work: &mut Work, item: &Item) -> Step {
        let record = &item.record;
        // A record enters with the earlier of two clocks: both must be fast to make it early.
        let at = record.at.unwrap_or_else(|| record.said.min(work.appended));
        let position = Position { offset: work.offset, index: item.index };
        let traced = self.traced(turn, work, item);
        let trace = traced.map_or_else(Bytes::new, |traced| Bytes::copy_from_slice(&traced.here.to_bytes()));
        let mut scene = Scene { at, position, trace, outputs: work.outputs, source: item.source };
        // What has begun is gone on with.
        if work.tick.is_none() {
            if record.kind != kind::LEADER && self.is_skipped(turn, position) {
                self.skip(turn, record, &mut scene);
                return Step::Done;
            }
            if record.eng_min > *turn.config.engines.end() {
                let has = engines(turn.config);
                let why = format!("record {position} asks for engine {}, this binary has {has}: run one that has it", record.eng_min);
                self.halt_at(turn, position, why);
                return Step::Done;
            }
            if self.may_fold(turn, record, position) == Step::Blocked {
                return Step::Blocked;
            }
            if !self.is_folding() {
                return Step::Done;
            }
        }
        let step = match record.kind {
            kind::TICK => return self.fold_tick(turn, work, record, &mut scene),
            kind::LEADER => self.fold_leader(turn, record, &mut scene),
            kind::MARK => self.fold_mark(turn, record, &mut scene),
            kind::DEF_ACTIVATE => self.fold_activation(turn, record, &mut scene),
            kind::ENGINE_ACTIVATE => self.fold_engine(turn, record, &mut scene),
            _ => self.fold_record(turn, record, &mut scene),
        };
        work.outputs = scene.outputs;
        if step == Step::Done && self.leads() && turn.traced.len() < TRACED_MAX {
            turn.traced.extend(traced);
        }
        step
    }

    /// The place of this fold in its record's trace: the same in every life.
    fn traced(&self, turn: &Turn<'_>, work: &Work, item: &Item) -> Option<Traced> {
        let sent = TraceContext::from_bytes(&item.record.trace)?;
        let position = Position { offset: work.offset, index: item.index };
        let PartitionId { role, index: partition } = self.id;
        let here = sent.child(&[
            role.as_str().as_bytes(),
            &partition.to_be_bytes(),
            &position.offset.to_be_bytes(),
            &position.index.to_be_bytes(),
        ]);
        Some(Traced { partition, position, kind: item.record.kind, sent, here, appended: work.appended, at: turn.now })
    }

    fn fold_leader(&mut self, turn: &mut Turn<'_>, record: &Record, scene: &mut Scene) -> Step {
        let own = inbox::Leader::decode(record.body.clone()).is_ok_and(|leader| leader.token[..] == self.token.0);
        if own && !self.is_log_whole() {
            return Step::Blocked;
        }
        self.begin_chain(scene.position);
        self.meta.leader = scene.position.offset + 1;
        if own {
            self.own_leader = Some(self.meta.leader);
            self.contested = None;
            self.phase = Phase::Leading;
            self.lives.caught_up();
            self.ticks.begin(turn.now);
        } else if self.phase == Phase::Leading {
            // Of a claim before mine, or after it. The store knows: a commit behind it that goes through is
            // proof that the partition is still mine. Without waiting for that, two would duel in the log.
            self.contested = Some(scene.position.offset);
        }
        Step::Done
    }

    fn fold_mark(&mut self, turn: &mut Turn<'_>, record: &Record, scene: &mut Scene) -> Step {
        self.begin_chain(scene.position);
        match inbox::Mark::decode(record.body.clone()) {
            Ok(mark) => {
                let wm = Timestamp::from_millis(mark.wm);
                if wm > self.meta.wm {
                    self.meta.wm = wm;
                    self.relay(turn, scene, kind::MARK, record.body.clone());
                }
            }
            Err(why) => self.poisoned(turn, scene, record, &unreadable(&why)),
        }
        Step::Done
    }

    fn fold_activation(&mut self, turn: &mut Turn<'_>, record: &Record, scene: &mut Scene) -> Step {
        let set = match inbox::DefActivate::decode(record.body.clone()) {
            Ok(set) => set,
            Err(why) => {
                self.begin_chain(scene.position);
                self.poisoned(turn, scene, record, &unreadable(&why));
                return Step::Done;
            }
        };
        let present: u64 = self.meta.defv.split(':').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        if set.set > present {
            let defv = format!("{}:{}", set.set, hex::encode(&set.hash));
            // What has been folded by the old definitions could not be folded again by the new ones.
            if !self.make_bytes(turn) {
                return Step::Done;
            }
            if self.processor.define(&defv) == Definitions::Missing {
                // The record stays at the front; it is tried again when definitions arrive.
                self.missing = Some(defv);
                return Step::Blocked;
            }
            self.meta.defv = defv;
            self.begin_chain(scene.position);
            self.relay(turn, scene, kind::DEF_ACTIVATE, record.body.clone());
        } else {
            self.begin_chain(scene.position);
        }
        Step::Done
    }

    fn fold_engine(&mut self, turn: &mut Turn<'_>, record: &Record, scene: &mut Scene) -> Step {
        self.begin_chain(scene.position);
        match inbox::EngineActivate::decode(record.body.clone()) {
            Ok(activate) if activate.engine > *turn.config.engines.end() => {
                let has = engines(turn.config);
                self.halt(turn, format!("the log activates engine {}, this binary has {has}: run one that has it", activate.engine));
            }
            // One that is not above what is in force is dropped: control appends again whatever it is unsure of.
            Ok(activate) => self.meta.eng = self.meta.eng.max(activate.engine),
            Err(why) => self.poisoned(turn, scene, record, &unreadable(&why)),
        }
        Step::Done
    }

    /// A record of the role.
    fn fold_record(&mut self, turn: &mut Turn<'_>, record: &Record, scene: &mut Scene) -> Step {
        let ids = match self.guarded(turn, |processor| processor.entities(record)) {
            Ok(ids) => ids,
            Err(poison) => {
                self.begin_chain(scene.position);
                self.poisoned(turn, scene, record, &poison);
                return Step::Done;
            }
        };
        if ids.iter().any(|id| !self.cache.knows(id)) {
            self.load(turn, ids);
            return Step::Blocked;
        }
        self.begin_chain(scene.position);
        if !turn.config.rules.ticks_in_log {
            self.meta.clk = self.meta.clk.max(turn.now);
        }
        if turn.config.rules.own_timers_first {
            self.own_timers(turn, &ids, scene);
            if !self.is_folding() {
                return Step::Done;
            }
        }
        match self.act(turn, &ids, scene.at, scene.position, Deed::Record(record.clone())) {
            Ok(done) => self.publish(turn, scene, done),
            Err(poison) => self.poisoned(turn, scene, record, &poison),
        }
        Step::Done
    }

    /// Due timers of the record's entities go before it. Downtime then does not reorder a person's timers
    /// and events; at the same instant the record goes first.
    fn own_timers(&mut self, turn: &mut Turn<'_>, ids: &[EntityId], scene: &mut Scene) {
        let log_time = scene.at;
        // They are not of this record's making.
        let trace = std::mem::take(&mut scene.trace);
        let limit = Fireable { before: Some(log_time), ..self.fireable(turn) };
        let mut left = turn.config.own_timers;
        for id in ids {
            while left > 0 {
                left -= 1;
                match self.fire(turn, id, limit, scene) {
                    Ok(true) => {}
                    Ok(false) => break,
                    // The timer is at fault, not the record that found it due.
                    Err(poison) => {
                        self.timer_poisoned(turn, scene, id, &poison);
                        if !self.is_folding() {
                            return;
                        }
                        break;
                    }
                }
            }
        }
        (scene.at, scene.trace) = (log_time, trace);
    }

    /// Up to which due timers may fire.
    pub(super) fn fireable(&self, turn: &Turn<'_>) -> Fireable {
        let clk = self.meta.clk;
        if !turn.config.rules.wm_gate {
            return Fireable { plain: clk, absent: clk, proven: clk, before: None };
        }
        let proven = clk.min(self.meta.wm.plus(turn.config.slack));
        Fireable { plain: clk, absent: proven.max(clk.minus(turn.config.patience)), proven, before: None }
    }

    /// The due of the entity's earliest timer that may fire.
    fn due(&self, id: &EntityId, limit: Fireable) -> Option<Timestamp> {
        let wakeups = self.cache.get(id)?.wakeups();
        let plain = wakeups.plain.filter(|due| *due <= limit.plain);
        let absent = wakeups.absent.filter(|due| *due <= limit.absent);
        let due = [plain, absent].into_iter().flatten().min().filter(|due| limit.before.is_none_or(|before| *due < before))?;
        (!self.is_set_aside(id, due)).then_some(due)
    }

    /// Fires the entity's earliest timer, if it has one that may; its log time is its due.
    pub(super) fn fire(&mut self, turn: &mut Turn<'_>, id: &EntityId, limit: Fireable, scene: &mut Scene) -> Result<bool, Poison> {
        let Some(due) = self.due(id, limit) else { return Ok(false) };
        scene.at = due;
        let ids = std::slice::from_ref(id);
        let done = self.act(turn, ids, due, scene.position, Deed::Timer(id.clone(), limit))?;
        let fired = done.result;
        if fired {
            turn.counters.timers += 1;
            self.open.late(turn.now.since(due));
        }
        self.publish(turn, scene, done);
        Ok(fired)
    }

    /// One act of the role on its entities; where it is poison they are again what they were.
    fn act(&mut self, turn: &mut Turn<'_>, ids: &[EntityId], now: Timestamp, position: Position, deed: Deed) -> Result<Done, Poison> {
        let Meta { leader, clk, eng: engine, .. } = self.meta;
        let circumstances = Circumstances { now, position, leader, clk, engine };
        let before: Vec<Before> = ids.iter().map(|id| Before::of(self.cache.get(id))).collect();
        let mut entities = self.take_out(ids);
        match self.attempt(turn, ids, &mut entities, circumstances, &deed) {
            Ok((done, touched)) => {
                for (id, value) in entities {
                    if touched.contains(&id) {
                        let before = ids.iter().position(|named| *named == id).and_then(|place| before.get(place)).copied();
                        self.change(&id, before.unwrap_or_default(), value.filter(|value| !value.is_nothing()), position.offset);
                    } else {
                        self.cache.put_back(&id, value);
                    }
                }
                if !touched.is_empty() {
                    self.open.act(Act { deed, circumstances });
                }
                Ok(done)
            }
            Err(poison) => {
                self.mend(turn, ids);
                Err(poison)
            }
        }
    }

    /// Each once, though one may be named twice.
    fn take_out(&mut self, ids: &[EntityId]) -> Vec<(EntityId, Option<P::Entity>)> {
        let mut entities: Vec<(EntityId, Option<P::Entity>)> = Vec::with_capacity(ids.len());
        for id in ids {
            if entities.iter().all(|(held, _)| held != id) {
                entities.push((id.clone(), self.cache.take(id)));
            }
        }
        entities
    }

    /// The act itself, and which entities it touched.
    fn attempt(
        &self,
        turn: &Turn<'_>,
        ids: &[EntityId],
        entities: &mut Vec<(EntityId, Option<P::Entity>)>,
        circumstances: Circumstances,
        deed: &Deed,
    ) -> Result<(Done, Vec<EntityId>), Poison> {
        let Circumstances { now, position, leader, clk, engine } = circumstances;
        let mut fold = Fold {
            now,
            position,
            partition: self.id.index,
            leader,
            clk,
            engine,
            entities,
            outputs: Vec::new(),
            jobs: Vec::new(),
            refusals: 0,
            tallies: Vec::new(),
            touched: Vec::new(),
        };
        let result = self.guarded(turn, |processor| match deed {
            Deed::Record(record) => processor.fold(&mut fold, record).map(|()| true),
            Deed::Timer(id, limit) => processor.fire(&mut fold, id, *limit),
        })?;
        let Fold { outputs, jobs, refusals, tallies, touched, .. } = fold;
        if let Some(id) = touched.iter().find(|id| !ids.contains(id)) {
            let detail = format!("an entity of kind {} was changed without being named", char::from(id.kind()));
            return Err(Poison { reason: "ENTITY_NOT_NAMED", detail });
        }
        Self::check_outputs(turn, &outputs)?;
        Ok((Done { result, outputs, jobs, refusals, tallies }, touched))
    }

    /// Makes what a poisonous act had in hand what it was before: what its bytes say, and what was done since they were made.
    fn mend(&mut self, turn: &mut Turn<'_>, ids: &[EntityId]) {
        let is_stale = ids.iter().any(|id| self.cache.is_stale(id));
        for id in ids {
            self.restore(turn, id);
        }
        if !is_stale || !self.is_folding() {
            return;
        }
        for id in self.open.touched() {
            if self.cache.is_stale(&id) {
                self.restore(turn, &id);
            }
        }
        for Act { deed, circumstances } in self.open.take_acts() {
            let ids = match &deed {
                Deed::Record(record) => self.guarded(turn, |processor| processor.entities(record)),
                Deed::Timer(id, _) => Ok(vec![id.clone()]),
            };
            let mut entities = self.take_out(ids.as_deref().unwrap_or_default());
            let again = ids.and_then(|ids| self.attempt(turn, &ids, &mut entities, circumstances, &deed));
            if let Err(poison) = again {
                self.halt(turn, format!("what was folded at {} cannot be folded again: {poison}", circumstances.position));
                return;
            }
            for (id, value) in entities {
                self.cache.put_back(&id, value.filter(|value| !value.is_nothing()));
            }
        }
        self.make_bytes(turn);
    }

    /// Makes an entity what its bytes say.
    fn restore(&mut self, turn: &mut Turn<'_>, id: &EntityId) {
        match self.cache.bytes(id).map(|bytes| P::Entity::decode(id, bytes)).transpose() {
            Ok(value) => self.cache.put_back(id, value),
            Err(why) => self.unreadable_entity(turn, id, &why),
        }
    }

    /// Makes the bytes of all that the open batch has touched. Where that panics there is no record to blame, and the
    /// partition halts; returns whether it goes on.
    pub(super) fn make_bytes(&mut self, turn: &mut Turn<'_>) -> bool {
        let touched = self.open.touched();
        let refresh = || {
            for id in &touched {
                self.cache.refresh(id, P::Entity::encode);
            }
        };
        if catch_unwind(AssertUnwindSafe(refresh)).is_err() {
            self.halt(turn, "the bytes of an entity cannot be made");
            return false;
        }
        self.open.take_acts();
        true
    }

    pub(super) fn guarded<R>(&self, turn: &Turn<'_>, act: impl FnOnce(&P) -> Result<R, Poison>) -> Result<R, Poison> {
        if !turn.config.rules.catch_unwind {
            return act(&self.processor);
        }
        // Safe to go on after a panic: a processor has no state that its folds change, and the entities are made anew.
        catch_unwind(AssertUnwindSafe(|| act(&self.processor)))
            .unwrap_or_else(|_| Err(Poison { reason: "ENGINE_PANIC", detail: "the fold panicked".to_owned() }))
    }

    /// An entity as the frame at `offset` leaves it.
    fn change(&mut self, id: &EntityId, before: Before, value: Option<P::Entity>, offset: Offset) {
        let Before { existed, earliest: before } = before;
        let after = value.as_ref().and_then(earliest);
        let exists = value.is_some();
        if let Was::Stored(bytes) = self.cache.change(id, value, offset + 1) {
            self.open.entity(id, bytes);
        }
        // One that is overdue may be a poisonous timer's, which nothing wakes; so what touches it arms it again.
        let overdue = before.is_some_and(|before| before <= self.meta.clk);
        match after {
            // Nothing wakes a timer that was set aside.
            Some(due) if self.is_set_aside(id, due) => {}
            // What is held must show at once, and no longer than it is held.
            _ if P::HOLDS_FOR.is_some() && after != before => self.wake_at(id, after, offset),
            Some(due) if before.is_none_or(|before| due < before) || overdue => self.wake_at(id, Some(due), offset),
            None if existed && !exists => self.wake_at(id, None, offset),
            Some(_) | None => {}
        }
    }

    /// Writes the entity's wake-up.
    pub(super) fn wake_at(&mut self, id: &EntityId, due: Option<Timestamp>, offset: Offset) {
        /// What a store's 15 digits hold; earlier than the due is always right.
        const LATEST: Timestamp = Timestamp::from_millis(999_999_999_999_999);
        let due = due.map(|due| due.clamp(Timestamp::ZERO, LATEST));
        self.timers.set(id, due, offset);
        self.open.timer(id, self.cache.wakeup(id), due);
        self.cache.rearm(id, due, offset + 1);
    }

    /// The entity's earliest due and its earliest absent one.
    pub(super) fn dues(&self, id: &EntityId) -> (Option<Timestamp>, Option<Timestamp>) {
        let entity = self.cache.get(id);
        (entity.and_then(earliest), entity.and_then(|entity| entity.wakeups().absent))
    }

    /// Whether an entity is in memory, present or known to be absent.
    pub(super) fn knows(&self, id: &EntityId) -> bool {
        self.cache.knows(id)
    }
}

fn earliest<E: Entity>(entity: &E) -> Option<Timestamp> {
    let wakeups = entity.wakeups();
    [wakeups.plain, wakeups.absent].into_iter().flatten().min()
}

pub(super) fn unreadable(why: &prost::DecodeError) -> Poison {
    Poison { reason: "DECODE_FAILED", detail: why.to_string() }
}
