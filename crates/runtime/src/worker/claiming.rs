//! Taking a partition, with a fresh token each time, and starting over when it was lost (PROTOCOL §5.1, §5.3).
//!
//! A worker whose store was rewound claims under a new token, so that its own older leader record does not
//! make it leader in the middle of the replay.

use bytes::Bytes;
use prost::Message as _;
use tracing::warn;
use waypost_codec::{frame::Record, inbox, kind};
use waypost_types::{Span, Timestamp, WorkspaceId};

use super::{
    Phase, Turn, Worker, auditing, committing, handing, loading,
    poison::{SetAside, engines},
    proposing, queue,
    watching::{self, appended_at},
};
use crate::{
    cache::Cache,
    channel_in::Receivers,
    digest::{self, Digest, Part},
    machine::Command,
    ports::{ClaimReply, Claimed, Entropy, StoreError, Token},
    processor::{Definitions, Processor},
    publisher::Own,
    timers::Timers,
    tip::{Tip, accepted_source},
};

/// How often a frozen partition, or a silent store, is asked again.
pub(super) const ASK_AGAIN: Span = Span::from_secs(1);
/// Fenced three times within this: somebody else is in earnest, and only the group can say who is right.
const DUEL: Span = Span::from_secs(5);

/// 128 fresh bits.
pub(crate) fn draw(entropy: &mut dyn Entropy) -> [u8; 16] {
    (u128::from(entropy.next()) << 64 | u128::from(entropy.next())).to_be_bytes()
}

impl<P: Processor> Worker<P> {
    /// Begins a life: everything that was in memory is dropped, and the partition is claimed at `at`.
    pub(crate) fn start_over(&mut self, turn: &mut Turn<'_>, processor: P, at: Timestamp) {
        self.answer_queries_with_none(turn);
        turn.publisher.close(self.id.index);
        *turn.lives += 1;
        self.life = *turn.lives;
        if turn.config.rules.fresh_token || self.token == Token([0; 16]) {
            self.token = Token(draw(turn.entropy));
        }
        self.processor = processor;
        self.phase = Phase::NotReady(Some(at));
        self.own_leader = None;
        self.leader_at = None;
        self.contested = None;
        self.stored_tips.clear();
        self.sequences.clear();
        self.watch = watching::Watch::default();
        self.audits = auditing::Audits::default();
        self.tips.clear();
        self.cache = Cache::default();
        self.timers = Timers::default();
        self.missing = None;
        self.queue = queue::Queue::default();
        self.work = None;
        self.open = committing::Open::default();
        self.handed = handing::Handed::default();
        self.frozen.clear();
        self.held = (0, 0);
        self.acknowledged = 0;
        self.commit = None;
        self.committed_at = None;
        turn.pace.forget(self.id.index);
        self.tempo = turn.pace.tempo(turn.now, turn.config);
        self.reads = loading::Reads::default();
        self.ticks = proposing::Ticks::default();
        self.lives.reborn();
        self.looking = self.looking.over();
        self.stuck = None;
        self.set_aside = SetAside::default();
        self.gaps.clear();
    }

    /// Whether the machine has to give it a new processor and a new life at the instant returned.
    ///
    /// A draining worker that lost its partition has nothing left to give back.
    pub(super) fn lose(&mut self, turn: &mut Turn<'_>, again: Timestamp) {
        if matches!(self.phase, Phase::Draining(_) | Phase::Releasing(_)) {
            self.leave(turn);
        } else if !matches!(self.phase, Phase::Halted(_) | Phase::Gone) {
            self.answer_queries_with_none(turn);
            turn.publisher.close(self.id.index);
            self.phase = Phase::NotReady(Some(again));
            self.life = 0;
        }
    }

    /// Whether it lost its partition and needs [`Self::start_over`]; at which instant it claims again.
    pub(crate) fn wants_new_life(&self) -> Option<Timestamp> {
        if let Phase::NotReady(Some(at)) = self.phase { Some(at).filter(|_| self.life == 0) } else { None }
    }

    /// The store is at another offset: rewound, or somebody went on.
    pub(super) fn moved(&mut self, turn: &mut Turn<'_>) {
        turn.counters.rewound += 1;
        self.lose(turn, turn.now);
    }

    /// Somebody claimed later; still assigned, so this worker claims again after a while.
    pub(super) fn fenced(&mut self, turn: &mut Turn<'_>) {
        self.fenced.push_back(turn.now);
        self.fenced.retain(|at| turn.now.since(*at) <= DUEL);
        let jitter = i64::try_from(turn.entropy.next() % 451).unwrap_or(0);
        let duel = self.fenced.len() >= 3;
        let pause = if duel { DUEL.millis() } else { 50 } + jitter;
        self.lose(turn, turn.now.plus(Span::from_millis(pause)));
        if duel && matches!(self.phase, Phase::NotReady(_)) {
            self.fenced.clear();
            self.leave_group(turn);
        }
    }

    pub(super) fn claim_due(&mut self, turn: &mut Turn<'_>) {
        if let Phase::NotReady(Some(at)) = self.phase
            && at <= turn.now
            && self.life != 0
        {
            self.phase = Phase::NotReady(None);
            turn.commands.push(Command::Claim(self.id.index, self.token));
        }
    }

    /// The store answered a claim.
    pub(crate) fn claimed(&mut self, turn: &mut Turn<'_>, token: Token, reply: Result<ClaimReply, StoreError>) {
        if self.phase != Phase::NotReady(None) || token != self.token {
            return;
        }
        match reply {
            Ok(ClaimReply::Ok(claimed)) => self.ask_deaths(turn, claimed),
            Ok(ClaimReply::Uninit) => {
                self.halt_without_state(turn, "the store has no state of this partition; only `waypost init` creates it");
            }
            Ok(ClaimReply::Mismatch(there)) => {
                self.halt(turn, format!("the store belongs to {there}"));
            }
            Ok(ClaimReply::Corrupt(key)) => self.halt(turn, format!("key {key} of the store has the wrong type")),
            // Frozen by an operation, or no answer: the same claim again, it has not been used for anything yet.
            Ok(ClaimReply::Frozen(_)) | Err(StoreError::Refused(_) | StoreError::Unknown(_)) => {
                self.phase = Phase::NotReady(Some(turn.now.plus(ASK_AGAIN)));
            }
        }
    }

    /// Starts to fold from the committed offset; the own leader record will end the replay.
    pub(super) fn replay(&mut self, turn: &mut Turn<'_>, claimed: Claimed) {
        let orphaned = claimed.previous.is_some() && !self.was_claimed;
        turn.counters.rewinds += u64::from(orphaned || claimed.off < self.folded);
        self.was_claimed = true;
        (self.off, self.folded, self.next, self.claimed_at) = (claimed.off, claimed.off, claimed.off, claimed.off);
        self.meta = claimed.meta;
        self.committed_frame = appended_at(&self.meta.lastrec);
        let Some(digest) = Digest::stored(&self.meta.digest, self.off) else {
            let why = digest::unreadable(&self.meta.digest);
            return self.halt(turn, format!("the state at offset {} cannot be trusted: {why}", self.off));
        };
        let sequences = claimed.sequences.iter().map(|(field, value)| (field, value));
        if turn.config.rules.whole_parts && Digest::of([], [], sequences).sum(Part::Sequences) != digest.sum(Part::Sequences) {
            turn.counters.digest_mismatches += 1;
            let why = "the sequences of the store are not those that were committed";
            return self.halt_over(turn, Part::Sequences, format!("{why}, at offset {}: {}", self.off, digest::RESTORE));
        }
        self.digest = digest;
        if self.meta.eng == 0 {
            self.meta.eng = turn.config.engine;
        }
        if !turn.config.engines.contains(&self.meta.eng) {
            let has = engines(turn.config);
            return self
                .halt(turn, format!("the state was folded by engine {}, this binary has {has}: run the one that has it", self.meta.eng));
        }
        let mut accepted = Vec::new();
        for (field, bytes) in claimed.sequences {
            let tip = Tip::from_bytes(bytes);
            self.sequences.insert(field.clone(), tip);
            if let Some(source) = accepted_source(&field) {
                accepted.push((source, tip));
            } else if SetAside::is_slot(&field) {
                self.set_aside.load(field, tip);
            } else {
                self.stored_tips.insert(field, tip);
            }
        }
        self.received = Receivers::new(accepted);
        if !self.meta.defv.is_empty() && self.processor.define(&self.meta.defv) == Definitions::Missing {
            self.missing = Some(self.meta.defv.clone());
        }
        self.phase = Phase::Replaying;
        self.ticks.begin(turn.now);
        self.begin_watch(turn);
        if self.is_folding() {
            self.begin_audits(turn);
            self.append_leader(turn);
        }
    }

    pub(super) fn append_leader(&mut self, turn: &mut Turn<'_>) {
        let body = inbox::Leader { token: Bytes::copy_from_slice(&self.token.0) }.encode_to_vec().into();
        let record = Record::new(kind::LEADER, WorkspaceId::new(0), self.token.0, Bytes::new(), turn.now, body);
        turn.publisher.append_own(self.id.index, Own::Leader(self.life), vec![record]);
        self.leader_behind = self.folded;
    }

    /// Appends the leader record again where the log has acknowledged it and does not have it: without it nobody
    /// would lead this partition.
    pub(super) fn miss_leader(&mut self, turn: &mut Turn<'_>) {
        let Some(at) = self.leader_at.filter(|at| *at < self.folded) else { return };
        self.leader_at = None;
        if self.own_leader <= Some(at) && self.is_folding() {
            warn!(partition = %self.id, offset = at, "the log acknowledged a leader record and does not have it");
            self.append_leader(turn);
        }
    }
}
