//! One end of an axis: a pipeline that has come to where it is measured, and what a window of events costs it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use waypost_runtime::{Command, Config, Input, Machine};
use waypost_types::{Role, Span, Timestamp};

use super::{Axis, Options, ROLES, definitions::Compiled};
use crate::{
    costs::Cost,
    drive::{Running, Watch, traffic},
    shop::Shop,
    traffic::{Act, Size, Traffic},
};

/// Those who only fill carts are nobody of the traffic.
const OTHERS: u64 = 1 << 32;
/// Three minutes before the reminders of the carts: all of them are in memory.
const UNTIL_SOON: Span = Span::from_secs(57 * 60);

/// A pipeline between two windows.
#[derive(Debug)]
pub(super) struct Side {
    running: Running<Meter>,
    traffic: Traffic,
}

/// What one window of events took.
#[derive(Clone, Debug, Default)]
pub struct Window {
    events: usize,
    roles: BTreeMap<Role, (Duration, Cost)>,
}

/// Counts time and commands.
#[derive(Debug, Default)]
struct Meter {
    roles: BTreeMap<Role, (Duration, Cost)>,
}

// === impl Side ===

impl Side {
    /// A pipeline with so many of what the axis is of; `most` is the largest number that another one has.
    pub(super) fn prepare(axis: Axis, size: u64, most: u64, options: &Options) -> anyhow::Result<(Self, Compiled)> {
        let mut settings = options.stages();
        let (count, number) = (usize::try_from(size)?, u32::try_from(size)?);
        let mut workspaces = 1;
        match axis {
            Axis::Journeys => settings.journeys = count,
            Axis::Segments => settings.segments = count,
            // all of whom are known
            Axis::Profiles => (settings.size, settings.known) = (Size::Of(size), size),
            Axis::Timers => {}
            Axis::Partitions => settings.partitions = number,
            Axis::Workspaces => workspaces = number,
        }
        let shop = Shop::in_force(workspaces, settings.journeys, settings.segments)?;
        let compiled = Compiled::of(&shop)?;
        let running = Running::start(&settings, &shop, &Config::default(), Meter::default())?;
        let mut pipeline = Self { running, traffic: traffic(&settings).with_visits(options.visits).in_workspaces(workspaces) };
        pipeline.running.introduce(&pipeline.traffic)?;
        match axis {
            Axis::Timers => {
                // as many people at every end, of whom only so many have something to wait for
                pipeline.everybody(OTHERS, size, Act::FillsCart)?;
                pipeline.everybody(OTHERS + size, most - size, Act::Looks)?;
                pipeline.running.rest(UNTIL_SOON)?;
            }
            Axis::Journeys | Axis::Segments | Axis::Profiles | Axis::Partitions | Axis::Workspaces => {}
        }
        pipeline.play(options.run_in)?;
        Ok((pipeline, compiled))
    }

    /// Each of so many people does something once.
    fn everybody(&mut self, from: u64, people: u64, act: Act) -> anyhow::Result<()> {
        let Self { running, traffic } = self;
        let mut person = from;
        running.play(
            |now| {
                person += 1;
                Some(traffic.act(person, act, now))
            },
            usize::try_from(people)?,
        )
    }

    fn play(&mut self, events: usize) -> anyhow::Result<()> {
        let Self { running, traffic } = self;
        running.play(|now| Some(traffic.next(now)), events)
    }

    pub(super) fn window(&mut self, events: usize) -> anyhow::Result<Window> {
        self.running.watch().begin();
        self.play(events)?;
        let roles = std::mem::take(&mut self.running.watch().roles);
        Ok(Window { events, roles })
    }

    /// Entities that want to be woken some time, of all roles.
    pub(super) fn pending(&self) -> usize {
        self.running.pending()
    }
}

// === impl Window ===

#[expect(clippy::cast_precision_loss, reason = "means of counts that fit")]
impl Window {
    /// Nanoseconds an event in the machine of a role.
    pub fn of(&self, role: Role) -> f64 {
        self.roles.get(&role).map_or(0.0, |(time, _)| time.as_nanos() as f64 / self.events.max(1) as f64)
    }

    /// Nanoseconds an event in the machines of all roles that it passes.
    pub fn nanos(&self) -> f64 {
        ROLES.iter().map(|role| self.of(*role)).sum()
    }

    /// What a role asked of the log and of the store.
    pub fn cost(&self, role: Role) -> Cost {
        self.roles.get(&role).map(|(_, cost)| *cost).unwrap_or_default()
    }

    /// Bytes of an entity that a role writes, its id and its share of the commit with it.
    pub fn entity_bytes(&self, role: Role) -> f64 {
        let cost = self.cost(role);
        cost.commit_bytes as f64 / cost.commit_entities.max(1) as f64
    }

    /// Bytes an event to Kafka and to the store, of all roles that it passes.
    pub fn bytes(&self) -> (f64, f64) {
        let sum = |of: fn(&Cost) -> u64| ROLES.iter().map(|role| of(&self.cost(*role))).sum::<u64>() as f64 / self.events.max(1) as f64;
        (sum(|cost| cost.append_bytes), sum(|cost| cost.commit_bytes))
    }
}

// === impl Meter ===

impl Watch for Meter {
    fn begin(&mut self) {
        self.roles.clear();
    }

    fn handle(&mut self, machine: &mut dyn Machine, now: Timestamp, input: Input, commands: &mut Vec<Command>) {
        let (role, before) = (machine.role(), commands.len());
        // told in memory behind every frame, on a real stack ten times a second
        if matches!(input, Input::Through(..)) {
            return machine.handle(now, input, commands);
        }
        #[expect(clippy::disallowed_methods, reason = "wall time is what is measured")]
        let began = Instant::now();
        machine.handle(now, input, commands);
        let took = began.elapsed();
        let (time, cost) = self.roles.entry(role).or_default();
        *time += took;
        cost.add(&commands[before..]);
    }
}
