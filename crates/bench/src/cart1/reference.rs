//! Which sends must come out of CART-1, by one thread that sees every event once and in order. Whoever sends something else has no speed.

use std::collections::BTreeMap;

use anyhow::ensure;
use waypost_types::Timestamp;

use super::{APART, Act, DELAY, MARGIN, WORTH, What};

/// One send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Send {
    /// To whom.
    pub person: u64,
    /// About which cart.
    pub cart: u64,
    /// What it is worth, as the last touch left it.
    pub cents: i64,
    /// When its timer was due.
    pub due: Timestamp,
}

/// Somebody who has had a cart.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    timer: Option<Send>,
    sent: Option<Timestamp>,
}

/// Folds events, one after another.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    people: BTreeMap<u64, Standing>,
    sends: Vec<Send>,
}

// === impl Reference ===

impl Reference {
    /// Folds one.
    ///
    /// # Errors
    /// If it comes so close to the instant at which a timer is due that two honest systems may differ.
    pub fn see(&mut self, act: &Act) -> anyhow::Result<()> {
        let standing = if act.touches() { Some(self.people.entry(act.person).or_default()) } else { self.people.get_mut(&act.person) };
        let Some(standing) = standing else { return Ok(()) };
        if let Some(timer) = standing.timer {
            let apart = act.at.since(timer.due).millis().abs();
            ensure!(!act.touches() || apart >= MARGIN.millis(), "a cart was touched {apart} ms from the instant at which its timer is due");
            if timer.due <= act.at {
                standing.fire(&mut self.sends);
            }
        }
        match act.what {
            What::Looked => {}
            What::Filled { cart, cents } => standing.timer = Some(Send { person: act.person, cart, cents, due: act.at.plus(DELAY) }),
            What::Ordered { .. } => standing.timer = None,
        }
        Ok(())
    }

    /// All sends, once every timer is due, in order.
    pub fn finish(mut self) -> Vec<Send> {
        for standing in self.people.values_mut() {
            standing.fire(&mut self.sends);
        }
        self.sends.sort_unstable();
        self.sends
    }
}

// === impl Standing ===

impl Standing {
    fn fire(&mut self, sends: &mut Vec<Send>) {
        let Some(timer) = self.timer.take() else { return };
        if timer.cents >= WORTH && self.sent.is_none_or(|sent| timer.due.since(sent) >= APART) {
            self.sent = Some(timer.due);
            sends.push(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carts and orders of one person, by second; what is sent, by due second and value.
    fn check(story: &[(i64, i64)], wanted: &[(i64, i64)]) {
        let mut reference = Reference::default();
        for (second, cents) in story {
            let what = if *cents == 0 { What::Ordered { cart: 1 } } else { What::Filled { cart: 1, cents: *cents } };
            reference.see(&Act { at: Timestamp::from_millis(second * 1_000), person: 1, what, number: 0 }).unwrap();
        }
        let sends: Vec<_> = reference.finish().iter().map(|send| (send.due.millis() / 1_000, send.cents)).collect();
        assert_eq!(sends, wanted, "{story:?}");
    }

    #[test]
    fn a_send_for_a_cart_that_is_worth_it_and_that_nobody_orders_once_a_day() {
        check(&[(0, 2_000)], &[(10, 2_000)]);
        check(&[(0, 1_999)], &[]);
        check(&[(0, 5_000), (2, 0)], &[]);
        check(&[(0, 5_000), (2, 6_000)], &[(12, 6_000)]);
        check(&[(0, 5_000), (2, 500)], &[]);
        check(&[(0, 5_000), (15, 6_000)], &[(10, 5_000)]);
        check(&[(0, 5_000), (15, 0), (20, 6_000)], &[(10, 5_000)]);
        check(&[(0, 5_000), (86_400, 6_000)], &[(10, 5_000), (86_410, 6_000)]);
        check(&[(0, 5_000), (86_399, 6_000)], &[(10, 5_000)]);
    }

    #[test]
    fn what_happens_beside_a_due_instant_is_refused() {
        let mut reference = Reference::default();
        let act = |ms, what| Act { at: Timestamp::from_millis(ms), person: 1, what, number: 0 };
        reference.see(&act(0, What::Filled { cart: 1, cents: 5_000 })).unwrap();
        assert!(reference.see(&act(7_001, What::Ordered { cart: 1 })).is_err());
        assert!(reference.see(&act(7_001, What::Looked)).is_ok());
        assert!(reference.see(&act(7_000, What::Ordered { cart: 1 })).is_ok());
    }
}
