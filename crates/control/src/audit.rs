//! The audit topic, `wp1.audit`: who changed what, and when, one JSON line a change.
//!
//! A line stands there before what it speaks of is done, so that nothing is done unlogged. It names people by the
//! keyed hash of an identifier and by nothing else.

use std::sync::Arc;

use futures::future::try_join_all;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use waypost_runtime::ports::{Append, Clock, Log, LogError, Offset, Producer, Tail};

use crate::{access::Caller, changes::ChangeError, names, status::Refusal};

/// Metadata entry of a request: who asks, where nobody authenticates.
const ASKS: &str = "waypost-as";
/// Characters kept of a name.
const NAME_MAX: usize = 64;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Manifests were applied.
    #[serde(rename = "definitions.apply")]
    Apply,
    /// A definition was deleted.
    #[serde(rename = "definitions.delete")]
    Delete,
    /// An earlier version was put in force again.
    #[serde(rename = "definitions.rollback")]
    Rollback,
    /// A journey's draft was put in force.
    #[serde(rename = "journey.publish")]
    Publish,
    /// A journey was archived.
    #[serde(rename = "journey.archive")]
    Archive,
    /// A journey was paused.
    #[serde(rename = "journey.pause")]
    Pause,
    /// A paused journey went on.
    #[serde(rename = "journey.resume")]
    Resume,
    /// A journey was killed, with its runs.
    #[serde(rename = "journey.kill")]
    Kill,
    /// A write key was made.
    #[serde(rename = "source.rotate-key")]
    RotateKey,
    /// A workspace was made.
    #[serde(rename = "workspace.create")]
    CreateWorkspace,
    /// A write key was ended.
    #[serde(rename = "source.revoke-key")]
    RevokeKey,
    /// What a workspace may have was set.
    #[serde(rename = "workspace.update")]
    UpdateWorkspace,
    /// A person was erased.
    #[serde(rename = "profile.erase")]
    Erase,
    /// An identifier was detached.
    #[serde(rename = "profile.detach")]
    Detach,
    /// A person was let expire.
    #[serde(rename = "profile.expire")]
    Expire,
    /// All that is stored of a person was read out.
    #[serde(rename = "profile.export")]
    Export,
    /// A run was begun for somebody.
    #[serde(rename = "run.start")]
    StartRun,
    /// Somebody's runs were ended.
    #[serde(rename = "run.cancel")]
    CancelRun,
    /// A dead letter was put back.
    #[serde(rename = "deadletter.redrive")]
    Redrive,
    /// A dead letter was marked as done with.
    #[serde(rename = "deadletter.discard")]
    Discard,
    /// The end of an operation was asked for.
    #[serde(rename = "operation.cancel")]
    CancelOperation,
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
    /// State that was gone was made anew, to be folded from the beginning of its log.
    #[serde(rename = "state.fold-again")]
    FoldAgain,
    /// A partition channel was appended to again.
    #[serde(rename = "channel.repair")]
    Repair,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, ms, by the writer's clock.
    pub at: i64,
    /// Who: as authenticated, else as the client says.
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
    /// How the caller was known; empty for commands beside the API, and before there was a choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub how: String,
    /// Address of the caller.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Whose it is, where the subject does not say so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workspace: String,
    /// Etag or hash of what stood there before; where a letter goes back to the public topic, the end of its partition.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub before: String,
    /// Etag or hash of what is to stand there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub after: String,
    /// Of a further line of the same act: why it was not done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcome: String,
}

/// Writes and reads the topic; cheap to clone.
#[derive(Clone)]
pub struct Audit {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    topic: String,
    producer: Arc<Mutex<Option<Arc<dyn Producer>>>>,
}

/// Lines on their way.
pub(crate) struct Lines(Box<dyn Tail>);

// === impl Act ===

impl Act {
    /// Its word in the topic.
    pub(crate) fn word(self) -> String {
        // a unit variant's JSON form is its name
        serde_json::to_value(self).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// The act of a word.
    pub(crate) fn parse(word: &str) -> Result<Self, Refusal> {
        let unknown =
            |_| Refusal::Invalid("INVALID_ACT", format!("there is no act `{word}`; acts look like journey.publish (docs/access.md)"));
        serde_json::from_value(serde_json::Value::from(word)).map_err(unknown)
    }
}

// === impl Line ===

impl Line {
    /// A line without record and note; the time is added when it is written.
    pub fn new(by: &str, act: Act, subject: impl Into<String>) -> Self {
        let none = String::new;
        Self {
            at: 0,
            by: by.to_owned(),
            act,
            subject: subject.into(),
            record: none(),
            note: none(),
            how: none(),
            from: none(),
            workspace: none(),
            before: none(),
            after: none(),
            outcome: none(),
        }
    }

    /// A line of somebody who came through the API.
    pub(crate) fn of(caller: &Caller, act: Act, subject: impl Into<String>) -> Self {
        Self { how: caller.how().as_str().to_owned(), from: caller.from().to_owned(), ..Self::new(caller.name(), act, subject) }
    }

    /// Of a workspace that its subject does not name.
    pub(crate) fn in_workspace(self, name: &str) -> Self {
        Self { workspace: name.to_owned(), ..self }
    }

    /// With what stood there before and what is to stand there.
    pub(crate) fn changes(self, before: impl Into<String>, after: impl Into<String>) -> Self {
        Self { before: before.into(), after: after.into(), ..self }
    }

    /// The further line that says that nothing came of it.
    fn failed(self, refusal: &Refusal) -> Self {
        Self { outcome: format!("failed: {}", refusal.reason()), ..self }
    }

    /// Whose it is; empty where it is nobody's, or that was not written down.
    pub(crate) fn workspace_name(&self) -> &str {
        if self.workspace.is_empty() { names::workspace_of(&self.subject) } else { &self.workspace }
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

    /// Does what a line speaks of, behind the line; where nothing comes of it, a further line says so. A line without one is of
    /// something that was done, or whose process went away meanwhile.
    pub(crate) async fn acted<T>(&self, line: Line, act: impl Future<Output = Result<T, Refusal>> + Send) -> Result<T, Refusal> {
        self.write(line.clone()).await?;
        let done = act.await;
        if let Err(refusal) = &done {
            self.failed(vec![line], refusal).await;
        }
        done
    }

    /// Says that nothing came of what these lines speak of.
    pub(crate) async fn failed(&self, lines: Vec<Line>, refusal: &Refusal) {
        let lines = lines.into_iter().map(|line| line.failed(refusal)).collect();
        if let Err(error) = self.write_all(lines).await {
            tracing::warn!(%error, "that an act failed is not in the audit topic");
        }
    }

    /// The lines from an offset up to the present end. The topic is kept for 400 days, so nobody holds all of it at once.
    ///
    /// # Errors
    /// When the topic cannot be read.
    pub(crate) async fn lines(&self, from: Offset) -> Result<Lines, LogError> {
        let (start, _) = self.log.watermarks(&self.topic, 0).await?;
        Ok(Lines(self.log.tail(&self.topic, 0, start.max(from)).await?))
    }
}

// === impl Lines ===

impl Lines {
    /// The next line and its offset; what is no line is passed over.
    ///
    /// # Errors
    /// When the topic cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Option<(Offset, Line)>, LogError> {
        while let Some(delivery) = self.0.next().await? {
            if let Ok(line) = serde_json::from_slice(&delivery.payload) {
                return Ok(Some((delivery.offset, line)));
            }
        }
        Ok(None)
    }
}

/// Who asks, as the request says.
pub(crate) fn said(headers: &HeaderMap) -> String {
    let said = headers.get(ASKS).and_then(|value| value.to_str().ok()).unwrap_or_default();
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
    fn lines_of_before_are_read_and_new_ones_say_more() {
        let old = r#"{"at":7,"by":"ana","act":"journey.publish","subject":"workspaces/shop/journeys/j"}"#;
        let line: Line = serde_json::from_str(old).unwrap();
        assert_eq!((line.workspace_name(), line.how.as_str()), ("shop", ""));
        assert_eq!(serde_json::to_string(&line).unwrap(), old);
        let new = Line::of(&Caller::process("dev"), Act::Erase, "identifiers/ih_00").in_workspace("shop").changes("a", "b");
        assert_eq!(new.workspace_name(), "shop");
        let text = serde_json::to_string(&new.failed(&Refusal::Internal)).unwrap();
        assert!(text.ends_with(r#""how":"process","workspace":"shop","before":"a","after":"b","outcome":"failed: INTERNAL"}"#), "{text}");
    }

    #[test]
    fn names_are_short_and_plain() {
        let mut headers = HeaderMap::new();
        assert_eq!(said(&headers), "unknown");
        headers.insert(ASKS, "ana maria".parse().unwrap());
        assert_eq!(said(&headers), "anamaria");
        headers.insert(ASKS, "x".repeat(200).parse().unwrap());
        assert_eq!(said(&headers).len(), NAME_MAX);
    }
}
