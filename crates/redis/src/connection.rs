//! One multiplexed connection with a time limit, made anew after silence.
//!
//! The client repeats nothing by itself: what to repeat after silence is the worker's choice, because
//! only the same bytes are harmless twice (PROTOCOL §5.3).

use std::{fmt, sync::Arc, time::Duration};

use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisError, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{runtime::Handle, sync::Mutex};
use waypost_runtime::ports::StoreError;

use crate::{
    sentinel,
    server::{Route, trouble},
};

/// A commit holds a shard for some ms (PROTOCOL §12.2); a second of silence is already a failover.
const LIMIT: Duration = Duration::from_secs(2);
/// A partition of some GB in one answer; nobody waits for it but an operator.
const PATIENCE: Duration = Duration::from_mins(2);

/// A connection to one server.
pub(crate) struct Connection {
    route: Arc<Route>,
    /// Whose threads read and write; a caller's own may stand still while it folds.
    runtime: Handle,
    limit: Duration,
    /// Number of the present life, and the connection, if there is one.
    current: Mutex<(u64, Option<MultiplexedConnection>)>,
}

// === impl Connection ===

impl Connection {
    pub(crate) fn new(route: &Arc<Route>) -> Result<Self, StoreError> {
        Self::within(route, LIMIT)
    }

    /// One whose answers may take longer: administration reads whole partitions.
    pub(crate) fn patient(route: &Arc<Route>) -> Result<Self, StoreError> {
        Self::within(route, PATIENCE)
    }

    fn within(route: &Arc<Route>, limit: Duration) -> Result<Self, StoreError> {
        let runtime = Handle::try_current().map_err(|_| StoreError::Refused("a connection to Redis needs a runtime to live on".into()))?;
        Ok(Self { route: Arc::clone(route), runtime, limit, current: Mutex::new((0, None)) })
    }

    async fn get(&self) -> Result<(u64, MultiplexedConnection), StoreError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.1 {
            return Ok((current.0, connection.clone()));
        }
        let connection = self.fresh().await?;
        *current = (current.0 + 1, Some(connection.clone()));
        Ok((current.0, connection))
    }

    /// A connection of the caller's own.
    pub(crate) async fn fresh(&self) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(LIMIT)).set_response_timeout(Some(self.limit));
        let route = Arc::clone(&self.route);
        let limit = LIMIT + sentinel::ASK * u32::try_from(route.sentinels.len()).unwrap_or(u32::MAX);
        // The task behind a connection lives where it is made.
        let made = self.runtime.spawn(async move { connect(&route, &config).await });
        match tokio::time::timeout(limit, made).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) | Err(_) => Err(StoreError::Refused("cannot connect in time".into())),
        }
    }

    /// The runtime it lives on.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The next call makes a new one: it may lead to another server.
    pub(crate) async fn forget(&self) {
        self.current.lock().await.1 = None;
    }

    async fn discard(&self, life: u64) {
        let mut current = self.current.lock().await;
        if current.0 == life {
            current.1 = None;
        }
    }

    /// The outer error is silence (or no connection), the inner one the server's answer.
    async fn settle<T>(
        &self,
        life: u64,
        answer: Result<RedisResult<T>, tokio::time::error::Elapsed>,
    ) -> Result<Result<T, RedisError>, StoreError> {
        match answer {
            Ok(Ok(value)) => Ok(Ok(value)),
            Ok(Err(error)) if answered(&error) => {
                // A master that was demoted: the next connection may lead to the new one.
                if error.code() == Some("READONLY") {
                    self.discard(life).await;
                }
                Ok(Err(error))
            }
            Ok(Err(error)) => {
                self.discard(life).await;
                Err(StoreError::Unknown(error.category().to_owned()))
            }
            Err(_) => {
                self.discard(life).await;
                Err(StoreError::Unknown(format!("no answer within {} s", self.limit.as_secs())))
            }
        }
    }

    pub(crate) async fn query(&self, command: &Cmd) -> Result<Result<Value, RedisError>, StoreError> {
        let (life, mut connection) = self.get().await?;
        let answer = tokio::time::timeout(self.limit, command.query_async::<Value>(&mut connection)).await;
        self.settle(life, answer).await
    }

    pub(crate) async fn transaction(&self, pipeline: &Pipeline) -> Result<Result<Vec<Value>, RedisError>, StoreError> {
        let (life, mut connection) = self.get().await?;
        let answer = tokio::time::timeout(self.limit, pipeline.query_async::<Vec<Value>>(&mut connection)).await;
        self.settle(life, answer).await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// To the server, or to whoever is the master now.
async fn connect(route: &Route, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, StoreError> {
    let identity = route.identity()?;
    let place = if route.sentinels.is_empty() { None } else { Some(sentinel::master(route, &identity).await?) };
    let is_told = place.is_some();
    let client = route.client(place, &identity)?;
    let made = client.get_multiplexed_async_connection_with_config(config).await;
    let mut connection = made.map_err(|error| trouble(&error))?;
    if is_told {
        sentinel::judge(&mut connection).await?;
    }
    Ok(connection)
}

/// Whether the server said it, as against the connection breaking.
fn answered(error: &RedisError) -> bool {
    !error.is_io_error() && !error.is_timeout() && error.code().is_some()
}

/// A refusal of the server's (`-OOM`, `-LOADING`, `-READONLY`, …): nothing was written, by a script with `#!lua` or a transaction.
pub(crate) fn refusal(error: &RedisError) -> StoreError {
    StoreError::Refused(format!("{} {}", error.code().unwrap_or("ERR"), error.detail().unwrap_or_default()).trim_end().to_owned())
}
