//! Traces (W3C Trace Context): what a record carries of one, and what is told of a span.
//!
//! Whether a trace is kept is decided once, at the door; a record of one that is not carries nothing. Behind the door span ids are
//! functions of the log, so that every life of a partition puts out the same bytes.

use std::fmt;

use crate::{Timestamp, hash::hash64};

/// A place in a trace that is kept: the trace's id and that of the span under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
}

/// What a span is to its caller (OpenTelemetry's span kinds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Answers a request.
    Server,
    /// Makes a request.
    Client,
    /// Takes a record from a log.
    Consumer,
    /// Puts a record into a log.
    Producer,
}

/// What an attribute says; never who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word.
    Text(String),
    /// A number.
    Number(i64),
}

/// Something that took place in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `process wp1.identity`.
    pub name: String,
    /// What it is to its caller.
    pub kind: SpanKind,
    /// Its own place.
    pub context: TraceContext,
    /// The place it comes from; none at the root.
    pub parent: Option<TraceContext>,
    /// Places of other traces that it is about, where one act is for many records.
    pub links: Vec<TraceContext>,
    /// When it began.
    pub from: Timestamp,
    /// When it was over.
    pub until: Timestamp,
    /// By OpenTelemetry's names.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed.
    pub failed: bool,
}

/// Which requests are traced, and where what is told of them goes.
pub trait Traces: fmt::Debug + Send + Sync + 'static {
    /// The place of a request that begins now, if its trace is kept; `asked` is its `traceparent`, and with `trusted` its word counts.
    fn begin(&self, asked: Option<&str>, trusted: bool) -> Option<(TraceContext, Option<TraceContext>)>;
    /// Takes in what is told; never waits.
    fn tell(&self, told: Told);
}

/// Nothing is traced.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTraces;

// === impl TraceContext ===

impl TraceContext {
    /// Of ids; none if one is all zero, which W3C forbids.
    pub fn new(trace: [u8; 16], span: [u8; 8]) -> Option<Self> {
        (trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span })
    }

    /// As a record carries it: 24 bytes. Anything else is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (trace, span) = bytes.split_first_chunk::<16>()?;
        Self::new(*trace, span.try_into().ok()?)
    }

    /// As a record carries it.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..].copy_from_slice(&self.span);
        bytes
    }

    /// A place below this one; the same parts make the same place.
    #[must_use]
    pub fn child(self, parts: &[&[u8]]) -> Self {
        let mut all = vec![&self.trace[..], &self.span[..]];
        all.extend_from_slice(parts);
        Self { span: hash64(&all).max(1).to_be_bytes(), ..self }
    }

    /// From a `traceparent` header, and whether its sender keeps it; none where it is no such header.
    pub fn from_header(header: &str) -> Option<(Self, bool)> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // later versions may say more behind the flags
        let known = version.len() == 2 && version != "ff" && (version != "00" || parts.next().is_none());
        let lower = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !known || ![version, trace, span, flags].into_iter().all(lower) || flags.len() != 2 {
            return None;
        }
        let trace = u128::from_str_radix(Some(trace).filter(|t| t.len() == 32)?, 16).ok()?;
        let span = u64::from_str_radix(Some(span).filter(|s| s.len() == 16)?, 16).ok()?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some((Self::new(trace.to_be_bytes(), span.to_be_bytes())?, sampled))
    }

    /// As a `traceparent` header.
    pub fn to_header(self) -> String {
        format!("00-{}-{}-01", self.trace_hex(), self.span_hex())
    }

    /// The trace's id, for log lines.
    pub fn trace_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.trace))
    }

    /// The span's id, for log lines.
    pub fn span_hex(self) -> String {
        format!("{:016x}", u64::from_be_bytes(self.span))
    }

    /// The trace's id.
    pub fn trace_id(self) -> [u8; 16] {
        self.trace
    }

    /// The span's.
    pub fn span_id(self) -> [u8; 8] {
        self.span
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.trace_hex(), self.span_hex())
    }
}

// === impl NoTraces ===

impl Traces for NoTraces {
    fn begin(&self, _: Option<&str>, _: bool) -> Option<(TraceContext, Option<TraceContext>)> {
        None
    }

    fn tell(&self, _: Told) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_and_written_as_the_standard_has_it() {
        let (context, sampled) = TraceContext::from_header(HEADER).unwrap();
        assert!(sampled);
        assert_eq!(context.to_header(), HEADER);
        assert!(!TraceContext::from_header(&HEADER.replace("-01", "-00")).unwrap().1);
        assert!(TraceContext::from_header(&HEADER.replacen("00-", "01-", 1).replace("-01", "-01-more")).is_some(), "a later version");
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::from_header(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_record_carries_comes_back() {
        let (context, _) = TraceContext::from_header(HEADER).unwrap();
        assert_eq!(TraceContext::from_bytes(&context.to_bytes()), Some(context));
        for wrong in [&[][..], &[1; 23], &[1; 25], &[0; 24]] {
            assert_eq!(TraceContext::from_bytes(wrong), None);
        }
    }

    #[test]
    fn the_same_parts_make_the_same_child_of_the_same_trace() {
        let (context, _) = TraceContext::from_header(HEADER).unwrap();
        let child = context.child(&[b"identity", &[3]]);
        assert_eq!(child, context.child(&[b"identity", &[3]]));
        assert_ne!(child, context.child(&[b"identity", &[4]]));
        assert_eq!(child.trace_id(), context.trace_id());
    }
}
