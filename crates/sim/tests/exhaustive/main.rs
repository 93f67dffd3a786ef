//! The exhaustive small cases (PROTOCOL §16.5): a handful of events around a merge, two identity and two profile
//! partitions, perfect channels; every placement, and every order in which what is under way can arrive. On the same
//! line: workspaces do not notice each other.
#![expect(clippy::unwrap_used, reason = "tests")]

mod explore;
mod line;
mod scenarios;
mod workspaces;

use explore::{Orders, explore};
use line::Rules;
use scenarios::{Scenario, scenarios};

/// Every placement of these identifiers' partitions, the first one's fixed: turning both around changes nothing.
fn placements(identifiers: usize) -> Vec<Vec<(usize, usize)>> {
    let bits = 2 * (identifiers - 1);
    (0..1_usize << bits)
        .map(|mask| {
            let of = |n: usize| if n == 0 { (0, 0) } else { (mask >> (2 * n - 2) & 1, mask >> (2 * n - 1) & 1) };
            (0..identifiers).map(of).collect()
        })
        .collect()
}

fn every_interleaving(scenario: &Scenario) {
    let all = placements(scenario.identifiers.len());
    let states_of = |placements: &[Vec<(usize, usize)>]| -> usize {
        let explored = |placement: &Vec<(usize, usize)>| match explore(scenario, placement, Orders::Told, Rules::default()) {
            Ok(explored) => explored.states,
            Err(wrong) => panic!("{}, placed {placement:?}:\n{wrong}", scenario.name),
        };
        placements.iter().map(explored).sum()
    };
    let (some, others) = all.split_at(all.len() / 2);
    let states = std::thread::scope(|scope| {
        let some = scope.spawn(|| states_of(some));
        states_of(others) + some.join().unwrap()
    });
    assert!(states > 100, "{}: only {states} states: nothing was explored", scenario.name);
}

macro_rules! cases {
    ($($name:ident;)*) => {$(
        #[test]
        fn $name() {
            let all = scenarios();
            every_interleaving(all.iter().find(|s| s.name == stringify!($name)).unwrap());
        }
    )*};
}

cases! {
    a_cookie_becomes_somebody;
    somebody_known_meets_a_cookie;
    a_purchase_by_mail_stops_the_cart_of_the_cookie;
    two_cookies_of_one_person;
    a_chain_of_three;
    two_users_on_one_cookie;
    a_cookie_is_detached;
    somebody_is_erased;
}

#[test]
fn orders_left_out_come_to_the_same() {
    let all = scenarios();
    for name in ["a_cookie_becomes_somebody", "a_cookie_is_detached"] {
        let scenario = all.iter().find(|s| s.name == name).unwrap();
        for placement in placements(scenario.identifiers.len()) {
            let [every, told] = [Orders::All, Orders::Told].map(|orders| explore(scenario, &placement, orders, Rules::default()).unwrap());
            assert_eq!(told.at_rest, every.at_rest, "{name}, placed {placement:?}");
            assert!(!told.at_rest.is_empty() && told.states < every.states, "{name}: {} of {}", told.states, every.states);
        }
    }
}

#[test]
fn without_a_rule_some_order_goes_wrong() {
    let all = scenarios();
    let off = |change: fn(&mut Rules)| {
        let mut rules = Rules::default();
        change(&mut rules);
        rules
    };
    for (what, name, rules) in [
        ("flush", "somebody_known_meets_a_cookie", off(|r| r.identity.flush = false)),
        ("hold", "somebody_known_meets_a_cookie", off(|r| r.identity.hold = false)),
        ("one road", "a_chain_of_three", off(|r| r.segmenter.one_road = false)),
        ("re-check", "a_purchase_by_mail_stops_the_cart_of_the_cookie", off(|r| r.orchestrator.recheck_at_import = false)),
    ] {
        let scenario = all.iter().find(|s| s.name == name).unwrap();
        let wrong = placements(scenario.identifiers.len()).iter().any(|p| explore(scenario, p, Orders::Told, rules).is_err());
        assert!(wrong, "without {what}, every order of {name} holds");
    }
}

#[test]
fn every_scenario_is_a_case() {
    assert_eq!(scenarios().len(), 8);
}
