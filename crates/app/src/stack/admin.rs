//! The admin listener: alive, ready, what each partition is doing, and what came of this process's calls.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use waypost_runtime::{host::SystemClock, machine::Progress, ports::Clock as _, progress::Directory};
use waypost_sender::Calls;
use waypost_types::Timestamp;

/// `/livez`, `/readyz`, `/partitions`, `/outcomes`; the last is empty without a sender.
pub(super) fn router(directory: Arc<Directory>, calls: Option<Arc<Calls>>) -> Router {
    let outcomes = Router::new().route("/outcomes", get(outcomes)).with_state(calls);
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/partitions", get(partitions))
        .with_state(directory)
        .merge(outcomes)
}

/// A line a channel and outcome, with how many calls came to it since this process started.
async fn outcomes(State(calls): State<Option<Arc<Calls>>>) -> String {
    let outcomes = calls.map(|calls| calls.outcomes()).unwrap_or_default();
    let lines = outcomes.iter().map(|((channel, outcome), count)| format!("{channel} {} {count}\n", outcome.as_str_name()));
    lines.collect::<Vec<_>>().concat()
}

async fn partitions(State(directory): State<Arc<Directory>>) -> impl IntoResponse {
    let now = SystemClock.now();
    let lines = directory.owners(now).into_iter().map(|owner| {
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
    let text: String = lines.collect();
    (StatusCode::OK, text)
}

/// What is wrong with what the partition receives.
fn channels(p: &Progress, now: Timestamp) -> String {
    let mut wrong: Vec<String> = p.diverged.iter().map(|source| format!(", {source} diverged")).collect();
    wrong.extend(p.gap.map(|since| format!(", a gap for {}", now.since(since))));
    wrong.concat()
}
