//! Records in, outputs out: one road, and a delta with every item.

mod erasing;

use std::collections::{BTreeMap, BTreeSet};

use waypost_codec::{
    inbox::{CartStatus, JourneyItem, RunCommand},
    value::object_to_proto,
};
use waypost_engine::{
    condition::{Scope, compile},
    definitions::{Policy, Segment},
};
use waypost_runtime::processor::{Entity as _, Wakeups};
use waypost_types::{ContentHash, Generation, IdentifierClass, IdentifierHash, Node, Position, Span, Timestamp, Value};

use super::*;

fn id(byte: u8) -> Bytes {
    let generation = Generation { layout: 1, offset: u64::from(byte), index: 0 };
    let node = Node { class: IdentifierClass::Email, hash: IdentifierHash::new([byte; 16]), generation };
    Bytes::copy_from_slice(&node.to_bytes())
}

fn record(kind: u32, key: &Bytes, body: &impl Message) -> Record {
    Record::new(kind, WorkspaceId::new(1), [7; 16], key.clone(), Timestamp::from_millis(5), body.encode_to_vec().into())
}

fn item(profile: &Bytes, name: &str, at: i64, properties: &[(&str, &str)]) -> Record {
    let Value::Object(properties) = Value::object(properties.iter().map(|(n, v)| ((*n).to_owned(), Value::text(*v)))) else {
        unreachable!()
    };
    let event = Event { name: name.to_owned(), event_time: at, properties: Some(object_to_proto(&properties)), ..Event::default() };
    let body = SegmentItem { node: profile.clone(), body: Some(Body::Event(event.encode_to_vec().into())), first: name != "Cart Viewed" };
    record(kind::ITEM, profile, &body)
}

type Entities = BTreeMap<EntityId, Option<Profile>>;

fn run(entities: &mut Entities, record: &Record) -> Result<Vec<Output>, Poison> {
    let processor = SegmenterProcessor::new(Arc::new(Library::default()));
    let mut fold = Fold::new(Timestamp::from_millis(1_000), Position { offset: 3, index: 1 }, entities);
    processor.fold(&mut fold, record)?;
    Ok(fold.outputs().to_vec())
}

/// The one output to the orchestrator: kind, key, tombstones passed, body.
fn journey(outputs: &[Output]) -> (u32, Bytes, u32, Bytes) {
    let [Output::Inbox { role: Role::Orchestrator, kind, key, via, body, .. }] = outputs else { panic!("one output: {outputs:?}") };
    (*kind, key.clone(), *via, body.clone())
}

#[test]
fn an_item_goes_on_with_what_it_changed() {
    let mut entities = Entities::new();
    let added = item(&id(1), "Product Added", 5, &[("cart_id", "c"), ("product_id", "p")]);
    let (kind, key, via, body) = journey(&run(&mut entities, &added).unwrap());
    assert_eq!((kind, key, via), (kind::JOURNEY_ITEM, id(1), 0));
    let sent = JourneyItem::decode(body).unwrap();
    assert_eq!(sent.delta.unwrap().carts.len(), 1);
    let original = SegmentItem::decode(added.body.clone()).unwrap();
    assert_eq!(sent.item, Some(original), "the event goes on as it came");
    let stored = entities.values().flatten().next().unwrap();
    let entity = EntityId::new(WorkspaceId::new(1), b'p', &id(1));
    assert_eq!(&Profile::decode(&entity, &stored.encode().unwrap()).unwrap(), stored);
}

#[test]
fn a_command_about_runs_goes_on_as_one_and_is_no_event() {
    let mut entities = Entities::new();
    run(&mut entities, &item(&id(1), "Product Added", 5, &[("cart_id", "c"), ("product_id", "p")])).unwrap();
    let command = SegmentItem { node: id(1), body: Some(Body::Command(RunCommand::default())), first: false };
    let (kind, key, _, body) = journey(&run(&mut entities, &record(kind::RUN_ITEM, &id(1), &command)).unwrap());
    assert_eq!((kind, key), (kind::JOURNEY_RUN_ITEM, id(1)));
    let sent = JourneyItem::decode(body).unwrap();
    assert_eq!((sent.item, sent.delta), (Some(command.clone()), Some(Person::default())));
    assert_eq!(entities.values().flatten().next().unwrap().0.events, 1);
    // Whoever was forgotten long ago is not begun anew by it.
    let (kind, ..) = journey(&run(&mut Entities::new(), &record(kind::RUN_ITEM, &id(1), &command)).unwrap());
    assert_eq!(kind, kind::GONE);
}

#[test]
fn a_moved_profile_takes_one_road_and_what_follows_it_takes_the_same() {
    let mut entities = Entities::new();
    run(&mut entities, &item(&id(2), "Product Added", 5, &[("cart_id", "c"), ("product_id", "p")])).unwrap();
    run(&mut entities, &item(&id(1), "Order Completed", 6, &[("order_id", "o"), ("cart_id", "c")])).unwrap();
    let begin = MergeBegin { loser: id(2), winner: id(1), node: id(2), first: true };
    let (kind, key, _, body) = journey(&run(&mut entities, &record(kind::MERGE_BEGIN, &id(2), &begin)).unwrap());
    assert_eq!((kind, key), (kind::JOURNEY_MERGE_BEGIN, id(2)));
    let moving = JourneyMergeBegin::decode(body).unwrap();
    let tombstone = entities[&EntityId::new(WorkspaceId::new(1), b'p', &id(2))].clone().unwrap();
    assert_eq!((tombstone.0.moved_to.clone(), tombstone.0.person.clone(), tombstone.wakeups()), (id(1), None, Wakeups::default()));

    let late = item(&id(2), "Cart Viewed", 7, &[]);
    let (kind, key, via, body) = journey(&run(&mut entities, &late).unwrap());
    assert_eq!((kind, key, via), (kind::PASS, id(2), 1));
    let passed = Record::from_proto(Pass::decode(body).unwrap().record.unwrap()).unwrap();
    assert_eq!(passed, Record { via: 1, at: Some(Timestamp::from_millis(1_000)), ..late });

    let command = SegmentItem { node: id(2), body: Some(Body::Command(RunCommand::default())), first: false };
    let (kind, _, via, body) = journey(&run(&mut entities, &record(kind::RUN_ITEM, &id(2), &command)).unwrap());
    assert_eq!((kind, via), (kind::PASS_RUN, 1));
    assert_eq!(Pass::decode(body).unwrap().record.unwrap().kind, kind::RUN_ITEM);

    let state = MergeState {
        node: id(2),
        ids: vec![id(2)],
        segment_state: moving.segment_state,
        journey_state: Bytes::from_static(b"j"),
        loser: id(2),
    };
    let (kind, key, _, body) = journey(&run(&mut entities, &record(kind::MERGE_STATE, &id(1), &state)).unwrap());
    assert_eq!((kind, key), (kind::JOURNEY_MERGE_STATE, id(1)));
    let arrived = JourneyMergeState::decode(body).unwrap();
    let delta = arrived.delta.unwrap();
    assert_eq!((delta.carts[0].status(), delta.orders.len()), (CartStatus::Ordered, 1));
    assert_eq!((arrived.journey_state, arrived.loser, arrived.ids), (Bytes::from_static(b"j"), id(2), vec![id(2)]));
    let winner = entities[&EntityId::new(WorkspaceId::new(1), b'p', &id(1))].clone().unwrap().0;
    assert_eq!((winner.ids, winner.losers), (vec![id(1), id(2)], vec![id(2)]));
}

#[test]
fn a_profile_that_nobody_has_seen_moves_too() {
    let mut entities = Entities::new();
    let begin = MergeBegin { loser: id(2), winner: id(1), node: id(2), first: true };
    assert_eq!(journey(&run(&mut entities, &record(kind::MERGE_BEGIN, &id(2), &begin)).unwrap()).0, kind::JOURNEY_MERGE_BEGIN);
    let again = run(&mut entities, &record(kind::MERGE_BEGIN, &id(2), &begin)).map_err(|p| p.reason);
    assert_eq!(again, Err("ALREADY_MOVED"));
    assert!(SegmenterProcessor::HALTS.contains(&"ALREADY_MOVED"), "identity and this log disagree: nothing is set aside");
}

#[test]
fn a_receipt_goes_on_without_a_change() {
    let body = SegmentItem { node: id(1), body: Some(Body::Receipt(waypost_codec::inbox::Receipt::default())), first: true };
    let (kind, _, _, body) = journey(&run(&mut Entities::new(), &record(kind::ITEM, &id(1), &body)).unwrap());
    assert_eq!((kind, JourneyItem::decode(body).unwrap().delta), (kind::JOURNEY_ITEM, Some(Person::default())));
}

#[test]
fn what_cannot_be_folded_has_a_reason() {
    let short = Bytes::from_static(b"short");
    let empty = SegmentItem { first: true, ..SegmentItem::default() };
    let nobodys = SegmentItem::default();
    let broken = SegmentItem { body: Some(Body::Event(Bytes::from_static(b"\xff"))), ..empty.clone() };
    for (record, reason) in [
        (record(kind::ITEM, &short, &empty), "DECODE_FAILED"),
        (record(kind::ITEM, &id(1), &empty), "DECODE_FAILED"),
        (record(kind::ITEM, &id(1), &broken), "DECODE_FAILED"),
        (record(kind::ITEM, &id(1), &nobodys), "DECODE_FAILED"),
        (record(kind::FLUSH, &id(1), &nobodys), "DECODE_FAILED"),
        (record(kind::MERGE_BEGIN, &id(1), &MergeBegin { first: true, ..MergeBegin::default() }), "DECODE_FAILED"),
        (record(999, &id(1), &empty), "UNKNOWN_KIND"),
    ] {
        assert_eq!(run(&mut Entities::new(), &record).map_err(|p| p.reason), Err(reason), "kind {}", record.kind);
    }
}

/// One workspace with one segment: ordered within the last week.
fn with_segment() -> SegmenterProcessor {
    let scope = Scope::segment(Policy::default().currency, BTreeSet::default());
    let condition = Arc::new(compile(r#"within(profile.last_order_at, "7d")"#, &scope).unwrap());
    let segment = Segment { name: "fresh".to_owned(), describe: String::new(), version: 2, condition };
    let mut workspace = Workspace::empty(WorkspaceId::new(1));
    workspace.segments.insert("fresh".to_owned(), segment);
    workspace.segment_order.push("fresh".to_owned());
    let workspaces = BTreeMap::from([(WorkspaceId::new(1), Arc::new(workspace))]);
    let set = DefinitionSet::new(1, ContentHash::new([1; 16]), workspaces);
    let mut processor = SegmenterProcessor::new(Arc::new(Library::default()));
    processor.set = Some(Arc::new(set));
    processor
}

#[test]
fn a_membership_ends_at_its_instant_and_not_before() {
    let processor = with_segment();
    let entity = EntityId::new(WorkspaceId::new(1), b'p', &id(1));
    let mut entities = Entities::from([(entity.clone(), None)]);
    let due = Timestamp::from_millis(6).plus(Span::from_days(7));
    let mut fold = Fold::new(Timestamp::from_millis(6), Position { offset: 1, index: 0 }, &mut entities);
    processor.fold(&mut fold, &item(&id(1), "Order Completed", 6, &[("order_id", "o")])).unwrap();
    assert!(matches!(fold.outputs()[1], Output::Public { topic: SegmentChange::TOPIC, .. }));
    assert_eq!(fold.get(&entity).map(Profile::wakeups), Some(Wakeups { plain: None, absent: Some(due) }));

    let mut fold = Fold::new(due, Position { offset: 2, index: 0 }, &mut entities);
    let until = |absent, before| Fireable { plain: due, absent, proven: absent, before };
    for held in [until(due.minus(Span::from_millis(1)), None), until(due, Some(due))] {
        assert_eq!(processor.fire(&mut fold, &entity, held), Ok(false));
    }
    assert_eq!(processor.fire(&mut fold, &entity, until(due, None)), Ok(true));
    let [Output::Inbox { kind: kind::DELTA, body, .. }, Output::Public { .. }] = fold.outputs() else { panic!("a delta and a change") };
    let delta = Delta::decode(body.clone()).unwrap().delta.unwrap();
    assert_eq!((delta.memberships.len(), delta.not_in.len()), (0, 1), "plainly not in it any more");
    assert_eq!(processor.fire(&mut fold, &entity, until(due, None)), Ok(false));
}
