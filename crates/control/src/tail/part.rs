//! One partition of a public topic, from where a tail begins.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use waypost_codec::schemas::{SchemaCache, Schemas};
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

/// What reading the rows of one partition takes.
pub(super) struct Reading {
    pub(super) topic: String,
    pub(super) once: Once,
    /// Where writers' schemas are.
    pub(super) schemas: Arc<dyn Schemas>,
    pub(super) cache: SchemaCache,
}

/// One partition.
pub(super) struct Part {
    tail: Box<dyn Tail>,
    next: Offset,
    /// Where it ended when the tail began.
    end: Offset,
    reading: Reading,
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
    pub(super) async fn open<F: Sync>(
        log: &dyn Log,
        schemas: Arc<dyn Schemas>,
        topic: &str,
        partition: u32,
        wanted: &Wanted<F>,
    ) -> Result<Option<Self>, Refusal> {
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
        let reading = Reading { topic: topic.to_owned(), once: Once::default(), schemas, cache: SchemaCache::default() };
        Ok(Some(Self { tail, next: from, end, reading }))
    }

    /// The next row of those that were there when the tail began.
    pub(super) async fn earlier<R: Row>(&mut self, wanted: &Wanted<R::Filter>, budget: &Budget) -> Result<Option<R>, Refusal> {
        while self.next < self.end {
            let late = |_| Refusal::Unavailable("what is in the topic does not come; try again".to_owned());
            let Some(delivery) = tokio::time::timeout(PATIENCE, self.tail.next()).await.map_err(late)?? else {
                self.next = self.end;
                break;
            };
            budget.spend(delivery.payload.len())?;
            if let Some(row) = self.take(&delivery, wanted).await? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// The next row, however long it takes.
    pub(super) async fn later<R: Row>(&mut self, wanted: &Wanted<R::Filter>) -> Result<R, Refusal> {
        loop {
            let Some(delivery) = self.tail.next().await? else { continue };
            if let Some(row) = self.take(&delivery, wanted).await? {
                return Ok(row);
            }
        }
    }

    /// The row of a record, if it is one and wanted.
    async fn take<R: Row>(&mut self, delivery: &Delivery, wanted: &Wanted<R::Filter>) -> Result<Option<R>, Refusal> {
        self.next = delivery.offset + 1;
        let row = R::read(delivery, &mut self.reading).await?;
        let in_time = wanted.since.is_none_or(|since| delivery.appended >= since);
        Ok(row.filter(|row| in_time && row.fits(&wanted.filter)))
    }
}
