//! The HTTP door: Segment's calls, unsubscribe links, liveness (CONVENTIONS §1).
//!
//! `200` only after the log has acknowledged what was let in, and nothing outlives its request here.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use futures::future::try_join_all;
use serde::Deserialize;
use serde_json::{Value as Json, value::RawValue};
use tokio::sync::Semaphore;
use waypost_codec::unsubscribe::TokenKey;
use waypost_runtime::{door::Door, ports::Clock};
use waypost_types::Role;

use crate::{
    DeadLetter, DeadLetters, Env, Keys, Reason, Rights,
    segment_call::{self, CallKind, Shared},
};

use answer::{Refusal, Rejected, not_stored};

mod answer;
mod auth;
mod gzip;
mod unsubscribe;

/// Limits and keys of the HTTP door.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Key of the identifiers' hashes.
    pub install: [u8; 32],
    /// Key of the tokens in unsubscribe links.
    pub token_key: TokenKey,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Events in a batch.
    pub max_events: usize,
    /// Requests at work at once; above, callers are asked to come again.
    pub max_requests: usize,
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
    readers: Semaphore,
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

/// A body that takes longer belongs to a caller that is gone.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for callers whose key stands in the body, if anywhere.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bodies on their way for each request at work.
const READERS_PER_REQUEST: usize = 8;

/// The routes of the HTTP door.
pub fn router(ingest: Ingest) -> Router {
    Router::new()
        .route("/v1/{call}", post(call))
        .route("/u/{token}", get(unsubscribe::page).post(unsubscribe::unsubscribe))
        .route("/livez", get(|| async { "ok\n" }))
        .with_state(ingest)
}

async fn call(State(ingest): State<Ingest>, Path(call): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let kind = CallKind::ALL.into_iter().find(|k| k.as_str() == call);
    if kind.is_none() && call != "batch" {
        return StatusCode::NOT_FOUND.into_response();
    }
    // Bounds what bodies on their way may take of memory; work itself is bounded once they are here.
    let Ok(_reading) = ingest.inner.readers.try_acquire() else {
        return Refusal::new(Reason::Throttled, "too many connections at once").into_response();
    };
    match ingest.take(kind, &headers, body).await {
        Ok(answer) => answer,
        Err(refusal) => refusal.into_response(),
    }
}

// === impl IngestConfig ===

impl IngestConfig {
    /// The documented limits.
    pub const fn new(install: [u8; 32], token_key: TokenKey) -> Self {
        Self { install, token_key, max_body: 500 * 1024, max_events: 2_500, max_requests: 256 }
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
        let readers = Semaphore::new(config.max_requests * READERS_PER_REQUEST);
        Self { inner: Arc::new(Inner { config, keys, door, dead_letters, clock, requests, readers }) }
    }

    async fn take(&self, kind: Option<CallKind>, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
        let config = &self.inner.config;
        // A key in the header is judged first: a stranger's body is not even read.
        let by_header = auth::header_key(headers)?.map(|key| self.rights(&key)).transpose()?;
        // Until a key is known nobody may hold a place for long.
        let patience = if by_header.is_some() { BODY_TIMEOUT } else { STRANGER_TIMEOUT };
        let body = self.read(headers, body, patience).await?;
        let _permit = self.inner.requests.try_acquire().map_err(|_| Refusal::new(Reason::Throttled, "too many requests at once"))?;
        let text = std::str::from_utf8(&body).map_err(|_| Refusal::new(Reason::BadJson, "the body is not UTF-8"))?;
        let envelope: Envelope<'_> =
            serde_json::from_str(text).map_err(|e| Refusal::new(Reason::BadJson, format!("expected a JSON object: {}", place(&e))))?;
        let rights = match by_header {
            Some(rights) => rights,
            None => self.rights(&auth::body_key(envelope.write_key)?)?,
        };
        if rights.kind == "kafka" {
            return Err(Refusal::new(Reason::SourceForbidden, "this key's source writes to Kafka"));
        }
        if kind.is_some() {
            return self.judge(kind, &[text], &Shared::default(), &rights, &body).await;
        }
        let batch = envelope.batch.ok_or_else(|| Refusal::new(Reason::BadJson, "expected `batch`, a list of events"))?;
        if batch.len() > config.max_events {
            let message = format!("at most {} events, not {}", config.max_events, batch.len());
            return Err(Refusal::new(Reason::BatchTooManyEvents, message));
        }
        let items: Vec<_> = batch.into_iter().map(RawValue::get).collect();
        let shared = shared(envelope.context, envelope.sent_at)?;
        self.judge(None, &items, &shared, &rights, &body).await
    }

    async fn read(&self, headers: &HeaderMap, body: Body, patience: Duration) -> Result<Bytes, Refusal> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or("application/json");
        // Browsers' beacons may only say text/plain.
        if !["application/json", "text/plain"].iter().any(|t| content_type.trim().to_ascii_lowercase().starts_with(t)) {
            return Err(Refusal::new(Reason::BadJson, "expected content-type application/json"));
        }
        let limit = self.inner.config.max_body;
        let too_large = || Refusal::new(Reason::BodyTooLarge, format!("at most {limit} bytes"));
        let stated = headers.get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()).and_then(|l| l.parse::<u64>().ok());
        if stated.is_some_and(|length| usize::try_from(length).map_or(true, |l| l > limit)) {
            return Err(too_large());
        }
        match tokio::time::timeout(patience, to_bytes(body, limit)).await {
            Ok(Ok(bytes)) => gzip::decoded(headers, bytes, limit),
            Ok(Err(_)) => Err(too_large()),
            Err(_) => Err(Refusal::new(Reason::BadJson, "the body did not arrive in time")),
        }
    }

    fn rights(&self, key: &str) -> Result<Arc<Rights>, Refusal> {
        self.inner.keys.by_key(key).ok_or_else(|| Refusal::new(Reason::BadKey, "unknown write key"))
    }

    async fn judge(
        &self,
        kind: Option<CallKind>,
        items: &[&str],
        shared: &Shared,
        rights: &Rights,
        body: &Bytes,
    ) -> Result<Response, Refusal> {
        let now = self.inner.clock.now();
        let env = Env { install: &self.inner.config.install, now };
        let mut records = Vec::with_capacity(items.len());
        let mut rejected = Vec::new();
        let mut letters = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match segment_call::read(kind, item, shared, rights, env) {
                Ok(accepted) => records.push((Role::Identity, accepted.record)),
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
            self.inner.door.append(records).await.map_err(not_stored)?;
        }
        let aside = letters.into_iter().map(|letter| {
            tracing::debug!(reason = %letter.reason, source = %letter.source, "event rejected");
            self.inner.dead_letters.set_aside(letter)
        });
        try_join_all(aside).await.map_err(not_stored)?;
        Ok(answer::judged(accepted, &rejected))
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

// Where, and not what: the parser's own words may quote the body.
fn place(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}
