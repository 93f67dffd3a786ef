//! Dead letters as they lie in `wp1.dead`: read from the topic, told without personal data.

mod back;
mod discards;
mod history;
mod originals;
pub(crate) mod redrive;
mod service;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message as _;
use serde_json::Value;
use waypost_codec::{frame::Record, inbox};
use waypost_runtime::{
    install::DEAD,
    ports::{Delivery, Log, LogError, Offset, Tail},
};

use crate::mask::masked;

/// Partitions of the topic (PROTOCOL §3.2).
const PARTITIONS: u32 = 8;

/// Reads the topic.
#[derive(Clone)]
pub(crate) struct Letters {
    log: Arc<dyn Log>,
    topic: String,
}

/// Where a letter lies: its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LetterId {
    pub(crate) partition: u32,
    pub(crate) offset: Offset,
}

/// One letter.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) id: LetterId,
    pub(crate) reason: String,
    /// `http`, `kafka`, or a role.
    pub(crate) door: String,
    /// A door's source; a role's partition and position.
    pub(crate) origin: String,
    pub(crate) detail: String,
    pub(crate) workspace: u32,
    pub(crate) at: i64,
    /// Only the beginning of the original is here; it had so many bytes.
    pub(crate) truncated: Option<u64>,
    /// Where the original lies in the topic of the Kafka door.
    pub(crate) position: Option<(u32, Offset)>,
    pub(crate) bytes: Bytes,
}

// === impl LetterId ===

impl std::fmt::Display for LetterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.partition, self.offset)
    }
}

impl std::str::FromStr for LetterId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (partition, offset) = text.split_once('-').ok_or(())?;
        let partition = partition.parse().ok().filter(|p| *p < PARTITIONS).ok_or(())?;
        Ok(Self { partition, offset: offset.parse().map_err(|_| ())? })
    }
}

// === impl Letter ===

impl Letter {
    pub(crate) fn of(delivery: Delivery) -> Self {
        let header = |name: &str| {
            let found = delivery.headers.iter().find(|(n, _)| n == name);
            found.map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        let or = |one: String, other: String| if one.is_empty() { other } else { one };
        let detail = match (header("path"), header("expected")) {
            (path, expected) if path.is_empty() => expected,
            (path, expected) => format!("{path}: {expected}"),
        };
        let position =
            header("position").split_once('/').and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
        Self {
            id: LetterId { partition: delivery.partition, offset: delivery.offset },
            reason: header("reason"),
            door: header("door"),
            origin: or(header("origin"), header("source")),
            detail: or(header("detail"), detail),
            workspace: header("workspace").trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0),
            at: delivery.appended.millis(),
            // the doors' word for it and the roles'
            truncated: or(header("truncated"), header("cut")).parse().ok(),
            position,
            bytes: delivery.payload,
        }
    }

    /// The order in which letters are listed, newest first: when it was set aside, and where.
    pub(crate) fn age(&self) -> (i64, LetterId) {
        (self.at, self.id)
    }

    /// Whether a filter's words mean it; empty ones mean all.
    pub(crate) fn fits(&self, reason: &str, source: &str) -> bool {
        let of_source = || self.door == source || self.origin == source || self.origin.starts_with(&format!("{source}/"));
        (reason.is_empty() || self.reason == reason) && (source.is_empty() || of_source())
    }

    /// The record that a role set aside.
    pub(crate) fn record(&self) -> Option<Record> {
        Record::from_proto(inbox::Record::decode(self.bytes.clone()).ok()?).ok()
    }

    /// What is in it, for people: names and shapes, no values.
    pub(crate) fn content(&self) -> String {
        if self.bytes.is_empty() {
            return "no bytes: it was a timer, or the frame itself".to_owned();
        }
        match (self.door.as_str(), self.record()) {
            ("http", _) => match serde_json::from_slice::<Value>(&self.bytes) {
                Ok(value) => serde_json::to_string_pretty(&masked(&value, &["type", "event"])).unwrap_or_default(),
                Err(_) => format!("{} bytes that are no JSON", self.bytes.len()),
            },
            ("kafka", _) | (_, None) => format!("{} bytes", self.bytes.len()),
            (_, Some(record)) => {
                let (key, id) = (hex::encode(&record.key), hex::encode(record.id));
                format!(
                    "record {id}\nkind {}\nkey {key}\nlog time {}\nbody of {} bytes",
                    record.kind,
                    record.at.unwrap_or(record.said),
                    record.body.len()
                )
            }
        }
    }
}

// === impl Letters ===

impl std::fmt::Debug for Letters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letters").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Letters {
    pub(crate) fn new(log: Arc<dyn Log>, prefix: &str) -> Self {
        Self { log, topic: format!("{prefix}{DEAD}") }
    }

    /// First offset of a partition, and the next to be written.
    pub(crate) async fn bounds(&self, partition: u32) -> Result<(Offset, Offset), LogError> {
        self.log.watermarks(&self.topic, partition).await
    }

    /// The same of all partitions.
    pub(crate) async fn bounds_of_all(&self) -> Result<Vec<(Offset, Offset)>, LogError> {
        try_join_all((0..PARTITIONS).map(|partition| self.bounds(partition))).await
    }

    /// One partition from an offset on.
    pub(crate) async fn tail(&self, partition: u32, from: Offset) -> Result<Box<dyn Tail>, LogError> {
        self.log.tail(&self.topic, partition, from).await
    }

    /// All letters that fit, newest first.
    pub(crate) async fn all(&self, reason: &str, source: &str) -> Result<Vec<Letter>, LogError> {
        let read = (0..PARTITIONS).map(|partition| async move {
            let (start, end) = self.log.watermarks(&self.topic, partition).await?;
            let mut letters = Vec::new();
            if start < end {
                let mut tail = self.log.tail(&self.topic, partition, start).await?;
                while let Some(delivery) = tail.next().await? {
                    let letter = Letter::of(delivery);
                    if letter.fits(reason, source) {
                        letters.push(letter);
                    }
                }
            }
            Ok::<_, LogError>(letters)
        });
        let mut letters: Vec<Letter> = try_join_all(read).await?.into_iter().flatten().collect();
        letters.sort_by_key(|letter| std::cmp::Reverse(letter.age()));
        Ok(letters)
    }

    /// One letter; none where there is none, or no longer.
    pub(crate) async fn one(&self, id: LetterId) -> Result<Option<Letter>, LogError> {
        let (start, end) = self.log.watermarks(&self.topic, id.partition).await?;
        if !(start..end).contains(&id.offset) {
            return Ok(None);
        }
        let mut tail = self.log.tail(&self.topic, id.partition, id.offset).await?;
        let found = tail.next().await?.filter(|delivery| delivery.offset == id.offset);
        Ok(found.map(Letter::of))
    }
}

#[cfg(test)]
mod tests {
    use waypost_types::Timestamp;

    use super::*;

    fn letter(door: &str, origin: &str, payload: &'static str) -> Letter {
        let header = |name: &str, value: &str| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
        let headers = vec![header("reason", "TOO_DEEP"), header("door", door), header("source", origin), header("workspace", "ws_7")];
        let payload = Bytes::from_static(payload.as_bytes());
        Letter::of(Delivery { partition: 3, offset: 9, appended: Timestamp::from_millis(5), key: None, headers, payload })
    }

    #[test]
    fn a_letter_has_a_name_and_is_found_by_where_it_came_from() {
        let one = letter("segmenter", "segmenter/3/99.1.0", "");
        assert_eq!(one.id.to_string().parse(), Ok(one.id));
        assert_eq!(one.workspace, 7);
        for (reason, source, fits) in [
            ("", "", true),
            ("TOO_DEEP", "segmenter", true),
            ("TOO_DEEP", "segmenter/3", true),
            ("", "segmenter/33", false),
            ("OTHER", "", false),
        ] {
            assert_eq!(one.fits(reason, source), fits, "{reason} {source}");
        }
        for bad in ["", "3", "9-1", "a-b", "3-"] {
            assert!(bad.parse::<LetterId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn content_shows_names_and_no_values() {
        let text = letter("http", "web", r#"{"type":"track","event":"Page","userId":"ana@mail.example","n":[7,true,null]}"#).content();
        for kept in ["track", "Page", "userId", "text of 16", "number"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert!(!text.contains("ana@") && !text.contains('7'), "{text}");
        assert!(letter("http", "web", "ana@mail.example").content().contains("16 bytes"));
        assert!(!letter("kafka", "web", "ana@mail.example").content().contains("ana"));
    }
}
