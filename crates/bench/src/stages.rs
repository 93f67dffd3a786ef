//! What an event costs each role, without Kafka and Redis: the real machines over a log and a store in memory, on one thread, with
//! the time between a machine's input and its last command counted for its role.
//!
//! The commands themselves (appending, committing) are not counted.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
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
    traffic::{Installation, Size, Traffic},
};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the traffic.
    pub seed: u64,
    /// Of the population.
    pub size: Size,
    /// Events that are counted.
    pub events: usize,
    /// Events before them.
    pub run_in: usize,
    /// Records of a frame.
    pub frame: usize,
    /// Events a millisecond; commits and ticks are paced by the clock.
    pub per_millisecond: usize,
    /// Partitions of each inbox.
    pub partitions: u32,
    /// How many are defined.
    pub journeys: usize,
    /// How many are defined.
    pub segments: usize,
}

/// What the counted events took.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// By role: time in the machine, and inputs.
    pub roles: BTreeMap<Role, (Duration, u64)>,
}

type Shared = Arc<Mutex<Reading>>;

/// A machine whose time is counted.
struct Metered {
    machine: Box<dyn Machine>,
    reading: Shared,
}

/// Folds a run-in and then the counted events through all roles.
///
/// # Errors
/// If the shop cannot be set up, or a partition halts.
pub fn measure(settings: &Settings) -> anyhow::Result<Reading> {
    let layout = Layout { number: 1, partitions: settings.partitions };
    let workspace = WorkspaceId::new(1);
    let shop = Shop::new(workspace, settings.journeys, settings.segments)?;
    let reading = Shared::default();
    let clock = VirtualClock::new(Timestamp::from_millis(1_750_000_000_000));
    let machine = |role: Role| -> Box<dyn Machine> {
        let (segmenter, orchestrator) = (Arc::clone(&shop.library), Arc::clone(&shop.library));
        let machine = match role {
            Role::Identity => role_machine(layout, move |_| IdentityProcessor::new(layout)),
            Role::Segmenter => role_machine(layout, move |_| SegmenterProcessor::new(Arc::clone(&segmenter))),
            Role::Orchestrator => role_machine(layout, move |_| OrchestratorProcessor::new(Arc::clone(&orchestrator))),
            Role::Sender | Role::Ingest | Role::Control => role_machine(layout, |_| SenderProcessor::new()),
        };
        Box::new(Metered { machine, reading: Arc::clone(&reading) })
    };
    let machines = Role::KEYED.into_iter().map(machine).collect();
    let mut pipeline = Embedded::new(Parts::new(clock, layout, machines));
    let mut traffic = Traffic::new(settings.seed, settings.size, Installation { hash_key: [7; 32], layout, workspace });
    for role in [Role::Identity, Role::Segmenter, Role::Sender] {
        for index in 0..settings.partitions {
            pipeline.append_to(PartitionId { role, index }, vec![shop.activation(pipeline.now())])?;
        }
    }
    pipeline.settle();
    play(&mut pipeline, &mut traffic, settings, settings.run_in)?;
    reading.lock().unwrap_or_else(PoisonError::into_inner).roles.clear();
    play(&mut pipeline, &mut traffic, settings, settings.events)?;
    anyhow::ensure!(pipeline.halted().is_empty(), "a partition halted: {:?}", pipeline.halted());
    drop(pipeline);
    let reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(reading.clone())
}

fn role_machine<P: Processor + fmt::Debug>(layout: Layout, make: impl Fn(u32) -> P + Send + 'static) -> Box<dyn Machine> {
    let install = Install { id: "00".repeat(16), layout: layout.number, format: 1 };
    Box::new(RoleMachine::new(Config::default(), install, layout, Box::new(Seeded::new(7)), Box::new(make)))
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

// === impl Metered ===

impl Machine for Metered {
    fn role(&self) -> Role {
        self.machine.role()
    }

    fn handle(&mut self, now: Timestamp, input: Input, commands: &mut Vec<Command>) {
        #[expect(clippy::disallowed_methods, reason = "wall time is what is measured")]
        let began = Instant::now();
        self.machine.handle(now, input, commands);
        let took = began.elapsed();
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let (time, inputs) = reading.roles.entry(self.machine.role()).or_default();
        *time += took;
        *inputs += 1;
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

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.machine.fmt(f)
    }
}
