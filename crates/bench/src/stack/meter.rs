//! What processes have used, from `/proc`.

use std::fs;

/// The kernel's clock ticks a second as `/proc` counts them, on every Linux there is.
const TICKS: f64 = 100.0;

/// A process whose use is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) kind: Kind,
}

/// On whose bill it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Own,
    Broker,
    Redis,
    Generator,
}

/// Seconds of CPU, user and system, since it started; 0 of one that has ended.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // the name may hold anything, parentheses too
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |n: usize| rest.split_whitespace().nth(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / TICKS
}

/// Bytes it has in memory.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let mut sum = 0_u64;
        let from = cpu_seconds(std::process::id());
        while cpu_seconds(std::process::id()) < from + 0.05 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(resident_bytes(std::process::id()) > 100_000);
        assert!(cpu_seconds(u32::MAX).abs() < f64::EPSILON);
    }
}
