//! Tails of the public topics: the caller's workspace alone, each row once and in order, bounded, gone with the client.

use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use waypost_codec::{
    avro,
    public::{Decision, Message},
};
use waypost_proto::control::{self as pb, decision_service_client::DecisionServiceClient, message_service_client::MessageServiceClient};
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
        for topic in [Decision::TOPIC, Message::TOPIC] {
            town.log.create_plain(topic, 2);
        }
        let channel = town.open(town.gate(&[("ana", "\"privacy\"", "\"default\"")])).await;
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
