//! What an event costs each role; see `waypost_bench::stages`.
#![expect(clippy::print_stdout, reason = "it prints figures")]

use clap::Parser;
use waypost_bench::{
    stages::{Settings, measure},
    traffic::Size,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What an event costs each role, in memory, on one thread.
#[derive(Parser, Debug)]
struct Arguments {
    /// Of the traffic.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// People of the traffic
    #[arg(long, default_value_t = Size::S.people())]
    people: u64,
    /// So many of them, the most frequent, have been there before and come in before the run-in, which is not counted; all unless
    /// given, 0 for an empty installation
    #[arg(long)]
    known: Option<u64>,
    /// Events that are counted.
    #[arg(long, default_value_t = 200_000)]
    events: usize,
    /// Events before them.
    #[arg(long, default_value_t = 200_000)]
    run_in: usize,
    /// Records of a frame.
    #[arg(long, default_value_t = 200)]
    frame: usize,
    /// Events a millisecond of the clock that paces commits.
    #[arg(long, default_value_t = 50)]
    per_millisecond: usize,
    /// Partitions of each inbox.
    #[arg(long, default_value_t = 8)]
    partitions: u32,
    /// Journeys that are defined.
    #[arg(long, default_value_t = 30)]
    journeys: usize,
    /// Segments that are defined.
    #[arg(long, default_value_t = 50)]
    segments: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Arguments { seed, people, known, events, run_in, frame, per_millisecond, partitions, journeys, segments } = arguments;
    let (size, known) = (Size::Of(people), known.unwrap_or(people).min(people));
    let reading = measure(&Settings { seed, size, known, events, run_in, frame, per_millisecond, partitions, journeys, segments })?;
    println!(
        "{events} events behind a run-in of {run_in}, {known} of {people} people known before, {frame} a frame, {partitions} partitions, \
         {journeys} journeys, {segments} segments"
    );
    for (role, (time, inputs)) in &reading.roles {
        let per_event = time.as_nanos() / u128::try_from(events.max(1))?;
        println!("{:<14}{per_event:>8} ns an event, {inputs} inputs", role.to_string());
    }
    Ok(())
}
