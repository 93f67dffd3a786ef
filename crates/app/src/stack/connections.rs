//! How Kafka and Redis are reached, from the settings.

use std::{path::PathBuf, sync::Arc};

use anyhow::{anyhow, bail};
use waypost_kafka::{Certificate, Connection, Mechanism, Sasl, Tls, TokenFile, Tokens};
use waypost_providers::oauth::ClientCredentials;
use waypost_redis::{Sentinels, Server};

use super::tokens::Kept;
use crate::config;

/// The cluster.
pub(super) fn kafka(kafka: &config::Kafka) -> anyhow::Result<Connection> {
    let mut connection = Connection::new(kafka.brokers.clone());
    if kafka.security.ends_with("ssl") {
        let certificate = pair(&kafka.cert_file, &kafka.key_file).map(|(cert_file, key_file)| Certificate { cert_file, key_file });
        connection = connection.tls(Tls { ca_file: file(&kafka.ca_file), certificate });
    }
    if kafka.security.starts_with("sasl") {
        connection = connection.sasl(sasl(kafka)?);
    }
    Ok(connection)
}

fn sasl(kafka: &config::Kafka) -> anyhow::Result<Sasl> {
    let password = |mechanism| {
        let (username, password_file) = (kafka.username.clone(), PathBuf::from(&kafka.password_file));
        Ok(Sasl::Password { mechanism, username, password_file })
    };
    match kafka.sasl.as_str() {
        "plain" => password(Mechanism::Plain),
        "scram-sha-256" => password(Mechanism::ScramSha256),
        "scram-sha-512" => password(Mechanism::ScramSha512),
        "oauthbearer" => Ok(Sasl::Token(tokens(kafka)?)),
        other => bail!("kafka.sasl is `{other}`"),
    }
}

fn tokens(kafka: &config::Kafka) -> anyhow::Result<Arc<dyn Tokens>> {
    if let Some(file) = file(&kafka.token_file) {
        return Ok(Arc::new(TokenFile(file)));
    }
    let credentials = ClientCredentials::new(&kafka.token_url, &kafka.client_id, PathBuf::from(&kafka.client_secret_file), &kafka.scope);
    Ok(Arc::new(Kept::start(credentials.map_err(|why| anyhow!(why))?, kafka.client_id.clone())?))
}

/// The server, or who knows where it is.
pub(super) fn redis(redis: &config::Redis) -> Server {
    let addresses = |list: &str| list.split(',').map(str::trim).filter(|address| !address.is_empty()).map(ToOwned::to_owned).collect();
    Server {
        url: redis.url.clone(),
        username: Some(redis.username.clone()).filter(|name| !name.is_empty()),
        password_file: file(&redis.password_file),
        ca_file: file(&redis.ca_file),
        certificate: pair(&redis.cert_file, &redis.key_file),
        sentinels: (!redis.sentinels.is_empty())
            .then(|| Sentinels { addresses: addresses(&redis.sentinels), master: redis.master.clone() }),
        cluster: addresses(&redis.cluster),
    }
}

fn file(path: &str) -> Option<PathBuf> {
    Some(path).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The settings' check says no where one of them stands alone.
fn pair(one: &str, other: &str) -> Option<(PathBuf, PathBuf)> {
    file(one).zip(file(other))
}
