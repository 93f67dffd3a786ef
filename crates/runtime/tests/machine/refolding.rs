//! Folding a recorded log again: the same state from zero and from a snapshot, whatever the batches; and a partition
//! channel whose log lost records gets them back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use waypost_memory::{Embedded, LogPort, Parts, VirtualClock};
use waypost_runtime::{
    Config,
    ports::Log,
    refold::{Refold, RefoldError, differences},
    repair::{Gap, RepairError, gaps, repair},
    upkeep::{Head, Snapshot, Upkeep, UpkeepReply},
};
use waypost_types::{Layout, PartitionId, Role, Span, Timestamp};

use super::{
    embedded::{activate, install, machine},
    toy::{counter_id, record},
};

const START: Timestamp = Timestamp::from_millis(1_000_000);
const ROLES: [Role; 3] = [Role::Identity, Role::Segmenter, Role::Orchestrator];

struct Rig {
    embedded: Embedded,
    available: Arc<AtomicU64>,
    layout: Layout,
}

// === impl Rig ===

impl Rig {
    fn new(partitions: u32) -> Self {
        let (layout, available) = (Layout { number: 1, partitions }, Arc::new(AtomicU64::new(u64::MAX)));
        let config = Config::embedded();
        let machines = ROLES.map(|role| machine(role, &config, layout, &available)).into();
        Self { embedded: Embedded::new(Parts::new(VirtualClock::new(START), layout, machines)), available, layout }
    }

    fn say(&mut self, key: &str, body: &'static [u8]) {
        let now = self.embedded.now();
        self.embedded.append(Role::Identity, record(key.as_bytes(), now, Bytes::from_static(body))).unwrap();
        self.embedded.settle();
    }

    /// Everything that a log can hold: timers of both kinds, poison, definitions that change, entities that go.
    fn story(&mut self) {
        for key in ["a", "b", "c", "d"] {
            self.say(key, b"");
            self.say(key, &[b'p', 7]);
            self.say(key, &[b'a', 30]);
        }
        self.say("a", b"q");
        self.say("b", b"x");
        activate(&mut self.embedded, Role::Identity, 1);
        activate(&mut self.embedded, Role::Segmenter, 1);
        self.embedded.advance_to(START.plus(Span::from_secs(9)));
        self.say("c", b"d");
        self.say("d", b"");
        self.embedded.advance_to(START.plus(Span::from_secs(200)));
        assert_eq!(self.embedded.halted(), []);
    }

    fn log(&self) -> Arc<dyn Log> {
        Arc::new(LogPort::new(self.embedded.log().clone()))
    }

    async fn snapshot(&self, partition: PartitionId) -> Snapshot {
        self.embedded.store().snapshot(partition).await.unwrap().unwrap()
    }

    async fn heads(&self) -> BTreeMap<PartitionId, Head> {
        let mut heads = BTreeMap::new();
        for role in ROLES {
            for index in 0..self.layout.partitions {
                let partition = PartitionId { role, index };
                heads.insert(partition, self.embedded.store().head(partition).await.unwrap().unwrap());
            }
        }
        heads
    }

    async fn refold(&self, config: &Config, partition: PartitionId, from: Snapshot, to: u64) -> Result<Snapshot, RefoldError> {
        let log = self.log();
        let machine = machine(partition.role, config, self.layout, &self.available);
        Refold { log: &*log, prefix: "", partition, machine, from, to }.run(&mut |_, _| {}, &mut |_| {}).await
    }

    async fn gaps(&self) -> Vec<Gap> {
        let heads = self.heads().await;
        let end = |p: &PartitionId| self.embedded.log().watermarks(p.role.inbox().unwrap(), p.index).unwrap().1;
        gaps(&heads, &heads.keys().map(|p| (*p, end(p))).collect(), &heads)
    }
}

#[tokio::test]
async fn a_log_folds_to_what_is_stored_whatever_the_batches() {
    let mut rig = Rig::new(2);
    rig.say("a", &[b'a', 50]);
    let mut earlier = BTreeMap::new();
    for partition in rig.heads().await.into_keys() {
        earlier.insert(partition, rig.snapshot(partition).await);
    }
    rig.story();
    let mut entities = 0;
    for config in [Config::default(), Config { batch_records: 1, cache_entities: 1, commit_interval: Span::ZERO, ..Config::default() }] {
        for (partition, before) in &earlier {
            let stored = rig.snapshot(*partition).await;
            assert!(stored.off > before.off, "{partition}");
            entities += stored.entities.len();
            for from in [Snapshot::empty(install()), before.clone()] {
                let folded = rig.refold(&config, *partition, from, stored.off).await.unwrap();
                assert_eq!(differences(&folded, &stored), [], "{partition}");
                assert_eq!(folded, stored, "{partition}");
            }
        }
    }
    assert!(entities > 0);
}

/// Committed and taken up again behind any frame, in batches and commits of any size.
#[tokio::test]
async fn a_log_that_is_cut_anywhere_folds_to_the_same_bytes() {
    let mut rig = Rig::new(1);
    rig.story();
    let mut cuts = 0;
    for partition in rig.heads().await.into_keys() {
        let stored = rig.snapshot(partition).await;
        for cut in 0..=stored.off {
            let size = 1 + usize::try_from(cut % 7).unwrap();
            let small = Config {
                batch_records: size,
                batch_bytes: 40 * size,
                commit_entities: size,
                cache_entities: size,
                commit_interval: Span::ZERO,
                ..Config::default()
            };
            let before = rig.refold(&small, partition, Snapshot::empty(install()), cut).await.unwrap();
            assert_eq!(before.off, cut, "{partition}");
            let whole = rig.refold(&Config::default(), partition, before, stored.off).await.unwrap();
            assert_eq!(differences(&whole, &stored), [], "{partition} cut at {cut}");
            assert_eq!(whole, stored, "{partition} cut at {cut}");
            cuts += 1;
        }
    }
    assert!(cuts > 60, "only {cuts} cuts");
}

#[tokio::test]
async fn what_was_lost_in_silence_is_named() {
    let mut rig = Rig::new(1);
    rig.story();
    let partition = PartitionId { role: Role::Segmenter, index: 0 };
    assert!(rig.embedded.store().delete_field(partition, &counter_id(b"a")));
    let stored = rig.snapshot(partition).await;
    let folded = rig.refold(&Config::default(), partition, Snapshot::empty(install()), stored.off).await.unwrap();
    let found = differences(&folded, &stored);
    assert_eq!(found.iter().map(|d| (d.what.as_str(), d.stored.as_str())).collect::<Vec<_>>(), [("entity c:61", "absent")]);
}

#[tokio::test]
async fn what_cannot_be_folded_again_says_why() {
    let mut rig = Rig::new(1);
    rig.story();
    let partition = PartitionId { role: Role::Segmenter, index: 0 };
    let stored = rig.snapshot(partition).await;
    let (config, empty, off) = (Config::default(), Snapshot::empty(install()), stored.off);
    assert_eq!(rig.refold(&config, partition, stored.clone(), off - 1).await, Err(RefoldError::Ahead { from: off, to: off - 1 }));
    let end = rig.embedded.log().watermarks("wp1.segment", 0).unwrap().1;
    assert_eq!(rig.refold(&config, partition, empty.clone(), end + 1).await, Err(RefoldError::Short { end, to: end + 1 }));
    rig.available.store(0, Ordering::SeqCst);
    assert!(matches!(rig.refold(&config, partition, empty.clone(), off).await, Err(RefoldError::Stuck { .. })));
    rig.available.store(9, Ordering::SeqCst);
    rig.embedded.log().trim("wp1.segment", 0, 3);
    assert_eq!(rig.refold(&config, partition, empty, off).await, Err(RefoldError::Trimmed { start: 3, from: 0 }));
    assert_eq!(rig.refold(&config, partition, stored.clone(), off).await, Ok(stored), "nothing to fold");
}

#[tokio::test]
async fn a_gap_that_stays_is_found_and_filled() {
    let (identity, segmenter) = (PartitionId { role: Role::Identity, index: 0 }, PartitionId { role: Role::Segmenter, index: 0 });
    let mut rig = Rig::new(1);
    rig.say("a", b"1");
    rig.say("b", b"2");
    let (kept, receiver, source) =
        (rig.embedded.log().watermarks("wp1.segment", 0).unwrap().1, rig.snapshot(segmenter).await, rig.snapshot(identity).await);
    assert_eq!(receiver.off, kept, "all of it is folded and committed");
    for _ in 0..3 {
        rig.say("a", b"3");
    }
    let late = rig.snapshot(identity).await;
    // The broker loses acknowledged records; the receiver had not read them.
    rig.embedded.log().cut("wp1.segment", 0, kept);
    assert_eq!(rig.embedded.store().replace(segmenter, "test", &receiver).await, Ok(UpkeepReply::Ok));
    rig.embedded.replace(machine(Role::Segmenter, &Config::embedded(), rig.layout, &rig.available));
    rig.embedded.settle();
    rig.say("b", b"4");
    rig.embedded.advance_to(rig.embedded.now().plus(Span::from_secs(70)));
    let counted = |rig: &mut Rig, key: &[u8]| {
        let (bytes, _) = rig.embedded.query_at(segmenter, counter_id(key)).expect("it leads");
        <super::toy::Counter as waypost_runtime::Entity>::decode(&counter_id(key), &bytes.unwrap()).unwrap().count
    };
    assert_eq!((counted(&mut rig, b"a"), counted(&mut rig, b"b")), (1, 1), "stuck, with everything behind the gap");
    assert_eq!(rig.gaps().await, [Gap { source: identity, receiver: segmenter, accepted: 2, committed: 6 }]);

    let gap = rig.gaps().await[0];
    let log = rig.log();
    let fold = |rig: &Rig, from: Snapshot, to| {
        let machine = machine(Role::Identity, &Config::default(), rig.layout, &rig.available);
        Refold { log: &*log, prefix: "", partition: identity, machine, from, to }
    };
    let to = rig.heads().await[&identity].off;
    let refused = repair(fold(&rig, late, to), gap, &mut |_| {}).await;
    assert_eq!(refused, Err(RepairError::TooNew { sent: 5, accepted: 2 }), "that backup is from behind the gap");
    // From a backup, beside the owner, and once more from zero: copies do no harm.
    for from in [source, Snapshot::empty(install())] {
        assert!(repair(fold(&rig, from, to), gap, &mut |_| {}).await.unwrap() > 0);
        rig.embedded.settle();
        assert_eq!((counted(&mut rig, b"a"), counted(&mut rig, b"b")), (4, 2));
        assert_eq!(rig.gaps().await, []);
    }
    assert_eq!(rig.embedded.halted(), []);
    let counters = rig.embedded.machine(Role::Segmenter).unwrap().counters();
    assert_eq!(counters.divergences, 0);
    rig.say("a", b"5");
    assert_eq!(counted(&mut rig, b"a"), 5, "and the channel goes on");
}
