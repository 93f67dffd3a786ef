//! `stats`: what a journey has done, counted.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use waypost_proto::control::{self as pb, journey_service_client::JourneyServiceClient};
use waypost_types::Currency;

use crate::{
    audits,
    commands::{Done, Session},
    output,
};

/// A column: its title, its field in JSON, and its figure.
type Column = (&'static str, &'static str, fn(&pb::JourneyStatsRow) -> u64);

/// All figures of a row. Those of the first kind always have a column, the others where something happened.
const ALWAYS: [Column; 6] = [
    ("ENTERED", "entered", |row| row.entered),
    ("REFUSED", "refused", |row| row.refused),
    ("SENT", "sent", |row| row.sent),
    ("ACCEPTED", "accepted", |row| row.accepted),
    ("GOALS", "goals", |row| row.goals),
    ("EXITED", "exited", |row| row.exited),
];
const SOMETIMES: [Column; 10] = [
    ("REARMED", "rearmed", |row| row.rearmed),
    ("STOPPED", "stopped", |row| row.stopped),
    ("RECALLED", "recalled", |row| row.recalled),
    ("DELIVERED", "delivered", |row| row.delivered),
    ("OPENED", "opened", |row| row.opened),
    ("COMPLAINED", "complained", |row| row.complained),
    ("BOUNCED", "bounced", |row| row.bounced),
    ("FAILED", "failed", |row| row.failed),
    ("EXPIRED", "expired", |row| row.expired),
    ("UNKNOWN", "unknown", |row| row.unknown),
];

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Its name, or `journeys/NAME`
    journey: String,
    /// From then on: an instant, as 2026-11-23T08:00:00Z, or so long ago, as 2h; the hour or day that holds it begins the answer
    #[arg(long, value_name = "TIME", default_value = "7d")]
    since: String,
    /// Until then; without it until now
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// A row for each hour, for each day (of UTC), or one for all
    #[arg(long, value_enum, default_value_t = By::Total)]
    by: By,
    /// A row for each step
    #[arg(long)]
    steps: bool,
    /// Only what this version decided; what became of messages is told by no version and left out
    #[arg(long = "version", value_name = "VERSION")]
    of_version: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Hour,
    Day,
    Total,
}

// === impl By ===

impl By {
    fn interval(self) -> pb::StatsInterval {
        match self {
            Self::Hour => pb::StatsInterval::Hour,
            Self::Day => pb::StatsInterval::Day,
            Self::Total => pb::StatsInterval::Total,
        }
    }
}

// === impl Session ===

impl Session {
    pub(crate) async fn stats(&self, wanted: Stats) -> anyhow::Result<Done> {
        let now = audits::now();
        let until = wanted.until.map(|text| audits::instant(&text, now)).transpose()?;
        let mut request = pb::GetJourneyStatsRequest {
            name: self.journey(&wanted.journey),
            version: wanted.of_version.unwrap_or_default(),
            from: audits::instant(&wanted.since, now)?,
            // All pages are about the same time.
            until: until.unwrap_or_else(|| now.millis()),
            interval: wanted.by.interval().into(),
            steps: wanted.steps,
            page_size: 1_000,
            page_token: String::new(),
        };
        let mut client = JourneyServiceClient::new(self.channel.clone());
        let mut all = client.get_journey_stats(request.clone()).await?.into_inner();
        while !all.next_page_token.is_empty() {
            request.page_token.clone_from(&all.next_page_token);
            let page = client.get_journey_stats(request.clone()).await?.into_inner();
            all.rows.extend(page.rows);
            all.next_page_token = page.next_page_token;
        }
        let answer = &all;
        Ok(self.show(&json_of(answer), || text(answer, wanted.by, wanted.steps), || vec![answer.name.clone()]))
    }
}

fn json_of(answer: &pb::JourneyStats) -> Value {
    json!({"name": answer.name, "from": output::time(answer.from), "until": output::time(answer.until),
        "asOf": output::time(answer.as_of), "live": answer.live, "missed": answer.missed,
        "rows": answer.rows.iter().map(row).collect::<Vec<_>>()})
}

fn row(row: &pb::JourneyStatsRow) -> Value {
    let mut json = Map::new();
    json.insert("from".to_owned(), output::time(row.from).into());
    json.insert("step".to_owned(), row.step.clone().into());
    for (_, field, figure) in ALWAYS.iter().chain(&SOMETIMES) {
        json.insert((*field).to_owned(), figure(row).into());
    }
    let values: Vec<_> = row.values.iter().map(|value| json!({"currency": value.currency, "minor": value.minor})).collect();
    json.insert("values".to_owned(), values.into());
    let reasons: Vec<_> = row.reasons.iter().map(|r| json!({"what": r.what, "reason": r.reason, "count": r.count})).collect();
    json.insert("reasons".to_owned(), reasons.into());
    json.into()
}

fn text(answer: &pb::JourneyStats, by: By, steps: bool) -> String {
    let rows = &answer.rows;
    let sometimes: Vec<&Column> = SOMETIMES.iter().filter(|(_, _, figure)| rows.iter().any(|row| figure(row) > 0)).collect();
    let has_value = rows.iter().any(|row| !row.values.is_empty());
    let columns: Vec<&Column> = ALWAYS.iter().chain(sometimes).collect();
    let mut header = Vec::new();
    header.extend((by != By::Total).then_some("FROM"));
    header.extend(steps.then_some("STEP"));
    header.extend(columns.iter().map(|(title, ..)| *title));
    header.extend(has_value.then_some("VALUE"));
    let cells = rows.iter().map(|row| {
        let mut cells = Vec::new();
        cells.extend((by != By::Total).then(|| output::time(row.from)));
        cells.extend(steps.then(|| if row.step.is_empty() { "-".to_owned() } else { row.step.clone() }));
        cells.extend(columns.iter().map(|(_, _, figure)| figure(row).to_string()));
        cells.extend(has_value.then(|| row.values.iter().map(money).collect::<Vec<_>>().join(", ")));
        cells
    });
    let mut lines = if rows.is_empty() { vec!["nothing happened in that time".to_owned()] } else { vec![output::table(&header, cells)] };
    lines.extend(reasons(rows));
    let through = if answer.as_of == 0 { "not yet known how far".to_owned() } else { format!("through {}", output::time(answer.as_of)) };
    lines.push(format!("{} until {}, counted {through}; {} live", output::time(answer.from), output::time(answer.until), answer.live));
    if answer.missed > 0 {
        lines.push(format!("too low: {} rows of all journeys fell to retention before they were counted", answer.missed));
    }
    lines.join("\n")
}

/// A line for each figure that has reasons, the most frequent ones first.
fn reasons(rows: &[pb::JourneyStatsRow]) -> Vec<String> {
    let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for reason in rows.iter().flat_map(|row| &row.reasons) {
        *sums.entry((&reason.what, &reason.reason)).or_default() += reason.count;
    }
    let mut by_what: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    for ((what, reason), count) in sums {
        by_what.entry(what).or_default().push((count, reason));
    }
    let line = |(what, mut reasons): (&str, Vec<(u64, &str)>)| {
        reasons.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let told: Vec<_> = reasons.into_iter().map(|(count, reason)| format!("{reason} {count}")).collect();
        format!("{what}: {}", told.join(", "))
    };
    by_what.into_iter().map(line).collect()
}

fn money(value: &pb::StatsValue) -> String {
    Currency::parse(&value.currency).map_or_else(|| format!("{} {}", value.minor, value.currency), |c| c.format(value.minor))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        stats: Stats,
    }

    fn answer() -> pb::JourneyStats {
        let reason = |what: &str, reason: &str, count| pb::StatsReason { what: what.into(), reason: reason.into(), count };
        let first = pb::JourneyStatsRow {
            from: 3_600_000,
            step: "first".into(),
            entered: 5,
            refused: 4,
            goals: 1,
            bounced: 1,
            values: vec![pb::StatsValue { currency: "EUR".into(), minor: 8_900 }],
            reasons: vec![reason("refused", "NO_CONSENT", 1), reason("refused", "REENTRY", 3)],
            ..pb::JourneyStatsRow::default()
        };
        let second =
            pb::JourneyStatsRow { from: 7_200_000, refused: 3, reasons: vec![reason("refused", "NO_CONSENT", 3)], ..first.clone() };
        let rows = vec![first, second];
        pb::JourneyStats { name: "n".into(), rows, as_of: 8_000_000, from: 0, until: 9_000_000, live: 4, ..pb::JourneyStats::default() }
    }

    #[test]
    fn a_table_has_the_columns_in_which_something_happened_and_says_how_far_it_is() {
        let shown = text(&answer(), By::Hour, true);
        let lines: Vec<&str> = shown.lines().collect();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(words(lines[0]), "FROM STEP ENTERED REFUSED SENT ACCEPTED GOALS EXITED BOUNCED VALUE");
        assert_eq!(words(lines[1]), "1970-01-01T01:00:00Z first 5 4 0 0 1 0 1 89.00 EUR");
        assert_eq!(lines[3], "refused: NO_CONSENT 4, REENTRY 3");
        assert!(lines[4].ends_with("counted through 1970-01-01T02:13:20Z; 4 live"), "{}", lines[4]);
        assert_eq!(lines.len(), 5);
        let total = text(&pb::JourneyStats { missed: 7, ..answer() }, By::Total, false);
        assert!(total.trim_start().starts_with("ENTERED") && total.contains("too low: 7 rows"), "{total}");
        let nothing = text(&pb::JourneyStats::default(), By::Total, false);
        assert!(nothing.starts_with("nothing happened") && nothing.contains("not yet known"), "{nothing}");
    }

    #[test]
    fn machines_get_every_figure() {
        let json = json_of(&answer());
        let row = &json["rows"][0];
        assert_eq!((&row["entered"], &row["opened"], &row["values"][0]["minor"]), (&json!(5), &json!(0), &json!(8_900)));
        assert_eq!(row["reasons"][1], json!({"what": "refused", "reason": "REENTRY", "count": 3}));
        assert_eq!(json["asOf"], "1970-01-01T02:13:20Z");
    }

    #[test]
    fn without_flags_it_is_one_row_of_seven_days() {
        let line = Line::parse_from(["stats", "cart"]).stats;
        assert_eq!((line.since.as_str(), line.by, line.steps), ("7d", By::Total, false));
        assert!(Line::try_parse_from(["stats", "cart", "--by", "week"]).is_err());
        assert_eq!(Line::parse_from(["stats", "cart", "--version", "3"]).stats.of_version, Some(3));
    }
}
