//! Limits of the runtime, how each was chosen (PROTOCOL §12.2), and the switches of its rules.

use std::ops::RangeInclusive;

use waypost_types::Span;

/// Limits and paces of one machine.
///
/// Most are no part of the protocol: any values give the same states. Those marked *fold* are part of the
/// engine: every process of an installation has the same, and a changed one is a new engine version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A batch ends behind the frame that reaches so many records.
    pub batch_records: usize,
    /// A batch ends behind the frame that reaches so many bytes.
    pub batch_bytes: usize,
    /// How many times as large a batch of what was read more than a second late may be: what many of its records touch is encoded once.
    pub batch_late: usize,
    /// Largest frame put out; a larger record goes alone.
    pub frame_bytes: usize,
    /// Most records in a frame put out.
    pub frame_records: usize,
    /// So many waiting bytes are sent although a frame is in flight.
    pub frame_eager_bytes: usize,
    /// Most frames in flight to one destination.
    pub frames_in_flight: usize,
    /// How long an output waits behind a frame in flight.
    pub linger: Span,
    /// Most that an output waits for company because what it rests on was read more than a second late: a tenth of the rest.
    pub linger_late: Span,
    /// Floor of τ, the time between two commits.
    pub commit_interval: Span,
    /// Most that τ may stretch to; also what a crash repeats under load.
    pub commit_interval_max: Span,
    /// Percent of the store's time that the commits of this machine may take; τ stretches to keep to it.
    pub commit_share: u32,
    /// A commit is cut at so many changed entities while τ is at its floor.
    pub commit_entities: usize,
    /// A commit is cut at so many bytes while τ is at its floor.
    pub commit_bytes: usize,
    /// What the cut grows to, in step with τ: a larger one would hold its shard for longer than some 40 ms.
    pub commit_entities_max: usize,
    /// What the cut grows to, in bytes.
    pub commit_bytes_max: usize,
    /// A store that has refused a commit for so long is asked by claims only.
    pub refused_for: Span,
    /// Above so many bytes of unacknowledged outputs a partition folds no further.
    pub unacknowledged_bytes: usize,
    /// Above so many bytes of frozen write sets a partition folds no further.
    pub frozen_bytes: usize,
    /// Above so many uncommitted records a partition folds no further.
    pub uncommitted_records: usize,
    /// Entities that a partition keeps in memory, those it must keep not counted: two or three identifiers a person and
    /// one or two KB each, so 20,000 people and at most 100 MB a partition as people are.
    pub cache_entities: usize,
    /// How far absent timers may run ahead of the upstream watermark (*fold*).
    pub slack: Span,
    /// An absent timer fires so long after its due although the upstream watermark is behind (*fold*).
    pub patience: Span,
    /// Partitions of each public topic (*fold*).
    pub public_partitions: u32,
    /// Partitions of the dead-letter topic (*fold*).
    pub dead_partitions: u32,
    /// Own timers fired before one record, and timers of one entity in one tick (*fold*).
    pub own_timers: usize,
    /// Entities whose timers one tick fires (*fold*).
    pub tick_entities: usize,
    /// Entities one tick looks at to find them (*fold*).
    pub tick_examined: usize,
    /// Timers due within this are kept in memory.
    pub timer_horizon: Span,
    /// Timers asked for at once.
    pub timer_page: usize,
    /// A partition that reports `through` appends a tick after so long without a frame.
    pub idle_tick: Span,
    /// A risen watermark is passed on no more often than this.
    pub watermark_tick: Span,
    /// Any partition appends a tick after so long without a frame.
    pub quiet_tick: Span,
    /// A tick that has not come back after this is taken for lost.
    pub tick_lost: Span,
    /// How long a revoked partition may take to drain.
    pub revoke: Span,
    /// How long a draining process may take, calls under way included.
    pub drain: Span,
    /// Largest record put out (*fold*).
    pub record_bytes: usize,
    /// Most outputs of one record (*fold*).
    pub record_outputs: usize,
    /// The engine that a new partition begins with (*fold*).
    pub engine: u32,
    /// Engines that this binary can fold with; which one does stands in the log (PROTOCOL §9.2).
    pub engines: RangeInclusive<u32>,
    /// Nothing received for so long, though more is known to be there: seek; again, and the consumer is made anew.
    pub silence: Span,
    /// Work is there and nothing was committed for τ and so long: the worker starts anew; the third time the process ends.
    pub stall: Span,
    /// How often the log is asked where it begins and ends.
    pub watermarks_every: Span,
    /// One part of the stored state is compared with its digest so often, until all have been.
    pub digest_pace: Span,
    /// All parts are compared again after so long, and after every claim.
    pub digest_every: Span,
    /// Rules, all on; the simulator switches them off one by one to find the hole.
    pub rules: Rules,
}

/// The rules of PROTOCOL §16.4 that the machine keeps. Those of the store and the log have their switches there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is the switch of one independent rule")]
pub struct Rules {
    /// A commit waits for the acknowledgements of all outputs below it.
    pub commit_behind_acknowledgements: bool,
    /// Of a partition channel's acknowledgements only a contiguous prefix survives a failure.
    pub contiguous_acknowledgements: bool,
    /// Acknowledgements of a discarded producer are void.
    pub void_discarded_acknowledgements: bool,
    /// A write set is what the end of its batch left behind.
    pub frozen_write_sets: bool,
    /// What a batch has deleted is deleted where write sets become one.
    pub coalesced_deletions: bool,
    /// What an uncommitted batch has touched stays in memory.
    pub keep_uncommitted: bool,
    /// `through` waits for acknowledgements.
    pub through_behind_acknowledgements: bool,
    /// `through` stays behind what is held when the outputs are handed on.
    pub held_in_through: bool,
    /// The partition clock moves by ticks in the log.
    pub ticks_in_log: bool,
    /// Definitions change where their activation stands in the log.
    pub activations_in_log: bool,
    /// A receiver drops what comes behind a gap.
    pub go_back_n: bool,
    /// A receiver takes the tail of an overlapping section.
    pub overlapping_tail: bool,
    /// A frame at another offset than the next one is not folded.
    pub density_check: bool,
    /// Every claim draws a fresh token.
    pub fresh_token: bool,
    /// Jobs start only behind the own leader record.
    pub leader_check: bool,
    /// An entity's due timers fire before its next record.
    pub own_timers_first: bool,
    /// A panic in a fold is a dead letter.
    pub catch_unwind: bool,
    /// The frame before the committed offset is the one that the store has noted down.
    pub lastrec_check: bool,
    /// What is stored is compared with its digest.
    pub digest_check: bool,
    /// What a claim or a read brings is taken only where the parts it comes from are whole.
    pub whole_parts: bool,
    /// A worker that is too far ahead of its commits takes no more.
    pub run_ahead_limit: bool,
    /// Absent timers wait for the upstream watermark.
    pub wm_gate: bool,
    /// A listed record is set aside in every life.
    pub skip_list: bool,
    /// A producer that failed once is thrown away whole, for all destinations.
    pub whole_producer: bool,
    /// A call does not wait for the commit of its attempt.
    pub calls_ahead_of_commits: bool,
    /// `through` does not wait for the commit.
    pub through_ahead_of_commits: bool,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_records: 512,
            batch_bytes: 256 << 10,
            batch_late: 4,
            frame_bytes: 256 << 10,
            frame_records: 1_000,
            frame_eager_bytes: 64 << 10,
            frames_in_flight: 4,
            linger: Span::from_millis(2),
            linger_late: Span::from_millis(50),
            commit_interval: Span::from_millis(100),
            commit_entities: 512,
            commit_bytes: 256 << 10,
            commit_interval_max: Span::from_secs(30),
            commit_share: 15,
            commit_entities_max: 16_000,
            commit_bytes_max: 4 << 20,
            refused_for: Span::from_secs(30),
            unacknowledged_bytes: 16 << 20,
            frozen_bytes: 64 << 20,
            uncommitted_records: 500_000,
            cache_entities: 50_000,
            slack: Span::from_secs(2),
            patience: Span::from_secs(15 * 60),
            public_partitions: 8,
            dead_partitions: 8,
            own_timers: 32,
            tick_entities: 256,
            tick_examined: 4_096,
            timer_horizon: Span::from_secs(300),
            timer_page: 10_000,
            idle_tick: Span::from_secs(1),
            watermark_tick: Span::from_millis(500),
            quiet_tick: Span::from_secs(60),
            tick_lost: Span::from_secs(30),
            revoke: Span::from_millis(500),
            drain: Span::from_secs(30),
            record_bytes: 256 << 10,
            record_outputs: 512,
            engine: 1,
            engines: 1..=3,
            silence: Span::from_secs(10),
            stall: Span::from_secs(30),
            watermarks_every: Span::from_secs(60),
            digest_pace: Span::from_secs(1),
            digest_every: Span::from_hours(24),
            rules: Rules::default(),
        }
    }
}

impl Config {
    /// Records and bytes at which a batch ends.
    pub(crate) fn batch(&self, is_late: bool) -> (usize, usize) {
        let times = if is_late { self.batch_late.max(1) } else { 1 };
        (self.batch_records.saturating_mul(times), self.batch_bytes.saturating_mul(times))
    }

    /// For the embedded driver: commits follow at once, so that whatever has settled is stored too.
    pub fn embedded() -> Self {
        Self { commit_interval: Span::ZERO, ..Self::default() }
    }
}

// === impl Rules ===

impl Default for Rules {
    fn default() -> Self {
        Self {
            commit_behind_acknowledgements: true,
            contiguous_acknowledgements: true,
            void_discarded_acknowledgements: true,
            frozen_write_sets: true,
            coalesced_deletions: true,
            keep_uncommitted: true,
            through_behind_acknowledgements: true,
            held_in_through: true,
            ticks_in_log: true,
            activations_in_log: true,
            go_back_n: true,
            overlapping_tail: true,
            density_check: true,
            fresh_token: true,
            leader_check: true,
            own_timers_first: true,
            catch_unwind: true,
            lastrec_check: true,
            digest_check: true,
            whole_parts: true,
            run_ahead_limit: true,
            wm_gate: true,
            skip_list: true,
            whole_producer: true,
            calls_ahead_of_commits: true,
            through_ahead_of_commits: true,
        }
    }
}
