//! One worker under a script: stopped, rewound, misled or left without an answer at every step of it.
//! Whatever happens, the entities and the accepted outputs are the same.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    frame::{Frame, Record},
    inbox, kind,
};
use waypost_memory::{MemoryLog, MemoryStore, Seeded, VirtualClock};
use waypost_runtime::{
    Command, Config, Input, Machine, RoleMachine, Rules,
    append::to_append,
    channel_in::{Receivers, Verdict},
    machine::Alarm,
    ports::{Append, AppendError, ClaimReply, CommitReply, Install, LogError, Offset, ReadReply, StoreError, Token},
    processor::Job,
};
use waypost_types::{EntityId, Layout, PartitionId, Position, Role, Span, Timestamp, WorkspaceId};

use super::toy::{LAST, Toy, record};

mod guards;

pub(super) const P: PartitionId = PartitionId { role: Role::Segmenter, index: 0 };
pub(super) const INBOX: &str = "wp1.segment";
pub(super) const OUT: &str = "wp1.journey";

type Skips = BTreeSet<(PartitionId, Position)>;

/// What goes wrong at one step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    None,
    /// The process dies before the step; another takes over.
    Killed,
    /// The process goes on, but another takes over.
    Zombie,
    /// The store loses its last commits.
    Rewound(usize),
    /// What was to be done is done, but nobody says so.
    NoAnswer,
    /// It is not done, and nobody says so.
    NotDone,
    /// The record before is delivered again, or one is left out.
    Misplaced(i64),
}

/// What never comes back, from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Nothing,
    Commits,
    Appends,
    Deliveries,
    /// Appends are acknowledged and not done.
    Acknowledgements,
}

pub(super) struct Bench {
    pub(super) machine: Box<dyn Machine>,
    pub(super) zombie: Option<(Box<dyn Machine>, Offset)>,
    pub(super) clock: VirtualClock,
    pub(super) log: MemoryLog,
    pub(super) store: MemoryStore,
    pub(super) pending: VecDeque<Command>,
    pub(super) position: Option<Offset>,
    pub(super) seed: u64,
    pub(super) config: Config,
    pub(super) partitions: u32,
    pub(super) jobs: Vec<Job>,
    pub(super) halted: Vec<String>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) gone: bool,
    /// The skip list that every machine begins with.
    pub(super) skips: Skips,
    pub(super) rejoins: usize,
    pub(super) exits: usize,
    pub(super) broken: Broken,
}

pub(super) fn install() -> Install {
    Install { id: "00".repeat(16), layout: 1, format: 1 }
}

fn machine(seed: u64, config: &Config, skips: &Skips, partitions: u32) -> Box<dyn Machine> {
    let (layout, available) = (Layout { number: 1, partitions }, Arc::new(AtomicU64::new(u64::MAX)));
    let make = move |_| Toy::<1>::new(&available);
    Box::new(RoleMachine::new(config.clone(), install(), layout, Box::new(Seeded::new(seed)), Box::new(make)).skipping(skips.clone()))
}

impl Bench {
    pub(super) fn new(config: Config) -> Self {
        Self::with_partitions(config, 1)
    }

    /// One worker of a layout of so many partitions.
    pub(super) fn with_partitions(config: Config, partitions: u32) -> Self {
        let clock = VirtualClock::new(Timestamp::from_millis(1_000_000));
        let (log, store) = (MemoryLog::new(&clock), MemoryStore::new());
        for topic in [INBOX, OUT, "wp1.dead"] {
            log.create_plain(topic, 8);
        }
        store.init(P, &install()).unwrap();
        let mut bench = Self {
            machine: machine(1, &config, &Skips::new(), partitions),
            zombie: None,
            clock,
            log,
            store,
            pending: VecDeque::new(),
            position: None,
            seed: 1,
            config,
            partitions,
            jobs: Vec::new(),
            halted: Vec::new(),
            alarms: Vec::new(),
            gone: false,
            rejoins: 0,
            exits: 0,
            broken: Broken::Nothing,
            skips: Skips::new(),
        };
        bench.handle(Input::Assigned(vec![0]));
        bench
    }

    pub(super) fn say(&self, key: &[u8], body: &[u8]) {
        self.frame(vec![record(key, self.clock.now(), Bytes::copy_from_slice(body))]);
    }

    pub(super) fn frame(&self, records: Vec<Record>) {
        self.log
            .append(Append {
                topic: INBOX.into(),
                partition: 0,
                key: None,
                headers: Vec::new(),
                payload: Frame::unsourced(records).encode(),
            })
            .unwrap();
    }

    pub(super) fn handle(&mut self, input: Input) {
        let mut commands = Vec::new();
        self.machine.handle(self.clock.now(), input, &mut commands);
        self.pending.extend(commands);
    }

    pub(super) fn take_over(&mut self) -> Box<dyn Machine> {
        self.seed += 1;
        self.pending.clear();
        self.position = None;
        let old = std::mem::replace(&mut self.machine, machine(self.seed, &self.config, &self.skips, self.partitions));
        self.handle(Input::Assigned(vec![0]));
        old
    }

    /// Performs the next command, or delivers the next record, or lets time be looked at; false at rest.
    pub(super) fn step(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::Killed => drop(self.take_over()),
            Fault::Zombie => {
                let position = self.position.unwrap_or(0);
                let old = self.take_over();
                self.zombie = Some((old, position));
            }
            Fault::Rewound(k) => drop(self.store.drop_last(P, k)),
            Fault::Misplaced(by) => self.position = self.position.map(|at| at.saturating_add_signed(by)),
            Fault::None | Fault::NoAnswer | Fault::NotDone => {}
        }
        if let Some(command) = self.pending.pop_front() {
            self.perform(command, fault);
        } else if let Some(read) = self
            .position
            .filter(|_| self.broken != Broken::Deliveries && self.machine.wants(0))
            .and_then(|at| self.log.read(INBOX, 0, at).transpose())
        {
            self.position = read.as_ref().ok().map(|delivery| delivery.offset + 1);
            self.handle(read.map_or_else(|error| Input::LogFailed(0, error), Input::Delivered));
        } else if self.machine.next_wake().is_some_and(|at| at <= self.clock.now()) {
            self.handle(Input::Wake);
        } else {
            return false;
        }
        self.haunt();
        true
    }

    /// The zombie reads on and publishes; its commits are refused, and it is told nothing.
    pub(super) fn haunt(&mut self) {
        let Some((machine, position)) = &mut self.zombie else { return };
        let mut commands = Vec::new();
        if let Ok(Some(delivery)) = self.log.read(INBOX, 0, *position) {
            *position += 1;
            machine.handle(self.clock.now(), Input::Delivered(delivery), &mut commands);
        }
        machine.handle(self.clock.now(), Input::Wake, &mut commands);
        while let Some(command) = commands.pop() {
            match command {
                Command::Produce(n, destination, produced) => {
                    let append = to_append("", &destination, produced, |_, _, body| body.clone());
                    let answer = self.log.append(append);
                    machine.handle(self.clock.now(), Input::Produced(n, answer), &mut commands);
                }
                Command::Commit(_, commit) => assert_ne!(self.store.commit(P, &commit), Ok(CommitReply::Ok), "a zombie commits nothing"),
                Command::Read(p, n, read) => {
                    let answer = self.store.read(P, &read);
                    machine.handle(self.clock.now(), Input::Loaded(p, read.token, n, answer), &mut commands);
                }
                _ => {}
            }
        }
    }

    pub(super) fn perform(&mut self, command: Command, fault: Fault) {
        let done = !matches!(fault, Fault::NotDone);
        let lost = matches!(fault, Fault::NotDone | Fault::NoAnswer);
        let unknown = || StoreError::Unknown("lost".to_owned());
        match command {
            Command::Claim(p, token) => {
                let reply = if done { self.store.claim(P, token, &install()) } else { Err(unknown()) };
                self.handle(Input::Claimed(p, token, if lost { Err(unknown()) } else { reply }));
            }
            Command::Commit(..) if self.broken == Broken::Commits => {}
            Command::Produce(..) if self.broken == Broken::Appends => {}
            Command::Commit(p, commit) => {
                let reply = if done { self.store.commit(P, &commit) } else { Err(unknown()) };
                self.handle(Input::Committed(p, commit.token, if lost { Err(unknown()) } else { reply }));
            }
            Command::Read(p, n, read) => {
                let reply = if lost { Err(unknown()) } else { self.store.read(P, &read) };
                self.handle(Input::Loaded(p, read.token, n, reply));
            }
            Command::Produce(n, destination, produced) => {
                let append = to_append("", &destination, produced, |_, _, body| body.clone());
                let failed = || AppendError::Failed("lost".to_owned());
                let reply = if self.broken == Broken::Acknowledgements {
                    Ok(self.log.watermarks(INBOX, 0).unwrap().1)
                } else if done {
                    self.log.append(append)
                } else {
                    Err(failed())
                };
                self.handle(Input::Produced(n, if lost { Err(failed()) } else { reply }));
            }
            Command::NewProducer(life) => {
                self.pending.retain(|command| !matches!(command, Command::Produce(..)));
                self.handle(Input::ProducerReady(life));
            }
            Command::Seek(_, offset) => self.position = Some(offset),
            Command::Job(p, job) => {
                self.jobs.push(job);
                self.handle(Input::JobDone(p, Vec::new()));
            }
            Command::Audit(p, token, part) => {
                let reply = if lost { Err(unknown()) } else { self.store.audit(P, part) };
                self.handle(Input::Audited(p, token, part, reply));
            }
            Command::Release(p, token) => {
                let reply = self.store.release(P, token);
                self.handle(Input::Released(p, token, reply));
            }
            Command::Watermarks(p) => {
                let (start, end) = self.log.watermarks(INBOX, 0).unwrap();
                self.handle(Input::Watermarks(p, start, end));
            }
            Command::Halted(_, why) => self.halted.push(why),
            Command::Gone(_) => self.gone = true,
            Command::Deaths(p, token) => {
                let reply = if lost { Err(unknown()) } else { self.store.deaths(P) };
                self.handle(Input::Deaths(p, token, reply));
            }
            Command::NoteDeaths(p, token, deaths) => {
                let reply = if done { self.store.note_deaths(P, deaths) } else { Err(unknown()) };
                self.handle(Input::DeathsNoted(p, token, if lost { Err(unknown()) } else { reply }));
            }
            Command::Alarm(_, alarm) => self.alarms.push(alarm),
            Command::Rejoin(_) => self.rejoins += 1,
            Command::Exit(_) => self.exits += 1,
            Command::Answer(..) => {}
        }
    }

    /// Goes on until nothing is left to do for so long.
    pub(super) fn run_for(&mut self, ms: i64, mut fault: impl FnMut(usize) -> Fault) -> usize {
        let (end, mut steps) = (self.clock.now().plus(Span::from_millis(ms)), 0);
        loop {
            while self.step(fault(steps)) {
                steps += 1;
                assert!(steps < 100_000, "works without need");
            }
            if self.clock.now() >= end {
                return steps;
            }
            let wake = self.machine.next_wake().unwrap_or(end).max(self.clock.now().plus(Span::from_millis(1)));
            self.clock.advance_to(wake.min(end));
        }
    }

    pub(super) fn settle(&mut self) {
        self.run_for(0, |_| Fault::None);
    }

    /// Bodies that a receiver accepts, in order.
    pub(super) fn accepted(&self) -> Vec<Bytes> {
        let (mut receivers, mut bodies) = (Receivers::default(), Vec::new());
        for delivery in self.log.all(OUT, 0) {
            for section in Frame::decode(delivery.payload).unwrap().sections {
                match receivers.judge(section.source.unwrap(), &section.records, &Rules::default()) {
                    Verdict::Accept { skip, diverged } => {
                        assert!(!diverged, "another history");
                        bodies.extend(section.records.into_iter().skip(skip).filter(|r| r.kind != kind::MARK).map(|r| r.body));
                    }
                    Verdict::Repeat { diverged } => assert!(!diverged, "another history"),
                    Verdict::Gap => {}
                }
            }
        }
        bodies
    }

    /// Records as they were put out, whoever accepts them.
    pub(super) fn put_out(&self) -> Vec<Record> {
        let frames = self.log.all(OUT, 0).into_iter().map(|delivery| Frame::decode(delivery.payload).unwrap());
        frames.flat_map(|frame| frame.sections).flat_map(|section| section.records).collect()
    }

    pub(super) fn outcome(&self) -> (BTreeMap<EntityId, Bytes>, Vec<Bytes>) {
        let dump = self.store.dump(P).unwrap();
        assert_eq!(self.halted, [""; 0]);
        (dump.entities, self.accepted())
    }
}

/// Twelve records of three keys; one sets a timer that fires while they run.
fn scenario(fault: impl FnMut(usize) -> Fault) -> (Bench, usize) {
    let config =
        Config { batch_records: 2, frame_records: 2, cache_entities: 2, commit_interval: Span::from_millis(5), ..Config::default() };
    let mut bench = Bench::new(config);
    for n in 0..12_u8 {
        bench.say(&[n % 3], if n == 4 { b"p\x01" } else { &[0] });
    }
    // What goes wrong when all is done is noticed at the next tick.
    let (mut step, mut fault) = (0, fault);
    let steps = bench.run_for(3_000, |_| {
        step += 1;
        fault(step - 1)
    });
    bench.run_for(130_000, |_| {
        step += 1;
        fault(step - 1)
    });
    (bench, steps)
}

#[test]
fn any_fault_at_any_step_changes_nothing() {
    let (calm, steps) = scenario(|_| Fault::None);
    let expected = calm.outcome();
    assert_eq!(expected.1.len(), 13, "twelve records and a timer");
    let faults = [
        Fault::Killed,
        Fault::Zombie,
        Fault::Rewound(1),
        Fault::Rewound(9),
        Fault::NoAnswer,
        Fault::NotDone,
        Fault::Misplaced(1),
        Fault::Misplaced(-2),
    ];
    for fault in faults {
        for at in 0..steps {
            let (bench, _) = scenario(|step| if step == at { fault } else { Fault::None });
            assert_eq!(bench.outcome(), expected, "{fault:?} at step {at}");
        }
    }
}

#[test]
fn nothing_is_committed_past_an_unacknowledged_output() {
    let mut bench = Bench::new(Config { commit_interval: Span::ZERO, ..Config::default() });
    bench.settle();
    let off = bench.store.dump(P).unwrap().off;
    bench.say(b"a", b"");
    let mut kept = Vec::new();
    loop {
        // Everything is done but the produce of the output.
        while let Some(i) = bench.pending.iter().position(|c| matches!(c, Command::Produce(..))) {
            kept.extend(bench.pending.remove(i));
        }
        if !bench.step(Fault::None) && bench.pending.is_empty() {
            break;
        }
    }
    assert_eq!(bench.store.dump(P).unwrap().off, off);
    bench.pending.extend(kept);
    bench.settle();
    assert_eq!(bench.store.dump(P).unwrap().off, off + 1);
}

#[test]
fn jobs_start_only_behind_the_own_leader_record() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    bench.say(b"a", b"j");
    // A later claim folds the record in its replay.
    drop(bench.take_over());
    bench.settle();
    assert_eq!(bench.jobs, []);
    bench.say(b"a", b"j");
    bench.settle();
    let leader = bench.store.dump(P).map(|_| bench.jobs[0].leader).unwrap();
    assert_eq!((bench.jobs.len(), leader > 0), (1, true));
}

/// How often the job of one record is started if another process takes over, and if the store is rewound.
fn calls(rules: Rules) -> (usize, usize) {
    let mut taken = Bench::new(Config { rules, ..Config::default() });
    taken.settle();
    taken.say(b"a", b"j");
    taken.settle();
    drop(taken.take_over());
    taken.settle();
    let mut rewound = Bench::new(Config { rules, ..Config::default() });
    rewound.settle();
    rewound.say(b"a", b"j");
    rewound.run_for(200, |_| Fault::None);
    rewound.store.drop_last(P, 9);
    rewound.say(b"a", b"");
    rewound.run_for(1_000, |_| Fault::None);
    assert_eq!(rewound.machine.counters().rewound, 1);
    (taken.jobs.len(), rewound.jobs.len())
}

#[test]
fn a_replay_calls_nobody() {
    assert_eq!(calls(Rules::default()), (1, 1));
    assert_eq!(calls(Rules { leader_check: false, ..Rules::default() }).0, 2, "without the check");
    assert_eq!(calls(Rules { fresh_token: false, ..Rules::default() }).1, 2, "led by its own older leader record");
}

#[test]
fn a_foreign_leader_record_ends_the_lead_until_the_own_is_written_again() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    let foreign = inbox::Leader { token: Bytes::from_static(&[9; 16]) }.encode_to_vec();
    let leader = Record::new(kind::LEADER, WorkspaceId::new(0), [9; 16], Bytes::new(), bench.clock.now(), foreign.into());
    bench.frame(vec![leader]);
    bench.say(b"a", b"j");
    bench.settle();
    assert_eq!(bench.jobs, [], "the record stood behind the foreign leader");
    bench.run_for(200, |_| Fault::None);
    bench.say(b"a", b"j");
    bench.settle();
    assert_eq!(bench.jobs.len(), 1, "and this one behind the own");
}

#[test]
fn a_leader_record_that_the_log_acknowledged_and_lost_is_written_again() {
    let mut bench = Bench::new(Config::default());
    bench.broken = Broken::Acknowledgements;
    bench.settle();
    bench.broken = Broken::Nothing;
    bench.say(b"a", b"j");
    bench.settle();
    assert_eq!(bench.jobs, [], "where the leader record ought to stand, this one does");
    bench.say(b"a", b"j");
    bench.settle();
    assert_eq!(bench.jobs.len(), 1);
}

#[test]
fn a_drained_partition_is_committed_and_released() {
    let mut bench = Bench::new(Config { commit_interval: Span::from_secs(60), ..Config::default() });
    bench.settle();
    bench.say(b"a", b"");
    bench.settle();
    bench.handle(Input::Drain);
    bench.settle();
    assert!(bench.gone);
    assert_eq!(bench.jobs.iter().map(|job| (job.kind, job.leader > 0)).collect::<Vec<_>>(), [(LAST, true)], "its last word");
    let dump = bench.store.dump(P).unwrap();
    assert_eq!((dump.off, dump.own), (bench.log.watermarks(INBOX, 0).unwrap().1, waypost_memory::store::Owner::None));
}

#[test]
fn a_drain_that_cannot_end_releases_all_the_same() {
    let mut bench = Bench::new(Config { commit_interval: Span::from_secs(60), ..Config::default() });
    bench.settle();
    bench.say(b"a", b"");
    bench.settle();
    bench.store.refuse(Some("OOM"));
    bench.handle(Input::Revoke(vec![0]));
    bench.run_for(400, |_| Fault::None);
    assert!(!bench.gone);
    bench.run_for(200, |_| Fault::None);
    assert!(bench.gone);
}

#[test]
fn halting_replies_halt_and_say_why() {
    let replies: [(ClaimReply, &str); 3] = [
        (ClaimReply::Uninit, "waypost init"),
        (ClaimReply::Mismatch(Install { layout: 7, ..install() }), "layout 7"),
        (ClaimReply::Corrupt("wp1:t".to_owned()), "wp1:t"),
    ];
    for (reply, why) in replies {
        let mut bench = Bench::new(Config::default());
        let Some(Command::Claim(p, token)) = bench.pending.pop_front() else { panic!("claims first") };
        bench.handle(Input::Claimed(p, token, Ok(reply)));
        bench.settle();
        assert!(bench.halted[0].contains(why), "{:?}", bench.halted);
        assert!(bench.machine.wants(0), "polled on and dropped");
        assert!(bench.machine.next_wake().is_some_and(|at| at > bench.clock.now()), "and quiet, but that it looks now and then");
    }
}

#[test]
fn poison_that_a_role_halts_on_stops_the_partition_before_it() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    bench.say(b"a", b"");
    bench.settle();
    let before = bench.machine.progress()[0].next;
    bench.say(b"a", b"h");
    bench.say(b"a", b"");
    bench.settle();
    let [why] = &bench.halted[..] else { panic!("halts once: {:?}", bench.halted) };
    assert!(why.contains("TOY_HALTS: why"), "{why}");
    let progress = &bench.machine.progress()[0];
    assert_eq!((progress.halted.as_ref(), progress.next), (Some(why), before), "the record is not folded");
    assert_eq!(bench.log.watermarks("wp1.dead", 0).unwrap().1, 0, "and not set aside");
}

#[test]
fn a_log_that_lost_what_is_to_be_folded_halts() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    let end = bench.log.watermarks(INBOX, 0).unwrap().1;
    bench.say(b"a", b"");
    bench.log.trim(INBOX, 0, end + 1);
    bench.handle(Input::LogFailed(0, LogError::OutOfRange));
    bench.settle();
    assert_eq!(bench.halted, [""; 0], "one bad answer may be old");
    bench.run_for(2_000, |_| Fault::None);
    assert!(bench.halted[0].contains("its records are gone"), "{:?}", bench.halted);
}

#[test]
fn an_old_claims_answer_is_not_taken() {
    let mut bench = Bench::new(Config::default());
    bench.handle(Input::Claimed(0, Token([9; 16]), Ok(ClaimReply::Uninit)));
    bench.settle();
    assert_eq!(bench.halted, [""; 0]);
    assert!(bench.machine.progress()[0].leading);
}

#[test]
fn a_client_that_lost_its_position_is_sought_back() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    bench.say(b"a", b"p\x01");
    bench.settle();
    bench.position = bench.position.map(|at| at + 1);
    bench.run_for(12_000, |_| Fault::None);
    assert_eq!(bench.accepted().len(), 2, "the tick that fires the timer was skipped, and found again");
}

#[test]
fn a_quiet_machine_wakes_once_a_minute() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    let before = bench.log.watermarks(INBOX, 0).unwrap().1;
    let steps = bench.run_for(600_000, |_| Fault::None);
    let ticks = bench.log.watermarks(INBOX, 0).unwrap().1 - before;
    assert_eq!(ticks, 10);
    assert!(steps < 10 * 12, "{steps} steps for {ticks} ticks");
}

#[test]
fn back_pressure_stops_the_taking_not_the_acknowledging() {
    let mut bench = Bench::new(Config { unacknowledged_bytes: 1, ..Config::default() });
    bench.settle();
    bench.say(b"a", b"");
    let mut held = VecDeque::new();
    for _ in 0..20 {
        while let Some(i) = bench.pending.iter().position(|c| matches!(c, Command::Produce(..))) {
            held.extend(bench.pending.remove(i));
        }
        bench.step(Fault::None);
    }
    assert!(!bench.machine.wants(0));
    bench.pending.extend(held);
    bench.settle();
    assert!(bench.machine.wants(0));
}
