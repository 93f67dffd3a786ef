//! Runs that an operator begins or ends.

use waypost_codec::inbox::{CancelRuns, RunCommand, run_command::What};
use waypost_types::RunId;

use super::{
    harness::{SHOP, World, shop},
    stories::{ANA, CART},
};
use crate::{
    definitions::Standing,
    journey::{entry, ids},
};

/// One run a person, without a key.
const NAP: &str = r#"
journey nap
  topic: news
  entries: [{id: in, on_event: {name: Ping}}]
  exit_on: [{id: woken, when: 'profile.last_name == "Awake"'}]
  requires: [profile.first_name]
  goal: {event: Order Completed, within: 7d}
  steps:
    - {id: rest, delay: {for: 1h}}
    - {id: hello, send: {channel: email, template: hello}}
"#;

fn played(journeys: &str, story: &str) -> World {
    World::new(&shop(journeys)).with(story)
}

#[test]
fn a_run_that_an_operator_begins_goes_its_way_whatever_the_entrys_filter_says() {
    let world = played(CART, &format!("{ANA}0m start cart k1\n30m cart k1 open\n2h ."));
    assert_eq!(world.told, ["0s ENTERED cart", "0s WAITING cart settle", "1h SENT cart remind"]);
    let run = &world.state.runs[0];
    assert_eq!((run.key.as_str(), run.entry_id.as_str()), ("k1", "touched"));
    let entered = entry::of(run);
    assert_eq!(entered.name, "Run Started");
    let cause = &entered.message_id;
    let id = ids::run_id(SHOP, "cart", &world.profile, "k1", cause);
    assert_eq!(RunId::from_slice(&run.id).unwrap(), id, "as of an event, by the record's id");
    assert_eq!(world.state.trail[0].cause, "operator");
    assert_eq!(world.state.events, 0, "nothing has happened");
}

#[test]
fn the_property_that_a_key_is_read_from_is_known_of_it() {
    let world = played(CART, &format!("{ANA}0m start cart k1"));
    let properties = entry::of(&world.state.runs[0]).properties.unwrap().entries;
    assert_eq!(properties.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["cart_id"]);
    // without a cart the message is not fresh, as after an event
    let world = played(CART, &format!("{ANA}0m start cart k1\n2h ."));
    assert!(world.told[2].starts_with("1h STOPPED cart remind"), "{:?}", world.told);
}

#[test]
fn what_an_entry_may_not_do_an_operator_may_not_do_either() {
    for (journeys, story, refused) in [
        (CART, "0m start cart", "0s REFUSED cart KEY_INVALID"),
        (NAP, "0m start nap k1", "0s REFUSED nap KEY_INVALID"),
        (NAP, "0m start none", "0s REFUSED none NOT_IN_FORCE"),
        (NAP, "0m start nap", "0s REFUSED nap FIELD_MISSING"),
        (NAP, "0m field first_name Ana\n1m field last_name Awake\n2m start nap", "2m REFUSED nap ENTRY_EXITS"),
        (NAP, "0m field first_name Ana\n1m start nap\n2m start nap", "2m REFUSED nap ALREADY_LIVE"),
    ] {
        let world = played(journeys, story);
        assert_eq!(world.told.last().map(String::as_str), Some(refused), "{story}");
        let told = world.state.trail.last().unwrap();
        assert_eq!((told.what.as_str(), told.run.len()), ("REFUSED", 0));
    }
    let long = "k".repeat(crate::journey::MAX_KEY + 1);
    assert_eq!(played(CART, &format!("0m start cart {long}")).told, ["0s REFUSED cart KEY_INVALID"]);
    let mut world = World::new(&shop(CART));
    world.stands(Standing::Paused);
    world.play("0m start cart k1");
    assert_eq!(world.told, ["0s REFUSED cart JOURNEY_PAUSED"]);
}

#[test]
fn a_cancelled_run_takes_back_what_is_queued_and_its_goal_still_counts() {
    let world = played(
        NAP,
        &format!(
            "{ANA}0m field first_name Ana\n1m event Ping\n62m receipt accepted\n63m cancel nap\n70m event Order Completed order_id=o1"
        ),
    );
    assert_eq!(
        world.told[2..],
        ["61m SENT nap hello", "62m RECEIPT nap hello accepted", "62m EXITED nap hello COMPLETED", "70m GOAL nap hello",]
            .map(str::to_owned),
        "what has ended is left as it is"
    );
    let world = played(
        CART,
        &format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open\n61m cancel cart\n70m event Order Completed order_id=o1"),
    );
    assert_eq!(
        world.told[2..],
        [
            "1h SENT cart remind",
            "61m EXITED cart remind CANCELLED",
            "61m recall CANCELLED",
            "61m RECALLED cart remind CANCELLED",
            "70m GOAL cart remind"
        ]
        .map(str::to_owned)
    );
    assert_eq!(world.exits(), ["CANCELLED"]);
}

#[test]
fn one_run_is_cancelled_by_its_id_and_may_be_begun_again() {
    let mut world = World::new(&shop(CART)).with(&format!("{ANA}0m start cart k1\n1m start cart k2"));
    let one = world.state.runs[0].id.clone();
    let command = RunCommand { node: None, what: Some(What::Cancel(CancelRuns { run: one, journey: String::new() })) };
    world.follow(&command);
    assert_eq!(world.state.runs.iter().filter(|r| r.exit_reason.is_empty()).map(|r| r.key.as_str()).collect::<Vec<_>>(), ["k2"]);
    world.play("2m start cart k1");
    assert_eq!(world.told.last().map(String::as_str), Some("2m WAITING cart settle"));
    world.play("3m cancel nothing");
    assert_eq!(world.exits(), ["CANCELLED"], "of a journey that she is not in nothing ends");
}
