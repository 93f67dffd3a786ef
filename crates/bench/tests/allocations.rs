//! Heap allocations an event, and what an event makes the machines ask of the log and of the store, beside the committed figures.
//!
//! `make guards-update` writes those anew. A binary of its own, because the counting allocator is everybody's.

use std::{alloc::System, io::Write as _};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use waypost_bench::{
    costs::{Cost, count},
    drive::{installation, traffic},
    guards::{Figures, is_update, keep, settings},
    traffic::Traffic,
};
use waypost_types::Role;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PEOPLE: u64 = 10_000;
const RUN_IN: usize = 5_000;
const EVENTS: u32 = 10_000;
/// Who look at pages and are known after the run-in.
const VISITORS: u64 = 500;

fn allocations() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.allocations + stats.reallocations) as u64
}

#[test]
fn an_event_costs_no_more_than_it_did() {
    let settings = settings(PEOPLE, RUN_IN, EVENTS as usize);
    let costs = count(&settings, traffic(&settings), allocations).unwrap();
    let plain = count(&settings, Traffic::plain(settings.seed, VISITORS, installation(&settings)), allocations).unwrap();
    let mut figures = Figures::new();
    for role in [Role::Identity, Role::Segmenter, Role::Orchestrator] {
        let Cost { gauge, appends, append_bytes, commits, commit_entities, commit_bytes, reads } = costs[&role];
        let mut add = |name: &str, count: u64, of: f64| {
            let count = u32::try_from(count).unwrap();
            figures.insert(format!("{role}.{name}"), f64::from(count) * of / f64::from(EVENTS));
        };
        add("allocations", gauge, 1.0);
        add("plain_allocations", plain[&role].gauge, 1.0);
        add("append_bytes", append_bytes, 1.0);
        add("commit_bytes", commit_bytes, 1.0);
        add("appends", appends, 1_000.0);
        add("commits", commits, 1_000.0);
        add("entities", commit_entities, 1_000.0);
        add("reads", reads, 1_000.0);
    }
    let comparison = keep(&figures, is_update()).unwrap_or_else(|error| panic!("{error}"));
    for line in comparison.better {
        // past the capture of the test's output
        writeln!(std::io::stderr(), "cheaper than committed, make guards-update keeps it: {line}").unwrap();
    }
}
