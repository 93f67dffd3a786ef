//! Tails of the public topics: the caller's workspace alone, each row once and in order, bounded, gone with the client.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use waypost_codec::{
    avro::{self, EventInput},
    public::{Decision, Message},
    schemas::{Level, MemorySchemas, Registered, Schema, Schemas, SchemasError, Verdict},
};
use waypost_proto::control::{
    self as pb, decision_service_client::DecisionServiceClient, event_service_client::EventServiceClient,
    message_service_client::MessageServiceClient,
};
use waypost_runtime::ports::Append;
use waypost_types::Timestamp;

use super::town::{Entity, NOW, Town, with};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Desk {
    town: Town,
    channel: Channel,
}

// === impl Desk ===

impl Desk {
    async fn open() -> Self {
        let town = Town::new(Entity::Known).await;
        for topic in [Decision::TOPIC, Message::TOPIC, EventInput::TOPIC] {
            town.log.create_plain(topic, 2);
        }
        let channel = town.open(town.gate(&[("ana", "\"privacy\"", "\"default\""), ("olga", "\"operator\"", "\"default\"")])).await;
        Self { town, channel }
    }

    fn write(&self, topic: &str, partition: u32, number: u64, payload: Bytes) {
        let header = |name: &str, value: String| (name.to_owned(), Bytes::from(value));
        let headers = vec![header("ce_source", format!("/waypost/orchestrator/{partition}")), header("ce_sequence", number.to_string())];
        self.town.log.append(Append { topic: topic.to_owned(), partition, key: None, headers, payload }).unwrap();
    }

    /// A decision at so many ms, under a number of its partition's source.
    fn decide(&self, partition: u32, number: u64, workspace: u32, at: i64, journey: &str, profile: &str) {
        let (journey, profile) = (journey.to_owned(), profile.to_owned());
        let row = Decision { workspace, at: Timestamp::from_millis(at), journey, profile, key: at.to_string(), ..Decision::default() };
        self.write(Decision::TOPIC, partition, number, avro::write(1, &row.encode()));
    }

    async fn tail(&self, asked: pb::TailDecisionsRequest) -> Result<Streaming<pb::DecisionRow>, Status> {
        let asked = pb::TailDecisionsRequest { parent: "workspaces/default".to_owned(), ..asked };
        Ok(DecisionServiceClient::new(self.channel.clone()).tail_decisions(with("ana", asked)).await?.into_inner())
    }

    /// Keys of all rows until the end.
    async fn keys(&self, asked: pb::TailDecisionsRequest) -> Vec<String> {
        let mut rows = self.tail(asked).await.unwrap();
        let mut keys = Vec::new();
        while let Some(row) = next(&mut rows).await.unwrap() {
            keys.push(row.key);
        }
        keys
    }
}

async fn next<T>(rows: &mut Streaming<T>) -> Result<Option<T>, Status> {
    tokio::time::timeout(PATIENCE, rows.message()).await.expect("the tail goes on or ends")
}

fn all() -> pb::TailDecisionsRequest {
    pb::TailDecisionsRequest { since: Some(0), ..pb::TailDecisionsRequest::default() }
}

#[tokio::test]
async fn rows_come_by_their_time_each_once_and_of_one_workspace() {
    let desk = Desk::open().await;
    desk.decide(0, 1, 1, 10, "cart", "prf_a");
    desk.decide(0, 2, 2, 15, "cart", "prf_foreign");
    desk.decide(0, 3, 1, 30, "cart", "prf_a");
    desk.decide(0, 3, 1, 30, "cart", "prf_a");
    desk.decide(1, 1, 1, 20, "welcome", "prf_b");
    assert_eq!(desk.keys(all()).await, ["10", "20", "30"]);
    assert_eq!(desk.keys(pb::TailDecisionsRequest { journey: "cart".into(), ..all() }).await, ["10", "30"]);
    assert_eq!(desk.keys(pb::TailDecisionsRequest { profile: "prf_b".into(), ..all() }).await, ["20"]);
    assert_eq!(desk.keys(pb::TailDecisionsRequest { profile: "prf_foreign".into(), ..all() }).await, [""; 0]);
    assert_eq!(desk.keys(pb::TailDecisionsRequest { limit: 2, ..all() }).await, ["10", "20"]);
    assert_eq!(desk.keys(pb::TailDecisionsRequest { since: None, ..all() }).await, [""; 0], "nothing comes from now on");
    assert_eq!(desk.keys(pb::TailDecisionsRequest { since: Some(NOW + 1), ..all() }).await, [""; 0], "all of it was written before");
}

#[tokio::test]
async fn who_follows_hears_what_comes_and_is_told_when_the_server_goes() {
    let desk = Desk::open().await;
    desk.decide(0, 1, 1, 10, "cart", "prf_a");
    let mut rows = desk.tail(pb::TailDecisionsRequest { follow: true, ..all() }).await.unwrap();
    assert_eq!(next(&mut rows).await.unwrap().unwrap().key, "10");
    desk.decide(1, 1, 2, 11, "cart", "prf_foreign");
    desk.decide(1, 2, 1, 12, "cart", "prf_a");
    assert_eq!(next(&mut rows).await.unwrap().unwrap().key, "12");
    desk.town.control.close();
    assert_eq!(next(&mut rows).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(desk.tail(all()).await.unwrap_err().code(), Code::ResourceExhausted, "none begins any more");
}

#[tokio::test]
async fn so_many_at_once_and_the_place_of_who_has_gone_is_free() {
    let desk = Desk::open().await;
    let follow = || pb::TailDecisionsRequest { follow: true, ..all() };
    let mut tails = Vec::new();
    for _ in 0..8 {
        tails.push(desk.tail(follow()).await.unwrap());
    }
    assert_eq!(desk.tail(follow()).await.unwrap_err().code(), Code::ResourceExhausted);
    drop(tails.pop());
    let again = async {
        while desk.tail(follow()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("there is room again");
}

#[tokio::test]
async fn a_tail_ends_when_its_client_waits_no_longer() {
    let desk = Desk::open().await;
    let asked = pb::TailDecisionsRequest { parent: "workspaces/default".to_owned(), follow: true, ..pb::TailDecisionsRequest::default() };
    let mut request: Request<_> = with("ana", asked);
    // as a client's own deadline travels; the client's library would end it itself
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let answer = DecisionServiceClient::new(desk.channel.clone()).tail_decisions(request).await;
    let ended = match answer {
        Ok(rows) => next(&mut rows.into_inner()).await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(ended.code(), Code::DeadlineExceeded, "{ended}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_not_passed_over() {
    let desk = Desk::open().await;
    desk.decide(0, 1, 1, 10, "cart", "prf_a");
    desk.write(Decision::TOPIC, 0, 2, avro::write(1, b"\xff"));
    let mut rows = desk.tail(all()).await.unwrap();
    // what is behind it is looked for before the first goes
    let refused = loop {
        match next(&mut rows).await {
            Ok(Some(row)) => assert_eq!(row.key, "10"),
            Ok(None) => panic!("the tail ended as if all were well"),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("waypost.decisions.v1/0 offset 1"), "{refused}");
}

#[tokio::test]
async fn messages_come_as_decisions_do() {
    let desk = Desk::open().await;
    let row = |workspace, name: &str| {
        let row = Message { workspace, name: name.to_owned(), provider_id: "p".to_owned(), ..Message::default() };
        avro::write(2, &row.encode())
    };
    desk.write(Message::TOPIC, 1, 1, row(1, "Message Accepted"));
    desk.write(Message::TOPIC, 1, 2, row(2, "Message Failed"));
    let asked = pb::TailMessagesRequest { parent: "workspaces/default".into(), since: Some(0), ..pb::TailMessagesRequest::default() };
    let mut rows = MessageServiceClient::new(desk.channel.clone()).tail_messages(with("ana", asked)).await.unwrap().into_inner();
    let row = next(&mut rows).await.unwrap().unwrap();
    assert_eq!((row.name.as_str(), row.provider_id.as_str()), ("Message Accepted", "p"));
    assert!(next(&mut rows).await.unwrap().is_none());
}

/// Writes an event as a shop's program does: no numbers, any schema.
async fn happen(desk: &Desk, partition: u32, workspace: i64, name: &str) {
    let event = EventInput {
        message_id: format!("m-{name}"),
        name: name.to_owned(),
        identifiers: vec![("email".to_owned(), "ana@shop.example".to_owned())],
        properties: r#"{"note":"for ana"}"#.to_owned(),
        source: "shop".to_owned(),
        workspace,
        ..EventInput::default()
    };
    let schema = MemorySchemas::with_committed().latest("waypost.events.v1-value").await.unwrap().schema.id;
    let payload = avro::write(schema, &event.encode());
    desk.town.log.append(Append { topic: EventInput::TOPIC.to_owned(), partition, key: None, headers: Vec::new(), payload }).unwrap();
}

async fn events(desk: &Desk, who: &str, asked: pb::TailEventsRequest) -> Result<Vec<pb::EventRow>, Status> {
    let asked = pb::TailEventsRequest { parent: "workspaces/default".to_owned(), since: Some(0), ..asked };
    let mut rows = EventServiceClient::new(desk.channel.clone()).tail_events(with(who, asked)).await?.into_inner();
    let mut all = Vec::new();
    while let Some(row) = next(&mut rows).await? {
        all.push(row);
    }
    Ok(all)
}

#[tokio::test]
async fn events_come_masked_and_as_they_are_only_to_who_reads_people() {
    let desk = Desk::open().await;
    happen(&desk, 0, 1, "Page Viewed").await;
    happen(&desk, 1, 2, "Foreign").await;
    happen(&desk, 1, 1, "Order Completed").await;
    happen(&desk, 1, 1, "Order Completed").await;
    desk.write(EventInput::TOPIC, 1, 7, Bytes::from_static(b"no event"));
    desk.write(EventInput::TOPIC, 1, 8, avro::write(99, b"of a schema that nobody knows"));
    let all = pb::TailEventsRequest::default;
    let masked = events(&desk, "olga", all()).await.unwrap();
    let names: Vec<_> = masked.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["Page Viewed", "Order Completed", "Order Completed"], "each record, and none that is no event");
    assert!(!format!("{masked:?}").contains("ana"), "{masked:?}");
    assert_eq!(masked[0].properties, r#"{"note":"text of 7"}"#);
    for refused in
        [pb::TailEventsRequest { values: true, ..all() }, pb::TailEventsRequest { identifier: "ana@shop.example".into(), ..all() }]
    {
        assert_eq!(events(&desk, "olga", refused).await.unwrap_err().code(), Code::PermissionDenied);
    }
    let whole = events(&desk, "ana", pb::TailEventsRequest { values: true, event: "Page Viewed".into(), ..all() }).await.unwrap();
    assert_eq!(
        (whole.len(), whole[0].identifiers[0].value.as_str(), whole[0].message_id.as_str()),
        (1, "ana@shop.example", "m-Page Viewed")
    );
    let of = |identifier: &str| pb::TailEventsRequest { identifier: identifier.into(), limit: 1, ..all() };
    assert_eq!(events(&desk, "ana", of("email:ana@shop.example")).await.unwrap().len(), 1);
    assert_eq!(events(&desk, "ana", of("email:ben@shop.example")).await.unwrap().len(), 0);
    assert_eq!(events(&desk, "ana", of("nobody")).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn without_the_registry_no_event_is_taken_for_none() {
    let mut town = Town::new(Entity::Known).await;
    town.log.create_plain(EventInput::TOPIC, 1);
    town.control = town.control.with_schemas(Arc::new(Away));
    let channel = town.open(town.gate(&[("ana", "\"privacy\"", "\"default\"")])).await;
    let desk = Desk { town, channel };
    happen(&desk, 0, 1, "Page Viewed").await;
    let refused = events(&desk, "ana", pb::TailEventsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
}

/// A registry that does not answer.
struct Away;

#[async_trait]
impl Schemas for Away {
    async fn by_id(&self, _: u32) -> Result<Arc<Schema>, SchemasError> {
        Err(SchemasError::Unavailable("away".to_owned()))
    }

    async fn latest(&self, _: &str) -> Result<Registered, SchemasError> {
        Err(SchemasError::Unavailable("away".to_owned()))
    }

    async fn check(&self, _: &str, _: &str) -> Result<Verdict, SchemasError> {
        Err(SchemasError::Unavailable("away".to_owned()))
    }

    async fn register(&self, _: &str, _: &str) -> Result<u32, SchemasError> {
        Err(SchemasError::Unavailable("away".to_owned()))
    }

    async fn subjects(&self) -> Result<Vec<String>, SchemasError> {
        Err(SchemasError::Unavailable("away".to_owned()))
    }

    async fn set_level(&self, _: &str, _: Level) -> Result<(), SchemasError> {
        Err(SchemasError::Unavailable("away".to_owned()))
    }
}
