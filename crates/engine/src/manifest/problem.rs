//! What is wrong with a manifest, and where.

use std::fmt;

/// A place in a file, from 1; 0 where there is no file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

/// One refusal of PRODUCT §7, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A code of [`codes`].
    pub code: &'static str,
    /// The file as it was named, or the resource where a stored body is meant.
    pub file: String,
    /// From 1; 0 for a stored body.
    pub line: u32,
    /// From 1; 0 for a stored body.
    pub column: u32,
    /// Path of the offending field, as in `spec.steps[2].send.template`.
    pub path: String,
    /// What was expected.
    pub message: String,
    /// The nearest known name.
    pub suggestion: Option<String>,
}

/// The codes, as PRODUCT §7 lists them, three for what cannot be read at all, and one for what is done to a journey at the wrong time.
pub mod codes {
    /// Not YAML, or a part of YAML that manifests do without (anchors, tags).
    pub const BAD_YAML: &str = "BAD_YAML";
    /// A required field is absent.
    pub const FIELD_MISSING: &str = "FIELD_MISSING";
    /// A name or value is not of the form its field asks for.
    pub const VALUE_INVALID: &str = "VALUE_INVALID";
    /// No such field.
    pub const UNKNOWN_FIELD: &str = "UNKNOWN_FIELD";
    /// Nothing of that name.
    pub const UNKNOWN_REFERENCE: &str = "UNKNOWN_REFERENCE";
    /// Named twice.
    pub const DUPLICATE_ID: &str = "DUPLICATE_ID";
    /// Another type was expected.
    pub const TYPE_MISMATCH: &str = "TYPE_MISMATCH";
    /// No way leads there.
    pub const UNREACHABLE_STEP: &str = "UNREACHABLE_STEP";
    /// The steps lead back to one before.
    pub const CYCLE_WITHOUT_GOTO: &str = "CYCLE_WITHOUT_GOTO";
    /// A wait without a deadline.
    pub const NO_TIMEOUT: &str = "NO_TIMEOUT";
    /// A branch without `else`.
    pub const NO_ELSE: &str = "NO_ELSE";
    /// Marketing without a consent topic.
    pub const NO_TOPIC: &str = "NO_TOPIC";
    /// Nobody to alarm.
    pub const NO_OWNER: &str = "NO_OWNER";
    /// No body for the channel of the send.
    pub const TEMPLATE_LACKS_CHANNEL: &str = "TEMPLATE_LACKS_CHANNEL";
    /// A path neither in `requires` nor `optional`.
    pub const TEMPLATE_FIELD_UNDECLARED: &str = "TEMPLATE_FIELD_UNDECLARED";
    /// Marketing mail without `unsubscribe_url()` or postal address.
    pub const MISSING_UNSUBSCRIBE: &str = "MISSING_UNSUBSCRIBE";
    /// A marketing template without `action`.
    pub const ACTION_MISSING: &str = "ACTION_MISSING";
    /// A known field where it has no meaning.
    pub const FIELD_NOT_ALLOWED_HERE: &str = "FIELD_NOT_ALLOWED_HERE";
    /// A live journey reads it, or a source.
    pub const IN_USE: &str = "IN_USE";
    /// Not as the journey stands: paused, archived, killed, never published.
    pub const STATE_CONFLICT: &str = "STATE_CONFLICT";
    /// Too many, too long, too large.
    pub const LIMIT_EXCEEDED: &str = "LIMIT_EXCEEDED";
    /// Described in the product, not built yet.
    pub const NOT_YET_SUPPORTED: &str = "NOT_YET_SUPPORTED";
}

/// The candidate nearest to `word`, if one is near enough to be a slip of the hand.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let limit = (word.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|c| (distance(&word.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, c)| c.to_owned())
}

/// Edits between two words; words longer than any name are never near.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(80).collect(), b.chars().take(80).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

// === impl Problem ===

impl Problem {
    /// Without a place; to be filled in.
    pub(crate) fn nowhere() -> Self {
        let (file, path, message) = (String::new(), String::new(), String::new());
        Self { code: codes::VALUE_INVALID, file, line: 0, column: 0, path, message, suggestion: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {} {}: {}", self.code, self.path, self.message)?;
        match &self.suggestion {
            Some(s) => write!(f, " (did you mean `{s}`?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slips_have_a_nearest_name() {
        assert_eq!(nearest("tittle", ["title", "topic"]).as_deref(), Some("title"));
        assert_eq!(nearest("Journy", ["Journey", "Segment"]).as_deref(), Some("Journey"));
        assert_eq!(nearest("zzz", ["title", "topic"]), None);
    }
}
