//! The export of a person: everything that the three stages store, behind a line in the audit topic.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with the place")]

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value as Json, json};
use tonic::{Code, Request, Status};
use waypost_codec::{inbox, state, stored::seal};
use waypost_control::{Catalog, Changes, Control, Following, access::Caller};
use waypost_memory::{LogPort, MemoryLog, VirtualClock};
use waypost_proto::control::{self as pb, profile_service_server::ProfileService as _};
use waypost_runtime::{
    door::LogDoor,
    ports::{Clock, Log, Offset, Owners, OwnersError},
};
use waypost_types::{EntityId, Generation, IdentifierClass, IdentifierHash, Layout, Node, PartitionId, Role, Timestamp, WorkspaceId};

const LAYOUT: Layout = Layout { number: 1, partitions: 4 };
const KEY: [u8; 32] = [7; 32];
const NOW: i64 = 1_774_594_800_000;
const TOPICS: [&str; 3] = ["wp1.control", "wp1.definitions", "wp1.audit"];
/// What only the states of the person know.
const SECRETS: [&str; 4] = ["anna@shop.example", "Anna", "cart-77", "waiting-words"];

/// What each role stores; any other entity is unknown.
struct Stored(BTreeMap<(Role, EntityId), Bytes>);

#[async_trait]
impl Owners for Stored {
    async fn read(&self, partition: PartitionId, entity: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError> {
        let offset = if partition.role == Role::Segmenter { 40 } else { 41 };
        Ok((self.0.get(&(partition.role, entity)).cloned(), offset))
    }
}

fn workspace() -> WorkspaceId {
    WorkspaceId::new(1)
}

fn hash(class: IdentifierClass, value: &str) -> IdentifierHash {
    IdentifierHash::of(&KEY, workspace(), class, "", value)
}

fn node(class: IdentifierClass, value: &str, offset: u64) -> Node {
    Node { class, hash: hash(class, value), generation: Generation { layout: 1, offset, index: 0 } }
}

fn bytes(node: Node) -> Bytes {
    Bytes::copy_from_slice(node.profile().as_bytes())
}

fn text(text: &str) -> Option<inbox::Value> {
    Some(inbox::Value { kind: Some(inbox::value::Kind::Text(text.to_owned())) })
}

/// Anna, who has a user id and an address, and a cookie that was detached: its present life is somebody else's.
fn anna() -> Stored {
    let user = node(IdentifierClass::UserId, "anna", 1);
    let email = node(IdentifierClass::Email, SECRETS[0], 2);
    let (cookie, other) = (node(IdentifierClass::Anonymous, "c1", 3), node(IdentifierClass::Anonymous, "c1", 9));
    let life = |node: Node, route: Node| state::Node { id: bytes(node), route: bytes(route), ..state::Node::default() };
    let identifier = |class: IdentifierClass, generations| state::IdentifierState {
        class: class.number(),
        generations,
        ..state::IdentifierState::default()
    };
    let to = |node: Node| inbox::NodeRef {
        class: node.class.number(),
        hash: Bytes::copy_from_slice(node.hash.as_bytes()),
        ..inbox::NodeRef::default()
    };
    let mut users = identifier(IdentifierClass::UserId, vec![life(user, user)]);
    // The address has sent nothing itself: only this link leads to it.
    users.generations[0].known = vec![to(email).encode_to_vec().into()];
    let mut addresses = identifier(IdentifierClass::Email, vec![life(email, user)]);
    let waits = inbox::Event { name: "Product Viewed".to_owned(), message_id: SECRETS[3].to_owned(), ..inbox::Event::default() };
    let body = Some(inbox::segment_item::Body::Event(waits.encode_to_vec().into()));
    let item = Some(inbox::SegmentItem { node: bytes(email), body, first: false });
    addresses.held = vec![state::HeldItem { item, id: Bytes::from_static(&[1; 16]), at: NOW, node: bytes(email) }];
    let cookies = identifier(IdentifierClass::Anonymous, vec![life(cookie, user), life(other, other)]);

    let consent = inbox::Consent {
        channel: "email".to_owned(),
        topic: "news".to_owned(),
        state: inbox::ConsentState::Granted.into(),
        basis: "express".to_owned(),
        source: "checkout".to_owned(),
        at: NOW,
        address: SECRETS[0].to_owned(),
        ..inbox::Consent::default()
    };
    let person = inbox::Person {
        addresses: vec![inbox::Address { channel: "email".to_owned(), value: SECRETS[0].to_owned(), verified: true, set_at: NOW }],
        fields: vec![inbox::Field { path: "first_name".to_owned(), value: text(SECRETS[1]), set_at: NOW }],
        carts: vec![inbox::Cart { cart_id: SECRETS[2].to_owned(), status: inbox::CartStatus::Open.into(), ..inbox::Cart::default() }],
        orders: vec![inbox::Order {
            order_id: "o1".to_owned(),
            status: "placed".to_owned(),
            value: Some(7_000),
            ..inbox::Order::default()
        }],
        consents: vec![consent],
        memberships: vec![inbox::Membership { segment: "new".to_owned(), truth: inbox::Truth::Yes.into(), ..inbox::Membership::default() }],
        ..inbox::Person::default()
    };
    let segment = state::SegmentProfile {
        person: Some(person),
        ids: vec![bytes(cookie), bytes(user)],
        events: 3,
        ..state::SegmentProfile::default()
    };
    let receipt = state::Trail { at: NOW, what: "RECEIPT".to_owned(), reason: "ACCEPTED".to_owned(), ..state::Trail::default() };
    let send =
        state::SendLogEntry { step: "remind".to_owned(), state: state::SendState::Accepted.into(), ..state::SendLogEntry::default() };
    let entry = inbox::Event { name: "Product Added".to_owned(), ..inbox::Event::default() };
    let run = state::Run {
        id: Bytes::from_static(&[5; 16]),
        journey: "cart".to_owned(),
        step: "rest".to_owned(),
        entry: entry.encode_to_vec().into(),
        ..state::Run::default()
    };
    let past = state::PastRun { journey: "welcome".to_owned(), reason: "COMPLETED".to_owned(), ..state::PastRun::default() };
    let journey = state::JourneyProfile {
        runs: vec![run],
        past: vec![past],
        sends: vec![send],
        trail: vec![receipt],
        facts: vec![state::Fact { name: "Order Completed".to_owned(), ..state::Fact::default() }],
        ..state::JourneyProfile::default()
    };
    let profile = EntityId::new(workspace(), b'p', user.profile().as_bytes());
    let of = |hash: IdentifierHash| EntityId::new(workspace(), b'i', hash.as_bytes());
    Stored(BTreeMap::from([
        ((Role::Identity, of(user.hash)), seal(2, &users.encode_to_vec())),
        ((Role::Identity, of(email.hash)), seal(2, &addresses.encode_to_vec())),
        ((Role::Identity, of(cookie.hash)), seal(2, &cookies.encode_to_vec())),
        ((Role::Segmenter, profile.clone()), seal(1, &segment.encode_to_vec())),
        ((Role::Orchestrator, profile), seal(1, &journey.encode_to_vec())),
    ]))
}

async fn control(owners: Stored, topics: &[&str]) -> (MemoryLog, Control, Following) {
    let clock = VirtualClock::new(Timestamp::from_millis(NOW));
    let log = MemoryLog::new(&clock);
    for topic in topics {
        log.create_plain(topic, if *topic == "wp1.definitions" { 8 } else { 1 });
    }
    let port: Arc<dyn Log> = Arc::new(LogPort::new(log.clone()));
    let (catalog, following) = Catalog::follow(&port, "").await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let changes = Changes::new(port.clone(), clock.clone(), catalog.clone(), String::new(), LAYOUT);
    let normalise = |_: IdentifierClass, value: &str| Some(value.to_owned());
    let door = Arc::new(LogDoor::new(port, String::new(), LAYOUT));
    let control = Control::new(changes, catalog, Arc::new(owners), clock, LAYOUT, KEY, normalise, Arc::new(|| [9; 24]), door);
    (log, control, following)
}

async fn export(control: &Control, identifier: &str) -> Result<Json, Status> {
    let message = pb::ExportProfileRequest { parent: "workspaces/default".to_owned(), identifier: identifier.to_owned() };
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller::process("ana"));
    let answer = control.export_profile(request).await?.into_inner();
    assert_eq!((answer.segment_offset, answer.journey_offset), (40, 41));
    Ok(serde_json::from_str(&answer.document).unwrap())
}

#[tokio::test]
async fn a_document_has_what_every_stage_stores_of_the_person_and_nothing_of_anybody_else() {
    let (log, control, _following) = control(anna(), &TOPICS).await;
    let document = export(&control, "user_id:anna").await.unwrap();
    let person = &document["person"];
    assert_eq!(person["addresses"][0]["value"], SECRETS[0]);
    assert_eq!(person["fields"][0], json!({"path": "first_name", "value": SECRETS[1], "setAt": "2026-03-27T07:00:00Z"}));
    assert_eq!((&person["carts"][0]["cartId"], &person["carts"][0]["status"]), (&json!(SECRETS[2]), &json!("open")));
    assert_eq!(person["orders"][0]["value"], "70.00 EUR");
    let consent = &person["consents"][0];
    assert_eq!((&consent["state"], &consent["basis"], &consent["source"]), (&json!("granted"), &json!("express"), &json!("checkout")));
    assert_eq!(person["segments"][0]["segment"], "new");
    let journeys = &document["journeys"];
    assert_eq!((&journeys["runs"][0]["step"], &journeys["runs"][0]["enteredOn"]["name"]), (&json!("rest"), &json!("Product Added")));
    assert_eq!((&journeys["endedRuns"][0]["exitReason"], &journeys["messages"][0]["state"]), (&json!("COMPLETED"), &json!("accepted")));
    assert_eq!((&journeys["trail"][0]["reason"], &journeys["remembered"][0]["name"]), (&json!("ACCEPTED"), &json!("Order Completed")));

    let identifiers = document["identifiers"].as_array().unwrap();
    let of = |class: &str| identifiers.iter().find(|i| i["class"] == class).unwrap_or_else(|| panic!("{class}: {document}"));
    assert_eq!(identifiers.len(), 3);
    assert_eq!(of("anonymous")["lives"].as_array().unwrap().len(), 1, "after the detach it is somebody else's");
    assert_eq!(of("email")["waiting"][0]["content"]["messageId"], SECRETS[3]);

    let lines: Vec<Json> = log.all("wp1.audit", 0).into_iter().map(|line| serde_json::from_slice(&line.payload).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["act"], &lines[0]["by"], &lines[0]["workspace"]), (&json!("profile.export"), &json!("ana"), &json!("default")));
    assert_eq!(lines[0]["subject"], format!("identifiers/{}", hash(IdentifierClass::UserId, "anna")));
    assert!(SECRETS.iter().all(|secret| !lines[0].to_string().contains(secret)));

    // By the profile's id it is the same person, and the same name in the topic.
    let id = document["profile"].as_str().unwrap();
    assert_eq!(export(&control, id).await.unwrap()["identifiers"], document["identifiers"]);
    let again: Json = serde_json::from_slice(&log.all("wp1.audit", 0)[1].payload).unwrap();
    assert_eq!(again["subject"], lines[0]["subject"]);
}

#[tokio::test]
async fn whoever_asks_in_vain_stands_in_the_topic_too_and_without_the_topic_nobody_answers() {
    let (log, control, _following) = control(anna(), &TOPICS).await;
    assert_eq!(export(&control, "user_id:nobody").await.unwrap_err().code(), Code::NotFound);
    let lines: Vec<Json> = log.all("wp1.audit", 0).into_iter().map(|line| serde_json::from_slice(&line.payload).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[0].get("outcome"), &lines[1]["outcome"]), (None, &json!("failed: NOT_FOUND")));
    let (_log, control, _following) = self::control(anna(), &TOPICS[..2]).await;
    assert_eq!(export(&control, "user_id:anna").await.unwrap_err().code(), Code::Unavailable);
}
