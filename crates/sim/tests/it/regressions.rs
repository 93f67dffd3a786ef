//! Worlds that showed something wrong once, each under the name of what it was: they hold, and stay so.

use crate::common::on_all_cores;
use waypost_sim::{Scenario, Switches, run};

/// A scenario as `waypost-sim` prints it, and what was wrong in it.
const ONCE_WRONG: &[(&str, &str)] = &[
    ("1396", "a burst touched more carts than a profile keeps: the workload's own mistake"),
    ("1580", "a burst touched more carts than a profile keeps: the workload's own mistake"),
    ("1596", "a burst touched more carts than a profile keeps: the workload's own mistake"),
    ("2466", "the broker's clock ahead of the door's: an order counted as acknowledged before it was appended"),
    ("2853", "a cookie became shared between a pledge and its keeping"),
    ("1126", "a touch of a cart whose id was forgotten came again: the last to come was taken for the latest"),
    (
        "2466/process-clocks,zombie,repacked,append-lost,append-late,overtaken,silent-after,kill.1,stuck.2-7,skip.0,m0-24,m26,m28-31,m33-52",
        "the same, with nothing else about",
    ),
    ("6362", "kills hit one innocent record six times: the halt was taken for a mistake"),
    ("57207", "the same, with three zombies at it"),
    ("222", "who expired gave free an address that another's erase had suppressed for good"),
    ("2528", "a hold was given up, and what settles it took the old road: the next order there came behind a reminder"),
    ("1010", "what a partition that is given back had not begun was said ahead of the attempt: a needless unknown"),
    ("26935", "a repeat that an erased address refused counted as one that nobody tried"),
    ("37021", "a forgotten id came again from a cookie that was somebody else's by then: two people asked"),
    ("78742", "an order that was skipped, and repeated behind the reminder, counted as heard when its first copy was acknowledged"),
    ("4686", "a refusal before any attempt was taken for the answer to a later attempt of the same number"),
    ("102186", "a pledge whose id was forgotten was made again by a copy: its second reminder was held against the first making"),
    ("110199", "the same"),
    ("15414", "an order came before any journey looked for orders: nothing that the welcome of a late copy could know"),
    ("106623", "the log lost its tail, and somebody late put the same frame back to the same offset at the same instant"),
    ("115161", "the broker's clock ahead of the door's: a timer had no need to wait for a touch, and fired before it"),
    ("2865", "a hold was given up while its flush was under way: the order that had waited came behind a reminder"),
];

#[test]
fn what_was_wrong_once_holds() {
    let wrong = on_all_cores(ONCE_WRONG.to_vec(), |(text, once)| {
        let scenario: Scenario = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        run(&scenario, Switches::default(), false).wrong.map(|wrong| format!("world {text} ({once}): {wrong}"))
    });
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_is_named_once() {
    for (at, (text, _)) in ONCE_WRONG.iter().enumerate() {
        assert!(ONCE_WRONG[..at].iter().all(|(other, _)| other != text), "{text}");
    }
}
