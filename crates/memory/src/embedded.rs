//! Machines over a log and a store in memory, on one thread, under a clock set by hand: the whole pipeline
//! as a function call, for tests of roles and for dry runs.
//!
//! Nothing fails here and every answer comes at once. [`Embedded::settle`] goes on until nothing more
//! happens at the present instant; [`Embedded::advance_to`] stops at every stored wake-up on its way.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use bytes::Bytes;
use waypost_codec::frame::{Frame, Record};
use waypost_runtime::{
    Command, Input, Machine,
    append::to_append,
    machine::Alarm,
    ports::{Append, AppendError, Delivery, Entropy, Install, LogError, Offset},
    processor::{Job, Proposal},
};
use waypost_types::{EntityId, Layout, PartitionId, Position, Role, Span, Timestamp, WorkspaceId};

use crate::{MemoryLog, MemoryStore, VirtualClock};

/// Does a role's job at once.
pub type Runner = Box<dyn FnMut(PartitionId, &Job) -> Vec<Proposal> + Send>;
/// Puts the registry's schema id before an Avro body: topic without prefix, version, body.
pub type Framing = Box<dyn Fn(&str, u32, &Bytes) -> Bytes + Send>;

/// How long an overdue wake-up may take to become possible (the upstream watermark has to follow).
const OVERDUE: Span = Span::from_secs(5);
/// More rounds than this at one instant are a loop, not work.
const ROUNDS: usize = 100_000;

/// A pipeline in memory.
pub struct Embedded {
    clock: VirtualClock,
    log: MemoryLog,
    store: MemoryStore,
    install: Install,
    layout: Layout,
    prefix: String,
    nodes: Vec<Node>,
    runner: Runner,
    framing: Framing,
    queries: u64,
    answers: BTreeMap<u64, Option<(Option<Bytes>, Offset)>>,
    halted: Vec<(PartitionId, String)>,
    alarms: Vec<(PartitionId, Alarm)>,
}

/// A machine and where its consumer stands.
struct Node {
    machine: Box<dyn Machine>,
    positions: BTreeMap<u32, Offset>,
}

/// What an embedded pipeline consists of.
pub struct Parts {
    /// The clock; log and store may be shared with others.
    pub clock: VirtualClock,
    /// Topics are created where absent.
    pub log: MemoryLog,
    /// State is created where absent.
    pub store: MemoryStore,
    /// Whose state.
    pub install: Install,
    /// How keys fall to partitions.
    pub layout: Layout,
    /// Before every topic.
    pub prefix: String,
    /// Partitions of public topics and of the dead-letter topic.
    pub public_partitions: u32,
    /// One machine a role; all its partitions are assigned.
    pub machines: Vec<Box<dyn Machine>>,
    /// Does jobs.
    pub runner: Runner,
    /// Frames public bodies.
    pub framing: Framing,
}

// === impl Parts ===

impl Parts {
    /// Machines that start no jobs, over an empty log and store.
    pub fn new(clock: VirtualClock, layout: Layout, machines: Vec<Box<dyn Machine>>) -> Self {
        Self {
            log: MemoryLog::new(&clock),
            store: MemoryStore::new(),
            install: Install { id: "00".repeat(16), layout: layout.number, format: 1 },
            layout,
            prefix: String::new(),
            public_partitions: 8,
            machines,
            runner: Box::new(|_, _| Vec::new()),
            framing: Box::new(|_, _, body| body.clone()),
            clock,
        }
    }
}

// === impl Embedded ===

impl Embedded {
    /// Topics Waypost writes and others read.
    pub const PUBLIC: [&'static str; 4] =
        ["waypost.events.v1", "waypost.segment-changes.v1", "waypost.decisions.v1", "waypost.messages.v1"];

    /// Creates topics and state where they are absent, and assigns every partition.
    pub fn new(parts: Parts) -> Self {
        let Parts { clock, log, store, install, layout, prefix, public_partitions, machines, runner, framing } = parts;
        for role in Role::KEYED {
            let inbox = role.inbox().unwrap_or_default();
            log.create_plain(&format!("{prefix}{inbox}"), layout.partitions);
        }
        for topic in Self::PUBLIC.into_iter().chain(["wp1.dead"]) {
            log.create_plain(&format!("{prefix}{topic}"), public_partitions);
        }
        let nodes = machines.into_iter().map(|machine| Node { machine, positions: BTreeMap::new() }).collect();
        let mut embedded = Self {
            clock,
            log,
            store,
            install,
            layout,
            prefix,
            nodes,
            runner,
            framing,
            queries: 0,
            answers: BTreeMap::new(),
            halted: Vec::new(),
            alarms: Vec::new(),
        };
        for index in 0..embedded.nodes.len() {
            embedded.assign(index);
        }
        embedded.settle();
        embedded
    }

    fn assign(&mut self, node: usize) {
        let role = self.nodes[node].machine.role();
        let partitions: Vec<u32> = (0..self.layout.partitions).collect();
        for index in &partitions {
            // A refusing store shows at the claim, which says so.
            drop(self.store.init(PartitionId { role, index: *index }, &self.install));
        }
        self.handle(node, Input::Assigned(partitions));
    }

    /// Kills the machine of the same role, as it stands, and puts `machine` in its place.
    pub fn replace(&mut self, machine: Box<dyn Machine>) {
        let role = machine.role();
        self.nodes.retain(|node| node.machine.role() != role);
        self.nodes.push(Node { machine, positions: BTreeMap::new() });
        self.assign(self.nodes.len() - 1);
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The clock.
    pub fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// The log.
    pub fn log(&self) -> &MemoryLog {
        &self.log
    }

    /// The store.
    pub fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// The layout.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The machine of a role.
    pub fn machine(&self, role: Role) -> Option<&dyn Machine> {
        self.nodes.iter().find(|node| node.machine.role() == role).map(|node| &*node.machine)
    }

    /// Partitions that halted, and why.
    pub fn halted(&self) -> &[(PartitionId, String)] {
        &self.halted
    }

    /// What partitions went on with and said.
    pub fn alarms(&self) -> &[(PartitionId, Alarm)] {
        &self.alarms
    }

    /// Tells every machine the skip list, and settles.
    pub fn skip(&mut self, skips: &BTreeSet<(PartitionId, Position)>) {
        for node in 0..self.nodes.len() {
            self.handle(node, Input::Skips(skips.clone()));
        }
        self.settle();
    }

    /// Appends one record of a door or of control to the partition of its key.
    ///
    /// # Errors
    /// As the log says.
    pub fn append(&mut self, role: Role, record: Record) -> Result<Offset, AppendError> {
        let index = self.layout.partition(record.workspace, &record.key);
        self.append_to(PartitionId { role, index }, vec![record])
    }

    /// Appends records of a door or of control, as one frame, to a partition.
    ///
    /// # Errors
    /// As the log says.
    pub fn append_to(&mut self, partition: PartitionId, records: Vec<Record>) -> Result<Offset, AppendError> {
        let topic = format!("{}{}", self.prefix, partition.role.inbox().unwrap_or_default());
        let payload = Frame::unsourced(records).encode();
        self.log.append(Append { topic, partition: partition.index, key: None, headers: Vec::new(), payload })
    }

    /// Bytes of an entity of `role` under `key`, and as of which offset; none if its partition has halted.
    pub fn query(&mut self, role: Role, workspace: WorkspaceId, kind: u8, key: &[u8]) -> Option<(Option<Bytes>, Offset)> {
        let partition = self.layout.partition(workspace, key);
        self.query_at(PartitionId { role, index: partition }, EntityId::new(workspace, kind, key))
    }

    /// Bytes of an entity of a partition.
    pub fn query_at(&mut self, partition: PartitionId, entity: EntityId) -> Option<(Option<Bytes>, Offset)> {
        self.queries += 1;
        let number = self.queries;
        let node = self.nodes.iter().position(|node| node.machine.role() == partition.role)?;
        self.handle(node, Input::Query(number, partition.index, entity));
        self.answers.remove(&number).flatten()
    }

    /// Tells every machine that definitions have arrived, and settles.
    pub fn definitions_changed(&mut self) {
        for node in 0..self.nodes.len() {
            self.handle(node, Input::DefinitionsChanged);
        }
        self.settle();
    }

    /// Goes on until everything under way is folded at the present instant.
    ///
    /// # Panics
    /// If it does not come to rest: a machine works without need.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let mut busy = false;
            for node in 0..self.nodes.len() {
                busy |= self.deliver(node);
                if self.nodes[node].machine.next_wake().is_some_and(|at| at <= self.clock.now()) {
                    self.handle(node, Input::Wake);
                    busy = true;
                }
            }
            busy |= self.tell_through();
            if !busy {
                return;
            }
        }
        panic!("does not come to rest: {:?}", self.nodes.iter().map(|node| &node.machine).collect::<Vec<_>>());
    }

    /// When a machine wants to be woken next.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.nodes.iter().filter_map(|node| node.machine.next_wake()).min()
    }

    /// The earliest stored wake-up of any entity.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.store.earliest_timer(None)
    }

    /// Moves on to `instant`, stopping wherever an entity wants to be woken, and settles there.
    pub fn advance_to(&mut self, instant: Timestamp) {
        self.settle();
        // What cannot be helped by waiting (its upstream is not there) is not waited for again.
        let mut given_up = None;
        while let Some(due) = self.store.earliest_timer(given_up).filter(|due| *due <= instant) {
            self.step_to(due.max(self.now()));
            let patience = self.now().plus(OVERDUE).min(instant);
            while self.store.earliest_timer(given_up).is_some_and(|stored| stored <= due) {
                let Some(wake) = self.next_wake().filter(|wake| *wake <= patience) else { break };
                self.step_to(wake.max(self.now().plus(Span::from_millis(1))).min(patience));
                if self.now() >= patience {
                    break;
                }
            }
            if self.store.earliest_timer(given_up).is_some_and(|stored| stored <= due) {
                given_up = Some(due);
            }
        }
        self.step_to(instant);
    }

    fn step_to(&mut self, instant: Timestamp) {
        self.clock.advance_to(instant);
        self.settle();
    }

    fn topic(&self, role: Role) -> String {
        format!("{}{}", self.prefix, role.inbox().unwrap_or_default())
    }

    /// Gives a machine all it wants of what is in its inboxes.
    fn deliver(&mut self, node: usize) -> bool {
        let topic = self.topic(self.nodes[node].machine.role());
        let mut delivered = false;
        for partition in self.nodes[node].positions.keys().copied().collect::<Vec<_>>() {
            while self.nodes[node].machine.wants(partition) {
                let Some(position) = self.nodes[node].positions.get(&partition).copied() else { break };
                match self.log.read(&topic, partition, position) {
                    Ok(None) => break,
                    Ok(Some(delivery)) => self.take(node, delivery),
                    Err(error) => {
                        self.nodes[node].positions.remove(&partition);
                        self.handle(node, Input::LogFailed(partition, error));
                    }
                }
                delivered = true;
            }
        }
        delivered
    }

    fn take(&mut self, node: usize, delivery: Delivery) {
        self.nodes[node].positions.insert(delivery.partition, delivery.offset + 1);
        self.handle(node, Input::Delivered(delivery));
    }

    /// Tells everybody how far identity has come; returns whether anything happened upon it.
    fn tell_through(&mut self) -> bool {
        let identity = self.nodes.iter().filter(|node| node.machine.role() == Role::Identity);
        let through: Vec<(u32, Timestamp)> =
            identity.flat_map(|node| node.machine.progress()).map(|progress| (progress.partition.index, progress.through)).collect();
        let mut busy = false;
        for node in 0..self.nodes.len() {
            for (partition, through) in &through {
                busy |= self.handle(node, Input::Through(*partition, *through));
            }
        }
        busy
    }

    /// One input, and everything that the machine wants done upon it. Returns whether it wanted anything.
    fn handle(&mut self, node: usize, input: Input) -> bool {
        let now = self.clock.now();
        let (mut inputs, mut commands) = (VecDeque::from([input]), Vec::new());
        let mut busy = false;
        while let Some(input) = inputs.pop_front() {
            self.nodes[node].machine.handle(now, input, &mut commands);
            for command in commands.drain(..) {
                busy = true;
                let rejoins = matches!(command, Command::Rejoin(_));
                inputs.extend(self.perform(node, command));
                if rejoins {
                    inputs.push_back(Input::Assigned((0..self.layout.partitions).collect()));
                }
            }
        }
        busy
    }

    /// Does what a machine wants; returns what there is to answer.
    fn perform(&mut self, node: usize, command: Command) -> Option<Input> {
        let role = self.nodes[node].machine.role();
        let at = |index| PartitionId { role, index };
        match command {
            Command::Claim(p, token) => Some(Input::Claimed(p, token, self.store.claim(at(p), token, &self.install))),
            Command::Release(p, token) => Some(Input::Released(p, token, self.store.release(at(p), token))),
            Command::Commit(p, commit) => Some(Input::Committed(p, commit.token, self.store.commit(at(p), &commit))),
            Command::Read(p, number, read) => Some(Input::Loaded(p, read.token, number, self.store.read(at(p), &read))),
            Command::Audit(p, token, part) => Some(Input::Audited(p, token, part, self.store.audit(at(p), part))),
            Command::Deaths(p, token) => Some(Input::Deaths(p, token, self.store.deaths(at(p)))),
            Command::NoteDeaths(p, token, deaths) => Some(Input::DeathsNoted(p, token, self.store.note_deaths(at(p), deaths))),
            Command::Seek(p, offset) => {
                self.nodes[node].positions.insert(p, offset);
                None
            }
            Command::Produce(number, destination, produced) => {
                let append = to_append(&self.prefix, &destination, produced, |topic, version, body| (self.framing)(topic, version, body));
                Some(Input::Produced(number, self.log.append(append)))
            }
            Command::NewProducer(life) => Some(Input::ProducerReady(life)),
            Command::Job(p, job) => Some(Input::JobDone(p, (self.runner)(at(p), &job))),
            Command::Watermarks(p) => match self.log.watermarks(&self.topic(role), p) {
                Ok((start, end)) => Some(Input::Watermarks(p, start, end)),
                Err(error @ (LogError::OutOfRange | LogError::Unknown | LogError::Unavailable(_))) => Some(Input::LogFailed(p, error)),
            },
            Command::Answer(number, answer) => {
                self.answers.insert(number, answer);
                None
            }
            Command::Gone(p) => {
                self.nodes[node].positions.remove(&p);
                None
            }
            Command::Halted(p, why) => {
                self.halted.push((at(p), why));
                None
            }
            // Followed by a new assignment.
            Command::Rejoin(_) => {
                self.nodes[node].positions.clear();
                Some(Input::Lost((0..self.layout.partitions).collect()))
            }
            Command::Alarm(p, alarm) => {
                self.alarms.push((at(p), alarm));
                None
            }
            Command::Exit(why) => {
                self.halted.push((at(u32::MAX), why));
                None
            }
        }
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("layout", &self.layout).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machines: Vec<_> = self.nodes.iter().map(|node| &node.machine).collect();
        f.debug_struct("Embedded")
            .field("now", &self.now())
            .field("machines", &machines)
            .field("halted", &self.halted)
            .finish_non_exhaustive()
    }
}

/// Reproducible chance: splitmix64 from a seed.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

// === impl Seeded ===

impl Seeded {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `n`, 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or(0)
    }
}

impl Entropy for Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
