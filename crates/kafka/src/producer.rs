//! A producer's life: idempotent, `acks=all`, over at the first error.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::future::BoxFuture;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig},
};
use waypost_runtime::ports::{Append, AppendError, LogError, Offset, Producer};

use crate::{
    convert::{Quiet, UNKNOWN, log_error, signed},
    settings::Settings,
};

/// One life. Behind an error nothing more is appended, because a later record must not stand where
/// a failed one is missing.
pub(crate) struct LifeProducer {
    /// None only while it is dropped.
    inner: Option<FutureProducer<Quiet>>,
    over: Arc<AtomicBool>,
}

// === impl LifeProducer ===

impl LifeProducer {
    pub(crate) fn new(settings: &Settings) -> Result<Self, LogError> {
        let inner = settings.producer().create_with_context(Quiet).map_err(|e| log_error(&e))?;
        Ok(Self { inner: Some(inner), over: Arc::default() })
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
        let over = Arc::clone(&self.over);
        let (bytes, topic, partition) = (record.payload.len(), record.topic.clone(), record.partition);
        match inner.send_result(out) {
            Ok(delivery) => Box::pin(async move {
                let error = match delivery.await {
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
            inner.purge(PurgeConfig::default().queue().inflight());
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
