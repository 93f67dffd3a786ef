//! Traces over OTLP: which requests are kept, and what is told of them on its way to a collector.

mod metrics;

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

pub use self::metrics::OtlpMetrics;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Link, SpanContext, SpanId, SpanKind as Kind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter, SpanLinks},
};
use tokio::sync::mpsc;
use waypost_types::{
    Timestamp,
    trace::{SpanKind, Told, TraceContext, Traces, Value},
};

/// Spans that may wait; what comes on top is dropped and counted.
const WAITING: usize = 16_384;
/// Spans a request to the collector.
const BATCH: usize = 512;
/// How long a span waits for company.
const EVERY: Duration = Duration::from_secs(1);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where traces and metrics go, and from whom they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Its address: `http://host:4317`.
    pub endpoint: String,
    /// `service.name`.
    pub service: String,
    /// Which process of it this is: `service.instance.id`.
    pub instance: String,
    /// Further attributes of the resource.
    pub attributes: Vec<(String, String)>,
}

/// Why nothing can be sent to a collector.
#[derive(Debug, thiserror::Error)]
#[error("nothing can be sent to the collector at `{endpoint}`: {why}")]
pub struct OtlpError {
    endpoint: String,
    why: String,
}

/// Sends what is told to a collector, in the background.
pub struct OtlpTraces {
    keep_below: u64,
    random: Box<dyn Fn() -> u64 + Send + Sync>,
    told: mpsc::Sender<SpanData>,
    dropped: Arc<AtomicU64>,
    scope: InstrumentationScope,
}

// === impl Collector ===

impl Collector {
    /// What is said of this process, its name excepted.
    fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = [("service.version", env!("CARGO_PKG_VERSION")), ("service.instance.id", self.instance.as_str())];
        own.into_iter().chain(self.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

// === impl OtlpTraces ===

impl OtlpTraces {
    /// Begins; the task that sends ends with the runtime, or once all of these are gone. `sample` is the share of requests that are
    /// kept, 0 to 1; `random` draws ids and decides who is.
    ///
    /// # Errors
    /// An address that is none.
    pub fn begin(collector: &Collector, sample: f64, random: Box<dyn Fn() -> u64 + Send + Sync>) -> Result<Arc<Self>, OtlpError> {
        let wrong = |why: String| OtlpError { endpoint: collector.endpoint.clone(), why };
        let exporter = Otlp::builder().with_tonic().with_endpoint(&collector.endpoint).with_timeout(PATIENCE).build();
        let mut exporter = exporter.map_err(|error| wrong(error.to_string()))?;
        let attributes = collector.attributes().map(|(name, value)| KeyValue::new(name.to_owned(), value.to_owned()));
        exporter.set_resource(&Resource::builder_empty().with_service_name(collector.service.clone()).with_attributes(attributes).build());
        let (told, waiting) = mpsc::channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        drop(tokio::spawn(send(exporter, waiting, Arc::clone(&dropped))));
        let scope = InstrumentationScope::builder("waypost").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Arc::new(Self { keep_below: threshold(sample), random, told, dropped, scope }))
    }

    /// Spans that found no room, or no collector.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn draw(&self) -> u64 {
        (self.random)().max(1)
    }
}

impl Traces for OtlpTraces {
    fn begin(&self, asked: Option<&str>, trusted: bool) -> Option<(TraceContext, Option<TraceContext>)> {
        let asked = asked.filter(|_| trusted).and_then(TraceContext::from_header);
        if let Some((parent, sampled)) = asked {
            return sampled.then(|| (parent.child(&[&self.draw().to_be_bytes()]), Some(parent)));
        }
        if (self.random)() >= self.keep_below {
            return None;
        }
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&self.draw().to_be_bytes());
        trace[8..].copy_from_slice(&self.draw().to_be_bytes());
        TraceContext::new(trace, self.draw().to_be_bytes()).map(|context| (context, None))
    }

    fn tell(&self, told: Told) {
        if self.told.try_send(span(told, &self.scope)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for OtlpTraces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpTraces").field("keep_below", &self.keep_below).finish_non_exhaustive()
    }
}

/// What a uniform draw has to stay below, so that this share of all does.
fn threshold(share: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "from 0 to 1 times 2⁶⁴, saturating"
    )]
    let below = (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
    below
}

async fn send(exporter: Otlp, mut waiting: mpsc::Receiver<SpanData>, dropped: Arc<AtomicU64>) {
    let mut away = false;
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        if waiting.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        // company, if it comes soon
        let until = tokio::time::sleep(EVERY);
        tokio::pin!(until);
        while batch.len() < BATCH {
            tokio::select! {
                more = waiting.recv() => match more {
                    Some(span) => batch.push(span),
                    None => break,
                },
                () = &mut until => break,
            }
        }
        let count = batch.len() as u64;
        match exporter.export(batch).await {
            Ok(()) if away => {
                away = false;
                tracing::info!("traces arrive again");
            }
            Ok(()) => {}
            Err(error) => {
                dropped.fetch_add(count, Ordering::Relaxed);
                if !away {
                    away = true;
                    tracing::warn!(%error, "traces do not arrive, and are dropped meanwhile");
                }
            }
        }
    }
}

fn span(told: Told, scope: &InstrumentationScope) -> SpanData {
    let Told { name, kind, context, parent, links, from, until, attributes, failed } = told;
    let place = |at: TraceContext| {
        let (trace, span) = (TraceId::from_bytes(at.trace_id()), SpanId::from_bytes(at.span_id()));
        SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
    };
    let attributes = attributes.into_iter().map(|(name, value)| match value {
        Value::Text(text) => KeyValue::new(name, text),
        Value::Number(number) => KeyValue::new(name, number),
    });
    let mut linked = SpanLinks::default();
    linked.links = links.into_iter().map(|at| Link::with_context(place(at))).collect();
    SpanData {
        span_context: place(context),
        parent_span_id: parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.span_id())),
        parent_span_is_remote: true,
        span_kind: match kind {
            SpanKind::Server => Kind::Server,
            SpanKind::Client => Kind::Client,
            SpanKind::Consumer => Kind::Consumer,
            SpanKind::Producer => Kind::Producer,
        },
        name: Cow::Owned(name),
        start_time: instant(from),
        end_time: instant(until.max(from)),
        attributes: attributes.collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: linked,
        status: if failed { Status::error("") } else { Status::Unset },
        instrumentation_scope: scope.clone(),
    }
}

fn instant(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.millis()).unwrap_or(0))
}
