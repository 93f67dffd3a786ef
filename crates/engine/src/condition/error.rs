//! Why a text is not a condition, with its place.

use std::fmt;

pub(super) const UNKNOWN_REFERENCE: &str = "UNKNOWN_REFERENCE";
pub(super) const TYPE_MISMATCH: &str = "TYPE_MISMATCH";
pub(super) const COST_TOO_HIGH: &str = "COST_TOO_HIGH";
pub(super) const LIMIT_EXCEEDED: &str = "LIMIT_EXCEEDED";
pub(super) const SYNTAX: &str = "SYNTAX";
pub(super) const NOT_YET_SUPPORTED: &str = "NOT_YET_SUPPORTED";

/// Why a text is not a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConditionError {
    /// `UNKNOWN_REFERENCE TYPE_MISMATCH COST_TOO_HIGH LIMIT_EXCEEDED SYNTAX NOT_YET_SUPPORTED`.
    pub code: &'static str,
    /// Line within the text, from 1.
    pub line: u32,
    /// Character within the line, from 1.
    pub column: u32,
    /// For people.
    pub message: String,
    /// What to write instead: the nearest known name, or another way to say it.
    pub suggestion: Option<String>,
}

// === impl ConditionError ===

impl ConditionError {
    pub(super) fn new(code: &'static str, (line, column): (u32, u32), message: impl Into<String>) -> Self {
        Self { code, line, column, message: message.into(), suggestion: None }
    }

    pub(super) fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.line, self.column, self.code, self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}
