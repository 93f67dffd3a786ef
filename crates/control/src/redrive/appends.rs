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

use super::{Goes, Ready, Redrive};
use crate::status::Refusal;

/// Bytes of a record of the public topic at most: a little below what a producer sends.
const EVENT_BYTES: usize = 990_000;
/// Bytes that a header takes besides its name and value, at most.
const HEADER_BYTES: usize = 20;

// === impl Redrive ===

impl Redrive<'_> {
    /// The places of what no log takes; everything else is appended.
    pub(super) async fn append(&mut self, going: &[Ready]) -> Result<Vec<usize>, Refusal> {
        if self.hold.is_some_and(|hold| !hold.is_sure()) {
            return Err(Refusal::Aborted("another process may have taken this operation over".to_owned()));
        }
        let (mut records, mut events) = (Vec::new(), Vec::new());
        for one in going {
            match &one.goes {
                Goes::Inbox(role, record) => records.push((one.place, (*role, (**record).clone()))),
                Goes::Door(append) => events.push((one.place, append.clone())),
            }
        }
        let mut large = self.write_records(records).await?;
        large.extend(self.write_events(events).await?);
        Ok(large)
    }

    async fn write_records(&mut self, records: Vec<(usize, (Role, Record))>) -> Result<Vec<usize>, Refusal> {
        let mut large = Vec::new();
        if records.is_empty() {
            return Ok(large);
        }
        match self.control.door.append(records.iter().map(|(_, record)| record.clone()).collect()).await {
            Ok(()) => return Ok(large),
            Err(DoorError::TooLarge) => {}
            Err(error @ DoorError::Unavailable(_)) => return Err(error.into()),
        }
        // One of them is; a repeat of the others is dropped by its id.
        for (place, record) in records {
            match self.control.door.append(vec![record]).await {
                Ok(()) => {}
                Err(DoorError::TooLarge) => large.push(place),
                Err(error @ DoorError::Unavailable(_)) => return Err(error.into()),
            }
        }
        Ok(large)
    }

    /// To the public topic, as the shop's program wrote them.
    async fn write_events(&mut self, events: Vec<(usize, Append)>) -> Result<Vec<usize>, Refusal> {
        let mut large = Vec::new();
        if events.is_empty() {
            return Ok(large);
        }
        let producer = self.producer()?;
        // Each is on its way before the first answer is waited for, so they stand there in this order.
        let appending: Vec<_> = events.iter().map(|(_, append)| producer.append(append.clone())).collect();
        let answers = join_all(appending).await;
        if !answers.iter().any(|answer| matches!(answer, Err(AppendError::TooLarge { .. }))) {
            return answers.into_iter().find_map(Result::err).map_or(Ok(large), |error| Err(Refusal::Unavailable(error.to_string())));
        }
        // The topic takes less than ours do. That has ended the producer's life, and with it others that fit: one by one.
        self.producer = None;
        for ((place, append), answer) in events.into_iter().zip(answers) {
            let answer = match answer {
                Ok(_) | Err(AppendError::TooLarge { .. }) => answer,
                Err(AppendError::UnknownPartition { .. } | AppendError::Full | AppendError::Failed(_)) => {
                    self.producer()?.append(append).await
                }
            };
            match answer {
                Ok(_) => {}
                Err(AppendError::TooLarge { .. }) => {
                    self.producer = None;
                    large.push(place);
                }
                Err(error @ (AppendError::UnknownPartition { .. } | AppendError::Full | AppendError::Failed(_))) => {
                    return Err(Refusal::Unavailable(error.to_string()));
                }
            }
        }
        Ok(large)
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
