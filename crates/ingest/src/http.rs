//! The HTTP door: Segment's calls, unsubscribe links, liveness (CONVENTIONS §1).
//!
//! `200` only after the log has acknowledged what was let in, and nothing outlives its request here. Anybody may knock:
//! what a stranger can take of time and memory is bounded before it is looked at who he is ([`Connections`], `caller`).

use std::{
    error::Error,
    fmt,
    sync::{Arc, Once},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use futures::future::try_join_all;
use http_body_util::LengthLimitError;
use serde::Deserialize;
use serde_json::{Value as Json, value::RawValue};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::Instrument as _;
use waypost_codec::{frame::Record, unsubscribe::LinkKeys, write_key::KeyHash};
use waypost_runtime::{door::Door, ports::Clock};
use waypost_telemetry::{metrics::DoorMetrics, traced};
use waypost_types::{
    Role,
    trace::{NoTraces, SpanKind, Traces},
};

use crate::{
    DeadLetter, DeadLetters, Env, Keys, Reason, Rights,
    segment_call::{self, CallKind, Shared},
    told::Kept,
};

use address::Household;
use answer::{Refusal, Rejected, not_stored};
use caller::{Caller, Client};
use counting::Calls;
use linger::linger;
use quota::Quotas;
use rate::Rate;

pub use address::{NotANetwork, TrustedProxies};
pub use origins::{NotAnOrigin, Origins};
pub use serve::{Connections, serve};

mod address;
mod answer;
mod auth;
mod caller;
mod counting;
mod gzip;
mod linger;
mod origins;
mod quota;
mod rate;
mod serve;
mod unsubscribe;

/// Limits and keys of the HTTP door.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Key of the identifiers' hashes.
    pub install: [u8; 32],
    /// Keys of the tokens in unsubscribe links.
    pub link_keys: LinkKeys,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Events in a batch.
    pub max_events: usize,
    /// Requests at work at once; above, callers are asked to come again.
    pub max_requests: usize,
    /// Bytes of bodies on their way at once, as they are announced; above, callers are asked to come again. Half of it is for
    /// those who have shown a server's key.
    pub max_arriving: usize,
    /// A body that takes longer belongs to a caller that is gone.
    pub patience: Duration,
    /// The same for callers whose key stands in the body, if anywhere.
    pub patience_with_strangers: Duration,
    /// Requests a second of one write key, a second's worth at once; 0: any number.
    pub key_rate: u32,
    /// The same of one address, for browser keys and for whoever has no valid key; 0: any number.
    pub address_rate: u32,
    /// Who may say for whom a connection is.
    pub proxies: TrustedProxies,
    /// Pages that may call with a browser key.
    pub origins: Origins,
    /// Of the installation's topics.
    pub prefix: String,
    /// Decides which requests are traced.
    pub traces: Arc<dyn Traces>,
    /// Where it is counted what comes and how it is answered.
    pub metrics: DoorMetrics,
}

/// The HTTP door's state; cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    inner: Arc<Inner>,
}

struct Inner {
    config: IngestConfig,
    keys: Arc<dyn Keys>,
    door: Arc<dyn Door>,
    dead_letters: Arc<dyn DeadLetters>,
    clock: Arc<dyn Clock>,
    requests: Semaphore,
    arriving: Arriving,
    key_rate: Rate<KeyHash>,
    address_rate: Rate<Household>,
    quotas: Quotas,
    /// Told once: somebody claims to be a proxy who is none of ours.
    unbelieved: Once,
}

/// KiB that bodies on their way may take of memory. Work itself is bounded once they are here.
struct Arriving {
    of_servers: Semaphore,
    /// And of pages, whose key is no secret.
    of_strangers: Semaphore,
}

/// Somebody who may send a body, as far as his head says.
struct Knock<'a> {
    caller: Caller<'a>,
    /// Of the key in the head.
    rights: Option<Arc<Rights>>,
    /// Room for the body, until it is answered.
    _arriving: SemaphorePermit<'a>,
}

/// What surrounds the events; they themselves stay text until each is judged alone.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "writeKey", borrow, default)]
    write_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    batch: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(rename = "sentAt", borrow, default)]
    sent_at: Option<&'a RawValue>,
}

/// What a body on its way takes of memory at least.
const SMALLEST_BODY: usize = 4 * KIB;
const KIB: usize = 1024;
/// Keys and addresses whose rate is known, at least; twice as many at most.
const KNOWN_KEYS: usize = 10_000;
const KNOWN_ADDRESSES: usize = 50_000;

/// The routes of the HTTP door.
pub fn router(ingest: Ingest) -> Router {
    let mut calls = Router::new().route("/v1/{call}", post(call));
    if let Some(cors) = ingest.inner.config.origins.layer() {
        calls = calls.layer(cors);
    }
    calls
        .route("/u/{token}", get(unsubscribe::page).post(unsubscribe::unsubscribe))
        .layer(from_fn_with_state(ingest.clone(), counting::counted))
        .route("/livez", get(|| async { "ok\n" }))
        .with_state(ingest)
}

async fn call(State(ingest): State<Ingest>, Path(call): Path<String>, client: Client, headers: HeaderMap, body: Body) -> Response {
    let kind = CallKind::ALL.into_iter().find(|k| k.as_str() == call);
    let refused = if kind.is_some() || call == "batch" {
        match ingest.knock(client, &headers) {
            Ok(knock) => return ingest.take(kind, knock, &headers, body).await.unwrap_or_else(Refusal::into_response),
            Err(refusal) => refusal.into_response(),
        }
    } else {
        StatusCode::NOT_FOUND.into_response()
    };
    linger(&headers, body).await;
    refused
}

// === impl IngestConfig ===

impl IngestConfig {
    /// The documented limits.
    pub fn new(install: [u8; 32], link_keys: impl Into<LinkKeys>) -> Self {
        Self {
            install,
            link_keys: link_keys.into(),
            max_body: 500 * KIB,
            max_events: 2_500,
            max_requests: 256,
            max_arriving: 256 * KIB * KIB,
            patience: Duration::from_secs(30),
            patience_with_strangers: Duration::from_secs(5),
            key_rate: 1_000,
            address_rate: 100,
            proxies: TrustedProxies::default(),
            origins: Origins::default(),
            prefix: String::new(),
            traces: Arc::new(NoTraces),
            metrics: DoorMetrics::default(),
        }
    }
}

// === impl Ingest ===

impl Ingest {
    /// A door for the owners of `keys`.
    pub fn new(
        config: IngestConfig,
        keys: Arc<dyn Keys>,
        door: Arc<dyn Door>,
        dead_letters: Arc<dyn DeadLetters>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let requests = Semaphore::new(config.max_requests);
        let half = (config.max_arriving / 2 / KIB).min(Semaphore::MAX_PERMITS);
        let arriving = Arriving { of_servers: Semaphore::new(half), of_strangers: Semaphore::new(half) };
        let key_rate = Rate::new(config.key_rate, KNOWN_KEYS);
        let address_rate = Rate::new(config.address_rate, KNOWN_ADDRESSES);
        let (quotas, unbelieved) = (Quotas::default(), Once::new());
        let inner = Inner { config, keys, door, dead_letters, clock, requests, arriving, key_rate, address_rate, quotas, unbelieved };
        Self { inner: Arc::new(inner) }
    }

    /// Judges what the head says: a stranger's body is not even read where his key is no good.
    fn knock(&self, client: Client, headers: &HeaderMap) -> Result<Knock<'_>, Refusal> {
        let config = &self.inner.config;
        let mut caller = Caller::new(&self.inner, client);
        let shown = auth::header_key(headers);
        if !matches!(shown, Ok(Some(_))) {
            caller.may_ask()?;
        }
        let rights = shown?.map(|key| caller.shows(&key)).transpose()?;
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or("application/json");
        // Browsers' beacons may only say text/plain.
        if !["application/json", "text/plain"].iter().any(|t| content_type.trim().to_ascii_lowercase().starts_with(t)) {
            return Err(Refusal::new(Reason::BadJson, "expected content-type application/json"));
        }
        let stated = stated(headers);
        if stated.is_some_and(|length| length > config.max_body) {
            return Err(too_large(config.max_body));
        }
        let kib = stated.unwrap_or(config.max_body).max(SMALLEST_BODY).div_ceil(KIB);
        let Arriving { of_servers, of_strangers } = &self.inner.arriving;
        let of = if rights.as_ref().is_some_and(|rights| !rights.is_browser()) { of_servers } else { of_strangers };
        let arriving = of.try_acquire_many(u32::try_from(kib).unwrap_or(u32::MAX));
        let arriving = arriving.map_err(|_| Refusal::new(Reason::Throttled, "too much is arriving at once"))?;
        Ok(Knock { caller, rights, _arriving: arriving })
    }

    async fn take(&self, kind: Option<CallKind>, knock: Knock<'_>, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
        let config = &self.inner.config;
        let asked = headers.get("traceparent").and_then(|asked| asked.to_str().ok());
        let Knock { mut caller, rights: by_header, _arriving } = knock;
        // Until a key is known nobody may hold a place for long.
        let patience = if by_header.is_some() { config.patience } else { config.patience_with_strangers };
        let body = self.read(headers, body, patience).await?;
        let _permit = self.inner.requests.try_acquire().map_err(|_| Refusal::new(Reason::Throttled, "too many requests at once"))?;
        let text = std::str::from_utf8(&body).map_err(|_| Refusal::new(Reason::BadJson, "the body is not UTF-8"))?;
        let envelope: Envelope<'_> =
            serde_json::from_str(text).map_err(|e| Refusal::new(Reason::BadJson, format!("expected a JSON object: {}", place(&e))))?;
        let rights = match by_header {
            Some(rights) => rights,
            None => caller.shows(&auth::body_key(envelope.write_key)?)?,
        };
        if kind.is_some() {
            return self.judge(kind, &[text], &Shared::default(), &rights, &body, asked).await;
        }
        let batch = envelope.batch.ok_or_else(|| Refusal::new(Reason::BadJson, "expected `batch`, a list of events"))?;
        if batch.len() > config.max_events {
            let message = format!("at most {} events, not {}", config.max_events, batch.len());
            return Err(Refusal::new(Reason::BatchTooManyEvents, message));
        }
        let items: Vec<_> = batch.into_iter().map(RawValue::get).collect();
        let shared = shared(envelope.context, envelope.sent_at)?;
        self.judge(None, &items, &shared, &rights, &body, asked).await
    }

    async fn read(&self, headers: &HeaderMap, body: Body, patience: Duration) -> Result<Bytes, Refusal> {
        let limit = self.inner.config.max_body;
        match tokio::time::timeout(patience, to_bytes(body, limit)).await {
            Ok(Ok(bytes)) => gzip::decoded(headers, bytes, limit),
            Ok(Err(error)) if error.source().is_some_and(<dyn Error>::is::<LengthLimitError>) => Err(too_large(limit)),
            Ok(Err(_)) => Err(Refusal::new(Reason::BadJson, "the body broke off, or its chunks are none")),
            Err(_) => Err(Refusal::new(Reason::BadJson, "the body did not arrive in time")),
        }
    }

    async fn judge(
        &self,
        kind: Option<CallKind>,
        items: &[&str],
        shared: &Shared,
        rights: &Rights,
        body: &Bytes,
        asked: Option<&str>,
    ) -> Result<Response, Refusal> {
        let now = self.inner.clock.now();
        if let Some(quota) = self.inner.keys.quota(rights.workspace) {
            let spent = |room_in| Refusal::throttled(format!("the workspace may send {quota} events a second"), room_in);
            self.inner.quotas.take(rights.workspace, quota, items.len(), now).map_err(spent)?;
        }
        let name = || format!("POST /v1/{}", kind.map_or("batch", CallKind::as_str));
        // A page may not decide what is kept.
        let kept =
            Kept::begin(&self.inner.config.traces, &self.inner.config.prefix, asked, rights.kind == "server", SpanKind::Server, name, now);
        let span = traced(kept.as_ref().map(Kept::place));
        let judged = async {
            let sent = kept.as_ref().map(Kept::sent).unwrap_or_default();
            let env = Env { install: &self.inner.config.install, now };
            let mut records = Vec::with_capacity(items.len());
            let mut rejected = Vec::new();
            let mut letters = Vec::new();
            let mut calls = Calls::default();
            for (index, item) in items.iter().enumerate() {
                match segment_call::read(kind, item, shared, rights, env) {
                    Ok(accepted) => {
                        calls.took(accepted.call);
                        records.push((Role::Identity, Record { trace: sent.clone(), ..accepted.record }));
                    }
                    // One call that is no JSON at all is the request's fault.
                    Err(rejection) if kind.is_some() && rejection.reason == Reason::BadJson => {
                        return Err(Refusal::new(Reason::BadJson, rejection.message()));
                    }
                    Err(rejection) => {
                        letters.push(DeadLetter {
                            reason: rejection.reason,
                            door: "http",
                            at: now,
                            workspace: rights.workspace,
                            source: rights.source.clone(),
                            path: rejection.path.clone(),
                            expected: rejection.expected.clone(),
                            position: None,
                            original: body.slice_ref(item.as_bytes()),
                        });
                        rejected.push(Rejected { index, rejection });
                    }
                }
            }
            let accepted = records.len();
            if accepted > 0 {
                let appended = self.inner.door.append(records).await;
                if let Some(kept) = kept {
                    kept.end(accepted, appended.is_err(), self.inner.clock.now());
                }
                appended.map_err(not_stored)?;
                calls.count(&self.inner.config.metrics, rights);
            }
            let aside = letters.into_iter().map(|letter| {
                tracing::debug!(reason = %letter.reason, source = %letter.source, "event rejected");
                self.inner.dead_letters.set_aside(letter)
            });
            try_join_all(aside).await.map_err(not_stored)?;
            for Rejected { rejection, .. } in &rejected {
                self.inner.config.metrics.rejected(rejection.reason.as_str());
                self.inner.config.metrics.set_aside(rejection.reason.as_str());
            }
            Ok(answer::judged(accepted, &rejected))
        };
        judged.instrument(span).await
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingest").finish_non_exhaustive()
    }
}

fn shared(context: Option<&RawValue>, sent_at: Option<&RawValue>) -> Result<Shared, Refusal> {
    let context = match context {
        None => serde_json::Map::new(),
        Some(raw) => match serde_json::from_str(raw.get()) {
            Ok(Json::Object(map)) if !crate::json::deeper_than(raw.get().as_bytes(), crate::json::MAX_DEPTH - 1) => map,
            Ok(Json::Null) => serde_json::Map::new(),
            _ => return Err(Refusal::new(Reason::BadJson, "context: expected a JSON object of at most 31 levels")),
        },
    };
    let sent_at = sent_at.and_then(|raw| serde_json::from_str(raw.get()).ok());
    Ok(Shared { context, sent_at })
}

fn too_large(limit: usize) -> Refusal {
    Refusal::new(Reason::BodyTooLarge, format!("at most {limit} bytes"))
}

/// Bytes that the head announces; none: it does not say.
fn stated(headers: &HeaderMap) -> Option<usize> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    Some(usize::try_from(length).unwrap_or(usize::MAX))
}

// Where, and not what: the parser's own words may quote the body.
fn place(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}
