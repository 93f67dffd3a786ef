//! The Kafka door: `waypost.events.v1` (PROTOCOL §7.1).
//!
//! Records are taken in batches; a batch's events are appended in order by one call, its bad records
//! set aside, and only then the group's offsets committed. So a commit always stands behind the
//! contiguous prefix of what is acknowledged; after a failure the batch is taken again, and repeats
//! fall to the message-id window.

use std::{collections::BTreeMap, convert::Infallible, fmt, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, future::try_join_all};
use waypost_codec::{
    avro::{self, EventInput, FramingError},
    frame::Record,
    schemas::{SchemaCache, Schemas, SchemasError},
};
use waypost_runtime::{
    door::{Door, DoorError},
    ports::{Clock, Delivery, Log, LogError, Offset, Subscription},
};
use waypost_telemetry::metrics::{DoorMetrics, SourceKind};
use waypost_types::{
    Role, Span, WorkspaceId,
    trace::{SpanKind, Traces},
};

use crate::{DeadLetter, DeadLetters, Env, Keys, Reason, Rejection, kafka_event, told::Kept};

/// What the Kafka door works with.
pub struct EventsDoor {
    /// Where writers' schemas are.
    pub schemas: Arc<dyn Schemas>,
    /// Who the named sources are.
    pub keys: Arc<dyn Keys>,
    /// Where events go.
    pub door: Arc<dyn Door>,
    /// Where bad records go.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// For waiting, and for what is told of traces.
    pub clock: Arc<dyn Clock>,
    /// Key of the identifiers' hashes.
    pub install: [u8; 32],
    /// Of the installation's topics.
    pub prefix: String,
    /// Decides which events are traced.
    pub traces: Arc<dyn Traces>,
    /// Where it is counted what comes.
    pub metrics: DoorMetrics,
}

/// What becomes of one delivery.
enum Judged {
    Append(Record),
    SetAside(DeadLetter),
    /// The registry is away: its partition waits here.
    Hold(String),
}

const MAX_RECORDS: usize = 500;
const MAX_BYTES: usize = 256 * 1024;
const PAUSE: Span = Span::from_secs(1);

/// Subscribes to `topic` as `group` and runs the door, again whenever the log was away. Dropping it loses nothing.
///
/// # Errors
/// [`LogError::OutOfRange`]: events fell to the topic's retention before they were read. Nobody resets that in silence.
pub async fn serve_events_door(log: Arc<dyn Log>, topic: &str, group: &str, door: EventsDoor) -> Result<Infallible, LogError> {
    loop {
        let ended = match log.subscribe(topic, group).await {
            Ok(subscription) => door.run(subscription).await,
            Err(error) => Err(error),
        };
        match ended {
            Err(LogError::OutOfRange) => return Err(LogError::OutOfRange),
            Err(error @ (LogError::Unavailable(_) | LogError::Unknown)) => tracing::warn!(%error, "events door: subscribing again"),
        }
        door.pause().await;
    }
}

/// Runs on one subscription. Dropping it loses nothing.
///
/// # Errors
/// A [`LogError`] after which only a new subscription, from the committed offsets, is sure to lose nothing.
pub async fn run_events_door(subscription: Box<dyn Subscription>, door: EventsDoor) -> Result<Infallible, LogError> {
    door.run(subscription).await
}

/// The next record, those that are here already, and the error behind them.
async fn take(subscription: &mut dyn Subscription) -> Result<(Vec<Delivery>, Option<LogError>), LogError> {
    let first = subscription.next().await?;
    let mut bytes = first.payload.len();
    let mut batch = vec![first];
    while batch.len() < MAX_RECORDS && bytes < MAX_BYTES {
        match subscription.next().now_or_never() {
            Some(Ok(delivery)) => {
                bytes += delivery.payload.len();
                batch.push(delivery);
            }
            // It may not be said twice: first what is here, then the error.
            Some(Err(error)) => return Ok((batch, Some(error))),
            None => break,
        }
    }
    Ok((batch, None))
}

type Offsets = BTreeMap<u32, Offset>;

// === impl EventsDoor ===

impl EventsDoor {
    async fn run(&self, mut subscription: Box<dyn Subscription>) -> Result<Infallible, LogError> {
        let mut cache = SchemaCache::default();
        loop {
            let (batch, error) = match take(subscription.as_mut()).await {
                Ok(taken) => taken,
                // Nothing was taken, so nothing can be lost by asking again.
                Err(error @ LogError::Unavailable(_)) => (Vec::new(), Some(error)),
                Err(error @ (LogError::OutOfRange | LogError::Unknown)) => return Err(error),
            };
            let (next, held) = self.deal(batch, &mut cache).await;
            for (partition, offset) in next {
                // A commit that fails is made good by the next one.
                if let Err(error) = subscription.commit(partition, offset).await {
                    tracing::warn!(%error, partition, "offset not committed");
                }
            }
            // Behind a record that does not come again, a later commit would lose it.
            for (partition, offset) in &held {
                subscription.back(*partition, *offset)?;
            }
            match &error {
                Some(LogError::Unavailable(why)) => tracing::warn!(why, "events topic unavailable"),
                Some(fatal @ (LogError::OutOfRange | LogError::Unknown)) => return Err(fatal.clone()),
                None => {}
            }
            if error.is_some() || !held.is_empty() {
                self.pause().await;
            }
        }
    }

    /// Deals with a batch; by partition: up to where it is dealt with, and from where it must come again.
    async fn deal(&self, batch: Vec<Delivery>, cache: &mut SchemaCache) -> (Offsets, Offsets) {
        let (mut first, mut next, mut held) = (Offsets::new(), Offsets::new(), Offsets::new());
        let (mut records, mut letters) = (Vec::new(), Vec::new());
        for delivery in batch {
            let (partition, offset) = (delivery.partition, delivery.offset);
            if held.contains_key(&partition) {
                continue;
            }
            match self.judge(&delivery, cache).await {
                Judged::Append(record) => records.push((Role::Identity, record)),
                Judged::SetAside(letter) => letters.push(letter),
                Judged::Hold(error) => {
                    tracing::warn!(error, partition, offset, "schema registry away: partition held");
                    held.insert(partition, offset);
                    continue;
                }
            }
            first.entry(partition).or_insert(offset);
            next.insert(partition, offset + 1);
        }
        if let Err(error) = self.store(records, letters).await {
            tracing::warn!(%error, "batch of events not appended");
            held.extend(first);
            return (Offsets::new(), held);
        }
        (next, held)
    }

    async fn store(&self, records: Vec<(Role, Record)>, letters: Vec<DeadLetter>) -> Result<(), DoorError> {
        if !records.is_empty() {
            let taken = records.len() as u64;
            self.door.append(records).await?;
            self.metrics.received(SourceKind::Kafka, "event", taken);
        }
        let refused: Vec<Reason> = letters.iter().map(|letter| letter.reason).collect();
        let aside = letters.into_iter().map(|letter| {
            tracing::debug!(reason = %letter.reason, source = %letter.source, "event set aside");
            self.dead_letters.set_aside(letter)
        });
        try_join_all(aside).await?;
        for reason in refused {
            self.metrics.rejected(reason.as_str());
            self.metrics.set_aside(reason.as_str());
        }
        Ok(())
    }

    async fn judge(&self, delivery: &Delivery, cache: &mut SchemaCache) -> Judged {
        let letter = |workspace, source: &str, rejection: Rejection| {
            Judged::SetAside(DeadLetter {
                reason: rejection.reason,
                door: "kafka",
                at: delivery.appended,
                workspace,
                source: source.to_owned(),
                path: rejection.path,
                expected: rejection.expected,
                position: Some((delivery.partition, delivery.offset)),
                original: delivery.payload.clone(),
            })
        };
        let nobody = WorkspaceId::new(0);
        let refuse = |reason, expected: String| letter(nobody, "", Rejection::new(reason, "", expected));
        let (reference, body) = match avro::read(&delivery.headers, &delivery.payload) {
            Ok(framed) => framed,
            Err(error @ (FramingError::NotFramed | FramingError::ApicurioHeaders)) => return refuse(Reason::NotFramed, error.to_string()),
        };
        let schema = match cache.schema(self.schemas.as_ref(), reference).await {
            Ok(schema) => schema,
            Err(SchemasError::NotFound) => return refuse(Reason::SchemaUnknown, "a schema that the registry knows".to_owned()),
            Err(SchemasError::Invalid(_) | SchemasError::Incompatible(_)) => {
                return refuse(Reason::DecodeFailed, "an Avro schema".to_owned());
            }
            Err(SchemasError::Unavailable(error)) => return Judged::Hold(error),
        };
        // The decoder's own words may quote the record.
        let Ok(input) = EventInput::decode(&schema, &body) else {
            return refuse(Reason::DecodeFailed, "the bytes of an event by the writer's schema".to_owned());
        };
        let workspace = WorkspaceId::new(u32::try_from(input.workspace).unwrap_or(0));
        let Some(rights) = self.keys.by_source(workspace, &input.source).filter(|r| r.kind == "kafka") else {
            return letter(workspace, "", Rejection::new(Reason::SourceForbidden, "source", "the name of a Source of kind kafka"));
        };
        let env = Env { install: &self.install, now: delivery.appended };
        match kafka_event::read(input, &rights, env) {
            Ok(accepted) => Judged::Append(Record { trace: self.traced(delivery), ..accepted.record }),
            Err(rejection) => letter(workspace, &rights.source, rejection),
        }
    }

    /// The place of the record's trace, if it is kept.
    fn traced(&self, delivery: &Delivery) -> Bytes {
        let named = |name: &str| delivery.headers.iter().find(|(header, _)| header == name).and_then(|(_, v)| std::str::from_utf8(v).ok());
        let asked = named("traceparent").or_else(|| named("ce_traceparent"));
        let now = self.clock.now();
        let name = || format!("process {}waypost.events.v1", self.prefix);
        let Some(kept) = Kept::begin(&self.traces, &self.prefix, asked, true, SpanKind::Consumer, name, now) else { return Bytes::new() };
        let sent = kept.sent();
        kept.end(1, false, now);
        sent
    }

    async fn pause(&self) {
        self.clock.sleep_until(self.clock.now().plus(PAUSE)).await;
    }
}

impl fmt::Debug for EventsDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventsDoor").finish_non_exhaustive()
    }
}
