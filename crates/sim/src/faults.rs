//! What may go wrong in a world, and how often: drawn anew for each seed, so that faults meet in all combinations.

use std::sync::Arc;

use crate::{chance::Chance, scenario::Without};

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident $name:literal, $most:literal;)*) => {
        /// One kind of thing that goes wrong (PROTOCOL §16.2).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $variant,)*
        }

        impl Fault {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// One word, as in scenarios and summaries.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// In the worlds that have it, it strikes so often at most, in 10,000ths of its occasions.
            const fn most(self) -> i64 {
                match self {
                    $(Self::$variant => $most,)*
                }
            }
        }
    };
}

faults! {
    /// In the whole world: one partition is hardly ever read.
    Starved "starved", 2_500;
    /// In the whole world: clocks of processes are off.
    ProcessClocks "process-clocks", 10_000;
    /// In the whole world: the broker's clock is off.
    BrokerClock "broker-clock", 10_000;
    /// In the whole world: a set is activated before its bodies have arrived.
    BodiesLate "bodies-late", 3_000;
    /// At every step: a process dies; what it had asked for may happen all the same.
    Kill "kill", 30;
    /// At every step: a process does nothing for a while, and is not taken for dead.
    Pause "pause", 20;
    /// At every step: a process is taken for dead and is not; it may sleep first, and then goes on.
    Zombie "zombie", 20;
    /// At every step: a partition is handed over in order.
    Handover "handover", 20;
    /// At every step: a partition's store loses its last commits.
    Rewind "rewind", 150;
    /// At every step: an old backup of a partition is put in place, sometimes the oldest.
    Restore "restore", 15;
    /// At every step: two masters of the store accept; one of them is that of a single process.
    Split "split", 25;
    /// At every step: the store refuses everything for a while.
    Refuse "refuse", 12;
    /// At every step: the producer of a process sends nothing for a while.
    Stuck "stuck", 50;
    /// At every step: records of a partition channel land again, in other frames.
    Repacked "repacked", 60;
    /// At every step: the store loses one entity, one timer or one sequence; the digest must show it.
    FieldLost "field-lost", 40;
    /// At every step: a log loses committed records from its end; must halt.
    LogCut "log-cut", 40;
    /// At every step: a log is trimmed to behind what its rewound store has folded; must halt.
    LogTrimmed "log-trimmed", 40;
    /// At every step: a log begins anew; must halt.
    LogRecreated "log-recreated", 40;
    /// At a store's answer: it is lost, though what was asked for is done.
    ReplyLost "reply-lost", 500;
    /// At a commit: time-out, and it lands later.
    CommitLate "commit-late", 500;
    /// At an append: it fails, and is not in the log; what follows may be.
    AppendLost "append-lost", 400;
    /// At an append: it fails, and is in the log.
    AppendUnacknowledged "append-unacknowledged", 300;
    /// At an append: it fails, and lands later.
    AppendLate "append-late", 400;
    /// At an append: another copy lands later.
    AppendTwice "append-twice", 500;
    /// At an append between partitions: it is acknowledged, and is not in the log; a repair must follow.
    FalselyAcknowledged "falsely-acknowledged", 80;
    /// At an append: one to another partition goes before it.
    Overtaken "overtaken", 2_000;
    /// At a delivery: the consumer skips a record.
    Skip "skip", 300;
    /// At a call: the provider does nothing and does not say so.
    SilentBefore "silent-before", 1_000;
    /// At a call: the provider does it and does not say so.
    SilentAfter "silent-after", 1_000;
    /// At a call: the provider says "later" (5xx).
    Transient "transient", 1_000;
    /// At a call: the provider says "too many" (429), and when to come again.
    Throttled "throttled", 1_000;
    /// At a look-up: the provider does not answer.
    LookUpFails "look-up-fails", 15_000;
    /// At an event: it kills every process that folds it.
    Deadly "deadly", 500;
    /// At an event: its fold panics.
    Poison "poison", 200;
    /// In the whole world: a partition that people travel through when they are joined is hardly ever read.
    SlowRoad "slow-road", 10_000;
    /// At a job: what came of it is known a good while later.
    SlowCall "slow-call", 4_000;
}

impl Fault {
    /// One world in so many has it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "rare ones are named")]
    const fn of_worlds(self) -> usize {
        match self {
            // A world ends where it is noticed.
            Self::FieldLost | Self::LogCut | Self::LogTrimmed | Self::LogRecreated => 30,
            // The oracle has less to say.
            Self::FalselyAcknowledged => 15,
            // Six processes die of it.
            Self::Deadly => 6,
            Self::SlowRoad | Self::SlowCall => 5,
            _ => 2,
        }
    }
}

/// Odds in 10,000ths, each at its own occasion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults([u64; Fault::ALL.len()]);

// === impl Faults ===

impl Faults {
    /// None at all.
    pub const fn none() -> Self {
        Self([0; Fault::ALL.len()])
    }

    /// Those of a seed; one world in eight has none.
    pub fn draw(chance: &mut Chance) -> Self {
        let mut faults = Self::none();
        if chance.index(8) == 0 {
            return faults;
        }
        for fault in Fault::ALL {
            let odds = if chance.index(fault.of_worlds()) > 0 { 0 } else { chance.within(1, fault.most()) };
            faults.0[*fault as usize] = u64::try_from(odds).unwrap_or(1);
        }
        faults
    }

    fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }
}

/// Decides at every occasion whether a fault strikes.
///
/// Every kind draws from a sequence of its own, and every strike brings another one for its particulars: so one that
/// is left out of a scenario does not change what the others draw.
#[derive(Clone, Debug)]
pub struct Dice {
    seed: u64,
    faults: Faults,
    chances: Vec<Chance>,
    without: Arc<Without>,
    /// Strikes so far, those left out as well.
    struck: [u32; Fault::ALL.len()],
    /// Strikes that took place.
    counts: [u64; Fault::ALL.len()],
    over: bool,
}

// === impl Dice ===

impl Dice {
    /// For these odds.
    pub fn new(seed: u64, faults: Faults, without: Arc<Without>) -> Self {
        let chances = Fault::ALL.iter().map(|fault| Chance::new(seed).at(1 + *fault as u64)).collect();
        Self { seed, faults, chances, without, struck: [0; Fault::ALL.len()], counts: [0; Fault::ALL.len()], over: false }
    }

    /// Whether this world has the fault at all.
    pub fn may(&self, fault: Fault) -> bool {
        self.faults.of(fault) > 0
    }

    /// Whether a fault strikes here; if so, what its particulars are drawn from.
    pub fn strike(&mut self, fault: Fault) -> Option<Chance> {
        let odds = self.faults.of(fault);
        // Who looks up what became of a call does so when all else is over.
        let over = self.over && fault != Fault::LookUpFails;
        if odds == 0 || over || !self.chances[fault as usize].hits(odds) {
            return None;
        }
        let occasion = self.struck[fault as usize];
        self.struck[fault as usize] += 1;
        if self.without.fault(fault, occasion) {
            return None;
        }
        self.counts[fault as usize] += 1;
        Some(Chance::new(self.seed).at((1 + fault as u64) << 32 | u64::from(occasion)))
    }

    /// Whether it has struck, and was not left out.
    pub fn has_struck(&self, fault: Fault) -> bool {
        self.counts[fault as usize] > 0
    }

    /// It did not take place after all.
    pub fn missed(&mut self, fault: Fault) {
        self.counts[fault as usize] -= 1;
    }

    /// From now on nothing goes wrong.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// Whether that was said.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What took place, by kind.
    pub fn counts(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.iter().map(|fault| (*fault, self.counts[*fault as usize])).filter(|(_, count)| *count > 0)
    }

    /// How often each kind struck, those left out as well.
    pub fn struck(&self) -> impl Iterator<Item = (Fault, u32)> {
        Fault::ALL.iter().map(|fault| (*fault, self.struck[*fault as usize])).filter(|(_, count)| *count > 0)
    }

    /// The odds, for people.
    pub fn describe(&self) -> String {
        let odds = Fault::ALL.iter().filter(|fault| self.faults.of(**fault) > 0);
        let odds: Vec<String> = odds.map(|fault| format!("{} {}", fault.name(), self.faults.of(*fault))).collect();
        if odds.is_empty() { "no faults".to_owned() } else { format!("faults in 10,000 occasions: {}", odds.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64) -> Faults {
        Faults::draw(&mut Chance::new(seed))
    }

    #[test]
    fn some_worlds_have_no_faults_and_every_fault_has_its_worlds() {
        let drawn: Vec<Faults> = (0..200).map(drawn).collect();
        assert!(drawn.contains(&Faults::none()));
        for fault in Fault::ALL {
            assert!(drawn.iter().any(|faults| faults.of(*fault) > 0), "{}", fault.name());
        }
    }

    #[test]
    fn what_is_left_out_does_not_change_what_others_draw() {
        let strikes = |without: &str| {
            let without = Arc::new(Without::parse(without).unwrap());
            let mut dice = Dice::new(3, Faults([5_000; Fault::ALL.len()]), without);
            let kills: Vec<bool> = (0..20).map(|_| dice.strike(Fault::Kill).is_some()).collect();
            let mut zombies = Vec::new();
            for _ in 0..20 {
                zombies.push(dice.strike(Fault::Zombie).map(|mut chance| chance.index(1_000)));
            }
            (kills, zombies)
        };
        let (kills, zombies) = strikes("");
        let (fewer, same) = strikes("kill.1");
        assert_eq!(zombies, same);
        assert_eq!(kills.iter().filter(|kill| **kill).count(), fewer.iter().filter(|kill| **kill).count() + 1);
        let (none, same) = strikes("kill");
        assert_eq!(zombies, same);
        assert!(!none.contains(&true));
    }
}
