//! The keyed roles: what they fold, how far behind they are, what they decide, and what keeps them from it.

use prometheus_client::metrics::counter::Counter;

use super::{
    family::{Bounded, Level, reach},
    histogram::{COMMITS, FOLDS, Histogram, LATENESS},
    labels::{Name, Number, labels},
    register::Register,
};

labels! {
    OfRole { role: &'static str }
    RolePartition { role: &'static str, partition: Number }
    RoleReason { role: &'static str, reason: Name }
    RoleResult { role: &'static str, result: &'static str }
    Entered { workspace: Name, journey: Name, version: Number }
    Exited { workspace: Name, journey: Name, reason: Name }
}

/// Dead letters of all roles, the doors included.
pub(super) type DeadLetters = Bounded<RoleReason, Counter>;

/// What the store said to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitResult {
    /// It has it.
    Ok,
    /// It has nothing of it.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// How often something took how long, as somebody else has counted it.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// Upper ends of the buckets, microseconds.
    pub bounds: &'a [u64],
    /// How many in each, and beyond.
    pub counts: &'a [u64],
    /// All together, microseconds.
    pub micros: u64,
}

/// One partition of a role.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartitionState {
    /// Which.
    pub partition: u32,
    /// Frames between what is folded and the end, where that is known.
    pub lag_frames: Option<u64>,
    /// Whether it has halted.
    pub halted: bool,
}

/// A role of this process as it stands.
#[derive(Clone, Copy, Debug)]
pub struct RoleState<'a> {
    /// Records folded.
    pub processed: u64,
    /// What folding one took.
    pub folds: Counted<'a>,
    /// From when timers were due to when they fired.
    pub lateness: Counted<'a>,
    /// See `waypost_rewound_total`.
    pub rewound: u64,
    /// Divergences of a source's history.
    pub channel_mismatches: u64,
    /// Parts of the state that were not what their digest says.
    pub digest_mismatches: u64,
    /// Partitions that it leads.
    pub led: usize,
    /// Age of the oldest record that is not folded.
    pub lag_seconds: f64,
    /// Bytes put out and not acknowledged.
    pub unacknowledged_bytes: u64,
    /// Records folded and not committed.
    pub uncommitted_records: u64,
    /// From the oldest record that the log still has to the last one committed, of the partition where that is least; none
    /// where no log has been trimmed.
    pub rewind_headroom: Option<f64>,
    /// How long the oldest gap in a partition channel has been open.
    pub channel_gap: f64,
    /// Entities with a wake-up.
    pub timers_pending: u64,
    /// Its partitions.
    pub partitions: &'a [PartitionState],
}

/// Metrics of the keyed roles; clones share them.
#[derive(Clone, Debug)]
pub struct RoleMetrics {
    processed: Bounded<OfRole, Counter>,
    folds: Bounded<OfRole, Histogram>,
    lag_frames: Bounded<RolePartition, Level>,
    lag_seconds: Bounded<OfRole, Level>,
    pub(super) dead_letters: DeadLetters,
    commits: Bounded<RoleResult, Counter>,
    commit_durations: Bounded<OfRole, Histogram>,
    rewound: Bounded<OfRole, Counter>,
    led: Bounded<OfRole, Level>,
    halted: Bounded<RolePartition, Level>,
    unacknowledged: Bounded<OfRole, Level>,
    uncommitted: Bounded<OfRole, Level>,
    headroom: Bounded<OfRole, Level>,
    gaps: Bounded<OfRole, Level>,
    channel_mismatches: Bounded<OfRole, Counter>,
    digest_mismatches: Bounded<OfRole, Counter>,
    entries: Bounded<Entered, Counter>,
    exits: Bounded<Exited, Counter>,
    timers: Bounded<OfRole, Level>,
    lateness: Bounded<OfRole, Histogram>,
    left_out: Counter,
}

pub(super) fn dead_letters(register: &mut Register) -> DeadLetters {
    register.counters(
        "waypost_dead_letters_total",
        "Inputs set aside, by role and reason; of keyed roles exact: counted with the commit that holds them; of the doors at least once",
    )
}

// === impl CommitResult ===

impl CommitResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

// === impl RoleMetrics ===

impl RoleMetrics {
    pub(super) fn new(register: &mut Register) -> Self {
        Self {
            processed: register.counters(
                "waypost_events_processed_total",
                "Records folded, ticks and other records of Waypost's own among them; at least once: what was not committed when a \
                 process ended is folded and counted again by the next",
            ),
            folds: register.histograms(
                "waypost_event_processing_duration_seconds",
                FOLDS,
                "What folding a record took, the work around it included and waiting not: each counts with the mean of those it was \
                 folded with; at least once",
            ),
            lag_frames: register.gauges(
                "waypost_consumer_lag_frames",
                "Frames of the inbox that are not folded, by partition; a frame holds one record or many. The end is looked at every 5 s",
            ),
            lag_seconds: register.gauges(
                "waypost_consumer_lag_seconds",
                "Age of the oldest record that is not folded, the largest of the partitions that are not halted; 0 where there is none. \
                 While nothing of it has been fetched, since when more has been known to be there",
            ),
            dead_letters: dead_letters(register),
            commits: register.counters(
                "waypost_commits_total",
                "Answers of the store to commits: ok, refused (nothing was written), unknown (no answer; the same is sent again); exact",
            ),
            commit_durations: register.histograms(
                "waypost_commit_duration_seconds",
                COMMITS,
                "From when a commit is sent until the role has noticed its answer; exact",
            ),
            rewound: register.counters(
                "waypost_rewound_total",
                "Claims that began below what this process had folded, or behind an owner that had not given the partition back: some \
                 records are folded again, nothing is sent twice; exact",
            ),
            led: register.gauges("waypost_partitions_led", "Partitions that this process leads"),
            halted: register.gauges(
                "waypost_partition_halted",
                "1 where a partition of this process has halted, else 0; `/partitions` says why",
            ),
            unacknowledged: register.gauges("waypost_unacknowledged_bytes", "Bytes put out that the log has not acknowledged"),
            uncommitted: register.gauges("waypost_uncommitted_records", "Records folded and not committed: what a crash would fold again"),
            headroom: register.gauges(
                "waypost_rewind_headroom_seconds",
                "How far the store could be rewound before the log would lack records: from the oldest record that the inbox still has to \
                 the last one committed, the least of the partitions whose inbox has been trimmed; absent where none has",
            ),
            gaps: register.gauges("waypost_channel_gap_seconds", "How long the oldest gap in a partition channel has been open; 0 where there is none"),
            channel_mismatches: register.counters(
                "waypost_channel_mismatch_total",
                "Sections whose source had sent another history before; exact, and 0 unless something is wrong",
            ),
            digest_mismatches: register.counters(
                "waypost_digest_mismatch_total",
                "Times that a part of the stored state was not what its digest says; the partition halts; exact, and 0 unless state was lost",
            ),
            entries: register.counters(
                "waypost_journey_entries_total",
                "Runs begun, by journey and version; exact: counted with the commit that holds them",
            ),
            exits: register.counters(
                "waypost_journey_exits_total",
                "Runs ended, by journey and reason; exact: counted with the commit that holds them",
            ),
            timers: register.gauges("waypost_timers_pending", "Entities that wait for an instant, of the partitions led here"),
            lateness: register.histograms(
                "waypost_timer_lateness_seconds",
                LATENESS,
                "From when a timer was due until it fired; exact: counted with the commit that holds it",
            ),
            left_out: register.dropped("tallies"),
        }
    }

    /// The store has answered a commit, or not.
    pub fn committed(&self, role: &'static str, result: CommitResult, seconds: f64) {
        self.commits.at(&RoleResult { role, result: result.as_str() }).inc();
        self.commit_durations.at(&OfRole { role }).observe(seconds);
    }

    /// Shows how a role stands.
    pub fn show(&self, role: &'static str, state: &RoleState<'_>) {
        let of = OfRole { role };
        for (counters, value) in [
            (&self.processed, state.processed),
            (&self.rewound, state.rewound),
            (&self.channel_mismatches, state.channel_mismatches),
            (&self.digest_mismatches, state.digest_mismatches),
        ] {
            reach(&counters.at(&of), value);
        }
        for (histograms, Counted { bounds, counts, micros }) in [(&self.folds, state.folds), (&self.lateness, state.lateness)] {
            histograms.at(&of).set(bounds, counts, micros);
        }
        let count = |n: usize| number(u64::try_from(n).unwrap_or(u64::MAX));
        for (levels, value) in [
            (&self.led, count(state.led)),
            (&self.lag_seconds, state.lag_seconds),
            (&self.unacknowledged, number(state.unacknowledged_bytes)),
            (&self.uncommitted, number(state.uncommitted_records)),
            (&self.gaps, state.channel_gap),
            (&self.timers, number(state.timers_pending)),
        ] {
            levels.at(&of).set(value);
        }
        match state.rewind_headroom {
            Some(seconds) => {
                self.headroom.at(&of).set(seconds);
            }
            None => self.headroom.keep(|labels| labels.role != role),
        }
        self.show_partitions(role, state.partitions);
    }

    /// Those that have gone elsewhere are shown there.
    fn show_partitions(&self, role: &'static str, partitions: &[PartitionState]) {
        let is_known = |labels: &RolePartition, lags: bool| {
            let here = partitions.iter().find(|state| state.partition == labels.partition.0);
            labels.role != role || here.is_some_and(|state| !lags || state.lag_frames.is_some())
        };
        self.lag_frames.keep(|labels| is_known(labels, true));
        self.halted.keep(|labels| is_known(labels, false));
        for PartitionState { partition, lag_frames, halted } in partitions {
            let at = RolePartition { role, partition: Number(*partition) };
            self.halted.at(&at).set(if *halted { 1.0 } else { 0.0 });
            if let Some(lag) = lag_frames {
                self.lag_frames.at(&at).set(number(*lag));
            }
        }
    }

    /// The roles had no room to count so many decisions by their words.
    pub fn left_out(&self, count: u64) {
        reach(&self.left_out, count);
    }

    /// A role has set aside so many for this reason since it began.
    pub fn dead_letters(&self, role: &'static str, reason: &str, count: u64) {
        reach(&self.dead_letters.at(&RoleReason { role, reason: Name::of(reason) }), count);
    }

    /// So many runs of a journey's version have begun.
    pub fn entries(&self, workspace: &str, journey: &str, version: u32, count: u64) {
        let (workspace, journey, version) = (Name::of(workspace), Name::of(journey), Number(version));
        reach(&self.entries.at(&Entered { workspace, journey, version }), count);
    }

    /// So many runs of a journey have ended for this reason.
    pub fn exits(&self, workspace: &str, journey: &str, reason: &str, count: u64) {
        let (workspace, journey, reason) = (Name::of(workspace), Name::of(journey), Name::of(reason));
        reach(&self.exits.at(&Exited { workspace, journey, reason }), count);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}
