//! Reading and commanding what is known of a person: the export of all that the three stages store, and runs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with the place")]

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value as Json, json};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use waypost_codec::{
    frame::{Frame, Record},
    inbox, kind, state,
    stored::seal,
};
use waypost_control::{Catalog, Changes, Control, Following, access::Caller};
use waypost_memory::{LogPort, MemoryLog, VirtualClock};
use waypost_proto::control::{
    self as pb, definition_service_server::DefinitionService as _, journey_service_server::JourneyService as _,
    profile_service_server::ProfileService as _, run_service_server::RunService as _,
};
use waypost_runtime::{
    door::LogDoor,
    ports::{Clock, Log, Offset, Owners, OwnersError},
};
use waypost_types::{
    EntityId, Generation, IdentifierClass, IdentifierHash, Layout, Node, PartitionId, Role, SendId, Timestamp, WorkspaceId,
};

const LAYOUT: Layout = Layout { number: 1, partitions: 4 };
const KEY: [u8; 32] = [7; 32];
const NOW: i64 = 1_774_594_800_000;
const TOPICS: [&str; 3] = ["wp1.control", "wp1.definitions", "wp1.audit"];
/// What only the states of the person know.
const SECRETS: [&str; 4] = ["anna@shop.example", "Anna", "cart-77", "waiting-words"];

/// What each role stores; any other entity is unknown. And the last engine of the oldest process.
struct Stored(BTreeMap<(Role, EntityId), Bytes>, u32);

#[async_trait]
impl Owners for Stored {
    async fn read(&self, partition: PartitionId, entity: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError> {
        let offset = if partition.role == Role::Segmenter { 40 } else { 41 };
        Ok((self.0.get(&(partition.role, entity)).cloned(), offset))
    }

    fn engines(&self) -> Vec<(String, RangeInclusive<u32>)> {
        vec![("10.0.0.1:7070".to_owned(), 2..=4), ("10.0.0.2:7070".to_owned(), 1..=self.1)]
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

fn text(text: &str) -> inbox::Value {
    inbox::Value { kind: Some(inbox::value::Kind::Text(text.to_owned())) }
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
        fields: vec![inbox::Field { path: "first_name".to_owned(), value: Some(text(SECRETS[1])), set_at: NOW }],
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
    let waiting = state::Trail { run: Bytes::from_static(&[5; 16]), what: "WAITING".to_owned(), ..state::Trail::default() };
    let send =
        state::SendLogEntry { step: "remind".to_owned(), state: state::SendState::Accepted.into(), ..state::SendLogEntry::default() };
    let entry = inbox::Event { name: "Product Added".to_owned(), ..inbox::Event::default() };
    let key = waypost_engine::address::key("email", SECRETS[0]);
    let queued = SendId::new([9; 16]);
    let standing =
        state::RunSend { dispatch: Bytes::from_static(&[6; 16]), address_key: Bytes::copy_from_slice(&key), ..state::RunSend::default() };
    let run = state::Run {
        sends: vec![standing],
        id: Bytes::from_static(&[5; 16]),
        journey: "cart".to_owned(),
        step: "rest".to_owned(),
        entry: entry.encode_to_vec().into(),
        timers: vec![state::RunTimer { due: NOW, kind: state::TimerKind::Absent.into(), what: "delay".to_owned() }],
        ..state::Run::default()
    };
    let past = state::PastRun { journey: "welcome".to_owned(), reason: "COMPLETED".to_owned(), ..state::PastRun::default() };
    let journey = state::JourneyProfile {
        runs: vec![run],
        past: vec![past],
        sends: vec![
            send,
            state::SendLogEntry {
                id: Bytes::copy_from_slice(queued.as_bytes()),
                state: state::SendState::Decided.into(),
                ..state::SendLogEntry::default()
            },
        ],
        trail: vec![receipt, waiting],
        facts: vec![state::Fact { name: "Order Completed".to_owned(), ..state::Fact::default() }],
        ..state::JourneyProfile::default()
    };
    let last = |profile: Node, dispatch: u8| state::LastSend {
        profile: bytes(profile),
        dispatch: Bytes::copy_from_slice(&[dispatch; 16]),
        ..state::LastSend::default()
    };
    let address = state::AddressState {
        suppressions: vec![state::Suppression { reason: "HARD_BOUNCE".to_owned(), at: NOW, ..state::Suppression::default() }],
        last_sends: vec![last(user, 7), last(other, 8)],
        erasures: vec![state::Erasure { profile: bytes(other), at: NOW }],
        ..state::AddressState::default()
    };
    let dispatch = |phase: state::DispatchPhase, word: &str| {
        let variables = Some(text(word));
        let body = inbox::Dispatch { profile: bytes(user), address: SECRETS[0].to_owned(), variables, ..inbox::Dispatch::default() };
        let dispatch = (!word.is_empty()).then_some(body);
        seal(1, &state::DispatchState { dispatch, phase: phase.into(), ..state::DispatchState::default() }.encode_to_vec())
    };
    let queued = waypost_engine::journey::dispatch_id(&queued, 0, &key);
    let sender = |kind, id: &[u8]| (Role::Sender, EntityId::new(workspace(), kind, id));
    let profile = EntityId::new(workspace(), b'p', user.profile().as_bytes());
    let of = |hash: IdentifierHash| EntityId::new(workspace(), b'i', hash.as_bytes());
    let all = BTreeMap::from([
        ((Role::Identity, of(user.hash)), seal(2, &users.encode_to_vec())),
        ((Role::Identity, of(email.hash)), seal(2, &addresses.encode_to_vec())),
        ((Role::Identity, of(cookie.hash)), seal(2, &cookies.encode_to_vec())),
        ((Role::Segmenter, profile.clone()), seal(1, &segment.encode_to_vec())),
        ((Role::Orchestrator, profile), seal(1, &journey.encode_to_vec())),
        (sender(b'a', &key), seal(1, &address.encode_to_vec())),
        (sender(b'd', &[6; 16]), dispatch(state::DispatchPhase::Retry, "of a run")),
        (sender(b'd', &[7; 16]), dispatch(state::DispatchPhase::Done, "")),
        (sender(b'd', &[8; 16]), dispatch(state::DispatchPhase::Ready, "of somebody else")),
        (sender(b'd', queued.as_bytes()), dispatch(state::DispatchPhase::Ready, "of a run that is forgotten")),
    ]);
    Stored(all, 3)
}

async fn control(owners: Stored, topics: &[&str]) -> (MemoryLog, Control, Following) {
    let clock = VirtualClock::new(Timestamp::from_millis(NOW));
    let log = MemoryLog::new(&clock);
    for role in Role::KEYED {
        log.create_plain(role.inbox().unwrap(), LAYOUT.partitions);
    }
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

    let sender = &document["sender"];
    let [address] = &sender["addresses"].as_array().unwrap()[..] else { panic!("one address: {sender}") };
    assert_eq!((&address["suppressions"][0]["reason"], &address["erasures"]), (&json!("HARD_BOUNCE"), &json!([])));
    assert_eq!(address["lastMessages"].as_array().unwrap().len(), 1, "who else has the address is nobody's business");
    let messages = sender["messages"].as_array().unwrap();
    let mut words: Vec<_> = messages.iter().map(|m| (m["phase"].as_str().unwrap(), m["content"]["variables"].as_str())).collect();
    words.sort_unstable();
    assert_eq!(words, [("done", None), ("ready", Some("of a run that is forgotten")), ("retry", Some("of a run"))]);
    assert!(messages.iter().all(|m| m["content"].is_null() || m["content"]["address"] == SECRETS[0]));

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

#[tokio::test]
async fn somebody_is_forgotten_when_the_identifier_knows_it() {
    let id = |role: Role, kind: u8, key: &[u8]| (role, EntityId::new(workspace(), kind, key));
    let user = node(IdentifierClass::UserId, "ben", 1);
    let mark = state::SegmentProfile { erased: true, erased_at: NOW, ..state::SegmentProfile::default() };
    for (gone, told) in [(false, "is being forgotten since 2026-03-27T"), (true, "was forgotten at 2026-03-27T")] {
        let life = state::Node { id: bytes(user), parent: bytes(user), route: bytes(user), gone, ..state::Node::default() };
        let identifier = state::IdentifierState { generations: vec![life], ..state::IdentifierState::default() };
        let all = BTreeMap::from([
            (id(Role::Identity, b'i', user.hash.as_bytes()), seal(1, &identifier.encode_to_vec())),
            (id(Role::Segmenter, b'p', user.profile().as_bytes()), seal(1, &mark.encode_to_vec())),
        ]);
        let (_log, control, _following) = control(Stored(all, 3), &TOPICS).await;
        let refused = export(&control, "user_id:ben").await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        assert!(refused.message().contains(told), "{refused:?}");
    }
}

const JOURNEY: &str = "apiVersion: waypost.dev/v1
kind: Topic
metadata: {name: news}
spec: {title: News}
---
apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: cart}
spec:
  title: Cart
  describe: Does nothing for an hour.
  owner: ops@shop.example
  topic: news
  entries: [{id: in, on_event: {name: Ping}, key: event.cart}]
  steps: [{id: rest, delay: {for: 1h}}]
";

fn parent() -> String {
    "workspaces/default".to_owned()
}

fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller::process("ops"));
    request
}

/// Applies the journey, and puts it in force.
async fn publish(control: &Control) {
    let manifests = vec![pb::File { path: "j.yaml".to_owned(), text: JOURNEY.to_owned() }];
    control.apply_definitions(asked(pb::ApplyDefinitionsRequest { parent: parent(), manifests, ..Default::default() })).await.unwrap();
    let name = "workspaces/default/journeys/cart".to_owned();
    control.publish_journey(asked(pb::PublishJourneyRequest { name, etag: String::new(), validate_only: false })).await.unwrap();
}

/// Records of commands in `wp1.identity`.
fn records(log: &MemoryLog) -> Vec<Record> {
    let frames = (0..LAYOUT.partitions).flat_map(|p| log.all("wp1.identity", p)).map(|d| Frame::decode(d.payload).unwrap());
    let records = frames.flat_map(|frame| frame.sections).flat_map(|section| section.records);
    records.filter(|record| record.kind == kind::RUN_COMMAND).collect()
}

/// Commands in `wp1.identity`, each with what it asks of its reader.
fn commands(log: &MemoryLog) -> Vec<(inbox::RunCommand, u32)> {
    records(log).into_iter().map(|record| (inbox::RunCommand::decode(record.body).unwrap(), record.eng_min)).collect()
}

fn acts(log: &MemoryLog, word: &str) -> Vec<Json> {
    let lines = log.all("wp1.audit", 0).into_iter().map(|line| serde_json::from_slice::<Json>(&line.payload).unwrap());
    lines.filter(|line| line["act"] == word).collect()
}

#[tokio::test]
async fn runs_are_told_live_ones_first_and_each_by_its_id() {
    let (_log, control, _following) = control(anna(), &TOPICS).await;
    let list = |journey: &str, live| {
        let request = pb::ListRunsRequest {
            parent: parent(),
            identifier: "user_id:anna".to_owned(),
            journey: journey.to_owned(),
            live,
            read_mask: None,
        };
        let control = control.clone();
        async move { control.list_runs(asked(request)).await.unwrap().into_inner() }
    };
    let all = list("", false).await;
    let told: Vec<_> = all.runs.iter().map(|run| (run.journey.as_str(), run.state(), run.exit_reason.as_str())).collect();
    assert_eq!(told, [("cart", pb::RunState::Live, ""), ("welcome", pb::RunState::Ended, "COMPLETED")]);
    assert_eq!((all.runs[0].step.as_str(), all.runs[0].waits[0].what.as_str(), all.runs[0].waits[0].due), ("rest", "delay", NOW));
    assert_eq!(all.runs[0].latest, "WAITING");
    assert_eq!(all.journey_offset, 41);
    assert_eq!(list("welcome", false).await.runs.len(), 1);
    assert_eq!(list("", true).await.runs, all.runs[..1]);
    let get = |run: &str| {
        let request = pb::GetRunRequest { parent: parent(), identifier: "user_id:anna".to_owned(), run: run.to_owned(), read_mask: None };
        let control = control.clone();
        async move { control.get_run(asked(request)).await.map(tonic::Response::into_inner).map_err(|status| status.code()) }
    };
    assert_eq!(get(&all.runs[0].id).await.as_ref(), Ok(&all.runs[0]));
    assert_eq!(get("run_00").await, Err(Code::InvalidArgument));
    assert_eq!(get(&format!("run_{}", "ab".repeat(16))).await, Err(Code::NotFound));
}

#[tokio::test]
async fn a_start_is_a_record_at_the_identifier_and_what_cannot_begin_is_refused_at_once() {
    let (log, control, _following) = control(anna(), &TOPICS).await;
    publish(&control).await;
    let start = |identifier: &str, journey: &str, key: &str, validate_only| {
        let (identifier, journey, key) = (identifier.to_owned(), journey.to_owned(), key.to_owned());
        let request = pb::StartRunRequest { parent: parent(), identifier, journey, key, validate_only, request_id: String::new() };
        let control = control.clone();
        async move { control.start_run(asked(request)).await.map(tonic::Response::into_inner).map_err(|status| status.code()) }
    };
    for (identifier, journey, key, code) in [
        ("user_id:nobody", "cart", "k1", Code::NotFound),
        ("user_id:anna", "none", "k1", Code::NotFound),
        ("user_id:anna", "cart", "", Code::InvalidArgument),
        ("user_id:anna", "cart", &*"k".repeat(129), Code::InvalidArgument),
    ] {
        assert_eq!(start(identifier, journey, key, false).await, Err(code), "{identifier} {journey}");
    }
    let checked = start("user_id:anna", "cart", "k1", true).await.unwrap();
    assert_eq!((checked.acknowledged, checked.version), (None, 1));
    assert!(commands(&log).is_empty());
    let lines = acts(&log, "run.start");
    let subject = |who: &str| json!(format!("identifiers/{}", hash(IdentifierClass::UserId, who)));
    let told: Vec<_> = lines.iter().map(|line| (line["subject"].clone(), line["note"].clone(), line["outcome"].clone())).collect();
    assert_eq!(
        told,
        [
            (subject("nobody"), json!("journey cart"), Json::Null),
            (subject("nobody"), json!("journey cart"), json!("failed: NOT_FOUND")),
            (subject("anna"), json!("journey cart, only checked"), Json::Null),
        ],
        "who was asked about stands there; what is wrong whoever it is about does not"
    );

    let acknowledged = start("user_id:anna", "cart", "secret-key", false).await.unwrap().acknowledged.unwrap();
    let [(command, eng_min)] = &commands(&log)[..] else { panic!("one command") };
    let node = command.node.as_ref().unwrap();
    assert_eq!((node.generation.len(), &node.hash[..]), (0, &hash(IdentifierClass::UserId, "anna").as_bytes()[..]));
    let asked = inbox::StartRun { journey: "cart".to_owned(), key: "secret-key".to_owned() };
    assert_eq!((&command.what, *eng_min), (&Some(inbox::run_command::What::Start(asked)), 3), "an older binary waits at it");
    let [line] = &acts(&log, "run.start")[3..] else { panic!("one line") };
    assert_eq!((&line["by"], &line["record"], &line["note"]), (&json!("ops"), &json!(acknowledged.record), &json!("journey cart")));
    assert!(!line.to_string().contains("secret-key"));
}

#[tokio::test]
async fn a_cancel_names_one_live_run_or_those_of_a_journey() {
    let (log, control, _following) = control(anna(), &TOPICS).await;
    let cancel = |run: &str, journey: &str, validate_only| {
        let (identifier, run, journey) = ("user_id:anna".to_owned(), run.to_owned(), journey.to_owned());
        let request = pb::CancelRunRequest { parent: parent(), identifier, run, journey, validate_only, request_id: String::new() };
        let control = control.clone();
        async move { control.cancel_run(asked(request)).await.map(tonic::Response::into_inner).map_err(|status| status.code()) }
    };
    let run = format!("run_{}", "05".repeat(16));
    for (run, journey, code) in [
        ("", "", Code::InvalidArgument),
        (&*run, "cart", Code::InvalidArgument),
        ("cart", "", Code::InvalidArgument),
        ("", "welcome", Code::NotFound),
        (&*format!("run_{}", "06".repeat(16)), "", Code::NotFound),
    ] {
        assert_eq!(cancel(run, journey, false).await, Err(code), "{run} {journey}");
    }
    assert_eq!(cancel("", "cart", true).await.unwrap().acknowledged, None);
    assert!(commands(&log).is_empty());
    let outcomes: Vec<_> = acts(&log, "run.cancel").into_iter().map(|line| line["outcome"].clone()).collect();
    let failed = json!("failed: NOT_FOUND");
    assert_eq!(outcomes, [Json::Null, failed.clone(), Json::Null, failed, Json::Null], "each question, and which came to nothing");
    assert_eq!(acts(&log, "run.cancel")[4]["note"], "journey cart, only checked");
    assert!(cancel(&run, "", false).await.unwrap().acknowledged.is_some());
    assert!(cancel("", "cart", false).await.unwrap().acknowledged.is_some());
    let asked = |run: &[u8], journey: &str| inbox::CancelRuns { run: Bytes::copy_from_slice(run), journey: journey.to_owned() };
    let whats: Vec<_> = commands(&log).into_iter().map(|(command, _)| command.what.unwrap()).collect();
    assert_eq!(whats, [asked(&[5; 16], ""), asked(&[], "cart")].map(inbox::run_command::What::Cancel));
    let notes: Vec<_> = acts(&log, "run.cancel").into_iter().skip(5).map(|line| line["note"].clone()).collect();
    assert_eq!(notes, [json!(run), json!("journey cart")]);
}

#[tokio::test]
async fn while_a_process_is_too_old_for_commands_nothing_is_put_in_its_way() {
    let (log, control, _following) = control(Stored(anna().0, 2), &TOPICS).await;
    publish(&control).await;
    let who = || "user_id:anna".to_owned();
    for validate_only in [true, false] {
        let start = pb::StartRunRequest {
            parent: parent(),
            identifier: who(),
            journey: "cart".to_owned(),
            key: "k1".to_owned(),
            validate_only,
            ..Default::default()
        };
        let cancel =
            pb::CancelRunRequest { parent: parent(), identifier: who(), journey: "cart".to_owned(), validate_only, ..Default::default() };
        let started = control.start_run(asked(start)).await.map(drop);
        let cancelled = control.cancel_run(asked(cancel)).await.map(drop);
        for refused in [started, cancelled].map(Result::unwrap_err) {
            assert_eq!(refused.code(), Code::FailedPrecondition);
            assert_eq!(refused.get_error_details().error_info().unwrap().reason, "ENGINE_LACKING");
            assert!(refused.message().contains("10.0.0.2:7070 has engines 1 to 2"), "{refused}");
        }
    }
    assert!(commands(&log).is_empty());
}

#[tokio::test]
async fn a_start_that_is_asked_for_again_is_the_same_record() {
    let (log, control, _following) = control(anna(), &TOPICS).await;
    publish(&control).await;
    let start = |key: &str, request_id: &str| {
        let (identifier, journey, key, request_id) = ("user_id:anna".to_owned(), "cart".to_owned(), key.to_owned(), request_id.to_owned());
        let request = pb::StartRunRequest { parent: parent(), identifier, journey, key, validate_only: false, request_id };
        let control = control.clone();
        async move { control.start_run(asked(request)).await.map(tonic::Response::into_inner) }
    };
    let (one, two) = ("6ba7b810-9dad-41d1-80b4-00c04fd430c8", "6BA7B811-9dad-41d1-80b4-00c04fd430c8");
    for (key, request_id) in [("k1", one), ("k1", one), ("k2", one), ("k1", two)] {
        start(key, request_id).await.unwrap();
    }
    let ids: Vec<_> = records(&log).into_iter().map(|record| record.id).collect();
    assert_eq!(ids[0], ids[1]);
    assert!(ids[2] != ids[0] && ids[3] != ids[0], "another key or another id is another request");
    for wrong in ["6ba7b810", "00000000-0000-0000-0000-000000000000", "6ba7b810-9dad-41d1-80b4-00c04fd430cx"] {
        let refused = start("k1", wrong).await.unwrap_err();
        assert_eq!(refused.get_error_details().error_info().unwrap().reason, "INVALID_REQUEST_ID");
    }
}
