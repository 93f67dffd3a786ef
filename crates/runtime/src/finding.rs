//! What `waypost doctor` finds: one thing that is not as it has to be, and what to change.

use std::fmt;

/// Whether a finding stops the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Processing would lose or falsify data: refuse.
    Refuse,
    /// Weaker than production wants: say so and go on.
    Warn,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it stops the start.
    pub severity: Severity,
    /// What was looked at: a setting with its place.
    pub check: String,
    /// What is there.
    pub found: String,
    /// What has to be there.
    pub wanted: String,
    /// What to do about it, as a command where there is one.
    pub change: String,
}

// === impl Finding ===

impl Finding {
    /// Stops the start.
    pub fn refuse(check: impl Into<String>, found: impl Into<String>, wanted: impl Into<String>, change: impl Into<String>) -> Self {
        Self { severity: Severity::Refuse, check: check.into(), found: found.into(), wanted: wanted.into(), change: change.into() }
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(self) -> Self {
        Self { severity: Severity::Warn, ..self }
    }

    /// Whether it stops the start.
    pub fn refuses(&self) -> bool {
        self.severity == Severity::Refuse
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.refuses() { "refused" } else { "warning" };
        write!(f, "{word}: {}: found {}, wanted {}; {}", self.check, self.found, self.wanted, self.change)
    }
}
