//! Who does what, and when: a function of a few numbers, so that whoever has them can name every person of a run, after a crash too.

use std::{fmt, str::FromStr};

use anyhow::Context as _;
use waypost_runtime::ports::Entropy;
use waypost_types::{IdentifierClass, IdentifierHash, WorkspaceId};

/// Events of a visit.
pub(super) const VISIT: u64 = 12;
/// Whoever is made up has to be erased one by one.
pub(super) const PEOPLE_MAX: u64 = 2_000_000;
/// One visitor in so many shops; the others look around.
const SHOPS: u64 = 5;
/// What each shopper does once: answers to these are measured.
pub(super) const ONCE: [&str; 4] = ["Signed Up", "Product Added", "Checkout Started", "Order Completed"];

/// A run: what its people are called. No one else's identifier can be one of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// 32 hex digits, drawn.
    name: String,
    pub(super) workspace: WorkspaceId,
    /// No person has this number or a higher one.
    pub(super) people: u64,
}

/// How so many events fall to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) events: u64,
    /// People who are there at a time.
    pub(super) at_a_time: u64,
}

/// One event of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) person: u64,
    /// What is done.
    pub(super) name: &'static str,
    /// Whether somebody shops, and does not only look around.
    pub(super) shops: bool,
}

// === impl Run ===

impl Run {
    pub(super) fn draw(entropy: &mut dyn Entropy, workspace: WorkspaceId, people: u64) -> Self {
        Self { name: format!("{:016x}{:016x}", entropy.next(), entropy.next()), workspace, people }
    }

    /// What stands in each of its identifiers, carts, orders and message ids.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// User id of a person, and all that there is of her: no address, no consent, no name.
    pub(super) fn user(&self, person: u64) -> String {
        format!("waypost-bench-{}-{person}", self.name)
    }

    /// The same as the log knows it.
    pub(super) fn hash(&self, key: &[u8; 32], person: u64) -> IdentifierHash {
        IdentifierHash::of(key, self.workspace, IdentifierClass::UserId, "", &self.user(person))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.name, self.workspace.number(), self.people)
    }
}

impl FromStr for Run {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let read = || {
            let [name, workspace, people] = parts[..] else { return None };
            let is_name = name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let (workspace, people) = (WorkspaceId::new(workspace.parse().ok()?), people.parse().ok()?);
            (is_name && people <= PEOPLE_MAX + 1).then(|| Self { name: name.to_owned(), workspace, people })
        };
        read().with_context(|| {
            format!("`{text}` is no run: `waypost bench` tells its own when it begins, as 32 hex digits, -, a number, -, a number")
        })
    }
}

// === impl Plan ===

impl Plan {
    /// What the event of a number is.
    ///
    /// Visitors take turns. Each visit has its own beginning within the first, so that at any time about as many come as order;
    /// the visits that were cut by the beginning are no shoppers'.
    pub(super) fn turn(self, event: u64) -> Turn {
        let (seat, round) = (event % self.at_a_time, event / self.at_a_time);
        let cut = seat % VISIT;
        let (visit, step) = ((round + cut) / VISIT, (round + cut) % VISIT);
        let person = seat + self.at_a_time * visit;
        let shops = person.is_multiple_of(SHOPS) && (visit > 0 || cut == 0);
        Turn { person, name: if shops { shopping(step) } else { looking(step) }, shops }
    }

    /// No person has this number or a higher one.
    pub(super) fn people(self) -> u64 {
        // whoever has the last rounds; the plan is cheap to ask, and who comes last depends on two remainders
        let last = self.events.saturating_sub(self.at_a_time)..self.events;
        last.map(|event| self.turn(event).person + 1).max().unwrap_or(0)
    }
}

fn shopping(step: u64) -> &'static str {
    match step {
        2 => ONCE[0],
        4 => ONCE[1],
        8 => ONCE[2],
        11 => ONCE[3],
        _ => looking(step),
    }
}

fn looking(step: u64) -> &'static str {
    match step {
        5 => "Products Searched",
        step if step.is_multiple_of(2) => "Page Viewed",
        _ => "Product Viewed",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Counting(u64);

    impl Entropy for Counting {
        fn next(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }
    }

    fn run() -> Run {
        Run::draw(&mut Counting(0xab), WorkspaceId::new(7), 475)
    }

    #[test]
    fn a_run_is_read_as_it_is_told() {
        let text = run().to_string();
        assert_eq!(text, "00000000000000ac00000000000000ad-7-475");
        assert_eq!(text.parse::<Run>().unwrap(), run());
        for bad in ["", "x", "00ac-7-475", "00000000000000ac00000000000000ad-7", "00000000000000ac00000000000000ad-7-9999999999", "*-7-1"] {
            let error = bad.parse::<Run>().unwrap_err().to_string();
            assert!(error.contains("is no run"), "{bad}: {error}");
        }
    }

    #[test]
    fn its_people_are_called_as_a_door_would_call_them() {
        let user = run().user(17);
        assert_eq!(waypost_ingest::identifier(IdentifierClass::UserId, &user).as_deref(), Some(&*user));
        assert!(user.contains(run().name()));
    }

    #[test]
    fn a_shopper_does_each_thing_once_in_order_and_nobody_is_behind_the_last_number() {
        for at_a_time in [1, 2, 7, 25, 120] {
            let plan = Plan { events: 3_000, at_a_time };
            let mut done: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
            let mut highest = 0;
            for turn in (0..plan.events).map(|event| plan.turn(event)) {
                highest = highest.max(turn.person);
                if turn.shops {
                    done.entry(turn.person).or_default().push(turn.name);
                }
            }
            assert_eq!(plan.people(), highest + 1, "{at_a_time}");
            let mut ordered = 0;
            for (person, names) in done {
                assert!(names.len() <= 12, "{person}");
                let once: Vec<&str> = names.into_iter().filter(|name| ONCE.contains(name)).collect();
                assert!(ONCE.starts_with(&once), "{person}: {once:?}");
                ordered += usize::from(once.len() == 4);
            }
            // one visit of five, less those that the beginning and the end cut
            assert!(ordered > 0 && ordered <= 50, "{at_a_time}: {ordered} orders");
        }
    }

    #[test]
    fn orders_are_spread_over_the_time() {
        let plan = Plan { events: 120_000, at_a_time: 250 };
        let orders: Vec<u64> = (0..plan.events).filter(|event| plan.turn(*event).name == ONCE[3]).collect();
        // behind the first visits, within each hundredth of the time
        for begin in (6_000..119_000).step_by(1_200) {
            let within = orders.iter().filter(|event| (begin..begin + 1_200).contains(*event)).count();
            assert!((10..=30).contains(&within), "{within} orders from event {begin}");
        }
    }
}
