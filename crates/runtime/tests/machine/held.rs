//! What an entity holds back keeps `through` back, from the end of the batch that took it to the end of
//! the batch that let it go, over every life in between (PROTOCOL §8.3).

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};
use waypost_codec::frame::{Frame, Record};
use waypost_memory::{MemoryLog, MemoryStore, Seeded, VirtualClock};
use waypost_runtime::{
    Command, Config, Fold, Input, Machine, Poison, Processor, RoleMachine, Rules,
    append::to_append,
    ports::{Append, Install, Offset},
    processor::{Definitions, Entity, Fireable, Wakeups},
};
use waypost_types::{EntityId, Layout, PartitionId, Role, Span, Timestamp};

use super::toy::{COUNT, W};

const P: PartitionId = PartitionId { role: Role::Identity, index: 0 };
const INBOX: &str = "wp1.identity";
const HOLDS_FOR: Span = Span::from_secs(10);

/// Keeps the log time of what `hold` brought until `free` comes, or for ten seconds.
#[derive(Debug)]
struct Keeper;

#[derive(Clone, Debug, Default)]
struct Kept {
    since: Option<Timestamp>,
    /// Something that stays when nothing is held.
    stays: bool,
}

impl Entity for Kept {
    fn decode(_: &EntityId, bytes: &Bytes) -> Result<Self, String> {
        let mut bytes = bytes.clone();
        Ok(Self { stays: bytes.get_u8() == 1, since: Some(Timestamp::from_millis(bytes.get_i64())).filter(|at| *at != Timestamp::ZERO) })
    }

    fn encode(&self) -> Option<Bytes> {
        let since = self.since.unwrap_or_default().millis();
        (!self.is_nothing()).then(|| [&[u8::from(self.stays)][..], &since.to_be_bytes()].concat().into())
    }

    fn is_nothing(&self) -> bool {
        !self.stays && self.since.is_none_or(|since| since == Timestamp::ZERO)
    }

    fn wakeups(&self) -> Wakeups {
        Wakeups { plain: self.since.map(|since| since.plus(HOLDS_FOR)), absent: None }
    }
}

impl Processor for Keeper {
    type Entity = Kept;

    const ROLE: Role = Role::Identity;
    const RELAYS_TO: Option<Role> = None;
    const WATERMARKED: bool = false;
    const REPORTS_THROUGH: bool = true;
    const HOLDS_FOR: Option<Span> = Some(HOLDS_FOR);

    fn define(&mut self, _: &str) -> Definitions {
        Definitions::Loaded
    }

    fn entities(&self, record: &Record) -> Result<Vec<EntityId>, Poison> {
        Ok(vec![EntityId::new(W, b'k', &record.key)])
    }

    fn fold(&self, fold: &mut Fold<'_, Kept>, record: &Record) -> Result<(), Poison> {
        let id = EntityId::new(W, b'k', &record.key);
        let mut kept = fold.get(&id).cloned().unwrap_or_default();
        match &record.body[..] {
            b"hold" => kept.since = Some(kept.since.map_or_else(|| fold.now(), |since| since.min(fold.now()))),
            b"free" => kept.since = None,
            b"stay" => kept.stays = true,
            _ => {}
        }
        fold.put(&id, kept);
        Ok(())
    }

    fn fire(&self, fold: &mut Fold<'_, Kept>, id: &EntityId, _: Fireable) -> Result<bool, Poison> {
        let Some(mut kept) = fold.get(id).cloned() else { return Ok(false) };
        kept.since = None;
        fold.put(id, kept);
        Ok(true)
    }
}

struct Bench {
    machine: Box<dyn Machine>,
    clock: VirtualClock,
    log: MemoryLog,
    store: MemoryStore,
    position: Option<Offset>,
    /// Reads stay unanswered.
    mute: bool,
    rules: Rules,
}

fn install() -> Install {
    Install { id: "00".repeat(16), layout: 1, format: 1 }
}

fn machine(seed: u64, rules: Rules) -> Box<dyn Machine> {
    let config = Config { cache_entities: 0, batch_records: 1, timer_horizon: Span::from_secs(1), rules, ..Config::embedded() };
    let layout = Layout { number: 1, partitions: 1 };
    Box::new(RoleMachine::new(config, install(), layout, Box::new(Seeded::new(seed)), Box::new(|_| Keeper)))
}

impl Bench {
    fn new(rules: Rules) -> Self {
        let clock = VirtualClock::new(Timestamp::from_millis(1_000_000));
        let (log, store) = (MemoryLog::new(&clock), MemoryStore::new());
        log.create_plain(INBOX, 1);
        store.init(P, &install()).unwrap();
        let mut bench = Self { machine: machine(1, rules), clock, log, store, position: None, mute: false, rules };
        bench.handle(Input::Assigned(vec![0]));
        bench.pass(0);
        bench
    }

    /// The process dies; another takes over.
    fn taken_over(&mut self) {
        (self.machine, self.position) = (machine(2, self.rules), None);
        self.handle(Input::Assigned(vec![0]));
        self.pass(0);
    }

    /// A record of this key, and what follows at once; when it was said.
    fn say(&mut self, key: &'static str, body: &'static str) -> Timestamp {
        let said = self.clock.now();
        let record = Record::new(COUNT, W, [1; 16], key.into(), said, body.into());
        let payload = Frame::unsourced(vec![record]).encode();
        self.log.append(Append { topic: INBOX.into(), partition: 0, key: None, headers: Vec::new(), payload }).unwrap();
        self.pass(0);
        said
    }

    fn through(&self) -> Timestamp {
        self.machine.progress()[0].through
    }

    fn handle(&mut self, input: Input) {
        let (mut inputs, mut commands) = (VecDeque::from([input]), Vec::new());
        while let Some(input) = inputs.pop_front() {
            self.machine.handle(self.clock.now(), input, &mut commands);
            for command in commands.drain(..) {
                match command {
                    Command::Claim(p, token) => inputs.push_back(Input::Claimed(p, token, self.store.claim(P, token, &install()))),
                    Command::Commit(p, commit) => inputs.push_back(Input::Committed(p, commit.token, self.store.commit(P, &commit))),
                    Command::Read(p, n, read) if !(self.mute && read.timers.is_some()) => {
                        inputs.push_back(Input::Loaded(p, read.token, n, self.store.read(P, &read)));
                    }
                    Command::Produce(n, destination, produced) => {
                        let append = to_append("", &destination, produced, |_, _, body| body.clone());
                        inputs.push_back(Input::Produced(n, self.log.append(append)));
                    }
                    Command::NewProducer(life) => inputs.push_back(Input::ProducerReady(life)),
                    Command::Watermarks(p) => {
                        let (start, end) = self.log.watermarks(INBOX, 0).unwrap();
                        inputs.push_back(Input::Watermarks(p, start, end));
                    }
                    Command::Deaths(p, token) => inputs.push_back(Input::Deaths(p, token, self.store.deaths(P))),
                    Command::NoteDeaths(p, token, deaths) => {
                        inputs.push_back(Input::DeathsNoted(p, token, self.store.note_deaths(P, deaths)));
                    }
                    Command::Seek(_, offset) => self.position = Some(offset),
                    Command::Halted(_, why) => panic!("{why}"),
                    _ => {}
                }
            }
        }
    }

    /// So many milliseconds pass.
    fn pass(&mut self, ms: i64) {
        let end = self.clock.now().plus(Span::from_millis(ms));
        for _ in 0..10_000 {
            while let Some(delivery) = self.position.and_then(|at| self.log.read(INBOX, 0, at).unwrap()) {
                self.position = Some(delivery.offset + 1);
                self.handle(Input::Delivered(delivery));
            }
            let Some(wake) = self.machine.next_wake().filter(|wake| *wake <= end) else { return self.clock.advance_to(end) };
            self.clock.advance_to(wake.max(self.clock.now()));
            self.handle(Input::Wake);
        }
        panic!("works without need");
    }
}

#[test]
fn through_waits_for_what_is_held() {
    for stays in [false, true] {
        let mut bench = Bench::new(Rules::default());
        if stays {
            bench.say("a", "stay");
        }
        bench.pass(2_500);
        assert!(bench.through() >= bench.clock.now().minus(Span::from_secs(2)), "idle ticks move it");
        let held = bench.say("a", "hold");
        bench.pass(1_000);
        let younger = bench.say("b", "hold");
        bench.pass(2_500);
        assert_eq!(bench.through(), held, "whatever is folded meanwhile");
        bench.say("a", "free");
        assert_eq!(bench.through(), younger, "freed at once; the other is held still");
        let free = bench.say("b", "free");
        assert_eq!(bench.through(), free);
    }
}

#[test]
fn what_an_earlier_life_held_is_held_by_the_next() {
    let mut bench = Bench::new(Rules::default());
    let held = bench.say("a", "hold");
    bench.pass(100);
    bench.mute = true;
    bench.taken_over();
    bench.say("b", "");
    assert_eq!(bench.through(), Timestamp::ZERO, "nobody knows yet what is held");
    bench.mute = false;
    bench.taken_over();
    bench.pass(2_500);
    assert_eq!(bench.through(), held);
    let free = bench.say("a", "free");
    assert_eq!(bench.through(), free);
}

#[test]
fn what_is_held_too_long_is_let_go_by_its_timer() {
    let mut bench = Bench::new(Rules::default());
    let held = bench.say("a", "hold");
    bench.pass(9_000);
    assert_eq!(bench.through(), held);
    bench.pass(3_000);
    assert!(bench.through() > held.plus(HOLDS_FOR));
    assert_eq!(bench.machine.counters().timers, 1);
}

#[test]
fn without_the_rule_what_is_held_is_forgotten() {
    let mut bench = Bench::new(Rules { held_in_through: false, ..Rules::default() });
    let held = bench.say("a", "hold");
    bench.pass(2_500);
    assert!(bench.through() > held);
}
