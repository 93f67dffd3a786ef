//! A world: a shop, four roles, a log, a store and a clock; and whatever happens next, drawn from its seed.
//!
//! `staffing` starts processes, `carrying` does what machines ask for, `breaking` what nobody asked for; here is the order of it all.

mod aiming;
mod breaking;
mod carrying;
mod clearing;
mod damaging;
mod narrowing;
mod renewing;
mod repacking;
mod repairing;
mod skipping;
mod staffing;
mod telling;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
};

use bytes::Bytes;
use waypost_codec::{frame::Frame, kind};
use waypost_engine::library::Library;
use waypost_memory::{MemoryLog, MemoryStore, VirtualClock, store::Dump};
use waypost_runtime::{
    Config, Input,
    ports::{Append, Commit, Delivery, Offset, Token},
};
use waypost_types::{Layout, PartitionId, Position, Role, Span, Timestamp};

use crate::{
    chance::Chance,
    fatal::Fatal,
    faults::{Dice, Fault, Faults},
    process::{Process, Roles, Skips, install},
    provider::{Offers, SimProvider},
    scenario::{Part, Scenario, Without},
    shop::{Shop, held::Held},
    story::{Story, Tally},
    switches::Switches,
    workload,
};

pub(crate) use skipping::set_aside;

/// Public topics of every world.
pub const PUBLIC: [&str; 3] = ["waypost.segment-changes.v1", "waypost.decisions.v1", "waypost.messages.v1"];
/// Partitions of the dead-letter topic.
const DEAD: u32 = 2;
/// When every world begins.
pub const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// A world of more steps than this does not come to rest.
const MOST_STEPS: u64 = 600_000;
/// How long after the last event every timer has fired that is to fire in this world: a call may be in doubt for over
/// fourteen minutes, and its provider asked for ten more.
const TAIL: Span = Span::from_secs(2_000);
/// Timers further away than this are those of ledgers and retention: nobody waits for them.
const FAR: Span = Span::from_hours(1);

/// What goes on by itself after those who began it are gone.
#[derive(Debug)]
pub(crate) enum Late {
    Append(Append),
    Commit(MemoryStore, PartitionId, Box<Commit>),
    Claim(MemoryStore, PartitionId, Token),
}

/// One world.
pub struct World {
    pub(crate) chance: Chance,
    pub(crate) dice: Dice,
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) roles: Roles,
    pub(crate) clock: VirtualClock,
    pub(crate) log: MemoryLog,
    pub(crate) store: MemoryStore,
    pub(crate) provider: SimProvider,
    pub(crate) processes: Vec<Process>,
    pub(crate) late: Vec<Late>,
    pub(crate) tally: Tally,
    pub(crate) story: Story,
    /// What must not happen and did.
    pub(crate) wrong: Option<String>,
    workload: VecDeque<workload::Append>,
    /// What the shop's definitions are.
    pub(crate) shop: &'static Shop,
    /// The same, where operators hold its journeys.
    pub(crate) held: Option<&'static Held>,
    aimed: aiming::Aimed,
    backups: Vec<(PartitionId, Dump)>,
    channels: repacking::Channels,
    refused_until: Option<Timestamp>,
    /// What the processes have seen of the shop's definitions.
    library: Arc<Library>,
    /// When the rest arrives, if that is late.
    bodies_at: Option<Timestamp>,
    /// Told by identity on the progress topic, and not read yet by everybody.
    told: VecDeque<(u32, Timestamp)>,
    without: Arc<Without>,
    /// Of the events that come.
    numbers: BTreeSet<u32>,
    starved: Vec<PartitionId>,
    /// By how much clocks of processes are off is drawn from this.
    skews: Option<Chance>,
    /// How eager this world is to answer, to carry out, to send, to deliver.
    weights: [usize; 4],
    processes_so_far: u64,
    /// Something is lost that must be noticed.
    pub(crate) damage: Option<(Fault, PartitionId)>,
    /// Records that nobody should fold, who sees to what comes of that, and what is set aside.
    pub(crate) fatal: Fatal,
    operator: skipping::Operator,
    pub(crate) skips: Skips,
    /// One process of the release before.
    old: Option<renewing::Old>,
    /// Why a partition has halted, where something was lost.
    pub(crate) noticed: Option<String>,
    /// What logs have lost at their beginning.
    trimmed: BTreeMap<PartitionId, Vec<Delivery>>,
    /// The next offset of each partition.
    ends_of: Vec<Offset>,
    ends: Timestamp,
    switches: Switches,
    /// Other ways of chance that a switch asks for are drawn from this.
    other: Chance,
}

// === impl World ===

impl World {
    /// The world of a scenario, before anything has happened.
    pub fn new(scenario: &Scenario, switches: Switches, told: bool) -> Self {
        let seed = scenario.seed;
        let mut chance = Chance::new(seed);
        let without = Arc::new(scenario.without.clone());
        let mut dice = Dice::new(seed, Faults::draw(&mut chance.at(1)), without.clone());
        let clock = VirtualClock::new(START);
        let layout = Layout { number: 1, partitions: [1, 1, 2, 2, 3, 4][chance.index(6)] };
        let log = log(&clock, &mut dice);
        let store = MemoryStore::new();
        store.check(switches.checks);
        for role in Role::KEYED {
            log.create_plain(role.inbox().unwrap_or_default(), layout.partitions);
            for index in 0..layout.partitions {
                // Nothing refuses yet.
                drop(store.init(PartitionId { role, index }, &install()));
            }
        }
        for topic in PUBLIC {
            log.create_plain(topic, 2);
        }
        log.create_plain("wp1.dead", DEAD);
        let mut workload = workload::draw(&mut chance.at(2), START, layout.partitions);
        let engines = workload::engines::draw(&mut chance.at(5), START, layout.partitions);
        let old = if engines.is_empty() && !switches.operators { None } else { renewing::Old::draw(chance.at(6)) };
        let forgets = workload.iter().any(|append| matches!(append.record.kind, kind::ERASE | kind::EXPIRE | kind::DETACH));
        let hurried = workload::hurry::draw(&mut chance.at(9), &workload);
        if switches.cards {
            workload::cards::draw(&chance.at(11), &mut workload);
        }
        let held = switches.operators.then(|| workload::operators::draw(&mut chance.at(12), START, layout.partitions, &mut workload));
        let shop = held.map_or_else(Shop::get, |held| &held.shop);
        workload.extend(engines);
        workload.extend(hurried);
        workload.sort_by_key(|append| append.at);
        let ends = workload.last().map_or(START, |append| append.at);
        let workload: VecDeque<_> = workload.into_iter().filter(|append| append.number.is_none_or(|n| !without.event(n))).collect();
        let numbers: BTreeSet<u32> = workload.iter().filter_map(|append| append.number).collect();
        let starved = dice.strike(Fault::Starved).map(|mut chance| {
            // Rather identity, which everything waits for.
            let role = chance.pick(&[&Role::KEYED[..], &[Role::Identity; 4]].concat()).copied().unwrap_or(Role::Identity);
            PartitionId { role, index: u32::try_from(chance.index(layout.partitions as usize)).unwrap_or(0) }
        });
        let slow_road = dice.strike(Fault::SlowRoad).map(|mut chance| {
            let role = [Role::Segmenter, Role::Orchestrator][chance.index(2)];
            PartitionId { role, index: u32::try_from(chance.index(layout.partitions as usize)).unwrap_or(0) }
        });
        let starved = starved.into_iter().chain(slow_road).collect();
        let skews = dice.strike(Fault::ProcessClocks);
        let (library, bodies_at) = if let Some(mut chance) = dice.strike(Fault::BodiesLate) {
            let library = Library::default();
            for body in shop.bodies.first().into_iter().flatten() {
                library.insert(body.clone());
            }
            (Arc::new(library), Some(START.plus(chance.span(2_000, 18_000))))
        } else {
            (shop.library.clone(), None)
        };
        let weights = [(); 4].map(|()| if chance.index(3) == 0 { 8 } else { 1 + chance.index(2) });
        let repacked = dice.may(Fault::Repacked);
        let limits = narrowing::limits(&mut chance.at(4), &mut chance.at(7), forgets || switches.operators);
        let roles = Roles { layout, limits, switches };
        let offers = Offers::draw(&mut chance.at(3), &mut chance.at(8));
        let provider = SimProvider::new(dice.clone(), offers, clock.clone());
        let config = Config {
            tick_entities: chance.small(2),
            own_timers: 32,
            public_partitions: 2,
            dead_partitions: DEAD,
            slack: if chance.index(2) == 0 { Span::ZERO } else { Span::from_millis(500) },
            idle_tick: chance.span(2_500, 8_000),
            watermark_tick: Span::from_secs(1),
            rules: switches.rules,
            ..Config::default()
        };
        let operator = skipping::Operator::new(chance.at(10), switches.look);
        let mut world = Self {
            chance,
            dice,
            config,
            layout,
            roles,
            clock,
            log,
            store,
            provider,
            processes: Vec::new(),
            late: Vec::new(),
            tally: Tally { worlds: 1, ..Tally::default() },
            story: Story::new(START, told),
            wrong: None,
            workload,
            shop,
            held,
            aimed: aiming::Aimed::default(),
            backups: Vec::new(),
            channels: repacking::Channels::new(repacked || !switches.leaders_alone),
            refused_until: None,
            library,
            bodies_at,
            told: VecDeque::new(),
            without,
            numbers,
            starved,
            skews,
            weights,
            processes_so_far: 0,
            damage: None,
            fatal: Fatal::default(),
            operator,
            skips: Skips::new(),
            old,
            noticed: None,
            trimmed: BTreeMap::new(),
            ends_of: vec![0; Role::ALL.len() * layout.partitions as usize],
            ends,
            switches,
            other: Chance::new(seed).at(90),
        };
        world.found();
        world
    }

    /// What could be left out of this world, as far as it has been played.
    pub fn parts(&self) -> Vec<Part> {
        let events = self.numbers.iter().copied().map(Part::Event);
        let provider = self.provider.dice();
        let struck: Vec<(Fault, u32)> = self.dice.struck().chain(provider.struck()).collect();
        let kinds = struck.iter().map(|(fault, _)| Part::Kind(*fault));
        let faults = struck.iter().flat_map(|(fault, count)| (0..*count).map(|n| Part::Fault(*fault, n)));
        kinds.chain(events).chain(faults).filter(|part| !self.without.has(*part)).collect()
    }

    /// Goes on until everything has come to rest.
    ///
    /// # Errors
    /// What must not happen and did.
    pub fn play(&mut self) -> Result<(), String> {
        let played = self.go_on().and_then(|()| self.repaired());
        for process in std::mem::take(&mut self.processes) {
            self.tally.machine(&process.machine().counters());
        }
        self.tally.faults(&self.dice);
        self.tally.faults(&self.provider.dice());
        played
    }

    /// Appends what is missing between partitions, and goes on, until nothing is.
    fn repaired(&mut self) -> Result<(), String> {
        while self.dice.has_struck(Fault::FalselyAcknowledged) && self.noticed.is_none() && self.switches.repair && self.repair()? {
            self.ends = self.clock.now();
            self.go_on()?;
        }
        Ok(())
    }

    fn go_on(&mut self) -> Result<(), String> {
        loop {
            self.tally.steps += 1;
            if let Some(wrong) = self.wrong.take() {
                return Err(wrong);
            }
            if self.noticed.is_some() {
                // Nothing more is promised of this partition, nor of those that wait for it.
                return Ok(());
            }
            if self.tally.steps > MOST_STEPS {
                return Err(format!("does not come to rest: {:?}", self.processes));
            }
            if self.clock.now() >= self.ends && !self.dice.is_over() {
                self.heal();
            }
            self.come_in();
            self.learn();
            self.break_something();
            self.spread_the_word();
            if self.chance.index(40) == 0 {
                let span = self.chance.span(1, 15);
                self.advance_to(self.clock.now().plus(span));
            }
            self.bury_the_dead();
            if self.step() {
                continue;
            }
            if !self.told.is_empty() {
                self.hear(self.told.len());
                continue;
            }
            if self.clock.now() >= self.ends && self.is_at_rest() {
                break;
            }
            let next = self.next_instant().max(self.clock.now().plus(Span::from_millis(1)));
            self.advance_to(next);
        }
        Ok(())
    }

    fn advance_to(&mut self, instant: Timestamp) {
        self.clock.advance_to(instant);
        self.story.note(&[1, u64::try_from(instant.millis()).unwrap_or(0)]);
    }

    /// The bodies that were late have arrived.
    fn learn(&mut self) {
        if self.bodies_at.is_none_or(|at| at > self.clock.now()) {
            return;
        }
        self.bodies_at = None;
        self.story.tell(self.clock.now(), || "the bodies of the second set arrive".to_owned());
        for body in self.shop.bodies.iter().flatten() {
            self.library.insert(body.clone());
        }
        for process in 0..self.processes.len() {
            self.handle(process, Input::DefinitionsChanged);
        }
    }

    /// What doors and control append by now.
    fn come_in(&mut self) {
        while self.workload.front().is_some_and(|append| append.at <= self.clock.now()) {
            let Some(append) = self.workload.pop_front() else { break };
            let workload::Append { role, partition, record, says, .. } = append;
            let record = self.aim(record);
            let index = partition.unwrap_or_else(|| self.layout.partition(record.workspace, &record.key));
            let mut records = vec![record];
            // A door packs what came at the same time.
            while self.chance.index(3) == 0
                && let Some(next) = self.workload.front().filter(|next| next.role == role && next.partition == partition)
                && next.at.since(self.clock.now()) < Span::from_millis(50)
                && next.partition.unwrap_or_else(|| self.layout.partition(next.record.workspace, &next.record.key)) == index
                && let Some(next) = self.workload.pop_front()
            {
                self.story.tell(self.clock.now(), || format!("{} (in one frame with the next)", next.says));
                records.push(self.aim(next.record));
            }
            self.story.tell(self.clock.now(), || says);
            for (record, place) in records.iter_mut().zip(0..) {
                record.said = Timestamp::from_millis(record.said.millis() + place * self.switches.later_by_place);
            }
            let (to, kinds) = (PartitionId { role, index }, records.iter().map(|record| record.kind).collect::<Vec<_>>());
            let offset = self.append(to, Frame::unsourced(records).encode());
            for (index, _) in (0..).zip(kinds).filter(|(_, kind)| *kind == kind::EVENT) {
                self.curse((to, Position { offset, index }));
            }
        }
    }

    fn append(&mut self, to: PartitionId, payload: Bytes) -> Offset {
        let topic = to.role.inbox().unwrap_or_default().to_owned();
        self.put("a door", Append { topic, partition: to.index, key: None, headers: Vec::new(), payload })
    }

    /// Appends to the log, which takes everything.
    pub(crate) fn put(&mut self, who: impl fmt::Display, append: Append) -> Offset {
        self.story.note(&[2, append.payload.len() as u64]);
        self.channels.learn(&append);
        let inbox = Role::KEYED.into_iter().find(|role| role.inbox() == Some(append.topic.as_str()));
        let inbox = inbox.map(|role| PartitionId { role, index: append.partition });
        let told = self.story.is_told().then(|| append.clone());
        let offset = self.log.append(append).unwrap_or_else(|error| {
            self.wrong.get_or_insert_with(|| format!("the log refuses: {error}"));
            0
        });
        if let Some(partition) = inbox {
            self.ends_at(partition, offset + 1);
        }
        if let Some(append) = told {
            let (now, to) = (self.clock.now(), format!("{}/{} @{offset}", append.topic, append.partition));
            self.story.tell(now, || format!("  {to} by {who}: {}", telling::told(&append)));
        }
        offset
    }

    /// The next offset of an inbox.
    pub(crate) fn end_of(&self, partition: PartitionId) -> Offset {
        self.ends_of[self.place(partition)]
    }

    fn ends_at(&mut self, partition: PartitionId, end: Offset) {
        let place = self.place(partition);
        self.ends_of[place] = end;
    }

    fn place(&self, PartitionId { role, index }: PartitionId) -> usize {
        (role as usize - 1) * self.layout.partitions as usize + index as usize
    }

    /// Identity tells how far it has come, and the others read it some time.
    fn spread_the_word(&mut self) {
        if self.chance.index(12) == 0
            && let Some(process) = self.any_of(Role::Identity)
        {
            let progress = self.processes[process].machine().progress();
            self.told.extend(progress.into_iter().map(|progress| (progress.partition.index, progress.through)));
        }
        if self.chance.index(10) == 0 {
            let heard = self.chance.index(2 * self.layout.partitions as usize + 2);
            self.hear(heard);
        }
    }

    /// The others read so much of what identity has told.
    fn hear(&mut self, words: usize) {
        for _ in 0..words {
            let Some((partition, through)) = self.told.pop_front() else { break };
            for process in 0..self.processes.len() {
                if self.processes[process].role == Role::Segmenter && !self.processes[process].is_asleep(self.clock.now()) {
                    self.handle(process, Input::Through(partition, through));
                }
            }
        }
    }

    fn any_of(&mut self, role: Role) -> Option<usize> {
        let all: Vec<usize> = (0..self.processes.len()).filter(|i| self.processes[*i].role == role).collect();
        self.chance.pick(&all).copied()
    }

    /// One small thing happens to one process. Returns whether anything did.
    fn step(&mut self) -> bool {
        let now = self.clock.now();
        let first = self.chance.index(self.processes.len());
        for i in 0..self.processes.len() {
            let process = (first + i) % self.processes.len();
            if !self.processes[process].is_asleep(now) && self.step_of(process) {
                return true;
            }
        }
        self.late_step()
    }

    fn step_of(&mut self, i: usize) -> bool {
        self.processes[i].time_out(self.clock.now());
        let readable = self.readable(i);
        let process = &self.processes[i];
        let open = [
            !process.answers.is_empty(),
            !process.asked.is_empty(),
            !process.sending.is_empty() && !process.is_stuck(self.clock.now()),
            !readable.is_empty(),
        ];
        let number = process.number;
        let way = self.way(open);
        if way.is_none() || self.chance.index(6) == 0 {
            let process = &self.processes[i];
            if process.next_wake().is_some_and(|at| at <= process.clock(&self.clock)) {
                self.story.note(&[3, number]);
                self.handle(i, Input::Wake);
                return true;
            }
        }
        let Some(way) = way else { return false };
        self.story.note(&[4, number, way as u64]);
        match way {
            Way::Answer => {
                let answer = self.chance.draw(&mut self.processes[i].answers);
                if let Some(answer) = answer {
                    self.handle(i, answer);
                }
            }
            Way::Carry => self.carry_out(i),
            Way::Send => self.send(i),
            Way::Deliver => {
                if let Some(partition) = self.chance.pick(&readable).copied() {
                    self.deliver(i, partition);
                }
            }
        }
        true
    }

    /// One of the ways that are open, each as likely as its weight.
    fn way(&mut self, open: [bool; 4]) -> Option<Way> {
        let weight = |way: &Way| if open[*way as usize] { self.weights[*way as usize] } else { 0 };
        let mut at = self.chance.index(Way::ALL.iter().map(weight).sum());
        Way::ALL.into_iter().find(|way| {
            let weight = weight(way);
            let found = at < weight;
            at = at.saturating_sub(weight);
            found
        })
    }

    /// Partitions of a process that want a record and have one.
    fn readable(&mut self, i: usize) -> Vec<u32> {
        let process = &self.processes[i];
        let role = process.role;
        let has = |index: u32, at: Offset| at != self.end_of(PartitionId { role, index });
        let mut readable: Vec<u32> =
            process.positions.iter().filter(|(p, at)| has(**p, **at) && process.wants(**p)).map(|(p, _)| *p).collect();
        for starved in self.starved.iter().filter(|starved| starved.role == role) {
            if readable.contains(&starved.index) && self.chance.index(30) > 0 {
                readable.retain(|p| *p != starved.index);
            }
        }
        readable
    }

    /// When something can happen next, if nothing can now.
    fn next_instant(&self) -> Timestamp {
        let now = self.clock.now();
        let wakes = self.processes.iter().filter(|process| !process.is_asleep(now)).filter_map(|process| {
            let wake = process.next_wake()?;
            Some(Timestamp::from_millis(wake.millis() - process.skew.millis()))
        });
        let processes = self
            .processes
            .iter()
            .flat_map(|process| [process.asleep_until, process.zombie_until, process.stuck_until, process.replaced_at])
            .flatten();
        let timeouts = self.processes.iter().flat_map(|process| process.timeouts.iter().map(|(at, _)| *at));
        let others = [self.refused_until, self.bodies_at, self.operator.next_instant(), self.workload.front().map(|append| append.at)];
        let soon = (!self.starved.is_empty()).then(|| now.plus(Span::from_millis(20)));
        wakes
            .chain(processes)
            .chain(timeouts)
            .chain(others.into_iter().flatten())
            .chain(soon)
            .filter(|at| *at > now)
            .min()
            .unwrap_or_else(|| now.plus(Span::from_secs(1)))
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Answer,
    Carry,
    Send,
    Deliver,
}

// === impl Way ===

impl Way {
    const ALL: [Self; 4] = [Self::Answer, Self::Carry, Self::Send, Self::Deliver];
}

/// The log of a world, by the broker's clock.
fn log(clock: &VirtualClock, dice: &mut Dice) -> MemoryLog {
    let off = dice
        .strike(Fault::BrokerClock)
        .map_or(Span::ZERO, |mut chance| if chance.index(3) == 0 { chance.span(-2_500, 2_500) } else { chance.span(-90, 90) });
    let clock = clock.clone();
    MemoryLog::with_time(move || clock.now().plus(off))
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.clock.now()).field("faults", &self.dice.describe()).finish_non_exhaustive()
    }
}
