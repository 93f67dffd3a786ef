//! The doors: what came in, what did not, and how they answered.

use prometheus_client::metrics::counter::Counter;

use super::{
    family::Bounded,
    histogram::{Histogram, REQUESTS},
    labels::{Name, Number, labels},
    register::{Kind, Register},
    role::{DeadLetters, RoleReason, dead_letters},
};

labels! {
    Received { source_kind: &'static str, r#type: &'static str }
    Rejected { reason: &'static str }
    Answered { code: Number }
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A page.
    Browser,
    /// Somebody's backend.
    Server,
    /// A producer of the public topic.
    Kafka,
}

/// Types of calls, `other` for what is none (an unsubscribe link), `event` for those of the Kafka door.
const TYPES: [&str; 8] = ["track", "identify", "page", "screen", "group", "alias", "other", "event"];
const KINDS: [&str; 3] = ["browser", "server", "kafka"];

/// Metrics of the doors; clones share them. The default ones are shown to nobody.
#[derive(Clone, Debug)]
pub struct DoorMetrics {
    received: [[Counter; TYPES.len()]; KINDS.len()],
    rejected: Bounded<Rejected, Counter>,
    dead_letters: DeadLetters,
    requests: Bounded<Answered, Counter>,
    durations: Histogram,
}

// === impl SourceKind ===

impl SourceKind {
    /// By the word of its definition; any other is a server.
    pub fn of(kind: &str) -> Self {
        match kind {
            "browser" => Self::Browser,
            "kafka" => Self::Kafka,
            _ => Self::Server,
        }
    }
}

// === impl DoorMetrics ===

impl Default for DoorMetrics {
    fn default() -> Self {
        let mut nobody = Register::default();
        let letters = dead_letters(&mut nobody);
        Self::new(&mut nobody, letters)
    }
}

impl DoorMetrics {
    pub(super) fn new(register: &mut Register, dead_letters: DeadLetters) -> Self {
        let received: Bounded<Received, Counter> = register.counters(
            "waypost_events_received_total",
            "Events that a door has taken and the log acknowledged, by the kind of their source (browser, server, kafka) and the type of \
             call (track, identify, page, screen, group, alias; event: the Kafka door; other: unsubscribe links); exact over HTTP but \
             for callers that hang up meanwhile, at least once over Kafka, where a batch is taken again after a failure",
        );
        let received = KINDS.map(|source_kind| TYPES.map(|r#type| received.at(&Received { source_kind, r#type })));
        let rejected = register.counters(
            "waypost_events_rejected_total",
            "Events and whole requests that a door has refused, by reason; exact over HTTP, at least once over Kafka",
        );
        let requests = register.counters("waypost_http_requests_total", "Answers of the HTTP door by status code; exact");
        let durations = super::family::Series::new(REQUESTS);
        register.single(
            "waypost_http_request_duration_seconds",
            Kind::Histogram,
            "From when the HTTP door has a request's head until its answer begins; exact",
            &durations,
        );
        Self { received, rejected, dead_letters, requests, durations }
    }

    /// The log has acknowledged so many events of a type of call.
    pub fn received(&self, from: SourceKind, of: &str, events: u64) {
        let column = TYPES.iter().position(|known| *known == of).unwrap_or(TYPES.len() - 2);
        self.received[from as usize][column].inc_by(events);
    }

    /// Something was refused.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.at(&Rejected { reason }).inc();
    }

    /// The original of what was refused stands in the dead letters.
    pub fn set_aside(&self, reason: &'static str) {
        self.dead_letters.at(&RoleReason { role: "ingest", reason: Name::of(reason) }).inc();
    }

    /// A request was answered.
    pub fn answered(&self, code: u16, seconds: f64) {
        self.requests.at(&Answered { code: Number(code.into()) }).inc();
        self.durations.observe(seconds);
    }
}
