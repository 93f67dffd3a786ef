//! What anybody can send: calls, requests, Kafka records, links.

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::ConnectInfo,
    http::Request,
};
use tower::ServiceExt as _;
use waypost_codec::{
    avro::{self, EventInput},
    frame::Record,
    schemas::{Schema, committed},
    unsubscribe::{self, TokenKey},
    write_key,
};
use waypost_engine::definitions::Workspace;
use waypost_ingest::{
    DeadLetter, DeadLetters, Env, Ingest, IngestConfig, Key, KeyRing, Origins, Rights, TrustedProxies, kafka_event, router,
    segment_call::{self, CallKind, Shared},
};
use waypost_runtime::{
    door::{Door, DoorError},
    ports::Clock,
};
use waypost_types::{Role, Timestamp};

use crate::{
    pieces,
    shop::{self, NOW},
    text,
};

pub(crate) const INSTALL: [u8; 32] = [7; 32];
const WRITE_KEY: &str = "wk_fuzz";

pub(crate) static WEB: LazyLock<Rights> = LazyLock::new(|| {
    let workspace = shop::workspace();
    let source = &workspace.sources["shop-backend"];
    Rights::of(workspace, source)
});

static EVENT_SCHEMA: LazyLock<Option<Schema>> = LazyLock::new(|| {
    let newest = committed().iter().rfind(|c| c.subject == "waypost.events.v1-value")?;
    Schema::parse(1, newest.text).ok()
});

/// One call of the HTTP door: the first byte says which, the rest is its JSON.
pub(crate) fn http_json(data: &[u8]) -> bool {
    let Some((kind, json)) = data.split_first() else { return false };
    let kind = CallKind::ALL.get(usize::from(*kind) % (CallKind::ALL.len() + 1)).copied();
    let json = String::from_utf8_lossy(json);
    let env = Env { install: &INSTALL, now: NOW };
    let Ok(accepted) = segment_call::read(kind, &json, &Shared::default(), &WEB, env) else { return false };
    assert!(!accepted.message_id.is_empty(), "an event without an id");
    let again = segment_call::read(kind, &json, &Shared::default(), &WEB, env);
    assert_eq!(again.ok(), Some(accepted), "the same call is the same event");
    true
}

/// A whole request: method, path, headers line by line, body, cut at zero bytes.
pub(crate) fn http_request(data: &[u8]) -> bool {
    let parts = pieces(data, 4);
    let (method, path, headers) = (text(parts.first()), text(parts.get(1)), text(parts.get(2)));
    let mut request = Request::builder().method(method.as_str()).uri(path.as_str());
    for line in headers.lines().take(32) {
        if let Some((name, value)) = line.split_once(':') {
            request = request.header(name.trim(), value.trim());
        }
    }
    let body = parts.get(3).map(|b| Bytes::copy_from_slice(b)).unwrap_or_default();
    let Ok(mut request) = request.body(Body::from(body)) else { return false };
    // From a proxy, so that what is said of the client is read.
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))));
    let (taken, answered) = RUNTIME.block_on(async {
        let response = ROUTER.clone().oneshot(request).await;
        match response {
            Ok(response) => (response.status().is_success(), to_bytes(response.into_body(), 1 << 22).await.is_ok()),
            Err(never) => match never {},
        }
    });
    assert!(answered, "every request has a whole answer");
    taken
}

/// A record of the public topic: framing, then the event under the committed schema.
pub(crate) fn avro_event(data: &[u8]) -> bool {
    let value = Bytes::copy_from_slice(data);
    let body = avro::read(&[], &value).map_or(value, |(_, body)| body);
    let Some(schema) = EVENT_SCHEMA.as_ref() else { return false };
    let Ok(event) = EventInput::decode(schema, &body) else { return false };
    let rights = Rights::unnamed(shop::workspace());
    let Ok(accepted) = kafka_event::read(event, &rights, Env { install: &INSTALL, now: NOW }) else { return false };
    assert!(!accepted.message_id.is_empty(), "an event without an id");
    true
}

/// The token of an unsubscribe link.
pub(crate) fn unsubscribe_token(data: &[u8]) -> bool {
    let token = String::from_utf8_lossy(data);
    let Ok(opened) = unsubscribe::open(&INSTALL, &token) else { return false };
    let sealed = unsubscribe::seal(&INSTALL, &opened);
    assert_eq!(unsubscribe::open(&INSTALL, &sealed).ok(), Some(opened), "what opens can be sealed again");
    true
}

// One thread and one router for all inputs: building them anew would be most of the work.
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime without threads"));

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let workspace: &Workspace = shop::workspace();
    let keys = KeyRing::new();
    let key = Key { hash: write_key::hash(WRITE_KEY), workspace: workspace.id, source: "web".to_owned(), until: None };
    keys.replace([workspace], vec![key]);
    let mut config = IngestConfig::new(INSTALL, TokenKey::new(INSTALL));
    config.proxies = TrustedProxies::parse("127.0.0.0/8").expect("a network");
    config.origins = Origins::parse("https://shop.example").expect("an origin");
    let nowhere = Arc::new(Nowhere::default());
    router(Ingest::new(config, Arc::new(keys), Arc::<Nowhere>::clone(&nowhere), Arc::<Nowhere>::clone(&nowhere), nowhere))
});

/// A log that takes everything and keeps nothing, and a clock by which every request has a minute of its own: none is one too
/// many.
#[derive(Default)]
struct Nowhere(AtomicI64);

#[async_trait]
impl Door for Nowhere {
    async fn append(&self, _: Vec<(Role, Record)>) -> Result<(), DoorError> {
        Ok(())
    }
}

#[async_trait]
impl DeadLetters for Nowhere {
    async fn set_aside(&self, _: DeadLetter) -> Result<(), DoorError> {
        Ok(())
    }
}

#[async_trait]
impl Clock for Nowhere {
    fn now(&self) -> Timestamp {
        let minutes = self.0.fetch_add(1, Ordering::Relaxed) % 1_000_000;
        Timestamp::from_millis(NOW.millis() + minutes * 60_000)
    }
    async fn sleep_until(&self, _: Timestamp) {}
}
