//! `waypost-sim`: replays one seed and tells its story, or runs many and counts.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use waypost_sim::{Switches, run, story::Tally};

/// Seeded worlds of the whole pipeline under faults.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Replays one world and prints its story.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Runs so many worlds.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// Seed of the first.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

#[expect(clippy::disallowed_methods, reason = "the rate is of wall time; nothing in a world sees it")]
fn elapsed() -> impl Fn() -> Duration {
    let started = std::time::Instant::now();
    move || started.elapsed()
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.seed {
        Some(seed) => one(seed),
        None => many(cli.from, cli.seeds),
    }
}

fn one(seed: u64) -> ExitCode {
    let report = run(seed, Switches::default(), true);
    let mut out = std::io::stdout().lock();
    for line in report.story.lines() {
        // A closed pipe ends the story.
        if writeln!(out, "{line}").is_err() {
            return ExitCode::SUCCESS;
        }
    }
    drop(writeln!(out, "\n{}\ndigest {:016x}", report.tally, report.story.digest()));
    match report.wrong {
        None => {
            drop(writeln!(out, "seed {seed}: everything holds"));
            ExitCode::SUCCESS
        }
        Some(wrong) => {
            drop(writeln!(out, "seed {seed}: WRONG: {wrong}"));
            ExitCode::FAILURE
        }
    }
}

fn many(from: u64, seeds: u64) -> ExitCode {
    let (elapsed, mut sum, mut failed) = (elapsed(), Tally::default(), Vec::new());
    let progress = std::io::stderr().is_terminal();
    for seed in from..from.saturating_add(seeds) {
        let report = run(seed, Switches::default(), false);
        sum.add(&report.tally);
        if let Some(wrong) = report.wrong {
            say(&format!("seed {seed}: WRONG: {wrong}\n"));
            failed.push(seed);
        }
        if progress && sum.worlds % 20 == 0 {
            let rate = per_minute(sum.worlds, elapsed());
            say(&format!("\r{} of {seeds} worlds, {rate} per minute, {} wrong ", sum.worlds, failed.len()));
        }
    }
    if progress {
        say("\n");
    }
    let took = elapsed();
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{sum}\n{} ms, {} worlds per minute", took.as_millis(), per_minute(sum.worlds, took)));
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    let seeds: Vec<String> = failed.iter().map(u64::to_string).collect();
    drop(writeln!(out, "WRONG: seed {}; replay with --seed", seeds.join(", ")));
    ExitCode::FAILURE
}

/// To the terminal; nobody there is no reason to stop.
fn say(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

fn per_minute(worlds: u64, took: Duration) -> u128 {
    u128::from(worlds) * 60_000 / took.as_millis().max(1)
}
