//! The store's replies, as PROTOCOL §15 lists them.

use waypost_types::{Role, WorkspaceId};

use super::*;

const P: PartitionId = PartitionId { role: Role::Identity, index: 0 };
const A: Token = Token([1; 16]);
const B: Token = Token([2; 16]);

fn install() -> Install {
    Install { id: "00".repeat(16), layout: 1, format: 1 }
}

fn id(key: &str) -> EntityId {
    EntityId::new(WorkspaceId::new(1), b'i', key.as_bytes())
}

fn claimed() -> MemoryStore {
    let store = MemoryStore::new();
    store.init(P, &install()).unwrap();
    assert!(matches!(store.claim(P, A, &install()), Ok(ClaimReply::Ok(_))));
    store
}

fn commit(expected: Offset, next: Offset, value: &str) -> Commit {
    Commit {
        token: A,
        expected,
        next,
        meta: Meta { clk: Timestamp::from_millis(7), ..Meta::default() },
        entities: vec![(id("e"), Some(Bytes::copy_from_slice(value.as_bytes())))],
        timers: vec![(id("e"), Some(Timestamp::from_millis(9)))],
        sequences: vec![("x:segmenter:0".to_owned(), [u8::try_from(next).unwrap(); 16])],
    }
}

fn read(store: &MemoryStore, token: Token, expected: Offset) -> ReadReply {
    let timers = Some((Timestamp::from_millis(9), 5));
    store.read(P, &Read { token, expected: vec![expected], entities: vec![id("e"), id("none")], timers }).unwrap()
}

#[test]
fn workers_never_create_state() {
    let store = MemoryStore::new();
    assert_eq!(store.claim(P, A, &install()), Ok(ClaimReply::Uninit));
    assert_eq!(store.commit(P, &commit(0, 1, "v")), Ok(CommitReply::Uninit));
    assert_eq!(store.init(P, &install()), Ok(InitReply::Created));
    assert_eq!(store.init(P, &install()), Ok(InitReply::Exists));
}

#[test]
fn a_claim_names_the_owner_before_it() {
    let store = claimed();
    let Ok(ClaimReply::Ok(claim)) = store.claim(P, B, &install()) else { panic!("claimed") };
    assert_eq!(claim.previous, Some(A));
    assert_eq!(store.release(P, A), Ok(ReleaseReply::Fenced));
    assert_eq!(store.release(P, B), Ok(ReleaseReply::Ok));
    let other = Install { layout: 2, ..install() };
    assert_eq!(store.claim(P, B, &other), Ok(ClaimReply::Mismatch(install())));
}

#[test]
fn any_reply_but_ok_leaves_the_store_unchanged() {
    let store = claimed();
    assert_eq!(store.commit(P, &commit(0, 4, "v")), Ok(CommitReply::Ok));
    let before = store.dump(P);
    let cases = [
        (commit(0, 4, "w"), CommitReply::Already),
        (commit(0, 3, "w"), CommitReply::Moved(4)),
        (commit(0, 5, "w"), CommitReply::Moved(4)),
        (commit(5, 6, "w"), CommitReply::Moved(4)),
        (commit(4, 4, "w"), CommitReply::BadArg),
        (commit(4, 3, "w"), CommitReply::BadArg),
        (Commit { timers: vec![(id("e"), Some(Timestamp::from_millis(-1)))], ..commit(4, 5, "w") }, CommitReply::BadArg),
        (Commit { timers: vec![(id("e"), Some(Timestamp::MAX))], ..commit(4, 5, "w") }, CommitReply::BadArg),
        (Commit { token: B, ..commit(0, 4, "w") }, CommitReply::Fenced),
        (Commit { token: B, ..commit(4, 5, "w") }, CommitReply::Fenced),
    ];
    for (commit, reply) in cases {
        assert_eq!(store.commit(P, &commit), Ok(reply), "{commit:?}");
        assert_eq!(store.dump(P), before, "{commit:?}");
    }
}

#[test]
fn reads_are_checked_by_token_and_offset() {
    let store = claimed();
    store.commit(P, &commit(0, 4, "v")).unwrap();
    let buckets = BTreeMap::from([(id("none").bucket(), 0), (id("e").bucket(), 1)]);
    let counts = buckets.into_iter().map(|(bucket, count)| (Part::Bucket(bucket), count)).chain([(Part::Timers, 1)]).collect();
    let good = ReadReply::Ok {
        entities: vec![Some(Bytes::from_static(b"v")), None],
        wakeups: vec![Some(Timestamp::from_millis(9)), None],
        timers: vec![(Timestamp::from_millis(9), id("e"))],
        extent: Extent { off: 4, digest: Bytes::new(), counts },
    };
    assert_eq!(read(&store, A, 4), good);
    assert_eq!(read(&store, B, 4), ReadReply::Moved);
    assert_eq!(read(&store, A, 3), ReadReply::Moved);
    store.drop_last(P, 1);
    assert_eq!(read(&store, A, 4), ReadReply::Moved);
}

#[test]
fn timers_come_by_due_then_entity() {
    let store = claimed();
    let due = |ms| Some(Timestamp::from_millis(ms));
    let timers = vec![(id("c"), due(1)), (id("b"), due(2)), (id("a"), due(2)), (id("d"), due(3))];
    store.commit(P, &Commit { timers, ..commit(0, 1, "v") }).unwrap();
    let read = Read { token: A, expected: vec![1], entities: Vec::new(), timers: Some((Timestamp::from_millis(2), 2)) };
    let Ok(ReadReply::Ok { timers, .. }) = store.read(P, &read) else { panic!("read") };
    assert_eq!(timers, [(Timestamp::from_millis(1), id("c")), (Timestamp::from_millis(2), id("a"))]);
}

#[test]
fn dropped_commits_leave_a_state_that_existed() {
    let store = claimed();
    let mut states = vec![store.dump(P)];
    for n in 0..5 {
        store.commit(P, &commit(n, n + 1, &format!("v{n}"))).unwrap();
        states.push(store.dump(P));
    }
    assert_eq!(store.drop_last(P, 2), 2);
    assert_eq!(store.dump(P), states[3]);
    assert_eq!(store.drop_last(P, 9), 3);
    assert_eq!(store.dump(P), states[0]);
}

#[test]
fn coalesced_commits_equal_the_same_ones_one_by_one() {
    let (one, all) = (claimed(), claimed());
    one.commit(P, &commit(0, 1, "a")).unwrap();
    one.commit(P, &commit(1, 2, "b")).unwrap();
    all.commit(P, &commit(0, 2, "b")).unwrap();
    assert_eq!(one.dump(P), all.dump(P));
}

#[test]
fn a_frozen_partition_is_fenced_until_it_thaws() {
    let store = claimed();
    store.freeze(P, "relayout");
    assert_eq!(store.commit(P, &commit(0, 1, "v")), Ok(CommitReply::Fenced));
    assert_eq!(store.claim(P, B, &install()), Ok(ClaimReply::Frozen("relayout".to_owned())));
    store.thaw(P);
    assert!(matches!(store.claim(P, B, &install()), Ok(ClaimReply::Ok(_))));
    store.corrupt(P, Some("t"));
    assert_eq!(store.claim(P, A, &install()), Ok(ClaimReply::Corrupt("t".to_owned())));
}

#[test]
fn a_refused_call_writes_nothing_and_goes_through_later() {
    let store = claimed();
    store.refuse(Some("OOM"));
    assert_eq!(store.commit(P, &commit(0, 1, "v")), Err(StoreError::Refused("OOM".to_owned())));
    store.refuse(None);
    assert_eq!(store.commit(P, &commit(0, 1, "v")), Ok(CommitReply::Ok));
}
