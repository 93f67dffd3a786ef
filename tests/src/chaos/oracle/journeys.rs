//! Runs and messages of one person against the person's plot.

use std::collections::BTreeMap;

use waypost_codec::public::{Decision, Message};

use super::{Unknown, Verdict, Wrong, doubts::Doubts};
use crate::chaos::{
    people::{Person, Said, What},
    sink::{Mail, Told},
    story::Fault,
};

/// A stop acknowledged this long before the due instant is in time.
const SLACK: i64 = 2_000;
/// A clock in milliseconds says so much too little.
const TICK: i64 = 2;

/// A call or its answer can be on its way for so long: a fault that came later did not cost it.
const CALL: i64 = 10_000;

/// What a fault held up is behind for so long after it: a session times out after ten seconds, and its successor catches up.
const BEHIND: i64 = 15_000;

/// A journey of the run, as its file has it.
struct Plan {
    name: &'static str,
    // With the delay before each.
    steps: &'static [(&'static str, i64)],
    way: Way,
}

/// How its messages go out, which decides what may become of them (PROTOCOL §1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Marketing, no key: once at most, and a call without an answer is unknown.
    Smtp,
    /// Marketing under a key whose window is longer than any run: once, and known.
    Keyed,
    /// Transactional, no key: once at least, and again only after a doubt.
    Plain,
}

const CART: Plan = Plan { name: "cart-recovery", steps: &[("remind", 6_000), ("again", 14_000)], way: Way::Smtp };
const GREETINGS: Plan = Plan { name: "greetings", steps: &[("greet", 0), ("follow", 8_000)], way: Way::Keyed };
const TICKETS: Plan = Plan { name: "tickets", steps: &[("answer", 0)], way: Way::Plain };

/// What, befalling a sender, can cost the answer to a call under way. To leave or join in order does not (PROTOCOL §11.5).
const OF_A_SENDER: [&str; 6] = ["kill", "zombie", "pause", "cut-redis", "cut-kafka", "slow"];

/// Everything told, by what it is about.
pub(super) struct Journeys<'a> {
    decisions: BTreeMap<(&'a str, &'a str), Vec<&'a Decision>>,
    messages: BTreeMap<&'a str, Vec<&'a Message>>,
    mails: BTreeMap<&'a str, Vec<&'a Mail>>,
    faults: &'a [Fault],
    doubts: &'a BTreeMap<String, Doubts>,
}

/// One run as its person's words make it.
struct Run<'p> {
    plan: &'static Plan,
    key: &'p str,
    // What began it and began it anew.
    touches: Vec<&'p Said>,
    stops: Vec<&'p Said>,
}

// === impl Run ===

impl<'p> Run<'p> {
    fn of(person: &'p Person) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for said in &person.said {
            let (plan, key) = match &said.what {
                What::Touched(key) => (&CART, key),
                What::Joined(key) => (&GREETINGS, key),
                What::Asked(key) => (&TICKETS, key),
                What::Looked | What::Identified | What::Subscribed(_) | What::Ordered(_) | What::OptedOut | What::Pressed => continue,
            };
            match runs.iter_mut().find(|run| run.key == key) {
                Some(run) => run.touches.push(said),
                None => runs.push(Self { plan, key, touches: vec![said], stops: Vec::new() }),
            }
        }
        for run in &mut runs {
            let way = run.plan.way;
            let ends = |said: &&Said| match said.what {
                What::Ordered(_) => way != Way::Plain,
                What::OptedOut | What::Pressed => way == Way::Smtp,
                What::Looked | What::Identified | What::Subscribed(_) | What::Touched(_) | What::Joined(_) | What::Asked(_) => false,
            };
            run.stops = person.said.iter().filter(ends).collect();
        }
        runs
    }

    /// How the kinds of its provider's faults begin.
    fn provider(&self) -> &'static str {
        match self.plan.way {
            Way::Smtp => "smtp",
            Way::Keyed | Way::Plain => "http",
        }
    }

    /// Whether a stop under the name that began the run was acknowledged in time to prevent a send after `delay`.
    fn prevented(&self, delay: i64) -> bool {
        let Some(last) = self.touches.last() else { return false };
        self.stops.iter().any(|stop| {
            let same = stop.names.iter().any(|name| last.names.contains(name));
            same && stop.acknowledged.is_some_and(|at| at <= self.not_before(delay) - SLACK)
        })
    }

    /// Whether a stop can be why a send after `delay` was not decided: it was tried at or before the due instant plus
    /// slack, or while faults held the decision up, for what may not fire yet loses to the stop that arrives (PROTOCOL §8.4).
    /// A run goes on only when the outcome of its send before is known, at `resumed`.
    fn excused(&self, delay: i64, resumed: Option<i64>, faults: &[Fault]) -> bool {
        let last = self.touches.iter().filter_map(|touch| touch.acknowledged).max();
        let due = last.map_or(i64::MAX, |at| (at + delay).max(resumed.unwrap_or(at)) + SLACK);
        let held = |at: i64| faults.iter().any(|fault| delays(fault) && fault.touches(at - BEHIND, at));
        self.stops.iter().any(|stop| stop.first_tried <= due || (held(due) && held(stop.first_tried)))
    }

    /// The earliest instant at which a send after `delay` may be decided: a touch that was acknowledged in time before the
    /// first send was due has begun the run anew. One that comes later moves nothing.
    fn not_before(&self, delay: i64) -> i64 {
        let first = self.plan.steps.first().map_or(0, |(_, delay)| *delay);
        let mut began = None;
        for touch in &self.touches {
            let in_time = |began: i64| touch.acknowledged.is_some_and(|at| at <= began + first - SLACK);
            if began.is_none_or(in_time) {
                began = began.max(Some(touch.first_tried));
            }
        }
        began.map_or(i64::MIN, |began| began + delay)
    }
}

/// Whether it holds up decisions: it befalls the servers, or whoever an event passes until one is made.
fn delays(fault: &Fault) -> bool {
    let of_server = fault.kind.starts_with("redis") || fault.kind == "broker";
    of_server || ["identity", "segmenter", "orchestrator"].iter().any(|role| fault.target.starts_with(role))
}

// === impl Journeys ===

impl<'a> Journeys<'a> {
    pub(super) fn of(
        decisions: &'a [Decision],
        messages: &'a [Message],
        mails: &'a [Mail],
        (faults, doubts): (&'a [Fault], &'a BTreeMap<String, Doubts>),
    ) -> Self {
        let mut all = Self { decisions: BTreeMap::new(), messages: BTreeMap::new(), mails: BTreeMap::new(), faults, doubts };
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
            let rows = self.decisions.get(&(run.plan.name, run.key)).map_or(&[][..], Vec::as_slice);
            Self::judge_run(verdict, person, run, rows);
            for &(step, delay) in run.plan.steps {
                self.judge_step(verdict, person, profile, run, rows, step, delay);
            }
        }
    }

    fn judge_run(verdict: &mut Verdict, person: &Person, run: &Run<'_>, rows: &[&Decision]) {
        let number = person.number;
        let count = |what: &str| rows.iter().filter(|row| row.what == what).count();
        let name = format!("run {} {}", run.plan.name, run.key);
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
        let doubts = self.doubts.get(&name).map_or(0, |doubts| doubts.followed);
        let most = if run.plan.way == Way::Plain { 1 + doubts } else { 1 };
        if taken > most {
            verdict.wrong(Wrong::Doubled, number, format!("{name} went out {taken} times, with {doubts} attempts in doubt"));
        }
        if run.plan.way == Way::Plain {
            verdict.tickets.0 += 1;
            verdict.tickets.1 += taken.saturating_sub(1);
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
            if !half && !run.excused(delay, self.resumed(run, rows, step), self.faults) {
                let why: Vec<&str> = stopped.iter().map(|row| row.reason.as_str()).collect();
                verdict.wrong(Wrong::Lost, number, format!("{name} was never sent: {why:?}"));
            }
            return;
        }
        for row in sent {
            self.judge_outcome(verdict, number, &name, run, row, mails);
        }
    }

    /// When the outcome of the send before `step` was known, where a fault of its provider or its sender can have held it up.
    fn resumed(&self, run: &Run<'_>, rows: &[&Decision], step: &str) -> Option<i64> {
        let before = run.plan.steps.iter().take_while(|(of, _)| *of != step).last()?.0;
        let at = |what: &str| rows.iter().find(|row| row.what == what && row.step == before).map(|row| row.at.millis());
        let (sent, known) = at("SENT").zip(at("RECEIPT"))?;
        let held = |fault: &Fault| fault.kind.starts_with(run.provider()) || fault.target.starts_with("sender");
        self.faults.iter().any(|fault| held(fault) && fault.touches(sent - BEHIND, known)).then_some(known)
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
            "Message Unknown" if run.plan.way == Way::Plain => {
                verdict.wrong(Wrong::Unexplained, number, format!("{name} must arrive, and nobody knows whether it did"));
            }
            // A recall that meets a doubt: it must not be sent again, and so nobody learns what came of it.
            "Message Unknown" if run.plan.way == Way::Keyed && (run.stops.is_empty() || !last.detail.contains("\"raced\":true")) => {
                verdict.wrong(Wrong::Unexplained, number, format!("{name} is unknown, and its provider would have known its key"));
            }
            "Message Unknown" => {
                let since = self.doubts.get(name).and_then(|doubts| doubts.since).unwrap_or(sent.at).millis();
                match self.cause(run, since, last.at.millis()) {
                    Some(fault) => verdict.unknown.push(Unknown { message: name.to_owned(), since, fault: (fault.kind, fault.number) }),
                    None => verdict.wrong(Wrong::Unexplained, number, format!("{name} is unknown and no fault was near: {}", last.reason)),
                }
            }
            // Recalled, or the address was told to be left alone: there was a stop.
            "Message Failed" if !run.stops.is_empty() && mails.iter().all(|mail| mail.told != Told::Accepted) => {}
            "Message Failed" if mails.iter().any(|mail| mail.told == Told::Refused) => {}
            other => verdict.wrong(Wrong::Unexplained, number, format!("{name} ended as {other} {}", last.reason)),
        }
    }

    /// The fault that cost the answer to a call begun at `since` and reported as unknown at `until`. Of those that can
    /// have: its provider's or its sender's, whichever was there first, and its provider's where both were; else one of
    /// a server, which as such costs no answer, but may end the process that waits for it.
    fn cause(&self, run: &Run<'_>, since: i64, until: i64) -> Option<&Fault> {
        let near = self.faults.iter().filter(|fault| fault.touches(since - SLACK, until.min(since + CALL)));
        let rank = |fault: &&Fault| {
            let of_sender = fault.target.starts_with("sender") && OF_A_SENDER.contains(&fault.kind);
            let of_server = fault.kind.starts_with("redis") || fault.kind == "broker";
            let of_provider = fault.kind.starts_with(run.provider());
            let can = of_provider || of_sender || of_server;
            let rank = (!of_provider && !of_sender, (fault.from - since).max(0), !of_provider, fault.number);
            can.then_some(rank)
        };
        near.filter(|fault| rank(fault).is_some()).min_by_key(rank)
    }
}

#[cfg(test)]
mod tests;
