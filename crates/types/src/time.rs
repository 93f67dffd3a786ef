//! Instants and durations, in whole milliseconds.

use std::fmt;

/// An instant, ms since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A duration, ms; may be negative where an offset is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(i64);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: one integer and one of s m h d w, as in `90d`")]
pub struct SpanError(String);

// === impl Timestamp ===

impl Timestamp {
    /// Never: later than every instant that the product computes.
    pub const MAX: Self = Self(i64::MAX);
    /// The epoch; stands for "unset" in stored fields.
    pub const ZERO: Self = Self(0);

    /// From ms since the epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Ms since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// `self + span`, staying within range.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// `self - span`, staying within range.
    #[must_use]
    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// How long after `earlier` this is; negative if before.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

// === impl Span ===

impl Span {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// From ms.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }
    /// From seconds.
    pub const fn from_secs(s: i64) -> Self {
        Self(s.saturating_mul(1_000))
    }
    /// From hours.
    pub const fn from_hours(h: i64) -> Self {
        Self(h.saturating_mul(3_600_000))
    }
    /// From days of exactly 24 h.
    pub const fn from_days(d: i64) -> Self {
        Self(d.saturating_mul(86_400_000))
    }
    /// In ms.
    pub const fn millis(self) -> i64 {
        self.0
    }
}

impl std::str::FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = || SpanError(text.chars().take(40).collect());
        let unit = match text.chars().last() {
            Some('s') => 1_000,
            Some('m') => 60_000,
            Some('h') => 3_600_000,
            Some('d') => 86_400_000,
            Some('w') => 604_800_000,
            _ => return Err(error()),
        };
        let digits = &text[..text.len() - 1];
        let unsigned = digits.strip_prefix('-').unwrap_or(digits);
        if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let number: i64 = digits.parse().map_err(|_| error())?;
        number.checked_mul(unit).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for Span {
    /// The largest unit that divides it, as it would be written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
            if self.0 != 0 && self.0 % unit == 0 {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        if self.0 == 0 { write!(f, "0s") } else { write!(f, "{}ms", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_one_integer_and_one_unit() {
        for (text, ms) in [("1s", 1_000), ("90m", 5_400_000), ("24h", 86_400_000), ("-2d", -172_800_000), ("1w", 604_800_000)] {
            assert_eq!(text.parse::<Span>(), Ok(Span::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "h", "1.5h", "1h30m", "+1h", "1 h", "99999999999999999999d", "--1d", "1é"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_print_as_they_are_written() {
        for text in ["1h", "24h", "90m", "7d", "30s"] {
            let shown = text.parse::<Span>().map(|s| s.to_string()).unwrap_or_default();
            assert_eq!(shown.parse::<Span>(), text.parse::<Span>(), "{text} {shown}");
        }
    }
}
