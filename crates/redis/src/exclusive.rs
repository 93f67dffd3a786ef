//! Connections that one call has to itself, as what lies between WATCH and EXEC needs.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{
    Pipeline, Value,
    aio::{ConnectionLike as _, MultiplexedConnection},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use waypost_runtime::ports::StoreError;

use crate::connection::Connection;

/// Longest wait for a turn: eight calls that hang say enough of the server.
const TURN: Duration = Duration::from_secs(2);
/// Calls at once, hence connections. One thread of the server works for all of them; a few keep it busy.
const AT_ONCE: usize = 8;

/// Some connections to one server.
pub(crate) struct Exclusive {
    /// Makes them.
    connection: Connection,
    /// Those that nobody uses at present, behind a lock that is held for a push or a pop.
    idle: Mutex<Vec<MultiplexedConnection>>,
    turns: Arc<Semaphore>,
}

/// One of them, and nobody else uses it. Dropped it is closed, with whatever it watches.
pub(crate) struct Lease {
    connection: MultiplexedConnection,
    _turn: OwnedSemaphorePermit,
}

// === impl Exclusive ===

impl Exclusive {
    /// Those that `connection` makes.
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, idle: Mutex::default(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Waits for its turn, if need be, and for a connection.
    pub(crate) async fn lease(&self) -> Result<Lease, StoreError> {
        let Ok(Ok(turn)) = tokio::time::timeout(TURN, self.turns.clone().acquire_owned()).await else {
            return Err(StoreError::Refused(format!("no turn within {} s", TURN.as_secs())));
        };
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connection.fresh().await?,
        };
        Ok(Lease { connection, _turn: turn })
    }

    /// For the next call; it must watch nothing and be in no transaction.
    pub(crate) fn give_back(&self, lease: Lease) {
        self.idle().push(lease.connection);
    }

    /// The runtime its connections live on.
    pub(crate) fn runtime(&self) -> &Handle {
        self.connection.runtime()
    }

    /// The next calls begin with new connections: they may lead to another server.
    pub(crate) fn forget(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<MultiplexedConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Exclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exclusive")
    }
}

// === impl Lease ===

impl Lease {
    /// Every answer, refusals among them.
    ///
    /// # Errors
    /// Silence: nobody knows what became of it.
    pub(crate) async fn ask(&mut self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let answers = self.connection.req_packed_commands(pipeline, 0, pipeline.len()).await;
        answers.map_err(|error| StoreError::Unknown(error.category().to_owned()))
    }
}
