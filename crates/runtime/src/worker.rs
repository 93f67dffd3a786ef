//! The worker of one partition: claims it, replays it, leads it, gives it back (PROTOCOL §4).
//!
//! ```text
//!            claim: OK                  own leader record folded              revoked, SIGTERM
//! NotReady ───────────► Replaying ────────────────────────────► Leading ─────────────────────► Draining ─► gone
//!    ▲                      │                                       │
//!    └─ store unreachable ──┴──── Moved, or Fenced and still mine ──┘         a halting reply or check ─► Halted
//! ```
//!
//! One file a concern: `claiming` takes and loses the partition, `queue` keeps frames dense, `folding`
//! and `ticking` fold, `emitting` numbers outputs, `handing` hands them on, `committing` freezes and commits batches, `loading`
//! reads the store, `auditing` compares it with its digest, `watching` looks whether the log is whole and
//! the work gets on, `proposing` appends ticks, `draining` gives back; `dying` finds the record that kills
//! the process, `poison` sets aside, `looking` sees whether a halt is over, `alarming` says what is wrong and stops nothing.

mod alarming;
mod auditing;
mod claiming;
mod committing;
mod draining;
mod dying;
mod emitting;
mod folding;
mod handing;
mod loading;
mod looking;
mod poison;
mod proposing;
mod queue;
mod ticking;
mod watching;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use waypost_types::{Layout, PartitionId, Position, Timestamp};

pub(crate) use claiming::draw;
pub(crate) use poison::Skips;

use crate::{
    cache::Cache,
    channel_in::Receivers,
    config::Config,
    digest::{Digest, Part},
    figures::PartitionFigures,
    machine::{Command, Counters, Destination, Progress, Traced},
    pace::{Pace, Tempo},
    ports::{Entropy, Meta, Offset, Token},
    processor::Processor,
    publisher::Publisher,
    timers::Timers,
    tip::Tip,
};

/// What a worker may use while it handles one input.
pub(crate) struct Turn<'a> {
    pub(crate) now: Timestamp,
    pub(crate) config: &'a Config,
    pub(crate) layout: Layout,
    pub(crate) entropy: &'a mut dyn Entropy,
    pub(crate) commands: &'a mut Vec<Command>,
    pub(crate) counters: &'a mut Counters,
    pub(crate) publisher: &'a mut Publisher,
    /// Jobs under way, by partition; they outlive a life of its worker.
    pub(crate) jobs: &'a mut BTreeMap<u32, usize>,
    /// Counts the lives of all workers.
    pub(crate) lives: &'a mut u64,
    /// What commits cost, over all partitions.
    pub(crate) pace: &'a mut Pace,
    /// Least `through` of all identity partitions, once each has one.
    pub(crate) upstream: Option<Timestamp>,
    /// A random name of this process.
    pub(crate) process: u64,
    /// Records to be set aside.
    pub(crate) skips: &'a Skips,
    /// What was folded of traces that are kept.
    pub(crate) traced: &'a mut Vec<Traced>,
}

/// Where a worker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not claimed; the next claim goes out at this instant, none while one is under way.
    NotReady(Option<Timestamp>),
    /// Folds and publishes; proposes and calls nothing.
    Replaying,
    /// Its own leader record is folded.
    Leading,
    /// Takes no more.
    Draining(Timestamp),
    /// Asked the store to take it back.
    Releasing(Timestamp),
    /// Given back; to be dropped.
    Gone,
    /// Stopped; somebody was told why.
    Halted(String),
}

pub(crate) struct Worker<P: Processor> {
    id: PartitionId,
    processor: P,
    phase: Phase,
    life: u64,
    token: Token,
    /// When others took the partition lately.
    fenced: VecDeque<Timestamp>,
    /// First offset that is not committed.
    off: Offset,
    /// First offset that is not folded.
    folded: Offset,
    /// First offset that has not arrived.
    next: Offset,
    /// Offset, plus 1, of the own leader record of this life.
    own_leader: Option<u64>,
    /// Where the log says that it stands.
    leader_at: Option<Offset>,
    /// What was folded when it was appended: it stands there or later.
    leader_behind: Offset,
    /// What was committed when this life began: what it appends stands there or later, or the log has lost its tail.
    claimed_at: Offset,
    /// Whether this worker has had the partition before.
    was_claimed: bool,
    /// When the log took the last frame that is committed.
    committed_frame: Option<Timestamp>,
    /// Offset of a leader record of somebody else, folded while this one led.
    contested: Option<Offset>,
    meta: Meta,
    received: Receivers,
    /// Ends of partition channels as the claim brought them.
    stored_tips: BTreeMap<String, Tip>,
    tips: BTreeMap<Destination, emitting::Sent>,
    cache: Cache<P::Entity>,
    timers: Timers,
    /// Definitions that have not arrived.
    missing: Option<String>,
    queue: queue::Queue,
    work: Option<folding::Work>,
    open: committing::Open,
    handed: handing::Handed,
    frozen: VecDeque<committing::Frozen>,
    /// Bytes and records of the frozen batches.
    held: (usize, usize),
    /// So many of the frozen batches, from the front, have all their outputs acknowledged.
    acknowledged: usize,
    commit: Option<committing::InFlight>,
    committed_at: Option<Timestamp>,
    /// How often to commit how much.
    tempo: Tempo,
    /// Of everything folded up to the end of the last batch.
    digest: Digest,
    /// All sequences as of then.
    sequences: BTreeMap<String, Tip>,
    watch: watching::Watch,
    audits: auditing::Audits,
    /// Lives in a row that did not get on.
    stalls: u32,
    reads: loading::Reads,
    through: Timestamp,
    ticks: proposing::Ticks,
    lives: dying::Lives,
    /// What a halted partition looks for.
    looking: looking::Looking,
    /// The record it halted at, where the skip list can help.
    stuck: Option<Position>,
    set_aside: poison::SetAside,
    gaps: alarming::Gaps,
    /// Sources whose history was found to differ.
    diverged: BTreeSet<PartitionId>,
}

// === impl Worker ===

impl<P: Processor> Worker<P> {
    /// A worker that has not claimed yet.
    pub(crate) fn new(index: u32, processor: P) -> Self {
        Self {
            id: PartitionId { role: P::ROLE, index },
            processor,
            phase: Phase::NotReady(None),
            life: 0,
            token: Token([0; 16]),
            fenced: VecDeque::new(),
            off: 0,
            folded: 0,
            next: 0,
            own_leader: None,
            leader_at: None,
            leader_behind: 0,
            claimed_at: 0,
            was_claimed: false,
            committed_frame: None,
            contested: None,
            meta: Meta::default(),
            received: Receivers::default(),
            stored_tips: BTreeMap::new(),
            tips: BTreeMap::new(),
            cache: Cache::default(),
            timers: Timers::default(),
            missing: None,
            queue: queue::Queue::default(),
            work: None,
            open: committing::Open::default(),
            handed: handing::Handed::default(),
            frozen: VecDeque::new(),
            held: (0, 0),
            acknowledged: 0,
            commit: None,
            committed_at: None,
            tempo: Tempo::default(),
            digest: Digest::default(),
            sequences: BTreeMap::new(),
            watch: watching::Watch::default(),
            audits: auditing::Audits::default(),
            stalls: 0,
            reads: loading::Reads::default(),
            through: Timestamp::ZERO,
            ticks: proposing::Ticks::default(),
            lives: dying::Lives::default(),
            looking: looking::Looking::default(),
            stuck: None,
            set_aside: poison::SetAside::default(),
            gaps: alarming::Gaps::new(),
            diverged: BTreeSet::new(),
        }
    }

    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Whether it folds what it takes.
    fn is_folding(&self) -> bool {
        matches!(self.phase, Phase::Replaying | Phase::Leading)
    }

    /// Whether the log says that it leads: the last leader record folded is its own.
    fn leads(&self) -> bool {
        self.phase == Phase::Leading && self.own_leader == Some(self.meta.leader)
    }

    /// Does everything that can be done now.
    pub(crate) fn step(&mut self, turn: &mut Turn<'_>) {
        self.claim_due(turn);
        self.count_acknowledged(turn);
        self.retry_reads(turn);
        self.note_due(turn);
        self.fold_ready(turn);
        self.load_timers(turn);
        self.commit_due(turn);
        self.propose(turn);
        self.watch_log(turn);
        self.watch_silence(turn);
        self.audit_due(turn);
        self.watch_progress(turn);
        self.watch_gaps(turn);
        self.note_due(turn);
        self.drain_further(turn);
        self.look_due(turn);
    }

    /// Stops, until somebody did something about it; the partition is polled on and its records dropped.
    pub(crate) fn halt(&mut self, turn: &mut Turn<'_>, why: impl Into<String>) {
        if matches!(self.phase, Phase::Halted(_)) {
            return;
        }
        let why = why.into();
        self.answer_queries_with_none(turn);
        turn.publisher.close(self.id.index);
        turn.pace.forget(self.id.index);
        turn.commands.push(Command::Halted(self.id.index, why.clone()));
        // What is given back is given back; whoever has it next halts over the same.
        if matches!(self.phase, Phase::Draining(_) | Phase::Releasing(_) | Phase::Gone) {
            return self.leave(turn);
        }
        self.begin_looking(turn);
        self.phase = Phase::Halted(why);
    }

    /// Whether it wants records now.
    pub(crate) fn wants(&self, config: &Config, publisher: &Publisher) -> bool {
        match &self.phase {
            Phase::Replaying | Phase::Leading => self.queue.has_room(config) && !self.is_over_limits(config, publisher),
            // Polled on and dropped, so that the partition's fetch does not hold up others.
            Phase::Halted(_) => true,
            Phase::NotReady(_) | Phase::Draining(_) | Phase::Releasing(_) | Phase::Gone => false,
        }
    }

    fn is_over_limits(&self, config: &Config, publisher: &Publisher) -> bool {
        if !config.rules.run_ahead_limit {
            return false;
        }
        let (bytes, records) = self.held;
        bytes > config.frozen_bytes
            || records > config.uncommitted_records
            || publisher.unacknowledged_bytes(self.id.index) > config.unacknowledged_bytes
    }

    /// Nothing read, unacknowledged, uncommitted or under way.
    pub(crate) fn is_idle(&self) -> bool {
        match &self.phase {
            Phase::Leading => {
                self.queue.is_empty()
                    && self.work.is_none()
                    && self.open.is_empty()
                    && self.frozen.is_empty()
                    && self.commit.is_none()
                    && self.reads.is_empty()
                    && !self.ticks.is_unread()
            }
            Phase::Halted(_) | Phase::Gone => true,
            Phase::NotReady(_) | Phase::Replaying | Phase::Draining(_) | Phase::Releasing(_) => false,
        }
    }

    /// When it wants a `Wake`.
    pub(crate) fn next_wake(&self, config: &Config, upstream: Option<Timestamp>, ready: bool) -> Option<Timestamp> {
        match &self.phase {
            Phase::NotReady(at) => at.or(self.lives.next_wake()),
            Phase::Halted(_) => self.looking.next_wake(),
            Phase::Gone => None,
            Phase::Releasing(until) => Some(*until),
            Phase::Draining(until) => [Some(*until), self.commit_wake(config), self.reads.next_wake()].into_iter().flatten().min(),
            Phase::Replaying | Phase::Leading => {
                let wakes = [
                    self.queue.next_wake(config),
                    self.commit_wake(config),
                    self.freeze_at(config),
                    self.reads.next_wake(),
                    self.timers_wake(config),
                    self.watch.next_wake(config, self.tempo.interval),
                    self.audits.next_wake(),
                    self.lives.next_wake(),
                    self.gaps_wake(),
                    if ready { self.tick_due(config, upstream) } else { None },
                ];
                wakes.into_iter().flatten().min()
            }
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress {
            partition: self.id,
            through: self.through,
            off: self.off,
            next: self.folded,
            eng: self.meta.eng,
            defv: self.meta.defv.clone(),
            leading: self.phase == Phase::Leading,
            halted: if let Phase::Halted(why) = &self.phase { Some(why.clone()) } else { None },
            diverged: self.diverged.iter().copied().collect(),
            gap: self.gaps.values().map(alarming::Gap::since).min(),
        }
    }
}

impl<P: Processor> Worker<P> {
    /// How it stands, for whoever looks.
    pub(crate) fn figures(&self, publisher: &Publisher) -> PartitionFigures {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let oldest = self.work.as_ref().map(|work| work.appended).or_else(|| self.queue.front().map(|frame| frame.appended));
        PartitionFigures {
            partition: self.id.index,
            leading: self.phase == Phase::Leading,
            folding: self.is_folding(),
            halted: matches!(self.phase, Phase::Halted(_)),
            off: self.off,
            committed: self.committed_frame,
            next: self.folded,
            oldest: oldest.filter(|_| self.is_folding()),
            unacknowledged_bytes: count(publisher.unacknowledged_bytes(self.id.index)),
            uncommitted_records: count(self.held.1 + self.open.records()),
            timers: self.digest.count(Part::Timers),
            gap: self.gaps.values().map(alarming::Gap::since).min(),
        }
    }
}

impl<P: Processor> fmt::Debug for Worker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.id)
            .field("phase", &self.phase)
            .field("off", &self.off)
            .field("folded", &self.folded)
            .field("next", &self.next)
            .field("work", &self.work)
            .field("missing", &self.missing)
            .field("reads", &self.reads)
            .field("frozen", &self.frozen.len())
            .field("acknowledged", &self.acknowledged)
            .field("commit", &self.commit.is_some())
            .field("through", &self.through)
            .finish_non_exhaustive()
    }
}
