//! What an event costs each role, without Kafka and Redis: the real machines over a log and a store in memory, on one thread, with
//! the time between a machine's input and its last command counted for its role.
//!
//! The commands themselves (appending, committing) are not counted.

use std::{
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};

use waypost_runtime::{Command, Config, Input, Machine};
use waypost_types::{Role, Timestamp};

use crate::{
    drive::{WORKSPACE, Watch, drive, lock, traffic},
    shop::Shop,
    traffic::Size,
};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the traffic.
    pub seed: u64,
    /// Of the population.
    pub size: Size,
    /// So many of them have been there before, the most frequent; they come in before the run-in.
    pub known: u64,
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

/// The name of the function below through which a role's counted inputs go.
///
/// A profiler that counts by function (`tests/instructions.rs`) finds what each stage costs under it.
pub const COUNTED: [(Role, &str); 3] =
    [(Role::Identity, "counted_identity"), (Role::Segmenter, "counted_segmenter"), (Role::Orchestrator, "counted_orchestrator")];

/// Counts time.
#[derive(Debug, Default)]
struct Stopwatch {
    reading: Reading,
    is_counting: bool,
}

/// Folds those who are known, a run-in and then the counted events through all roles.
///
/// # Errors
/// If the shop cannot be set up, or a partition halts.
pub fn measure(settings: &Settings) -> anyhow::Result<Reading> {
    let shop = Shop::new(WORKSPACE, settings.journeys, settings.segments)?;
    let watch = drive(settings, traffic(settings), &shop, &Config::default(), Stopwatch::default())?;
    let reading = lock(&watch).reading.clone();
    Ok(reading)
}

// === impl Stopwatch ===

impl Watch for Stopwatch {
    fn begin(&mut self) {
        self.is_counting = true;
    }

    fn handle(&mut self, machine: &mut dyn Machine, now: Timestamp, input: Input, commands: &mut Vec<Command>) {
        if !self.is_counting {
            return machine.handle(now, input, commands);
        }
        let role = machine.role();
        #[expect(clippy::disallowed_methods, reason = "wall time is what is measured")]
        let began = Instant::now();
        match role {
            Role::Identity => counted_identity(machine, now, input, commands),
            Role::Segmenter => counted_segmenter(machine, now, input, commands),
            Role::Orchestrator => counted_orchestrator(machine, now, input, commands),
            Role::Sender | Role::Ingest | Role::Control => machine.handle(now, input, commands),
        }
        let took = began.elapsed();
        let (time, inputs) = self.reading.roles.entry(role).or_default();
        *time += took;
        *inputs += 1;
    }
}

// Three functions that are never inlined, nor taken for the same, nor left before their call has returned.

#[inline(never)]
fn counted_identity(machine: &mut dyn Machine, now: Timestamp, input: Input, commands: &mut Vec<Command>) {
    machine.handle(now, input, commands);
    black_box(Role::Identity);
}

#[inline(never)]
fn counted_segmenter(machine: &mut dyn Machine, now: Timestamp, input: Input, commands: &mut Vec<Command>) {
    machine.handle(now, input, commands);
    black_box(Role::Segmenter);
}

#[inline(never)]
fn counted_orchestrator(machine: &mut dyn Machine, now: Timestamp, input: Input, commands: &mut Vec<Command>) {
    machine.handle(now, input, commands);
    black_box(Role::Orchestrator);
}
