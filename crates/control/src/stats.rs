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
struct Wanted<'a> {
    workspace: WorkspaceId,
    journey: &'a str,
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
    pub(crate) fn stats(&self, request: &pb::GetJourneyStatsRequest) -> Result<pb::JourneyStats, Refusal> {
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
        // Of one that was deleted the figures stay; of a mistyped one there are none, and no answer that looks like it.
        if !parts.iter().any(|part| part.fold().knows(|series| series.workspace == id.number() && series.journey == journey)) {
            known(&set, id, workspace, Kind::Journey.as_str(), journey, "")?;
        }
        Ok(answer(&request.name, &wanted, &parts))
    }
}

// === impl Wanted ===

impl<'a> Wanted<'a> {
    fn read(
        request: &pb::GetJourneyStatsRequest,
        workspace: WorkspaceId,
        journey: &'a str,
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
        let last = hour_of(Timestamp::from_millis(until.saturating_sub(1))).max(first);
        let hours = (first / whole * whole, (last / whole + 1).saturating_mul(whole));
        let asked = pb::GetJourneyStatsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
        let arguments = blake3::hash(format!("{asked:?}").as_bytes()).to_hex()[..16].to_owned();
        let after = (!request.page_token.is_empty()).then(|| {
            let (place, of) = request.page_token.rsplit_once('.')?;
            let (hour, step) = place.split_once('.')?;
            Some((hour.parse().ok()?, step.to_owned())).filter(|_| of == arguments)
        });
        let foreign = || invalid("INVALID_PAGE_TOKEN", "the page token is of another question: ask from the first page");
        let after = after.map(|after| after.ok_or_else(foreign)).transpose()?;
        let version = (request.version != 0).then_some(request.version);
        Ok(Self { workspace, journey, version, interval, steps: request.steps, hours, size, after, arguments })
    }

    fn is_about(&self, series: &Series) -> bool {
        series.workspace == self.workspace.number()
            && series.journey == self.journey
            && self.version.is_none_or(|version| version == series.version)
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

fn answer(name: &str, wanted: &Wanted<'_>, parts: &[Part]) -> pb::JourneyStats {
    let mut rows: BTreeMap<Place, Figures> = BTreeMap::new();
    let (mut live, mut missed) = (0, 0_u64);
    // Before the figures: they may only be further.
    let through = as_of(parts);
    for part in parts {
        let fold = part.fold();
        fold.tell(
            |series| wanted.is_about(series),
            wanted.hours.0,
            wanted.hours.1,
            |series, hour, word, amount| {
                if let Some((what, reason)) = What::parse(word) {
                    *rows.entry(wanted.place(hour, &series.step)).or_default().entry((what, reason.to_owned())).or_default() += amount;
                }
            },
        );
        live += fold.live(|series| wanted.is_about(series));
        missed = missed.saturating_add(fold.missed());
    }
    let mut rest = rows.into_iter().filter(|(place, _)| wanted.after.as_ref().is_none_or(|after| place > after)).peekable();
    let mut shown = Vec::new();
    let mut last = None;
    while let Some((place, figures)) = rest.next() {
        shown.push(row(&place, figures));
        if shown.len() == wanted.size {
            last = rest.peek().is_some().then_some(place);
            break;
        }
    }
    let next_page_token = last.map_or_else(String::new, |(hour, step)| format!("{hour}.{step}.{}", wanted.arguments));
    pb::JourneyStats {
        name: name.to_owned(),
        rows: shown,
        as_of: through.map_or(0, Timestamp::millis),
        from: begin_of(wanted.hours.0).millis(),
        until: begin_of(wanted.hours.1).millis(),
        live: u64::try_from(live).unwrap_or_default(),
        missed,
        next_page_token,
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
            (0, 10 * HOUR, I::Hour, Ok((50, 51))),
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
