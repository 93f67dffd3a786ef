//! What was decided about the people of a run: how soon behind what they did, of whom nothing came, and what came twice.
//!
//! Nothing is known of the journeys beforehand. But all shoppers do the same, so a journey that answers one of them answers all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::Instant;
use waypost_codec::public::Decision;
use waypost_types::{IdentifierHash, Node, ProfileId};

use super::plan::ONCE;

/// Decisions that a run has one of at most.
const OF_A_RUN: [&str; 2] = ["ENTERED", "EXITED"];

/// A journey's answers to one thing that shoppers do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) journey: String,
    /// `ENTERED` or `EXITED`.
    pub(super) what: String,
    /// Name of the event.
    pub(super) by: &'static str,
}

/// What came to a question.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) question: Question,
    /// Shoppers who did it.
    pub(super) asked: usize,
    /// Those of whom no decision of this kind came.
    pub(super) lost: usize,
    /// Microseconds from the intended send time to when the decision was read back.
    pub(super) histogram: Histogram<u64>,
}

/// Everything that is heard of a run.
#[derive(Debug, Default)]
pub(super) struct Answers {
    people: HashMap<IdentifierHash, u64>,
    /// When shoppers were to do what they do once.
    due: BTreeMap<(&'static str, u64), Instant>,
    came: BTreeMap<Question, Histogram<u64>>,
    /// Of whom a journey has decided something, by whatever cause.
    decided: BTreeMap<(String, String), BTreeSet<u64>>,
    /// Decisions that a run has one of, by run.
    runs: BTreeSet<(String, String)>,
    pub(super) doubled: u64,
    pub(super) decisions: u64,
    /// Sends on their way to the sender; there must be none.
    pub(super) sent: u64,
    /// Sends that were not, by journey and reason.
    pub(super) stopped: BTreeMap<(String, String), u64>,
    /// Entries that were not, by journey and reason.
    pub(super) refused: BTreeMap<(String, String), u64>,
}

// === impl Answers ===

impl Answers {
    /// Somebody is about to do something.
    pub(super) fn ask(&mut self, hash: IdentifierHash, person: u64, name: &'static str, at: Instant) {
        self.people.insert(hash, person);
        if ONCE.contains(&name) {
            self.due.insert((name, person), at);
        }
    }

    /// How many people have done anything.
    pub(super) fn people(&self) -> usize {
        self.people.len()
    }

    /// Takes in a decision, if it is about one of these people.
    pub(super) fn hear(&mut self, row: &Decision, now: Instant) {
        let node = row.profile.parse::<ProfileId>().ok().and_then(|id| Node::from_slice(id.as_bytes()).ok());
        let Some(person) = node.and_then(|node| self.people.get(&node.hash).copied()) else { return };
        self.decisions += 1;
        let kind = (row.journey.clone(), row.reason.clone());
        match row.what.as_str() {
            "SENT" => self.sent += 1,
            "STOPPED" => *self.stopped.entry(kind).or_default() += 1,
            "REFUSED" => *self.refused.entry(kind).or_default() += 1,
            what if OF_A_RUN.contains(&what) => self.answered(person, row, now),
            _ => {}
        }
    }

    fn answered(&mut self, person: u64, row: &Decision, now: Instant) {
        if !self.runs.insert((row.run.clone(), row.what.clone())) {
            self.doubled += 1;
            return;
        }
        self.decided.entry((row.journey.clone(), row.what.clone())).or_default().insert(person);
        let Some(by) = ONCE.into_iter().find(|name| *name == row.cause) else { return };
        let Some(due) = self.due.get(&(by, person)) else { return };
        let Ok(micros) = u64::try_from(now.saturating_duration_since(*due).as_micros()) else { return };
        let question = Question { journey: row.journey.clone(), what: row.what.clone(), by };
        let histogram = self.came.entry(question).or_insert_with(histogram);
        // below a microsecond nothing is, and the range grows with what comes
        histogram.saturating_record(micros.max(1));
    }

    /// All that was answered, and how.
    pub(super) fn answers(&self) -> Vec<Answer> {
        let of = |(question, histogram): (&Question, &Histogram<u64>)| {
            let decided = self.decided.get(&(question.journey.clone(), question.what.clone()));
            let asked = self.due.keys().filter(|(name, _)| *name == question.by);
            let lost = asked.clone().filter(|(_, person)| decided.is_none_or(|decided| !decided.contains(person))).count();
            Answer { question: question.clone(), asked: asked.count(), lost, histogram: histogram.clone() }
        };
        self.came.iter().map(of).collect()
    }

    /// Decisions that were to come and did not.
    pub(super) fn lost(&self) -> usize {
        self.answers().iter().map(|answer| answer.lost).sum()
    }
}

// === impl Answer ===

impl Answer {
    /// How soon, at a quantile.
    pub(super) fn at(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.histogram.value_at_quantile(quantile))
    }
}

/// From a microsecond to an hour, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("these bounds are good")
}

#[cfg(test)]
mod tests {
    use waypost_types::{Generation, IdentifierClass};

    use super::*;

    const CART: &str = "Product Added";
    const ORDER: &str = "Order Completed";

    fn hash(person: u8) -> IdentifierHash {
        IdentifierHash::new([person; 16])
    }

    fn row(person: u8, journey: &str, what: &str, cause: &str) -> Decision {
        let generation = Generation { layout: 1, offset: 77, index: 3 };
        Decision {
            profile: Node { class: IdentifierClass::UserId, hash: hash(person), generation }.profile().to_string(),
            journey: journey.to_owned(),
            run: format!("{journey}-{person}"),
            what: what.to_owned(),
            cause: cause.to_owned(),
            reason: "WHY".to_owned(),
            ..Decision::default()
        }
    }

    /// Two shoppers, 1 and 2, who fill a cart and order a second later.
    fn two() -> (Answers, Instant) {
        let (mut answers, begin) = (Answers::default(), Instant::now());
        for person in [1, 2] {
            for (name, at) in [("Page Viewed", 0), (CART, 1), (ORDER, 2)] {
                answers.ask(hash(person), u64::from(person), name, begin + Duration::from_secs(at));
            }
        }
        (answers, begin)
    }

    fn told(answers: &Answers) -> Vec<String> {
        let line = |a: Answer| {
            let Question { journey, what, by } = &a.question;
            format!("{journey} {what} {by}: {} of {}, {} lost, p99 {} ms", a.histogram.len(), a.asked, a.lost, a.at(0.99).as_millis())
        };
        answers.answers().into_iter().map(line).collect()
    }

    #[test]
    fn what_one_shopper_is_answered_is_due_to_all() {
        let (mut answers, begin) = two();
        let at = |ms| begin + Duration::from_millis(ms);
        answers.hear(&row(1, "cart", "ENTERED", CART), at(1_004));
        answers.hear(&row(2, "cart", "ENTERED", CART), at(1_008));
        answers.hear(&row(1, "cart", "EXITED", ORDER), at(2_020));
        assert_eq!(answers.lost(), 1);
        assert_eq!(
            told(&answers),
            ["cart ENTERED Product Added: 2 of 2, 0 lost, p99 8 ms", "cart EXITED Order Completed: 1 of 2, 1 lost, p99 20 ms"]
        );
        answers.hear(&row(2, "cart", "EXITED", ORDER), at(2_021));
        assert_eq!((answers.lost(), answers.doubled, answers.people()), (0, 0, 2));
    }

    #[test]
    fn a_run_that_ended_otherwise_is_not_lost() {
        let (mut answers, begin) = two();
        answers.hear(&row(1, "cart", "EXITED", ORDER), begin + Duration::from_secs(3));
        answers.hear(&row(2, "cart", "EXITED", "timer max_age"), begin + Duration::from_secs(3));
        assert_eq!(told(&answers), ["cart EXITED Order Completed: 1 of 2, 0 lost, p99 1000 ms"]);
    }

    #[test]
    fn strangers_do_not_count_and_what_comes_twice_does() {
        let (mut answers, begin) = two();
        answers.hear(&row(9, "cart", "ENTERED", CART), begin);
        answers.hear(&Decision::default(), begin);
        assert_eq!((answers.decisions, answers.answers().len()), (0, 0));
        answers.hear(&row(1, "cart", "ENTERED", CART), begin + Duration::from_secs(2));
        answers.hear(&row(1, "cart", "ENTERED", CART), begin + Duration::from_secs(9));
        assert_eq!((answers.doubled, answers.answers()[0].histogram.len()), (1, 1));
    }

    #[test]
    fn what_is_sent_is_told_from_what_is_not() {
        let (mut answers, begin) = two();
        answers.hear(&row(1, "welcome", "STOPPED", CART), begin);
        answers.hear(&row(2, "welcome", "STOPPED", CART), begin);
        answers.hear(&row(2, "other", "REFUSED", CART), begin);
        answers.hear(&row(1, "welcome", "SENT", CART), begin);
        let why = |journey: &str, count| ((journey.to_owned(), "WHY".to_owned()), count);
        assert_eq!(answers.stopped.clone().into_iter().collect::<Vec<_>>(), [why("welcome", 2)]);
        assert_eq!(answers.refused.clone().into_iter().collect::<Vec<_>>(), [why("other", 1)]);
        assert_eq!((answers.sent, answers.decisions), (1, 4));
    }
}
