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
    server::{Place, Route, trouble},
};

/// A commit holds a shard for some ms (PROTOCOL §12.2); a second of silence is already a failover.
const LIMIT: Duration = Duration::from_secs(2);
/// A partition of some GB in one answer; nobody waits for it but an operator.
const PATIENCE: Duration = Duration::from_mins(2);

/// A connection to one server.
pub(crate) struct Connection {
    route: Arc<Route>,
    /// Which node of a cluster; none: the server that the address names, or its sentinels.
    place: Option<Place>,
    /// Whose threads read and write; a caller's own may stand still while it folds.
    runtime: Handle,
    limit: Duration,
    /// Number of the present life, and the connection, if there is one.
    current: Mutex<(u64, Option<MultiplexedConnection>)>,
}

// === impl Connection ===

impl Connection {
    /// One that lives on `runtime`.
    pub(crate) fn new(route: &Arc<Route>, place: Option<Place>, runtime: &Handle) -> Self {
        Self { route: Arc::clone(route), place, runtime: runtime.clone(), limit: LIMIT, current: Mutex::new((0, None)) }
    }

    /// The same, whose answers may take longer: administration reads whole partitions.
    pub(crate) fn patient(route: &Arc<Route>, place: Option<Place>, runtime: &Handle) -> Self {
        Self { limit: PATIENCE, ..Self::new(route, place, runtime) }
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
        let (route, place) = (Arc::clone(&self.route), self.place.clone());
        let limit = LIMIT + sentinel::ASK * u32::try_from(route.sentinels.len()).unwrap_or(u32::MAX);
        // The task behind a connection lives where it is made.
        let made = self.runtime.spawn(async move { connect(&route, place, &config).await });
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

/// To the server, to this node of a cluster, or to whoever is the master now.
async fn connect(route: &Route, place: Option<Place>, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, StoreError> {
    let identity = route.identity()?;
    let is_told = !route.sentinels.is_empty();
    let place = if is_told { Some(sentinel::master(route, &identity).await?) } else { place };
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
/// Of a transaction it is the first one's, which says more than that all of it was refused.
pub(crate) fn refusal(error: &RedisError) -> StoreError {
    let first = error.clone().into_server_errors().and_then(|errors| errors.first().map(|(_, error)| error.clone()));
    let (code, detail) = match &first {
        Some(first) => (first.code(), first.details()),
        None => (error.code().unwrap_or("ERR"), error.detail()),
    };
    StoreError::Refused(format!("{code} {}", detail.unwrap_or_default()).trim_end().to_owned())
}
