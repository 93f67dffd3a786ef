//! From what the parts of a process say to its metrics, when somebody asks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use waypost_codec::inbox::Outcome;
use waypost_control::Catalog;
use waypost_orchestrator::tallies;
use waypost_runtime::{
    driver::Handle,
    figures::{BOUNDS, DEAD_LETTER, Figures, Spread, Tally},
};
use waypost_sender::{Calls, STOPPED};
use waypost_telemetry::metrics::{Counted, Metrics, PartitionState, RoleState, WayState};
use waypost_types::{PartitionId, Role, Span, Timestamp, WorkspaceId};

use crate::{keys, stack::pulse::Pulse};

/// How long a role's thread may take; what it showed before is shown then.
const PATIENCE: Duration = Duration::from_millis(500);
/// Journeys of this version send by e-mail only; a decision does not say so.
const CHANNEL: &str = "email";

/// What a role shows now, or showed last.
pub(super) async fn figures(handle: &Handle) -> Arc<Figures> {
    match tokio::time::timeout(PATIENCE, handle.figures()).await {
        Ok(figures) => figures,
        Err(_) => handle.last_figures(),
    }
}

/// Shows what the roles have counted and how they stand.
pub(super) fn roles(metrics: &Metrics, all: &[(Role, Arc<Figures>)], pulse: &Pulse, catalog: &Catalog, now: Timestamp) {
    for (role, figures) in all {
        role_shown(metrics, *role, figures, pulse, now);
    }
    let names = workspaces(catalog);
    let mut stopped: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (role, tally, count) in all.iter().flat_map(|(role, figures)| figures.counters.tallies.iter().map(|(t, n)| (*role, t, n))) {
        let Tally { what, workspace, name, version, reason } = tally;
        let workspace = || names.get(workspace).cloned().unwrap_or_else(|| workspace.to_string());
        match (role, *what) {
            (_, DEAD_LETTER) => {}
            (Role::Orchestrator, tallies::ENTERED) => metrics.roles.entries(&workspace(), name, *version, count),
            (Role::Orchestrator, tallies::EXITED) => metrics.roles.exits(&workspace(), name, reason, count),
            (Role::Orchestrator, tallies::STOPPED) => *stopped.entry((CHANNEL.to_owned(), reason.clone())).or_default() += count,
            (Role::Sender, STOPPED) => *stopped.entry((name.clone(), reason.clone())).or_default() += count,
            (_, other) => tracing::debug!(what = other, %role, "a tally that nobody shows"),
        }
    }
    for ((channel, reason), count) in stopped {
        metrics.sends.stopped(&channel, &reason, count);
    }
    metrics.roles.left_out(all.iter().map(|(_, figures)| figures.counters.tallies.left_out()).sum());
}

/// Names of the workspaces in force.
fn workspaces(catalog: &Catalog) -> BTreeMap<WorkspaceId, String> {
    let journal = catalog.journal().borrow().clone();
    let set = keys::in_force(&journal, catalog);
    set.iter().flat_map(|set| set.workspaces.values()).map(|workspace| (workspace.id, workspace.name.clone())).collect()
}

fn role_shown(metrics: &Metrics, role: Role, figures: &Figures, pulse: &Pulse, now: Timestamp) {
    // One that has not begun has nothing to show.
    if figures.at == Timestamp::ZERO {
        return;
    }
    let here = &figures.partitions;
    let id = |index: u32| PartitionId { role, index };
    let waits = here.iter().filter(|p| p.folding).filter_map(|p| pulse.oldest(id(p.partition), p)).min();
    let headroom = here.iter().filter_map(|p| Some(seconds(p.committed?.since(pulse.first(id(p.partition))?))));
    let lag = |p: &waypost_runtime::figures::PartitionFigures| PartitionState {
        partition: p.partition,
        lag_frames: pulse.lag(id(p.partition), p.next),
        halted: p.halted,
    };
    let partitions: Vec<PartitionState> = here.iter().map(lag).collect();
    let state = RoleState {
        processed: figures.counters.records,
        folds: counted(&figures.folds),
        lateness: counted(&figures.counters.lateness),
        rewound: figures.counters.rewinds,
        channel_mismatches: figures.counters.divergences,
        digest_mismatches: figures.counters.digest_mismatches,
        led: here.iter().filter(|p| p.leading).count(),
        lag_seconds: waits.map_or(0.0, |since| age(now, since)),
        unacknowledged_bytes: here.iter().map(|p| p.unacknowledged_bytes).sum(),
        uncommitted_records: here.iter().map(|p| p.uncommitted_records).sum(),
        rewind_headroom: headroom.reduce(f64::min),
        channel_gap: here.iter().filter_map(|p| p.gap).min().map_or(0.0, |since| age(now, since)),
        timers_pending: here.iter().filter(|p| p.leading).map(|p| p.timers).sum(),
        partitions: &partitions,
    };
    metrics.roles.show(role.as_str(), &state);
    let mut letters: BTreeMap<&str, u64> = BTreeMap::new();
    for (tally, count) in figures.counters.tallies.iter().filter(|(tally, _)| tally.what == DEAD_LETTER) {
        *letters.entry(&tally.reason).or_default() += count;
    }
    for (reason, count) in letters {
        metrics.roles.dead_letters(role.as_str(), reason, count);
    }
}

/// Shows what came of the sender's calls.
pub(super) fn sends(metrics: &Metrics, calls: &Calls) {
    for ((channel, provider), figures) in calls.ways() {
        let of = |outcome| figures.outcomes.get(&outcome).copied().unwrap_or(0);
        let failed: Vec<(&'static str, u64)> =
            figures.outcomes.iter().filter_map(|(outcome, count)| Some((class(*outcome)?, *count))).collect();
        metrics.sends.show(&WayState {
            channel: &channel,
            provider: &provider,
            accepted: of(Outcome::Accepted),
            failed: &failed,
            unknown: of(Outcome::Unknown),
            durations: counted(&figures.durations),
        });
    }
    for (provider, is_open) in calls.circuits_open() {
        metrics.sends.circuit(&provider, is_open);
    }
}

/// The class of a failure; none: it is none.
fn class(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::PermanentRecipient => Some("permanent_recipient"),
        Outcome::PermanentContent => Some("permanent_content"),
        Outcome::Transient => Some("transient"),
        Outcome::Throttled => Some("throttled"),
        Outcome::Auth => Some("auth"),
        Outcome::Accepted | Outcome::Unknown | Outcome::Stopped | Outcome::Unspecified => None,
    }
}

fn counted(spread: &Spread) -> Counted<'_> {
    Counted { bounds: &BOUNDS, counts: spread.counts(), micros: spread.micros() }
}

/// The broker's clock may be ahead of ours.
fn age(now: Timestamp, since: Timestamp) -> f64 {
    seconds(now.since(since)).max(0.0)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of 285,000 years")]
fn seconds(span: Span) -> f64 {
    span.millis() as f64 / 1_000.0
}
