//! What the door counts of a request: its answer and what that took. What is counted of events stands where they are judged.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use waypost_runtime::host::Stopwatch;
use waypost_telemetry::metrics::{DoorMetrics, SourceKind};

use super::Ingest;
use crate::{Reason, Rights};

/// Why a request was refused whole, for whoever counts its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusedWhole(pub(super) Reason);

/// Events of a request by the type of their call.
#[derive(Debug, Default)]
pub(super) struct Calls(Vec<(&'static str, u64)>);

// === impl Calls ===

impl Calls {
    pub(super) fn took(&mut self, call: &'static str) {
        match self.0.iter_mut().find(|(known, _)| *known == call) {
            Some((_, events)) => *events += 1,
            None => self.0.push((call, 1)),
        }
    }

    /// The log has them.
    pub(super) fn count(self, metrics: &DoorMetrics, rights: &Rights) {
        for (call, events) in self.0 {
            metrics.received(SourceKind::of(&rights.kind), call, events);
        }
    }
}

pub(super) async fn counted(State(ingest): State<Ingest>, request: Request, next: Next) -> Response {
    let began = Stopwatch::start();
    let response = next.run(request).await;
    let metrics = &ingest.inner.config.metrics;
    if let Some(RefusedWhole(reason)) = response.extensions().get() {
        metrics.rejected(reason.as_str());
    }
    metrics.answered(response.status().as_u16(), began.seconds());
    response
}
