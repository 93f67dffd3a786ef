//! Batches, frozen as they end, and commits behind the acknowledgements of their outputs (PROTOCOL §4, §5.2–5.4).
//!
//! A write set is what the end of its batch left behind, not what memory holds when the commit is sent:
//! newer values under an older offset would be folded twice. A batch ends when it is full or the next commit is due, long
//! behind the frames whose outputs were handed on, so that what many records touch is encoded once a commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use foldhash::fast::RandomState;
use tracing::warn;
use waypost_types::{EntityId, Span, Timestamp, WorkspaceId};

use super::{
    Phase, Turn, Worker,
    claiming::ASK_AGAIN,
    folding::Act,
    loading::pause,
    watching::{appended_at, lastrec},
};
use crate::{
    channel_out::Item,
    config::Config,
    figures::{DEAD_LETTER, Decided, Tally},
    late::is_late,
    machine::{Command, Destination},
    ports::{Commit, CommitReply, Meta, Offset, StoreError, Token},
    processor::{Job, Processor},
    tip::Tip,
};

/// What the frames folded since the last batch ended have changed.
#[derive(Debug, Default)]
pub(super) struct Open {
    frames: usize,
    records: usize,
    bytes: usize,
    appended: Timestamp,
    /// The last frame, as it was received.
    last: Option<(Timestamp, Bytes)>,
    /// With what they were when the batch began.
    entities: HashMap<EntityId, Option<Bytes>, RandomState>,
    /// Since the bytes of what they touched were made, in order.
    acts: Vec<Act>,
    /// As they were when the batch began, and as they are.
    timers: BTreeMap<EntityId, (Option<Timestamp>, Option<Timestamp>)>,
    sequences: BTreeMap<String, Tip>,
    /// Not handed on yet.
    outputs: Vec<(Destination, u64, Item)>,
    jobs: Vec<Job>,
    /// Frames since the last outputs were handed on.
    unhanded: usize,
    /// Where outputs were handed on to.
    destinations: BTreeSet<Destination>,
    decided: Decided,
}

/// What the frames folded since the last time hand on.
#[derive(Debug)]
pub(super) struct Unhanded {
    /// When the latest of all frames of the batch was appended.
    pub(super) appended: Timestamp,
    pub(super) outputs: Vec<(Destination, u64, Item)>,
    pub(super) jobs: Vec<Job>,
}

/// A batch folded whole: its outputs are out, its write set waits for their acknowledgements.
#[derive(Debug)]
pub(super) struct Frozen {
    next: Offset,
    /// All handed on until its end: as many acknowledgements it waits for.
    handed: u64,
    /// What it proves once it is committed.
    proves: Timestamp,
    meta: Meta,
    entities: Vec<(EntityId, Option<Bytes>)>,
    timers: BTreeMap<EntityId, Option<Timestamp>>,
    sequences: BTreeMap<String, Tip>,
    bytes: usize,
    records: usize,
    /// Those that wait for the commit; none unless the switch says so.
    jobs: Vec<Job>,
    decided: Decided,
}

/// Changed entities and wake-ups, as they are by now.
struct Summed {
    entities: Vec<(EntityId, Option<Bytes>)>,
    timers: BTreeMap<EntityId, Option<Timestamp>>,
}

/// The commit under way.
#[derive(Debug)]
pub(super) struct InFlight {
    commit: Box<Commit>,
    attempts: u32,
    /// Since when the store says that it writes nothing.
    refused: Option<Timestamp>,
    /// Not under way; the same bytes go again at this instant.
    again: Option<Timestamp>,
}

// === impl Open ===

impl Open {
    /// The batch, and a new one with room for as much: growing into it costs more than most of what goes in.
    fn end(&mut self) -> Self {
        let new = Self {
            entities: HashMap::with_capacity_and_hasher(self.entities.len(), RandomState::default()),
            acts: Vec::with_capacity(self.acts.len()),
            ..Self::default()
        };
        std::mem::replace(self, new)
    }

    pub(super) fn frame(&mut self, appended: Timestamp, records: usize, payload: Bytes) {
        self.frames += 1;
        self.unhanded += 1;
        self.records += records;
        self.bytes += payload.len();
        self.appended = self.appended.max(appended);
        self.last = Some((appended, payload));
    }

    /// What is to be handed on; none where no frame was folded since.
    pub(super) fn hand_on(&mut self) -> Option<Unhanded> {
        if std::mem::take(&mut self.unhanded) == 0 {
            return None;
        }
        let room = Vec::with_capacity(self.outputs.len());
        let outputs = std::mem::replace(&mut self.outputs, room);
        Some(Unhanded { appended: self.appended, outputs, jobs: std::mem::take(&mut self.jobs) })
    }

    /// Outputs went to these.
    pub(super) fn handed_to<'a>(&mut self, destinations: impl Iterator<Item = &'a Destination>) {
        for destination in destinations {
            if !self.destinations.contains(destination) {
                self.destinations.insert(destination.clone());
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    pub(super) fn is_full(&self, now: Timestamp, config: &Config) -> bool {
        let (records, bytes) = config.batch(is_late(now, self.appended));
        // Larger is worth it where many records touch few entities, and a batch is never committed in parts.
        self.records >= records || self.bytes >= bytes || self.entities.len() >= 2 * config.batch_records
    }

    /// An entity was touched, and its bytes were `before` until then.
    pub(super) fn entity(&mut self, id: &EntityId, before: Option<Bytes>) {
        self.entities.entry(id.clone()).or_insert(before);
    }

    /// What was touched in this batch.
    pub(super) fn touched(&self) -> Vec<EntityId> {
        self.entities.keys().cloned().collect()
    }

    /// An act was done on what is in memory.
    pub(super) fn act(&mut self, act: Act) {
        self.acts.push(act);
    }

    /// Acts need not be remembered any more.
    pub(super) fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    /// A wake-up has changed; `before` is what this change replaced.
    pub(super) fn timer(&mut self, id: &EntityId, before: Option<Timestamp>, due: Option<Timestamp>) {
        self.timers.entry(id.clone()).or_insert((before, None)).1 = due;
    }

    pub(super) fn sequence(&mut self, field: String, tip: Tip) {
        self.sequences.insert(field, tip);
    }

    pub(super) fn output(&mut self, destination: &Destination, before: u64, item: Item) {
        self.outputs.push((destination.clone(), before, item));
    }

    pub(super) fn jobs(&mut self, jobs: Vec<Job>) {
        self.jobs.extend(jobs);
    }

    /// What an act has decided.
    pub(super) fn tallies(&mut self, tallies: Vec<Tally>) {
        self.decided.tallies.extend(tallies);
    }

    /// A dead letter was put out.
    pub(super) fn set_aside(&mut self, workspace: WorkspaceId, reason: &str) {
        let (name, reason) = (String::new(), reason.to_owned());
        self.decided.tallies.push(Tally { what: DEAD_LETTER, workspace, name, version: 0, reason });
    }

    /// A timer fired so long after it was due.
    pub(super) fn late(&mut self, by: Span) {
        self.decided.lateness.add(u64::try_from(by.millis()).unwrap_or(0).saturating_mul(1_000));
    }

    pub(super) fn records(&self) -> usize {
        self.records
    }
}

// === impl InFlight ===

impl InFlight {
    pub(super) fn next(&self) -> Offset {
        self.commit.next
    }
}

impl<P: Processor> Worker<P> {
    /// Ends the batch: what it has not handed on goes out, and its write set is fixed.
    pub(super) fn freeze(&mut self, turn: &mut Turn<'_>) {
        if self.open.is_empty() || !self.make_bytes(turn) {
            return;
        }
        self.hand_on(turn);
        let mut open = self.open.end();
        if let Some((appended, payload)) = &open.last {
            self.meta.lastrec = lastrec(self.folded.saturating_sub(1), payload, *appended);
        }
        open.sequences.extend(open.destinations.iter().filter_map(|to| self.tips.get(to)).map(|sent| (sent.field.clone(), sent.tip)));
        let Summed { entities, timers } = self.sum(open.entities, open.timers, &open.sequences);
        let blobs: usize = entities.iter().map(|(id, bytes)| id.as_bytes().len() + bytes.as_ref().map_or(0, Bytes::len)).sum();
        let bytes = blobs + 32 * (timers.len() + open.sequences.len());
        self.held = (self.held.0 + bytes, self.held.1 + open.records);
        self.frozen.push_back(Frozen {
            next: self.folded,
            handed: self.handed.count(),
            proves: self.proven(turn.config, open.appended),
            meta: self.meta.clone(),
            bytes,
            entities,
            timers,
            sequences: open.sequences,
            records: open.records,
            jobs: open.jobs,
            decided: open.decided,
        });
        self.cache.evict(turn.config.cache_entities, self.off, turn.config.rules.keep_uncommitted);
        self.count_acknowledged(turn);
    }

    /// When the open batch ends although it is not full: with the next commit. While one is under way, or the batches before wait
    /// for acknowledgements, that is not yet to be told; the answer brings a step.
    pub(super) fn freeze_at(&self, config: &Config) -> Option<Timestamp> {
        let waits = self.commit.is_some() || config.rules.commit_behind_acknowledgements && self.acknowledged < self.frozen.len();
        (self.is_folding() && self.work.is_none() && !self.open.is_empty() && !waits).then(|| self.next_commit(config, false))
    }

    pub(super) fn start(&self, turn: &mut Turn<'_>, jobs: Vec<Job>) {
        for job in jobs {
            *turn.jobs.entry(self.id.index).or_default() += 1;
            turn.commands.push(Command::Job(self.id.index, job));
        }
    }

    /// Brings the digest to the end of the batch: what it replaced goes out, what it leaves comes in.
    fn sum(
        &mut self,
        entities: HashMap<EntityId, Option<Bytes>, RandomState>,
        timers: BTreeMap<EntityId, (Option<Timestamp>, Option<Timestamp>)>,
        sequences: &BTreeMap<String, Tip>,
    ) -> Summed {
        let (digest, cache) = (&mut self.digest, &self.cache);
        let entities = entities.into_iter().filter_map(|(id, before)| {
            let after = cache.bytes(&id).cloned();
            if before == after {
                return None;
            }
            digest.entity(&id, before.as_ref(), after.as_ref());
            Some((id, after))
        });
        let entities = entities.collect();
        let timers = timers.into_iter().map(|(id, (before, after))| {
            digest.timer(&id, before, after);
            (id, after)
        });
        let timers = timers.collect();
        for (field, tip) in sequences {
            let before = self.sequences.insert(field.clone(), *tip);
            digest.sequence(field, before.map(Tip::to_bytes), tip.to_bytes());
        }
        self.meta.digest = digest.to_bytes();
        Summed { entities, timers }
    }

    /// Batches whose outputs all stand in their logs may be committed.
    pub(super) fn count_acknowledged(&mut self, turn: &mut Turn<'_>) {
        let stand = self.outputs_standing(turn);
        while self.frozen.get(self.acknowledged).is_some_and(|batch| batch.handed <= stand) {
            self.acknowledged += 1;
        }
    }

    /// Batches that may be committed, and whether they are enough to do so at once.
    fn committable(&self, config: &Config) -> (usize, bool) {
        let ready = if config.rules.commit_behind_acknowledgements { self.acknowledged } else { self.frozen.len() };
        let (mut entities, mut bytes) = (0, 0);
        for (count, batch) in self.frozen.iter().take(ready).enumerate() {
            entities += batch.entities.len();
            bytes += batch.bytes;
            if entities >= self.tempo.entities || bytes >= self.tempo.bytes {
                return (count + 1, true);
            }
        }
        (ready, false)
    }

    /// So far ahead of its commits that they are worth their price: at half of what it may hold.
    fn is_far_ahead(&self, config: &Config) -> bool {
        let (bytes, records) = self.held;
        2 * bytes > config.frozen_bytes || 2 * records > config.uncommitted_records
    }

    /// When the next commit may go out, small or full.
    fn next_commit(&self, config: &Config, full: bool) -> Timestamp {
        if self.is_far_ahead(config) || self.lives.is_bisecting() || matches!(self.phase, Phase::Draining(_)) {
            return Timestamp::ZERO;
        }
        self.committed_at.map_or(Timestamp::ZERO, |at| at.plus(if full { self.tempo.full } else { self.tempo.interval }))
    }

    /// Commits what may be committed, τ after the last commit; sooner where it fills one; at once where too
    /// much waits for it, and where it is the last.
    pub(super) fn commit_due(&mut self, turn: &mut Turn<'_>) {
        if !self.is_folding() && !matches!(self.phase, Phase::Draining(_)) {
            return;
        }
        if let Some(in_flight) = &mut self.commit {
            if in_flight.again.is_some_and(|at| at <= turn.now) {
                in_flight.again = None;
                turn.commands.push(Command::Commit(self.id.index, in_flight.commit.clone()));
            }
            return;
        }
        let (count, full) = self.committable(turn.config);
        if count == 0 || self.next_commit(turn.config, full) > turn.now {
            return;
        }
        let commit = Box::new(self.coalesce(count, turn.config));
        self.committed_at = Some(turn.now);
        turn.pace.sent(turn.now, self.id.index);
        turn.commands.push(Command::Commit(self.id.index, commit.clone()));
        self.commit = Some(InFlight { commit, attempts: 0, refused: None, again: None });
    }

    /// When [`Self::commit_due`] has something to do.
    pub(super) fn commit_wake(&self, config: &Config) -> Option<Timestamp> {
        match &self.commit {
            Some(in_flight) => in_flight.again,
            None if self.frozen.is_empty() || self.acknowledged == 0 && config.rules.commit_behind_acknowledgements => None,
            None => {
                let (_, full) = self.committable(config);
                Some(self.next_commit(config, full))
            }
        }
    }

    /// The first `count` batches as one, the later value winning.
    fn coalesce(&self, count: usize, config: &Config) -> Commit {
        let (mut entities, mut timers, mut sequences) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let (mut next, mut meta) = (self.off, self.meta.clone());
        for batch in self.frozen.iter().take(count) {
            timers.extend(batch.timers.iter().map(|(id, due)| (id.clone(), *due)));
            sequences.extend(batch.sequences.iter().map(|(field, tip)| (field.clone(), tip.to_bytes())));
            next = batch.next;
            meta.clone_from(&batch.meta);
        }
        // Later batches first, and the sort is stable: of those with one id the latest is kept.
        for batch in self.frozen.iter().take(count).rev() {
            for (id, bytes) in &batch.entities {
                let bytes = if config.rules.frozen_write_sets { bytes.clone() } else { self.cache.bytes(id).cloned() };
                if bytes.is_some() || config.rules.coalesced_deletions {
                    entities.push((id.clone(), bytes));
                }
            }
        }
        entities.sort_by(|(one, _), (other, _)| one.cmp(other));
        entities.dedup_by(|(one, _), (other, _)| one == other);
        Commit {
            token: self.token,
            expected: self.off,
            next,
            meta,
            entities,
            timers: timers.into_iter().collect(),
            sequences: sequences.into_iter().collect(),
        }
    }

    /// The store answered the commit.
    pub(crate) fn committed(&mut self, turn: &mut Turn<'_>, token: Token, reply: &Result<CommitReply, StoreError>) {
        if token != self.token || !(self.is_folding() || matches!(self.phase, Phase::Draining(_))) {
            return;
        }
        let Some(in_flight) = &mut self.commit else { return };
        self.watch.store_answered(reply.is_ok());
        match reply {
            Ok(CommitReply::Ok | CommitReply::Already) => {
                if in_flight.attempts == 0 {
                    turn.pace.answered(turn.now, self.id.index);
                }
                self.tempo = turn.pace.tempo(turn.now, turn.config);
                self.off = in_flight.commit.next;
                self.committed_frame = appended_at(&in_flight.commit.meta.lastrec);
                self.commit = None;
                turn.counters.commits += 1;
                while let Some(batch) = self.frozen.pop_front_if(|batch| batch.next <= self.off) {
                    self.held = (self.held.0 - batch.bytes, self.held.1 - batch.records);
                    self.acknowledged = self.acknowledged.saturating_sub(1);
                    self.through = self.through.max(batch.proves);
                    for tally in batch.decided.tallies {
                        turn.counters.tallies.add(tally);
                    }
                    turn.counters.lateness.merge(&batch.decided.lateness);
                    // What is given back begins nothing more.
                    if self.is_folding() {
                        self.start(turn, batch.jobs);
                    }
                }
                self.prune_timers();
                self.got_on();
                self.survived_commit();
                if self.contested.is_some_and(|at| at < self.off) {
                    self.contested = None;
                    self.append_leader(turn);
                }
            }
            Ok(CommitReply::Moved(_)) => self.moved(turn),
            Ok(CommitReply::Fenced) => self.fenced(turn),
            Ok(CommitReply::Uninit) => self.halt_without_state(turn, "the store has lost the state of this partition"),
            Ok(CommitReply::BadArg) => self.halt(turn, "the store refused an argument of a commit"),
            Ok(CommitReply::Torn) => self.halt(turn, "the store applied a commit in part: one of the partition's keys is of a wrong kind"),
            // Nothing was written, or nobody knows: the same bytes again, folding on meanwhile. A store that has
            // refused for long is asked by claims, which cost nothing, and what was folded ahead is let go.
            Err(error) => {
                if matches!(error, StoreError::Refused(_)) {
                    let since = *in_flight.refused.get_or_insert(turn.now);
                    if turn.now.since(since) >= turn.config.refused_for && !matches!(self.phase, Phase::Draining(_)) {
                        warn!(partition = %self.id, off = self.off, %error, "the store does not take a commit");
                        return self.lose(turn, turn.now.plus(ASK_AGAIN));
                    }
                } else {
                    in_flight.refused = None;
                }
                in_flight.again = Some(turn.now.plus(pause(in_flight.attempts)));
                in_flight.attempts += 1;
            }
        }
    }

    /// Whether everything folded is committed.
    pub(super) fn is_committed(&self) -> bool {
        self.frozen.is_empty() && self.commit.is_none()
    }
}
