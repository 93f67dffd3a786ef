//! Local time: the next instant at which a clock on somebody's wall shows a time of day.
//!
//! Zones come from the database bundled into the binary, never from the machine: a replay on another
//! machine must give the same instants. The rules are those of PRODUCT §7.9, question 8: a skipped
//! local time is the next valid minute, a repeated one its first, a time already past means the next day.

use jiff::{
    ToSpan as _,
    civil::{Date, DateTime},
    tz::{AmbiguousOffset, TimeZone},
};
use waypost_codec::inbox::{Person, value::Kind};
use waypost_types::Timestamp;

use crate::{definitions::Policy, person};

/// A time zone, and where it was taken from, for the trail.
#[derive(Clone, Debug)]
pub struct Zone {
    zone: TimeZone,
    /// `Europe/Berlin (journey)`.
    pub source: String,
}

/// When a channel may be used: from `opens` to `closes`, minutes after local midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First minute.
    pub opens: u32,
    /// First minute after it.
    pub closes: u32,
}

/// Whether `name` is a zone of the bundled database.
pub fn is_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok()
}

// === impl Zone ===

impl Zone {
    /// The zone with this name.
    pub fn named(name: &str, source: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(|zone| Self { zone, source: format!("{name} ({source})") })
    }

    /// UTC, where a stored name means nothing to this binary.
    pub fn utc() -> Self {
        Self { zone: TimeZone::UTC, source: "UTC".to_owned() }
    }

    /// The zone that local fields of a journey use: the one it names, else the person's, else the workspace's.
    pub fn of(journey: Option<&str>, person: &Person, policy: &Policy) -> Self {
        let field = person::field(person, "timezone").and_then(|v| match &v.kind {
            Some(Kind::Text(name)) => Some(name.as_str()),
            _ => None,
        });
        let candidates = [(journey, "journey"), (field, "profile"), (Some(policy.timezone.as_str()), "workspace")];
        candidates.into_iter().find_map(|(name, source)| Self::named(name?, source)).unwrap_or_else(Self::utc)
    }

    fn local(&self, at: Timestamp) -> DateTime {
        let instant = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        self.zone.to_datetime(instant)
    }

    /// The instant of `minute` after midnight on a day: of a skipped time the next valid minute, of a
    /// repeated one the first.
    fn instant(&self, day: Date, minute: u32) -> Option<Timestamp> {
        let mut local = day.to_datetime(jiff::civil::time(0, 0, 0, 0)).checked_add(i64::from(minute).minutes()).ok()?;
        // A zone that changes sides of the date line skips a whole day, hence the bound.
        for _ in 0..=1_440 {
            let offset = match self.zone.to_ambiguous_timestamp(local).offset() {
                AmbiguousOffset::Unambiguous { offset } => Some(offset),
                AmbiguousOffset::Fold { before, .. } => Some(before),
                AmbiguousOffset::Gap { .. } => None,
            };
            if let Some(offset) = offset {
                return offset.to_timestamp(local).ok().map(|t| Timestamp::from_millis(t.as_millisecond()));
            }
            local = local.checked_add(1.minute()).ok()?;
        }
        None
    }

    /// The first instant at or after `from` at which it is `minute` after local midnight on one of `days`
    /// (Monday 1; empty: any).
    pub fn next(&self, from: Timestamp, minute: u32, days: &[u32]) -> Timestamp {
        let mut day = self.local(from).date();
        // Two weeks: every weekday comes, even where one is skipped.
        for _ in 0..15 {
            let weekday = u32::try_from(day.weekday().to_monday_one_offset()).unwrap_or(1);
            if days.is_empty() || days.contains(&weekday) {
                match self.instant(day, minute) {
                    Some(at) if at >= from => return at,
                    Some(_) | None => {}
                }
            }
            let Ok(tomorrow) = day.tomorrow() else { break };
            day = tomorrow;
        }
        from
    }

    /// None if `now` lies in the window, else the instant it next opens.
    pub fn opens(&self, now: Timestamp, window: Window) -> Option<Timestamp> {
        let local = self.local(now);
        let minute = u32::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or(0);
        let inside = if window.opens <= window.closes {
            (window.opens..window.closes).contains(&minute)
        } else {
            minute >= window.opens || minute < window.closes
        };
        if inside { None } else { Some(self.next(now, window.opens, &[])) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    /// `zone from minute days -> instant`
    fn check(zone: &str, from: &str, hour: u32, minute: u32, days: &[u32], expected: &str) {
        let zone = Zone::named(zone, "test").unwrap();
        let next = zone.next(at(from), hour * 60 + minute, days);
        assert_eq!(next, at(expected), "{from} {hour}:{minute} {days:?}: {next}");
    }

    #[test]
    fn the_next_nine_oclock_is_today_or_tomorrow() {
        check("Europe/Berlin", "2026-06-01T08:59:59+02:00", 9, 0, &[], "2026-06-01T09:00:00+02:00");
        check("Europe/Berlin", "2026-06-01T09:00:00+02:00", 9, 0, &[], "2026-06-01T09:00:00+02:00");
        check("Europe/Berlin", "2026-06-01T09:00:00.001+02:00", 9, 0, &[], "2026-06-02T09:00:00+02:00");
        check("America/New_York", "2026-06-01T23:30:00+02:00", 9, 0, &[], "2026-06-02T09:00:00-04:00");
    }

    #[test]
    fn weekdays_are_those_of_the_zone() {
        // 1 June 2026 is a Monday; in Auckland it is Tuesday already.
        check("Europe/Berlin", "2026-06-01T15:00:00+02:00", 9, 0, &[2, 4], "2026-06-02T09:00:00+02:00");
        check("Pacific/Auckland", "2026-06-01T15:00:00+02:00", 9, 0, &[2], "2026-06-02T09:00:00+12:00");
        check("Europe/Berlin", "2026-06-01T15:00:00+02:00", 9, 0, &[1], "2026-06-08T09:00:00+02:00");
    }

    #[test]
    fn a_skipped_time_is_the_next_valid_minute() {
        check("Europe/Berlin", "2026-03-28T23:30:00+01:00", 2, 30, &[], "2026-03-29T03:00:00+02:00");
        check("Europe/Berlin", "2026-03-28T23:30:00+01:00", 2, 0, &[], "2026-03-29T03:00:00+02:00");
        check("Europe/Berlin", "2026-03-28T23:30:00+01:00", 9, 0, &[], "2026-03-29T09:00:00+02:00");
        // Lord Howe Island moves by half an hour.
        check("Australia/Lord_Howe", "2026-10-03T20:00:00+10:30", 2, 15, &[], "2026-10-04T02:30:00+11:00");
    }

    #[test]
    fn a_repeated_time_is_its_first() {
        check("Europe/Berlin", "2026-10-24T23:30:00+02:00", 2, 30, &[], "2026-10-25T02:30:00+02:00");
        // Already past the first: the second is not taken for today's.
        check("Europe/Berlin", "2026-10-25T02:31:00+02:00", 2, 30, &[], "2026-10-26T02:30:00+01:00");
    }

    #[test]
    fn a_day_that_did_not_happen_is_passed_over() {
        // Samoa skipped 30 December 2011.
        check("Pacific/Apia", "2011-12-29T10:00:00-10:00", 9, 0, &[], "2011-12-31T00:00:00+14:00");
    }

    #[test]
    fn windows_say_when_they_next_open() {
        let zone = Zone::named("Europe/Berlin", "test").unwrap();
        let day = Window { opens: 8 * 60, closes: 22 * 60 };
        assert_eq!(zone.opens(at("2026-06-01T08:00:00+02:00"), day), None);
        assert_eq!(zone.opens(at("2026-06-01T21:59:00+02:00"), day), None);
        assert_eq!(zone.opens(at("2026-06-01T22:00:00+02:00"), day), Some(at("2026-06-02T08:00:00+02:00")));
        assert_eq!(zone.opens(at("2026-03-29T01:30:00+01:00"), day), Some(at("2026-03-29T08:00:00+02:00")));
        let night = Window { opens: 22 * 60, closes: 6 * 60 };
        assert_eq!(zone.opens(at("2026-06-01T23:00:00+02:00"), night), None);
        assert_eq!(zone.opens(at("2026-06-01T12:00:00+02:00"), night), Some(at("2026-06-01T22:00:00+02:00")));
    }

    #[test]
    fn the_zone_is_the_journeys_else_the_persons_else_the_workspaces() {
        let policy = Policy { timezone: "Europe/Berlin".to_owned(), ..Policy::default() };
        assert_eq!(Zone::of(Some("Asia/Tokyo"), &Person::default(), &policy).source, "Asia/Tokyo (journey)");
        assert_eq!(Zone::of(None, &Person::default(), &policy).source, "Europe/Berlin (workspace)");
        assert!(!is_zone("Mars/Olympus"));
    }
}
