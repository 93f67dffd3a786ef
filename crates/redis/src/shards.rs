//! The servers that hold the partitions: one, or the masters of a Redis Cluster, each with connections of its own.
//!
//! A commit needs a connection to itself, and all keys of a partition lie in one slot, so each call goes to one node: no client that
//! spreads one call over several is needed. What a node refuses it has not done (PROTOCOL §5.3), so a call that it sends elsewhere is made there.
//! A slot on its way answers `ASK` or `TRYAGAIN` for what has gone: that is a refusal like any other, and the same bytes come again.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;
use tracing::debug;
use waypost_runtime::ports::StoreError;

use crate::{
    connection::{Connection, refusal},
    exclusive::Exclusive,
    server::{Place, Route},
    slots::{self, Slot, SlotMap},
};

/// Nodes that one call is made at, at most: where a slot has moved, its new master is told by the first.
const HOPS: usize = 4;
/// How long one node may take to say where slots are; the next one knows as well.
const ASK: Duration = Duration::from_millis(500);

/// One server.
pub(crate) struct Shard {
    pub(crate) connection: Connection,
    /// For what is large, and must hold up nobody's commit.
    pub(crate) patient: Connection,
    pub(crate) commits: Exclusive,
    /// Of a node of a cluster.
    place: Option<Place>,
    /// It has failed a call: before the next one the cluster is asked again where slots are.
    is_doubtful: AtomicBool,
}

/// All of them.
#[derive(Debug)]
pub(crate) enum Shards {
    /// Every key lies on it.
    One(Arc<Shard>),
    /// By slots.
    Cluster(Arc<Cluster>),
}

/// The masters of a cluster.
pub(crate) struct Cluster {
    route: Arc<Route>,
    runtime: Handle,
    /// What is known of it, behind a lock that is held for a look.
    known: Mutex<Known>,
    /// Held while nodes are asked, so that all who wait share one answer.
    asking: tokio::sync::Mutex<()>,
    /// Who is asked first: never the same one again, which may be cut off and know no better.
    turn: AtomicUsize,
}

#[derive(Default)]
struct Known {
    map: SlotMap,
    shards: BTreeMap<Place, Arc<Shard>>,
}

// === impl Shard ===

impl Shard {
    fn new(route: &Arc<Route>, place: Option<Place>, runtime: &Handle) -> Self {
        let connection = || Connection::new(route, place.clone(), runtime);
        let patient = Connection::patient(route, place.clone(), runtime);
        Self { connection: connection(), patient, commits: Exclusive::new(connection()), place, is_doubtful: AtomicBool::new(false) }
    }

    /// Its next calls begin with new connections, and may go to another server.
    pub(crate) async fn forget(&self) {
        self.is_doubtful.store(true, Ordering::Relaxed);
        self.commits.forget();
        self.connection.forget().await;
    }

    /// Which node of a cluster it is, `host:port`.
    pub(crate) fn name(&self) -> Option<String> {
        self.place.as_ref().map(|(host, port)| format!("{host}:{port}"))
    }

    /// An error of a node of a cluster says which one it was.
    pub(crate) fn named(&self, error: StoreError) -> StoreError {
        let Some(name) = self.name() else { return error };
        match error {
            StoreError::Refused(why) => StoreError::Refused(format!("{name}: {why}")),
            StoreError::Unknown(why) => StoreError::Unknown(format!("{name}: {why}")),
        }
    }

    fn host(&self) -> &str {
        self.place.as_ref().map_or("", |(host, _)| host)
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("place", &self.place).finish_non_exhaustive()
    }
}

// === impl Shards ===

impl Shards {
    /// # Errors
    /// Outside of a runtime.
    pub(crate) fn new(route: Route) -> Result<Self, StoreError> {
        let runtime = Handle::try_current().map_err(|_| StoreError::Refused("a connection to Redis needs a runtime to live on".into()))?;
        let route = Arc::new(route);
        if route.cluster.is_empty() {
            return Ok(Self::One(Arc::new(Shard::new(&route, None, &runtime))));
        }
        let (known, asking, turn) = Default::default();
        Ok(Self::Cluster(Arc::new(Cluster { route, runtime, known, asking, turn })))
    }

    /// Makes a call where the slot is.
    pub(crate) async fn at<T, F>(&self, slot: Slot, call: impl Fn(Arc<Shard>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let cluster = match self {
            Self::One(shard) => return call(Arc::clone(shard)).await.map_err(without_cluster),
            Self::Cluster(cluster) => cluster,
        };
        for _ in 0..HOPS {
            let shard = cluster.of(slot).await?;
            let error = match call(Arc::clone(&shard)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let redirect = if let StoreError::Refused(why) = &error { slots::moved(why, shard.host()) } else { None };
            let Some((moved, place)) = redirect else {
                shard.is_doubtful.store(true, Ordering::Relaxed);
                return Err(shard.named(on_its_way(error)));
            };
            debug!(slot = moved.0, ?place, "a slot has moved");
            cluster.known().map.learn(moved, place);
        }
        Err(StoreError::Refused(format!("slot {} of the cluster is nowhere to stay: {HOPS} nodes said that it is elsewhere", slot.0)))
    }

    /// Where the slot is.
    pub(crate) async fn of(&self, slot: Slot) -> Result<Arc<Shard>, StoreError> {
        match self {
            Self::One(shard) => Ok(Arc::clone(shard)),
            Self::Cluster(cluster) => cluster.of(slot).await,
        }
    }

    /// Every server; of a cluster its masters, as its nodes say now.
    pub(crate) async fn all(&self) -> Result<Vec<Arc<Shard>>, StoreError> {
        match self {
            Self::One(shard) => Ok(vec![Arc::clone(shard)]),
            Self::Cluster(cluster) => {
                cluster.ask().await?;
                let masters = cluster.known().map.masters();
                Ok(masters.into_iter().map(|place| cluster.shard(place)).collect())
            }
        }
    }
}

/// What a node of a cluster answers to somebody who thinks that it is alone.
fn without_cluster(error: StoreError) -> StoreError {
    match error {
        StoreError::Refused(why) if is_any(&why, &["MOVED", "ASK"]) => {
            StoreError::Refused(format!("{why}: the server is a node of a Redis Cluster, name its nodes in redis.cluster"))
        }
        StoreError::Refused(_) | StoreError::Unknown(_) => error,
    }
}

/// What a node answers for keys that it has given away already.
fn on_its_way(error: StoreError) -> StoreError {
    match error {
        StoreError::Refused(why) if is_any(&why, &["ASK", "TRYAGAIN"]) => {
            StoreError::Refused(format!("{why}: the slot is on its way to another node"))
        }
        StoreError::Refused(_) | StoreError::Unknown(_) => error,
    }
}

/// Whether a refusal begins with one of these codes.
fn is_any(why: &str, codes: &[&str]) -> bool {
    why.split_once(' ').is_some_and(|(code, _)| codes.contains(&code))
}

// === impl Cluster ===

impl Cluster {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, place: Place) -> Arc<Shard> {
        let mut known = self.known();
        let shard = known.shards.entry(place.clone());
        Arc::clone(shard.or_insert_with(|| Arc::new(Shard::new(&self.route, Some(place), &self.runtime))))
    }

    /// The slot's master, if it is known.
    fn master(&self, slot: Slot) -> Option<Arc<Shard>> {
        let place = self.known().map.at(slot).cloned()?;
        Some(self.shard(place))
    }

    /// The same, if it has failed nobody.
    fn trusted(&self, slot: Slot) -> Option<Arc<Shard>> {
        self.master(slot).filter(|shard| !shard.is_doubtful.load(Ordering::Relaxed))
    }

    async fn of(self: &Arc<Self>, slot: Slot) -> Result<Arc<Shard>, StoreError> {
        if let Some(shard) = self.trusted(slot) {
            return Ok(shard);
        }
        let cluster = Arc::clone(self);
        // on the common runtime: who stands still while it folds must not hold up everybody else
        let found = self.runtime.spawn(async move {
            let _turn = cluster.asking.lock().await;
            if let Some(shard) = cluster.trusted(slot) {
                return Ok(shard);
            }
            cluster.ask().await?;
            cluster.master(slot).ok_or_else(|| StoreError::Refused(format!("no node of the cluster serves slot {}", slot.0)))
        });
        found.await.unwrap_or_else(|_| Err(StoreError::Refused("the question where a slot is was broken off".into())))
    }

    /// Asks one node after the other where slots are.
    async fn ask(&self) -> Result<(), StoreError> {
        let mut nodes: Vec<Place> = self.known().map.masters().into_iter().collect();
        nodes.extend(self.route.cluster.iter().cloned());
        nodes.sort();
        nodes.dedup();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % nodes.len().max(1);
        nodes.rotate_left(first);
        let mut why = "nobody answers in time".to_owned();
        for place in nodes {
            let node = self.shard(place.clone());
            match tokio::time::timeout(ASK, ask_one(&node)).await {
                Ok(Ok(map)) => {
                    self.take(map);
                    return Ok(());
                }
                Ok(Err(error)) => {
                    debug!(node = ?place, %error, "it does not say where slots are");
                    let (StoreError::Refused(text) | StoreError::Unknown(text)) = node.named(error);
                    why = text;
                }
                Err(_) => {
                    debug!(node = ?place, "it does not answer in time");
                    node.connection.forget().await;
                }
            }
        }
        Err(StoreError::Refused(format!("no node of redis.cluster says where slots are ({why})")))
    }

    /// Whoever has no slots any more is let go, and whoever has some is tried again.
    fn take(&self, map: SlotMap) {
        let masters = map.masters();
        let mut known = self.known();
        known.shards.retain(|place, _| masters.contains(place) || self.route.cluster.contains(place));
        for shard in known.shards.values() {
            shard.is_doubtful.store(false, Ordering::Relaxed);
        }
        known.map = map;
    }
}

async fn ask_one(node: &Shard) -> Result<SlotMap, StoreError> {
    let mut question = redis::cmd("CLUSTER");
    question.arg("SLOTS");
    let answer = node.connection.query(&question).await?.map_err(|error| refusal(&error))?;
    SlotMap::read(&answer, node.host()).ok_or_else(|| StoreError::Refused("it knows of no slots".into()))
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.route.cluster).finish_non_exhaustive()
    }
}
