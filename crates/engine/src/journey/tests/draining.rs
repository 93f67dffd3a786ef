//! What waits after two halves have met, what sleeps until its definitions come, and what is forgotten.

use std::sync::Arc;

use bytes::Bytes;
use waypost_codec::state::JourneyProfile;
use waypost_types::Timestamp;

use super::{
    harness::{World, shop},
    stories::{ANA, CART},
};
use crate::{
    definitions::Workspace,
    drain,
    journey::{entry, is_live, wakeups},
};

const TOUCH: &str = "0m event Product Added cart_id=k1 with cart k1 open\n";

fn node(n: u8) -> Bytes {
    Bytes::copy_from_slice(&[n; 31])
}

/// Ana, whose reminder is due at 60m, and two nodes that joined at 50m.
fn draining(ws: &Arc<Workspace>) -> World {
    let mut ana = World::of(ws, 1).with(&format!("{ANA}{TOUCH}50m ."));
    let now = ana.now;
    drain::begin(&mut ana.state, &[node(1), node(2)], now);
    ana
}

#[test]
fn what_rests_on_absence_waits_until_everybody_has_answered() {
    let mut ana = draining(&shop(CART));
    ana.play("62m .");
    assert_eq!(ana.sent(), Vec::<&str>::new());
    drain::settled(&mut ana.state, &node(2), 0);
    ana.play("63m .");
    assert_eq!(ana.sent(), Vec::<&str>::new());
    drain::settled(&mut ana.state, &node(1), 0);
    ana.play("64m .");
    assert_eq!((ana.sent(), ana.state.draining_since), (vec!["remind"], 0));
}

#[test]
fn a_stop_that_took_the_old_road_beats_the_send() {
    let mut ana = draining(&shop(CART));
    ana.play("62m event Order Completed order_id=o1 ago=5m");
    for n in [1, 2] {
        drain::settled(&mut ana.state, &node(n), 0);
    }
    ana.play("100h .");
    assert_eq!((ana.exits(), ana.sent()), (vec!["GOAL"], vec![]));
}

#[test]
fn who_does_not_answer_is_waited_for_fifteen_minutes_and_the_trail_says_so() {
    let mut ana = draining(&shop(CART));
    drain::settled(&mut ana.state, &node(2), 0);
    ana.play("70m .");
    assert_eq!(ana.told[2..], ["65m DRAINED TIMED_OUT", "65m SENT cart remind"]);
    let drained = ana.state.trail.iter().find(|t| t.what == "DRAINED").unwrap();
    assert!(drained.note.contains("1 joined"), "{}", drained.note);
    assert!(ana.state.draining.is_empty());
}

#[test]
fn plain_timers_do_not_wait() {
    let mut state = draining(&shop(CART)).state;
    let ends = drain::ends(&state);
    assert_eq!(wakeups(&state), (ends, None));
    state.runs[0].timers[0].set_kind(waypost_codec::state::TimerKind::Plain);
    let due = Timestamp::from_millis(state.runs[0].timers[0].due);
    assert_eq!(wakeups(&state), (Some(due), None), "before the drain ends");
}

#[test]
fn of_an_erased_person_only_the_mark_stays() {
    let ws = shop(CART);
    let mut ana = World::of(&ws, 1).with(&format!("{ANA}{TOUCH}0m event Product Added cart_id=k2 with cart k2 open\n61m receipt accepted"));
    ana.play("62m .");
    let sent = ana.sent().len();
    ana.erase();
    assert_eq!(ana.exits(), ["ERASED", "ERASED"]);
    assert_eq!(ana.told.iter().filter(|l| *l == "62m recall ERASED").count(), 1, "{:?}", ana.told);
    let now = ana.now.millis();
    assert_eq!(ana.state, JourneyProfile { erased: true, erased_at: now, now, ..JourneyProfile::default() });
    // Whatever is folded afterwards changes nothing.
    ana.play("63m event Product Added cart_id=k3 with cart k3 open\n100h .");
    ana.erase();
    assert_eq!((ana.sent().len(), ana.state.erased_at), (sent, now));
}

#[test]
fn a_run_of_definitions_to_come_sleeps_and_wakes_on_what_happened_meanwhile() {
    let ws = shop(CART);
    for (meanwhile, exits, sent) in [("40m event Order Completed order_id=o1\n", vec!["GOAL"], vec![]), ("", vec![], vec!["remind"])] {
        let device = World::of(&ws, 2).with(TOUCH);
        let carts = device.state.person.clone();
        // Here no journey is in force yet, so nobody looks for orders.
        let mut ana = World::of(&shop(""), 1).with(&format!("{ANA}30m ."));
        ana.merge(device, carts.as_ref());
        ana.play(&format!("{meanwhile}90m ."));
        assert_eq!((ana.exits(), ana.sent()), (vec![], vec![]), "it sleeps");
        ana.under(&ws);
        ana.play("92m .");
        assert_eq!((ana.exits(), ana.sent()), (exits, sent), "{meanwhile}");
    }
}

#[test]
fn a_run_of_a_retired_version_falls_at_the_import() {
    let ws = shop(CART);
    let mut device = World::of(&ws, 2).with(TOUCH);
    device.state.runs[0].version = 0;
    let mut ana = World::of(&ws, 1).with(&format!("{ANA}30m ."));
    ana.merge(device, None);
    assert_eq!(ana.exits(), ["CANCELLED"]);
}

#[test]
fn without_the_second_look_a_stop_of_the_other_half_is_missed() {
    let ws = shop(CART);
    let mut ana = World::of(&ws, 1).with(&format!("{ANA}20m event Order Completed order_id=o1\n30m ."));
    let device = World::of(&ws, 2).with(TOUCH);
    let carts = device.state.person.clone();
    ana.rechecks = false;
    ana.merge(device, carts.as_ref());
    ana.play("61m .");
    assert_eq!(ana.sent(), ["remind"], "this is what the rule is for");
}

#[test]
fn a_run_that_a_late_event_began_is_judged_from_that_event_on() {
    let ws = shop(CART);
    // Seventy orders of long ago at 80m: that the first six are forgotten matters to what began at 75m.
    let orders: Vec<String> = (0..70).map(|n| format!("{}s event Order Completed order_id=o{n} ago=10d", 80 * 60 + n)).collect();
    let story = format!("{ANA}{}\n101m .", orders.join("\n"));
    for (ago, exits) in [(25, vec!["MERGED"]), (15, vec![])] {
        let device = World::of(&ws, 2).with(&format!("100m event Product Added cart_id=k1 ago={ago}m with cart k1 open"));
        let carts = device.state.person.clone();
        let mut ana = World::of(&ws, 1).with(&story);
        ana.merge(device, carts.as_ref());
        assert_eq!(ana.exits(), exits, "{ago} minutes late");
    }
}

#[test]
fn the_run_that_stays_takes_the_variables_of_the_newer_entry() {
    let ws = shop(CART);
    let mut ana = World::of(&ws, 1).with(&format!("{ANA}5m event Product Added cart_id=k1 with cart k1 open\n30m ."));
    let entered = ana.now;
    let device =
        World::of(&ws, 2).with(&format!("{ANA}0m event Product Added cart_id=k1 ago=30m with cart k1 open\n31m receipt accepted\n"));
    ana.play("40m .");
    ana.merge(device, None);
    let live = ana.state.runs.iter().find(|r| is_live(r)).unwrap();
    assert_eq!(live.step, "day-2", "the device's went further");
    assert_eq!(entry::of(live).event_time, entered.millis() - 25 * 60_000, "but ana's entry is the newer");
}

#[test]
fn a_local_deadline_moves_with_the_zone_that_the_other_half_knew() {
    let ws = shop(
        r#"
journey morning
  topic: news
  entries: [{id: in, on_event: {name: Signed Up}}]
  steps:
    - {id: wake, delay: {until: {time: "02:30"}}}
"#,
    );
    let device = World::of(&ws, 2).with("0m event Signed Up a=b\n");
    let mut ana = World::of(&ws, 1).with("0m field timezone Asia/Tokyo\n60m .");
    let zone = ana.state.person.clone();
    ana.merge(device, zone.as_ref());
    ana.play("30h .");
    assert_eq!(ana.told.last().map(String::as_str), Some("570m EXITED morning wake COMPLETED"));
}
