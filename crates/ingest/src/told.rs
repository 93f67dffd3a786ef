//! Traces begin at the doors: whether one is kept is decided here, once, and every record of it carries its place.

use std::sync::Arc;

use bytes::Bytes;
use waypost_types::{
    Timestamp,
    trace::{SpanKind, Told, TraceContext, Traces, Value},
};

/// A request, or a record of another topic, whose trace is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    traces: Arc<dyn Traces>,
    inbox: String,
    name: String,
    kind: SpanKind,
    context: TraceContext,
    parent: Option<TraceContext>,
    from: Timestamp,
}

// === impl Kept ===

impl Kept {
    /// Decides, in an installation whose topics have this prefix; `asked` is the caller's `traceparent`, and with `trusted` its word counts.
    pub(crate) fn begin(
        traces: &Arc<dyn Traces>,
        prefix: &str,
        asked: Option<&str>,
        trusted: bool,
        kind: SpanKind,
        name: impl FnOnce() -> String,
        from: Timestamp,
    ) -> Option<Self> {
        let (context, parent) = traces.begin(asked, trusted)?;
        Some(Self { traces: Arc::clone(traces), inbox: format!("{prefix}wp1.identity"), name: name(), kind, context, parent, from })
    }

    /// Its place, for log lines.
    pub(crate) fn place(&self) -> TraceContext {
        self.context
    }

    /// Where its records are sent from, as they carry it.
    pub(crate) fn sent(&self) -> Bytes {
        Bytes::copy_from_slice(&self.sending().to_bytes())
    }

    fn sending(&self) -> TraceContext {
        self.context.child(&[b"send"])
    }

    /// Tells that it is over: `records` went to identity's inbox, if it did not fail.
    pub(crate) fn end(self, records: usize, failed: bool, until: Timestamp) {
        let number = |n: usize| Value::Number(i64::try_from(n).unwrap_or(i64::MAX));
        let (sending, Self { traces, inbox, name, kind, context, parent, from }) = (self.sending(), self);
        if records > 0 {
            traces.tell(Told {
                name: format!("send {inbox}"),
                kind: SpanKind::Producer,
                context: sending,
                parent: Some(context),
                links: Vec::new(),
                from,
                until,
                attributes: vec![
                    ("messaging.system", Value::Text("kafka".to_owned())),
                    ("messaging.operation.type", Value::Text("send".to_owned())),
                    ("messaging.destination.name", Value::Text(inbox)),
                    ("messaging.batch.message_count", number(records)),
                ],
                failed,
            });
        }
        traces.tell(Told {
            name,
            kind,
            context,
            parent,
            links: Vec::new(),
            from,
            until,
            attributes: vec![("waypost.events", number(records))],
            failed,
        });
    }
}
