//! Compares what went in, as acknowledged at the door, with what every partition holds, what was decided and what
//! each provider received. It knows the plots, not the product.

pub mod doubts;
pub mod enough;
pub mod fence;
mod journeys;
pub mod senders;

use std::{collections::BTreeMap, fmt};

use waypost_codec::{
    inbox::{Consent, ConsentState},
    public::{Decision, Message},
};

use self::{doubts::Doubts, enough::Ran};
use super::{
    holdings::Holdings,
    people::{Person, What},
    sink::Mail,
    story::Fault,
};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// Acknowledged and without its effect.
    Lost,
    /// More than once.
    Doubled,
    /// Before its time.
    Early,
    /// Although a stop stood before it.
    AfterStop,
    /// For no reason that was injected.
    Unexplained,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How.
    pub wrong: Wrong,
    /// Whose, where it is somebody's.
    pub person: Option<usize>,
    /// What exactly.
    pub what: String,
}

/// Everything that is to be compared.
#[derive(Debug)]
pub struct Evidence {
    /// What went in.
    pub people: Vec<Person>,
    /// What lies in the store.
    pub holdings: Holdings,
    /// What was decided.
    pub decisions: Vec<Decision>,
    /// What became of messages.
    pub messages: Vec<Message>,
    /// What the providers received.
    pub mails: Vec<Mail>,
    /// What was broken.
    pub faults: Vec<Fault>,
    /// Numbers that never came on public topics.
    pub missing: Vec<String>,
    /// Records on public topics that contradict an earlier one, or cannot be read.
    pub strange: Vec<String>,
    /// Attempts behind an opt-out.
    pub unfenced: Vec<String>,
    /// Attempts in doubt, by message.
    pub doubts: BTreeMap<String, Doubts>,
    /// What the run itself saw and should not have seen.
    pub complaints: Vec<String>,
    /// Letters set aside.
    pub letters: usize,
    /// How the run went.
    pub ran: Ran,
}

/// A message whose outcome nobody knows, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Step and key.
    pub message: String,
    /// When its call began, milliseconds since 1970.
    pub since: i64,
    /// The fault that cost its answer: kind and number.
    pub fault: (&'static str, usize),
}

/// What the oracle says.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// Events acknowledged.
    pub events: usize,
    /// Sends decided.
    pub sends: usize,
    /// Messages whose outcome nobody knows, each with the fault that caused it.
    pub unknown: Vec<Unknown>,
    /// Messages that must arrive: how many, and how often one of them went out again in doubt.
    pub tickets: (usize, usize),
    /// Runs judged, and those of them that a stop came in time for.
    pub runs: (usize, usize),
    /// People of two halves that are one profile now.
    pub merged: usize,
    /// Of what there was too little for the run to say anything.
    pub idle: Vec<String>,
}

// === impl Verdict ===

impl Verdict {
    fn wrong(&mut self, wrong: Wrong, person: usize, what: String) {
        self.findings.push(Finding { wrong, person: Some(person), what });
    }

    /// Nothing is wrong, and enough happened.
    pub const fn is_good(&self) -> bool {
        self.findings.is_empty() && self.idle.is_empty()
    }

    /// How many of a kind.
    pub fn count(&self, wrong: Wrong) -> usize {
        self.findings.iter().filter(|f| f.wrong == wrong).count()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("lost", Wrong::Lost),
            ("doubled", Wrong::Doubled),
            ("early", Wrong::Early),
            ("after-stop", Wrong::AfterStop),
            ("unexplained", Wrong::Unexplained),
        ];
        let counts: Vec<String> = all.iter().map(|(name, wrong)| format!("{name} {}", self.count(*wrong))).collect();
        f.write_str(&counts.join(", "))?;
        if self.idle.is_empty() {
            return Ok(());
        }
        write!(f, "; too little happened ({}), and a run in which nothing happens proves nothing", self.idle.join(", "))
    }
}

/// Judges a run.
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict { sends: evidence.decisions.iter().filter(|d| d.what == "SENT").count(), ..Verdict::default() };
    let general = |wrong, what: String| Finding { wrong, person: None, what };
    verdict.findings.extend(evidence.missing.iter().map(|what| general(Wrong::Lost, what.clone())));
    verdict.findings.extend(evidence.holdings.open_channels().into_iter().map(|what| general(Wrong::Lost, what)));
    match evidence.holdings.unsettled() {
        Ok(open) => verdict.findings.extend(open.into_iter().map(|what| general(Wrong::Lost, format!("not at rest: {what}")))),
        Err(error) => verdict.findings.push(general(Wrong::Lost, format!("{error:#}"))),
    }
    verdict.findings.extend(evidence.unfenced.iter().map(|what| general(Wrong::AfterStop, what.clone())));
    verdict.findings.extend(evidence.strange.iter().map(|what| general(Wrong::Unexplained, what.clone())));
    verdict.findings.extend(evidence.complaints.iter().map(|what| general(Wrong::Unexplained, what.clone())));
    if evidence.letters > 0 {
        verdict.findings.push(general(Wrong::Unexplained, format!("{} dead letters", evidence.letters)));
    }
    let journeys = journeys::Journeys::of(&evidence.decisions, &evidence.messages, &evidence.mails, (&evidence.faults, &evidence.doubts));
    for person in &evidence.people {
        verdict.events += person.said.iter().filter(|s| s.acknowledged.is_some()).count();
        let profile = kept(&mut verdict, evidence, person);
        journeys.judge(&mut verdict, person, profile.as_deref());
    }
    enough::judge(&mut verdict, &evidence.ran);
    verdict
}

/// Kept: all names of a person lead to one profile, and both stages have folded each acknowledged event there once.
/// The profile's id.
fn kept(verdict: &mut Verdict, evidence: &Evidence, person: &Person) -> Option<String> {
    let number = person.number;
    if let Some(why) = &person.refused {
        verdict.wrong(Wrong::Unexplained, number, format!("refused at the door: {why}"));
    }
    let mut found = None;
    for name in person.names() {
        let one = match evidence.holdings.find(&name) {
            Ok(Some(one)) => one,
            Ok(None) => {
                verdict.wrong(Wrong::Lost, number, format!("nobody is called {name:?}"));
                continue;
            }
            Err(error) => {
                verdict.wrong(Wrong::Lost, number, format!("{name:?}: {error:#}"));
                continue;
            }
        };
        match &found {
            None => found = Some(one),
            Some(first) if first.profile != one.profile => {
                verdict.wrong(Wrong::Lost, number, format!("{} and {} are not one profile", first.profile, one.profile));
            }
            Some(_) => {}
        }
    }
    let found = found?;
    if person.merges() {
        verdict.merged += 1;
    }
    // An event whose answer was lost counts once; a press of a link counts as often as it was sent, at most.
    let least = person.said.iter().filter(|s| s.acknowledged.is_some()).count() as u64;
    let most = person.said.iter().map(|s| if s.what == What::Pressed { u64::from(s.tries.max(1)) } else { 1 }).sum::<u64>();
    let folded = found.segment.events;
    if folded < least {
        verdict.wrong(Wrong::Lost, number, format!("{least} events were acknowledged, {folded} folded at {}", found.profile));
    } else if folded > most {
        verdict.wrong(Wrong::Doubled, number, format!("{most} events were said, {folded} folded at {}", found.profile));
    }
    // Of two halves the orchestrator keeps the greater count.
    let decided = found.journey.events;
    if !person.merges() && decided != folded {
        let wrong = if decided < folded { Wrong::Lost } else { Wrong::Doubled };
        verdict.wrong(wrong, number, format!("the segmenter has folded {folded} events, the orchestrator {decided}, of {}", found.profile));
    }
    for (stage, of) in [("segmenter", found.segment.person.as_ref()), ("orchestrator", found.journey.person.as_ref())] {
        for said in person.said.iter().filter(|s| s.acknowledged.is_some()) {
            let there = match &said.what {
                What::Touched(cart) => of.is_some_and(|p| p.carts.iter().any(|c| c.cart_id == *cart)),
                What::Ordered(order) => of.is_some_and(|p| p.orders.iter().any(|o| o.order_id == *order)),
                What::Looked | What::Identified | What::Joined(_) | What::Asked(_) => true,
                // of these the last word counts, below
                What::Subscribed(_) | What::OptedOut | What::Pressed => continue,
            };
            if !there {
                verdict.wrong(Wrong::Lost, number, format!("{:?} is not in the {stage}'s state of {}", said.what, found.profile));
            }
        }
        let misheard = misheard(person, of.map_or(&[][..], |of| &of.consents));
        for what in misheard {
            verdict.wrong(Wrong::Lost, number, format!("{what} in the {stage}'s state of {}", found.profile));
        }
    }
    Some(found.profile.to_string())
}

/// Topics of which a stage does not believe the person's last word.
fn misheard(person: &Person, believed: &[Consent]) -> Vec<String> {
    let word = |wanted| if wanted { ConsentState::Granted } else { ConsentState::Denied };
    let topics = person.wants().into_iter().filter_map(|(topic, wanted)| Some((topic, word(wanted?))));
    let wrong = topics.filter_map(|(topic, said)| {
        let there = believed.iter().find(|consent| consent.channel == "email" && consent.topic == topic).map(Consent::state);
        (there != Some(said)).then(|| format!("{topic}: {said:?} was the last word, {there:?} is"))
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::people::{REMINDERS, Said};

    fn person(words: &[(What, bool)]) -> Person {
        let said = |(what, acknowledged): &(What, bool)| Said {
            what: what.clone(),
            names: Vec::new(),
            first_tried: 1,
            acknowledged: acknowledged.then_some(2),
            tries: 1,
        };
        Person { number: 0, plot: "opt-out", said: words.iter().map(said).collect(), done: true, refused: None }
    }

    fn consent(topic: &str, state: ConsentState) -> Consent {
        Consent { channel: "email".into(), topic: topic.into(), state: state.into(), ..Consent::default() }
    }

    #[test]
    fn the_last_word_of_a_topic_is_what_must_be_believed() {
        use ConsentState::{Denied, Granted};
        let (yes, hello) = ((What::Subscribed(REMINDERS), true), (What::Subscribed("greetings"), true));
        let no = |what, acknowledged| (what, acknowledged);
        let both = |reminders| vec![consent(REMINDERS, reminders), consent("greetings", Granted)];
        let never = vec![consent("greetings", Granted)];
        for (words, believed, wrong) in [
            (vec![yes.clone(), hello.clone()], both(Granted), 0),
            (vec![yes.clone(), hello.clone()], both(Denied), 1),
            (vec![yes.clone(), hello.clone()], never.clone(), 1),
            (vec![yes.clone(), hello.clone(), no(What::OptedOut, true)], both(Denied), 0),
            (vec![yes.clone(), hello.clone(), no(What::OptedOut, true)], both(Granted), 1),
            (vec![yes.clone(), hello.clone(), no(What::Pressed, true)], both(Granted), 1),
            (vec![yes.clone(), hello.clone(), no(What::Pressed, true)], never, 1),
            (vec![yes.clone(), hello.clone(), no(What::OptedOut, false)], both(Granted), 0),
            (vec![yes.clone(), hello, no(What::OptedOut, true), yes], both(Granted), 0),
        ] {
            let found = misheard(&person(&words), &believed);
            assert_eq!(found.len(), wrong, "{words:?} {believed:?}: {found:?}");
        }
    }
}
