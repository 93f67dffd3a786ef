//! What differs between engine versions, and a timer that fires although upstream is behind.

use waypost_types::{RunId, Span};

use super::{
    harness::{World, shop},
    stories::{ANA, CART},
};
use crate::version::{CURRENT, Version};

/// An event older than the last run's end, under this version: what the trail's refusal notes.
fn refused(engine: u32) -> (World, String) {
    let mut world = World::new(&shop(CART));
    world.engine = Version(engine);
    world.play(&format!(
        "{ANA}0m event Product Added cart_id=k1 id=m1 with cart k1 open
         10m event Order Completed order_id=o1 with cart k1 ordered
         20m event Product Added cart_id=k1 ago=15m with cart k1 open"
    ));
    let refusal = world.state.trail.iter().find(|t| t.what == "REFUSED").expect("refused");
    assert_eq!(refusal.reason, "REENTRY");
    let note = refusal.note.clone();
    (world, note)
}

#[test]
fn since_the_second_version_a_refused_reentry_names_the_earlier_run() {
    assert_eq!(refused(CURRENT).1, "entry touched");
    let (world, note) = refused(2);
    let run = world.decisions.iter().find(|d| d.what == "ENTERED").expect("entered").run.clone();
    let earlier = RunId::from_slice(&world.state.past[0].id).unwrap().to_string();
    assert_eq!((note, run), (format!("entry touched, earlier run {earlier}"), earlier));
}

#[test]
fn a_timer_that_fires_while_upstream_is_behind_says_so() {
    let causes = |proven: Option<Span>| {
        let mut world = World::new(&shop(CART));
        world.proven = proven.map(|behind| world.now.plus(behind));
        world.play(&format!("{ANA}0m event Product Added cart_id=k1 with cart k1 open\n90m ."));
        world.state.trail.iter().filter(|t| t.what == "SENT").map(|t| t.cause.clone()).collect::<Vec<String>>()
    };
    assert_eq!(causes(None), ["timer delay"]);
    assert_eq!(causes(Some(Span::from_hours(1))), ["timer delay"], "due at the instant that is proven");
    assert_eq!(causes(Some(Span::from_secs(3_599))), ["timer delay, upstream was behind"]);
}
