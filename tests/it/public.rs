//! The public topics as somebody else's program sees them: Avro by the registry's schema id, each row once.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value as Avro, writer::datum::GenericDatumWriter};
use bytes::Bytes;
use serde_json::{Map, Value as Json, json};
use tokio::{runtime::Runtime, task::AbortHandle};
use waypost_kafka::{Connection, KafkaLog};
use waypost_runtime::ports::{Append, Delivery, Log as _};

use crate::{http::Request, stack};

/// For the little that is asynchronous here.
pub(crate) static RUNTIME: LazyLock<Runtime> =
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

/// Everything that comes to a topic, until this is dropped.
pub(crate) struct Reader {
    rows: Arc<Mutex<Vec<Delivery>>>,
    reading: Vec<AbortHandle>,
}

/// Writes to a topic, a record at a time.
pub(crate) struct Writer {
    log: KafkaLog,
    topic: String,
}

/// Any topic, as it lies there.
pub(crate) struct Topic {
    log: KafkaLog,
    name: String,
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

    /// The newest schema of `waypost.events.v1`: its id, and its text.
    pub(crate) fn of_events(&self) -> (u32, String) {
        let newest = self.get(&format!("/subjects/{}waypost.events.v1-value/versions/latest", self.prefix));
        (u32::try_from(newest["id"].as_u64().unwrap()).unwrap(), newest["schema"].as_str().unwrap().to_owned())
    }

    /// The id that the next new schema will have.
    pub(crate) fn next_id(&self) -> u32 {
        let is_there = |id: &u32| Request::get(&format!("/schemas/ids/{id}")).send(self.port).unwrap().status == 200;
        (1..1_000).find(|id| !is_there(id)).unwrap()
    }

    /// Registers a schema; its id.
    pub(crate) fn register(&self, subject: &str, schema: &str) -> u32 {
        let answer =
            Request::post(&format!("/subjects/{subject}/versions"), json!({"schema": schema}).to_string()).send(self.port).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        u32::try_from(answer.json()["id"].as_u64().unwrap()).unwrap()
    }

    /// An event for `waypost.events.v1`, framed, by the newest schema of its subject.
    pub(crate) fn event(&self, event: &Event<'_>) -> Bytes {
        let (id, _) = self.of_events();
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
            ("workspace", Avro::Long(event.workspace)),
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
    /// Its number.
    pub(crate) workspace: i64,
}

// === impl Event ===

impl Default for Event<'_> {
    fn default() -> Self {
        Self { message_id: "", name: "", identifiers: &[], properties: json!({}), traits: json!({}), source: "kafka", workspace: 1 }
    }
}

// === impl Reader ===

impl Reader {
    /// Reads `topic` from its start, in the background, through restarts of the broker.
    pub(crate) fn of(topic: &str) -> Self {
        let rows: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        let read = |partition| {
            let (rows, topic) = (Arc::clone(&rows), topic.to_owned());
            let task = RUNTIME.spawn(async move {
                let log = KafkaLog::new(&Connection::new(stack::variable("WAYPOST_TEST_KAFKA"))).unwrap();
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
            task.abort_handle()
        };
        let reading = (0..PARTITIONS).map(read).collect();
        Self { rows, reading }
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

impl Drop for Reader {
    fn drop(&mut self) {
        self.reading.iter().for_each(AbortHandle::abort);
    }
}

/// A header as text; empty where there is none.
pub(crate) fn header(row: &Delivery, name: &str) -> String {
    row.headers.iter().find(|(n, _)| n == name).map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
}

// === impl Writer ===

impl Writer {
    pub(crate) fn of(topic: &str) -> Self {
        Self { log: KafkaLog::new(&Connection::new(stack::variable("WAYPOST_TEST_KAFKA"))).unwrap(), topic: topic.to_owned() }
    }

    /// Answers when the broker has all of them, in this order.
    pub(crate) fn write(&self, payloads: impl IntoIterator<Item = Bytes>) {
        let producer = self.log.producer().unwrap();
        for payload in payloads {
            let append = Append { topic: self.topic.clone(), partition: 0, key: None, headers: Vec::new(), payload };
            RUNTIME.block_on(producer.append(append)).unwrap();
        }
    }

    /// Many at once, under the same headers; each goes where its number says.
    pub(crate) fn write_many(&self, headers: &[(&str, &'static str)], payloads: impl IntoIterator<Item = (u32, Bytes)>) {
        let producer = self.log.producer().unwrap();
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), Bytes::from_static(value.as_bytes()))).collect();
        let append = |(partition, payload)| {
            producer.append(Append { topic: self.topic.clone(), partition, key: None, headers: headers.clone(), payload })
        };
        let queued: Vec<_> = payloads.into_iter().map(append).collect();
        for written in queued {
            RUNTIME.block_on(written).unwrap();
        }
    }

    /// As a producer does that has a key and says more in headers.
    pub(crate) fn write_at(&self, partition: u32, key: &'static str, headers: &[(&str, &'static str)], payload: Bytes) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), Bytes::from_static(value.as_bytes()))).collect();
        let append = Append { topic: self.topic.clone(), partition, key: Some(Bytes::from_static(key.as_bytes())), headers, payload };
        RUNTIME.block_on(self.log.producer().unwrap().append(append)).unwrap();
    }
}

// === impl Topic ===

impl Topic {
    pub(crate) fn of(name: &str) -> Self {
        Self { log: KafkaLog::new(&Connection::new(stack::variable("WAYPOST_TEST_KAFKA"))).unwrap(), name: name.to_owned() }
    }

    /// Offset of the record to come.
    pub(crate) fn end(&self, partition: u32) -> u64 {
        // a broker that has just come back does not answer at once
        stack::eventually("the log", || RUNTIME.block_on(self.log.watermarks(&self.name, partition)).ok()).1
    }

    /// What lies there from an offset to the present end.
    pub(crate) fn rows(&self, partition: u32, from: u64) -> Vec<Delivery> {
        let end = self.end(partition);
        let mut rows = Vec::new();
        RUNTIME.block_on(async {
            let mut tail = self.log.tail(&self.name, partition, from).await.unwrap();
            while rows.last().map_or(from, |row: &Delivery| row.offset + 1) < end {
                rows.extend(tail.next().await.unwrap());
            }
        });
        rows
    }

    /// Appends bytes.
    pub(crate) fn append(&self, partition: u32, payload: Bytes) {
        let append = Append { topic: self.name.clone(), partition, key: None, headers: Vec::new(), payload };
        RUNTIME.block_on(self.log.producer().unwrap().append(append)).unwrap();
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
