//! The real machines over a log and a store in memory, on one thread, with a shop's traffic through them, and somebody who watches
//! every input: a stopwatch, a counter, a recorder.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use waypost_codec::frame::Record;
use waypost_identity::IdentityProcessor;
use waypost_memory::{Embedded, Parts, Seeded, VirtualClock};
use waypost_orchestrator::OrchestratorProcessor;
use waypost_runtime::{
    Command, Config, Input, Machine, Processor, RoleMachine,
    figures::PartitionFigures,
    machine::{Counters, Progress, Traced},
    ports::Install,
};
use waypost_segmenter::SegmenterProcessor;
use waypost_sender::SenderProcessor;
use waypost_types::{Layout, PartitionId, Role, Span, Timestamp, WorkspaceId};

use crate::{
    shop::Shop,
    stages::Settings,
    traffic::{Installation, Traffic},
};

/// Whoever stands around the machines.
pub trait Watch: Send {
    /// The run-in is over: what comes now counts.
    fn begin(&mut self);
    /// Hands one input to the machine.
    fn handle(&mut self, machine: &mut dyn Machine, now: Timestamp, input: Input, commands: &mut Vec<Command>);
}

/// A machine that is watched.
struct Watched<W> {
    machine: Box<dyn Machine>,
    watch: Arc<Mutex<W>>,
}

/// As what the machines in memory run.
pub fn install(layout: Layout) -> Install {
    Install { id: "00".repeat(16), layout: layout.number, format: 1 }
}

/// As far apart as commits are, and as often as may be needed for one to follow the last fold of every role.
const COMMITTED: Span = Span::from_millis(200);
const COMMITS: usize = 5;
/// The workspace whose shop it is.
pub const WORKSPACE: WorkspaceId = WorkspaceId::new(1);

/// Where the traffic of these settings goes.
pub fn installation(settings: &Settings) -> Installation {
    Installation { hash_key: [7; 32], layout: Layout { number: 1, partitions: settings.partitions }, workspace: WORKSPACE }
}

/// The traffic of these settings.
pub fn traffic(settings: &Settings) -> Traffic {
    Traffic::new(settings.seed, settings.size, installation(settings))
}

/// Machines that have a shop's definitions in force and stand still between what is played.
pub struct Running<W> {
    pipeline: Embedded,
    watch: Arc<Mutex<W>>,
    settings: Settings,
}

/// Folds those who are known, a run-in and then the counted events through all roles.
///
/// # Errors
/// If a partition halts.
pub fn drive<W: Watch + 'static>(
    settings: &Settings,
    mut traffic: Traffic,
    shop: &Shop,
    config: &Config,
    watch: W,
) -> anyhow::Result<Arc<Mutex<W>>> {
    let mut running = Running::start(settings, shop, config, watch)?;
    running.introduce(&traffic)?;
    running.play(|now| Some(traffic.next(now)), settings.run_in)?;
    lock(&running.watch).begin();
    running.play(|now| Some(traffic.next(now)), settings.events)?;
    Ok(running.watch)
}

/// What a watch has seen.
pub fn lock<W>(watch: &Mutex<W>) -> MutexGuard<'_, W> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The machine of a role, with a shop's definitions.
pub(crate) fn machine(role: Role, config: &Config, layout: Layout, shop: &Shop) -> Box<dyn Machine> {
    let (segmenter, orchestrator) = (Arc::clone(&shop.library), Arc::clone(&shop.library));
    match role {
        Role::Identity => role_machine(config, layout, move |_| IdentityProcessor::new(layout)),
        Role::Segmenter => role_machine(config, layout, move |_| SegmenterProcessor::new(Arc::clone(&segmenter))),
        Role::Orchestrator => role_machine(config, layout, move |_| OrchestratorProcessor::new(Arc::clone(&orchestrator))),
        Role::Sender | Role::Ingest | Role::Control => role_machine(config, layout, |_| SenderProcessor::new()),
    }
}

fn role_machine<P: Processor + fmt::Debug>(config: &Config, layout: Layout, make: impl Fn(u32) -> P + Send + 'static) -> Box<dyn Machine> {
    Box::new(RoleMachine::new(config.clone(), install(layout), layout, Box::new(Seeded::new(7)), Box::new(make)))
}

// === impl Running ===

impl<W: Watch + 'static> Running<W> {
    /// All roles, empty but for the definitions.
    ///
    /// # Errors
    /// If the log refuses what puts them in force.
    pub fn start(settings: &Settings, shop: &Shop, config: &Config, watch: W) -> anyhow::Result<Self> {
        let layout = installation(settings).layout;
        let watch = Arc::new(Mutex::new(watch));
        let clock = VirtualClock::new(Timestamp::from_millis(1_750_000_000_000));
        let watched =
            |role| -> Box<dyn Machine> { Box::new(Watched { machine: machine(role, config, layout, shop), watch: Arc::clone(&watch) }) };
        let machines = Role::KEYED.into_iter().map(watched).collect();
        let mut pipeline = Embedded::new(Parts::new(clock, layout, machines));
        for role in [Role::Identity, Role::Segmenter, Role::Sender] {
            for index in 0..settings.partitions {
                pipeline.append_to(PartitionId { role, index }, vec![shop.activation(pipeline.now())])?;
            }
        }
        pipeline.settle();
        Ok(Self { pipeline, watch, settings: settings.clone() })
    }

    /// What has been seen so far.
    pub fn watch(&self) -> MutexGuard<'_, W> {
        lock(&self.watch)
    }

    /// Those of the traffic's people who are known come in, and all that they bring is committed.
    ///
    /// # Errors
    /// If a partition halts.
    pub fn introduce(&mut self, traffic: &Traffic) -> anyhow::Result<()> {
        let mut population = traffic.population(self.settings.known);
        if population.left() == 0 {
            return Ok(());
        }
        self.play(|now| population.next(now), usize::MAX)?;
        (0..COMMITS).try_for_each(|_| self.rest(COMMITTED))
    }

    /// At most so many events, in frames, every frame as soon as it is full.
    ///
    /// # Errors
    /// If a partition halts.
    pub fn play(&mut self, mut next: impl FnMut(Timestamp) -> Option<Record>, events: usize) -> anyhow::Result<()> {
        let Self { pipeline, settings, .. } = self;
        let mut open: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        for number in 0..events {
            if number.is_multiple_of(settings.per_millisecond) {
                pipeline.clock().advance_to(pipeline.now().plus(Span::from_millis(1)));
            }
            let Some(record) = next(pipeline.now()) else { break };
            let partition = pipeline.layout().partition(record.workspace, &record.key);
            let held = open.entry(partition).or_default();
            held.push(record);
            if held.len() >= settings.frame {
                let frame = std::mem::take(held);
                pipeline.append_to(PartitionId { role: Role::Identity, index: partition }, frame)?;
                pipeline.settle();
            }
        }
        for (index, records) in open.into_iter().filter(|(_, records)| !records.is_empty()) {
            pipeline.append_to(PartitionId { role: Role::Identity, index }, records)?;
        }
        self.settle()
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// If a partition halts.
    pub fn rest(&mut self, span: Span) -> anyhow::Result<()> {
        self.pipeline.clock().advance_to(self.pipeline.now().plus(span));
        self.settle()
    }

    /// Entities that the store would wake some time.
    pub fn pending(&self) -> usize {
        let store = self.pipeline.store();
        store.partitions().into_iter().filter_map(|partition| store.dump(partition)).map(|dump| dump.timers.len()).sum()
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        self.pipeline.settle();
        let halted = self.pipeline.halted();
        anyhow::ensure!(halted.is_empty(), "a partition halted: {halted:?}");
        Ok(())
    }
}

impl<W: fmt::Debug> fmt::Debug for Running<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("watch", &self.watch).field("settings", &self.settings).finish_non_exhaustive()
    }
}

// === impl Watched ===

impl<W: Watch> Machine for Watched<W> {
    fn role(&self) -> Role {
        self.machine.role()
    }

    fn handle(&mut self, now: Timestamp, input: Input, commands: &mut Vec<Command>) {
        lock(&self.watch).handle(&mut *self.machine, now, input, commands);
    }

    fn wants(&self, partition: u32) -> bool {
        self.machine.wants(partition)
    }

    fn next_wake(&self) -> Option<Timestamp> {
        self.machine.next_wake()
    }

    fn progress(&self) -> Vec<Progress> {
        self.machine.progress()
    }

    fn take_traced(&mut self) -> Vec<Traced> {
        self.machine.take_traced()
    }

    fn counters(&self) -> Counters {
        self.machine.counters()
    }

    fn folded(&self) -> u64 {
        self.machine.folded()
    }

    fn figures(&self) -> Vec<PartitionFigures> {
        self.machine.figures()
    }

    fn idle(&self) -> bool {
        self.machine.idle()
    }
}

impl<W> fmt::Debug for Watched<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.machine.fmt(f)
    }
}
