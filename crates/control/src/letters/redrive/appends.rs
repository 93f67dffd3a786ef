//! The appends of letters that are put back. What no log takes now none takes later: such a letter is refused, and the others go.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use waypost_codec::frame::Record;
use waypost_runtime::{
    door::DoorError,
    ports::{Append, AppendError, Producer},
};
use waypost_types::Role;

use super::{Goes, Ready, Redrive, moved};
use crate::status::Refusal;

/// Bytes of a record of the public topic at most: a little below what a producer sends.
const EVENT_BYTES: usize = 990_000;
/// Bytes that a header takes besides its name and value, at most.
const HEADER_BYTES: usize = 20;

/// Why no log takes a letter, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum No {
    Large,
    /// The public topic was made anew with fewer partitions, or is no more.
    Partition,
}

// === impl No ===

impl No {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Large => "TOO_LARGE",
            Self::Partition => "NO_PARTITION",
        }
    }

    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Large => "it is too large to be put back: send it again",
            Self::Partition => "the public topic no longer has the partition in which it lay: send it again",
        }
    }

    /// None: another attempt may fare better.
    fn of(error: &AppendError) -> Option<Self> {
        match error {
            AppendError::TooLarge { .. } => Some(Self::Large),
            AppendError::UnknownPartition { .. } => Some(Self::Partition),
            AppendError::Full | AppendError::Failed(_) => None,
        }
    }
}

// === impl Redrive ===

impl Redrive<'_> {
    /// The places of what no log takes, and why; everything else is appended.
    pub(super) async fn append(&mut self, going: &[Ready]) -> Result<Vec<(usize, No)>, Refusal> {
        let (mut records, mut events) = (Vec::new(), Vec::new());
        for one in going {
            match &one.goes {
                Goes::Inbox(role, record) => records.push((one.place, (*role, (**record).clone()))),
                Goes::Door(append) => events.push((one.place, append.clone())),
            }
        }
        let mut refused = self.write_records(records).await?;
        refused.extend(self.write_events(events).await?);
        Ok(refused)
    }

    /// Asked before each append: those before it may have taken long.
    fn still_mine(&self) -> Result<(), Refusal> {
        moved(self.hold);
        match self.hold {
            Some(hold) if !hold.is_sure() => Err(Refusal::Aborted("another process may have taken this operation over".to_owned())),
            Some(_) | None => Ok(()),
        }
    }

    async fn write_records(&mut self, records: Vec<(usize, (Role, Record))>) -> Result<Vec<(usize, No)>, Refusal> {
        let mut refused = Vec::new();
        if records.is_empty() {
            return Ok(refused);
        }
        self.still_mine()?;
        match self.control.door.append(records.iter().map(|(_, record)| record.clone()).collect()).await {
            Ok(()) => return Ok(refused),
            Err(DoorError::TooLarge) => {}
            Err(error @ DoorError::Unavailable(_)) => return Err(error.into()),
        }
        // One of them is; a repeat of the others is dropped by its id.
        for (place, record) in records {
            self.still_mine()?;
            match self.control.door.append(vec![record]).await {
                Ok(()) => {}
                Err(DoorError::TooLarge) => refused.push((place, No::Large)),
                Err(error @ DoorError::Unavailable(_)) => return Err(error.into()),
            }
        }
        Ok(refused)
    }

    /// To the public topic, as the shop's program wrote them.
    async fn write_events(&mut self, events: Vec<(usize, Append)>) -> Result<Vec<(usize, No)>, Refusal> {
        let mut refused = Vec::new();
        if events.is_empty() {
            return Ok(refused);
        }
        self.still_mine()?;
        let producer = self.producer()?;
        // Each is on its way before the first answer is waited for, so they stand there in this order.
        let appending: Vec<_> = events.iter().map(|(_, append)| producer.append(append.clone())).collect();
        let answers = join_all(appending).await;
        if !answers.iter().any(|answer| answer.as_ref().is_err_and(|error| No::of(error).is_some())) {
            return answers.into_iter().find_map(Result::err).map_or(Ok(refused), |error| Err(Refusal::Unavailable(error.to_string())));
        }
        // The topic does not take one of them. That has ended the producer's life, and with it others that it takes: one by one.
        self.producer = None;
        for ((place, append), answer) in events.into_iter().zip(answers) {
            let answer = match answer {
                Err(error) if No::of(&error).is_none() => {
                    self.still_mine()?;
                    self.producer()?.append(append).await
                }
                answer @ (Ok(_) | Err(_)) => answer,
            };
            let Err(error) = answer else { continue };
            self.producer = None;
            refused.push((place, No::of(&error).ok_or_else(|| Refusal::Unavailable(error.to_string()))?));
        }
        Ok(refused)
    }

    fn producer(&mut self) -> Result<Arc<dyn Producer>, Refusal> {
        Ok(Arc::clone(match &self.producer {
            Some(producer) => producer,
            None => self.producer.insert(self.log.producer()?),
        }))
    }
}

/// Whether a producer takes it.
pub(super) fn fits(append: &Append) -> bool {
    let headers: usize = append.headers.iter().map(|(name, value)| name.len() + value.len() + HEADER_BYTES).sum();
    append.key.as_ref().map_or(0, Bytes::len) + headers + append.payload.len() <= EVENT_BYTES
}
