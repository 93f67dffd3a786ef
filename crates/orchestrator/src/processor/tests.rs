//! The one road, as far as it runs through here; decisions have their tests in the engine.

mod erasing;

use std::collections::BTreeMap;

use waypost_codec::inbox::{Flush, MergeBegin, Receipt, RunCommand, SegmentItem, StartRun, run_command};
use waypost_runtime::{figures::Tally, processor::Entity as _};
use waypost_types::{Generation, IdentifierClass, IdentifierHash, Node, Position};

use super::*;

type Entities = BTreeMap<EntityId, Option<Profile>>;

fn node(byte: u8) -> Bytes {
    let node = Node {
        class: IdentifierClass::Anonymous,
        hash: IdentifierHash::new([byte; 16]),
        generation: Generation { layout: 1, offset: u64::from(byte), index: 0 },
    };
    Bytes::copy_from_slice(&node.to_bytes())
}

fn record(kind: u32, profile: u8, body: &impl Message) -> Record {
    Record::new(kind, WorkspaceId::new(1), [9; 16], node(profile), Timestamp::from_millis(5), body.encode_to_vec().into())
}

fn item(profile: u8, from: u8) -> Record {
    let event = Event { name: "Product Viewed".to_owned(), message_id: "m1".to_owned(), ..Event::default() };
    let item = SegmentItem { node: node(from), body: Some(Body::Event(event.encode_to_vec().into())), first: false };
    record(kind::JOURNEY_ITEM, profile, &JourneyItem { item: Some(item), delta: Some(Person::default()) })
}

fn merge_begin(loser: u8, winner: u8, ids: &[u8]) -> Record {
    let begin = MergeBegin { loser: node(loser), winner: node(winner), node: node(loser), first: false };
    let seg = SegmentProfile { ids: ids.iter().map(|i| node(*i)).collect(), ..SegmentProfile::default() };
    record(kind::JOURNEY_MERGE_BEGIN, loser, &JourneyMergeBegin { begin: Some(begin), segment_state: seg.encode_to_vec().into() })
}

fn run(entities: &mut Entities, record: &Record) -> Result<Vec<Output>, Poison> {
    let processor = OrchestratorProcessor::new(Arc::new(Library::default()));
    let mut fold = Fold::new(Timestamp::from_millis(10), Position { offset: 1, index: 0 }, entities);
    processor.fold(&mut fold, record)?;
    Ok(fold.outputs().to_vec())
}

/// Role, kind, key, via of what goes to an inbox.
fn inboxes(outputs: &[Output]) -> Vec<(Role, u32, Bytes, u32)> {
    outputs
        .iter()
        .filter_map(|o| match o {
            Output::Inbox { role, kind, key, via, .. } => Some((*role, *kind, key.clone(), *via)),
            Output::Public { .. } | Output::Dead(_) => None,
        })
        .collect()
}

#[test]
fn an_item_is_folded_and_its_node_remembered() {
    let mut entities = Entities::new();
    assert!(run(&mut entities, &item(1, 2)).unwrap().is_empty());
    let (id, stored) = entities.iter().next().unwrap();
    let stored = stored.as_ref().unwrap();
    assert_eq!(stored.0.ids, [node(2)]);
    assert_eq!(&Profile::decode(id, &stored.encode().unwrap()).unwrap(), stored);
}

#[test]
fn entries_exits_and_stops_are_tallied_and_nothing_else() {
    let mut entities = Entities::new();
    let mut fold = Fold::new(Timestamp::from_millis(10), Position { offset: 1, index: 0 }, &mut entities);
    let decided = |what: &str| Decision {
        workspace: 3,
        journey: "cart".to_owned(),
        version: 2,
        what: what.to_owned(),
        reason: "GOAL".to_owned(),
        key: "somebody's".to_owned(),
        ..Decision::default()
    };
    for what in ["ENTERED", "REARMED", "SENT", "EXITED", "RECEIPT", "STOPPED"] {
        tallying::tally(&mut fold, decided(what));
    }
    let told = |t: &Tally| (t.what, t.workspace.number(), t.name.clone(), t.version, t.reason.clone());
    let told: Vec<_> = fold.tallies().iter().map(told).collect();
    let of = |what, name: &str, version, reason: &str| (what, 3, name.to_owned(), version, reason.to_owned());
    assert_eq!(told, [of("entered", "cart", 2, ""), of("exited", "cart", 0, "GOAL"), of("stopped", "", 0, "GOAL")]);
}

#[test]
fn an_item_that_came_by_the_old_road_is_answered_with_merge_done() {
    let out = run(&mut Entities::new(), &Record { via: 1, ..item(1, 2) }).unwrap();
    assert_eq!(inboxes(&out), [(Role::Identity, kind::MERGE_DONE, Bytes::from_static(&[2; 16]), 0)]);
}

#[test]
fn a_loser_becomes_a_tombstone_and_both_states_go_to_the_winner() {
    let mut entities = Entities::new();
    run(&mut entities, &item(1, 2)).unwrap();
    let out = run(&mut entities, &merge_begin(1, 8, &[3])).unwrap();
    assert_eq!(inboxes(&out), [(Role::Segmenter, kind::MERGE_STATE, node(8), 0)]);
    let Output::Inbox { body, .. } = &out[0] else { panic!("an inbox") };
    let state = MergeState::decode(body.clone()).unwrap();
    assert_eq!((state.loser, state.ids), (node(1), vec![node(1), node(2), node(3)]));
    let tombstone = entities.values().flatten().next().unwrap();
    assert!(tombstone.is_tombstone());
    assert_eq!(tombstone.wakeups(), waypost_runtime::processor::Wakeups::default());

    // What follows is passed on as it was, at its own time.
    let inner = Record { via: 1, at: Some(Timestamp::from_millis(3)), ..record(kind::ITEM, 1, &SegmentItem::default()) };
    let pass = Record { via: 1, ..record(kind::PASS, 1, &Pass { record: Some(inner.to_proto()) }) };
    let out = run(&mut entities, &pass).unwrap();
    let Output::Inbox { role, key, kind, id, via, at, .. } = &out[0] else { panic!("an inbox") };
    assert_eq!((*role, key, *kind, *id), (Role::Segmenter, &node(8), kind::ITEM, inner.id));
    assert_eq!((*via, *at), (1, inner.at));
    let command = Record { via: 1, ..record(kind::RUN_ITEM, 1, &SegmentItem::default()) };
    let out = run(&mut entities, &record(kind::PASS_RUN, 1, &Pass { record: Some(command.to_proto()) })).unwrap();
    assert_eq!(inboxes(&out), [(Role::Segmenter, kind::RUN_ITEM, node(8), 1)]);
}

#[test]
fn a_command_about_runs_is_decided_here_and_told() {
    let start = StartRun { journey: "none".to_owned(), key: String::new() };
    let command = RunCommand { node: None, what: Some(run_command::What::Start(start)) };
    let item = SegmentItem { node: node(2), body: Some(Body::Command(command)), first: false };
    let mut entities = Entities::new();
    let out = run(&mut entities, &record(kind::JOURNEY_RUN_ITEM, 1, &JourneyItem { item: Some(item), delta: None })).unwrap();
    let [Output::Public { kind, .. }] = &out[..] else { panic!("one decision: {out:?}") };
    assert_eq!(*kind, "dev.waypost.decision.made");
    let state = &entities.values().flatten().next().unwrap().0;
    let told = &state.trail[0];
    assert_eq!((told.what.as_str(), told.reason.as_str(), told.cause.as_str()), ("REFUSED", "NOT_IN_FORCE", "operator"));
}

#[test]
fn a_large_profile_moves_in_one_record_and_without_what_would_come_twice() {
    use waypost_codec::{
        inbox::Field,
        state::{Run, Trail},
    };
    let mut entities = Entities::new();
    let id = EntityId::new(WorkspaceId::new(1), b'p', &node(1));
    let field = |n: usize| Field { path: format!("f{n:03}"), ..Field::default() };
    let person = Person { fields: (0..9_000).map(field).collect(), ..Person::default() };
    let live = Run { id: Bytes::from_static(&[5; 16]), entry: vec![0; 150_000].into(), ..Run::default() };
    let trail = Trail { note: "n".repeat(20_000), ..Trail::default() };
    let state = JourneyProfile {
        person: Some(person.clone()),
        runs: vec![live],
        trail: vec![trail],
        ids: vec![node(2)],
        ..JourneyProfile::default()
    };
    entities.insert(id.clone(), Some(Profile(state)));
    let segment = SegmentProfile { person: Some(person), ids: vec![node(3)], ..SegmentProfile::default() };
    let begin = MergeBegin { loser: node(1), winner: node(8), node: node(1), first: false };
    let moving = JourneyMergeBegin { begin: Some(begin), segment_state: segment.encode_to_vec().into() };
    let out = run(&mut entities, &record(kind::JOURNEY_MERGE_BEGIN, 1, &moving)).unwrap();
    let Output::Inbox { body, .. } = &out[0] else { panic!("an inbox") };
    assert!(body.len() <= 256 * 1_024, "{} bytes", body.len());
    let moved = MergeState::decode(body.clone()).unwrap();
    let journey = JourneyProfile::decode(moved.journey_state).unwrap();
    assert_eq!((journey.person, journey.runs.len(), journey.trail.len()), (None, 1, 0));
    assert_eq!(moved.ids, [node(1), node(2), node(3)]);
    let back = SegmentProfile::decode(moved.segment_state).unwrap();
    assert_eq!((back.person, back.ids), (segment.person, vec![]));
    assert!(entities[&id].as_ref().unwrap().is_tombstone());
}

#[test]
fn stages_that_do_not_mirror_each_other_halt_the_partition() {
    assert!(OrchestratorProcessor::HALTS.contains(&"PASS_WITHOUT_TOMBSTONE"));
}

#[test]
fn an_import_tells_every_node_where_its_profile_is() {
    let body = JourneyMergeState { node: node(1), ids: vec![node(1), node(2)], loser: node(1), ..JourneyMergeState::default() };
    let mut entities = Entities::new();
    let out = run(&mut entities, &record(kind::JOURNEY_MERGE_STATE, 8, &body)).unwrap();
    let told: Vec<Bytes> = inboxes(&out).into_iter().map(|(_, _, key, _)| key).collect();
    assert_eq!(told, [Bytes::from_static(&[1; 16]), Bytes::from_static(&[2; 16])]);
    let winner = entities.values().flatten().next().unwrap();
    assert_eq!((winner.0.ids.clone(), winner.0.losers.clone()), (vec![node(1), node(2)], vec![node(1)]));
}

#[test]
fn what_does_not_mirror_the_segmenter_has_a_reason() {
    let mut entities = Entities::new();
    run(&mut entities, &merge_begin(1, 8, &[])).unwrap();
    let pass = |profile| record(kind::PASS, profile, &Pass { record: Some(item(1, 2).to_proto()) });
    let empty = SegmentItem::default();
    let hollow = JourneyItem { item: Some(SegmentItem { body: Some(Body::Receipt(Receipt::default())), ..empty }), delta: None };
    for (record, reason) in [
        (pass(2), "PASS_WITHOUT_TOMBSTONE"),
        (item(1, 2), "ALREADY_MOVED"),
        (merge_begin(1, 8, &[]), "ALREADY_MOVED"),
        (merge_begin(3, 3, &[]), "DECODE_FAILED"),
        (record(kind::JOURNEY_ITEM, 2, &JourneyItem::default()), "DECODE_FAILED"),
        (record(kind::JOURNEY_FLUSH, 2, &Flush::default()), "DECODE_FAILED"),
        (record(kind::ITEM, 2, &Flush::default()), "UNKNOWN_KIND"),
        (Record { key: Bytes::from_static(b"short"), ..item(2, 2) }, "DECODE_FAILED"),
        (Record { body: Bytes::from_static(&[0xff]), ..item(2, 2) }, "DECODE_FAILED"),
    ] {
        assert_eq!(run(&mut entities, &record).map_err(|p| p.reason), Err(reason), "kind {}", record.kind);
    }
    assert!(run(&mut entities, &record(kind::JOURNEY_ITEM, 2, &hollow)).is_ok(), "a receipt of a run long gone");
}
