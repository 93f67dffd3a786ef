//! What an event costs a shop with a thousand journeys, and one with a thousand segments, beside one with few: heap allocations and
//! bytes, by role, beside the committed figures and beside each other. `make scaling` shows the same as time.
//!
//! A binary of its own, because the counting allocator is everybody's.

use std::{alloc::System, collections::BTreeMap, io::Write as _};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use waypost_bench::{
    costs::{Cost, count_in},
    drive::traffic,
    guards::{Figures, is_update, keep, settings},
    shop::Shop,
    stages::Settings,
};
use waypost_types::Role;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PEOPLE: u64 = 2_000;
const RUN_IN: usize = 1_500;
const EVENTS: u32 = 3_000;
const MANY: usize = 1_000;

fn allocations() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.allocations + stats.reallocations) as u64
}

fn costs(journeys: usize, segments: usize) -> anyhow::Result<BTreeMap<Role, Cost>> {
    let settings = Settings { journeys, segments, ..settings(PEOPLE, RUN_IN, EVENTS as usize) };
    let shop = Shop::in_force(1, journeys, segments)?;
    count_in(&shop, &settings, traffic(&settings), allocations)
}

#[test]
fn a_thousand_definitions_cost_an_event_little() {
    let few = costs(30, 50).unwrap();
    let mut figures = Figures::new();
    // how many times as many allocations an event may make with a thousand of them
    for (what, many, most) in [("journeys_1000", costs(MANY, 50).unwrap(), 1.5), ("segments_1000", costs(30, MANY).unwrap(), 1.5)] {
        let allocations = |costs: &BTreeMap<Role, Cost>| costs.values().map(|cost| cost.gauge).sum::<u64>();
        let ratio = f64::from(u32::try_from(allocations(&many)).unwrap()) / f64::from(u32::try_from(allocations(&few)).unwrap());
        assert!(ratio <= most, "{what}: an event makes {ratio:.2} times the allocations that it makes with few");
        for role in [Role::Segmenter, Role::Orchestrator] {
            let Cost { gauge, append_bytes, commit_bytes, .. } = many[&role];
            for (name, count) in [("allocations", gauge), ("append_bytes", append_bytes), ("commit_bytes", commit_bytes)] {
                let count = u32::try_from(count).unwrap();
                figures.insert(format!("{role}.{what}.{name}"), f64::from(count) / f64::from(EVENTS));
            }
        }
    }
    let comparison = keep(&figures, is_update()).unwrap_or_else(|error| panic!("{error}"));
    for line in comparison.better {
        // past the capture of the test's output
        writeln!(std::io::stderr(), "cheaper than committed, make guards-update keeps it: {line}").unwrap();
    }
}
