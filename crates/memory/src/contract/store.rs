//! The store's promises.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use waypost_runtime::{
    digest::{Digest, Part},
    ports::{
        Audit, AuditReply, ClaimReply, Claimed, Commit, CommitReply, Deaths, Extent, InitReply, Install, Meta, Offset, Read, ReadReply,
        ReleaseReply, Store, StoreError, Token,
    },
    upkeep::{Snapshot, Upkeep, UpkeepReply},
};
use waypost_types::{EntityId, PartitionId, Role, Timestamp, WorkspaceId};

/// A store that the suite may meddle with. It has no state when the suite begins.
#[async_trait]
pub trait StoreFixture: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// The same as administration sees it.
    fn upkeep(&self) -> Arc<dyn Upkeep>;
    /// Everything stored for the partition, byte for byte, owner included.
    async fn dump(&self, partition: PartitionId) -> Vec<u8>;
    /// Does it.
    async fn meddle(&self, partition: PartitionId, meddle: Meddle);
    /// Loses, in silence, the entity, its wake-up or the sequence, as `part` says.
    async fn lose(&self, partition: PartitionId, part: Part, entity: &EntityId, sequence: &str);
}

/// What happens to a store behind a worker's back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddle {
    /// An operation of this name takes the partition.
    Freeze(&'static str),
    /// It gives it back.
    Thaw,
    /// A key of the partition gets the wrong type.
    Corrupt,
    /// Remembers the partition as it is now.
    Save,
    /// Puts what was remembered in its place.
    Restore,
    /// Every write is refused from now on, for want of memory.
    Full,
    /// There is memory again.
    Free,
}

const A: Token = Token([0xa1; 16]);
const B: Token = Token([0xb2; 16]);

fn install() -> Install {
    Install { id: "0123456789abcdef0123456789abcdef".into(), layout: 1, format: 1 }
}

fn id(key: &str) -> EntityId {
    EntityId::new(WorkspaceId::new(7), b'p', key.as_bytes())
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A commit that changes one entity, its wake-up and one sequence.
fn commit(expected: Offset, next: Offset, value: &str) -> Commit {
    let mut sequence = [0; 16];
    sequence[..8].copy_from_slice(&next.to_be_bytes());
    Commit {
        token: A,
        expected,
        next,
        meta: Meta {
            ochain: u64::MAX - next,
            clk: at(1_700_000_000_000),
            wm: at(1_600_000_000_000),
            digest: Bytes::from_static(b"\x00\xffdigest"),
            eng: 1,
            defv: "3:abc".into(),
            leader: 9,
            lastrec: format!("{}:1:2", next - next.min(1)),
        },
        entities: vec![(id("e"), Some(bytes(value)))],
        timers: vec![(id("e"), Some(at(1_700_000_000_900)))],
        sequences: vec![("x:segmenter:0".into(), sequence)],
    }
}

/// A partition that `A` has claimed.
struct Case<'a> {
    fixture: &'a dyn StoreFixture,
    store: Arc<dyn Store>,
    partition: PartitionId,
}

impl Case<'_> {
    async fn claim(&self, token: Token) -> Claimed {
        match self.store.claim(self.partition, token, &install()).await {
            Ok(ClaimReply::Ok(claimed)) => *claimed,
            other => panic!("claim answered {other:?}"),
        }
    }

    async fn commit(&self, commit: &Commit) -> CommitReply {
        self.store.commit(self.partition, commit).await.expect("the store answers")
    }

    async fn read(&self, token: Token, expected: Offset, entities: &[EntityId], timers: Option<(Timestamp, usize)>) -> ReadReply {
        let read = Read { token, expected: vec![expected], entities: entities.to_vec(), timers };
        self.store.read(self.partition, &read).await.expect("the store answers")
    }

    async fn dump(&self) -> Vec<u8> {
        self.fixture.dump(self.partition).await
    }
}

/// Every promise of the store. `damaged` calls with random damage to their arguments are made, each
/// followed by a dump.
pub async fn store_suite(fixture: &dyn StoreFixture, damaged: u32) {
    let mut index = 0;
    let mut fresh = || {
        index += 1;
        PartitionId { role: Role::Orchestrator, index }
    };
    claim_before_init(fixture, fresh()).await;
    installs_are_compared(fixture, fresh()).await;
    let mut cases = Vec::new();
    for _ in 0..17 {
        let case = Case { fixture, store: fixture.store(), partition: fresh() };
        assert_eq!(case.store.init(case.partition, &install()).await, Ok(InitReply::Created));
        assert_eq!(case.claim(A).await.previous, None);
        cases.push(case);
    }
    let mut cases = cases.into_iter();
    let mut next = || cases.next().expect("as many partitions as cases");
    owners_follow_each_other(&next()).await;
    commits_raise_the_offset(&next()).await;
    old_tokens_are_fenced(&next()).await;
    reads_are_checked(&next()).await;
    a_rewound_store_is_noticed(&next()).await;
    many_entities_in_one_commit(&next()).await;
    coalesced_commits_equal_single_ones(&next(), &next()).await;
    timers_come_in_order(&next()).await;
    frozen_and_corrupt(&next()).await;
    operations_do_not_meet(&next()).await;
    a_snapshot_comes_back(&next(), &next()).await;
    a_full_store_refuses_whole(&next()).await;
    parts_add_up(&next()).await;
    deaths_are_noted_beside_the_state(&next()).await;
    damage_changes_nothing(&next(), damaged).await;
}

async fn deaths_are_noted_beside_the_state(case: &Case<'_>) {
    let (store, p) = (&case.store, case.partition);
    let before = case.dump().await;
    assert_eq!(store.deaths(p).await, Ok(None));
    let last = Deaths { offset: 999_999_999_999_999, count: 6, processes: vec![0, 1, u64::MAX], index: Some(999) };
    for deaths in [Deaths { offset: 7, count: 1, processes: Vec::new(), index: None }, last] {
        assert_eq!(store.note_deaths(p, Some(deaths.clone())).await, Ok(()));
        assert_eq!(store.deaths(p).await, Ok(Some(deaths)));
    }
    let neighbour = PartitionId { index: p.index + 1_000, ..p };
    assert_eq!(store.deaths(neighbour).await, Ok(None));
    // Whoever owns it, and whatever becomes of the state.
    assert_eq!(case.commit(&commit(0, 1, "v")).await, CommitReply::Ok);
    assert!(store.deaths(p).await.is_ok_and(|deaths| deaths.is_some()));
    assert_eq!(store.note_deaths(p, None).await, Ok(()));
    assert_eq!(store.note_deaths(p, None).await, Ok(()));
    assert_eq!(store.deaths(p).await, Ok(None));
    assert_ne!(case.dump().await, before, "the commit");
}

async fn claim_before_init(fixture: &dyn StoreFixture, partition: PartitionId) {
    let store = fixture.store();
    assert_eq!(store.claim(partition, A, &install()).await, Ok(ClaimReply::Uninit));
    assert_eq!(store.commit(partition, &commit(0, 1, "v")).await, Ok(CommitReply::Uninit));
    assert_eq!(store.release(partition, A).await, Ok(ReleaseReply::Fenced));
    let read = Read { token: A, expected: vec![0], entities: vec![id("e")], timers: None };
    assert_eq!(store.read(partition, &read).await, Ok(ReadReply::Moved));
    assert_eq!(store.audit(partition, Part::Timers).await, Ok(AuditReply::Uninit));
    assert_eq!(store.init(partition, &install()).await, Ok(InitReply::Created));
    assert_eq!(store.init(partition, &install()).await, Ok(InitReply::Exists));
}

async fn installs_are_compared(fixture: &dyn StoreFixture, partition: PartitionId) {
    let store = fixture.store();
    assert_eq!(store.init(partition, &install()).await, Ok(InitReply::Created));
    for other in [Install { id: "ff".repeat(16), ..install() }, Install { layout: 2, ..install() }, Install { format: 2, ..install() }] {
        assert_eq!(store.claim(partition, A, &other).await, Ok(ClaimReply::Mismatch(install())), "{other:?}");
    }
}

async fn owners_follow_each_other(case: &Case<'_>) {
    assert_eq!(case.commit(&commit(0, 4, "v")).await, CommitReply::Ok);
    let second = case.claim(B).await;
    assert_eq!((second.off, second.previous), (4, Some(A)));
    assert_eq!(second.meta, commit(0, 4, "v").meta, "meta comes back as committed");
    assert_eq!(second.sequences, commit(0, 4, "v").sequences);
    assert_eq!(case.store.release(case.partition, A).await, Ok(ReleaseReply::Fenced));
    assert_eq!(case.store.release(case.partition, B).await, Ok(ReleaseReply::Ok));
    assert_eq!(case.store.release(case.partition, B).await, Ok(ReleaseReply::Fenced));
    assert_eq!(case.claim(A).await.previous, None, "nobody owns it after a release");
}

async fn commits_raise_the_offset(case: &Case<'_>) {
    assert_eq!(case.commit(&commit(0, 4, "v")).await, CommitReply::Ok);
    let before = case.dump().await;
    for (what, call, reply) in [
        ("the same again", commit(0, 4, "v"), CommitReply::Already),
        ("a part of it", commit(0, 3, "v"), CommitReply::Moved(4)),
        ("more than it", commit(0, 5, "v"), CommitReply::Moved(4)),
        ("ahead of the store", commit(5, 6, "v"), CommitReply::Moved(4)),
        ("equal", commit(4, 4, "w"), CommitReply::BadArg),
        ("lower", commit(4, 3, "w"), CommitReply::BadArg),
        ("due before time", Commit { timers: vec![(id("e"), Some(at(-1)))], ..commit(4, 5, "w") }, CommitReply::BadArg),
        ("due beyond time", Commit { timers: vec![(id("e"), Some(Timestamp::MAX))], ..commit(4, 5, "w") }, CommitReply::BadArg),
    ] {
        assert_eq!(case.commit(&call).await, reply, "{what}");
        assert!(case.dump().await == before, "{what}: the store changed");
    }
    assert_eq!(case.commit(&commit(4, 5, "w")).await, CommitReply::Ok);
    let (entities, wakeups) = (vec![Some(bytes("w"))], vec![Some(at(1_700_000_000_900))]);
    let extent =
        Extent { off: 5, digest: commit(4, 5, "w").meta.digest, counts: vec![(Part::Bucket(id("e").bucket()), 1), (Part::Timers, 1)] };
    assert_eq!(case.read(A, 5, &[id("e")], None).await, ReadReply::Ok { entities, wakeups, timers: vec![], extent });
}

async fn old_tokens_are_fenced(case: &Case<'_>) {
    assert_eq!(case.commit(&commit(0, 1, "v")).await, CommitReply::Ok);
    case.claim(B).await;
    let before = case.dump().await;
    assert_eq!(case.commit(&commit(1, 2, "w")).await, CommitReply::Fenced);
    assert_eq!(case.commit(&commit(0, 1, "v")).await, CommitReply::Fenced, "also one applied before");
    assert!(case.dump().await == before);
    assert_eq!(case.commit(&Commit { token: B, ..commit(1, 2, "w") }).await, CommitReply::Ok);
}

async fn reads_are_checked(case: &Case<'_>) {
    assert_eq!(case.commit(&commit(0, 4, "v")).await, CommitReply::Ok);
    let entities = [id("none"), id("e"), id("e")];
    let (value, due) = (Some(bytes("v")), at(1_700_000_000_900));
    let wakeups = vec![None, Some(due), Some(due)];
    let counts = BTreeMap::from([(id("none").bucket(), 0), (id("e").bucket(), 1)]);
    let counts = counts.into_iter().map(|(bucket, count)| (Part::Bucket(bucket), count)).chain([(Part::Timers, 1)]).collect();
    let extent = Extent { off: 4, digest: commit(0, 4, "v").meta.digest, counts };
    let good = ReadReply::Ok { entities: vec![None, value.clone(), value], wakeups, timers: vec![(due, id("e"))], extent };
    assert_eq!(case.read(A, 4, &entities, Some((due, 10))).await, good);
    assert_eq!(case.read(B, 4, &entities, None).await, ReadReply::Moved, "another token");
    assert_eq!(case.read(A, 3, &entities, None).await, ReadReply::Moved, "another offset");
    let both = Read { token: A, expected: vec![4, 9], entities: entities.to_vec(), timers: Some((due, 10)) };
    assert_eq!(case.store.read(case.partition, &both).await, Ok(good), "the commit in flight may be the one");
}

async fn a_rewound_store_is_noticed(case: &Case<'_>) {
    assert_eq!(case.commit(&commit(0, 1, "a")).await, CommitReply::Ok);
    case.fixture.meddle(case.partition, Meddle::Save).await;
    let then = case.dump().await;
    assert_eq!(case.commit(&commit(1, 2, "b")).await, CommitReply::Ok);
    assert_eq!(case.commit(&commit(2, 3, "c")).await, CommitReply::Ok);
    case.fixture.meddle(case.partition, Meddle::Restore).await;
    assert!(case.dump().await == then, "the state is one that existed");
    assert_eq!(case.read(A, 3, &[id("e")], None).await, ReadReply::Moved);
    assert_eq!(case.commit(&commit(3, 4, "d")).await, CommitReply::Moved(1));
    assert_eq!(case.claim(B).await.off, 1);
}

async fn many_entities_in_one_commit(case: &Case<'_>) {
    let many: Vec<EntityId> = (0..5_000).map(|n| id(&format!("many{n}"))).collect();
    let all = Commit {
        entities: many.iter().map(|e| (e.clone(), Some(Bytes::copy_from_slice(e.as_bytes())))).collect(),
        timers: many.iter().map(|e| (e.clone(), Some(at(1)))).collect(),
        sequences: (0..3_000).map(|n| (format!("i:identity:{n}"), [1; 16])).collect(),
        ..commit(0, 1, "v")
    };
    assert_eq!(case.commit(&all).await, CommitReply::Ok);
    let ReadReply::Ok { entities, wakeups, timers, .. } = case.read(A, 1, &many, Some((at(1), 10_000))).await else { panic!("moved") };
    assert!(wakeups.iter().all(|due| *due == Some(at(1))));
    assert!(entities.iter().zip(&many).all(|(value, e)| value.as_deref() == Some(e.as_bytes())));
    assert_eq!(timers.len(), 5_000);
    let none = Commit {
        entities: many.iter().map(|e| (e.clone(), None)).collect(),
        timers: many.iter().map(|e| (e.clone(), None)).collect(),
        ..commit(1, 2, "v")
    };
    assert_eq!(case.commit(&none).await, CommitReply::Ok);
    let ReadReply::Ok { entities, wakeups, timers, .. } = case.read(A, 2, &many, Some((at(1), 10_000))).await else { panic!("moved") };
    assert!(entities.iter().all(Option::is_none) && wakeups.iter().all(Option::is_none) && timers.is_empty());
    assert_eq!(case.claim(A).await.sequences.len(), 3_001);
}

async fn coalesced_commits_equal_single_ones(one: &Case<'_>, all: &Case<'_>) {
    let due = |key: &str, ms| (id(key), Some(at(ms)));
    let steps = [
        Commit { entities: vec![(id("a"), Some(bytes("1"))), (id("b"), Some(bytes("1")))], timers: vec![due("a", 5)], ..commit(0, 1, "") },
        Commit { entities: vec![(id("b"), None), (id("c"), Some(bytes("2")))], timers: vec![due("c", 9)], ..commit(1, 2, "") },
        Commit { entities: vec![(id("a"), Some(bytes("3")))], timers: vec![(id("a"), None)], ..commit(2, 3, "") },
    ];
    for step in &steps {
        assert_eq!(one.commit(step).await, CommitReply::Ok);
    }
    let coalesced = Commit {
        entities: vec![(id("a"), Some(bytes("3"))), (id("b"), None), (id("c"), Some(bytes("2")))],
        timers: vec![(id("a"), None), due("c", 9)],
        ..commit(0, 3, "")
    };
    assert_eq!(all.commit(&coalesced).await, CommitReply::Ok);
    let wanted = [id("a"), id("b"), id("c")];
    let limit = Some((at(i64::from(u32::MAX)), 10));
    assert_eq!(one.read(A, 3, &wanted, limit).await, all.read(A, 3, &wanted, limit).await);
    let (one, all) = (one.claim(B).await, all.claim(B).await);
    assert_eq!((one.off, one.meta, one.sequences), (all.off, all.meta, all.sequences));
}

async fn timers_come_in_order(case: &Case<'_>) {
    let due = |key: &str, ms| (id(key), Some(at(ms)));
    let timers = vec![due("d", 30), due("c", 10), due("b", 20), due("a", 20), due("\u{ff}", 20)];
    assert_eq!(case.commit(&Commit { timers, ..commit(0, 1, "v") }).await, CommitReply::Ok);
    let names = |reply| match reply {
        ReadReply::Ok { timers, .. } => {
            timers.into_iter().map(|(due, e)| (due.millis(), String::from_utf8_lossy(e.key()).into_owned())).collect::<Vec<_>>()
        }
        ReadReply::Moved => panic!("moved"),
    };
    let expect = |list: &[(i64, &str)]| list.iter().map(|(due, key)| (*due, (*key).to_owned())).collect::<Vec<_>>();
    let all = expect(&[(10, "c"), (20, "a"), (20, "b"), (20, "\u{ff}")]);
    assert_eq!(names(case.read(A, 1, &[], Some((at(20), 10))).await), all, "by due, then bytes");
    assert_eq!(names(case.read(A, 1, &[], Some((at(20), 2))).await), all[..2], "at most so many");
    let removed = Commit { timers: vec![(id("a"), None), due("c", 25)], ..commit(1, 2, "v") };
    assert_eq!(case.commit(&removed).await, CommitReply::Ok);
    assert_eq!(names(case.read(A, 2, &[], Some((at(25), 10))).await), expect(&[(20, "b"), (20, "\u{ff}"), (25, "c")]));
}

async fn frozen_and_corrupt(case: &Case<'_>) {
    case.fixture.meddle(case.partition, Meddle::Freeze("relayout")).await;
    let before = case.dump().await;
    assert_eq!(case.commit(&commit(0, 1, "v")).await, CommitReply::Fenced);
    assert_eq!(case.store.claim(case.partition, B, &install()).await, Ok(ClaimReply::Frozen("relayout".into())));
    assert!(case.dump().await == before);
    case.fixture.meddle(case.partition, Meddle::Thaw).await;
    case.claim(B).await;
    case.fixture.meddle(case.partition, Meddle::Corrupt).await;
    let claim = case.store.claim(case.partition, A, &install()).await;
    assert!(matches!(claim, Ok(ClaimReply::Corrupt(_))), "{claim:?}");
}

async fn operations_do_not_meet(case: &Case<'_>) {
    let upkeep = case.fixture.upkeep();
    let held = |by: &str| Ok(UpkeepReply::Held(by.to_owned()));
    let p = case.partition;
    assert_eq!(upkeep.thaw(p, "restore-1").await, held(""), "nothing is frozen");
    assert_eq!(upkeep.freeze(p, "restore-1").await, Ok(UpkeepReply::Ok));
    assert_eq!(upkeep.freeze(p, "restore-1").await, Ok(UpkeepReply::Ok), "the same again");
    let before = case.dump().await;
    let other = Snapshot::empty(install());
    for reply in [upkeep.freeze(p, "relayout").await, upkeep.thaw(p, "relayout").await, upkeep.replace(p, "relayout", &other).await] {
        assert_eq!(reply, held("restore-1"));
    }
    assert_eq!(upkeep.head(p).await.expect("the store answers").expect("state").frozen.as_deref(), Some("restore-1"));
    assert_eq!(case.commit(&commit(0, 1, "v")).await, CommitReply::Fenced, "the owner is fenced");
    assert_eq!(case.store.claim(p, B, &install()).await, Ok(ClaimReply::Frozen("restore-1".into())));
    assert!(case.dump().await == before, "none of this wrote anything");
    assert_eq!(upkeep.thaw(p, "restore-1").await, Ok(UpkeepReply::Ok));
    assert_eq!(case.commit(&commit(0, 1, "v")).await, CommitReply::Fenced, "who owned it has to claim again");
    case.claim(A).await;
    assert_eq!(case.commit(&commit(0, 1, "v")).await, CommitReply::Ok);
}

async fn a_snapshot_comes_back(case: &Case<'_>, other: &Case<'_>) {
    let upkeep = case.fixture.upkeep();
    let snapshot = |partition| {
        let upkeep = Arc::clone(&upkeep);
        async move { upkeep.snapshot(partition).await.expect("the store answers") }
    };
    let many: Vec<EntityId> = (0..1_200).map(|n| id(&format!("e{n}"))).collect();
    let large = Commit {
        entities: many.iter().map(|e| (e.clone(), Some(Bytes::copy_from_slice(e.as_bytes())))).collect(),
        timers: many.iter().map(|e| (e.clone(), Some(at(1_700_000_000_900)))).collect(),
        sequences: (0..700).map(|n| (format!("i:segmenter:{n}"), [7; 16])).collect(),
        ..commit(0, 4, "v")
    };
    assert_eq!(case.commit(&large).await, CommitReply::Ok);
    let taken = snapshot(case.partition).await.expect("state");
    assert_eq!((taken.off, &taken.meta), (4, &large.meta));
    assert_eq!((taken.entities.len(), taken.timers.len(), taken.sequences.len()), (1_200, 1_200, 700));
    let head = upkeep.head(case.partition).await.expect("the store answers").expect("state");
    assert_eq!((head.off, head.meta, head.sequences, head.frozen), (4, taken.meta.clone(), taken.sequences.clone(), None));
    // its owner goes on, and is noticed to have been put back
    assert_eq!(case.commit(&commit(4, 9, "later")).await, CommitReply::Ok);
    assert_ne!(snapshot(case.partition).await.as_ref(), Some(&taken));
    assert_eq!(upkeep.replace(case.partition, "restore", &taken).await, Ok(UpkeepReply::Ok));
    assert_eq!(snapshot(case.partition).await.as_ref(), Some(&taken), "all of it, and nothing that came after");
    assert_eq!(case.commit(&commit(9, 10, "on")).await, CommitReply::Fenced);
    assert_eq!(case.read(A, 9, &[id("e")], None).await, ReadReply::Moved);
    let claimed = case.claim(B).await;
    assert_eq!((claimed.off, claimed.previous), (4, None));
    // and where there was nothing
    let lost = PartitionId { index: other.partition.index + 1_000, ..other.partition };
    assert_eq!((upkeep.head(lost).await, snapshot(lost).await), (Ok(None), None));
    assert_eq!(upkeep.replace(lost, "restore", &taken).await, Ok(UpkeepReply::Ok));
    assert_eq!(snapshot(lost).await.as_ref(), Some(&taken));
    assert!(matches!(case.store.claim(lost, A, &install()).await, Ok(ClaimReply::Ok(_))));
}

async fn a_full_store_refuses_whole(case: &Case<'_>) {
    assert_eq!(case.commit(&commit(0, 1, "v")).await, CommitReply::Ok);
    let before = case.dump().await;
    case.fixture.meddle(case.partition, Meddle::Full).await;
    // it also removes, so that a script that began with the removal would get through
    let call = Commit { timers: vec![(id("e"), None), (id("f"), Some(at(3)))], ..commit(1, 2, "w") };
    let refused = case.store.commit(case.partition, &call).await;
    case.fixture.meddle(case.partition, Meddle::Free).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert!(case.dump().await == before, "a refusal writes nothing");
    assert_eq!(case.commit(&call).await, CommitReply::Ok, "the same call later");
}

async fn parts_add_up(case: &Case<'_>) {
    let audit = async |part| match case.store.audit(case.partition, part).await {
        Ok(AuditReply::Ok(audit)) => audit,
        other => panic!("{part}: {other:?}"),
    };
    for part in Part::all() {
        let nothing = Audit { own: Some(A), off: 0, digest: Bytes::new(), sum: 0 };
        assert_eq!(audit(part).await, nothing, "{part} of an empty partition");
    }
    let entities: BTreeMap<EntityId, Bytes> = (0..300).map(|n| (id(&format!("e{n}")), bytes(&format!("v{n}")))).collect();
    let timers: BTreeMap<EntityId, Timestamp> = entities.keys().take(40).map(|e| (e.clone(), at(1_700_000_000_123))).collect();
    let sequences = BTreeMap::from([("x:segmenter:0".to_owned(), [7; 16]), ("i:identity:2".to_owned(), [0xff; 16])]);
    let digest = Digest::of(&entities, &timers, &sequences);
    let all = Commit {
        meta: Meta { digest: digest.to_bytes(), ..Meta::default() },
        entities: entities.iter().map(|(e, blob)| (e.clone(), Some(blob.clone()))).collect(),
        timers: timers.iter().map(|(e, due)| (e.clone(), Some(*due))).collect(),
        sequences: sequences.clone().into_iter().collect(),
        ..commit(0, 3, "v")
    };
    assert_eq!(case.commit(&all).await, CommitReply::Ok);
    case.claim(B).await;
    for part in Part::all() {
        let whole = Audit { own: Some(B), off: 3, digest: digest.to_bytes(), sum: digest.sum(part) };
        assert_eq!(audit(part).await, whole, "{part}");
    }
    for lost in [Part::Bucket(id("e7").bucket()), Part::Timers, Part::Sequences] {
        let (entity, field) = (timers.keys().next().expect("there are some"), "x:segmenter:0");
        let entity = if lost == Part::Timers { entity.clone() } else { id("e7") };
        case.fixture.lose(case.partition, lost, &entity, field).await;
        for part in Part::all() {
            assert_eq!(audit(part).await.sum != digest.sum(part), part == lost, "{part} after a loss in {lost}");
        }
        let off = audit(lost).await.off;
        let ReadReply::Ok { extent, .. } = case.read(B, off, &[id("e7")], None).await else { panic!("moved") };
        assert_eq!((extent.off, &extent.digest), (off, &digest.to_bytes()));
        for (part, count) in extent.counts {
            assert_eq!(count + u64::from(part == lost), digest.count(part), "{part} after a loss in {lost}");
        }
        let again = Commit { token: B, expected: audit(lost).await.off, next: audit(lost).await.off + 1, ..all.clone() };
        assert_eq!(case.commit(&again).await, CommitReply::Ok);
    }
}

async fn damage_changes_nothing(case: &Case<'_>, calls: u32) {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut off = 0;
    let mut before = case.dump().await;
    for n in 0..calls {
        let call = damaged(&mut chance, off);
        let reply = case.commit(&call).await;
        let after = case.dump().await;
        if reply == CommitReply::Ok {
            off = call.next;
            before = after;
        } else {
            assert!(after == before, "call {n} answered {reply:?} and changed the store: {call:?}");
        }
    }
}

/// A reproducible stream of numbers (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A commit at `off` with some of its arguments wrong, mostly.
fn damaged(chance: &mut Chance, off: Offset) -> Commit {
    let key = |chance: &mut Chance| id(&format!("k{}", chance.below(40)));
    let mut call = commit(off, off + 1 + chance.below(3), "v");
    call.entities = (0..chance.below(5)).map(|n| (key(chance), (n % 3 != 0).then(|| bytes(&format!("v{n}"))))).collect();
    call.timers = (0..chance.below(4)).map(|n| (key(chance), (n % 3 != 0).then(|| at(1_000 + i64::try_from(n).unwrap_or(0))))).collect();
    for _ in 0..chance.below(3) {
        match chance.below(9) {
            0 => call.token = B,
            1 => call.expected = off.saturating_sub(1 + chance.below(3)),
            2 => call.expected = off + 1 + chance.below(3),
            3 => call.next = call.expected,
            4 => call.next = call.expected.saturating_sub(1 + chance.below(3)),
            5 => call.next = 10_u64.pow(15) + chance.below(9),
            6 => call.timers.push((key(chance), Some(at(-1 - i64::try_from(chance.below(9)).unwrap_or(0))))),
            7 => call.timers.push((key(chance), Some(Timestamp::MAX))),
            _ => call.entities.push((EntityId::from_bytes(&[]), None)),
        }
    }
    call
}
