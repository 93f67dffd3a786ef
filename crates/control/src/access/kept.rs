//! Calls whose trace is kept: a known caller's `traceparent` decides for itself, of other calls the usual share is kept.

use std::sync::Arc;

use http::HeaderMap;
use tonic::Code;
use waypost_runtime::ports::Clock;
use waypost_types::{
    Timestamp,
    trace::{SpanKind, Told, TraceContext, Traces, Value},
};

/// Where they are told, and by which clock.
#[derive(Clone)]
pub(super) struct Tracing {
    pub(super) traces: Arc<dyn Traces>,
    pub(super) clock: Arc<dyn Clock>,
}

/// A call under way whose trace is kept.
pub(super) struct Kept {
    to: Tracing,
    place: TraceContext,
    parent: Option<TraceContext>,
    from: Timestamp,
}

// === impl Tracing ===

impl Tracing {
    /// Decides about the call of a known caller.
    pub(super) fn begin(&self, headers: &HeaderMap) -> Option<Kept> {
        let asked = headers.get("traceparent").and_then(|asked| asked.to_str().ok());
        let (place, parent) = self.traces.begin(asked, true)?;
        Some(Kept { to: self.clone(), place, parent, from: self.clock.now() })
    }
}

// === impl Kept ===

impl Kept {
    /// Its place, for log lines.
    pub(super) fn place(&self) -> TraceContext {
        self.place
    }

    /// Tells that its answer begins.
    pub(super) fn end(self, method: &'static str, code: Code) {
        let Self { to, place, parent, from } = self;
        to.traces.tell(Told {
            name: method.to_owned(),
            kind: SpanKind::Server,
            context: place,
            parent,
            links: Vec::new(),
            from,
            until: to.clock.now(),
            attributes: vec![
                ("rpc.system", Value::Text("grpc".to_owned())),
                ("rpc.method", Value::Text(method.to_owned())),
                ("rpc.grpc.status_code", Value::Number(i64::from(code as i32))),
            ],
            failed: code != Code::Ok,
        });
    }
}
