//! One partition of a public topic, from where a tail begins.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use waypost_codec::avro;
use waypost_runtime::ports::{Delivery, Log, Offset, Tail};

use super::{once::Once, row::Row, wanted::Wanted};
use crate::status::Refusal;

/// Bytes that are read of what is there already, of all partitions together: who wants few rows of a large topic asks for less time.
const BYTES_MAX: usize = 256 << 20;
/// How long what is there may let itself be waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What may still be read of what is there.
#[derive(Debug)]
pub(super) struct Budget(AtomicUsize);

/// One partition.
pub(super) struct Part {
    topic: String,
    tail: Box<dyn Tail>,
    next: Offset,
    /// Where it ended when the tail began.
    end: Offset,
    once: Once,
}

// === impl Budget ===

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicUsize::new(BYTES_MAX))
    }
}

impl Budget {
    fn spend(&self, bytes: usize) -> Result<(), Refusal> {
        let spent = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        let much = "256 MiB were read and there is more: ask for what came since a later time";
        spent.map(drop).map_err(|_| Refusal::Exhausted(much))
    }
}

// === impl Part ===

impl Part {
    /// None where there is nothing to read and nothing is waited for.
    pub(super) async fn open(log: &dyn Log, topic: &str, partition: u32, wanted: &Wanted) -> Result<Option<Self>, Refusal> {
        let (start, end) = log.watermarks(topic, partition).await?;
        let from = match wanted.since {
            None => end,
            Some(instant) if instant.millis() == 0 => start,
            Some(instant) => log.offset_at(topic, partition, instant).await?.clamp(start, end),
        };
        if from == end && !wanted.follow {
            return Ok(None);
        }
        let tail = log.tail(topic, partition, from).await?;
        Ok(Some(Self { topic: topic.to_owned(), tail, next: from, end, once: Once::default() }))
    }

    /// The next row of those that were there when the tail began.
    pub(super) async fn earlier<R: Row>(&mut self, wanted: &Wanted, budget: &Budget) -> Result<Option<R>, Refusal> {
        while self.next < self.end {
            let late = |_| Refusal::Unavailable("what is in the topic does not come; try again".to_owned());
            let Some(delivery) = tokio::time::timeout(PATIENCE, self.tail.next()).await.map_err(late)?? else {
                self.next = self.end;
                break;
            };
            budget.spend(delivery.payload.len())?;
            if let Some(row) = self.take(&delivery, wanted)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// The next row, however long it takes.
    pub(super) async fn later<R: Row>(&mut self, wanted: &Wanted) -> Result<R, Refusal> {
        loop {
            let Some(delivery) = self.tail.next().await? else { continue };
            if let Some(row) = self.take(&delivery, wanted)? {
                return Ok(row);
            }
        }
    }

    /// The row of a record, if it is new and wanted. One that cannot be read is not passed over in silence.
    fn take<R: Row>(&mut self, delivery: &Delivery, wanted: &Wanted) -> Result<Option<R>, Refusal> {
        self.next = delivery.offset + 1;
        if !self.once.is_new(delivery) || wanted.since.is_some_and(|since| delivery.appended < since) {
            return Ok(None);
        }
        let body = avro::read(&delivery.headers, &delivery.payload).ok();
        let row = body.and_then(|(_, body)| R::read(&body)).ok_or_else(|| {
            let place = format!("{}/{} offset {}", self.topic, delivery.partition, delivery.offset);
            Refusal::Precondition("ROW_UNREADABLE", format!("the row at {place} is of no schema that this server knows; begin behind it"))
        })?;
        Ok(Some(row).filter(|row| wanted.fits(row)))
    }
}
