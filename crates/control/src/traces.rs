//! Whether somebody has folded a record that is to be skipped (PROTOCOL §12.1).
//!
//! Outputs leave before the commit: a record that killed one process may have been published by another. Then it needs
//! memory or time, not a skip, because its outputs stand in other logs under numbers that the skip would give to others.

use prost::Message as _;
use waypost_codec::{
    frame::{Frame, Record},
    inbox, kind,
};
use waypost_runtime::{
    install::{DEAD, PUBLIC},
    ports::{Delivery, Log, LogError, Offset},
    tip::Tip,
    upkeep::Head,
};
use waypost_types::{Layout, PartitionId, Position, Role, Span};

/// Partitions of the dead-letter topic (PROTOCOL §3.2).
const DEAD_PARTITIONS: u32 = 8;
/// How far the clocks of two brokers may be apart.
const CLOCKS: Span = Span::from_secs(300);

/// Where a record is looked for.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// The installation's log.
    pub log: &'a dyn Log,
    /// Before every topic.
    pub prefix: &'a str,
    /// Partitions of the inboxes.
    pub layout: Layout,
    /// Partitions of the public topics.
    pub public_partitions: u32,
}

/// Why a record cannot be skipped, or not looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSkip {
    /// The partition does not stand at that frame.
    #[error("{partition} stands at offset {off}, and only a record of the frame at that offset can be skipped; this one is at {asked}")]
    Elsewhere {
        /// Which.
        partition: PartitionId,
        /// First offset not folded.
        off: Offset,
        /// Offset that was asked for.
        asked: Offset,
    },
    /// There is no such record.
    #[error("{0}")]
    Absent(String),
    /// Somebody has folded it.
    #[error(
        "somebody has folded this record already: {0}. It does not need a skip but memory, or time: start the partition where there is more of it"
    )]
    Folded(String),
    /// The log does not answer.
    #[error("the log does not answer: {0}")]
    Log(#[from] LogError),
}

impl std::fmt::Debug for Search<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Search").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

// === impl Search ===

impl Search<'_> {
    /// Whether nobody has folded the record at `position` of `partition`, whose store says `head`. Reads every
    /// destination and the partition's own inbox to their present ends.
    ///
    /// # Errors
    /// [`NoSkip`].
    pub async fn nothing_of(&self, partition: PartitionId, head: &Head, position: Position) -> Result<(), NoSkip> {
        if head.off != position.offset {
            return Err(NoSkip::Elsewhere { partition, off: head.off, asked: position.offset });
        }
        let own = self.inbox(partition.role);
        let frame = self.frame(&own, partition.index, position.offset).await?;
        let record = record(&frame, position)?;
        // What came of it stands behind it in time; brokers' clocks differ a little.
        let since = frame.appended.minus(CLOCKS);
        let committed = |field: String| head.sequences.get(&field).map_or(0, |bytes| Tip::from_bytes(*bytes).seq);
        for role in Role::KEYED {
            for index in 0..self.layout.partitions {
                let last = committed(format!("x:{role}:{index}"));
                let topic = self.inbox(role);
                let found = |delivery: &Delivery| numbered(delivery, partition).filter(|end| *end > last);
                self.refuse_any(&topic, index, self.log.offset_at(&topic, index, since).await?, found).await?;
            }
        }
        let source = format!("/waypost/{}/{}", partition.role, partition.index);
        for name in PUBLIC {
            for index in 0..self.public_partitions {
                let last = committed(format!("x:{name}:{index}"));
                let topic = format!("{}{name}", self.prefix);
                let found = |delivery: &Delivery| {
                    (header(delivery, "ce_source") == source)
                        .then(|| header(delivery, "ce_sequence").parse().ok())
                        .flatten()
                        .filter(|n| *n > last)
                };
                self.refuse_any(&topic, index, self.log.offset_at(&topic, index, since).await?, found).await?;
            }
        }
        for index in 0..DEAD_PARTITIONS {
            let topic = format!("{}{DEAD}", self.prefix);
            let found = |delivery: &Delivery| letter_offset(delivery, partition).filter(|offset| *offset >= position.offset);
            self.refuse_any(&topic, index, self.log.offset_at(&topic, index, since).await?, found).await?;
        }
        if let Some(dispatch) = dispatch(partition.role, &record) {
            let found = |delivery: &Delivery| attempted(delivery, &dispatch).then_some(delivery.offset);
            self.refuse_any(&own, partition.index, position.offset + 1, found).await?;
        }
        Ok(())
    }

    fn inbox(&self, role: Role) -> String {
        format!("{}{}", self.prefix, role.inbox().unwrap_or_default())
    }

    async fn frame(&self, topic: &str, partition: u32, offset: Offset) -> Result<Delivery, NoSkip> {
        let (start, end) = self.log.watermarks(topic, partition).await?;
        let absent = || NoSkip::Absent(format!("{topic}/{partition} holds {start} to {end}, so there is no frame at offset {offset}"));
        if !(start..end).contains(&offset) {
            return Err(absent());
        }
        self.log.tail(topic, partition, offset).await?.next().await?.filter(|delivery| delivery.offset == offset).ok_or_else(absent)
    }

    /// Reads from `from` to the present end and refuses at the first that is found.
    async fn refuse_any(
        &self,
        topic: &str,
        partition: u32,
        from: Offset,
        found: impl Fn(&Delivery) -> Option<u64> + Send,
    ) -> Result<(), NoSkip> {
        let (start, end) = self.log.watermarks(topic, partition).await?;
        if from.max(start) >= end {
            return Ok(());
        }
        let mut tail = self.log.tail(topic, partition, from.max(start)).await?;
        while let Some(delivery) = tail.next().await? {
            if let Some(number) = found(&delivery) {
                return Err(NoSkip::Folded(format!("{topic}/{partition} offset {} has its number {number}", delivery.offset)));
            }
            if delivery.offset + 1 >= end {
                break;
            }
        }
        Ok(())
    }
}

fn record(frame: &Delivery, position: Position) -> Result<Record, NoSkip> {
    let decoded = Frame::decode(frame.payload.clone())
        .map_err(|e| NoSkip::Absent(format!("the frame cannot be read: {e}; it is set aside whole without a skip")))?;
    let records: Vec<Record> = decoded.sections.into_iter().flat_map(|section| section.records).collect();
    let count = records.len();
    let index = usize::try_from(position.index).unwrap_or(usize::MAX);
    let found = records.into_iter().nth(index);
    found.ok_or_else(|| {
        NoSkip::Absent(format!("the frame at offset {} has {count} records, 0 to {}", position.offset, count.saturating_sub(1)))
    })
}

/// The last number of `source` in a frame of an inbox.
fn numbered(delivery: &Delivery, source: PartitionId) -> Option<u64> {
    let frame = Frame::decode(delivery.payload.clone()).ok()?;
    let own = frame.sections.iter().filter_map(|section| {
        let from = section.source.filter(|s| s.role == source.role && s.partition == source.index)?;
        Some(from.first + (section.records.len() as u64).saturating_sub(1))
    });
    own.max()
}

/// Offset of the record that a letter of `source` is about: `role/partition/offset.index.output`.
fn letter_offset(delivery: &Delivery, source: PartitionId) -> Option<u64> {
    let origin = header(delivery, "origin");
    let position = origin.strip_prefix(&format!("{}/{}/", source.role, source.index))?;
    position.split('.').next()?.parse().ok()
}

/// The dispatch that a record of the sender is about.
fn dispatch(role: Role, record: &Record) -> Option<bytes::Bytes> {
    let body = record.body.clone();
    match (role, record.kind) {
        (Role::Sender, kind::DISPATCH) => inbox::Dispatch::decode(body).ok().map(|d| d.dispatch),
        (Role::Sender, kind::OUTCOME) => inbox::AttemptOutcome::decode(body).ok().map(|o| o.dispatch),
        (Role::Sender, kind::ATTEMPT) => inbox::Attempt::decode(body).ok().map(|a| a.dispatch),
        _ => None,
    }
}

fn attempted(delivery: &Delivery, dispatch: &[u8]) -> bool {
    let Ok(frame) = Frame::decode(delivery.payload.clone()) else { return false };
    let attempts = frame.sections.into_iter().flat_map(|section| section.records).filter(|record| record.kind == kind::ATTEMPT);
    attempts.filter_map(|record| inbox::Attempt::decode(record.body).ok()).any(|attempt| attempt.dispatch == dispatch)
}

fn header(delivery: &Delivery, name: &str) -> String {
    let found = delivery.headers.iter().find(|(n, _)| n == name);
    found.map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
}
