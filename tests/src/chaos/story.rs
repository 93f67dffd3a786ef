//! What happened and when: faults with their time, notes, and the lines that a reader sees.

use std::{
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use waypost_runtime::{host::SystemClock, ports::Clock as _};

/// A fault, from its first effect to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1.
    pub number: usize,
    /// What kind.
    pub kind: &'static str,
    /// To whom: a seat's name, a server, a provider.
    pub target: String,
    /// Milliseconds since 1970.
    pub from: i64,
    /// 0 while it lasts.
    pub until: i64,
}

/// The diary of a run.
#[derive(Debug)]
pub struct Diary {
    began: i64,
    faults: Mutex<Vec<Fault>>,
    wrong: Mutex<Vec<String>>,
    // Times that a store lost commits, and partitions that it lost some of.
    losses: Mutex<(usize, usize)>,
}

/// Milliseconds since 1970, as the processes under test see them.
pub fn now() -> i64 {
    SystemClock.now().millis()
}

/// The one place that writes to the terminal. A reader that has gone is no error of ours.
pub fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

// === impl Diary ===

impl Default for Diary {
    fn default() -> Self {
        Self { began: now(), faults: Mutex::default(), wrong: Mutex::default(), losses: Mutex::default() }
    }
}

impl Diary {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds since the run began.
    pub fn seconds(&self) -> i64 {
        self.seconds_at(now())
    }

    /// Seconds from the beginning of the run to an instant.
    pub const fn seconds_at(&self, instant: i64) -> i64 {
        (instant - self.began) / 1_000
    }

    /// A line with its time.
    pub fn note(&self, line: &str) {
        say(&format!("{:>5} s  {line}", self.seconds()));
    }

    /// A fault begins; its number.
    pub fn begin(&self, kind: &'static str, target: &str, detail: &str) -> usize {
        let number = {
            let mut faults = self.lock();
            let number = faults.len() + 1;
            faults.push(Fault { number, kind, target: target.to_owned(), from: now(), until: 0 });
            number
        };
        self.note(format!("fault {number}: {kind} {target} {detail}").trim_end());
        number
    }

    /// It is over.
    pub fn end(&self, number: usize) {
        if let Some(fault) = self.lock().get_mut(number - 1) {
            fault.until = now();
        }
    }

    /// The store has lost acknowledged commits of so many partitions.
    pub fn lose(&self, partitions: usize) {
        if partitions > 0 {
            self.note(&format!("{partitions} partitions lost commits"));
            let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
            *losses = (losses.0 + 1, losses.1 + partitions);
        }
    }

    /// How often the store lost commits, and of how many partitions in all.
    pub fn losses(&self) -> (usize, usize) {
        *self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that should not have happened; it counts as unexplained, once.
    pub fn complain(&self, what: &str) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if !wrong.iter().any(|known| known == what) {
            wrong.push(what.to_owned());
            drop(wrong);
            self.note(what);
        }
    }

    /// Everything that was complained of.
    pub fn complaints(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All so far.
    pub fn faults(&self) -> Vec<Fault> {
        self.lock().clone()
    }
}

// === impl Fault ===

impl Fault {
    /// Whether it lasted at some moment between two, both in milliseconds since 1970.
    pub const fn touches(&self, from: i64, until: i64) -> bool {
        self.from <= until && (self.until == 0 || self.until >= from)
    }

    /// Whether it is why a partition halts that says so now: what an owner said last is believed for ten seconds.
    pub fn halts(&self, partition: &str, now: i64) -> bool {
        self.kind == "redis-drop" && self.target == partition && self.touches(now - 20_000, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_field_halts_its_own_partition_and_no_other() {
        let fault = |kind, until| Fault { number: 1, kind, target: "segmenter/1".into(), from: 50_000, until };
        assert!(fault("redis-drop", 0).halts("segmenter/1", 60_000));
        assert!(fault("redis-drop", 60_000).halts("segmenter/1", 80_000));
        assert!(!fault("redis-drop", 60_000).halts("segmenter/1", 80_001), "long over");
        assert!(!fault("redis-drop", 0).halts("segmenter/0", 60_000));
        assert!(!fault("redis-restore", 0).halts("segmenter/1", 60_000));
    }
}
