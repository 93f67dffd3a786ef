//! Two halves of a person meet: before, after and while something is on its way.

use std::sync::Arc;

use waypost_codec::state::SendState;

use super::{
    harness::{World, shop},
    stories::{ANA, CART},
};
use crate::definitions::Workspace;

pub(super) fn halves(ws: &Arc<Workspace>, known: &str, device: &str) -> (World, World) {
    (World::of(ws, 1).with(known), World::of(ws, 2).with(device))
}

#[test]
fn an_order_known_to_one_half_stops_the_run_of_the_other() {
    let ws = shop(CART);
    // The order is folded at the e-mail's profile before the two are known to be one person.
    let (mut ana, device) =
        halves(&ws, &format!("{ANA}20m event Order Completed order_id=o1\n30m ."), "0m event Product Added cart_id=k1 with cart k1 open\n");
    ana.merge(device, None);
    assert_eq!(ana.exits(), ["GOAL"]);
    ana.play("100h .");
    assert_eq!(ana.sent(), Vec::<&str>::new());
}

#[test]
fn an_order_after_the_link_stops_the_run_that_came_with_it() {
    let ws = shop(CART);
    let (mut ana, device) = halves(&ws, &format!("{ANA}30m ."), "0m event Product Added cart_id=k1 with cart k1 open\n");
    ana.merge(device, None);
    ana.play("40m event Order Completed order_id=o1\n100h .");
    assert_eq!((ana.exits(), ana.sent()), (vec!["GOAL"], vec![]));
}

#[test]
fn a_cart_filled_before_the_link_is_reminded_of_after_it() {
    let ws = shop(CART);
    let (mut ana, device) = halves(&ws, &format!("{ANA}30m ."), "0m event Product Added cart_id=k1 with cart k1 open\n");
    let carts = device.state.person.clone();
    ana.merge(device, carts.as_ref());
    ana.play("61m .");
    assert_eq!(ana.sent(), ["remind"]);
}

#[test]
fn an_order_before_the_cart_was_touched_stops_nothing() {
    let ws = shop(CART);
    let (mut ana, device) =
        halves(&ws, &format!("{ANA}5m event Order Completed order_id=o1\n30m ."), "10m event Product Added cart_id=k1 with cart k1 open\n");
    let carts = device.state.person.clone();
    ana.merge(device, carts.as_ref());
    assert_eq!(ana.exits(), Vec::<&str>::new());
    ana.play("100m .");
    assert_eq!(ana.sent(), ["remind"]);
}

#[test]
fn a_send_decided_after_a_stop_of_the_other_half_is_recalled() {
    let ws = shop(CART);
    let (mut ana, device) = halves(
        &ws,
        &format!("{ANA}50m event Order Completed order_id=o1\n70m ."),
        &format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open\n61m ."),
    );
    assert_eq!(device.sent(), ["remind"]);
    ana.merge(device, None);
    assert!(ana.told.iter().any(|l| l == "70m recall GOAL"), "{:?}", ana.told);
}

#[test]
fn of_two_runs_of_one_key_the_one_that_went_further_stays_and_no_step_is_sent_twice() {
    let ws = shop(CART);
    let (mut ana, device) = halves(
        &ws,
        &format!("{ANA}5m event Product Added cart_id=k1 with cart k1 open\n30m ."),
        &format!("{ANA}0m event Product Added cart_id=k1 ago=30m with cart k1 open\n31m receipt accepted\n"),
    );
    ana.play("40m .");
    ana.merge(device, None);
    assert_eq!(ana.exits(), ["MERGED"]);
    let live: Vec<_> = ana.state.runs.iter().filter(|r| r.exit_reason.is_empty()).collect();
    assert_eq!((live.len(), live[0].step.as_str()), (1, "day-2"));
    ana.play("100h .");
    assert_eq!(ana.sent(), ["again"]);
}

#[test]
fn when_both_halves_have_sent_a_step_one_of_them_is_taken_back() {
    let ws = shop(CART);
    let touch = format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open\n61m .");
    let (mut ana, device) = halves(&ws, &touch, &touch);
    ana.merge(device, None);
    assert_eq!(ana.told.iter().filter(|l| l.contains("recall MERGED")).count(), 1, "{:?}", ana.told);
    let live = ana.state.runs.iter().find(|r| r.exit_reason.is_empty()).unwrap();
    let states: Vec<SendState> = live.sends.iter().map(waypost_codec::state::RunSend::state).collect();
    assert_eq!(states.iter().filter(|s| **s == SendState::Decided).count(), 1, "{states:?}");
}

#[test]
fn a_denial_of_one_half_takes_back_the_send_of_the_other() {
    let ws = shop(CART);
    let (mut ana, device) = halves(
        &ws,
        "50m event Unsubscribed channel=email topic=news with consent email/news denied\n70m .",
        &format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open\n61m ."),
    );
    ana.merge(device, None);
    assert!(ana.told.iter().any(|l| l == "70m recall CONSENT_DENIED"), "{:?}", ana.told);
}

#[test]
fn a_wait_is_ended_by_what_the_other_half_has_seen() {
    let ws = shop(
        r"
journey order
  topic: news
  entries: [{id: ordered, on_event: {name: Order Completed}, key: event.order_id}]
  steps:
    - id: delivered
      wait:
        any: [{id: arrived, event: Order Delivered, where: event.order_id == run.key, then: done}]
        timeout: {for: 2d}
        on_timeout: gone
    - {id: done, exit: {reason: ARRIVED}}
    - {id: gone, exit: {reason: LOST}}
",
    );
    let (mut ana, device) = halves(&ws, "20m event Order Delivered order_id=o1\n30m .", "0m event Order Completed order_id=o1\n");
    ana.merge(device, None);
    assert_eq!(ana.exits(), ["ARRIVED"]);
}

#[test]
fn a_marketing_run_older_than_what_the_other_half_remembers_ends() {
    let ws = shop(CART);
    // 70 orders: the first six have been forgotten.
    let orders: Vec<String> = (0..70).map(|n| format!("{}m event Order Completed order_id=o{n} ago=10d", 5 + n)).collect();
    let story = format!("{ANA}{}", orders.join("\n"));
    let (mut ana, device) = halves(&ws, &story, "0m event Product Added cart_id=k1 with cart k1 open\n");
    ana.merge(device, None);
    assert_eq!(ana.exits().last(), Some(&"MERGED"));
}

/// Found by the property of overflowing lists: neither list is full, both together are.
#[test]
fn a_stop_that_finds_no_room_among_the_facts_of_both_halves_stops_nevertheless() {
    let ws = shop(CART);
    let line = |half: &str, n| format!("{n}m event Order Completed order_id={half}{n} ago=10d");
    let old = |half: &str| (21..61).map(|n| line(half, n)).collect::<Vec<_>>().join("\n");
    let (mut ana, device) = halves(
        &ws,
        &format!("{ANA}20m event Order Completed order_id=o1\n{}", old("a")),
        &format!("0m event Product Added cart_id=k1 with cart k1 open\n{}", old("b")),
    );
    ana.merge(device, None);
    assert!(ana.state.facts.iter().all(|f| f.at > ana.state.runs.iter().map(|r| r.entered_at).max().unwrap_or(0)));
    assert_eq!(ana.exits(), ["GOAL"]);
}

#[test]
fn timers_that_fell_due_on_the_road_fire_afterwards() {
    let ws = shop(CART);
    let device = World::of(&ws, 2).with("0m event Product Added cart_id=k1 with cart k1 open\n");
    let carts = device.state.person.clone();
    let mut ana = World::of(&ws, 1).with(&format!("{ANA}90m ."));
    // It left its old home before the timer was due.
    let mut moved = World::of(&ws, 2);
    moved.state = device.state;
    moved.now = ana.now;
    ana.merge(moved, carts.as_ref());
    ana.play("91m .");
    assert_eq!(ana.sent(), ["remind"]);
}

#[test]
fn a_person_of_many_halves_keeps_no_more_runs_than_one() {
    let ws = shop(CART);
    let cart = |half: usize, n: usize| format!("{n}m event Product Added cart_id=k{half}x{n} with cart k{half}x{n} open\n");
    let half = |half: u8| {
        let story: String = (0..10).map(|n| cart(half.into(), n)).collect();
        World::of(&ws, half).with(&format!("{story}30m ."))
    };
    let mut ana = half(1);
    for other in 2..=4 {
        ana.merge(half(other), None);
        assert!(ana.state.runs.iter().filter(|r| crate::journey::is_live(r)).count() <= crate::journey::MAX_RUNS);
    }
    assert_eq!(ana.exits().iter().filter(|e| **e == "RUN_LIMIT").count(), 8);
}
