//! Engine versions: what folds the same log to other bytes is another version (PROTOCOL §9.2).
//!
//! A binary carries the version in force and the one before or behind it. Which of them folds a record stands
//! in the log of its partition, so that a replay, by whichever binary, changes at the same record. A fold that
//! differs asks [`Version`] by the name of the difference, never by number, and the older branch goes when the
//! release after next no longer carries it.

/// The version that a new partition begins with.
pub const CURRENT: u32 = 1;
/// The latest that can be activated: what each changes is named in [`Version`]. 3 folds as 2 does, and reads commands about runs:
/// records that an older binary waits at, whichever version is in force.
pub const NEXT: u32 = 3;

/// The version in force at a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

// === impl Version ===

impl Version {
    /// Since 2: a refusal by a re-entry rule names the earlier run, so that the two can be read together.
    pub(crate) fn names_the_earlier_run(self) -> bool {
        self >= Self(2)
    }
}

impl Default for Version {
    fn default() -> Self {
        Self(CURRENT)
    }
}
