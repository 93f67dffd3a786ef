//! One process of one role: its machine, and what it waits for.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use waypost_engine::{identity::Limits, library::Library};
use waypost_identity::IdentityProcessor;
use waypost_memory::{MemoryStore, Seeded, VirtualClock};
use waypost_orchestrator::OrchestratorProcessor;
use waypost_runtime::{
    Command, Config, Input, Machine, Processor, RoleMachine,
    ports::{Append, Install, Offset},
};
use waypost_segmenter::SegmenterProcessor;
use waypost_sender::{Calls, SenderProcessor};
use waypost_types::{Layout, Role, Span, Timestamp};

use crate::{
    fatal::{Fatal, Mortal, Place},
    switches::Switches,
};

pub(crate) struct Process {
    /// Never used again.
    pub(crate) number: u64,
    pub(crate) role: Role,
    machine: Box<dyn Machine>,
    /// What it answered since its last input, since it is asked far more often than that changes: when it wants to be
    /// woken, and by bit which partitions it was asked about and of which it wants records.
    wake: Cell<Wake>,
    wanted: Cell<(u32, u32)>,
    /// What the sender's process keeps outside its machine.
    pub(crate) calls: Arc<Calls>,
    /// The master of the store that it talks to.
    pub(crate) store: MemoryStore,
    /// That is not the one that others talk to, until this instant.
    pub(crate) split_until: Option<Timestamp>,
    /// Died in the middle of something; nobody has noticed yet.
    pub(crate) is_dead: bool,
    /// Of the release before: it has engine 1 only.
    pub(crate) is_old: bool,
    /// And makes room for a newer one at this instant.
    pub(crate) replaced_at: Option<Timestamp>,
    /// Its clock is so much off.
    pub(crate) skew: Span,
    /// Where its consumer stands, by partition.
    pub(crate) positions: BTreeMap<u32, Offset>,
    pub(crate) assigned: BTreeSet<u32>,
    /// Asked for and not carried out: of the store, and jobs.
    pub(crate) asked: Vec<Command>,
    /// Queued with its producer, in order.
    pub(crate) sending: VecDeque<(u64, Append)>,
    /// Carried out, and not known to the machine.
    pub(crate) answers: Vec<Input>,
    /// Failures that it learns of by time-out, at this instant.
    pub(crate) timeouts: Vec<(Timestamp, Input)>,
    /// Others have its partitions, and it ends at this instant.
    pub(crate) zombie_until: Option<Timestamp>,
    /// Its producer sends nothing before.
    pub(crate) stuck_until: Option<Timestamp>,
    /// Does nothing before.
    pub(crate) asleep_until: Option<Timestamp>,
}

/// When a machine wants to be woken, as far as it has been asked since its last input.
#[derive(Clone, Copy, Debug)]
enum Wake {
    NotAsked,
    At(Option<Timestamp>),
}

pub(crate) fn install() -> Install {
    Install { id: "00".repeat(16), layout: 1, format: 1 }
}

/// How the roles of a world fold: all of it the same in every process, and in the oracle's fold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roles {
    pub(crate) layout: Layout,
    pub(crate) limits: Limits,
    pub(crate) switches: Switches,
}

impl Roles {
    pub(crate) fn identity(self) -> IdentityProcessor {
        IdentityProcessor::new(self.layout).under(self.limits, self.switches.identity)
    }

    pub(crate) fn segmenter(self, library: &Arc<Library>) -> SegmenterProcessor {
        SegmenterProcessor::new(library.clone()).with_rules(self.switches.segmenter)
    }

    pub(crate) fn orchestrator(self, library: &Arc<Library>) -> OrchestratorProcessor {
        OrchestratorProcessor::new(library.clone()).with_rules(self.switches.orchestrator)
    }

    pub(crate) fn sender(self) -> SenderProcessor {
        SenderProcessor::new().with_rules(self.switches.sender)
    }
}

/// Records to be set aside, by place.
pub(crate) type Skips = BTreeSet<Place>;

/// What a process begins with that no other has.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) number: u64,
    pub(crate) entropy: Seeded,
    pub(crate) fatal: Fatal,
    pub(crate) skips: Skips,
}

/// A machine of this role.
///
/// # Panics
/// For a role without an inbox.
pub(crate) fn machine(role: Role, config: Config, roles: Roles, life: Life, library: Arc<Library>) -> Box<dyn Machine> {
    fn of<P: Processor>(
        config: Config,
        layout: Layout,
        life: (Seeded, Skips),
        make: impl Fn(u32) -> P + Send + 'static,
    ) -> Box<dyn Machine> {
        let (entropy, skips) = life;
        Box::new(RoleMachine::new(config, install(), layout, Box::new(entropy), Box::new(make)).skipping(skips))
    }
    let Life { number, entropy, fatal, skips } = life;
    let life = (entropy, skips);
    match role {
        Role::Identity => of(config, roles.layout, life, move |_| Mortal { processor: roles.identity(), fatal: fatal.clone(), number }),
        Role::Segmenter => of(config, roles.layout, life, move |_| roles.segmenter(&library)),
        Role::Orchestrator => of(config, roles.layout, life, move |_| roles.orchestrator(&library)),
        Role::Sender => of(config, roles.layout, life, move |_| roles.sender()),
        Role::Ingest | Role::Control => panic!("{role} has no machine"),
    }
}

// === impl Process ===

impl Process {
    /// A process that owns nothing.
    pub(crate) fn new(number: u64, role: Role, machine: Box<dyn Machine>, calls: Arc<Calls>, store: MemoryStore, skew: Span) -> Self {
        Self {
            number,
            role,
            machine,
            wake: Cell::new(Wake::NotAsked),
            wanted: Cell::new((0, 0)),
            calls,
            store,
            split_until: None,
            is_dead: false,
            is_old: false,
            replaced_at: None,
            skew,
            positions: BTreeMap::new(),
            assigned: BTreeSet::new(),
            asked: Vec::new(),
            sending: VecDeque::new(),
            answers: Vec::new(),
            timeouts: Vec::new(),
            zombie_until: None,
            stuck_until: None,
            asleep_until: None,
        }
    }

    /// What its clock shows.
    pub(crate) fn clock(&self, clock: &VirtualClock) -> Timestamp {
        Timestamp::from_millis(clock.now().millis() + self.skew.millis())
    }

    /// Its machine, to be looked at.
    pub(crate) fn machine(&self) -> &dyn Machine {
        &*self.machine
    }

    /// One input, and what the machine wants done upon it.
    pub(crate) fn handle(&mut self, now: Timestamp, input: Input, commands: &mut Vec<Command>) {
        self.wake.set(Wake::NotAsked);
        self.wanted.set((0, 0));
        self.machine.handle(now, input, commands);
    }

    /// When the machine wants to be woken.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        if let Wake::At(wake) = self.wake.get() {
            return wake;
        }
        let wake = self.machine.next_wake();
        self.wake.set(Wake::At(wake));
        wake
    }

    /// Whether the machine wants records of this partition.
    pub(crate) fn wants(&self, partition: u32) -> bool {
        let (asked, wanted) = self.wanted.get();
        let bit = 1 << partition;
        let wanted = if asked & bit == 0 && self.machine.wants(partition) { wanted | bit } else { wanted };
        self.wanted.set((asked | bit, wanted));
        wanted & bit != 0
    }

    /// Time-outs that have passed become answers.
    pub(crate) fn time_out(&mut self, now: Timestamp) {
        while let Some(at) = self.timeouts.iter().position(|(at, _)| *at <= now) {
            let (_, input) = self.timeouts.swap_remove(at);
            self.answers.push(input);
        }
    }

    pub(crate) fn is_zombie(&self) -> bool {
        self.zombie_until.is_some()
    }

    /// Takes partitions, as far as anybody knows.
    pub(crate) fn is_live(&self) -> bool {
        !self.is_zombie() && !self.is_dead
    }

    pub(crate) fn is_asleep(&self, now: Timestamp) -> bool {
        self.asleep_until.is_some_and(|until| now < until)
    }

    pub(crate) fn is_stuck(&self, now: Timestamp) -> bool {
        self.stuck_until.is_some_and(|until| now < until)
    }

    /// Nothing asked for, queued, or unanswered, and a machine at rest.
    pub(crate) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.sending.is_empty() && self.answers.is_empty() && self.timeouts.is_empty() && self.machine.idle()
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} process {}{}", self.role, self.number, if self.is_zombie() { " (zombie)" } else { "" })
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("number", &self.number)
            .field("positions", &self.positions)
            .field("asked", &self.asked)
            .field("sending", &self.sending.len())
            .field("answers", &self.answers)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}
