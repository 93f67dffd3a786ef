//! Where the master is, by what sentinels say, and whether it is one.

use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, Value, aio::MultiplexedConnection};
use tracing::debug;
use waypost_runtime::ports::StoreError;

use crate::{
    connection::refusal,
    reply,
    server::{Identity, Place, Route, trouble},
};

/// How long one sentinel may take; the next one may know as well.
pub(crate) const ASK: Duration = Duration::from_millis(500);

/// Asks one after the other.
///
/// # Errors
/// None of them knows it.
pub(crate) async fn master(route: &Route, identity: &Identity) -> Result<Place, StoreError> {
    for place in &route.sentinels {
        match tokio::time::timeout(ASK, ask(route, place, identity)).await {
            Ok(Ok(Some(master))) => return Ok(master),
            Ok(Ok(None)) => debug!(sentinel = ?place, "it knows no such master"),
            Ok(Err(error)) => debug!(sentinel = ?place, %error, "it does not answer"),
            Err(_) => debug!(sentinel = ?place, "it does not answer in time"),
        }
    }
    Err(StoreError::Refused(format!("no sentinel of redis.sentinels knows where `{}` (redis.master) is", route.master())))
}

async fn ask(route: &Route, place: &Place, identity: &Identity) -> Result<Option<Place>, StoreError> {
    let connected = match connect(route.sentinel(place.clone(), identity, true)?).await {
        // many sentinels know no users
        Err(error) if error.kind() == ErrorKind::AuthenticationFailed => connect(route.sentinel(place.clone(), identity, false)?).await,
        connected => connected,
    };
    let mut connection = connected.map_err(|error| trouble(&error))?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(route.master());
    let answer: Value = question.query_async(&mut connection).await.map_err(|error: RedisError| refusal(&error))?;
    let Value::Array(words) = answer else { return Ok(None) };
    let mut words = words.iter().filter_map(reply::bytes).filter_map(|word| std::str::from_utf8(word).ok());
    Ok(words.next().map(ToOwned::to_owned).zip(words.next().and_then(|port| port.parse().ok())))
}

async fn connect(client: Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(ASK)).set_response_timeout(Some(ASK));
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// A sentinel may know less than the server itself: one that was demoted is told by its own word.
pub(crate) async fn judge(connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
    let role: Value = redis::cmd("ROLE").query_async(connection).await.map_err(|error: RedisError| refusal(&error))?;
    let Value::Array(words) = &role else { return Err(StoreError::Refused("the server does not say its role".into())) };
    if words.first().and_then(reply::bytes) == Some(b"master") {
        return Ok(());
    }
    Err(StoreError::Refused("the server that the sentinels call the master says that it is none".into()))
}
