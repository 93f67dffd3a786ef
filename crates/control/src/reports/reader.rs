//! Reading the public topics and writing what was counted, for as long as the process lives.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use waypost_runtime::ports::{Append, AppendError, Log, LogError, Offset, Producer};

use super::{
    CELLS, Part, Reports, State, TOPIC,
    fold::{Fold, Limits},
    measure::Public,
    record::{self, Pair, Place},
};

/// Between two looks at what is not there, or cannot be read yet.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries at a log that does not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// The partition of `wp1.reports` that is written to.
const WRITTEN: u32 = 0;
/// Figures that are appended together.
const AT_ONCE: usize = 1_000;

/// Writes to `wp1.reports`.
struct Writer {
    /// None: the next write makes one.
    producer: Option<Arc<dyn Producer>>,
    /// Where the topic ended at least when it was last heard of.
    end: Offset,
}

// === impl Reports ===

impl Reports {
    /// Counts until it is dropped. What goes wrong is told and tried again; nothing of it is anybody else's trouble. It ends by a defect
    /// alone: a partition that nobody reads on would otherwise stand still for ever.
    pub async fn run(self) {
        let (parts, end) = loop {
            match self.begin().await {
                Ok(Some(begun)) => break begun,
                Ok(None) => {
                    let topic = format!("{}{TOPIC}", self.prefix);
                    warn!(topic, "there is no topic for journeys' figures, and none are kept: run `waypost init` again");
                    *self.state() = State::NoTopic;
                    tokio::time::sleep(PATIENCE).await;
                }
                Err(error) => {
                    warn!(%error, "what was counted of journeys cannot be read, trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        info!(partitions = parts.len(), "counting what journeys do");
        *self.state() = State::Counting(Arc::clone(&parts));
        let mut reading = JoinSet::new();
        for index in 0..parts.len() {
            let (reports, parts) = (self.clone(), Arc::clone(&parts));
            reading.spawn(async move {
                if let Some(part) = parts.get(index) {
                    reports.follow(part).await;
                }
            });
        }
        tokio::select! {
            Some(ended) = reading.join_next() => error!(?ended, "whoever counts a partition has ended: nothing is counted any more"),
            () = self.keep(Writer { producer: None, end }, &parts) => {}
        }
    }

    /// Writes every now and then; never ends.
    async fn keep(&self, mut writer: Writer, parts: &[Part]) {
        loop {
            join_all(parts.iter().map(|part| self.look(part))).await;
            tokio::time::sleep(self.every).await;
            self.write(&mut writer, parts).await;
        }
    }

    fn topic(&self, public: Public) -> String {
        format!("{}{}", self.prefix, public.topic())
    }

    /// All partitions with what was written of them, and where the topic of figures ends to which this process will write; none without
    /// that topic.
    async fn begin(&self) -> Result<Option<(Arc<[Part]>, Offset)>, LogError> {
        let topic = format!("{}{TOPIC}", self.prefix);
        let Some(written) = self.log.describe(&topic).await? else { return Ok(None) };
        let mut places: Vec<Place> = Vec::new();
        for public in Public::ALL {
            let known = self.log.describe(&self.topic(public)).await?.ok_or(LogError::Unknown)?;
            places.extend((0..known.partitions).map(|partition| (public, partition)));
        }
        let limits = Limits { hours: self.hours, cells: CELLS / places.len().max(1) };
        let mut folds: Vec<Fold> = places.into_iter().map(|place| Fold::new(place, self.life, limits)).collect();
        let (_, end) = self.log.watermarks(&topic, WRITTEN).await?;
        for partition in 0..written.partitions {
            take_in(&*self.log, &topic, partition, &mut folds).await?;
        }
        Ok(Some((folds.into_iter().map(Part::new).collect(), end)))
    }

    /// Counts one partition, from where it stands.
    async fn follow(&self, part: &Part) {
        let (public, partition) = part.place;
        let topic = self.topic(public);
        loop {
            let pause = match self.read(part, &topic, partition).await {
                Ok(()) => {
                    let offset = part.fold().next();
                    error!(topic, partition, offset, "a row is of no schema that this release knows: nothing behind it is counted");
                    PATIENCE
                }
                Err(error) => {
                    warn!(topic, partition, %error, "a public topic cannot be read, trying again");
                    PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Ends at a row that cannot be read.
    async fn read(&self, part: &Part, topic: &str, partition: u32) -> Result<(), LogError> {
        let (start, end) = self.log.watermarks(topic, partition).await?;
        let (next, gone, is_new) = part.fold().begin(start, end);
        if gone > 0 {
            error!(topic, partition, rows = gone, "rows fell to the topic's retention before they were counted: figures are too low");
        }
        if is_new {
            warn!(topic, partition, "the topic is another one than it was: its rows are counted from their beginning");
        }
        let mut tail = self.log.tail(topic, partition, next).await?;
        loop {
            let Some(delivery) = tail.next().await? else { continue };
            if part.fold().take(&delivery).is_err() {
                return Ok(());
            }
            part.is_through(delivery.appended);
        }
    }

    /// Finds out whether all that there is has been counted.
    async fn look(&self, part: &Part) {
        let (public, partition) = part.place;
        let asked = self.clock.now();
        if let Ok((_, end)) = self.log.watermarks(&self.topic(public), partition).await
            && part.fold().next() >= end
        {
            part.is_through(asked);
        }
    }

    /// Writes what has changed: of each partition its figures, and behind their acknowledgement its progress.
    async fn write(&self, writer: &mut Writer, parts: &[Part]) {
        match self.log.watermarks(&format!("{}{TOPIC}", self.prefix), WRITTEN).await {
            Ok((_, end)) => {
                if writer.is_anew(end) {
                    warn!("the topic for journeys' figures is another one than it was: everything is written again");
                    start_over(parts);
                }
            }
            Err(error) => {
                if error == LogError::Unknown {
                    // However far a new one has come when it is first seen, it has nothing of this.
                    start_over(parts);
                }
                warn!(%error, "what was counted of journeys cannot be written, trying again");
                return;
            }
        }
        for part in parts {
            let batch = part.fold().batch();
            let Some(batch) = batch else { continue };
            match self.append(writer, &batch.figures, &batch.progress).await {
                Ok(()) => part.fold().wrote(&batch),
                Err(error) => {
                    // A producer is of no use behind an error.
                    writer.producer = None;
                    part.fold().put_back(batch);
                    if matches!(error, AppendError::UnknownPartition { .. }) {
                        start_over(parts);
                    }
                    warn!(%error, "what was counted of journeys cannot be written, trying again");
                    return;
                }
            }
        }
    }

    async fn append(&self, writer: &mut Writer, figures: &[Pair], progress: &Pair) -> Result<(), AppendError> {
        let producer = match &writer.producer {
            Some(producer) => Arc::clone(producer),
            None => self.log.producer().map_err(|error| AppendError::Failed(error.to_string()))?,
        };
        writer.producer = Some(Arc::clone(&producer));
        let topic = format!("{}{TOPIC}", self.prefix);
        let append = |(key, payload): &Pair| {
            let (key, payload): (Option<Bytes>, Bytes) = (Some(key.clone()), payload.clone());
            producer.append(Append { topic: topic.clone(), partition: WRITTEN, key, headers: Vec::new(), payload })
        };
        for some in figures.chunks(AT_ONCE) {
            try_join_all(some.iter().map(append)).await?.into_iter().for_each(|offset| writer.has(offset));
        }
        append(progress).await.map(|offset| writer.has(offset))
    }
}

// === impl Writer ===

impl Writer {
    /// A record was acknowledged there.
    fn has(&mut self, offset: Offset) {
        self.end = self.end.max(offset + 1);
    }

    /// Whether a topic that ends there was deleted and made anew since it was last heard of: what it had is gone.
    fn is_anew(&mut self, end: Offset) -> bool {
        end < std::mem::replace(&mut self.end, end)
    }
}

/// The topic of figures has gone with what all had written; a new one has to have everything.
fn start_over(parts: &[Part]) {
    for part in parts {
        part.fold().start_over();
    }
}

/// Reads one partition of the figures' topic to its present end.
async fn take_in(log: &dyn Log, topic: &str, partition: u32, folds: &mut [Fold]) -> Result<(), LogError> {
    let (start, end) = log.watermarks(topic, partition).await?;
    if start == end {
        return Ok(());
    }
    let mut tail = log.tail(topic, partition, start).await?;
    while let Some(record) = tail.next().await? {
        let said = record.key.as_ref().and_then(|key| record::read(key, &record.payload));
        if let Some((place, said)) = said {
            let is_here = |fold: &&mut Fold| fold.place() == place;
            // A partition that the topic has no longer is nobody's.
            if let Some(fold) = folds.iter_mut().find(is_here) {
                fold.take_in(said);
            }
        }
        if record.offset + 1 >= end {
            break;
        }
    }
    Ok(())
}
