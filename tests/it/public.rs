//! The public topics as somebody else's program sees them: Avro by the registry's schema id, each row once.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value as Avro, writer::datum::GenericDatumWriter};
use bytes::Bytes;
use serde_json::{Map, Value as Json, json};
use tokio::runtime::Runtime;
use waypost_kafka::KafkaLog;
use waypost_runtime::ports::{Append, Delivery, Log as _};

use crate::{http::Request, stack};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

const PARTITIONS: u32 = 8;

/// Schemas by id, from a registry.
#[derive(Debug)]
pub(crate) struct Registry {
    port: u16,
    // Of the installation, before every topic and so before every subject.
    prefix: String,
    known: Mutex<BTreeMap<u32, Arc<Schema>>>,
}

/// Everything that comes to a topic.
pub(crate) struct Reader {
    rows: Arc<Mutex<Vec<Delivery>>>,
}

/// Writes to a topic, a record at a time.
pub(crate) struct Writer {
    log: KafkaLog,
    topic: String,
}

// === impl Registry ===

impl Registry {
    pub(crate) fn at(port: u16, prefix: &str) -> Self {
        Self { port, prefix: prefix.to_owned(), known: Mutex::default() }
    }

    fn schema(&self, id: u32) -> Arc<Schema> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let schema = known.entry(id).or_insert_with(|| {
            let answer = self.get(&format!("/schemas/ids/{id}"));
            Arc::new(Schema::parse_str(answer["schema"].as_str().unwrap()).unwrap())
        });
        Arc::clone(schema)
    }

    fn get(&self, path: &str) -> Json {
        let answer = Request::get(path).send(self.port).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// A framed row, by the schema it names.
    pub(crate) fn decode(&self, payload: &[u8]) -> Json {
        let [0, a, b, c, d, body @ ..] = payload else { panic!("not framed: {payload:?}") };
        let schema = self.schema(u32::from_be_bytes([*a, *b, *c, *d]));
        let mut rest = body;
        let value = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut rest).unwrap();
        assert!(rest.is_empty(), "bytes left over");
        plain(value)
    }

    /// An event for `waypost.events.v1`, framed, by the newest schema of its subject.
    pub(crate) fn event(&self, event: &Event<'_>) -> Bytes {
        let newest = self.get(&format!("/subjects/{}waypost.events.v1-value/versions/latest", self.prefix));
        let id = u32::try_from(newest["id"].as_u64().unwrap()).unwrap();
        let schema = self.schema(id);
        let text = |t: &str| Avro::String(t.to_owned());
        let identifiers = event
            .identifiers
            .iter()
            .map(|(class, value)| Avro::Record(vec![("class".to_owned(), text(class)), ("value".to_owned(), text(value))]))
            .collect();
        let fields = [
            ("message_id", text(event.message_id)),
            ("name", text(event.name)),
            ("identifiers", Avro::Array(identifiers)),
            ("event_time", Avro::Union(0, Box::new(Avro::Null))),
            ("properties", text(&event.properties.to_string())),
            ("context", text("")),
            ("traits", text(&event.traits.to_string())),
            ("source", text(event.source)),
            ("historical", Avro::Boolean(false)),
            ("workspace", Avro::Long(1)),
        ];
        let record = Avro::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        let body = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(record).unwrap();
        [&[0][..], &id.to_be_bytes(), &body].concat().into()
    }
}

/// An event as a shop's own program writes it.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub(crate) message_id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) identifiers: &'a [(&'a str, &'a str)],
    pub(crate) properties: Json,
    pub(crate) traits: Json,
    pub(crate) source: &'a str,
}

// === impl Event ===

impl Default for Event<'_> {
    fn default() -> Self {
        Self { message_id: "", name: "", identifiers: &[], properties: json!({}), traits: json!({}), source: "kafka" }
    }
}

// === impl Reader ===

impl Reader {
    /// Reads `topic` from its start, in the background, through restarts of the broker.
    pub(crate) fn of(topic: &str) -> Self {
        let rows: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        for partition in 0..PARTITIONS {
            let (rows, topic) = (Arc::clone(&rows), topic.to_owned());
            RUNTIME.spawn(async move {
                let log = KafkaLog::new(&stack::variable("WAYPOST_TEST_KAFKA"), Vec::new()).unwrap();
                let mut next = 0;
                loop {
                    if let Ok(mut tail) = log.tail(&topic, partition, next).await {
                        while let Ok(delivery) = tail.next().await {
                            if let Some(delivery) = delivery {
                                next = delivery.offset + 1;
                                rows.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
                            }
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            });
        }
        Self { rows }
    }

    /// As it lies in the topic.
    pub(crate) fn raw(&self) -> Vec<Delivery> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        rows.sort_by_key(|row| (row.partition, row.offset));
        rows
    }

    /// Each row once: of one source and partition the next number only, as `ce_sequence` promises.
    pub(crate) fn rows(&self, registry: &Registry) -> Vec<Json> {
        let mut last: BTreeMap<(u32, String), u64> = BTreeMap::new();
        let mut once = Vec::new();
        for row in self.raw() {
            let number = header(&row, "ce_sequence").parse::<u64>().unwrap();
            let last = last.entry((row.partition, header(&row, "ce_source"))).or_default();
            if number == *last + 1 {
                *last = number;
                once.push(registry.decode(&row.payload));
            }
        }
        once
    }
}

/// A header as text; empty where there is none.
pub(crate) fn header(row: &Delivery, name: &str) -> String {
    row.headers.iter().find(|(n, _)| n == name).map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
}

// === impl Writer ===

impl Writer {
    pub(crate) fn of(topic: &str) -> Self {
        Self { log: KafkaLog::new(&stack::variable("WAYPOST_TEST_KAFKA"), Vec::new()).unwrap(), topic: topic.to_owned() }
    }

    /// Answers when the broker has all of them, in this order.
    pub(crate) fn write(&self, payloads: impl IntoIterator<Item = Bytes>) {
        let producer = self.log.producer().unwrap();
        for payload in payloads {
            let append = Append { topic: self.topic.clone(), partition: 0, key: None, headers: Vec::new(), payload };
            RUNTIME.block_on(producer.append(append)).unwrap();
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "Avro's types, of which the committed schemas use these")]
fn plain(value: Avro) -> Json {
    match value {
        Avro::Record(fields) => Json::Object(fields.into_iter().map(|(name, value)| (name, plain(value))).collect::<Map<_, _>>()),
        Avro::String(text) => Json::String(text),
        Avro::Long(n) | Avro::TimestampMillis(n) => json!(n),
        Avro::Boolean(b) => json!(b),
        other => panic!("{other:?}"),
    }
}
