//! A control plane over a log in memory, and a client that sends bytes to any method.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use waypost_codec::{frame::Record, state, stored::seal};
use waypost_control::{
    Catalog, Changes, Control, Following,
    access::{Authority, AuthoritySettings, Gate, token_hash},
    tls::Tls,
};
use waypost_memory::{LogPort, MemoryLog, VirtualClock};
use waypost_runtime::{
    door::{Door, DoorError, LogDoor},
    ports::{Append, Clock, Log, Offset, Owners, OwnersError},
};
use waypost_types::{EntityId, IdentifierClass, Layout, PartitionId, Role, Timestamp};

const LAYOUT: Layout = Layout { number: 1, partitions: 4 };
/// When all of this happens, ms.
pub(crate) const NOW: i64 = 1_774_594_800_000;

/// What is answered for every entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entity {
    /// Somebody with one identifier.
    Known,
    /// Nothing ever comes.
    Silence,
}

pub(crate) struct Town {
    pub(crate) log: MemoryLog,
    pub(crate) clock: VirtualClock,
    pub(crate) control: Control,
    /// Whether appends to inboxes are refused.
    pub(crate) shut: Arc<Mutex<bool>>,
    pub(crate) folder: tempfile::TempDir,
    _following: Following,
}

struct OneDoor(LogDoor, Arc<Mutex<bool>>);

#[async_trait]
impl Owners for Entity {
    async fn read(&self, _: PartitionId, _: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError> {
        match self {
            Self::Known => {
                let known = state::IdentifierState { generations: vec![state::Node::default()], ..state::IdentifierState::default() };
                Ok((Some(seal(1, &known.encode_to_vec())), 0))
            }
            Self::Silence => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Door for OneDoor {
    async fn append(&self, records: Vec<(Role, Record)>) -> Result<(), DoorError> {
        if *self.1.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(DoorError::Unavailable("shut".to_owned()));
        }
        self.0.append(records).await
    }
}

// === impl Town ===

impl Town {
    pub(crate) async fn new(entity: Entity) -> Self {
        let clock = VirtualClock::new(Timestamp::from_millis(NOW));
        let log = MemoryLog::new(&clock);
        for role in Role::KEYED {
            log.create_plain(role.inbox().unwrap(), LAYOUT.partitions);
        }
        for (topic, partitions) in [("wp1.control", 1), ("wp1.definitions", 8), ("wp1.audit", 1), ("wp1.dead", 8)] {
            log.create_plain(topic, partitions);
        }
        let port: Arc<dyn Log> = Arc::new(LogPort::new(log.clone()));
        let (catalog, following) = Catalog::follow(&port, "").await.unwrap();
        let time: Arc<dyn Clock> = Arc::new(clock.clone());
        let changes = Changes::new(port.clone(), time.clone(), catalog.clone(), String::new(), LAYOUT);
        let shut = Arc::new(Mutex::new(false));
        let door = Arc::new(OneDoor(LogDoor::new(port, String::new(), LAYOUT), shut.clone()));
        let normalise = |_: IdentifierClass, value: &str| Some(value.to_owned());
        let control = Control::new(changes, catalog, Arc::new(entity), time, LAYOUT, [7; 32], normalise, Arc::new(|| [9; 24]), door);
        Self { log, clock, control, shut, folder: tempfile::tempdir().unwrap(), _following: following }
    }

    /// A file of this test.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// An access file of tokens `(name, roles, workspaces)`, each with its name as the token, and more text.
    pub(crate) fn access(&self, tokens: &[(&str, &str, &str)], more: &str) -> AuthoritySettings {
        let entry = |(name, roles, workspaces): &(&str, &str, &str)| {
            let hash = hex::encode(token_hash(name));
            format!("[[token]]\nname = \"{name}\"\nhash = \"{hash}\"\nroles = [{roles}]\nworkspaces = [{workspaces}]\n")
        };
        let text: String = tokens.iter().map(entry).chain([more.to_owned()]).collect();
        AuthoritySettings::file(self.file("access.toml", text))
    }

    pub(crate) fn gate(&self, tokens: &[(&str, &str, &str)]) -> Gate {
        Gate::new(Authority::open(self.access(tokens, "")).unwrap())
    }

    /// Serves in the background; the address.
    pub(crate) async fn serve(&self, gate: Gate, tls: Option<Tls>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.control.router(gate).await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        tokio::spawn(async move {
            match tls {
                Some(tls) => router.serve_with_incoming(tls.incoming(listener)).await,
                None => router.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)).await,
            }
        });
        format!("{scheme}://{address}")
    }

    /// A connection to a server behind this gate.
    pub(crate) async fn open(&self, gate: Gate) -> Channel {
        Channel::from_shared(self.serve(gate, None).await).unwrap().connect().await.unwrap()
    }

    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        self.log.all("wp1.audit", 0).into_iter().map(|line| serde_json::from_slice(&line.payload).unwrap()).collect()
    }

    /// Sets something aside, as a role does, for a workspace.
    pub(crate) fn set_aside(&self, workspace: &str) {
        let header = |name: &str, value: &str| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
        let headers = vec![header("reason", "DECODE_FAILED"), header("door", "identity"), header("workspace", workspace)];
        self.log.append(Append { topic: "wp1.dead".to_owned(), partition: 2, key: None, headers, payload: Bytes::new() }).unwrap();
    }
}

/// A request with a token; none for an empty one.
pub(crate) fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

/// Bytes to any method, and back.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Calls a method by its path.
pub(crate) async fn call(channel: &Channel, path: &str, request: Request<Bytes>) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    client.unary(request, path.parse().unwrap(), Raw).await.map(tonic::Response::into_inner)
}

/// A message whose one field is this text.
pub(crate) fn text(field: i32, value: &str) -> Bytes {
    let mut bytes = vec![u8::try_from(field << 3 | 2).unwrap(), u8::try_from(value.len()).unwrap()];
    bytes.extend_from_slice(value.as_bytes());
    bytes.into()
}
