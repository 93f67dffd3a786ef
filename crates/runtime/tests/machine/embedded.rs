//! Three toy stages over the embedded driver: what happens when nothing goes wrong.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{frame::Record, inbox, kind};
use waypost_memory::{Embedded, Parts, Seeded, VirtualClock};
use waypost_runtime::{
    Config, Entity, Machine, RoleMachine,
    ports::Install,
    processor::{Job, Proposal},
};
use waypost_types::{Layout, PartitionId, Role, Span, Timestamp, WorkspaceId};

use super::toy::{Counter, OUTCOME, POISONED, TOPIC, Toy, W, counter_id, record};

const START: Timestamp = Timestamp::from_millis(1_000_000);

pub(crate) fn install() -> Install {
    Install { id: "00".repeat(16), layout: 1, format: 1 }
}

/// The machine of a role, whose sets up to `available` are at hand.
pub(crate) fn machine(role: Role, config: &Config, layout: Layout, available: &Arc<AtomicU64>) -> Box<dyn Machine> {
    match role {
        Role::Identity => stage::<0>(config, layout, available),
        Role::Segmenter => stage::<1>(config, layout, available),
        Role::Orchestrator => stage::<2>(config, layout, available),
        Role::Ingest | Role::Sender | Role::Control => panic!("no toy plays {role}"),
    }
}

/// Puts a set in force in every partition of a role.
pub(crate) fn activate(embedded: &mut Embedded, role: Role, set: u64) {
    let body: Bytes = inbox::DefActivate { set, hash: Bytes::from_static(&[1, 2]) }.encode_to_vec().into();
    for index in 0..embedded.layout().partitions {
        let now = embedded.now();
        let record = Record::new(kind::DEF_ACTIVATE, WorkspaceId::new(0), [0; 16], Bytes::new(), now, body.clone());
        embedded.append_to(PartitionId { role, index }, vec![record]).unwrap();
    }
    embedded.settle();
}

fn stage<const STAGE: usize>(config: &Config, layout: Layout, available: &Arc<AtomicU64>) -> Box<dyn Machine> {
    let available = Arc::clone(available);
    let make = move |_| Toy::<STAGE>::new(&available);
    Box::new(RoleMachine::new(config.clone(), install(), layout, Box::new(Seeded::new(STAGE as u64)), Box::new(make)))
}

struct Rig {
    embedded: Embedded,
    available: Arc<AtomicU64>,
}

fn rig(partitions: u32) -> Rig {
    let layout = Layout { number: 1, partitions };
    let (config, available) = (Config::embedded(), Arc::new(AtomicU64::new(u64::MAX)));
    let machines =
        vec![stage::<0>(&config, layout, &available), stage::<1>(&config, layout, &available), stage::<2>(&config, layout, &available)];
    let runner = |_: PartitionId, job: &Job| {
        vec![Proposal { workspace: W, kind: OUTCOME, key: job.body.clone(), body: Bytes::new(), trace: job.trace.clone() }]
    };
    let parts = Parts { runner: Box::new(runner), ..Parts::new(VirtualClock::new(START), layout, machines) };
    Rig { embedded: Embedded::new(parts), available }
}

impl Rig {
    fn say(&mut self, key: &str, body: &'static [u8]) {
        let now = self.embedded.now();
        self.embedded.append(Role::Identity, record(key.as_bytes(), now, Bytes::from_static(body))).unwrap();
        self.embedded.settle();
    }

    fn counter(&mut self, role: Role, key: &str) -> Option<Counter> {
        let (bytes, _) = self.embedded.query(role, W, b'c', key.as_bytes()).expect("leads");
        bytes.map(|bytes| Counter::decode(&counter_id(key.as_bytes()), &bytes).unwrap())
    }

    fn public(&self) -> Vec<(String, String, Bytes)> {
        let all = (0..8).flat_map(|q| self.embedded.log().all(TOPIC, q));
        let header = |d: &waypost_runtime::ports::Delivery, name: &str| {
            d.headers.iter().find(|(n, _)| n == name).map(|(_, v)| String::from_utf8(v.to_vec()).unwrap()).unwrap_or_default()
        };
        all.map(|d| (header(&d, "ce_id"), header(&d, "ce_sequence"), d.payload)).collect()
    }

    fn dead(&self) -> Vec<(String, Bytes)> {
        let all = (0..8).flat_map(|q| self.embedded.log().all("wp1.dead", q));
        all.map(|d| (String::from_utf8(d.headers[0].1.to_vec()).unwrap(), d.payload)).collect()
    }

    /// Dead letters: what their headers say, and the payload.
    fn letters(&self) -> Vec<(String, Bytes)> {
        let all = (0..8).flat_map(|q| self.embedded.log().all("wp1.dead", q));
        let text = |headers: &[(String, Bytes)]| {
            let values: Vec<_> = headers.iter().map(|(_, value)| String::from_utf8_lossy(value)).collect();
            values.join("\n")
        };
        all.map(|d| (text(&d.headers), d.payload)).collect()
    }

    fn activate(&mut self, role: Role, set: u64) {
        activate(&mut self.embedded, role, set);
    }
}

#[test]
fn a_record_is_folded_once_by_every_stage() {
    let mut rig = rig(4);
    for _ in 0..3 {
        rig.say("a", b"");
        rig.say("b", b"");
    }
    for role in [Role::Identity, Role::Segmenter, Role::Orchestrator] {
        assert_eq!(rig.counter(role, "a").unwrap().count, 3, "{role}");
        assert!(rig.embedded.machine(role).unwrap().idle(), "{role}");
    }
    assert_eq!(rig.public().len(), 6);
    assert_eq!(rig.embedded.halted(), []);
}

#[test]
fn public_records_are_numbered_and_named_by_their_cause() {
    let mut rig = rig(1);
    rig.say("a", b"1");
    rig.say("a", b"2");
    let public = rig.public();
    assert_eq!(public.iter().map(|(_, sequence, _)| sequence.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert!(public[0].0.starts_with("orchestrator/0/") && public[0].0 != public[1].0, "{public:?}");
}

#[test]
fn plain_timers_fire_at_their_due() {
    let mut rig = rig(2);
    rig.say("a", b"p\x0a");
    rig.embedded.advance_to(START.plus(Span::from_millis(999)));
    assert_eq!(rig.counter(Role::Segmenter, "a").unwrap().fired, 0);
    rig.embedded.advance_to(START.plus(Span::from_millis(1_000)));
    assert_eq!(rig.counter(Role::Segmenter, "a").unwrap().fired, 1);
}

#[test]
fn absent_timers_wait_for_the_watermark() {
    let mut rig = rig(2);
    rig.say("a", b"a\xff");
    rig.embedded.advance_to(START.plus(Span::from_secs(25)));
    assert_eq!(rig.counter(Role::Orchestrator, "a").unwrap().fired, 0);
    rig.embedded.advance_to(START.plus(Span::from_secs(26)));
    assert_eq!(rig.counter(Role::Segmenter, "a").unwrap().fired, 1);
    assert_eq!(rig.counter(Role::Orchestrator, "a").unwrap().fired, 1, "its own, not the segmenter's");
    assert_eq!(rig.counter(Role::Identity, "a").unwrap().fired, 0, "identity has no watermark above it");
}

#[test]
fn own_timers_go_before_the_record_that_finds_them_due() {
    let config = Config { tick_entities: 1, ..Config::embedded() };
    let (layout, available) = (Layout { number: 1, partitions: 1 }, Arc::new(AtomicU64::new(0)));
    let mut rig = rig(1);
    rig.embedded.replace(stage::<2>(&config, layout, &available));
    let p = PartitionId { role: Role::Orchestrator, index: 0 };
    let said = |key: &str, at, body: &'static [u8]| record(key.as_bytes(), at, Bytes::from_static(body));
    rig.embedded.append_to(p, vec![said("a", START, b"p\x01"), said("b", START, b"p\x01"), said("c", START, b"p\x01")]).unwrap();
    rig.embedded.settle();
    let later = START.plus(Span::from_secs(5));
    rig.embedded.clock().advance_to(later);
    // The tick fires one entity only; the others' records meet their timers themselves.
    let tick = inbox::Tick { now: later.millis(), wm: 0 }.encode_to_vec();
    rig.embedded.append_to(p, vec![Record::new(kind::TICK, WorkspaceId::new(0), [0; 16], Bytes::new(), later, tick.into())]).unwrap();
    rig.embedded.append_to(p, vec![said("b", later, b"c"), said("c", START.plus(Span::from_millis(100)), b"c")]).unwrap();
    rig.embedded.settle();
    let fired = ["a", "b", "c"].map(|key| rig.counter(Role::Orchestrator, key).unwrap().fired);
    assert_eq!(fired, [1, 1, 0], "at the same instant the record goes first");
}

#[test]
fn poison_becomes_a_dead_letter_and_the_log_goes_on() {
    let mut rig = rig(1);
    rig.say("a", b"x");
    rig.say("a", b"q");
    rig.say("a", b"");
    let topic = "wp1.segment".to_owned();
    let garbage =
        waypost_runtime::ports::Append { topic, partition: 0, key: None, headers: Vec::new(), payload: Bytes::from_static(b"\xff\xff") };
    rig.embedded.log().append(garbage).unwrap();
    rig.embedded.settle();
    let mut reasons: Vec<String> = rig.dead().into_iter().map(|(reason, _)| reason).collect();
    reasons.sort();
    assert_eq!(reasons, ["ENGINE_PANIC", "FRAME_UNREADABLE", "TOY"]);
    assert_eq!(rig.counter(Role::Segmenter, "a").unwrap().count, 1, "its changes are dropped");
    assert_eq!(rig.counter(Role::Orchestrator, "a").unwrap().count, 1);
}

#[test]
fn poison_takes_nothing_of_its_batch_with_it() {
    let folded = |bodies: &[&'static [u8]]| {
        let mut rig = rig(1);
        let now = rig.embedded.now();
        let frame = bodies.iter().zip(["a", "b", "a"].into_iter().cycle());
        let frame = frame.map(|(body, key)| record(key.as_bytes(), now, Bytes::from_static(body))).collect();
        rig.embedded.append_to(PartitionId { role: Role::Segmenter, index: 0 }, frame).unwrap();
        rig.embedded.settle();
        assert_eq!(rig.embedded.halted(), []);
        let counters = ["a", "b"].map(|key| rig.counter(Role::Segmenter, key).unwrap());
        (counters, rig.embedded.store().dump(PartitionId { role: Role::Segmenter, index: 0 }).unwrap().entities, rig.dead().len())
    };
    // Of what was changed before in the batch, several times in a row, and of one that goes.
    let (alone, stored, letters) = folded(&[b"", b"1", b"p\x09", b"2", b"3", b"", b"d", b"4", b"5", b"6", b"7", b""]);
    assert_eq!(letters, 0);
    let among = folded(&[b"", b"1", b"p\x09", b"2", b"3", b"", b"x", b"q", b"x", b"d", b"4", b"5", b"q", b"x", b"q", b"6", b"7", b""]);
    assert_eq!(among, (alone, stored, 6));
}

#[test]
fn a_poisonous_timer_takes_no_record_with_it() {
    let mut rig = rig(1);
    let p = PartitionId { role: Role::Orchestrator, index: 0 };
    for body in [&b"z"[..], b"secret"] {
        let now = rig.embedded.now();
        rig.embedded.append_to(p, vec![record(b"b", now, Bytes::from_static(body))]).unwrap();
        rig.embedded.settle();
        rig.embedded.advance_to(now.plus(Span::from_secs(2)));
    }
    assert_eq!(rig.counter(Role::Orchestrator, "b").unwrap().count, 2, "both were folded");
    // At its wake-up; not before the second record, nor at the wake-up that this one might have armed.
    assert_eq!(rig.dead().into_iter().map(|(reason, _)| reason).collect::<Vec<_>>(), ["TOY_TIMER"]);
    let entity = hex::encode(counter_id(b"b").as_bytes());
    for (headers, payload) in rig.letters() {
        assert!(headers.contains(&entity) && headers.contains(&POISONED.to_string()), "{headers}");
        assert!(payload.is_empty(), "no record is to blame");
    }
}

#[test]
fn what_changes_an_entity_after_a_poisonous_timer_arms_it_again() {
    let mut rig = rig(1);
    rig.say("a", b"z");
    rig.embedded.advance_to(START.plus(Span::from_secs(2)));
    let letters = rig.dead().len();
    assert_eq!(letters, 3, "one a stage");
    rig.embedded.advance_to(START.plus(Span::from_secs(60)));
    assert_eq!(rig.dead().len(), letters, "nothing wakes it");
    rig.say("a", b"p\x0a");
    rig.embedded.advance_to(START.plus(Span::from_secs(62)));
    for role in [Role::Identity, Role::Segmenter, Role::Orchestrator] {
        assert_eq!(rig.counter(role, "a").unwrap().fired, 1, "{role}");
    }
}

#[test]
fn jobs_come_back_as_records() {
    let mut rig = rig(1);
    rig.say("a", b"j");
    let before = rig.counter(Role::Orchestrator, "a").unwrap().hash;
    let mut silent = self::rig(1);
    silent.embedded = {
        let layout = Layout { number: 1, partitions: 1 };
        let available = Arc::clone(&silent.available);
        let config = Config::embedded();
        let machines =
            vec![stage::<0>(&config, layout, &available), stage::<1>(&config, layout, &available), stage::<2>(&config, layout, &available)];
        Embedded::new(Parts::new(VirtualClock::new(START), layout, machines))
    };
    silent.say("a", b"j");
    assert_ne!(before, silent.counter(Role::Orchestrator, "a").unwrap().hash, "the outcome was folded");
}

#[test]
fn activations_are_relayed_in_band_and_old_ones_dropped() {
    let mut rig = rig(2);
    rig.activate(Role::Segmenter, 5);
    rig.activate(Role::Segmenter, 4);
    for role in [Role::Segmenter, Role::Orchestrator] {
        for progress in rig.embedded.machine(role).unwrap().progress() {
            assert_eq!(progress.defv, "5:0102", "{role}");
        }
    }
}

#[test]
fn a_partition_waits_for_definitions_that_have_not_arrived() {
    let mut rig = rig(1);
    rig.available.store(0, Ordering::SeqCst);
    rig.activate(Role::Segmenter, 1);
    rig.say("a", b"");
    assert_eq!(rig.counter(Role::Segmenter, "a"), None);
    rig.available.store(1, Ordering::SeqCst);
    rig.embedded.definitions_changed();
    assert_eq!(rig.counter(Role::Orchestrator, "a").unwrap().count, 1);
}

#[test]
fn deleted_entities_leave_nothing_behind() {
    let mut rig = rig(1);
    rig.say("a", b"p\x0a");
    rig.say("a", b"d");
    rig.embedded.advance_to(START.plus(Span::from_secs(3)));
    let dump = rig.embedded.store().dump(PartitionId { role: Role::Segmenter, index: 0 }).unwrap();
    assert!(!dump.entities.contains_key(&counter_id(b"a")));
    assert!(dump.timers.is_empty());
}

#[test]
fn a_machine_made_anew_goes_on_where_the_old_one_was() {
    let mut rig = rig(2);
    let layout = rig.embedded.layout();
    rig.say("a", b"p\x64");
    for _ in 0..3 {
        rig.say("a", b"");
        let replacement = stage::<1>(&Config::embedded(), layout, &rig.available);
        rig.embedded.replace(replacement);
        rig.embedded.settle();
    }
    rig.embedded.advance_to(START.plus(Span::from_secs(11)));
    let counter = rig.counter(Role::Segmenter, "a").unwrap();
    assert_eq!((counter.count, counter.fired), (5, 1), "four records, and what the timer at identity sent");
}

#[test]
fn more_timers_than_a_tick_fires_all_fire() {
    let mut rig = rig(1);
    for n in 0..600_u32 {
        let now = rig.embedded.now();
        rig.embedded.append(Role::Orchestrator, record(&n.to_be_bytes(), now, Bytes::from_static(b"p\x01"))).unwrap();
    }
    rig.embedded.advance_to(START.plus(Span::from_secs(1)));
    assert_eq!(rig.embedded.halted(), []);
    assert_eq!(rig.public().len(), 1_200);
    assert_eq!(rig.embedded.next_timer(), None);
}
