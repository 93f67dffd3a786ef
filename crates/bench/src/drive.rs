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
    machine::{Counters, Progress},
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

/// Folds a run-in and then the counted events through all roles.
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
    play(&mut pipeline, &mut traffic, settings, settings.run_in)?;
    lock(&watch).begin();
    play(&mut pipeline, &mut traffic, settings, settings.events)?;
    anyhow::ensure!(pipeline.halted().is_empty(), "a partition halted: {:?}", pipeline.halted());
    Ok(watch)
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

/// So many events, in frames, every frame as soon as it is full.
fn play(pipeline: &mut Embedded, traffic: &mut Traffic, settings: &Settings, events: usize) -> anyhow::Result<()> {
    let mut open: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    for number in 0..events {
        if number.is_multiple_of(settings.per_millisecond) {
            pipeline.clock().advance_to(pipeline.now().plus(Span::from_millis(1)));
        }
        let now = pipeline.now();
        let record = traffic.next(now);
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
    pipeline.settle();
    Ok(())
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

    fn counters(&self) -> Counters {
        self.machine.counters()
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
