//! Writes events to `waypost.events.v1`: a JSON object a line on standard input, a record each.

use std::{
    env,
    error::Error,
    io,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use apache_avro::{Schema, types::Value as Avro, writer::datum::GenericDatumWriter};
use rdkafka::{
    ClientConfig, ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};
use serde_json::{Value as Json, json};

const TOPIC: &str = "waypost.events.v1";
/// A Source of kind kafka: what it may say is in `journeys/shop.yaml`.
const SOURCE: &str = "kafka";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A producer of events. Sending one again under the same message id changes nothing.
struct Events {
    kafka: ThreadedProducer<Reports>,
    schema_id: u32,
    schema: Schema,
}

/// Hears what became of each record.
#[derive(Default)]
struct Reports {
    failed: AtomicUsize,
}

impl Events {
    /// One that writes by the newest version of the subject; it registers none of its own.
    fn new(brokers: &str, registry: &str) -> Result<Self> {
        let latest: Json = ureq::get(format!("{registry}/subjects/{TOPIC}-value/versions/latest")).call()?.body_mut().read_json()?;
        let kafka = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            // acknowledged is what every replica in sync has
            .set("acks", "all")
            // a retry of the client neither doubles nor reorders
            .set("enable.idempotence", "true")
            // as Java's: one person, one partition, whoever writes
            .set("partitioner", "murmur2_random")
            .create_with_context(Reports::default())?;
        Ok(Self {
            kafka,
            schema_id: latest["id"].as_u64().ok_or("the registry's answer has no id")?.try_into()?,
            schema: Schema::parse_str(latest["schema"].as_str().ok_or("the registry's answer has no schema")?)?,
        })
    }

    /// Hands an event over; [`Self::close`] waits until the broker has it.
    fn send(&self, event: &Json) -> Result<()> {
        let value = self.framed(&envelope(event)?)?;
        let mut record = BaseRecord::to(TOPIC).payload(&value);
        // One person, one partition: her events are read in the order in which they were written.
        record.key = event["identifiers"][0]["value"].as_str();
        while let Err((error, again)) = self.kafka.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            // The client's own queue is full: wait until some has gone.
            std::thread::sleep(Duration::from_millis(100));
            record = again;
        }
        Ok(())
    }

    /// Confluent's framing: byte 0, the schema's id, the Avro binary.
    fn framed(&self, event: &Json) -> Result<Vec<u8>> {
        // Resolving fills in the defaults of fields that this program does not know.
        let event = Avro::try_from(event.clone())?.resolve(&self.schema)?;
        let avro = GenericDatumWriter::builder(&self.schema).build()?.write_value_to_vec(event)?;
        Ok([&[0][..], &self.schema_id.to_be_bytes(), &avro].concat())
    }

    /// Waits for the broker; how many events it does not have.
    fn close(self) -> Result<usize> {
        self.kafka.flush(Duration::from_secs(60))?;
        Ok(self.kafka.context().failed.load(Ordering::Relaxed))
    }
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // What fails here was tried for `delivery.timeout.ms`: keep the event, and send it again under its message id.
        if let Err((error, _)) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            eprintln!("not written: {error}");
        }
    }
}

/// The record of an event as JSON; absent fields have their schema's default.
fn envelope(event: &Json) -> Result<Json> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let mut record = json!({
        "message_id": event["message_id"].as_str().unwrap_or_default(),
        "name": event["name"].as_str().unwrap_or_default(),
        "identifiers": event.get("identifiers").unwrap_or(&json!([])),
        // When it happened, and not when it is sent: an outbox keeps it.
        "event_time": event["event_time"].as_i64().unwrap_or(now),
        "source": SOURCE,
    });
    for name in ["properties", "traits", "context"] {
        if let Some(object) = event.get(name) {
            record[name] = Json::String(object.to_string());
        }
    }
    Ok(record)
}

fn main() -> Result<ExitCode> {
    let events = Events::new(&env::var("KAFKA_BROKERS")?, &env::var("SCHEMA_REGISTRY_URL")?)?;
    let mut count = 0;
    for line in io::stdin().lines() {
        events.send(&serde_json::from_str(&line?)?)?;
        count += 1;
    }
    let failed = events.close()?;
    println!("{} of {count} written", count - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
