//! A producer's life: idempotent, `acks=all`, over at the first error.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use rdkafka::{
    ClientContext, Statistics,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig},
};
use tokio::sync::watch;
use waypost_runtime::ports::{Append, AppendError, LogError, Offset, Producer};

use crate::{
    connection::Identity,
    convert::{Quiet, UNKNOWN, signed},
    settings::{Recipe, Settings},
    standing::Standing,
    tokens::token_for,
};

/// One life. Behind an error nothing more is appended, because a later record must not stand where
/// a failed one is missing.
pub(crate) struct LifeProducer {
    /// None only while it is dropped.
    inner: Option<FutureProducer<Account>>,
    over: Arc<AtomicBool>,
    /// It knows no broker, and may never ask for one again (`standing`), or none knows it.
    alone: watch::Receiver<bool>,
}

/// Hears what the client says of itself.
struct Account {
    standing: Standing,
    identity: Identity,
    alone: watch::Sender<bool>,
}

// === impl LifeProducer ===

impl LifeProducer {
    pub(crate) fn new(settings: &Settings) -> Result<Self, LogError> {
        Self::with(&settings.producer())
    }

    fn with(recipe: &Recipe) -> Result<Self, LogError> {
        let (told, alone) = watch::channel(false);
        let inner = recipe.make(|identity| Account { standing: Standing::default(), identity, alone: told })?;
        Ok(Self { inner: Some(inner), over: Arc::default(), alone })
    }
}

impl Producer for LifeProducer {
    fn append(&self, record: Append) -> BoxFuture<'static, Result<Offset, AppendError>> {
        let ended = || AppendError::Failed("this producer's life is over".into());
        let Some(inner) = self.inner.as_ref().filter(|_| !self.over.load(Ordering::Acquire)) else {
            return Box::pin(std::future::ready(Err(ended())));
        };
        let mut out: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&record.topic).partition(signed(record.partition)).payload(record.payload.as_ref());
        if let Some(key) = &record.key {
            out = out.key(key.as_ref());
        }
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            let insert = |headers: OwnedHeaders, (name, value): &(String, bytes::Bytes)| {
                headers.insert(Header { key: name, value: Some(value.as_ref()) })
            };
            out = out.headers(record.headers.iter().fold(headers, insert));
        }
        let (over, mut alone) = (Arc::clone(&self.over), self.alone.clone());
        let (bytes, topic, partition) = (record.payload.len(), record.topic.clone(), record.partition);
        match inner.send_result(out) {
            Ok(delivery) => Box::pin(async move {
                let delivered = tokio::select! {
                    biased;
                    delivered = delivery => delivered,
                    Ok(_) = alone.wait_for(|alone| *alone) => {
                        over.store(true, Ordering::Release);
                        return Err(AppendError::Failed("the client knows no broker any more, or none knows it".into()));
                    }
                };
                let error = match delivered {
                    Ok(Ok(delivered)) => match u64::try_from(delivered.offset) {
                        Ok(offset) => return Ok(offset),
                        // A repeat that the broker knows, and no longer where it stands.
                        Err(_) => AppendError::Failed("acknowledged without an offset".into()),
                    },
                    Ok(Err((error, _))) => append_error(&error, topic, partition, bytes),
                    Err(_) => AppendError::Failed("the producer was dropped".into()),
                };
                over.store(true, Ordering::Release);
                Err(error)
            }),
            Err((error, _)) => {
                let error = append_error(&error, topic, partition, bytes);
                if error != AppendError::Full {
                    over.store(true, Ordering::Release);
                }
                Box::pin(std::future::ready(Err(error)))
            }
        }
    }

    fn purge(&self) {
        self.over.store(true, Ordering::Release);
        if let Some(inner) = &self.inner {
            // not waiting for the threads of brokers, which may be looking for a name; what they send meanwhile is a late copy
            inner.purge(PurgeConfig::default().queue().inflight().non_blocking());
        }
    }
}

impl Drop for LifeProducer {
    fn drop(&mut self) {
        // librdkafka joins its threads here, which may take a while: not on the thread of an event loop
        if let Some(inner) = self.inner.take() {
            std::thread::spawn(move || drop(inner));
        }
    }
}

// === impl Account ===

impl ClientContext for Account {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        token_for(&self.identity)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.standing.hear_error(&error, reason);
        Quiet.error(error, reason);
    }

    fn stats(&self, account: Statistics) {
        self.standing.hear(&account);
        let is_alone = self.standing.is_alone() || (self.standing.was_refused() && self.identity.is_outdated());
        self.alone.send_if_modified(|alone| std::mem::replace(alone, is_alone) != is_alone);
    }
}

fn append_error(error: &KafkaError, topic: String, partition: u32, bytes: usize) -> AppendError {
    let code = error.rdkafka_error_code();
    if code == Some(RDKafkaErrorCode::QueueFull) {
        AppendError::Full
    } else if code == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
        AppendError::TooLarge { topic, bytes }
    } else if code.is_some_and(|c| UNKNOWN.contains(&c)) {
        AppendError::UnknownPartition { topic, partition }
    } else {
        AppendError::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;

    #[tokio::test]
    async fn a_client_that_knows_no_broker_ends_its_life() {
        let mut recipe = Settings::new(&Connection::new("127.0.0.1:1")).producer();
        recipe.config.remove("bootstrap.servers").set("statistics.interval.ms", "1000");
        let life = LifeProducer::with(&recipe).unwrap();
        let record = || Append { topic: "topic".into(), partition: 0, key: None, headers: Vec::new(), payload: bytes::Bytes::new() };
        let error = life.append(record()).await.unwrap_err();
        assert!(error.to_string().contains("knows no broker"), "{error}");
        assert!(life.append(record()).await.unwrap_err().to_string().contains("life is over"));
    }
}
