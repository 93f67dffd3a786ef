//! How long an answer made of answers lasts (PRODUCT §6.4).
//!
//! A `no` among operands of `&&` decides it for as long as that one lasts; else every operand counts,
//! and the earliest flip is the answer's. `||` is its mirror.

use waypost_types::{Timestamp, Value};

use super::{Answer, Truth};

/// The earlier of two flips; none never comes.
pub(super) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The later of two flips; none never comes.
fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    Some(a?.max(b?))
}

/// Folds truths of `&&` (decided by no) or `||` (decided by yes).
pub(super) struct Fold {
    deciding: Truth,
    decided: Option<Decided>,
    unknown: bool,
    earliest: Option<Timestamp>,
}

/// How long a decision lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Decided(Option<Timestamp>);

// === impl Fold ===

impl Fold {
    pub(super) fn new(deciding: Truth) -> Self {
        Self { deciding, decided: None, unknown: false, earliest: None }
    }

    pub(super) fn add(&mut self, answer: &Answer) {
        let truth = Truth::of(answer.value.as_ref());
        if truth == self.deciding {
            self.decided = Some(match self.decided {
                Some(Decided(until)) => Decided(later(until, answer.valid_until)),
                None => Decided(answer.valid_until),
            });
        } else {
            self.unknown |= truth == Truth::Unknown;
            self.earliest = earlier(self.earliest, answer.valid_until);
        }
    }

    /// Nothing that follows can change it.
    pub(super) fn settled(&self) -> bool {
        self.decided == Some(Decided(None))
    }

    pub(super) fn answer(self) -> Answer {
        match self.decided {
            Some(Decided(until)) => Answer { value: self.deciding.value(), valid_until: until },
            None if self.unknown => Answer { value: None, valid_until: self.earliest },
            None => Answer { value: Some(Value::Bool(self.deciding == Truth::No)), valid_until: self.earliest },
        }
    }
}

// === impl Answer ===

impl Answer {
    pub(super) const UNKNOWN: Self = Self { value: None, valid_until: None };

    pub(super) fn lasting(value: Option<Value>) -> Self {
        Self { value, valid_until: None }
    }

    pub(super) fn until(self, other: Option<Timestamp>) -> Self {
        Self { valid_until: earlier(self.valid_until, other), ..self }
    }

    pub(super) fn map(self, f: impl FnOnce(Value) -> Option<Value>) -> Self {
        Self { value: self.value.and_then(f), valid_until: self.valid_until }
    }

    pub(super) fn zip(self, other: &Self, f: impl FnOnce(&Value, &Value) -> Option<Value>) -> Self {
        let value = self.value.as_ref().zip(other.value.as_ref()).and_then(|(a, b)| f(a, b));
        Self { value, valid_until: earlier(self.valid_until, other.valid_until) }
    }
}
