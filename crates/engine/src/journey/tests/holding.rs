//! Journeys that are paused, resumed and killed while somebody is in them.

use std::sync::Arc;

use super::{
    harness::{World, shop},
    merging::halves,
    stories::{ANA, CART},
};
use crate::definitions::{Standing, Workspace};

/// Somebody who has filled a cart at the start; a mail is due after an hour.
fn filled(ws: &Arc<Workspace>) -> World {
    World::new(ws).with(&format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open"))
}

/// What was decided from the line with this number on.
fn told(world: &World, from: usize) -> String {
    world.told[from..].join("\n")
}

#[test]
fn nobody_enters_a_paused_journey_and_whoever_its_filter_lets_by_is_not_told_of() {
    let mut world = World::new(&shop(CART));
    world.stands(Standing::Paused);
    world.play(&format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open\n1m event Product Added cart_id=k1"));
    assert_eq!(told(&world, 0), "0s REFUSED cart JOURNEY_PAUSED\n1m REFUSED cart JOURNEY_PAUSED");
    world.stands(Standing::Running);
    world.play("2m event Product Added cart_id=k1");
    assert_eq!(told(&world, 2), "2m ENTERED cart\n2m WAITING cart settle");
}

#[test]
fn a_paused_send_waits_and_goes_within_a_quarter_of_an_hour_of_the_resume() {
    let mut world = filled(&shop(CART));
    world.stands(Standing::Paused);
    world.play("3h .");
    assert_eq!(told(&world, 2), "1h DEFERRED cart remind JOURNEY_PAUSED", "said once, however often it looks");
    let waits = world.state.trail.last().unwrap();
    assert!(waits.note.starts_with("times 9 until "), "{}", waits.note);
    assert_eq!(waits.checks.last().map(|c| (c.what.as_str(), c.operands.join(""))), Some(("1 JOURNEY", "cart is paused".to_owned())));
    world.stands(Standing::Running);
    world.play("195m .");
    assert_eq!(world.sent(), ["remind"]);
    let late = world.decisions.last().unwrap().at.since(world.decisions[0].at).millis() / 60_000;
    assert!((180..195).contains(&late), "{late}");
}

#[test]
fn each_run_has_its_own_minute_to_look() {
    let ws = shop(CART);
    let minute = |number: u8| {
        let mut world = World::of(&ws, number).with(&format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open"));
        world.stands(Standing::Paused);
        world.play("2h .");
        world.stands(Standing::Running);
        world.play("136m .");
        world.decisions.iter().find(|d| d.what == "SENT").map(|d| d.at.millis() / 60_000 % 15)
    };
    let minutes: std::collections::BTreeSet<Option<i64>> = (1..100).map(minute).collect();
    assert!(!minutes.contains(&None));
    assert_eq!(minutes.len(), 15, "{minutes:?}");
}

#[test]
fn clocks_exits_and_goals_of_a_paused_journey_go_on() {
    let mut world = filled(&shop(CART));
    world.stands(Standing::Paused);
    world.play(
        "50m event Cart Updated cart_id=k1
         2h event Order Completed order_id=o1 with cart k1 ordered
         100h .",
    );
    assert_eq!(
        told(&world, 2),
        "50m REARMED cart
50m WAITING cart settle
110m DEFERRED cart remind JOURNEY_PAUSED
2h GOAL cart remind
2h EXITED cart remind GOAL"
    );
}

#[test]
fn what_would_look_again_only_after_its_validity_is_stopped_by_the_pause() {
    let mut world = filled(&shop(&CART.replace("valid_for: 6h", "valid_for: 2h")));
    world.stands(Standing::Paused);
    world.play("4h .");
    let stopped = world.decisions.iter().find(|d| d.what == "STOPPED").unwrap();
    assert_eq!((stopped.step.as_str(), stopped.reason.as_str()), ("remind", "JOURNEY_PAUSED"));
    let minutes = stopped.at.since(world.decisions[0].at).millis() / 60_000;
    assert!((165..180).contains(&minutes), "{minutes}");
    assert_eq!(world.sent(), Vec::<&str>::new());
}

#[test]
fn a_run_of_a_killed_journey_ends_with_the_next_timer_and_sends_nothing() {
    let mut world = filled(&shop(CART));
    world.stands(Standing::Killed);
    world.play("200h .");
    assert_eq!(told(&world, 2), "1h EXITED cart settle KILLED");
    assert!(world.state.runs.is_empty(), "its goal is watched for no longer than before");
}

#[test]
fn any_record_ends_the_runs_of_a_killed_journey_and_takes_back_what_is_under_way() {
    let mut world = filled(&shop(CART)).with("61m .");
    world.stands(Standing::Killed);
    world.play("62m event Page Viewed\n63m receipt stopped RECALLED\n100h .");
    assert_eq!(
        told(&world, 3),
        "62m EXITED cart remind KILLED
62m recall KILLED
62m RECALLED cart remind KILLED
63m RECEIPT cart remind RECALLED"
    );
}

#[test]
fn the_goal_of_a_killed_run_is_still_counted() {
    let mut world = filled(&shop(CART));
    world.stands(Standing::Killed);
    world.play("30m event Page Viewed\n40m event Order Completed order_id=o1 with cart k1 ordered");
    assert_eq!(told(&world, 2), "30m EXITED cart settle KILLED\n40m GOAL cart settle");
}

#[test]
fn a_run_that_a_merge_brings_to_a_killed_journey_ends() {
    let ws = shop(CART);
    let (mut ana, device) = halves(&ws, &format!("{ANA}30m ."), "0m event Product Added cart_id=k1 with cart k1 open\n");
    ana.stands(Standing::Killed);
    ana.merge(device, None);
    assert_eq!(ana.exits(), ["KILLED"]);
    ana.play("100h .");
    assert_eq!(ana.sent(), Vec::<&str>::new());
}
