//! One journey, one profile.

use super::harness::{World, check, play, shop};

/// Reminder after an hour, another a day after the touch; any order ends it.
pub(super) const CART: &str = r#"
journey cart
  topic: news
  priority: 80
  late: {allow: 30m}
  max_age: 6d
  entries:
    - {id: touched, on_event: {names: [Product Added, Cart Updated]}, where: cart_open(event.cart_id), key: event.cart_id, while_live: rearm}
  exit_on:
    - {id: emptied, when: 'cart(run.key).status == "emptied"'}
  goal: {event: Order Completed, within: 7d}
  steps:
    - {id: settle, delay: {for: 1h, from: entry}}
    - {id: remind, send: {channel: email, template: hello, valid_for: 6h, fresh: [cart]}}
    - {id: day-2, delay: {for: 24h, from: entry, min: 12h}}
    - {id: again, send: {channel: email, template: hello, valid_for: 6h, fresh: [cart]}}
"#;
pub(super) const ANA: &str = "0m address ana@shop.example · consent email/news granted\n";

fn cart(story: &str, expected: &str) {
    check(CART, &format!("{ANA}{story}"), expected);
}

#[test]
fn a_cart_left_alone_is_reminded_of_once_and_once_more() {
    cart(
        "0m event Product Added cart_id=k1 with cart k1 open
         61m receipt accepted
         25h receipt accepted
         200h .",
        "0s ENTERED cart
         0s WAITING cart settle
         1h SENT cart remind
         61m RECEIPT cart remind accepted
         61m WAITING cart day-2
         1d SENT cart again
         25h RECEIPT cart again accepted
         25h EXITED cart again COMPLETED",
    );
}

/// Found by the simulator: an identifier joined lately takes a longer road than the stop.
#[test]
fn a_stop_that_overtook_the_entry_stops_it() {
    cart(
        "10m event Order Completed order_id=o1
         11m event Product Added cart_id=k1 ago=5m with cart k1 open
         12m event Product Added cart_id=k2 with cart k2 open
         80m .",
        "11m REFUSED cart ENTRY_EXITS
         12m ENTERED cart
         12m WAITING cart settle
         72m SENT cart remind",
    );
}

#[test]
fn every_touch_before_the_first_send_starts_the_clock_anew() {
    cart(
        "0m event Product Added cart_id=k1 with cart k1 open
         50m event Cart Updated cart_id=k1
         100m event Cart Updated cart_id=k1
         160m .
         161m .",
        "0s ENTERED cart
         0s WAITING cart settle
         50m REARMED cart
         50m WAITING cart settle
         100m REARMED cart
         100m WAITING cart settle
         160m SENT cart remind",
    );
}

#[test]
fn a_touch_after_the_first_send_changes_no_timer() {
    cart(
        "0m event Product Added cart_id=k1 with cart k1 open
         61m receipt accepted
         2h event Cart Updated cart_id=k1
         25h .",
        "0s ENTERED cart
         0s WAITING cart settle
         1h SENT cart remind
         61m RECEIPT cart remind accepted
         61m WAITING cart day-2
         2h REARMED cart day-2 UPDATED
         1d SENT cart again",
    );
}

#[test]
fn a_stop_ends_the_run_in_a_delay_and_in_a_send() {
    cart(
        "0m event Product Added cart_id=k1 with cart k1 open
         59m event Order Completed order_id=o1 with cart k1 ordered
         100h .",
        "0s ENTERED cart
         0s WAITING cart settle
         59m GOAL cart settle
         59m EXITED cart settle GOAL",
    );
    // At the due instant itself the record goes first.
    cart(
        "0m event Product Added cart_id=k1 with cart k1 open
         60m event Order Completed order_id=o1
         100h .",
        "0s ENTERED cart
         0s WAITING cart settle
         1h GOAL cart settle
         1h EXITED cart settle GOAL",
    );
    cart(
        "0m event Product Added cart_id=k1 with cart k1 open
         61m event Order Completed order_id=o1
         62m receipt stopped RECALLED
         100h .",
        "0s ENTERED cart
         0s WAITING cart settle
         1h SENT cart remind
         61m GOAL cart remind
         61m EXITED cart remind GOAL
         61m recall GOAL
         61m RECALLED cart remind GOAL
         62m RECEIPT cart remind RECALLED",
    );
}

#[test]
fn a_recall_that_came_too_late_says_so() {
    let world = World::new(&shop(CART)).with(&format!(
        "{ANA}0m event Product Added cart_id=k1 with cart k1 open
         61m event Order Completed order_id=o1
         62m receipt accepted"
    ));
    let trail = world.state.trail.last().unwrap();
    assert_eq!((trail.what.as_str(), trail.note.as_str()), ("RECEIPT", "after the run ended"));
    assert_eq!(world.state.sends[0].state(), waypost_codec::state::SendState::Accepted);
}

#[test]
fn a_state_ends_the_run_and_refuses_the_next() {
    cart(
        "0m event Product Added cart_id=k1 with cart k1 open
         30m cart k1 emptied
         100h .",
        "0s ENTERED cart
         0s WAITING cart settle
         30m EXITED cart settle emptied",
    );
    let with_filterless = CART.replace("where: cart_open(event.cart_id), ", "");
    check(&with_filterless, &format!("{ANA}0m event Product Added cart_id=k1 with cart k1 emptied"), "0s REFUSED cart ENTRY_EXITS");
}

#[test]
fn refusals_have_their_codes() {
    for (event, code) in [
        ("event Product Added cart_id=k9", "ENTRY_UNKNOWN"),
        ("event Product Added cart_id=k1 with cart k1 ordered", "ENTRY_FILTER"),
        ("event Product Added cart_id=k1 historical=yes with cart k1 open", "HISTORICAL"),
        ("event Product Added cart_id=k1 ago=31m with cart k1 open", "ENTRY_LATE"),
    ] {
        check(CART, &format!("{ANA}0m {event}"), &format!("0s REFUSED cart {code}"));
    }
    let keyed = CART.replace("where: cart_open(event.cart_id), ", "");
    let long = "k".repeat(129);
    check(&keyed, &format!("{ANA}0m event Product Added cart_id={long}"), "0s REFUSED cart KEY_INVALID");
    check(&keyed, &format!("{ANA}0m event Product Added other=1"), "0s REFUSED cart KEY_INVALID");
    let skip = CART.replace("while_live: rearm", "while_live: skip");
    let told = play(&skip, &format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open\n1m event Cart Updated cart_id=k1"));
    assert!(told.ends_with("1m REFUSED cart ALREADY_LIVE"), "{told}");
    let requires = CART.replace("  priority: 80\n", "  priority: 80\n  requires: [profile.first_name]\n");
    check(&requires, &format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open"), "0s REFUSED cart FIELD_MISSING");
}

#[test]
fn a_late_event_within_what_is_allowed_counts_from_its_own_time() {
    cart(
        "0m event Product Added cart_id=k1 ago=20m with cart k1 open
         41m .",
        "0s ENTERED cart
         0s WAITING cart settle
         40m SENT cart remind",
    );
}

#[test]
fn an_older_touch_does_not_turn_the_clock_back() {
    cart(
        "0m event Product Added cart_id=k1 with cart k1 open
         10m event Cart Updated cart_id=k1 ago=20m
         61m .",
        "0s ENTERED cart
         0s WAITING cart settle
         10m REFUSED cart ALREADY_LIVE
         1h SENT cart remind",
    );
}

#[test]
fn ten_runs_of_one_journey_are_the_limit() {
    let touches: Vec<String> = (0..11).map(|n| format!("{n}m event Product Added cart_id=k{n} with cart k{n} open")).collect();
    let story = format!("{ANA}{}", touches.join("\n"));
    let world = World::new(&shop(CART)).with(&story);
    assert_eq!(world.told.last().map(String::as_str), Some("10m REFUSED cart RUN_LIMIT"));
    assert_eq!(world.state.runs.len(), 10);
}

#[test]
fn a_run_may_start_again_after_its_exit_by_event_time_and_never_twice_on_one_event() {
    let story = "0m event Product Added cart_id=k1 id=m1 with cart k1 open
         10m event Order Completed order_id=o1 with cart k1 ordered
         20m event Product Added cart_id=k1 ago=15m with cart k1 open
         21m event Product Added cart_id=k1
         22m event Order Completed order_id=o2";
    let told = play(CART, &format!("{ANA}{story}"));
    let entered: Vec<&str> = told.lines().filter(|l| l.contains("ENTERED") || l.contains("REFUSED")).collect();
    assert_eq!(entered, ["0s ENTERED cart", "20m REFUSED cart REENTRY", "21m ENTERED cart"]);
    let told = play(
        CART,
        &format!(
            "{ANA}0m event Product Added cart_id=k1 id=m1 with cart k1 open\n0m cart k1 emptied\n0m event Product Added cart_id=k1 id=m1 with cart k1 open"
        ),
    );
    assert!(told.ends_with("REFUSED cart REENTRY"), "{told}");
}

#[test]
fn a_stop_that_happened_before_the_entry_does_not_count() {
    cart(
        "5m event Product Added cart_id=k1 with cart k1 open
         6m event Order Completed order_id=o1 ago=2m
         7m event Order Completed order_id=o2 historical=yes",
        "5m ENTERED cart
         5m WAITING cart settle
         7m GOAL cart settle
         7m EXITED cart settle GOAL",
    );
}

#[test]
fn the_goal_counts_after_the_exit_within_its_window() {
    let story = "0m event Product Added cart_id=k1 with cart k1 open\n1m cart k1 emptied\n";
    let told = play(CART, &format!("{ANA}{story}48h event Order Completed order_id=o1\n49h event Order Completed order_id=o2"));
    assert_eq!(told.lines().filter(|l| l.contains("GOAL")).collect::<Vec<_>>(), ["2d GOAL cart settle"]);
    let late = World::new(&shop(CART)).with(&format!("{ANA}{story}169h event Order Completed order_id=o1"));
    assert!(!late.told.join("\n").contains("GOAL"));
    assert!(late.state.runs.is_empty(), "the window has closed");
}

#[test]
fn rule_and_goal_in_one_record_exit_as_goal() {
    let journey = CART.replace(
        "  goal: {event: Order Completed, within: 7d}",
        "    - {id: bought, event: Order Completed}\n  goal: {event: Order Completed, within: 7d}",
    );
    check(
        &journey,
        &format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open\n1m event Order Completed order_id=o1"),
        "0s ENTERED cart
         0s WAITING cart settle
         1m GOAL cart settle
         1m EXITED cart settle GOAL",
    );
    let stays = journey.replace("within: 7d}", "within: 7d, exit: false}");
    check(
        &stays,
        &format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open\n1m event Order Completed order_id=o1"),
        "0s ENTERED cart
         0s WAITING cart settle
         1m GOAL cart settle
         1m EXITED cart settle bought",
    );
}

#[test]
fn a_run_ends_at_its_greatest_age() {
    // No receipt ever comes.
    cart(
        "0m event Product Added cart_id=k1 with cart k1 open
         145h .",
        "0s ENTERED cart
         0s WAITING cart settle
         1h SENT cart remind
         6d EXITED cart remind MAX_AGE
         6d recall MAX_AGE
         6d RECALLED cart remind MAX_AGE",
    );
}

#[test]
fn a_retry_to_come_settles_nothing() {
    cart(
        "0m event Product Added cart_id=k1 with cart k1 open
         61m receipt transient
         62m receipt unknown
         63m receipt accepted",
        "0s ENTERED cart
         0s WAITING cart settle
         1h SENT cart remind
         62m RECEIPT cart remind unknown
         62m WAITING cart day-2
         63m RECEIPT cart remind accepted",
    );
}

/// Waits, branches, outcomes.
const ORDER: &str = r#"
journey order
  topic: news
  entries: [{id: ordered, on_event: {name: Order Completed}, key: event.order_id}]
  steps:
    - {id: first, delay: {for: 1h}}
    - id: delivered
      wait:
        any:
          - {id: arrived, event: Order Delivered, where: event.order_id == run.key, then: thanks}
          - {id: vip, segment: vip, is: in, then: gift}
        timeout: {for: 2d}
        on_timeout: gone
    - {id: thanks, send: {channel: email, template: hello}, then: {stopped: sorry}, next: end}
    - {id: sorry, exit: {reason: NOT_SENT}}
    - {id: gift, branch: {cases: [{when: 'profile.first_name == "Ana"', then: thanks}], else: gone}}
    - {id: gone, exit: {reason: LOST}}
"#;

fn order(story: &str) -> String {
    play(ORDER, story)
}

#[test]
fn a_wait_ends_by_event_state_or_deadline() {
    let enter = "0m event Order Completed order_id=o1\n";
    for (story, ends) in [
        ("3h event Order Delivered order_id=o1", "3h STOPPED order thanks CONSENT_MISSING\n3h EXITED order sorry NOT_SENT"),
        ("3h event Order Delivered order_id=o2", "1h WAITING order delivered"),
        // Remembered from before the wait, since the entry; but what happened before the entry is not.
        (
            "30m event Order Delivered order_id=o1\n2h .",
            "1h BRANCHED order delivered arrived\n1h STOPPED order thanks CONSENT_MISSING\n1h EXITED order sorry NOT_SENT",
        ),
        ("30m event Order Delivered order_id=o1 ago=40m\n2h .", "1h WAITING order delivered"),
        ("30m event Order Delivered order_id=o1 historical=yes\n2h .", "1h WAITING order delivered"),
        ("3h segment vip yes", "3h BRANCHED order delivered vip\n3h BRANCHED order gift else\n3h EXITED order gone LOST"),
        ("30m segment vip yes\n2h .", "1h BRANCHED order delivered vip\n1h BRANCHED order gift else\n1h EXITED order gone LOST"),
        ("50h .", "49h BRANCHED order delivered timeout\n49h EXITED order gone LOST"),
        // At one instant the event wins.
        ("49h event Order Delivered order_id=o1", "2d WAITING"),
    ] {
        let told = order(&format!("{enter}{story}"));
        let last = if ends == "2d WAITING" { "49h EXITED order sorry NOT_SENT" } else { ends };
        assert!(told.ends_with(last), "{story}:\n{told}");
    }
}

#[test]
fn of_several_arms_the_first_of_the_list_wins() {
    let told = order("0m event Order Completed order_id=o1\n30m segment vip yes\n40m event Order Delivered order_id=o1\n2h .");
    assert!(told.contains("1h BRANCHED order delivered arrived"), "{told}");
}

#[test]
fn a_branch_takes_the_first_case_that_is_yes() {
    let told = order(&format!("{ANA}0m event Order Completed order_id=o1\n30m field first_name Ana\n31m segment vip yes\n2h ."));
    assert!(told.ends_with("1h BRANCHED order gift case 1\n1h SENT order thanks"), "{told}");
}

#[test]
fn a_condition_that_time_flips_is_looked_at_again() {
    let journey = r#"
journey fade
  topic: news
  entries: [{id: in, on_event: {name: Signed Up}}]
  exit_on: [{id: old, when: 'elapsed(run.entered_at, "5h")'}]
  steps:
    - {id: rest, delay: {for: 9h}}
"#;
    check(
        journey,
        "0m event Signed Up a=b\n100h .",
        "0s ENTERED fade
         0s WAITING fade rest
         5h EXITED fade rest old",
    );
}

#[test]
fn a_run_yields_to_a_more_important_one_at_entry_and_at_each_send() {
    let both = format!(
        "{}{CART}",
        r"
journey browse
  topic: news
  priority: 60
  yields_to: [cart]
  entries: [{id: seen, on_event: {name: Product Viewed}, key: event.product_id}]
  steps:
    - {id: later, delay: {for: 2h}}
    - {id: look, send: {channel: email, template: hello}}
"
    );
    check(
        &both,
        &format!(
            "{ANA}0m event Product Viewed product_id=p1
             90m event Product Added cart_id=k1 with cart k1 open
             100m event Product Viewed product_id=p2
             121m ."
        ),
        "0s ENTERED browse
         0s WAITING browse later
         90m ENTERED cart
         90m WAITING cart settle
         100m REFUSED browse YIELDS
         2h STOPPED browse look YIELDS
         2h EXITED browse look COMPLETED",
    );
}

#[test]
fn one_event_ends_one_journey_and_starts_another_by_priority() {
    let both = format!(
        "{}{CART}",
        r"
journey after
  topic: news
  priority: 90
  entries: [{id: bought, on_event: {name: Order Completed}, key: event.order_id}]
  steps: [{id: rest, delay: {for: 1d}}]
journey also
  topic: news
  priority: 90
  entries: [{id: bought, on_event: {name: Order Completed}, key: event.order_id}]
  steps: [{id: rest, delay: {for: 1d}}]
"
    );
    check(
        &both,
        &format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open\n1m event Order Completed order_id=o1"),
        "0s ENTERED cart
         0s WAITING cart settle
         1m GOAL cart settle
         1m EXITED cart settle GOAL
         1m ENTERED after
         1m WAITING after rest
         1m ENTERED also
         1m WAITING also rest",
    );
}

#[test]
fn local_times_follow_the_clocks_and_the_persons_zone() {
    let journey = r#"
journey morning
  topic: news
  entries: [{id: in, on_event: {name: Signed Up}}]
  steps:
    - {id: wake, delay: {until: {time: "02:30"}}}
"#;
    let ends = |start: &str, story: &str| {
        let world = World::new(&shop(journey)).starting(start).with(story);
        world.told.last().cloned().unwrap_or_default()
    };
    // Berlin, the night the clocks go forward: 02:30 is skipped, 03:00 summer time is 01:00 UTC.
    assert_eq!(ends("2026-03-28T22:30:00Z", "0m event Signed Up a=b\n30h ."), "150m EXITED morning wake COMPLETED");
    // The night they go back: the first 02:30 is 00:30 UTC.
    assert_eq!(ends("2026-10-24T22:30:00Z", "0m event Signed Up a=b\n30h ."), "2h EXITED morning wake COMPLETED");
    // Tokyo is nine hours ahead; the deadline moves with the person.
    let told = ends("2026-06-01T08:00:00Z", "0m event Signed Up a=b\n1h field timezone Asia/Tokyo\n30h .");
    assert_eq!(told, "570m EXITED morning wake COMPLETED");
}

#[test]
fn runs_finish_on_the_version_they_entered() {
    let old = shop(CART);
    let mut world = World::new(&old).with(&format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open"));
    assert_eq!(world.state.runs[0].version, old.journeys["cart"].active.unwrap());
    // A version that no definition names any more ends its run instead of guessing.
    world.state.runs[0].version = 0;
    world.play("2h .");
    assert_eq!(world.told.last().map(String::as_str), Some("1h EXITED cart settle CANCELLED"));
}

#[test]
fn a_run_of_a_version_not_yet_activated_here_sleeps() {
    let ws = shop(CART);
    let mut world = World::new(&ws).with(&format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open"));
    let version = world.state.runs[0].version;
    world.state.runs[0].version = version + 1;
    world.play("90m .");
    assert_eq!(world.sent(), Vec::<&str>::new());
    world.state.runs[0].version = version;
    world.play("92m .");
    assert_eq!(world.sent(), ["remind"]);
}

#[test]
fn steps_without_time_passing_have_an_end() {
    let branches: Vec<String> = (0..70)
        .map(|n| format!("    - {{id: b{n}, branch: {{cases: [{{when: profile.order_count > 5, then: end}}], else: b{}}}}}", n + 1))
        .collect();
    let journey = format!(
        "journey long\n  topic: news\n  entries: [{{id: in, on_event: {{name: Ping}}}}]\n  steps:\n{}\n    - {{id: b70, exit: {{reason: DONE}}}}\n",
        branches.join("\n")
    );
    let told = play(&journey, "0m event Ping a=b");
    assert!(told.ends_with("0s EXITED long b63 LOOP_GUARD"), "{told}");
}

#[test]
fn the_entry_replaced_later_gives_later_delays_their_base() {
    // Touched again two hours later: the day's delay that runs already stays, the next one counts from the touch.
    let longer = format!(
        "{CART}    - {{id: day-3, delay: {{for: 72h, from: entry}}}}\n    - {{id: last, send: {{channel: email, template: hello}}}}\n"
    );
    let told = play(
        &longer,
        &format!(
            "{ANA}0m event Product Added cart_id=k1 with cart k1 open\n61m receipt accepted\n2h event Cart Updated cart_id=k1\n25h receipt accepted\n80h ."
        ),
    );
    let sent: Vec<&str> = told.lines().filter(|l| l.contains("SENT")).collect();
    assert_eq!(sent, ["1h SENT cart remind", "1d SENT cart again", "74h SENT cart last"]);
}
