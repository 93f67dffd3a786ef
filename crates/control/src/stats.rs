//! `JourneyService.GetJourneyStats`: a question, and the counted figures as its answer.

use std::collections::BTreeMap;

use waypost_engine::manifest::Kind;
use waypost_proto::control as pb;
use waypost_types::{Span, Timestamp, WorkspaceId};

use crate::{
    definitions::known,
    names,
    reports::{Part, Series, What, as_of, begin_of, hour_of},
    server::{Control, workspace_in},
    status::Refusal,
};

/// Rows of an answer unless asked for fewer.
const PAGE: usize = 100;
/// Rows of an answer at most.
const PAGE_MAX: usize = 1_000;
/// Hours of a day.
const DAY: u32 = 24;

/// Which figures are wanted.
#[derive(Debug)]
struct Wanted {
    workspace: WorkspaceId,
    journey: String,
    /// None: all.
    version: Option<u32>,
    interval: pb::StatsInterval,
    steps: bool,
    /// First hour, and the first that is no longer wanted.
    hours: (u32, u32),
    size: usize,
    /// The row that the page before ended with.
    after: Option<Place>,
    /// A page token is good for the same question alone.
    arguments: String,
}

/// A row's hour and step.
type Place = (u32, String);

/// A row, by word and reason.
type Figures = BTreeMap<(What, String), i64>;

// === impl Control ===

impl Control {
    pub(crate) async fn stats(&self, request: &pb::GetJourneyStatsRequest) -> Result<pb::JourneyStats, Refusal> {
        let (workspace, journey) = names::child(&request.name, "journeys")?;
        let set = self.changes.current()?;
        let id = workspace_in(&set, workspace)?;
        let nothing = || {
            let why = "this server counts nothing: its setting control.reports_days is 0; ask another one, or set it";
            Refusal::Precondition("NOT_COUNTED", why.to_owned())
        };
        let parts = self.reports.as_ref().ok_or_else(nothing)?.parts()?;
        let kept_from = parts.iter().map(|part| part.fold().kept_from()).max().unwrap_or_default();
        let wanted = Wanted::read(request, id, journey, kept_from, self.clock.now())?;
        let name = request.name.clone();
        // Steps of two years are millions of figures: meanwhile the runtime's threads are for others.
        let counting = tokio::task::spawn_blocking(move || {
            let is_about = |series: &Series| series.workspace == wanted.workspace.number() && series.journey == wanted.journey;
            (parts.iter().any(|part| part.fold().knows(is_about)), answer(name, &wanted, &parts))
        });
        let (is_counted, answer) = counting.await.map_err(|_| Refusal::Internal)?;
        // Of one that was deleted the figures stay; of a mistyped one there are none, and no answer that looks like it.
        if !is_counted {
            known(&set, id, workspace, Kind::Journey.as_str(), journey, "")?;
        }
        Ok(answer)
    }
}

// === impl Wanted ===

impl Wanted {
    fn read(
        request: &pb::GetJourneyStatsRequest,
        workspace: WorkspaceId,
        journey: &str,
        kept_from: u32,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let invalid = |reason, message: &str| Refusal::Invalid(reason, message.to_owned());
        let interval = match request.interval() {
            pb::StatsInterval::Unspecified if request.interval != 0 => {
                return Err(invalid("INVALID_ARGUMENT", "interval is TOTAL, DAY or HOUR"));
            }
            pb::StatsInterval::Unspecified => pb::StatsInterval::Total,
            interval @ (pb::StatsInterval::Total | pb::StatsInterval::Day | pb::StatsInterval::Hour) => interval,
        };
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => return Err(invalid("INVALID_PAGE_SIZE", "page_size may not be negative")),
        };
        if request.from < 0 || request.until < 0 {
            return Err(invalid("INVALID_INTERVAL", "from and until may not be negative"));
        }
        // A clock may be a little ahead of this one; nothing is a day ahead.
        let latest = now.millis().saturating_add(Span::from_days(1).millis());
        let until = if request.until == 0 { now.millis().saturating_add(1) } else { request.until.min(latest) };
        if request.from >= until {
            return Err(invalid("INVALID_INTERVAL", "from has to be before until, and before now where there is no until"));
        }
        let whole = if interval == pb::StatsInterval::Day { DAY } else { 1 };
        // Of a day that is forgotten in part nothing is told.
        let first = hour_of(Timestamp::from_millis(request.from)).max(kept_from.next_multiple_of(whole));
        let first = first / whole * whole;
        let last = hour_of(Timestamp::from_millis(until.saturating_sub(1)));
        // Of an interval that lies before all that is kept, nothing is told: no other hours take its place.
        let end = (last / whole + 1).saturating_mul(whole).max(first);
        let asked = pb::GetJourneyStatsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
        let arguments = blake3::hash(format!("{asked:?}").as_bytes()).to_hex()[..16].to_owned();
        let after = (!request.page_token.is_empty()).then(|| {
            let (rest, of) = request.page_token.rsplit_once('.')?;
            let (first, place) = rest.split_once('.')?;
            let (hour, step) = place.split_once('.')?;
            Some((first.parse::<u32>().ok()?, (hour.parse().ok()?, step.to_owned()))).filter(|_| of == arguments)
        });
        let foreign = || invalid("INVALID_PAGE_TOKEN", "the page token is of another question: ask from the first page");
        let (first_before, after) = after.map(|after| after.ok_or_else(foreign)).transpose()?.unzip();
        // The first hour is the place of every total; what is forgotten between two pages must not move rows that were shown behind
        // the page again.
        let first = if interval == pb::StatsInterval::Total { first_before.map_or(first, |before| first.min(before)) } else { first };
        let version = (request.version != 0).then_some(request.version);
        let (journey, hours, steps) = (journey.to_owned(), (first, end), request.steps);
        Ok(Self { workspace, journey, version, interval, steps, hours, size, after, arguments })
    }

    fn is_about(&self, series: &Series) -> bool {
        series.workspace == self.workspace.number()
            && series.journey == self.journey
            && self.version.is_none_or(|version| version == series.version)
    }

    /// The hours in which rows behind the page before may be.
    fn left(&self) -> (u32, u32) {
        let (first, end) = self.hours;
        (self.after.as_ref().map_or(first, |(hour, _)| first.max(*hour).min(end)), end)
    }

    /// Hours of a row.
    fn width(&self) -> u32 {
        match self.interval {
            pb::StatsInterval::Hour => 1,
            pb::StatsInterval::Day => DAY,
            pb::StatsInterval::Total | pb::StatsInterval::Unspecified => u32::MAX,
        }
    }

    fn is_behind(&self, place: &Place) -> bool {
        self.after.as_ref().is_none_or(|after| place > after)
    }

    /// The row to which an hour and step belong.
    fn place(&self, hour: u32, step: &str) -> Place {
        let begin = match self.interval {
            pb::StatsInterval::Hour => hour,
            pb::StatsInterval::Day => hour / DAY * DAY,
            pb::StatsInterval::Total | pb::StatsInterval::Unspecified => self.hours.0,
        };
        (begin, if self.steps { step.to_owned() } else { String::new() })
    }
}

fn answer(name: String, wanted: &Wanted, parts: &[Part]) -> pb::JourneyStats {
    // Before the figures: they may only be further.
    let through = as_of(parts);
    let mut rows = BTreeMap::new();
    let (mut from, end) = wanted.left();
    let mut width = wanted.width();
    // Further and further, only until the page is full and it is known whether there is another: what lies behind is not looked at.
    while from < end && rows.len() <= wanted.size {
        let until = from.saturating_add(width).min(end);
        add_rows(wanted, parts, (from, until), &mut rows);
        (from, width) = (until, width.saturating_mul(2));
    }
    let (mut live, mut missed) = (0, 0_u64);
    for part in parts {
        let fold = part.fold();
        live += fold.live(|series| wanted.is_about(series));
        missed = missed.saturating_add(fold.missed());
    }
    let is_more = rows.len() > wanted.size;
    let last = rows.keys().nth(wanted.size - 1).filter(|_| is_more).cloned();
    let shown = rows.into_iter().take(wanted.size).map(|(place, figures)| row(&place, figures)).collect();
    let next_page_token = last.map_or_else(String::new, |(hour, step)| format!("{}.{hour}.{step}.{}", wanted.hours.0, wanted.arguments));
    pb::JourneyStats {
        name,
        rows: shown,
        as_of: through.map_or(0, Timestamp::millis),
        from: begin_of(wanted.hours.0).millis(),
        until: begin_of(wanted.hours.1).millis(),
        live: u64::try_from(live).unwrap_or_default(),
        missed,
        next_page_token,
    }
}

/// Adds what was counted from one hour until before another to the rows behind the page before.
fn add_rows(wanted: &Wanted, parts: &[Part], (from, until): (u32, u32), rows: &mut BTreeMap<Place, Figures>) {
    for part in parts {
        part.fold().tell(
            |series| wanted.is_about(series),
            from,
            until,
            |series, hour, word, amount| {
                let place = wanted.place(hour, &series.step);
                if let Some((what, reason)) = What::parse(word).filter(|_| wanted.is_behind(&place)) {
                    *rows.entry(place).or_default().entry((what, reason.to_owned())).or_default() += amount;
                }
            },
        );
    }
}

fn row((hour, step): &Place, figures: Figures) -> pb::JourneyStatsRow {
    let mut row = pb::JourneyStatsRow { from: begin_of(*hour).millis(), step: step.clone(), ..pb::JourneyStatsRow::default() };
    for ((what, reason), amount) in figures {
        let count = u64::try_from(amount).unwrap_or_default();
        let total = match what {
            What::Value => {
                row.values.push(pb::StatsValue { currency: reason, minor: amount });
                continue;
            }
            What::Entered => &mut row.entered,
            What::Refused => &mut row.refused,
            What::Rearmed => &mut row.rearmed,
            What::Sent => &mut row.sent,
            What::Stopped => &mut row.stopped,
            What::Recalled => &mut row.recalled,
            What::Accepted => &mut row.accepted,
            What::Delivered => &mut row.delivered,
            What::Opened => &mut row.opened,
            What::Complained => &mut row.complained,
            What::Bounced => &mut row.bounced,
            What::Failed => &mut row.failed,
            What::Expired => &mut row.expired,
            What::Unknown => &mut row.unknown,
            What::Exited => &mut row.exited,
            What::Goals => &mut row.goals,
        };
        *total = total.saturating_add(count);
        if !reason.is_empty() {
            row.reasons.push(pb::StatsReason { what: what.as_str().to_owned(), reason, count });
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn hours(from: i64, until: i64, interval: pb::StatsInterval) -> Result<(u32, u32), &'static str> {
        let request = pb::GetJourneyStatsRequest { from, until, interval: interval.into(), ..pb::GetJourneyStatsRequest::default() };
        let now = Timestamp::from_millis(1_000 * HOUR);
        let read = Wanted::read(&request, WorkspaceId::new(1), "cart", 50, now);
        read.map(|wanted| wanted.hours).map_err(|refusal| refusal.reason())
    }

    #[test]
    fn an_interval_is_the_hours_or_days_that_it_touches_of_those_that_are_kept() {
        use pb::StatsInterval as I;
        for (from, until, interval, expected) in [
            (100 * HOUR, 101 * HOUR, I::Hour, Ok((100, 101))),
            (100 * HOUR + 1, 101 * HOUR + 1, I::Hour, Ok((100, 102))),
            (100 * HOUR, 101 * HOUR, I::Day, Ok((96, 120))),
            (100 * HOUR, 120 * HOUR, I::Day, Ok((96, 120))),
            (100 * HOUR, 120 * HOUR + 1, I::Day, Ok((96, 144))),
            (990 * HOUR, 0, I::Total, Ok((990, 1_001))),
            (0, 0, I::Unspecified, Ok((50, 1_001))),
            (1, 60 * HOUR, I::Hour, Ok((50, 60))),
            (0, 10 * HOUR, I::Hour, Ok((50, 50))),
            (0, 50 * HOUR, I::Total, Ok((50, 50))),
            (0, 50 * HOUR + 1, I::Total, Ok((50, 51))),
            // The day of hour 50 is forgotten in part.
            (0, 60 * HOUR, I::Day, Ok((72, 72))),
            (0, 72 * HOUR + 1, I::Day, Ok((72, 96))),
            (200 * HOUR, 200 * HOUR, I::Hour, Err("INVALID_INTERVAL")),
            (1_001 * HOUR, 0, I::Hour, Err("INVALID_INTERVAL")),
            (-1, 0, I::Hour, Err("INVALID_INTERVAL")),
            (0, i64::MAX, I::Day, Ok((72, 1_032))),
        ] {
            assert_eq!(hours(from, until, interval), expected, "{from} {until} {interval:?}");
        }
    }

    #[test]
    fn a_row_adds_reasons_up_and_tells_them_apart() {
        let figures = [
            ((What::Refused, "NO_CONSENT".to_owned()), 3),
            ((What::Refused, "REENTRY".to_owned()), 1),
            ((What::Entered, String::new()), 5),
            ((What::Value, "EUR".to_owned()), 8_900),
        ];
        let row = row(&(2, "first".to_owned()), figures.into());
        assert_eq!((row.from, row.step.as_str(), row.entered, row.refused), (2 * HOUR, "first", 5, 4));
        assert_eq!(row.values, [pb::StatsValue { currency: "EUR".to_owned(), minor: 8_900 }]);
        let reasons: Vec<_> = row.reasons.iter().map(|r| (r.what.as_str(), r.reason.as_str(), r.count)).collect();
        assert_eq!(reasons, [("refused", "NO_CONSENT", 3), ("refused", "REENTRY", 1)]);
    }
}
