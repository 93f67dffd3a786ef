//! What may go wrong in a world, and how often: drawn anew for each seed, so that faults meet in all combinations.

use waypost_memory::store::Checks;
use waypost_runtime::Rules;

use crate::chance::Chance;

/// Rules of the protocol that may be switched off, to see whether the oracle finds the hole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// Of the machines.
    pub rules: Rules,
    /// Of the store.
    pub checks: Checks,
}

/// Odds in 10,000ths, each at its own occasion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// At every step: a process dies; what it had asked for may happen all the same.
    pub kill: u64,
    /// At every step: a process is taken for dead and is not; it may sleep first, and then goes on.
    pub zombie: u64,
    /// At every step: a partition is handed over in order.
    pub handover: u64,
    /// At every step: the store of a partition loses its last commits.
    pub rewind: u64,
    /// At every step: an old backup of a partition is put in place.
    pub restore: u64,
    /// At every step: the store refuses everything for a while.
    pub refuse: u64,
    /// At every step: the producer of a process sends nothing for a while.
    pub stuck: u64,
    /// At a store's answer: it is lost, though what was asked for is done.
    pub reply_lost: u64,
    /// At a commit: time-out, and it lands later.
    pub commit_late: u64,
    /// At an append: it fails, and is not in the log; what follows may be.
    pub append_lost: u64,
    /// At an append: it fails, and is in the log.
    pub append_unacknowledged: u64,
    /// At an append: it fails, and lands later.
    pub append_late: u64,
    /// At an append: another copy lands later.
    pub append_twice: u64,
    /// At a delivery: the consumer skips a record.
    pub skip: u64,
    /// At a call: the provider does nothing and does not say so.
    pub silent_before: u64,
    /// At a call: the provider does it and does not say so.
    pub silent_after: u64,
    /// At a call: the provider says "later".
    pub transient: u64,
    /// Clocks of processes are up to so many ms off.
    pub skew: i64,
}

// === impl Faults ===

impl Faults {
    /// None at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of a seed; one world in eight has none.
    pub fn draw(chance: &mut Chance) -> Self {
        if chance.index(8) == 0 {
            return Self::none();
        }
        let mut odds = |most: i64| if chance.index(2) == 0 { 0 } else { u64::try_from(chance.within(1, most)).unwrap_or(1) };
        Self {
            kill: odds(60),
            zombie: odds(30),
            handover: odds(20),
            rewind: odds(40),
            restore: odds(6),
            refuse: odds(8),
            stuck: odds(50),
            reply_lost: odds(500),
            commit_late: odds(500),
            append_lost: odds(300),
            append_unacknowledged: odds(300),
            append_late: odds(300),
            append_twice: odds(500),
            skip: odds(300),
            silent_before: odds(1_000),
            silent_after: odds(1_000),
            transient: odds(1_000),
            skew: i64::try_from(odds(80)).unwrap_or(0),
        }
    }

    /// Whether any of them can leave a send unknown: all that changes who leads, or hides an answer.
    pub fn may_leave_unknown(&self) -> bool {
        let harmless = Self { transient: self.transient, skip: self.skip, skew: self.skew, stuck: self.stuck, ..Self::none() };
        *self != harmless
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_worlds_have_no_faults_and_every_fault_has_its_worlds() {
        let drawn: Vec<Faults> = (0..200).map(|seed| Faults::draw(&mut Chance::new(seed))).collect();
        assert!(drawn.iter().any(|faults| *faults == Faults::none()));
        assert!(drawn.iter().any(|faults| faults.kill > 0 && faults.zombie == 0));
        assert!(drawn.iter().any(|faults| faults.rewind > 0 && faults.kill == 0));
        assert!(!Faults::none().may_leave_unknown());
    }
}
