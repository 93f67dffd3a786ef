//! The whole of Waypost in memory: log, store, clock, the four machines, the doors, control and the catcher.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use anyhow::{Context as _, anyhow, bail};
use async_trait::async_trait;
use axum::{body::Body, http::Request};
use bytes::Bytes;
use tokio::sync::oneshot;
use tower::ServiceExt as _;
use waypost_codec::{
    frame::{Frame, Record},
    schemas::MemorySchemas,
    unsubscribe::TokenKey,
};
use waypost_control::{Catalog, Changes, Control, Following, access::Caller};
use waypost_identity::IdentityProcessor;
use waypost_ingest::{Ingest, IngestConfig, KeyRing, LogDeadLetters, Origins};
use waypost_memory::{Embedded, LogPort, MemoryLog, MemoryStore, Parts, Seeded, VirtualClock};
use waypost_orchestrator::OrchestratorProcessor;
use waypost_proto::control::{
    self as pb, definition_service_server::DefinitionService as _, journey_service_server::JourneyService as _,
    source_service_server::SourceService as _,
};
use waypost_providers::catcher::Catcher;
use waypost_runtime::{
    Config, Machine, Processor, RoleMachine,
    door::{Door, DoorError},
    install::{InitSettings, InstallRecord, init},
    ports::{Append, Clock, Entropy, Log, Offset, Owners, OwnersError},
};
use waypost_segmenter::SegmenterProcessor;
use waypost_sender::{Calls, Capabilities, Channel, Links, OutgoingEmail, Provider, ProviderOutcome, SenderProcessor};
use waypost_types::{EntityId, PartitionId, Role, Timestamp};

use crate::{files, keys};

/// Partitions of each inbox: enough that merges cross partitions.
const PARTITIONS: u32 = 4;

/// A question to the thread that owns the machines.
pub(crate) type Question = (PartitionId, EntityId, oneshot::Sender<Option<(Option<Bytes>, Offset)>>);

/// Everything that one process in memory holds.
pub(crate) struct World {
    pub(crate) pipeline: Embedded,
    pub(crate) log: MemoryLog,
    pub(crate) port: Arc<dyn Log>,
    pub(crate) record: InstallRecord,
    pub(crate) catalog: Catalog,
    pub(crate) control: Control,
    pub(crate) schemas: Arc<MemorySchemas>,
    pub(crate) mail: Arc<Mailbox>,
    pub(crate) door: axum::Router,
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) runtime: tokio::runtime::Runtime,
    /// Write keys by source.
    pub(crate) keys: BTreeMap<String, String>,
    told: u64,
    _following: Following,
}

/// The catcher, with what it caught in this run.
pub(crate) struct Mailbox {
    catcher: Catcher,
    seen: Mutex<Vec<OutgoingEmail>>,
}

/// What a world is made with.
pub(crate) struct Settings<'a> {
    pub(crate) seed: u64,
    pub(crate) start: Timestamp,
    pub(crate) mail: &'a Path,
    pub(crate) public_url: String,
}

// === impl Mailbox ===

impl Mailbox {
    /// Messages of this run from the `skip`th on.
    pub(crate) fn since(&self, skip: usize) -> Vec<OutgoingEmail> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().skip(skip).cloned().collect()
    }

    pub(crate) fn catcher(&self) -> &Catcher {
        &self.catcher
    }
}

#[async_trait]
impl Provider for Mailbox {
    fn capabilities(&self, channel: &Channel) -> Capabilities {
        self.catcher.capabilities(channel)
    }

    async fn send(&self, channel: &Channel, message: &OutgoingEmail) -> ProviderOutcome {
        let outcome = self.catcher.send(channel, message).await;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(message.clone());
        outcome
    }
}

/// Appends straight to the log in memory: that is its acknowledgement.
pub(crate) struct MemoryDoor {
    log: MemoryLog,
    layout: waypost_types::Layout,
}

#[async_trait]
impl Door for MemoryDoor {
    async fn append(&self, records: Vec<(Role, Record)>) -> Result<(), DoorError> {
        for (role, record) in records {
            let topic = role.inbox().ok_or_else(|| DoorError::Unavailable(format!("{role} has no inbox")))?.to_owned();
            let partition = self.layout.partition(record.workspace, &record.key);
            let payload = Frame::unsourced(vec![record]).encode();
            let append = Append { topic, partition, key: None, headers: Vec::new(), payload };
            self.log.append(append).map_err(|e| DoorError::Unavailable(e.to_string()))?;
        }
        Ok(())
    }
}

/// Asks the thread that owns the machines.
struct Asking(mpsc::SyncSender<Question>);

#[async_trait]
impl Owners for Asking {
    async fn read(&self, partition: PartitionId, entity: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError> {
        let (answer, answered) = oneshot::channel();
        let away = |why: &str| OwnersError { partition, why: why.to_owned() };
        self.0.try_send((partition, entity, answer)).map_err(|_| away("too many questions at once"))?;
        answered.await.ok().flatten().ok_or_else(|| away("nobody leads it yet"))
    }
}

fn machine<P: Processor + std::fmt::Debug>(
    seed: u64,
    record: &InstallRecord,
    make: impl Fn(u32) -> P + Send + 'static,
) -> Box<dyn Machine> {
    let entropy: Box<dyn Entropy> = Box::new(Seeded::new(seed));
    Box::new(RoleMachine::new(Config::embedded(), record.install(), record.layout(), entropy, Box::new(make)))
}

// === impl World ===

impl World {
    /// Builds it: an installation, its catalog, machines and doors; nothing is defined yet.
    pub(crate) fn new(settings: &Settings<'_>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let clock = VirtualClock::new(settings.start);
        let log = MemoryLog::new(&clock);
        let store = MemoryStore::new();
        let port: Arc<dyn Log> = Arc::new(LogPort::new(log.clone()));
        let mut entropy = Seeded::new(settings.seed);
        let done = runtime.block_on(init(&*port, &store, &mut entropy, &InitSettings::new("", PARTITIONS, 1)))?;
        let record = done.record;
        let (catalog, following) = runtime.block_on(Catalog::follow(&port, ""))?;
        let library = Arc::clone(catalog.library());
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let token_key = TokenKey::new(*blake3::keyed_hash(&record.hash_key(), b"links").as_bytes());

        let mail = Arc::new(Mailbox { catcher: Catcher::in_folder(settings.mail)?, seen: Mutex::default() });
        let providers: BTreeMap<String, Arc<dyn Provider>> = BTreeMap::from([("catcher".to_owned(), mail.clone() as Arc<dyn Provider>)]);
        let links = Links { public_url: settings.public_url.clone(), keys: token_key.clone().into() };
        let calls = Calls::new(library.clone(), providers, links, Arc::clone(&shared));

        let seed = settings.seed;
        let layout = record.layout();
        let (a, b) = (Arc::clone(&library), Arc::clone(&library));
        let machines = vec![
            machine(seed ^ 1, &record, move |_| IdentityProcessor::new(layout)),
            machine(seed ^ 2, &record, move |_| SegmenterProcessor::new(Arc::clone(&a))),
            machine(seed ^ 3, &record, move |_| OrchestratorProcessor::new(Arc::clone(&b))),
            machine(seed ^ 4, &record, move |_| SenderProcessor::new()),
        ];
        let schemas = Arc::new(MemorySchemas::with_committed());
        let ids = Arc::clone(&schemas);
        let pipeline = Embedded::new(Parts {
            clock,
            log: log.clone(),
            store,
            install: record.install(),
            layout,
            prefix: String::new(),
            public_partitions: record.public_partitions,
            machines,
            // Nothing here waits: rendering is pure and the catcher writes files.
            runner: Box::new(move |partition, job| futures::executor::block_on(calls.run(partition, job.clone()))),
            framing: Box::new(move |topic, version, body| framed(&ids, topic, version, body)),
        });

        let (ask, questions) = mpsc::sync_channel(1024);
        let changes = Changes::new(Arc::clone(&port), Arc::clone(&shared), catalog.clone(), String::new(), layout);
        let secrets = Mutex::new(Seeded::new(settings.seed ^ 5));
        let secret = move || {
            let mut secrets = secrets.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = [0; 24];
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&secrets.next().to_be_bytes());
            }
            bytes
        };
        let control = Control::new(
            changes,
            catalog.clone(),
            Arc::new(Asking(ask)),
            Arc::clone(&shared),
            layout,
            record.hash_key(),
            waypost_ingest::identifier,
            Arc::new(secret),
            Arc::new(MemoryDoor { log: log.clone(), layout }),
        );
        let ring = Arc::new(KeyRing::new());
        let dead = LogDeadLetters::new(Arc::clone(&port), "wp1.dead".to_owned(), record.public_partitions);
        let door = waypost_ingest::router(Ingest::new(
            // A page under development comes from a server of its own.
            IngestConfig { origins: Origins::Any, ..IngestConfig::new(record.hash_key(), token_key) },
            ring.clone(),
            Arc::new(MemoryDoor { log: log.clone(), layout }),
            Arc::new(dead),
            shared,
        ));
        Ok(Self {
            pipeline,
            log,
            port,
            record,
            catalog,
            control,
            schemas,
            mail,
            door,
            ring,
            questions,
            runtime,
            keys: BTreeMap::new(),
            told: 0,
            _following: following,
        })
    }

    /// Applies a folder of manifests, publishes its journeys, and draws a write key for each source.
    pub(crate) fn define(&mut self, folder: &Path) -> anyhow::Result<()> {
        let (manifests, attachments) = files::read(folder)?;
        let parent = "workspaces/default".to_owned();
        let request = pb::ApplyDefinitionsRequest { parent, manifests, attachments, ..pb::ApplyDefinitionsRequest::default() };
        let control = self.control.clone();
        let applied =
            self.runtime.block_on(control.apply_definitions(Caller::process("dev").asks(request))).map_err(|s| explain(&s))?.into_inner();
        for change in &applied.changes {
            match change.kind.as_str() {
                "Journey" => {
                    let name = format!("workspaces/default/journeys/{}", change.name);
                    let request = pb::PublishJourneyRequest { name, etag: String::new(), validate_only: false };
                    self.runtime.block_on(control.publish_journey(Caller::process("dev").asks(request))).map_err(|s| explain(&s))?;
                }
                "Source" => {
                    let name = format!("workspaces/default/sources/{}", change.name);
                    let request = pb::RotateKeyRequest { name, ..pb::RotateKeyRequest::default() };
                    let key = self.runtime.block_on(control.rotate_key(Caller::process("dev").asks(request))).map_err(|s| explain(&s))?;
                    self.keys.insert(change.name.clone(), key.into_inner().write_key);
                }
                _ => {}
            }
        }
        keys::refresh(&self.ring, &self.catalog);
        self.settle();
        if let Some((partition, why)) = self.pipeline.halted().first() {
            bail!("partition {partition} halted: {why}");
        }
        Ok(())
    }

    /// Folds everything under way at the present instant.
    pub(crate) fn settle(&mut self) {
        let arrived = *self.catalog.arrivals().borrow();
        if arrived != self.told {
            self.told = arrived;
            self.pipeline.definitions_changed();
        }
        self.pipeline.settle();
        self.answer();
    }

    /// Answers what others have asked of the machines.
    pub(crate) fn answer(&mut self) {
        while let Ok((partition, entity, answer)) = self.questions.try_recv() {
            let found = self.pipeline.query_at(partition, entity);
            // Whoever asked may have gone.
            drop(answer.send(found));
        }
    }

    /// The door beside HTTP.
    pub(crate) fn memory_door(&self) -> MemoryDoor {
        MemoryDoor { log: self.log.clone(), layout: self.record.layout() }
    }

    /// One HTTP call at the door; its status and body.
    pub(crate) fn call(&mut self, request: Request<Body>) -> anyhow::Result<(u16, Bytes)> {
        let door = self.door.clone();
        self.runtime.block_on(async move {
            let response = door.oneshot(request).await?;
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.context("the door's answer")?;
            Ok((status, body))
        })
    }
}

/// Confluent's framing: a zero, the schema's id, the body.
fn framed(schemas: &MemorySchemas, topic: &str, version: u32, body: &Bytes) -> Bytes {
    let subject = format!("{topic}-value");
    let id = schemas.versions(&subject).into_iter().find(|r| r.version == version).map_or(0, |r| r.schema.id);
    let mut value = Vec::with_capacity(body.len() + 5);
    value.push(0);
    value.extend_from_slice(&id.to_be_bytes());
    value.extend_from_slice(body);
    value.into()
}

fn explain(status: &tonic::Status) -> anyhow::Error {
    use tonic_types::StatusExt as _;
    let violations = status.get_details_bad_request().map(|b| b.field_violations).unwrap_or_default();
    if violations.is_empty() {
        return anyhow!("{}", status.message());
    }
    let lines: Vec<_> = violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    anyhow!("{}", lines.join("\n"))
}
