//! Doors, keys and a clock that a test can look into.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message as _;
use serde_json::{Value as Json, json};
use tower::ServiceExt as _;
use waypost_codec::{frame::Record, inbox, unsubscribe::TokenKey, write_key};
use waypost_engine::definitions::{Policy, Source, Workspace};
use waypost_ingest::{DeadLetter, DeadLetters, Ingest, IngestConfig, Key, KeyRing, Rights, router};
use waypost_runtime::{
    door::{Door, DoorError},
    ports::Clock,
};
use waypost_types::{Role, Timestamp, WorkspaceId};

pub(crate) const INSTALL: [u8; 32] = [7; 32];
/// 2026-03-01T12:00:00Z
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_772_366_400_000);
pub(crate) const SERVER_KEY: &str = "wk_server";
pub(crate) const BROWSER_KEY: &str = "wk_browser";
pub(crate) const KAFKA_KEY: &str = "wk_kafka";

/// Remembers what was appended; can be away.
#[derive(Debug, Default)]
pub(crate) struct TestDoor {
    pub(crate) records: Mutex<Vec<Record>>,
    pub(crate) letters: Mutex<Vec<DeadLetter>>,
    pub(crate) away: AtomicBool,
    pub(crate) appends: AtomicUsize,
}

/// Its time moves only when somebody waits.
#[derive(Debug)]
pub(crate) struct TestClock {
    now: Mutex<Timestamp>,
}

impl TestDoor {
    pub(crate) fn events(&self) -> Vec<inbox::Event> {
        let records = self.records.lock().unwrap();
        records.iter().map(|r| inbox::Event::decode(inbox::IdentityEvent::decode(r.body.clone()).unwrap().event).unwrap()).collect()
    }

    pub(crate) fn reasons(&self) -> Vec<&'static str> {
        self.letters.lock().unwrap().iter().map(|l| l.reason.as_str()).collect()
    }

    fn here(&self) -> Result<(), DoorError> {
        if self.away.load(Ordering::SeqCst) { Err(DoorError::Unavailable("away".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Door for TestDoor {
    async fn append(&self, records: Vec<(Role, Record)>) -> Result<(), DoorError> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.here()?;
        assert!(records.iter().all(|(role, _)| *role == Role::Identity));
        self.records.lock().unwrap().extend(records.into_iter().map(|(_, record)| record));
        Ok(())
    }
}

#[async_trait]
impl DeadLetters for TestDoor {
    async fn set_aside(&self, letter: DeadLetter) -> Result<(), DoorError> {
        self.here()?;
        self.letters.lock().unwrap().push(letter);
        Ok(())
    }
}

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { now: Mutex::new(NOW) })
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    async fn sleep_until(&self, instant: Timestamp) {
        {
            let mut now = self.now.lock().unwrap();
            *now = instant.max(*now);
        }
        tokio::task::yield_now().await;
    }
}

pub(crate) fn workspace() -> Workspace {
    let source = |name: &str, kind: &str, may_grant, may_assert: &[&str]| {
        let may_assert = may_assert.iter().map(|c| (*c).to_owned()).collect();
        (name.to_owned(), Source { name: name.to_owned(), kind: kind.to_owned(), may_grant, may_assert })
    };
    Workspace {
        id: WorkspaceId::new(1),
        name: "shop".to_owned(),
        policy: Policy {
            phone_region: "DE".to_owned(),
            custom_identifiers: ["card", "crm"].map(str::to_owned).into(),
            ..Policy::default()
        },
        topics: BTreeMap::new(),
        channels: BTreeMap::new(),
        segments: BTreeMap::new(),
        segment_order: Vec::new(),
        templates: BTreeMap::new(),
        journeys: waypost_engine::definitions::Journeys::default(),
        sources: BTreeMap::from([
            source("backend", "server", true, &[]),
            source("web", "browser", true, &["anonymous", "email"]),
            source("app", "browser", false, &[]),
            source("till", "browser", false, &["anonymous", "custom:card"]),
            source("erp", "kafka", true, &[]),
            source("pos", "kafka", false, &["email", "custom:card"]),
        ]),
    }
}

pub(crate) fn rights() -> Rights {
    rights_of("backend")
}

pub(crate) fn rights_of(source: &str) -> Rights {
    let workspace = workspace();
    Rights::of(&workspace, &workspace.sources[source])
}

pub(crate) fn keys() -> Arc<KeyRing> {
    let ring = KeyRing::new();
    let keys = [(SERVER_KEY, "backend"), (BROWSER_KEY, "web"), (KAFKA_KEY, "erp"), ("wk_orphan", "gone")];
    ring.replace([&workspace()], keys.map(|(word, source)| key(word, source, None)).into());
    Arc::new(ring)
}

pub(crate) fn key(key: &str, source: &str, until: Option<Timestamp>) -> Key {
    Key { hash: write_key::hash(key), workspace: WorkspaceId::new(1), source: source.to_owned(), until }
}

/// The HTTP door with all that is around it.
pub(crate) struct Server {
    pub(crate) door: Arc<TestDoor>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) router: Router,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut IngestConfig)) -> Self {
        let (door, clock) = (Arc::new(TestDoor::default()), TestClock::new());
        let mut config = IngestConfig::new(INSTALL, TokenKey::new(INSTALL));
        change(&mut config);
        let time: Arc<dyn Clock> = clock.clone();
        let ring = keys();
        let router =
            router(Ingest::new(config, Arc::<KeyRing>::clone(&ring), Arc::<TestDoor>::clone(&door), Arc::<TestDoor>::clone(&door), time));
        Self { door, clock, ring, router }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, key: Option<&str>, body: impl Into<Body>) -> (StatusCode, Json) {
        let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, basic(key));
        }
        judged(self.send(request.body(body.into()).unwrap()).await).await
    }

    pub(crate) fn stored(&self) -> usize {
        self.door.records.lock().unwrap().len()
    }
}

/// Status and body; whoever may come again is told when.
pub(crate) async fn judged(response: Response<Body>) -> (StatusCode, Json) {
    let status = response.status();
    let throttled = status == StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers();
    assert_eq!(headers.contains_key(header::RETRY_AFTER), throttled || status == StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers.get("x-ratelimit-reset"), headers.get(header::RETRY_AFTER).filter(|_| throttled));
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Json::Null))
}

pub(crate) fn basic(key: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{key}:")))
}

pub(crate) fn event(n: usize) -> Json {
    json!({"type": "track", "messageId": format!("m-{n}"), "userId": format!("u-{n}"), "event": "Signed In"})
}
