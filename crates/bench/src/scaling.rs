//! How the cost of an event grows with everything that there may be much of (W10): pipelines in memory that differ in one number,
//! fed with the same events by turns, window for window, so that whatever else the machine does it does to all of them.
//!
//! It is our own part only: what a broker, Redis and their clients do with more partitions shows on a real stack.

mod definitions;
mod end;

use clap::ValueEnum;
use waypost_types::{Role, Timestamp};

use self::end::Side;
pub use self::{definitions::Compiled, end::Window};
use crate::{
    drive,
    sights::{Count, Sights},
    stages,
    traffic::Size,
};

/// What there is more and more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Axis {
    /// Journeys of a workspace
    Journeys,
    /// Segments of a workspace
    Segments,
    /// People who have been there before
    Profiles,
    /// Timers that are due within minutes
    Timers,
    /// Partitions of each inbox
    Partitions,
    /// Workspaces, each with its own definitions; people and events stay as many
    Workspaces,
}

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of the traffic.
    pub seed: u64,
    /// Of whom the traffic is.
    pub people: u64,
    /// So many of them have been there before, the most frequent.
    pub known: u64,
    /// So many of them are on the way at a time.
    pub visits: usize,
    /// Events before the first window.
    pub run_in: usize,
    /// Events of a window.
    pub events: usize,
    /// Windows of each size, by turns.
    pub repetitions: usize,
    /// Records of a frame.
    pub frame: usize,
    /// Events a millisecond of the clock that paces commits.
    pub per_millisecond: usize,
    /// Journeys, where these are not what grows.
    pub journeys: usize,
    /// Segments, where these are not what grows.
    pub segments: usize,
}

/// What an axis came to.
#[derive(Clone, Debug)]
pub struct Growth {
    /// Along which.
    pub axis: Axis,
    /// Events of a window.
    pub events: usize,
    /// From the smallest on.
    pub ends: Vec<End>,
}

/// One size.
#[derive(Clone, Debug)]
pub struct End {
    /// How many there are.
    pub size: u64,
    /// In order of time; those of the other ends at the same place were measured just before or behind.
    pub windows: Vec<Window>,
    /// What its definitions cost.
    pub compiled: Compiled,
    /// Entities that wanted to be woken some time when it was measured first, of all roles.
    pub pending: usize,
}

/// The roles that every event passes.
pub const ROLES: [Role; 3] = [Role::Identity, Role::Segmenter, Role::Orchestrator];

/// Measures one axis at these sizes, or at its own.
///
/// # Errors
/// If a shop cannot be set up, or a partition halts.
pub fn measure(axis: Axis, sizes: Option<&[u64]>, options: &Options) -> anyhow::Result<Growth> {
    let sizes = sizes.unwrap_or_else(|| axis.sizes());
    let most = sizes.iter().copied().max().unwrap_or(0);
    let options = axis.fitted(options, most);
    let (mut pipelines, mut ends) = (Vec::new(), Vec::new());
    for size in sizes.iter().copied() {
        let (pipeline, compiled) = Side::prepare(axis, size, most, &options)?;
        ends.push(End { size, windows: Vec::new(), compiled, pending: pipeline.pending() });
        pipelines.push(pipeline);
    }
    for _ in 0..options.repetitions {
        for (pipeline, end) in pipelines.iter_mut().zip(&mut ends) {
            end.windows.push(pipeline.window(options.events)?);
        }
    }
    Ok(Growth { axis, events: options.events, ends })
}

/// Whom the events in the windows find.
///
/// # Errors
/// If what the traffic makes is no event.
pub fn sights(options: &Options) -> anyhow::Result<Count> {
    let mut traffic = drive::traffic(&options.stages()).with_visits(options.visits);
    let (mut sights, mut population) = (Sights::default(), traffic.population(options.known));
    while let Some(record) = population.next(Timestamp::ZERO) {
        sights.see(&record)?;
    }
    let mut play = |events: usize| {
        (0..events).try_for_each(|_| sights.see(&traffic.next(Timestamp::ZERO)))?;
        anyhow::Ok(sights.count())
    };
    let before = play(options.run_in)?;
    Ok(play(options.events * options.repetitions)?.since(before))
}

// === impl Axis ===

impl Axis {
    /// The sizes that are measured unless others are asked for; the first is what the others are compared with.
    pub const fn sizes(self) -> &'static [u64] {
        match self {
            Self::Journeys => &[30, 1_000, 10_000],
            Self::Segments => &[50, 1_000, 10_000],
            Self::Profiles => &[5_000, 50_000],
            Self::Timers => &[0, 50_000],
            Self::Partitions => &[4, 64],
            Self::Workspaces => &[1, 100, 1_000],
        }
    }

    /// The most that the largest may cost, of the first.
    pub const fn bar(self) -> Option<f64> {
        match self {
            Self::Journeys | Self::Segments => Some(1.5),
            Self::Timers => Some(1.2),
            Self::Partitions => Some(1.3),
            Self::Workspaces => Some(1.1),
            Self::Profiles => None,
        }
    }

    /// At full load frames are full: as many events as fill some of every partition.
    fn fitted(self, options: &Options, most: u64) -> Options {
        const FRAMES: usize = 2;
        let mut options = options.clone();
        if self == Self::Partitions {
            let full = usize::try_from(most).unwrap_or(0) * options.frame * FRAMES;
            (options.events, options.run_in) = (options.events.max(full), options.run_in.max(full));
        }
        options
    }
}

// === impl Options ===

impl Options {
    /// As what a pipeline in memory takes.
    fn stages(&self) -> stages::Settings {
        let Self { seed, people, known, run_in, events, frame, per_millisecond, journeys, segments, .. } = *self;
        stages::Settings { seed, size: Size::Of(people), known, events, run_in, frame, per_millisecond, partitions: 8, journeys, segments }
    }
}

// === impl Growth ===

impl Growth {
    /// What an event costs at this end, of what it costs at the first: best window by best window, and the least and most of
    /// windows that were measured one behind the other.
    pub fn ratio(&self, end: &End) -> Option<(f64, f64, f64)> {
        let first = self.ends.first()?;
        let of = |a: &Window, b: &Window| a.nanos() / b.nanos().max(1.0);
        let pairs = || end.windows.iter().zip(&first.windows).map(|(a, b)| of(a, b));
        Some((of(end.best()?, first.best()?), pairs().fold(f64::MAX, f64::min), pairs().fold(0.0, f64::max)))
    }
}

// === impl End ===

impl End {
    /// The window in which least else was going on.
    pub fn best(&self) -> Option<&Window> {
        self.windows.iter().min_by(|a, b| a.nanos().total_cmp(&b.nanos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Options = Options {
        seed: 7,
        people: 300,
        known: 300,
        visits: 100,
        run_in: 400,
        events: 200,
        repetitions: 2,
        frame: 20,
        per_millisecond: 1,
        journeys: 3,
        segments: 4,
    };

    #[test]
    fn every_axis_grows() {
        for axis in Axis::value_variants() {
            let sizes = [axis.sizes()[0].min(20), 40];
            let growth = measure(*axis, Some(&sizes), &FEW).unwrap();
            assert_eq!(growth.ends.iter().map(|end| end.size).collect::<Vec<_>>(), sizes);
            for end in &growth.ends {
                assert_eq!(end.windows.len(), 2);
                let (ratio, least, most) = growth.ratio(end).unwrap();
                assert!(ratio > 0.0 && least <= most, "{axis:?}");
                let best = end.best().unwrap();
                assert!(ROLES.iter().all(|role| best.of(*role) > 0.0 && best.cost(*role).commit_bytes > 0), "{axis:?}");
            }
        }
    }

    #[test]
    fn timers_that_are_due_soon_are_in_the_state_of_those_who_filled_a_cart() {
        let growth = measure(Axis::Timers, Some(&[0, 300]), &FEW).unwrap();
        let pending: Vec<usize> = growth.ends.iter().map(|end| end.pending).collect();
        assert!(pending[1] >= pending[0] + 290, "{pending:?}");
    }

    #[test]
    fn who_has_been_seen_is_not_new() {
        let of = |known, run_in| sights(&Options { known, run_in, ..FEW }).unwrap().first;
        let [empty, known, later] = [of(0, 0), of(300, 0), of(0, 4_000)];
        assert!(known * 4 < empty && later * 4 < empty, "{empty}, {known}, {later}");
    }
}
