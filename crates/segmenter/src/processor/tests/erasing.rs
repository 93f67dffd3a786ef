//! Erase, burial, and what still reaches a profile that is gone.

use waypost_codec::inbox::{Bury, Erase, Erased, Flush, MergeState, Receipt, Settled};

use super::*;

fn entity(profile: &Bytes) -> EntityId {
    EntityId::new(WorkspaceId::new(1), b'p', profile)
}

fn said(profile: &Bytes, body: Body) -> Record {
    record(kind::ITEM, profile, &SegmentItem { node: profile.clone(), body: Some(body), first: false })
}

fn erase(profile: &Bytes) -> Record {
    said(profile, Body::Erase(Erase { suppress: true, ..Erase::default() }))
}

fn flush(profile: &Bytes, node: &Bytes) -> Record {
    record(kind::FLUSH, profile, &Flush { profile: profile.clone(), node: node.clone(), flush_no: 3 })
}

fn merge_begin(loser: u8, first: bool) -> Record {
    record(kind::MERGE_BEGIN, &id(loser), &MergeBegin { loser: id(loser), winner: id(1), node: id(loser), first })
}

fn merge_state(winner: u8) -> Record {
    let moved = SegmentProfile { losers: vec![id(7)], ..SegmentProfile::default() };
    let state = MergeState {
        node: id(3),
        ids: vec![id(3), id(4)],
        segment_state: moved.encode_to_vec().into(),
        journey_state: Bytes::from_static(b"j"),
        loser: id(3),
    };
    record(kind::MERGE_STATE, &id(winner), &state)
}

fn gone(entities: &mut Entities, record: &Record) -> Vec<Bytes> {
    let (kind, key, _, body) = journey(&run(entities, record).unwrap());
    assert_eq!((kind, key), (kind::GONE, record.key.clone()), "an answer to kind {}", record.kind);
    Gone::decode(body).unwrap().nodes
}

#[test]
fn an_erase_wipes_the_profile_and_says_what_there_is_to_forget() {
    let mut entities = Entities::new();
    run(&mut entities, &item(&id(1), "Product Added", 5, &[("cart_id", "c"), ("product_id", "p")])).unwrap();
    run(&mut entities, &merge_state(1)).unwrap();
    let (kind, key, _, body) = journey(&run(&mut entities, &erase(&id(1))).unwrap());
    assert_eq!((kind, key), (kind::ERASED, id(1)));
    let erased = Erased::decode(body).unwrap();
    assert_eq!((erased.ids, erased.losers, erased.suppress), (vec![id(1), id(3), id(4)], vec![id(3), id(7)], true));
    let mark = SegmentProfile { erased: true, erased_at: 1_000, now: 1_000, suppress: true, ..SegmentProfile::default() };
    assert_eq!(entities[&entity(&id(1))], Some(Profile::from(mark)));
}

#[test]
fn an_erased_profile_answers_whatever_still_reaches_it_and_keeps_nothing() {
    let mut entities = Entities::new();
    run(&mut entities, &item(&id(1), "Product Viewed", 5, &[])).unwrap();
    run(&mut entities, &erase(&id(1))).unwrap();
    let mark = entities.clone();
    let late = item(&id(1), "Cart Viewed", 7, &[]);
    let receipt = said(&id(1), Body::Receipt(Receipt::default()));
    let settled = said(&id(1), Body::Settled(Settled::default()));
    for record in [late, receipt, settled, erase(&id(1)), flush(&id(1), &id(1))] {
        assert_eq!(gone(&mut entities, &record), [id(1)]);
    }
    let moving = record(kind::MERGE_BEGIN, &id(1), &MergeBegin { loser: id(1), winner: id(9), node: id(1), first: true });
    assert_eq!(gone(&mut entities, &moving), [id(1)], "it never moves");
    assert_eq!(entities, mark);

    // The other half is forgotten too, with its tombstone and what was queued for it.
    let (kind, _, _, body) = journey(&run(&mut entities, &merge_state(1)).unwrap());
    let late = Erased::decode(body).unwrap();
    assert_eq!((kind, late.ids, late.losers, late.suppress), (kind::ERASED, vec![id(3), id(4)], vec![id(3), id(7)], true));
    assert_eq!(late.journey_state, Bytes::from_static(b"j"));
    assert_eq!(entities, mark);
}

#[test]
fn a_tombstone_is_buried_with_whom_it_moved_to() {
    let mut entities = Entities::new();
    let buried = record(kind::BURY, &id(3), &Bury { profile: id(3), suppress: true });
    run(&mut entities, &merge_begin(3, true)).unwrap();
    let (kind, key, _, body) = journey(&run(&mut entities, &buried).unwrap());
    assert_eq!((kind, key, Erased::decode(body).unwrap()), (kind::ERASED, id(3), Erased { suppress: true, ..Erased::default() }));
    assert!(entities[&entity(&id(3))].as_ref().unwrap().is_erased());
    assert_eq!(gone(&mut entities, &item(&id(3), "Cart Viewed", 7, &[])), [id(3)], "nothing is passed on any more");
    assert_eq!(run(&mut entities, &buried), Ok(Vec::new()), "once is enough");
    let (_, _, _, body) = journey(&run(&mut entities, &merge_state(3)).unwrap());
    assert!(Erased::decode(body).unwrap().suppress, "a half that comes later is forgotten as it was");
    run(&mut entities, &merge_state(8)).unwrap();
    let alive = record(kind::BURY, &id(8), &Bury::default());
    assert_eq!(run(&mut entities, &alive).map_err(|p| p.reason), Err("BURIED_ALIVE"));
    assert!(SegmenterProcessor::HALTS.contains(&"BURIED_ALIVE"));
}

#[test]
fn nobody_knows_a_profile_that_was_never_seen_or_one_erased_long_ago_and_the_node_tells_them_apart() {
    let first = |record: &Record| {
        let item = SegmentItem { first: true, ..SegmentItem::decode(record.body.clone()).unwrap() };
        Record { body: item.encode_to_vec().into(), ..record.clone() }
    };
    let late = said(&id(3), Body::Receipt(Receipt::default()));
    for record in [late.clone(), flush(&id(3), &id(3)), merge_begin(3, false), erase(&id(3))] {
        let mut entities = Entities::new();
        assert_eq!(gone(&mut entities, &record), [id(3)]);
        assert_eq!(entities.values().flatten().count(), 0);
    }
    for (record, expected) in [
        (first(&late), kind::JOURNEY_ITEM),
        (merge_begin(3, true), kind::JOURNEY_MERGE_BEGIN),
        // A link makes winners of nodes that have sent nothing.
        (merge_state(3), kind::JOURNEY_MERGE_STATE),
        // Whoever is on the way to a person who is to be forgotten finds the mark.
        (first(&erase(&id(3))), kind::ERASED),
    ] {
        let mut entities = Entities::new();
        assert_eq!(journey(&run(&mut entities, &record).unwrap()).0, expected);
        assert_eq!(entities.values().flatten().count(), 1);
    }
}

#[test]
fn what_there_is_to_forget_goes_in_portions() {
    let mut entities = Entities::new();
    let many = |from: u16| (from..from + 300).map(|n| Bytes::from([&n.to_be_bytes()[..], &[5; 29]].concat())).collect::<Vec<_>>();
    let state = SegmentProfile { ids: many(1), losers: many(2), now: 1, ..SegmentProfile::default() };
    entities.insert(entity(&id(1)), Some(Profile::from(state)));
    let portions: Vec<Erased> = run(&mut entities, &erase(&id(1)))
        .unwrap()
        .iter()
        .map(|output| Erased::decode(journey(slice::from_ref(output)).3).unwrap())
        .collect();
    assert_eq!(portions.iter().map(|p| p.losers.len()).collect::<Vec<_>>(), [128, 128, 44]);
    assert_eq!(portions.iter().map(|p| p.ids.len()).sum::<usize>(), 301, "its own node is one of them");
    assert!(portions.iter().all(|p| p.ids.len() + p.losers.len() <= 256));
}

#[test]
fn the_mark_goes_when_nothing_can_be_on_its_way_any_more() {
    let processor = SegmenterProcessor::new(Arc::new(Library::default()));
    let mut entities = Entities::new();
    run(&mut entities, &item(&id(1), "Product Viewed", 5, &[])).unwrap();
    run(&mut entities, &erase(&id(1))).unwrap();
    let due = Timestamp::from_millis(1_000).plus(segment::MARK);
    let wakeups = |entities: &Entities| entities[&entity(&id(1))].as_ref().map(Profile::wakeups);
    assert_eq!(wakeups(&entities), Some(Wakeups { plain: Some(due), absent: None }));
    let mut fold = Fold::new(due, Position { offset: 9, index: 0 }, &mut entities);
    let until = |plain| Fireable { plain, absent: Timestamp::MAX, proven: Timestamp::MAX, before: None };
    assert_eq!(processor.fire(&mut fold, &entity(&id(1)), until(due.minus(Span::from_millis(1)))), Ok(false));
    assert_eq!(processor.fire(&mut fold, &entity(&id(1)), until(due)), Ok(true));
    let (kind, key, _, body) = journey(fold.outputs());
    assert_eq!((kind, key, Gone::decode(body).unwrap()), (kind::GONE, id(1), Gone::default()));
    assert_eq!(wakeups(&entities), None);
    assert_eq!(gone(&mut entities, &item(&id(1), "Cart Viewed", 7, &[])), [id(1)], "the answer stays the same");
}

#[test]
fn a_profile_drains_until_every_moved_node_has_settled_straight() {
    let mut entities = Entities::new();
    let draining = |entities: &Entities| entities[&entity(&id(1))].as_ref().unwrap().0.draining.clone();
    run(&mut entities, &merge_state(1)).unwrap();
    assert_eq!(draining(&entities), [id(3), id(4)]);
    let due = Timestamp::from_millis(1_000).plus(drain::LONGEST);
    assert_eq!(entities[&entity(&id(1))].as_ref().unwrap().wakeups(), Wakeups { plain: Some(due), absent: None });
    let (kind, key, _, body) = journey(&run(&mut entities, &flush(&id(1), &id(3))).unwrap());
    assert_eq!((kind, key, Flush::decode(body).unwrap().flush_no), (kind::JOURNEY_FLUSH, id(1), 3));
    let mut settles = |node: Bytes, via: u32| {
        let settled = SegmentItem { node: node.clone(), body: Some(Body::Settled(Settled { node })), first: false };
        let record = Record { via, ..record(kind::ITEM, &id(1), &settled) };
        assert_eq!(journey(&run(&mut entities, &record).unwrap()).0, kind::JOURNEY_ITEM);
        draining(&entities)
    };
    assert_eq!(settles(id(3), 1), [id(3), id(4)], "neither a flush ends it nor a detour");
    assert_eq!(settles(id(3), 0), [id(4)]);
    assert_eq!(settles(id(4), 0), Vec::<Bytes>::new());

    // Without an answer it ends by itself.
    run(&mut entities, &merge_state(1)).unwrap();
    let processor = SegmenterProcessor::new(Arc::new(Library::default()));
    let mut fold = Fold::new(due, Position { offset: 9, index: 0 }, &mut entities);
    let limit = Fireable { plain: due, absent: Timestamp::ZERO, proven: Timestamp::ZERO, before: None };
    assert_eq!(processor.fire(&mut fold, &entity(&id(1)), limit), Ok(true));
    assert_eq!(processor.fire(&mut fold, &entity(&id(1)), limit), Ok(false));
    assert_eq!(draining(&entities), Vec::<Bytes>::new());
}

#[test]
fn a_flush_that_meets_a_tombstone_goes_on() {
    let mut entities = Entities::new();
    run(&mut entities, &merge_begin(3, true)).unwrap();
    let (kind, _, via, body) = journey(&run(&mut entities, &flush(&id(3), &id(4))).unwrap());
    let passed = Record::from_proto(Pass::decode(body).unwrap().record.unwrap()).unwrap();
    assert_eq!((kind, via, passed.kind, passed.via), (kind::PASS, 1, kind::FLUSH, 1));
}

#[test]
fn every_rule_of_it_has_a_switch() {
    let off = Rules { drain: false, answer_erased: false, erased_never_moves: false, one_road: true };
    let processor = SegmenterProcessor::new(Arc::new(Library::default())).with_rules(off);
    let mut entities = Entities::new();
    let fold = |entities: &mut Entities, record: &Record| {
        let mut fold = Fold::new(Timestamp::from_millis(1_000), Position { offset: 3, index: 1 }, entities);
        processor.fold(&mut fold, record).unwrap();
        fold.outputs().len()
    };
    assert_eq!(fold(&mut entities, &merge_state(1)), 1);
    assert!(entities[&entity(&id(1))].as_ref().unwrap().0.draining.is_empty());
    assert_eq!(fold(&mut entities, &erase(&id(1))), 1);
    assert_eq!(fold(&mut entities, &item(&id(1), "Cart Viewed", 7, &[])), 0, "unanswered");
    let moving = record(kind::MERGE_BEGIN, &id(1), &MergeBegin { loser: id(1), winner: id(9), node: id(1), first: false });
    assert_eq!(fold(&mut entities, &moving), 1);
    assert!(entities[&entity(&id(1))].as_ref().unwrap().is_tombstone());
}
