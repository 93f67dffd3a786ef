//! The Kafka door: every bad record has its reason, none stops a partition, and offsets are committed
//! only behind what is acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    avro::{self, EventInput},
    inbox,
    schemas::{Level, MemorySchemas, Registered, Schema, Schemas, SchemasError, Verdict},
};
use waypost_ingest::{EventsDoor, run_events_door};
use waypost_runtime::ports::{Delivery, LogError, Offset, Subscription};
use waypost_telemetry::metrics::DoorMetrics;
use waypost_types::trace::NoTraces;

use crate::support::{INSTALL, NOW, TestClock, TestDoor, keys};

/// A registry that can be away.
struct Registry {
    schemas: MemorySchemas,
    away: AtomicBool,
}

/// Partitions as lists, with committed offsets.
#[derive(Default)]
struct Topic {
    partitions: BTreeMap<u32, Vec<Bytes>>,
    position: BTreeMap<u32, usize>,
    committed: BTreeMap<u32, Offset>,
    headers: Vec<(String, Bytes)>,
}

struct Reader(Arc<Mutex<Topic>>);

#[async_trait]
impl Subscription for Reader {
    async fn next(&mut self) -> Result<Delivery, LogError> {
        loop {
            {
                let mut topic = self.0.lock().unwrap();
                let headers = topic.headers.clone();
                let Topic { partitions, position, .. } = &mut *topic;
                for (partition, values) in partitions {
                    let at = position.entry(*partition).or_default();
                    if let Some(value) = values.get(*at) {
                        *at += 1;
                        let offset = u64::try_from(*at - 1).unwrap();
                        return Ok(Delivery { partition: *partition, offset, appended: NOW, key: None, headers, payload: value.clone() });
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn commit(&mut self, partition: u32, next: Offset) -> Result<(), LogError> {
        self.0.lock().unwrap().committed.insert(partition, next);
        Ok(())
    }

    fn back(&mut self, partition: u32, offset: Offset) -> Result<(), LogError> {
        self.0.lock().unwrap().position.insert(partition, usize::try_from(offset).unwrap());
        Ok(())
    }
}

#[async_trait]
impl Schemas for Registry {
    async fn by_id(&self, id: u32) -> Result<Arc<Schema>, SchemasError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(SchemasError::Unavailable("away".to_owned()));
        }
        self.schemas.by_id(id).await
    }
    async fn by_guid(&self, guid: [u8; 16]) -> Result<Arc<Schema>, SchemasError> {
        self.schemas.by_guid(guid).await
    }
    async fn latest(&self, subject: &str) -> Result<Registered, SchemasError> {
        self.schemas.latest(subject).await
    }
    async fn check(&self, subject: &str, schema: &str) -> Result<Verdict, SchemasError> {
        self.schemas.check(subject, schema).await
    }
    async fn register(&self, subject: &str, schema: &str) -> Result<u32, SchemasError> {
        self.schemas.register(subject, schema).await
    }
    async fn subjects(&self) -> Result<Vec<String>, SchemasError> {
        self.schemas.subjects().await
    }
    async fn set_level(&self, subject: &str, level: Level) -> Result<(), SchemasError> {
        self.schemas.set_level(subject, level).await
    }
}

struct World {
    door: Arc<TestDoor>,
    registry: Arc<Registry>,
    topic: Arc<Mutex<Topic>>,
}

impl World {
    fn new(partitions: Vec<Vec<Bytes>>) -> Self {
        let partitions = (0..).zip(partitions).collect();
        let registry = Registry { schemas: MemorySchemas::with_committed(), away: AtomicBool::new(false) };
        Self {
            door: Arc::new(TestDoor::default()),
            registry: Arc::new(registry),
            topic: Arc::new(Mutex::new(Topic { partitions, ..Topic::default() })),
        }
    }

    /// Runs the door for a while.
    async fn run(&self) {
        let door = EventsDoor {
            schemas: Arc::<Registry>::clone(&self.registry),
            keys: keys(),
            door: Arc::<TestDoor>::clone(&self.door),
            dead_letters: Arc::<TestDoor>::clone(&self.door),
            clock: TestClock::new(),
            install: INSTALL,
            prefix: String::new(),
            traces: Arc::new(NoTraces),
            metrics: DoorMetrics::default(),
        };
        let run = run_events_door(Box::new(Reader(Arc::clone(&self.topic))), door);
        let turns = async {
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            result = run => panic!("the door ended: {result:?}"),
            () = turns => {}
        }
    }

    fn committed(&self) -> Vec<(u32, Offset)> {
        self.topic.lock().unwrap().committed.iter().map(|(p, o)| (*p, *o)).collect()
    }

    fn ids(&self) -> Vec<String> {
        self.door.events().into_iter().map(|e| e.message_id).collect()
    }
}

fn input(id: &str) -> EventInput {
    EventInput {
        message_id: id.to_owned(),
        name: "Order Completed".to_owned(),
        identifiers: vec![("email".to_owned(), "ana@shop.example".to_owned())],
        properties: r#"{"order_id": "o-1", "total": "60.00"}"#.to_owned(),
        source: "erp".to_owned(),
        workspace: 1,
        ..EventInput::default()
    }
}

fn framed(input: &EventInput) -> Bytes {
    let id = MemorySchemas::with_committed().versions("waypost.events.v1-value")[0].schema.id;
    avro::write(id, &input.encode())
}

#[tokio::test]
async fn events_are_appended_in_order_and_then_committed() {
    let world = World::new(vec![vec![framed(&input("a")), framed(&input("b"))], vec![framed(&input("c"))]]);
    world.run().await;
    assert_eq!(world.ids(), ["a", "b", "c"]);
    assert_eq!(world.committed(), [(0, 2), (1, 1)]);
    let event = world.door.events().remove(0);
    assert_eq!((event.source.as_str(), event.may_grant, event.received_at), ("erp", true, NOW.millis()));
    assert!(event.properties.unwrap().entries.iter().any(|p| p.name == "revenue_base"));
}

#[tokio::test]
async fn each_bad_record_is_set_aside_with_its_reason_and_the_partition_goes_on() {
    let bad = |change: fn(&mut EventInput)| {
        let mut event = input("m");
        change(&mut event);
        framed(&event)
    };
    let cases: Vec<(&str, Bytes)> = vec![
        ("NOT_FRAMED", Bytes::new()),
        ("NOT_FRAMED", Bytes::from_static(b"{\"json\": true}")),
        ("SCHEMA_UNKNOWN", avro::write(999, &input("m").encode())),
        ("DECODE_FAILED", avro::write(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
        ("DECODE_FAILED", framed(&input("m")).slice(..20)),
        ("MESSAGE_ID_MISSING", bad(|e| e.message_id = " ".to_owned())),
        ("NAME_MISSING", bad(|e| e.name = String::new())),
        ("NO_IDENTIFIER", bad(|e| e.identifiers.clear())),
        ("NO_IDENTIFIER", bad(|e| e.identifiers[0].1 = "noreply@shop.example".to_owned())),
        ("PROPERTY_MISSING", bad(|e| e.properties = "{}".to_owned())),
        ("SCHEMA_MISMATCH", bad(|e| e.properties = "[1]".to_owned())),
        ("SCHEMA_MISMATCH", bad(|e| e.identifiers[0].0 = "cookie".to_owned())),
        (
            "SCHEMA_MISMATCH",
            bad(|e| {
                e.identifiers = (0..11).map(|n| ("device".to_owned(), format!("d-{n}"))).collect();
            }),
        ),
        ("SCHEMA_MISMATCH", bad(|e| e.identifiers[0].0 = "custom:bonus".to_owned())),
        ("SCHEMA_MISMATCH", bad(|e| e.identifiers.push(("custom:".to_owned(), "7".to_owned())))),
        ("SCHEMA_MISMATCH", bad(|e| e.identifiers.push(("cookie".to_owned(), "7".to_owned())))),
        ("SCHEMA_MISMATCH", bad(|e| e.identifiers[0].0 = "custom".to_owned())),
        ("NO_IDENTIFIER", bad(|e| e.identifiers[0] = ("custom:card".to_owned(), "n/a".to_owned()))),
        ("NOT_YET_SUPPORTED", bad(|e| e.name = "Product Stock Changed".to_owned())),
        ("EVENT_TOO_LARGE", bad(|e| e.context = format!("{{\"a\": \"{}\"}}", "x".repeat(33_000)))),
        ("TOO_DEEP", bad(|e| e.properties = "[".repeat(10_000))),
        ("SOURCE_FORBIDDEN", bad(|e| e.source = "web".to_owned())),
        ("SOURCE_FORBIDDEN", bad(|e| e.source = "nobody".to_owned())),
        ("SOURCE_FORBIDDEN", bad(|e| e.workspace = 2)),
        ("SOURCE_FORBIDDEN", bad(|e| e.workspace = -1)),
    ];
    let mut values: Vec<_> = cases.iter().map(|(_, value)| value.clone()).collect();
    values.push(framed(&input("good")));
    let count = u64::try_from(values.len()).unwrap();
    let world = World::new(vec![values]);
    world.run().await;
    assert_eq!(world.door.reasons(), cases.iter().map(|(reason, _)| *reason).collect::<Vec<_>>());
    assert_eq!(world.ids(), ["good"]);
    assert_eq!(world.committed(), [(0, count)]);
    let letters = world.door.letters.lock().unwrap();
    assert_eq!((letters[1].original.as_ref(), letters[1].position), (&b"{\"json\": true}"[..], Some((0, 1))));
    let header = |(name, value): &(String, Bytes)| name == "position" && value == "0/1";
    assert!(letters[1].headers().iter().any(header), "where its key and headers are");
}

#[tokio::test]
async fn custom_identifiers_are_taken_as_far_as_they_are_declared_and_the_source_may_assert_them() {
    let of = |source: &str, identifiers: &[(&str, &str)]| {
        let identifiers = identifiers.iter().map(|(class, value)| ((*class).to_owned(), (*value).to_owned())).collect();
        framed(&EventInput { identifiers, source: source.to_owned(), ..input("m") })
    };
    let all = [("custom:crm", " K 7 "), ("custom:card", "2"), ("custom:card", "A1"), ("email", "ana@shop.example"), ("custom:card", "2 ")];
    let world = World::new(vec![vec![of("erp", &all), of("pos", &all), of("", &all[1..2]), of("erp", &[("custom:bonus", "7")])]]);
    world.run().await;
    let found: Vec<Vec<String>> = world
        .door
        .events()
        .iter()
        .map(|event| event.identifiers.iter().map(|i| format!("{} {} {}", i.class, i.custom, i.value)).collect())
        .collect();
    // By class, custom ones by name, and as they came.
    assert_eq!(found[0], ["2  ana@shop.example", "6 card 2", "6 card A1", "6 crm K 7"]);
    assert_eq!(found[1], ["2  ana@shop.example", "6 card 2", "6 card A1"]);
    assert_eq!(found[2], ["6 card 2"]);
    let quality = &world.door.events()[1].quality[0];
    assert_eq!((quality.path.as_str(), quality.reason.as_str()), ("identifiers[0].value", "SOURCE_FORBIDDEN"));
    let records = world.door.records.lock().unwrap();
    let body = inbox::IdentityEvent::decode(records[0].body.clone()).unwrap();
    let named: Vec<&str> = body.identifiers.iter().map(|node| node.custom.as_str()).collect();
    assert_eq!(named, ["", "card", "card", "crm"], "identity counts them by name");
    assert_eq!(records[2].key, body.identifiers[1].hash, "one card, whoever says it");
    let letters = world.door.letters.lock().unwrap();
    assert_eq!((letters[0].reason.as_str(), letters[0].path.as_str()), ("SCHEMA_MISMATCH", "identifiers[0].class"));
    assert!(letters[0].expected.contains("Policy.custom_identifiers") && !letters[0].expected.contains("bonus"), "{}", letters[0].expected);
}

#[tokio::test]
async fn an_undeclared_custom_identifier_costs_an_event_nothing_that_names_somebody_otherwise() {
    let of = |identifiers: &[(&str, &str)]| {
        let identifiers = identifiers.iter().map(|(class, value)| ((*class).to_owned(), (*value).to_owned())).collect();
        framed(&EventInput { identifiers, ..input("m") })
    };
    let (bonus, card, blocked) = (("custom:bonus", "7"), ("custom:card", "77"), ("user_id", "null"));
    let world = World::new(vec![vec![of(&[card, bonus]), of(&[blocked, bonus])]]);
    world.run().await;
    let events = world.door.events();
    let [taken] = &events[..] else { panic!("{events:?}") };
    assert_eq!(taken.identifiers.iter().map(|i| i.value.as_str()).collect::<Vec<_>>(), ["77"]);
    let noted: Vec<_> = taken.quality.iter().map(|q| (q.path.as_str(), q.reason.as_str())).collect();
    assert_eq!(noted, [("identifiers[1].class", "IDENTIFIER_UNDECLARED")]);
    let letters = world.door.letters.lock().unwrap();
    assert_eq!((letters[0].reason.as_str(), letters[0].path.as_str()), ("SCHEMA_MISMATCH", "identifiers[1].class"));
    assert!(letters[0].expected.contains("redrive") && letters[0].position == Some((0, 1)), "{}", letters[0].expected);
}

#[tokio::test]
async fn the_tenth_identifier_which_nothing_would_link_falls_and_is_noted() {
    let mut identifiers: Vec<_> = (0..9).map(|n| ("custom:card".to_owned(), format!("C-{n}"))).collect();
    identifiers.push(("email".to_owned(), "ana@shop.example".to_owned()));
    let world = World::new(vec![vec![framed(&EventInput { identifiers, ..input("m") })]]);
    world.run().await;
    let event = &world.door.events()[0];
    assert_eq!((event.identifiers.len(), event.identifiers[0].value.as_str()), (9, "ana@shop.example"));
    let noted: Vec<_> = event.quality.iter().map(|q| (q.path.as_str(), q.reason.as_str())).collect();
    assert_eq!(noted, [("identifiers[8].value", "IDENTIFIER_TOO_MANY")]);
}

#[tokio::test]
async fn an_event_of_no_named_source_grants_nothing() {
    let world = World::new(vec![vec![framed(&EventInput { source: String::new(), ..input("a") })]]);
    world.run().await;
    let event = world.door.events().remove(0);
    assert_eq!((event.source.as_str(), event.may_grant), ("", false));
}

#[tokio::test]
async fn a_registry_that_is_away_holds_the_partition() {
    let world = World::new(vec![vec![framed(&input("a"))], vec![Bytes::from_static(b"junk"), framed(&input("b"))]]);
    world.registry.away.store(true, Ordering::SeqCst);
    world.run().await;
    assert_eq!((world.ids().len(), world.door.reasons()), (0, vec!["NOT_FRAMED"]));
    assert_eq!(world.committed(), [(1, 1)]);
    world.registry.away.store(false, Ordering::SeqCst);
    world.run().await;
    assert_eq!(world.ids(), ["a", "b"]);
    assert_eq!(world.committed(), [(0, 1), (1, 2)]);
}

#[tokio::test]
async fn nothing_is_committed_that_is_not_acknowledged() {
    let world = World::new(vec![vec![framed(&input("a")), Bytes::from_static(b"junk")]]);
    world.door.away.store(true, Ordering::SeqCst);
    world.run().await;
    assert!(world.door.appends.load(Ordering::SeqCst) > 1, "it tries again");
    assert_eq!(world.committed(), []);
    world.door.away.store(false, Ordering::SeqCst);
    world.run().await;
    assert_eq!((world.ids(), world.door.reasons()), (vec!["a".to_owned()], vec!["NOT_FRAMED"]));
    assert_eq!(world.committed(), [(0, 2)]);
}

#[tokio::test]
async fn header_mode_is_read_and_apicurios_own_is_not() {
    let schema = MemorySchemas::with_committed().versions("waypost.events.v1-value").remove(0).schema;
    let header = [&[1][..], &MemorySchemas::guid(&schema)].concat();
    let world = World::new(vec![vec![input("a").encode()]]);
    world.topic.lock().unwrap().headers = vec![("__value_schema_id".to_owned(), header.into())];
    world.run().await;
    assert_eq!(world.ids(), ["a"]);

    let world = World::new(vec![vec![framed(&input("a"))]]);
    world.topic.lock().unwrap().headers = vec![("apicurio.value.globalId".to_owned(), Bytes::from_static(&[0; 8]))];
    world.run().await;
    assert_eq!(world.door.reasons(), ["NOT_FRAMED"]);
}
