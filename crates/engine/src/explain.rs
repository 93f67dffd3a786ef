//! Explain (PRODUCT §10.1): the stored trail of one profile as an answer to why somebody did or did not
//! get a message. Nothing is evaluated again: what is shown is what was looked at when it was decided.

use std::fmt;

use waypost_codec::{
    inbox::Truth as Stored,
    state::{Check, JourneyProfile, Run, Trail},
};
use waypost_types::{Position, RunId, SendId, Span, Timestamp};

use crate::{condition::Truth, definitions::Workspace};

/// How far back is looked where no interval is given.
const DEFAULT: Span = Span::from_days(7);

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// One journey; none: every one.
    pub journey: Option<&'a str>,
    /// One send; none: everything.
    pub send: Option<SendId>,
    /// Log time from, inclusive; none: seven days before `until`.
    pub from: Option<Timestamp>,
    /// Log time until, inclusive; none: as far as the profile has come.
    pub until: Option<Timestamp>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// One line: what became of it, with the code.
    pub verdict: String,
    /// What was decided, in log order.
    pub entries: Vec<Decided>,
}

/// One decision and what it rested on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Log time.
    pub at: Timestamp,
    /// Journey.
    pub journey: String,
    /// Its version.
    pub version: u32,
    /// The run; none for a refusal.
    pub run: Option<RunId>,
    /// Its key.
    pub key: String,
    /// `ENTERED`, `STOPPED`, …
    pub what: String,
    /// Step.
    pub step: String,
    /// Reason code, exit reason, outcome.
    pub reason: String,
    /// Event name or timer.
    pub cause: String,
    /// Where the record that caused it stands in the orchestrator's inbox.
    pub position: Position,
    /// The send, if it is about one.
    pub send: Option<SendId>,
    /// Predicates and gates, in the order they were looked at.
    pub checks: Vec<Looked>,
    /// Further words.
    pub note: String,
}

/// One predicate or gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// `3 CONSENT`, `exit_on.emptied`, …
    pub what: String,
    /// What it said.
    pub truth: Truth,
    /// What it looked at.
    pub operands: Vec<String>,
    /// When time alone may change it.
    pub valid_until: Option<Timestamp>,
}

/// Answers from what is stored with the profile; definitions only say what would have been considered.
pub fn explain(state: &JourneyProfile, ws: Option<&Workspace>, question: &Question<'_>) -> Explanation {
    let until = question.until.unwrap_or(Timestamp::MAX);
    let from = question.from.unwrap_or_else(|| until.min(Timestamp::from_millis(state.now)).minus(DEFAULT));
    let asked = |trail: &&Trail| {
        let at = Timestamp::from_millis(trail.at);
        question.journey.is_none_or(|j| j == trail.journey)
            && question.send.is_none_or(|s| trail.send.as_ref() == s.as_bytes())
            && from <= at
            && at <= until
    };
    let entries: Vec<Decided> = state.trail.iter().filter(asked).map(decided).collect();
    let verdict = match entries.last() {
        Some(last) => verdict(last, state),
        None => nothing(state, ws, question),
    };
    Explanation { verdict, entries }
}

fn decided(trail: &Trail) -> Decided {
    Decided {
        at: Timestamp::from_millis(trail.at),
        journey: trail.journey.clone(),
        version: trail.version,
        run: RunId::from_slice(&trail.run).ok(),
        key: trail.key.clone(),
        what: trail.what.clone(),
        step: trail.step.clone(),
        reason: trail.reason.clone(),
        cause: trail.cause.clone(),
        position: Position { offset: trail.offset, index: trail.index },
        send: SendId::from_slice(&trail.send).ok(),
        checks: trail.checks.iter().map(looked).collect(),
        note: trail.note.clone(),
    }
}

fn looked(check: &Check) -> Looked {
    let truth = match check.truth() {
        Stored::Yes => Truth::Yes,
        Stored::No => Truth::No,
        Stored::Unknown | Stored::Unspecified => Truth::Unknown,
    };
    Looked {
        what: check.what.clone(),
        truth,
        operands: check.operands.clone(),
        valid_until: (check.valid_until != 0).then(|| Timestamp::from_millis(check.valid_until)),
    }
}

/// What the last decision comes to.
fn verdict(last: &Decided, state: &JourneyProfile) -> String {
    let gate = last.checks.last().filter(|c| !c.truth.is_yes()).and_then(|c| c.what.split(' ').next());
    let gate = gate.filter(|g| g.parse::<u32>().is_ok()).map_or_else(String::new, |g| format!("  gate {g}"));
    let said = match last.what.as_str() {
        "SENT" => format!("SENT  step {}", last.step),
        "STOPPED" => format!("NOT SENT  step {}{gate}  {}", last.step, last.reason),
        "DEFERRED" => format!("NOT SENT YET  step {}{gate}  {} {}", last.step, last.reason, last.note),
        "RECALLED" => format!("RECALLED  step {}  {}", last.step, last.reason),
        "RECEIPT" => format!("{}  step {} {}", last.reason.to_uppercase(), last.step, last.note),
        "REFUSED" => format!("NOT ENTERED  {}", last.reason),
        "EXITED" => format!("EXITED  step {}  {}", last.step, last.reason),
        "WAITING" => format!("WAITING  step {}  {}", last.step, last.note),
        other => format!("{other}  step {}  {}", last.step, last.reason),
    };
    let run = last.run.map_or_else(String::new, |run| {
        let stored = state.runs.iter().find(|r| r.id.as_ref() == run.as_bytes());
        let entered = stored.map_or_else(String::new, |r: &Run| format!(", entered {}", Timestamp::from_millis(r.entered_at)));
        format!("   ({run}, {} version {}{entered}, key {})", last.journey, last.version, last.key)
    });
    format!("{}{run}", said.trim_end())
}

/// Which trigger never came.
fn nothing(state: &JourneyProfile, ws: Option<&Workspace>, question: &Question<'_>) -> String {
    let Some(journey) = question.journey else { return "NOTHING CONSIDERED in this interval".to_owned() };
    let last = state.trail.iter().rfind(|t| t.journey == journey);
    let last = last.map_or_else(|| "never within the stored trail".to_owned(), |t| format!("last at {}", Timestamp::from_millis(t.at)));
    let active = ws.and_then(|ws| ws.journeys.get(journey)).and_then(|v| v.versions.get(&v.active?));
    match active {
        Some(active) => {
            let names: Vec<&str> = active.entries.iter().flat_map(|e| &e.names).map(String::as_str).collect();
            format!("NOTHING CONSIDERED  {journey}: none of {} came in this interval; {last}", names.join(", "))
        }
        None => format!("NOTHING CONSIDERED  {journey} is not in force; {last}"),
    }
}

// === impl Explanation ===

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        for entry in &self.entries {
            let words = [&entry.what, &entry.journey, &entry.step, &entry.reason, &entry.note];
            let words: Vec<&str> = words.into_iter().map(String::as_str).filter(|w| !w.is_empty()).collect();
            writeln!(f, "  {}  {}  ({} at {}/{})", entry.at, words.join("  "), entry.cause, entry.position.offset, entry.position.index)?;
            for check in &entry.checks {
                let until = check.valid_until.map_or_else(String::new, |t| format!("  until {t}"));
                writeln!(f, "      {:<24} {:<8} {}{until}", check.what, check.truth.as_str(), check.operands.join("; "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(at: i64, what: &str, reason: &str, checks: &[(&str, Stored)]) -> Trail {
        let checks = checks.iter().map(|(what, truth)| Check {
            what: (*what).to_owned(),
            truth: (*truth).into(),
            operands: vec!["x = 1".to_owned()],
            valid_until: 0,
        });
        Trail {
            at,
            journey: "cart".to_owned(),
            version: 4,
            run: if what == "REFUSED" { bytes::Bytes::new() } else { bytes::Bytes::from_static(&[7; 16]) },
            key: "k1".to_owned(),
            what: what.to_owned(),
            step: "remind".to_owned(),
            reason: reason.to_owned(),
            checks: checks.collect(),
            cause: "timer delay".to_owned(),
            ..Trail::default()
        }
    }

    fn ask(trail: Vec<Trail>, question: &Question<'_>) -> Explanation {
        explain(&JourneyProfile { trail, now: 10, ..JourneyProfile::default() }, None, question)
    }

    #[test]
    fn the_verdict_is_the_last_decision_with_its_gate() {
        for (entry, verdict) in [
            (
                trail(5, "STOPPED", "CONSENT_MISSING", &[("1 RUN", Stored::Yes), ("3 CONSENT", Stored::No)]),
                "NOT SENT  step remind  gate 3  CONSENT_MISSING",
            ),
            (trail(5, "SENT", "", &[("1 RUN", Stored::Yes)]), "SENT  step remind"),
            (trail(5, "REFUSED", "ENTRY_FILTER", &[("entry.touched.where", Stored::No)]), "NOT ENTERED  ENTRY_FILTER"),
            (trail(5, "EXITED", "GOAL", &[]), "EXITED  step remind  GOAL"),
        ] {
            let answer = ask(vec![trail(1, "ENTERED", "", &[]), entry], &Question::default());
            assert!(answer.verdict.starts_with(verdict), "{}", answer.verdict);
            assert_eq!(answer.entries.len(), 2);
        }
    }

    #[test]
    fn only_what_was_asked_for_is_shown() {
        let all = vec![trail(1, "ENTERED", "", &[]), trail(5, "SENT", "", &[])];
        let question = Question { from: Some(Timestamp::from_millis(2)), ..Question::default() };
        assert_eq!(ask(all.clone(), &question).entries.len(), 1);
        let other = Question { journey: Some("welcome"), ..Question::default() };
        let answer = ask(all.clone(), &other);
        assert_eq!(
            (answer.entries.len(), answer.verdict.as_str()),
            (0, "NOTHING CONSIDERED  welcome is not in force; never within the stored trail")
        );
        let shown = ask(all, &Question::default()).to_string();
        assert!(shown.contains("timer delay at 0/0"), "{shown}");
    }
}
