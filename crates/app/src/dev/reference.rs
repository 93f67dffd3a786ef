//! The reference: who must get which message when, computed from the same calls without a line of the engine.
//!
//! Naive on purpose: one pass over the calls in order of time, people as a list that is merged by hand, and the
//! two library journeys written out as arithmetic. `make demo` succeeds only if both agree.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use waypost_types::{Span, Timestamp};

use super::shop::{Move, Shopper, Story};

const HOUR: i64 = 3_600_000;

/// One expected message: address, template, instant.
pub(crate) type Expected = BTreeSet<(String, &'static str, Timestamp)>;

#[derive(Default)]
struct Person {
    ids: BTreeSet<String>,
    email: Option<String>,
    consent: BTreeMap<String, bool>,
    open_carts: BTreeSet<String>,
    ordered_at: Option<i64>,
    runs: Vec<Run>,
}

#[derive(Clone)]
struct Run {
    cart: Option<String>,
    entry: i64,
    step: usize,
    due: i64,
    mailed: bool,
}

// What each delay leads to: cart recovery, then welcome.
const CART: [&str; 3] = ["cart-remind", "cart-again", "cart-last-call"];
const WELCOME: [&str; 2] = ["welcome", "first-steps"];

struct Shop<'a> {
    people: Vec<Person>,
    shoppers: &'a [Shopper],
    leaving: BTreeMap<i64, Vec<String>>,
    left: BTreeSet<String>,
    expected: Expected,
}

/// The messages of a story whose last instant is `end`.
pub(crate) fn expect(story: &Story, end: Timestamp) -> Expected {
    let mut shop =
        Shop { people: Vec::new(), shoppers: &story.shoppers, leaving: BTreeMap::new(), left: BTreeSet::new(), expected: Expected::new() };
    let mut seen = BTreeSet::new();
    for scene in &story.scenes {
        let Move::Call { body, .. } = &scene.what else { continue };
        if seen.insert(body["messageId"].as_str().unwrap_or_default().to_owned()) {
            shop.pass_time(scene.at.millis());
            shop.call(body, scene.at.millis());
        }
    }
    shop.pass_time(end.millis());
    shop.expected
}

// === impl Shop ===

impl Shop<'_> {
    /// Fires what is due before `until`: unsubscribes and delays, in order of time.
    fn pass_time(&mut self, until: i64) {
        loop {
            let run =
                self.people.iter().enumerate().flat_map(|(p, x)| x.runs.iter().enumerate().map(move |(r, run)| (run.due, p, r))).min();
            let leave = self.leaving.keys().next().copied();
            match (run, leave) {
                (_, Some(at)) if at < until && run.is_none_or(|(due, ..)| at <= due) => {
                    for email in self.leaving.remove(&at).unwrap_or_default() {
                        let person = self.people.iter_mut().find(|p| p.email.as_ref() == Some(&email));
                        if let Some(person) = person {
                            person.consent.insert("cart-reminders".to_owned(), false);
                        }
                    }
                }
                (Some((due, p, r)), _) if due < until => self.wake(p, r, due),
                _ => return,
            }
        }
    }

    /// A delay of a run ends: mail, if it may be, and the next delay.
    fn wake(&mut self, p: usize, r: usize, now: i64) {
        let person = &mut self.people[p];
        let run = &mut person.runs[r];
        let (topic, template, last) = match &run.cart {
            Some(_) => ("cart-reminders", CART[run.step], run.step == 2),
            None => ("welcome", WELCOME[run.step], run.step == 1),
        };
        let fresh = run.cart.as_ref().is_none_or(|c| person.open_carts.contains(c));
        if let Some(email) = person.email.as_ref().filter(|_| fresh && person.consent.get(topic) == Some(&true)) {
            run.mailed = true;
            self.expected.insert((email.clone(), template, Timestamp::from_millis(now)));
            let leaves = self.shoppers.iter().find(|s| s.email == *email).and_then(|s| s.leaves);
            if let Some(after) = leaves.filter(|_| run.cart.is_some() && self.left.insert(email.clone())) {
                self.leaving.entry(now + Span::millis(after)).or_default().push(email.clone());
            }
        }
        run.step += 1;
        run.due = match (&run.cart, run.step) {
            (Some(_), 1) => (run.entry + 24 * HOUR).max(now + 12 * HOUR),
            (Some(_), _) => (run.entry + 72 * HOUR).max(now + 12 * HOUR),
            (None, _) => now + 48 * HOUR,
        };
        if last {
            person.runs.remove(r);
        }
    }

    fn call(&mut self, body: &Value, now: i64) {
        let email = [&body["traits"]["email"], &body["context"]["traits"]["email"]].into_iter().find_map(Value::as_str).map(str::to_owned);
        let ids = [("u", body["userId"].as_str()), ("a", body["anonymousId"].as_str()), ("e", email.as_deref())];
        let ids: BTreeSet<_> = ids.into_iter().filter_map(|(class, id)| id.map(|id| format!("{class}:{id}"))).collect();
        let p = self.join(ids);
        let person = &mut self.people[p];
        if email.is_some() {
            person.email = email;
        }
        let properties = &body["properties"];
        let text = |name: &str| properties[name].as_str().unwrap_or_default().to_owned();
        match body["event"].as_str().unwrap_or_default() {
            "Subscribed" => {
                person.consent.insert(text("topic"), true);
                if text("topic") == "welcome" {
                    self.greet(p, now);
                }
            }
            "Signed Up" => self.greet(p, now),
            "Product Added" => {
                let cart = text("cart_id");
                person.open_carts.insert(cart.clone());
                let run = Run { cart: Some(cart), entry: now, step: 0, due: now + HOUR, mailed: false };
                match person.runs.iter_mut().find(|r| r.cart == run.cart) {
                    Some(live) if live.mailed => live.entry = now,
                    Some(live) => *live = run,
                    None => person.runs.push(run),
                }
            }
            "Cart Updated" => {
                let cart = Some(text("cart_id"));
                person.runs.retain(|r| r.cart != cart);
                person.open_carts.retain(|c| Some(c) != cart.as_ref());
            }
            "Order Completed" => {
                person.ordered_at = Some(now);
                person.runs.clear();
                person.open_carts.clear();
            }
            _ => {}
        }
    }

    fn greet(&mut self, p: usize, now: i64) {
        if self.people[p].runs.iter().all(|r| r.cart.is_some()) {
            self.people[p].runs.push(Run { cart: None, entry: now, step: 0, due: now, mailed: false });
            let r = self.people[p].runs.len() - 1;
            self.wake(p, r, now);
        }
    }

    /// The one person these identifiers belong to from now on.
    fn join(&mut self, ids: BTreeSet<String>) -> usize {
        let mut all = Person { ids, ..Person::default() };
        let (met, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.people).into_iter().partition(|p| !p.ids.is_disjoint(&all.ids));
        self.people = others;
        for half in met {
            all.ids.extend(half.ids);
            all.email = all.email.or(half.email);
            all.consent.extend(half.consent);
            all.open_carts.extend(half.open_carts);
            all.ordered_at = all.ordered_at.max(half.ordered_at);
            all.runs.extend(half.runs);
        }
        // An order known to one half stops what the other half began before it.
        let ordered = all.ordered_at;
        all.runs.retain(|r| ordered.is_none_or(|at| at < r.entry));
        self.people.push(all);
        self.people.len() - 1
    }
}
