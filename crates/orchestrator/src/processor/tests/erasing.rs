//! Flushes and drains; erase, burial, and answers for those who are gone.

use waypost_codec::{
    inbox::{Address, Bury, EraseAddress, EraseNode, Erased, Gone, Recall, Settled},
    state::{Run, RunSend, SendState},
};
use waypost_engine::address;

use super::*;

fn entity(profile: u8) -> EntityId {
    EntityId::new(WorkspaceId::new(1), b'p', &node(profile))
}

fn of(entities: &Entities, profile: u8) -> JourneyProfile {
    entities[&entity(profile)].clone().unwrap().0
}

fn identifier(byte: u8) -> Bytes {
    Bytes::copy_from_slice(&[byte; 16])
}

fn merge_state(winner: u8, loser: u8, ids: &[u8]) -> Record {
    let ids = ids.iter().map(|i| node(*i)).collect();
    let body = JourneyMergeState { node: node(loser), ids, loser: node(loser), ..JourneyMergeState::default() };
    record(kind::JOURNEY_MERGE_STATE, winner, &body)
}

fn settled(profile: u8, from: u8) -> Record {
    let item = SegmentItem { node: node(from), body: Some(Body::Settled(Settled { node: node(from) })), first: false };
    record(kind::JOURNEY_ITEM, profile, &JourneyItem { item: Some(item), delta: None })
}

/// A profile with one live run whose send is on its way.
fn with_a_queued_send(byte: u8) -> JourneyProfile {
    let send = RunSend {
        id: vec![byte; 16].into(),
        state: SendState::Decided.into(),
        dispatch: vec![byte + 1; 16].into(),
        address_key: identifier(byte + 2),
        ..RunSend::default()
    };
    let run = Run { id: vec![byte; 16].into(), journey: "cart".to_owned(), sends: vec![send], ..Run::default() };
    JourneyProfile { runs: vec![run], ids: vec![node(2)], ..JourneyProfile::default() }
}

/// What goes to these inboxes, decoded.
fn bodies<M: Message + Default>(outputs: &[Output], wanted: u32) -> Vec<(Role, Bytes, M)> {
    outputs
        .iter()
        .filter_map(|o| match o {
            Output::Inbox { role, kind, key, body, .. } if *kind == wanted => Some((*role, key.clone(), M::decode(body.clone()).unwrap())),
            Output::Inbox { .. } | Output::Public { .. } | Output::Dead(_) => None,
        })
        .collect()
}

#[test]
fn a_flush_is_answered_at_the_identifier_it_came_from() {
    let mut entities = Entities::new();
    run(&mut entities, &item(1, 2)).unwrap();
    let flush = Flush { profile: node(1), node: node(3), flush_no: 7 };
    let out = run(&mut entities, &Record { via: 2, ..record(kind::JOURNEY_FLUSH, 1, &flush) }).unwrap();
    let expected = Flushed { node: node(3), at: node(1), flush_no: 7 };
    assert_eq!(bodies::<Flushed>(&out, kind::FLUSHED), [(Role::Identity, identifier(3), expected)]);
    assert_eq!(out.len(), 1);
    assert_eq!(of(&entities, 1).ids, [node(2), node(3)], "an erase reaches it too");
}

#[test]
fn an_import_drains_until_every_node_has_settled_straight() {
    let mut entities = Entities::new();
    run(&mut entities, &merge_state(8, 1, &[1, 2])).unwrap();
    assert_eq!(of(&entities, 8).draining, [node(1), node(2)]);
    run(&mut entities, &settled(8, 1)).unwrap();
    assert_eq!(of(&entities, 8).draining, [node(2)]);
    run(&mut entities, &record(kind::JOURNEY_FLUSH, 8, &Flush { node: node(2), ..Flush::default() })).unwrap();
    let out = run(&mut entities, &Record { via: 1, ..settled(8, 2) }).unwrap();
    assert_eq!(of(&entities, 8).draining, [node(2)], "neither a flush ends it nor a detour");
    let done = MergeDone { node: node(2), at: node(8) };
    assert_eq!(bodies::<MergeDone>(&out, kind::MERGE_DONE), [(Role::Identity, identifier(2), done)], "which brings the next word");
    run(&mut entities, &settled(8, 2)).unwrap();
    assert_eq!((of(&entities, 8).draining, of(&entities, 8).draining_since), (vec![], 0));
}

#[test]
fn a_profile_that_moves_while_it_drains_leaves_the_waiting_to_the_winner() {
    let mut entities = Entities::new();
    run(&mut entities, &merge_state(8, 1, &[1, 2])).unwrap();
    let out = run(&mut entities, &merge_begin(8, 9, &[])).unwrap();
    let [(_, _, moving)] = &bodies::<MergeState>(&out, kind::MERGE_STATE)[..] else { panic!("one state") };
    assert_eq!(moving.ids, [node(1), node(2), node(8)]);
    assert!(JourneyProfile::decode(moving.journey_state.clone()).unwrap().draining.is_empty());
}

#[test]
fn an_erase_tells_everybody_who_knows_something() {
    let mut entities = Entities::from([(entity(1), Some(Profile(with_a_queued_send(40))))]);
    let ana = Address { channel: "email".to_owned(), value: "ana@shop.example".to_owned(), ..Address::default() };
    let body = Erased { ids: vec![node(1), node(2)], suppress: true, addresses: vec![ana], losers: vec![node(5)], ..Erased::default() };
    let out = run(&mut entities, &record(kind::ERASED, 1, &body)).unwrap();
    let recall = Recall { dispatch: vec![41; 16].into(), reason: "ERASED".to_owned() };
    assert_eq!(bodies::<Recall>(&out, kind::RECALL), [(Role::Sender, identifier(42), recall)]);
    let nodes: Vec<_> = [1, 2].map(|n| (Role::Identity, identifier(n), EraseNode { node: node(n) })).into();
    assert_eq!(bodies::<EraseNode>(&out, kind::ERASE_NODE), nodes);
    assert_eq!(bodies::<Bury>(&out, kind::BURY), [(Role::Segmenter, node(5), Bury { profile: node(5), suppress: true })]);
    let address = EraseAddress { suppress: true, profile: node(1), channel: "email".to_owned() };
    let key = Bytes::copy_from_slice(&address::key("email", "ana@shop.example"));
    assert_eq!(bodies::<EraseAddress>(&out, kind::ERASE_ADDRESS), [(Role::Sender, key, address)]);
    let kinds: Vec<u32> = inboxes(&out).into_iter().map(|(_, kind, _, _)| kind).collect();
    assert_eq!(kinds.first(), Some(&kind::RECALL), "what is queued is taken back before its address is forgotten");
    assert_eq!(of(&entities, 1), JourneyProfile { erased: true, erased_at: 10, now: 10, ..JourneyProfile::default() });

    // A half that came too late: its sends are recalled, its nodes and tombstones go, and the mark stays as it was.
    let late = with_a_queued_send(60).encode_to_vec().into();
    let body = Erased { ids: vec![node(6)], losers: vec![node(6)], journey_state: late, ..Erased::default() };
    let out = run(&mut entities, &record(kind::ERASED, 1, &body)).unwrap();
    let kinds: Vec<u32> = inboxes(&out).into_iter().map(|(_, kind, _, _)| kind).collect();
    assert_eq!(kinds, [kind::RECALL, kind::ERASE_NODE, kind::BURY]);
    assert_eq!(of(&entities, 1).runs, []);
}

#[test]
fn a_buried_tombstone_tells_nobody() {
    let mut entities = Entities::new();
    run(&mut entities, &merge_begin(1, 8, &[3])).unwrap();
    assert_eq!(run(&mut entities, &record(kind::ERASED, 1, &Erased::default())), Ok(Vec::new()));
    assert_eq!(of(&entities, 1), JourneyProfile { erased: true, erased_at: 10, now: 10, ..JourneyProfile::default() });
}

#[test]
fn nodes_that_reach_somebody_who_is_gone_are_forgotten_until_the_mark_goes_and_after() {
    let mut entities = Entities::new();
    run(&mut entities, &record(kind::ERASED, 1, &Erased::default())).unwrap();
    let gone = |nodes: &[u8]| record(kind::GONE, 1, &Gone { nodes: nodes.iter().map(|n| node(*n)).collect() });
    for _ in 0..2 {
        let out = run(&mut entities, &gone(&[2])).unwrap();
        assert_eq!(bodies::<EraseNode>(&out, kind::ERASE_NODE), [(Role::Identity, identifier(2), EraseNode { node: node(2) })]);
        assert_eq!(run(&mut entities, &gone(&[])), Ok(Vec::new()));
        assert_eq!(entities[&entity(1)], None);
    }
}

#[test]
fn what_contradicts_the_segmenter_halts_the_partition() {
    let mut entities = Entities::new();
    run(&mut entities, &item(2, 2)).unwrap();
    run(&mut entities, &record(kind::ERASED, 3, &Erased::default())).unwrap();
    let gone = Gone { nodes: vec![node(2)] };
    for (record, reason) in [
        (record(kind::GONE, 2, &gone), "GONE_BUT_ALIVE"),
        (item(3, 3), "ALREADY_ERASED"),
        (merge_begin(3, 8, &[]), "ALREADY_ERASED"),
        (merge_state(3, 1, &[1]), "ALREADY_ERASED"),
        (record(kind::PASS, 3, &Pass { record: Some(item(3, 2).to_proto()) }), "PASS_WITHOUT_TOMBSTONE"),
    ] {
        assert_eq!(run(&mut entities, &record).map_err(|p| p.reason), Err(reason), "kind {}", record.kind);
        assert!(OrchestratorProcessor::HALTS.contains(&reason));
    }
}

#[test]
fn every_rule_of_it_has_a_switch() {
    let off = Rules { recheck_at_import: false, drain: false, erased_never_moves: false };
    let processor = OrchestratorProcessor::new(Arc::new(Library::default())).with_rules(off);
    let mut entities = Entities::new();
    for record in [merge_state(8, 1, &[1, 2]), record(kind::ERASED, 3, &Erased::default()), merge_begin(3, 9, &[])] {
        let mut fold = Fold::new(Timestamp::from_millis(10), Position { offset: 1, index: 0 }, &mut entities);
        processor.fold(&mut fold, &record).unwrap();
    }
    assert!(of(&entities, 8).draining.is_empty());
    assert_eq!(of(&entities, 3).moved_to, node(9));
}
