//! What it takes to hold definitions: the time to compile them, and the memory they take then.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::shop::Shop;

/// Below so many definitions the pages of a process say nothing of one.
const ENOUGH: usize = 500;
/// The first compilation leaves room behind that the next ones use; from then on what is kept is what grows.
const TIMES: usize = 3;
const PAGE: u64 = 4_096;

/// A compiled set.
#[derive(Clone, Copy, Debug)]
pub struct Compiled {
    /// Definitions in it.
    pub definitions: usize,
    /// Compiling all of them, at best.
    pub took: Duration,
    /// In memory, each, where there are enough of them to tell.
    pub bytes_each: Option<u64>,
}

// === impl Compiled ===

impl Compiled {
    /// Compiles what a shop has in force a few times.
    pub(super) fn of(shop: &Shop) -> anyhow::Result<Self> {
        let definitions = shop.definitions();
        let (mut kept, mut took, mut from) = (Vec::new(), Duration::MAX, 0);
        for _ in 0..=TIMES {
            #[expect(clippy::disallowed_methods, reason = "wall time is what is measured")]
            let began = Instant::now();
            kept.push(shop.compile()?);
            took = took.min(began.elapsed());
            if kept.len() == 1 {
                from = resident();
            }
        }
        let each = resident().saturating_sub(from) / ((TIMES * definitions.max(1)) as u64);
        Ok(Self { definitions, took, bytes_each: (definitions >= ENOUGH).then_some(each) })
    }
}

/// Bytes that this process has in memory.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE
}
