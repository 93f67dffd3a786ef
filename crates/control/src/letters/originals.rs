//! The originals of letters of the Kafka door, as they lie in its topic with their key and their headers: both are the
//! sender's words, which no letter repeats. Read forward, so that many letters of a partition take one reader.

use std::collections::{BTreeMap, btree_map::Entry};

use bytes::Bytes;
use waypost_runtime::ports::{Append, Delivery, Log, LogError, Offset, Tail};

use super::Letter;

/// The topic of the Kafka door.
const EVENTS: &str = "waypost.events.v1";
/// A reader passes over so many records at most; what lies further on has another one.
const REACH: Offset = 1_000;

pub(crate) struct Originals<'a> {
    log: &'a dyn Log,
    topic: String,
    readers: BTreeMap<u32, (Offset, Box<dyn Tail>)>,
}

// === impl Originals ===

impl<'a> Originals<'a> {
    pub(crate) fn new(log: &'a dyn Log, prefix: &str) -> Self {
        Self { log, topic: format!("{prefix}{EVENTS}"), readers: BTreeMap::new() }
    }

    /// What is appended to put the letter back: the same record at the same partition. Where that has fallen to its
    /// topic's retention, what the letter has kept of it, and nothing if that is not the whole. With it the first offset at which
    /// it may lie: behind the original. A partition that the topic no longer has has no originals.
    pub(crate) async fn of(&mut self, letter: &Letter) -> Result<Option<(Append, Offset)>, LogError> {
        let original = match letter.position {
            Some((partition, offset)) => self.read(partition, offset).await?.filter(|original| is_of(original, letter)),
            None => None,
        };
        let partition = letter.position.map_or(0, |(partition, _)| partition);
        let (key, headers, payload, behind): (Option<Bytes>, _, _, _) = match original {
            Some(Delivery { key, headers, payload, offset, .. }) => (key, headers, payload, offset + 1),
            None if letter.truncated.is_some() => return Ok(None),
            None => (None, Vec::new(), letter.bytes.clone(), 0),
        };
        Ok(Some((Append { topic: self.topic.clone(), partition, key, headers, payload }, behind)))
    }

    async fn read(&mut self, partition: u32, offset: Offset) -> Result<Option<Delivery>, LogError> {
        let (start, end) = match self.log.watermarks(&self.topic, partition).await {
            Err(LogError::Unknown) => return Ok(None),
            bounds @ (Ok(_) | Err(LogError::OutOfRange | LogError::Unavailable(_))) => bounds?,
        };
        if !(start..end).contains(&offset) {
            return Ok(None);
        }
        let (next, tail) = match self.readers.entry(partition) {
            Entry::Occupied(reader) if (0..REACH).contains(&offset.wrapping_sub(reader.get().0)) => reader.into_mut(),
            Entry::Occupied(mut reader) => {
                reader.insert((offset, self.log.tail(&self.topic, partition, offset).await?));
                reader.into_mut()
            }
            Entry::Vacant(place) => place.insert((offset, self.log.tail(&self.topic, partition, offset).await?)),
        };
        while let Some(delivery) = tail.next().await? {
            *next = delivery.offset + 1;
            if delivery.offset >= offset {
                return Ok((delivery.offset == offset).then_some(delivery));
            }
        }
        Ok(None)
    }
}

/// A topic that was made anew has other records at the same offsets.
fn is_of(original: &Delivery, letter: &Letter) -> bool {
    match letter.truncated {
        Some(whole) => original.payload.len() as u64 == whole && original.payload.starts_with(&letter.bytes),
        None => original.payload == letter.bytes,
    }
}
