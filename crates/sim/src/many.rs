//! Many worlds, on all cores, with what happened in them.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use waypost_sim::{
    Scenario, Switches, run as run_one,
    shrink::{Shrunk, shrink},
    story::Tally,
    switches::ALL,
};

/// Worlds run to make one that failed smaller.
const MOST_RUNS: u32 = 400;
/// Only the first few that failed are made smaller.
const MOST_SHRUNK: usize = 3;
/// Progress is looked at so often.
const PROGRESS: Duration = Duration::from_millis(500);
/// And told so often where nobody watches.
const LINES: Duration = Duration::from_secs(10);

/// Results of all threads.
#[derive(Default)]
struct Sum {
    tally: Tally,
    failed: Vec<(u64, String)>,
}

#[expect(clippy::disallowed_methods, reason = "the rate is of wall time; nothing in a world sees it")]
fn stopwatch() -> impl Fn() -> Duration {
    let started = std::time::Instant::now();
    move || started.elapsed()
}

/// Runs the worlds, shrinks the first that fail, prints what happened.
pub(crate) fn run(seeds: &Range<u64>, threads: Option<usize>, switches: Switches) -> ExitCode {
    let elapsed = stopwatch();
    let threads = threads_of(threads);
    let Sum { tally, failed } = all(seeds, threads, switches, &elapsed);
    let took = elapsed();
    let mut out = std::io::stdout().lock();
    let (rate, ms) = (per_second(tally.worlds, took), took.as_millis());
    drop(writeln!(out, "{tally}\n{ms} ms on {threads} threads, {rate} worlds a second"));
    if failed.is_empty() {
        drop(writeln!(out, "0 worlds wrong"));
        return ExitCode::SUCCESS;
    }
    let with = [(switches.cards, " --cards"), (switches.operators, " --operators")];
    let with: String = with.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag).collect();
    for (at, (seed, wrong)) in failed.iter().enumerate() {
        let shrunk = if at < MOST_SHRUNK { smaller(&Scenario::new(*seed), switches) } else { None };
        drop(match shrunk {
            Some(Shrunk { scenario: Scenario { seed, without }, wrong, .. }) => {
                writeln!(out, "WRONG: waypost-sim{with} --seed {seed} --without {without}: {wrong}")
            }
            None => writeln!(out, "WRONG: waypost-sim{with} --seed {seed}: {wrong}"),
        });
    }
    drop(writeln!(out, "{} worlds wrong", failed.len()));
    ExitCode::FAILURE
}

/// The table of PROTOCOL §16.4 as it is for this code; only the rows of rules with this in their name.
pub(crate) fn table(seeds: &Range<u64>, threads: Option<usize>, rule: &str) -> ExitCode {
    let threads = threads_of(threads);
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "| switched off | worlds wrong of {} | first seed | found by |\n|---|---|---|---|", seeds.end - seeds.start));
    for switch in ALL.iter().filter(|switch| switch.rule.contains(rule)) {
        let Sum { failed, .. } = all(seeds, threads, switch.switches(), &stopwatch());
        let mut by: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, wrong) in &failed {
            *by.entry(class(wrong)).or_default() += 1;
        }
        let mut by: Vec<(u64, &str)> = by.into_iter().map(|(class, count)| (count, class)).collect();
        by.sort_unstable_by(|a, b| b.cmp(a));
        let by: Vec<String> = by.iter().take(3).map(|(count, class)| format!("{class} {count}")).collect();
        let first = failed.first().map_or_else(|| "–".to_owned(), |(seed, _)| seed.to_string());
        drop(writeln!(out, "| {} | {} | {first} | {} |", switch.rule, failed.len(), by.join(", ")));
        drop(out.flush());
    }
    ExitCode::SUCCESS
}

/// What kind of finding a verdict is.
fn class(wrong: &str) -> &str {
    const CLASSES: &[&str] = &[
        "unnoticed",
        "independent fold",
        "accepted ≠ put out",
        "come to rest",
        "acknowledged stop",
        "a stop the state knew",
        "provider count",
        "went out",
        "differs from what it had sent",
        "divergence",
        "a part of the state is lost",
        "another log",
        "ALREADY_MOVED",
        "PASS_WITHOUT_TOMBSTONE",
        "GONE_BUT_ALIVE",
        "BURIED_ALIVE",
        "halts",
        "panic",
        "was due at",
        "comes twice",
        "state at fold",
        "closed form",
        "came in",
        "without its send",
        "no such node",
        "is erased",
        "not buried",
        "ought to be",
        "behind a later record",
        "paused journey",
        "killed journey",
        "behind a cancel",
        "cancelled run",
        "has come to nobody",
    ];
    CLASSES.iter().find(|class| wrong.contains(**class)).copied().unwrap_or(wrong)
}

fn threads_of(given: Option<usize>) -> usize {
    given.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1).max(1)
}

/// Runs the worlds of these seeds; those that failed come in order.
fn all(seeds: &Range<u64>, threads: usize, switches: Switches, elapsed: &(dyn Fn() -> Duration + Sync)) -> Sum {
    let (next, done, sum) = (AtomicU64::new(seeds.start), AtomicU64::new(0), Mutex::new(Sum::default()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&next, seeds.end, switches, &done, &sum));
        }
        scope.spawn(|| tell_progress(seeds.end - seeds.start, &done, elapsed));
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.failed.sort();
    sum
}

fn work(next: &AtomicU64, end: u64, switches: Switches, done: &AtomicU64, sum: &Mutex<Sum>) {
    let mut own = Sum::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        let report = run_one(&Scenario::new(seed), switches, false);
        own.tally.add(&report.tally);
        if let Some(wrong) = report.wrong {
            if switches == (Switches { cards: switches.cards, operators: switches.operators, ..Switches::default() }) {
                say(&format!("\rseed {seed} is wrong; the first few are made smaller at the end\n"));
            }
            own.failed.push((seed, wrong));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
    sum.tally.add(&own.tally);
    sum.failed.extend(own.failed);
}

/// On one line of a terminal, again and again; elsewhere a line now and then.
fn tell_progress(seeds: u64, done: &AtomicU64, elapsed: &dyn Fn() -> Duration) {
    let terminal = std::io::stderr().is_terminal();
    let mut told = Duration::ZERO;
    loop {
        let (worlds, now) = (done.load(Ordering::Relaxed), elapsed());
        let progress = format!("{worlds} of {seeds} worlds, {} a second", per_second(worlds, now));
        if terminal {
            say(&format!("\r{progress} "));
        } else if now.saturating_sub(told) >= LINES {
            told = now;
            say(&format!("{progress}\n"));
        }
        if worlds >= seeds {
            if terminal {
                say("\n");
            }
            return;
        }
        thread::park_timeout(PROGRESS);
    }
}

/// A smaller world that is wrong too, and what is wrong in it; none if this one is right.
pub(crate) fn smaller(scenario: &Scenario, switches: Switches) -> Option<Shrunk> {
    let progress = std::io::stderr().is_terminal();
    let mut seen = |shrunk: &Shrunk| {
        if progress {
            say(&format!("\r{} worlds: still wrong without {:.100}  ", shrunk.runs, shrunk.scenario.without.to_string()));
        }
    };
    let shrunk = shrink(scenario, switches, MOST_RUNS, &mut seen);
    if progress {
        say("\n");
    }
    shrunk
}

/// To the terminal; nobody there is no reason to stop.
fn say(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

fn per_second(worlds: u64, took: Duration) -> u128 {
    u128::from(worlds) * 1_000 / took.as_millis().max(1)
}
