//! What was measured, as text for people and as JSON.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value as Json, json};
use waypost_types::{ProfileId, Role};

use super::{
    answers::{Answer, Answers},
    traffic::Sent,
};

/// Behind this no pipeline keeps up with what it gets.
const BEHIND: Duration = Duration::from_secs(2);
/// Beyond this the bench itself was what was slow.
const LATE: Duration = Duration::from_millis(500);
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// A role's lag: at the end of the traffic, and the greatest within it.
type Lags = BTreeMap<Role, (Duration, Duration)>;

/// All of it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) run: String,
    pub(super) workspace: String,
    /// Number of the definitions that were in force when it began, and when it ended.
    pub(super) definitions: (u64, u64),
    /// Journeys that were in force.
    pub(super) journeys: Vec<String>,
    /// Events a second, as asked for.
    pub(super) rate: u32,
    pub(super) sent: Sent,
    pub(super) lags: Lags,
    /// Behind the end of the traffic, until nothing waited any more.
    pub(super) caught_up: Option<Duration>,
    pub(super) answers: Answers,
    /// Somebody ended it before its time.
    pub(super) interrupted: bool,
}

// === impl Report ===

impl Report {
    /// What is wrong with what came; nothing, where all is well.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let answers = &self.answers;
        if self.interrupted {
            faults.push("it was interrupted: the figures are of a part".to_owned());
        }
        let lost = answers.lost();
        if lost > 0 {
            let changed = if self.definitions.0 == self.definitions.1 { "" } else { "; but definitions changed meanwhile: measure again" };
            faults.push(format!("{lost} decisions never came that came of other shoppers who did the same{changed}"));
        }
        if answers.doubled > 0 {
            faults.push(format!("{} runs were said twice to have begun or ended", answers.doubled));
        }
        if answers.sent > 0 {
            faults.push(format!(
                "{} sends of made-up people went to the sender, though nobody of them has an address: please report it",
                answers.sent
            ));
        }
        faults
    }

    /// Events a second, as they were taken.
    fn achieved(&self) -> f64 {
        let seconds = self.sent.took.as_secs_f64();
        if seconds > 0.0 { as_float(self.sent.events) / seconds } else { 0.0 }
    }

    /// Whether what was sent was folded about as soon as it came.
    fn kept_up(&self) -> bool {
        self.lags.values().all(|(last, _)| *last <= BEHIND)
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!(
            "{} events in {:.1} s, {:.1} a second (asked for: {}), of {} people; the bench itself was late by {} at most",
            self.sent.events,
            self.sent.took.as_secs_f64(),
            self.achieved(),
            self.rate,
            self.answers.people(),
            millis(self.sent.latest)
        )];
        if self.sent.latest > LATE {
            lines.push("the bench itself could not keep the rate: these figures are of it and not of the installation".to_owned());
        }
        let mut lags = vec![["lag", "at the end", "max"].map(str::to_owned).to_vec()];
        lags.extend(self.lags.iter().map(|(role, (last, most))| vec![role.to_string(), seconds(*last), seconds(*most)]));
        lines.extend(table(&lags));
        lines.push(match (self.kept_up(), self.caught_up) {
            (true, _) => "at the last event it was up to date (lag is seen to within half a second)".to_owned(),
            (false, Some(after)) => format!("it did not keep up: it was through {:.1} s behind the last event", after.as_secs_f64()),
            (false, None) => "it did not keep up, and was not through when the wait for it was over".to_owned(),
        });
        let answers = self.answers.answers();
        if answers.is_empty() {
            lines.push("no journey reacted to these shoppers: there is no latency to tell, only rate and lag".to_owned());
            let journeys = if self.journeys.is_empty() { "none".to_owned() } else { self.journeys.join(", ") };
            lines.push(format!("(shoppers do {}; journeys in force: {journeys})", super::plan::ONCE.join(", ")));
        } else {
            let mut rows = vec![["journey", "decision", "by", "came"].map(str::to_owned).to_vec()];
            rows[0].extend(QUANTILES.map(|(name, _)| name.to_owned()));
            rows.extend(answers.iter().map(row));
            lines.push("from the intended send time of an event to the decision as it was read back:".to_owned());
            lines.extend(table(&rows));
        }
        lines.push(format!("{} lost, {} doubled, of {} decisions", self.answers.lost(), self.answers.doubled, self.answers.decisions));
        lines.push(format!("{} sent; nobody here has an address or a consent", self.answers.sent));
        let why = |(of, count): (&(String, String), &u64), what: &str| format!("{what}: {} {} {count}", of.0, of.1);
        lines.extend(self.answers.stopped.iter().map(|line| why(line, "sends stopped")));
        lines.extend(self.answers.refused.iter().map(|line| why(line, "entries refused")));
        lines.join("\n")
    }

    /// The same for machines. `left` is whose mark is left, where everybody is erased.
    pub(super) fn json(&self, left: Option<&[ProfileId]>) -> Json {
        let lag = |lag: Duration| json!(lag.as_secs_f64());
        let answers = self.answers.answers();
        let answer = |answer: &Answer| {
            let quantiles: serde_json::Map<_, _> =
                QUANTILES.into_iter().map(|(name, quantile)| (name.to_owned(), json!(in_millis(answer.at(quantile))))).collect();
            json!({
                "journey": answer.question.journey, "decision": answer.question.what, "by": answer.question.by,
                "asked": answer.asked, "came": answer.histogram.len(), "lost": answer.lost, "ms": quantiles,
            })
        };
        let counts = |counts: &BTreeMap<(String, String), u64>| {
            counts
                .iter()
                .map(|((journey, reason), count)| json!({"journey": journey, "reason": reason, "count": count}))
                .collect::<Vec<_>>()
        };
        json!({
            "run": self.run,
            "workspace": self.workspace,
            "definitions": self.definitions.0,
            "journeys": self.journeys,
            "events": self.sent.events,
            "people": self.answers.people(),
            "seconds": self.sent.took.as_secs_f64(),
            "rate": {"asked": self.rate, "achieved": self.achieved()},
            "bench_late_ms_max": in_millis(self.sent.latest),
            "lag_s": self.lags.iter().map(|(role, (last, most))| (role.to_string(), json!({"end": lag(*last), "max": lag(*most)})))
                .collect::<serde_json::Map<_, _>>(),
            "kept_up": self.kept_up(),
            "caught_up_after_s": self.caught_up.map(lag),
            "answers": answers.iter().map(answer).collect::<Vec<_>>(),
            "decisions": self.answers.decisions,
            "lost": self.answers.lost(),
            "doubled": self.answers.doubled,
            "sent": self.answers.sent,
            "stopped": counts(&self.answers.stopped),
            "refused": counts(&self.answers.refused),
            "faults": self.faults(),
            "erased": left.is_some(),
            "profiles": left.unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

fn row(answer: &Answer) -> Vec<String> {
    let question = &answer.question;
    let came = format!("{} of {}", answer.histogram.len(), answer.asked);
    let mut row = vec![question.journey.clone(), question.what.clone(), question.by.to_owned(), came];
    row.extend(QUANTILES.map(|(_, quantile)| millis(answer.at(quantile))));
    row
}

/// Columns as wide as what is in them; the first line is their names.
fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("  {}", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", in_millis(duration))
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn in_millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "a count of events, for a quotient that is rounded anyway")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            run: "0-1-2".to_owned(),
            workspace: "default".to_owned(),
            definitions: (4, 4),
            journeys: vec!["winback".to_owned()],
            rate: 100,
            sent: Sent { events: 6_000, took: Duration::from_mins(1), latest: Duration::from_millis(3) },
            lags: BTreeMap::from([(Role::Identity, (Duration::from_millis(300), Duration::from_millis(900)))]),
            caught_up: Some(Duration::from_secs(1)),
            answers: Answers::default(),
            interrupted: false,
        }
    }

    #[test]
    fn silence_of_all_journeys_is_said_and_is_no_fault() {
        let report = report();
        assert!(
            report.text().contains("no journey reacted") && report.text().contains("100.0 a second (asked for: 100)"),
            "{}",
            report.text()
        );
        assert!(report.text().contains("  identity  0.30 s      0.90 s"), "{}", report.text());
        assert_eq!(report.faults(), Vec::<String>::new());
        assert_eq!(report.json(None)["erased"], false);
    }

    #[test]
    fn what_makes_the_figures_worthless_is_a_fault() {
        for (what, spoil) in [
            ("interrupted", (|r| r.interrupted = true) as fn(&mut Report)),
            ("said twice", |r| r.answers.doubled = 1),
            ("went to the sender", |r| r.answers.sent = 1),
        ] {
            let mut report = report();
            spoil(&mut report);
            assert!(report.faults().concat().contains(what), "{what}: {:?}", report.faults());
        }
    }

    #[test]
    fn who_falls_behind_is_told_so() {
        let mut report = report();
        report.lags.insert(Role::Segmenter, (Duration::from_secs(7), Duration::from_secs(7)));
        assert!(report.text().contains("did not keep up: it was through 1.0 s"), "{}", report.text());
        assert_eq!(report.json(Some(&[]))["kept_up"], false);
    }
}
