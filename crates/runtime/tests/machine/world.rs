//! A seeded world that breaks everything it may: processes killed and paused, zombies, lost replies, late
//! commits, rewound stores, appends that fail, are repeated, land late or land unacknowledged.
//!
//! At rest an auditor folds every log again from its start, alone and one frame at a time. What the store
//! holds must equal that, and what every receiver accepted must equal what its source puts out.

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
use waypost_memory::{MemoryLog, MemoryStore, Seeded, VirtualClock, store::Checks, store::Dump};
use waypost_runtime::{
    Command, Config, Input, Machine, RoleMachine, Rules,
    append::to_append,
    machine::{Destination, Produced},
    ports::{Append, AppendError, Commit, Entropy as _, Install, Offset, StoreError},
    processor::Proposal,
};
use waypost_types::{Layout, PartitionId, Role, Span, Timestamp, WorkspaceId};

use super::toy::{LAST, OUTCOME, TOPIC, Toy, W, record};

const STAGES: [Role; 3] = [Role::Identity, Role::Segmenter, Role::Orchestrator];

fn install() -> Install {
    Install { id: "00".repeat(16), layout: 1, format: 1 }
}

/// One process of one role.
struct Process {
    role: Role,
    machine: Box<dyn Machine>,
    asked: Vec<Command>,
    sending: VecDeque<(u64, Append)>,
    broken: bool,
    answers: Vec<Input>,
    positions: BTreeMap<u32, Offset>,
    owned: BTreeSet<u32>,
}

pub(crate) struct World {
    chance: Seeded,
    rules: Rules,
    /// Part of the fold, hence the same for everybody.
    tick_entities: usize,
    clock: VirtualClock,
    log: MemoryLog,
    store: MemoryStore,
    layout: Layout,
    processes: Vec<Process>,
    late_commits: Vec<(PartitionId, Commit)>,
    late_appends: Vec<Append>,
    through: BTreeMap<u32, Timestamp>,
    faults: bool,
    events: u64,
    sets: u64,
    pub(crate) halted: Vec<String>,
}

fn machine(role: Role, config: Config, layout: Layout, seed: u64) -> Box<dyn Machine> {
    fn of<const STAGE: usize>(config: Config, layout: Layout, seed: u64) -> Box<dyn Machine> {
        let available = Arc::new(AtomicU64::new(u64::MAX));
        let make = move |_| Toy::<STAGE>::new(&available);
        Box::new(RoleMachine::new(config, install(), layout, Box::new(Seeded::new(seed)), Box::new(make)))
    }
    match role {
        Role::Identity => of::<0>(config, layout, seed),
        Role::Segmenter => of::<1>(config, layout, seed),
        _ => of::<2>(config, layout, seed),
    }
}

// === impl World ===

impl World {
    pub(crate) fn new(seed: u64, rules: Rules, checks: Checks) -> Self {
        let mut chance = Seeded::new(seed);
        let clock = VirtualClock::new(Timestamp::from_millis(1_000_000));
        let layout = Layout { number: 1, partitions: 1 + u32::try_from(chance.below(2)).unwrap() };
        let (log, store) = (MemoryLog::new(&clock), MemoryStore::new());
        store.check(checks);
        for role in STAGES {
            log.create_plain(role.inbox().unwrap(), layout.partitions);
            for index in 0..layout.partitions {
                store.init(PartitionId { role, index }, &install()).unwrap();
            }
        }
        log.create_plain(TOPIC, 2);
        log.create_plain("wp1.dead", 2);
        let mut world = Self {
            tick_entities: 1 + usize::try_from(chance.below(3)).unwrap(),
            chance,
            rules,
            clock,
            log,
            store,
            layout,
            processes: Vec::new(),
            late_commits: Vec::new(),
            late_appends: Vec::new(),
            through: BTreeMap::new(),
            faults: true,
            events: 0,
            sets: 0,
            halted: Vec::new(),
        };
        for role in STAGES {
            let process = world.process(role);
            world.processes.push(process);
            let last = world.processes.len() - 1;
            world.assign(last, (0..layout.partitions).collect());
        }
        world
    }

    fn config(&mut self) -> Config {
        let mut small = |n: u64| 1 + usize::try_from(self.chance.below(n)).unwrap();
        Config {
            batch_records: small(4),
            frame_records: small(6),
            frames_in_flight: small(3),
            cache_entities: small(4) - 1,
            commit_entities: small(8),
            tick_entities: self.tick_entities,
            timer_page: small(3),
            commit_interval: Span::from_millis(i64::try_from(small(150)).unwrap()),
            public_partitions: 2,
            dead_partitions: 2,
            rules: self.rules,
            ..Config::default()
        }
    }

    fn process(&mut self, role: Role) -> Process {
        let (config, seed) = (self.config(), self.chance.next());
        Process {
            role,
            machine: machine(role, config, self.layout, seed),
            asked: Vec::new(),
            sending: VecDeque::new(),
            broken: false,
            answers: Vec::new(),
            positions: BTreeMap::new(),
            owned: BTreeSet::new(),
        }
    }

    fn assign(&mut self, process: usize, partitions: Vec<u32>) {
        self.processes[process].owned.extend(&partitions);
        self.handle(process, Input::Assigned(partitions));
    }

    fn once_in(&mut self, n: u64) -> bool {
        self.faults && self.chance.below(n) == 0
    }

    fn any(&mut self, n: usize) -> usize {
        usize::try_from(self.chance.below(n as u64)).unwrap()
    }

    /// So many steps with faults and a workload, then to rest. Returns what is wrong.
    pub(crate) fn run(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            self.work();
            self.fault();
            for _ in 0..6 {
                self.step();
            }
        }
        self.faults = false;
        self.rest()?;
        self.audit()
    }

    fn work(&mut self) {
        if self.chance.below(3) == 0 {
            let key = [u8::try_from(self.chance.below(5)).unwrap()];
            let bodies: [&[u8]; 9] = [b"", b"1", b"p\x03", b"a\x05", b"p\x30", b"c", b"d", b"q", b"j"];
            let body = bodies[self.any(bodies.len())].to_vec();
            let said = self.clock.now().minus(Span::from_millis(i64::try_from(self.chance.below(50)).unwrap()));
            self.door(Role::Identity, self.layout.partition(W, &key), record(&key, said, body));
            self.events += 1;
        }
        if self.chance.below(200) == 0 {
            self.sets += 1;
            let body: Bytes = inbox::DefActivate { set: self.sets, hash: Bytes::new() }.encode_to_vec().into();
            for index in 0..self.layout.partitions {
                let now = self.clock.now();
                self.door(
                    Role::Segmenter,
                    index,
                    Record::new(kind::DEF_ACTIVATE, WorkspaceId::new(0), [0; 16], Bytes::new(), now, body.clone()),
                );
            }
        }
        if self.chance.below(2) == 0 {
            self.clock.advance(Span::from_millis(i64::try_from(self.chance.below(40)).unwrap()));
        }
    }

    fn door(&self, role: Role, partition: u32, record: Record) {
        let payload = Frame::unsourced(vec![record]).encode();
        self.log.append(Append { topic: role.inbox().unwrap().to_owned(), partition, key: None, headers: Vec::new(), payload }).unwrap();
    }

    fn fault(&mut self) {
        let role = STAGES[self.any(3)];
        let partition = PartitionId { role, index: u32::try_from(self.chance.below(u64::from(self.layout.partitions))).unwrap() };
        match self.chance.below(400) {
            // Killed: what it had asked for may land late.
            0..=2 => {
                let i = self.any(self.processes.len());
                let (role, owned) = (self.processes[i].role, self.processes[i].owned.clone());
                let fresh = self.process(role);
                let dead = std::mem::replace(&mut self.processes[i], fresh);
                for command in dead.asked {
                    if let Command::Commit(p, commit) = command {
                        self.late_commits.push((PartitionId { role, index: p }, *commit));
                    }
                }
                self.late_appends.extend(dead.sending.into_iter().map(|(_, append)| append));
                self.assign(i, owned.into_iter().collect());
            }
            // Taken over by another process, while the old one goes on as a zombie.
            3..=4 if self.processes.len() < 8 => {
                let fresh = self.process(role);
                self.processes.push(fresh);
                let last = self.processes.len() - 1;
                self.assign(last, vec![partition.index]);
            }
            // A zombie hears of it at last.
            5..=6 => self.lose_zombies(),
            7..=8 => {
                let k = 1 + self.any(4);
                self.store.drop_last(partition, k);
            }
            9..=14 if !self.late_commits.is_empty() => {
                let i = self.any(self.late_commits.len());
                let (p, commit) = self.late_commits.swap_remove(i);
                self.store.commit(p, &commit).unwrap();
            }
            15..=30 if !self.late_appends.is_empty() => {
                let i = self.any(self.late_appends.len());
                let append = self.late_appends.swap_remove(i);
                self.log.append(append).unwrap();
            }
            31 => {
                let i = self.any(self.processes.len());
                let owned: Vec<u32> = self.processes[i].owned.iter().copied().collect();
                self.handle(i, Input::Revoke(owned.clone()));
                let fresh = self.process(self.processes[i].role);
                self.processes.push(fresh);
                let last = self.processes.len() - 1;
                self.processes[i].owned.clear();
                self.assign(last, owned);
            }
            _ => {}
        }
    }

    /// Of several owners of a partition only the last stays.
    fn lose_zombies(&mut self) {
        let mut seen = BTreeSet::new();
        for i in (0..self.processes.len()).rev() {
            let role = self.processes[i].role;
            let stale: Vec<u32> = self.processes[i].owned.iter().copied().filter(|p| !seen.insert((role, *p))).collect();
            if !stale.is_empty() {
                self.processes[i].owned.retain(|p| !stale.contains(p));
                for p in &stale {
                    self.processes[i].positions.remove(p);
                }
                self.handle(i, Input::Lost(stale));
            }
        }
        self.processes.retain(|p| !p.owned.is_empty());
    }

    fn handle(&mut self, process: usize, input: Input) {
        let (now, mut commands) = (self.clock.now(), Vec::new());
        self.processes[process].machine.handle(now, input, &mut commands);
        for command in commands {
            let chance = self.chance.below(3);
            let process = &mut self.processes[process];
            match command {
                Command::Seek(p, offset) => drop(process.positions.insert(p, offset)),
                Command::Produce(number, destination, produced) => {
                    process.sending.push_back((number, to_append("", &destination, produced, |_, _, body| body.clone())));
                }
                Command::NewProducer(life) => {
                    if chance == 0 {
                        self.late_appends.extend(process.sending.drain(..).map(|(_, append)| append));
                    }
                    process.sending.clear();
                    process.broken = false;
                    process.answers.push(Input::ProducerReady(life));
                }
                Command::Job(p, job) => {
                    let outcome = Proposal { workspace: W, kind: OUTCOME, key: job.body, body: Bytes::new(), trace: job.trace };
                    process.answers.push(Input::JobDone(p, if job.kind == LAST { Vec::new() } else { vec![outcome] }));
                }
                Command::Halted(p, why) => self.halted.push(format!("{}/{p}: {why}", process.role)),
                Command::Gone(p) => drop(process.positions.remove(&p)),
                asked @ (Command::Claim(..)
                | Command::Release(..)
                | Command::Commit(..)
                | Command::Read(..)
                | Command::Audit(..)
                | Command::Deaths(..)
                | Command::NoteDeaths(..)
                | Command::Watermarks(_)) => {
                    process.asked.push(asked);
                }
                Command::Rejoin(_) | Command::Answer(..) | Command::Alarm(..) | Command::Exit(_) => {}
            }
        }
    }

    /// One small thing happens to one process. Returns whether anything did.
    fn step(&mut self) -> bool {
        let i = self.any(self.processes.len());
        match self.chance.below(6) {
            0 => self.ask(i),
            1 => self.send(i),
            2 if !self.processes[i].answers.is_empty() => {
                let k = self.any(self.processes[i].answers.len());
                let answer = self.processes[i].answers.swap_remove(k);
                self.handle(i, answer);
                true
            }
            3 => self.deliver(i),
            4 if self.processes[i].machine.next_wake().is_some_and(|at| at <= self.clock.now()) => {
                self.handle(i, Input::Wake);
                true
            }
            5 => {
                for process in self.processes.iter().filter(|p| p.role == Role::Identity) {
                    for progress in process.machine.progress() {
                        let known = self.through.entry(progress.partition.index).or_default();
                        *known = progress.through.max(*known);
                    }
                }
                for (p, through) in self.through.clone() {
                    self.handle(i, Input::Through(p, through));
                }
                false
            }
            _ => false,
        }
    }

    /// The store answers something asked.
    fn ask(&mut self, i: usize) -> bool {
        if self.processes[i].asked.is_empty() {
            return false;
        }
        let k = self.any(self.processes[i].asked.len());
        let role = self.processes[i].role;
        let at = |index| PartitionId { role, index };
        let lost = self.once_in(25);
        let unanswered = || StoreError::Unknown("lost".to_owned());
        let applied = !lost || self.chance.below(2) == 0;
        let answer = match self.processes[i].asked.remove(k) {
            Command::Claim(p, token) => {
                let reply = if applied { self.store.claim(at(p), token, &install()) } else { Err(unanswered()) };
                Input::Claimed(p, token, if lost { Err(unanswered()) } else { reply })
            }
            Command::Release(p, token) => Input::Released(p, token, self.store.release(at(p), token)),
            Command::Commit(p, commit) => {
                if applied {
                    let reply = self.store.commit(at(p), &commit);
                    Input::Committed(p, commit.token, if lost { Err(unanswered()) } else { reply })
                } else {
                    let token = commit.token;
                    self.late_commits.push((at(p), *commit));
                    Input::Committed(p, token, Err(unanswered()))
                }
            }
            Command::Read(p, number, read) => {
                Input::Loaded(p, read.token, number, if lost { Err(unanswered()) } else { self.store.read(at(p), &read) })
            }
            Command::Audit(p, token, part) => {
                Input::Audited(p, token, part, if lost { Err(unanswered()) } else { self.store.audit(at(p), part) })
            }
            Command::Deaths(p, token) => Input::Deaths(p, token, if lost { Err(unanswered()) } else { self.store.deaths(at(p)) }),
            Command::NoteDeaths(p, token, deaths) => {
                let reply = if applied { self.store.note_deaths(at(p), deaths) } else { Err(unanswered()) };
                Input::DeathsNoted(p, token, if lost { Err(unanswered()) } else { reply })
            }
            Command::Watermarks(p) => {
                let (start, end) = self.log.watermarks(role.inbox().unwrap(), p).unwrap();
                Input::Watermarks(p, start, end)
            }
            other => panic!("not for the store: {other:?}"),
        };
        self.processes[i].answers.push(answer);
        true
    }

    /// The producer sends its next record.
    fn send(&mut self, i: usize) -> bool {
        let Some((number, append)) = self.processes[i].sending.pop_front() else { return false };
        let fails = self.once_in(30) || self.processes[i].broken && self.chance.below(2) == 0;
        let answer = if fails {
            self.processes[i].broken = true;
            match self.chance.below(3) {
                0 => drop(self.log.append(append)),
                1 => self.late_appends.push(append),
                _ => {}
            }
            Err(AppendError::Failed("lost".to_owned()))
        } else {
            if self.once_in(40) {
                self.late_appends.push(append.clone());
            }
            self.log.append(append)
        };
        self.processes[i].answers.push(Input::Produced(number, answer));
        true
    }

    /// The log delivers one record.
    fn deliver(&mut self, i: usize) -> bool {
        let partitions: Vec<(u32, Offset)> = self.processes[i].positions.iter().map(|(p, o)| (*p, *o)).collect();
        if partitions.is_empty() {
            return false;
        }
        let (p, mut offset) = partitions[self.any(partitions.len())];
        if !self.processes[i].machine.wants(p) {
            return false;
        }
        let topic = self.processes[i].role.inbox().unwrap();
        if self.once_in(60) {
            offset = if self.chance.below(2) == 0 { offset + 1 } else { offset.saturating_sub(2) };
        }
        let Ok(Some(delivery)) = self.log.read(topic, p, offset) else { return false };
        self.processes[i].positions.insert(p, offset + 1);
        self.handle(i, Input::Delivered(delivery));
        true
    }

    /// No more faults: everything comes to rest.
    fn rest(&mut self) -> Result<(), String> {
        self.late_commits.clear();
        self.late_appends.clear();
        self.lose_zombies();
        for _ in 0..3_000 {
            let mut quiet = 0;
            while quiet < 60 * self.processes.len() {
                quiet = if self.step() { 0 } else { quiet + 1 };
            }
            if !self.halted.is_empty() {
                return Err(format!("halted: {:?}", self.halted));
            }
            let still =
                self.processes.iter().all(|p| p.machine.idle() && p.asked.is_empty() && p.sending.is_empty() && p.answers.is_empty());
            if still && self.is_caught_up() {
                return Ok(());
            }
            let wake = self.processes.iter().filter_map(|p| p.machine.next_wake()).min();
            self.clock.advance_to(wake.unwrap_or_default().max(self.clock.now().plus(Span::from_millis(1))));
        }
        Err(format!("does not come to rest: {:#?}", self.processes.iter().map(|p| &p.machine).collect::<Vec<_>>()))
    }

    /// Everything folded, and nothing fireable waits.
    fn is_caught_up(&self) -> bool {
        STAGES.iter().all(|role| {
            (0..self.layout.partitions).all(|index| {
                let end = self.log.watermarks(role.inbox().unwrap(), index).unwrap().1;
                self.store.dump(PartitionId { role: *role, index }).is_some_and(|dump| dump.off == end)
            })
        })
    }

    fn audit(&mut self) -> Result<(), String> {
        let (mut dumps, mut rows) = (BTreeMap::new(), BTreeMap::new());
        for role in STAGES {
            for index in 0..self.layout.partitions {
                let id = PartitionId { role, index };
                let (audited, public) = self.fold_again(id);
                let stored = self.store.dump(id).unwrap();
                compare(id, &stored, &audited)?;
                dumps.insert(id, audited);
                rows.insert(id, public);
            }
        }
        // What each receiver accepted is what its source puts out: same numbers, same chain.
        for (id, dump) in &dumps {
            for (field, tip) in &dump.sequences {
                let Some(to) = field.strip_prefix("x:") else { continue };
                let Some((role, q)) = to.split_once(':') else { continue };
                let Ok(role) = role.parse::<Role>() else { continue };
                let receiver = &dumps[&PartitionId { role, index: q.parse().unwrap() }];
                if receiver.sequences.get(&format!("i:{}:{}", id.role, id.index)) != Some(tip) {
                    return Err(format!("{role}/{q} accepted something else than {id} put out"));
                }
            }
        }
        let folded: u64 = dumps
            .iter()
            .filter(|(id, _)| id.role == Role::Identity)
            .flat_map(|(_, dump)| dump.entities.iter().filter(|(id, _)| id.kind() == b't'))
            .map(|(_, bytes)| u64::from_be_bytes(bytes[..8].try_into().unwrap()))
            .sum();
        if folded != self.events {
            return Err(format!("{folded} events folded of {}", self.events));
        }
        self.audit_public(&rows)
    }

    /// A reader that accepts last + 1 per source sees exactly what the fold put out.
    fn audit_public(&self, rows: &BTreeMap<PartitionId, BTreeMap<u32, Vec<Bytes>>>) -> Result<(), String> {
        for q in 0..2 {
            let mut seen: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
            for delivery in self.log.all(TOPIC, q) {
                let header =
                    |name: &str| delivery.headers.iter().find(|(n, _)| n == name).map(|(_, v)| String::from_utf8(v.to_vec()).unwrap());
                let accepted = seen.entry(header("ce_source").unwrap()).or_default();
                if header("ce_sequence").unwrap().parse() == Ok(accepted.len() + 1) {
                    accepted.push(delivery.payload.clone());
                }
            }
            for (id, rows) in rows {
                let got = seen.get(&format!("/waypost/{}/{}", id.role, id.index)).cloned().unwrap_or_default();
                let put = rows.get(&q).cloned().unwrap_or_default();
                if got != put {
                    return Err(format!("public rows of {id} in {q}: {} read, {} put out", got.len(), put.len()));
                }
            }
        }
        Ok(())
    }

    /// Folds one log alone, frame by frame, into an empty store.
    fn fold_again(&self, id: PartitionId) -> (Dump, BTreeMap<u32, Vec<Bytes>>) {
        let store = MemoryStore::new();
        store.init(id, &install()).unwrap();
        let config = Config {
            public_partitions: 2,
            dead_partitions: 2,
            commit_interval: Span::ZERO,
            linger_late: Span::ZERO,
            tick_entities: self.tick_entities,
            ..Config::default()
        };
        let mut machine = machine(id.role, config, self.layout, 1);
        let mut public: BTreeMap<u32, Vec<Bytes>> = BTreeMap::new();
        let mut now = self.clock.now();
        let (_, end) = self.log.watermarks(id.role.inbox().unwrap(), id.index).unwrap();
        let mut feed = |input: Input| {
            now = now.plus(Span::from_millis(1));
            let (mut inputs, mut commands) = (VecDeque::from([input, Input::Wake]), Vec::new());
            while let Some(input) = inputs.pop_front() {
                machine.handle(now, input, &mut commands);
                for command in commands.drain(..) {
                    match command {
                        Command::Claim(p, token) => inputs.push_back(Input::Claimed(p, token, store.claim(id, token, &install()))),
                        Command::Commit(p, commit) => inputs.push_back(Input::Committed(p, commit.token, store.commit(id, &commit))),
                        Command::Read(p, n, read) => inputs.push_back(Input::Loaded(p, read.token, n, store.read(id, &read))),
                        Command::Deaths(p, token) => inputs.push_back(Input::Deaths(p, token, store.deaths(id))),
                        Command::NoteDeaths(p, token, deaths) => {
                            inputs.push_back(Input::DeathsNoted(p, token, store.note_deaths(id, deaths)));
                        }
                        Command::Produce(n, destination, produced) => {
                            if let (Destination::Public { partition, .. }, Produced::Public { body, .. }) = (destination, produced) {
                                public.entry(partition).or_default().push(body);
                            }
                            inputs.push_back(Input::Produced(n, Ok(0)));
                        }
                        Command::NewProducer(life) => inputs.push_back(Input::ProducerReady(life)),
                        Command::Watermarks(p) => inputs.push_back(Input::Watermarks(p, 0, end)),
                        Command::Audit(p, token, part) => inputs.push_back(Input::Audited(p, token, part, store.audit(id, part))),
                        Command::Seek(..) | Command::Alarm(..) => {}
                        other => panic!("the auditor does not expect {other:?}"),
                    }
                }
            }
        };
        feed(Input::Assigned(vec![id.index]));
        for delivery in self.log.all(id.role.inbox().unwrap(), id.index) {
            feed(Input::Delivered(delivery));
        }
        feed(Input::Wake);
        (store.dump(id).unwrap(), public)
    }
}

fn compare(id: PartitionId, stored: &Dump, audited: &Dump) -> Result<(), String> {
    if stored.off != audited.off {
        return Err(format!("{id} stands at {}, the auditor at {}", stored.off, audited.off));
    }
    if stored.entities != audited.entities {
        let differing: Vec<_> = stored.entities.iter().filter(|(id, bytes)| audited.entities.get(*id) != Some(bytes)).collect();
        return Err(format!("{id}: entities differ from an independent fold: {differing:?}"));
    }
    if stored.timers != audited.timers {
        return Err(format!("{id}: timers differ: {:?} {:?}", stored.timers, audited.timers));
    }
    if stored.sequences != audited.sequences {
        return Err(format!("{id}: sequences differ: {:?} {:?}", stored.sequences, audited.sequences));
    }
    if stored.meta != audited.meta {
        return Err(format!("{id}: meta differs: {:?} {:?}", stored.meta, audited.meta));
    }
    Ok(())
}
