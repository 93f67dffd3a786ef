//! The admin listener: alive, ready, and what each partition is doing.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use waypost_runtime::{host::SystemClock, machine::Progress, ports::Clock as _, progress::Directory};
use waypost_types::Timestamp;

/// `/livez`, `/readyz`, `/partitions`.
pub(super) fn router(directory: Arc<Directory>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/partitions", get(partitions))
        .with_state(directory)
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
