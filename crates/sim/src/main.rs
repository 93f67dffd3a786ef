//! `waypost-sim`: replays one world and tells its story, or runs many on all cores and counts.

mod many;

use std::{io::Write as _, process::ExitCode};

use clap::{CommandFactory as _, Parser, error::ErrorKind};
use waypost_sim::{
    Scenario, Switches, run,
    scenario::Without,
    shop::{Shop, held::Held},
    switches::{ALL, Switch},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeded worlds of the whole pipeline under faults.
///
/// One seed is one world: who works there, what people do, what breaks, and in which order everything happens.
#[derive(Debug, Parser)]
#[command(version)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Cli {
    /// Replays one world and prints its story.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Leaves parts of it out: `kill,zombie.3,m7-9` is no kill, not the fourth zombie, not the events 7 to 9.
    #[arg(long, requires = "seed", default_value = "", value_parser = Without::parse)]
    without: Without,
    /// Makes the world smaller first, as long as it stays wrong.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Runs so many worlds.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// Seed of the first.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Switches off one rule after the other and counts the worlds that go wrong.
    #[arg(long, conflicts_with = "seed")]
    switches: bool,
    /// Only the rule, or the first, whose name contains this; with a seed, the world without that rule.
    #[arg(long)]
    off: Option<String>,
    /// Gives people custom identifiers, which the worlds of recorded seeds do without.
    #[arg(long, conflicts_with = "switches")]
    cards: bool,
    /// Lets operators pause, resume and kill journeys, and begin and end runs by hand, which the worlds of recorded seeds do without.
    #[arg(long, conflicts_with = "switches")]
    operators: bool,
    /// Threads; as many as there are cores unless given.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    // Before anything is kept quiet.
    Shop::get();
    Held::all();
    // What a fold panics over is the oracle's to report, with its seed.
    std::panic::set_hook(Box::new(|_| ()));
    let cli = Cli::parse();
    let seeds = cli.from..cli.from.saturating_add(cli.seeds);
    let off = cli.off.as_deref().unwrap_or_default();
    if cli.off.is_some() && cli.seed.is_none() && !cli.switches {
        refuse("--off goes with --seed or with --switches");
    }
    if !ALL.iter().any(|switch| switch.rule.contains(off)) {
        let rules: String = ALL.iter().flat_map(|switch| ["\n  ", switch.rule]).collect();
        refuse(&format!("no rule has `{off}` in its name; there are:{rules}"));
    }
    let Some(seed) = cli.seed else {
        return if cli.switches {
            many::table(&seeds, cli.threads, off)
        } else {
            many::run(&seeds, cli.threads, Switches { cards: cli.cards, operators: cli.operators, ..Switches::default() })
        };
    };
    let without = ALL.iter().find(|switch| cli.off.is_some() && switch.rule.contains(off));
    let mut switches = without.map_or_else(Switches::default, Switch::switches);
    switches.cards |= cli.cards;
    switches.operators |= cli.operators;
    let scenario = Scenario { seed, without: cli.without };
    let shrunk = if cli.shrink { many::smaller(&scenario, switches) } else { None };
    one(&shrunk.map_or(scenario, |shrunk| shrunk.scenario), switches)
}

fn refuse(why: &str) -> ! {
    Cli::command().error(ErrorKind::ValueValidation, why).exit()
}

fn one(scenario: &Scenario, switches: Switches) -> ExitCode {
    let report = run(scenario, switches, true);
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
            drop(writeln!(out, "world {scenario}: everything holds"));
            ExitCode::SUCCESS
        }
        Some(wrong) => {
            drop(writeln!(out, "world {scenario}: WRONG: {wrong}"));
            ExitCode::FAILURE
        }
    }
}
