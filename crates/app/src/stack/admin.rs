//! The admin listener: alive, ready, metrics, what each partition is doing, and what came of this process's calls.

mod health;
mod scrape;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::join_all;
use tokio::sync::watch;
use waypost_control::{Catalog, Reports};
use waypost_runtime::{driver::Handle, machine::Progress, ports::Clock, progress::Directory};
use waypost_sender::Calls;
use waypost_telemetry::metrics::{CONTENT_TYPE, Metrics};
use waypost_types::Timestamp;

use super::{
    metered::{Answer, Answers},
    pulse::Pulse,
};
use crate::keys;
use health::{Facts, RoleFacts};

/// What the listener looks at.
pub(super) struct Admin {
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) directory: Arc<Directory>,
    pub(super) catalog: Catalog,
    pub(super) pulse: Arc<Pulse>,
    pub(super) answers: Arc<Answers>,
    /// Keyed roles of this process.
    pub(super) handles: Vec<Handle>,
    /// The sender's, if it runs here.
    pub(super) calls: Option<Arc<Calls>>,
    /// What journeys do, if this process counts it.
    pub(super) reports: Option<Reports>,
    /// Whether the door knows the write keys, if there is one here.
    pub(super) keys: Option<watch::Receiver<bool>>,
    /// Everything that is to listen does.
    pub(super) is_serving: AtomicBool,
    pub(super) is_draining: AtomicBool,
}

/// `/livez`, `/readyz`, `/metrics`, `/partitions`, `/outcomes`; the last is empty without a sender.
pub(super) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/readyz/{check}", get(one_check))
        .route("/metrics", get(metrics))
        .route("/partitions", get(partitions))
        .route("/outcomes", get(outcomes))
        .with_state(admin)
}

// === impl Admin ===

impl Admin {
    /// The metrics, brought to what everything here says now.
    pub(super) async fn metrics(&self) -> &Metrics {
        let figures = join_all(self.handles.iter().map(scrape::figures)).await;
        let roles: Vec<_> = self.handles.iter().map(Handle::role).zip(figures).collect();
        scrape::roles(&self.metrics, &roles, &self.pulse, &self.catalog, self.clock.now());
        if let Some(calls) = &self.calls {
            scrape::sends(&self.metrics, calls);
        }
        if let Some(lag) = self.reports.as_ref().and_then(Reports::lag) {
            self.metrics.control.reports_lag(Duration::from_millis(u64::try_from(lag.millis()).unwrap_or_default()).as_secs_f64());
        }
        self.metrics.process.look();
        if let Some(brokers) = self.pulse.brokers().up {
            self.metrics.process.brokers(brokers);
        }
        if let Some(answer) = self.answers.last().filter(|_| !self.handles.is_empty()) {
            self.metrics.process.store(answer == Answer::Good);
        }
        &self.metrics
    }

    async fn facts(&self) -> Facts {
        let figures = join_all(self.handles.iter().map(scrape::figures)).await;
        let roles = self.handles.iter().zip(figures).map(|(handle, figures)| {
            let halted = figures.partitions.iter().filter(|partition| partition.halted).count();
            RoleFacts { role: handle.role(), is_member: figures.is_member, has_joined: figures.has_joined, halted }
        });
        let journal = self.catalog.journal().borrow().clone();
        let is_here = keys::in_force(&journal, &self.catalog).is_some();
        Facts {
            now: self.clock.now(),
            is_serving: self.is_serving.load(Ordering::Acquire),
            is_draining: self.is_draining.load(Ordering::Acquire),
            roles: roles.collect(),
            definitions: journal.set.map(|(number, _)| (number, is_here)),
            keys: self.keys.as_ref().map(|known| *known.borrow()),
            brokers: self.pulse.brokers(),
            // A process without keyed roles asks the store nothing but at its start.
            store: self.answers.last().filter(|_| !self.handles.is_empty()),
        }
    }
}

fn text(is_good: bool, text: impl Into<String>) -> Response {
    let status = if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text.into()).into_response()
}

/// Asks nobody outside of the process.
async fn livez(State(admin): State<Arc<Admin>>) -> Response {
    match health::stuck(admin.pulse.slowest(), admin.clock.now()) {
        None => text(true, "ok\n"),
        Some(role) => text(false, format!("the thread of {role} has shown nothing for minutes\n")),
    }
}

/// `?verbose` names everything that was looked at.
async fn readyz(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let checks = admin.facts().await.checks();
    let is_ready = health::is_ready(&checks);
    if query.is_some_and(|query| query.split('&').any(|word| word == "verbose" || word.starts_with("verbose="))) {
        return text(is_ready, health::verbose(&checks));
    }
    let missing: Vec<&str> = checks.iter().filter(|check| check.state == health::State::Bad).map(|check| check.name).collect();
    text(is_ready, if is_ready { "ok\n".to_owned() } else { format!("not ready: {}\n", missing.join(", ")) })
}

async fn one_check(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    let checks = admin.facts().await.checks();
    if let Some(check) = checks.iter().find(|check| check.name == name) {
        return text(check.state == health::State::Good, check.line());
    }
    let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
    (StatusCode::NOT_FOUND, format!("no such check; there are {}\n", names.join(", "))).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], admin.metrics().await.encode()).into_response()
}

/// A line a channel and outcome, with how many calls came to it since this process started.
async fn outcomes(State(admin): State<Arc<Admin>>) -> String {
    let outcomes = admin.calls.as_ref().map(|calls| calls.outcomes()).unwrap_or_default();
    let lines = outcomes.iter().map(|((channel, outcome), count)| format!("{channel} {} {count}\n", outcome.as_str_name()));
    lines.collect::<Vec<_>>().concat()
}

async fn partitions(State(admin): State<Arc<Admin>>) -> String {
    let now = admin.clock.now();
    let lines = admin.directory.owners(now).into_iter().map(|owner| {
        let p = &owner.progress;
        let active = if p.leading { "leading" } else { "replaying" };
        let state = p.halted.as_deref().map_or_else(|| active.to_owned(), |why| format!("halted: {why}"));
        format!(
            "{} at {} committed {} folded {} through {} {state}{}\n",
            p.partition,
            owner.address,
            p.off,
            p.next,
            p.through,
            channels(p, now)
        )
    });
    lines.collect()
}

/// What is wrong with what the partition receives.
fn channels(p: &Progress, now: Timestamp) -> String {
    let mut wrong: Vec<String> = p.diverged.iter().map(|source| format!(", {source} diverged")).collect();
    wrong.extend(p.gap.map(|since| format!(", a gap for {}", now.since(since))));
    wrong.concat()
}
