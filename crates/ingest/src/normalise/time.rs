//! Times as they are written, and an event's own time (PRODUCT §4.4).

use jiff::{civil, tz::TimeZone};
use waypost_types::{Span, Timestamp};

/// An event's time, and what had to be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventTime {
    /// Bounded.
    pub at: Timestamp,
    /// The claimed time where it had to be bounded.
    pub claimed: Option<Timestamp>,
    /// It changes records and starts nothing.
    pub historical: bool,
}

/// What a call says of its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stated {
    /// `originalTimestamp`.
    pub original: Option<Timestamp>,
    /// `sentAt`.
    pub sent: Option<Timestamp>,
    /// `timestamp`.
    pub given: Option<Timestamp>,
    /// Marked as imported history.
    pub historical: bool,
}

const OLDEST: Span = Span::from_days(30);
const AHEAD: Span = Span::from_secs(300);

// === impl Stated ===

impl Stated {
    /// The event's time, received at `received`.
    pub(crate) fn event_time(self, received: Timestamp) -> EventTime {
        let claimed = match (self.sent, self.original) {
            (Some(sent), Some(original)) => received.minus(sent.since(original)),
            _ => self.given.or(self.original).unwrap_or(received),
        };
        let (oldest, newest) = (received.minus(OLDEST), received.plus(AHEAD));
        let historical = self.historical || claimed < oldest;
        // Imports keep their own time, however old.
        let at = if self.historical { claimed.min(newest) } else { claimed.clamp(oldest, newest) };
        EventTime { at, claimed: (at != claimed).then_some(claimed), historical }
    }
}

/// RFC 3339, epoch seconds or milliseconds by size, or a bare date at local midnight.
pub(crate) fn time(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(number) = super::number::integer(text) {
        return epoch(number);
    }
    if let Some((seconds, _)) = text.split_once('.').filter(|(s, f)| s.len() > 8 && f.len() <= 9 && f.bytes().all(|b| b.is_ascii_digit())) {
        // Seconds with a fraction: digits behind the point down to milliseconds.
        let fraction: String = text[seconds.len() + 1..].chars().chain("000".chars()).take(3).collect();
        let ms = seconds.parse::<i64>().ok()?.checked_mul(1_000)?.checked_add(fraction.parse().ok()?)?;
        return (ms.abs() < 100_000_000_000_000).then(|| Timestamp::from_millis(ms));
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp::from_millis(instant.as_millisecond()));
    }
    let date = bare_date(text)?;
    let midnight = date.to_zoned(zone.clone()).ok()?;
    Some(Timestamp::from_millis(midnight.timestamp().as_millisecond()))
}

/// The day of a bare date, or of an instant in UTC; days since 1970-01-01.
pub(crate) fn date(text: &str) -> Option<i32> {
    let text = text.trim();
    let date = match bare_date(text) {
        Some(date) => date,
        None => text.parse::<jiff::Timestamp>().ok()?.to_zoned(TimeZone::UTC).date(),
    };
    let midnight = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    i32::try_from(midnight.div_euclid(86_400)).ok()
}

fn bare_date(text: &str) -> Option<civil::Date> {
    if text.len() == 10 { text.parse().ok() } else { None }
}

fn epoch(number: i64) -> Option<Timestamp> {
    // 10¹¹ seconds are the year 5138, 10¹¹ milliseconds the year 1973.
    let ms = if number.abs() < 100_000_000_000 { number.checked_mul(1_000)? } else { number };
    (ms.abs() < 100_000_000_000_000).then(|| Timestamp::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn times_are_read_in_every_spelling() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (text, ms) in [
            ("2026-01-02T03:04:05Z", 1_767_323_045_000),
            ("2026-01-02T03:04:05.678+01:00", 1_767_319_445_678),
            ("1767323045", 1_767_323_045_000),
            ("1767323045678", 1_767_323_045_678),
            ("1767323045.5", 1_767_323_045_500),
            ("2026-01-02", 1_767_308_400_000),
        ] {
            assert_eq!(time(text, &berlin), Some(at(ms)), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "2026-01-02T03:04:05", "99999999999999999", "02.01.2026"] {
            assert_eq!(time(text, &berlin), None, "{text}");
        }
        assert_eq!(date("1970-01-02"), Some(1));
        assert_eq!(date("1969-12-31"), Some(-1));
        assert_eq!(date("1990-05-17T22:00:00Z"), Some(7_441));
    }

    #[test]
    fn event_time_corrects_the_skew_of_clocks_and_is_bounded() {
        let received = at(100 * 86_400_000);
        let day = 86_400_000;
        for (what, stated, expected, claimed, historical) in [
            ("nothing said", Stated::default(), 100 * day, None, false),
            ("given", Stated { given: Some(at(99 * day)), ..Stated::default() }, 99 * day, None, false),
            (
                "a clock a year ahead",
                Stated { original: Some(at(465 * day - 5_000)), sent: Some(at(465 * day)), given: Some(at(465 * day)), historical: false },
                100 * day - 5_000,
                None,
                false,
            ),
            ("the future", Stated { given: Some(at(101 * day)), ..Stated::default() }, 100 * day + 300_000, Some(101 * day), false),
            ("too old", Stated { given: Some(at(60 * day)), ..Stated::default() }, 70 * day, Some(60 * day), true),
            ("an import", Stated { given: Some(at(5 * day)), historical: true, ..Stated::default() }, 5 * day, None, true),
        ] {
            let expected = EventTime { at: at(expected), claimed: claimed.map(at), historical };
            assert_eq!(stated.event_time(received), expected, "{what}");
        }
    }
}
