//! Dead letters on `wp1.dead`: the original bytes as value, what is known of them as headers.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use waypost_runtime::{
    door::DoorError,
    ports::{Append, Log, Producer},
};

use crate::ports::{DeadLetter, DeadLetters};

/// Bytes kept of an original: below the producer's limit of 1,000,000 with its headers.
const LETTER_BYTES: usize = 900_000;

/// Sets dead letters aside in a topic.
pub struct LogDeadLetters {
    log: Arc<dyn Log>,
    topic: String,
    partitions: u32,
    producer: Mutex<Option<Arc<dyn Producer>>>,
}

// === impl DeadLetter ===

impl DeadLetter {
    /// What is known of it, without anything that a sender wrote except well-formed field names.
    pub fn headers(&self) -> Vec<(String, Bytes)> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '[' | ']');
        let path = if self.path.len() <= 200 && self.path.chars().all(plain) { self.path.clone() } else { String::new() };
        let position = self.position.map(|(partition, offset)| ("position", format!("{partition}/{offset}")));
        [
            ("reason", self.reason.as_str().to_owned()),
            ("door", self.door.to_owned()),
            ("time", self.at.to_string()),
            ("workspace", self.workspace.to_string()),
            ("source", self.source.clone()),
            ("path", path),
            ("expected", self.expected.clone()),
        ]
        .into_iter()
        .chain(position)
        .map(|(name, value)| (name.to_owned(), Bytes::from(value)))
        .collect()
    }
}

// === impl LogDeadLetters ===

impl LogDeadLetters {
    /// Into `topic`, prefix included, of `partitions`.
    pub fn new(log: Arc<dyn Log>, topic: String, partitions: u32) -> Self {
        Self { log, topic, partitions, producer: Mutex::new(None) }
    }

    fn producer(&self) -> Result<Arc<dyn Producer>, DoorError> {
        let mut current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = &*current {
            return Ok(Arc::clone(producer));
        }
        let fresh = self.log.producer().map_err(|e| DoorError::Unavailable(e.to_string()))?;
        *current = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    // After an error a producer must not be used again.
    fn forget(&self, failed: &Arc<dyn Producer>) {
        let mut current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|p| Arc::ptr_eq(p, failed)) {
            *current = None;
        }
    }
}

#[async_trait]
impl DeadLetters for LogDeadLetters {
    async fn set_aside(&self, letter: DeadLetter) -> Result<(), DoorError> {
        let producer = self.producer()?;
        let spread = blake3::hash(&letter.original).as_bytes()[..4].iter().fold(0_u32, |n, b| (n << 8) | u32::from(*b));
        let mut headers = letter.headers();
        let mut payload = letter.original;
        if payload.len() > LETTER_BYTES {
            // What does not fit is cut and said so: a letter that the topic refuses would hold its partition for ever.
            headers.push(("truncated".to_owned(), Bytes::from(payload.len().to_string())));
            payload.truncate(LETTER_BYTES);
        }
        let append = Append { topic: self.topic.clone(), partition: spread % self.partitions.max(1), key: None, headers, payload };
        match producer.append(append).await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.forget(&producer);
                Err(DoorError::Unavailable(error.to_string()))
            }
        }
    }
}

impl fmt::Debug for LogDeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDeadLetters").field("topic", &self.topic).finish_non_exhaustive()
    }
}
