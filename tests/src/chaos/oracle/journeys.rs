//! Runs and messages of one person against the person's plot.

use std::collections::BTreeMap;

use waypost_codec::public::{Decision, Message};

use super::{Verdict, Wrong};
use crate::chaos::{
    people::{Person, Said, What},
    sink::{Mail, Told},
    story::Fault,
};

/// A stop acknowledged this long before the due instant is in time.
const SLACK: i64 = 2_000;
/// A clock in milliseconds says so much too little.
const TICK: i64 = 2;

/// Steps of the journeys of the run, with the delay before each.
const CART: [(&str, i64); 2] = [("remind", 6_000), ("again", 14_000)];
const GREETINGS: [(&str, i64); 2] = [("greet", 0), ("follow", 8_000)];

/// What, befalling a sender, can cost the answer to a call under way. To leave or join in order does not (PROTOCOL §11.5).
const OF_A_SENDER: [&str; 6] = ["kill", "zombie", "pause", "cut-redis", "cut-kafka", "slow"];

/// Everything told, by what it is about.
pub(super) struct Journeys<'a> {
    decisions: BTreeMap<(&'a str, &'a str), Vec<&'a Decision>>,
    messages: BTreeMap<&'a str, Vec<&'a Message>>,
    mails: BTreeMap<&'a str, Vec<&'a Mail>>,
    faults: &'a [Fault],
}

/// One run as its person's words make it.
struct Run<'p> {
    journey: &'static str,
    key: &'p str,
    steps: &'static [(&'static str, i64)],
    // What began it and began it anew.
    touches: Vec<&'p Said>,
    stops: Vec<&'p Said>,
}

// === impl Run ===

impl<'p> Run<'p> {
    fn of(person: &'p Person) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for said in &person.said {
            let (journey, key, steps): (_, _, &[(&str, i64)]) = match &said.what {
                What::Touched(key) => ("cart-recovery", key, &CART),
                What::Joined(key) => ("greetings", key, &GREETINGS),
                What::Looked | What::Identified | What::Subscribed | What::Ordered(_) | What::OptedOut | What::Pressed => continue,
            };
            match runs.iter_mut().find(|run| run.key == key) {
                Some(run) => run.touches.push(said),
                None => runs.push(Self { journey, key, steps, touches: vec![said], stops: Vec::new() }),
            }
        }
        for run in &mut runs {
            let ends = |said: &&Said| match said.what {
                What::Ordered(_) => true,
                What::OptedOut | What::Pressed => run.journey == "cart-recovery",
                What::Looked | What::Identified | What::Subscribed | What::Touched(_) | What::Joined(_) => false,
            };
            run.stops = person.said.iter().filter(ends).collect();
        }
        runs
    }

    /// How the kinds of its provider's faults begin.
    fn provider(&self) -> &'static str {
        if self.journey == "cart-recovery" { "smtp" } else { "http" }
    }

    /// Whether a stop under the name that began the run was acknowledged in time to prevent a send after `delay`.
    fn prevented(&self, delay: i64) -> bool {
        let Some(last) = self.touches.last() else { return false };
        self.stops.iter().any(|stop| {
            let same = stop.names.iter().any(|name| last.names.contains(name));
            same && stop.acknowledged.is_some_and(|at| at <= last.first_tried + delay - SLACK)
        })
    }

    /// The earliest instant at which a send after `delay` may be decided, given that it was decided at `at`: touches
    /// acknowledged in time before the due instant of an earlier one have moved it.
    fn not_before(&self, delay: i64) -> i64 {
        let mut due = i64::MIN;
        for touch in &self.touches {
            let in_time = due == i64::MIN || touch.acknowledged.is_some_and(|at| at <= due - SLACK);
            if in_time {
                due = due.max(touch.first_tried + delay);
            }
        }
        due
    }
}

// === impl Journeys ===

impl<'a> Journeys<'a> {
    pub(super) fn of(decisions: &'a [Decision], messages: &'a [Message], mails: &'a [Mail], faults: &'a [Fault]) -> Self {
        let mut all = Self { decisions: BTreeMap::new(), messages: BTreeMap::new(), mails: BTreeMap::new(), faults };
        for row in decisions {
            all.decisions.entry((&row.journey, &row.key)).or_default().push(row);
        }
        for row in messages {
            all.messages.entry(&row.send).or_default().push(row);
        }
        for mail in mails {
            all.mails.entry(&mail.subject).or_default().push(mail);
        }
        all
    }

    pub(super) fn judge(&self, verdict: &mut Verdict, person: &Person, profile: Option<&str>) {
        let runs = Run::of(person);
        for run in &runs {
            if run.touches.iter().all(|touch| touch.acknowledged.is_none()) {
                continue;
            }
            verdict.runs.0 += 1;
            let rows = self.decisions.get(&(run.journey, run.key)).map_or(&[][..], Vec::as_slice);
            Self::judge_run(verdict, person, run, rows);
            for &(step, delay) in run.steps {
                self.judge_step(verdict, person, profile, run, rows, step, delay);
            }
        }
    }

    fn judge_run(verdict: &mut Verdict, person: &Person, run: &Run<'_>, rows: &[&Decision]) {
        let number = person.number;
        let count = |what: &str| rows.iter().filter(|row| row.what == what).count();
        let name = format!("run {} {}", run.journey, run.key);
        // A stop that was there before the touch leaves nothing to enter: an order is a thing of the past for later carts.
        match count("ENTERED") {
            0 => verdict.wrong(Wrong::Lost, number, format!("{name} was never entered")),
            1 => {}
            n => verdict.wrong(Wrong::Doubled, number, format!("{name} was entered {n} times")),
        }
        let exits: Vec<&&Decision> = rows.iter().filter(|row| row.what == "EXITED").collect();
        match exits.as_slice() {
            [] => verdict.wrong(Wrong::Lost, number, format!("{name} never ended")),
            [exit] => {
                for row in rows.iter().filter(|row| row.what == "SENT" && row.at > exit.at) {
                    verdict.wrong(Wrong::AfterStop, number, format!("{name} sent {} after it had ended", row.step));
                }
            }
            many => verdict.wrong(Wrong::Doubled, number, format!("{name} ended {} times", many.len())),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one step with all that is known of it")]
    fn judge_step(
        &self,
        verdict: &mut Verdict,
        person: &Person,
        profile: Option<&str>,
        run: &Run<'_>,
        rows: &[&Decision],
        step: &str,
        delay: i64,
    ) {
        let number = person.number;
        let name = format!("{step} {}", run.key);
        let of = |what: &str| rows.iter().filter(|row| row.what == what && row.step == step).copied().collect::<Vec<_>>();
        let (sent, stopped) = (of("SENT"), of("STOPPED"));
        let mails = self.mails.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        if sent.len() > 1 {
            verdict.wrong(Wrong::Doubled, number, format!("{name} was decided {} times", sent.len()));
        }
        let taken = mails.iter().filter(|mail| mail.told != Told::Refused).count();
        if taken > 1 {
            verdict.wrong(Wrong::Doubled, number, format!("{name} went out {taken} times"));
        }
        let not_before = run.not_before(delay);
        for at in mails.iter().map(|mail| mail.at).chain(sent.iter().map(|row| row.at.millis())) {
            if at + TICK < not_before {
                verdict.wrong(Wrong::Early, number, format!("{name} at {at}, due at {not_before}"));
            }
        }
        if run.prevented(delay) {
            verdict.runs.1 += 1;
            if !sent.is_empty() || taken > 0 {
                verdict.wrong(Wrong::AfterStop, number, format!("{name} went out although a stop had come in time"));
            }
            return;
        }
        if sent.is_empty() {
            if taken > 0 {
                verdict.wrong(Wrong::Unexplained, number, format!("{name} went out and nobody decided it"));
            }
            // Until its halves have met a cart of nobody in particular cannot be written about (PROTOCOL §10.6).
            let half = person.merges() && stopped.iter().any(|row| Some(row.profile.as_str()) != profile);
            if run.stops.is_empty() && !half {
                let why: Vec<&str> = stopped.iter().map(|row| row.reason.as_str()).collect();
                verdict.wrong(Wrong::Lost, number, format!("{name} was never sent: {why:?}"));
            }
            return;
        }
        for row in sent {
            self.judge_outcome(verdict, number, &name, run, row, mails);
        }
    }

    fn judge_outcome(&self, verdict: &mut Verdict, number: usize, name: &str, run: &Run<'_>, sent: &Decision, mails: &[&Mail]) {
        let rows = self.messages.get(sent.send.as_str()).map_or(&[][..], Vec::as_slice);
        let Some(last) = rows.last() else {
            verdict.wrong(Wrong::Lost, number, format!("{name} was decided and has no outcome"));
            return;
        };
        match last.name.as_str() {
            "Message Accepted" => {
                if mails.iter().all(|mail| mail.told != Told::Accepted) {
                    verdict.wrong(Wrong::Lost, number, format!("{name} is reported accepted and never arrived"));
                }
            }
            "Message Unknown" => match self.cause(run, sent.at.millis() - 1_000, last.at.millis()) {
                Some(kind) => *verdict.unknown.entry(kind).or_default() += 1,
                None => verdict.wrong(Wrong::Unexplained, number, format!("{name} is unknown and no fault was near: {}", last.reason)),
            },
            // Recalled, or the address was told to be left alone: there was a stop.
            "Message Failed" if !run.stops.is_empty() && mails.iter().all(|mail| mail.told != Told::Accepted) => {}
            "Message Failed" if mails.iter().any(|mail| mail.told == Told::Refused) => {}
            other => verdict.wrong(Wrong::Unexplained, number, format!("{name} ended as {other} {}", last.reason)),
        }
    }

    /// A fault that lasted at some moment between the decision and the report, and can have cost the answer.
    fn cause(&self, run: &Run<'_>, from: i64, until: i64) -> Option<&'static str> {
        let near = self.faults.iter().filter(|fault| fault.touches(from, until));
        let causes = near.filter(|fault| {
            let of_sender = fault.target.starts_with("sender") && OF_A_SENDER.contains(&fault.kind);
            let of_server = fault.kind.starts_with("redis") || fault.kind == "broker";
            of_sender || of_server || fault.kind.starts_with(run.provider())
        });
        causes.map(|fault| fault.kind).next()
    }
}

#[cfg(test)]
mod tests;
