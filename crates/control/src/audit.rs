//! The audit topic, `wp1.audit`: who changed what, and when, one JSON line a change.
//!
//! A line stands there before what it speaks of is done, so that nothing is done unlogged. It names people by the
//! keyed hash of an identifier and by nothing else.

use std::sync::Arc;

use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tonic::{Request, metadata::MetadataMap};
use waypost_runtime::ports::{Append, Clock, Log, LogError, Offset, Producer};

use crate::changes::ChangeError;

/// Metadata entry of a request: who asks.
const ASKS: &str = "waypost-as";
/// Characters kept of a name.
const NAME_MAX: usize = 64;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Manifests were applied.
    #[serde(rename = "definitions.apply")]
    Apply,
    /// A journey's draft was put in force.
    #[serde(rename = "journey.publish")]
    Publish,
    /// A journey was archived.
    #[serde(rename = "journey.archive")]
    Archive,
    /// A write key was made.
    #[serde(rename = "source.rotate-key")]
    RotateKey,
    /// A person was erased.
    #[serde(rename = "profile.erase")]
    Erase,
    /// An identifier was detached.
    #[serde(rename = "profile.detach")]
    Detach,
    /// A person was let expire.
    #[serde(rename = "profile.expire")]
    Expire,
    /// A dead letter was put back.
    #[serde(rename = "deadletter.redrive")]
    Redrive,
    /// A record was proposed to be skipped.
    #[serde(rename = "skip.propose")]
    SkipPropose,
    /// A record was skipped.
    #[serde(rename = "skip.approve")]
    SkipApprove,
    /// What was known of deaths at a record was forgotten, so that it is folded again.
    #[serde(rename = "skip.retry")]
    SkipRetry,
    /// A later engine was put in force.
    #[serde(rename = "engine.activate")]
    EngineActivate,
    /// A partition's state was replaced by a backup.
    #[serde(rename = "state.restore")]
    Restore,
    /// A partition channel was appended to again.
    #[serde(rename = "channel.repair")]
    Repair,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, ms, by the writer's clock.
    pub at: i64,
    /// Who, as the client says.
    pub by: String,
    /// What.
    pub act: Act,
    /// To what: a resource name, `identifiers/<hash>`, `deadletters/<id>`, `partitions/<role>/<p>`, `bench/<run>`.
    pub subject: String,
    /// Id of the record it put into a log, hex; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub record: String,
    /// Anything else worth keeping; no personal data.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Writes and reads the topic; cheap to clone.
#[derive(Clone)]
pub struct Audit {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    topic: String,
    producer: Arc<Mutex<Option<Arc<dyn Producer>>>>,
}

// === impl Line ===

impl Line {
    /// A line without record and note; the time is added when it is written.
    pub fn new(by: &str, act: Act, subject: impl Into<String>) -> Self {
        Self { at: 0, by: by.to_owned(), act, subject: subject.into(), record: String::new(), note: String::new() }
    }

    /// With the id of the record it is about.
    #[must_use]
    pub fn record(self, id: &[u8]) -> Self {
        Self { record: hex::encode(id), ..self }
    }

    /// With a note.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }
}

// === impl Audit ===

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Audit {
    /// Over the audit topic under `prefix`.
    pub fn new(log: Arc<dyn Log>, clock: Arc<dyn Clock>, prefix: &str) -> Self {
        Self { log, clock, topic: format!("{prefix}wp1.audit"), producer: Arc::default() }
    }

    /// Writes a line; answers with its offset when it is acknowledged.
    ///
    /// # Errors
    /// [`ChangeError::Unavailable`]; then what it speaks of must not be done.
    pub async fn write(&self, line: Line) -> Result<Offset, ChangeError> {
        let mut offsets = self.write_all(vec![line]).await?;
        offsets.pop().ok_or_else(|| ChangeError::Unavailable("the audit topic did not answer".to_owned()))
    }

    /// Writes lines in their order; answers with their offsets when all are acknowledged.
    ///
    /// # Errors
    /// [`ChangeError::Unavailable`]; then what they speak of must not be done.
    pub(crate) async fn write_all(&self, lines: Vec<Line>) -> Result<Vec<Offset>, ChangeError> {
        let at = self.clock.now().millis();
        let away = |why: String| ChangeError::Unavailable(format!("the audit topic takes no lines, so nothing was changed: {why}"));
        let mut current = self.producer.lock().await;
        let producer = if let Some(producer) = &*current {
            Arc::clone(producer)
        } else {
            Arc::clone(current.insert(self.log.producer().map_err(|e| away(e.to_string()))?))
        };
        let appending = lines.into_iter().map(|line| {
            // a struct of texts and numbers always has a JSON form
            let payload = serde_json::to_vec(&Line { at, ..line }).unwrap_or_default().into();
            producer.append(Append { topic: self.topic.clone(), partition: 0, key: None, headers: Vec::new(), payload })
        });
        let written = try_join_all(appending.collect::<Vec<_>>()).await;
        if written.is_err() {
            *current = None;
        }
        written.map_err(|e| away(e.to_string()))
    }

    /// All lines from an offset up to the present end, with their offsets.
    ///
    /// # Errors
    /// When the topic cannot be read.
    pub(crate) async fn lines(&self, from: Offset) -> Result<Vec<(Offset, Line)>, LogError> {
        let (start, _) = self.log.watermarks(&self.topic, 0).await?;
        let mut tail = self.log.tail(&self.topic, 0, start.max(from)).await?;
        let mut lines = Vec::new();
        while let Some(delivery) = tail.next().await? {
            if let Ok(line) = serde_json::from_slice(&delivery.payload) {
                lines.push((delivery.offset, line));
            }
        }
        Ok(lines)
    }
}

/// Who asks, as the request says.
pub(crate) fn asks<T>(request: &Request<T>) -> String {
    name(request.metadata())
}

fn name(metadata: &MetadataMap) -> String {
    let said = metadata.get(ASKS).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let plain: String = said.chars().filter(char::is_ascii_graphic).take(NAME_MAX).collect();
    if plain.is_empty() { "unknown".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_it_is_in_words() {
        let line = Line { at: 7, ..Line::new("ana", Act::Erase, "identifiers/ih_00") }.record(&[1, 2]);
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"at":7,"by":"ana","act":"profile.erase","subject":"identifiers/ih_00","record":"0102"}"#);
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }

    #[test]
    fn names_are_short_and_plain() {
        let mut metadata = MetadataMap::new();
        assert_eq!(name(&metadata), "unknown");
        metadata.insert(ASKS, "ana maria".parse().unwrap());
        assert_eq!(name(&metadata), "anamaria");
        metadata.insert(ASKS, "x".repeat(200).parse().unwrap());
        assert_eq!(name(&metadata).len(), NAME_MAX);
    }
}
