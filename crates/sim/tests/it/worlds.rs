//! Many worlds with every rule on: none goes wrong, and in them everything happens (PROTOCOL §16).

use crate::common::on_all_cores;
use waypost_sim::{Scenario, Switches, faults::Fault, run, story::Tally};

const WORLDS: u64 = 2_000;

#[test]
fn two_thousand_worlds_hold() {
    let reports = on_all_cores((0..WORLDS).collect(), |seed| {
        let report = run(&Scenario::new(seed), Switches::default(), false);
        (seed, report.wrong, report.tally)
    });
    let mut sum = Tally::default();
    for (seed, wrong, tally) in reports {
        assert_eq!(wrong, None, "seed {seed}; make it smaller and replay it with `waypost-sim --seed {seed} --shrink`");
        sum.add(&tally);
    }
    // What never happens proves nothing.
    for (what, count) in [
        ("merges", sum.merges),
        ("erases", sum.erases),
        ("expires", sum.expires),
        ("detaches", sum.detaches),
        ("tombstones buried", sum.buries),
        ("events answered for the erased", sum.answered),
        ("sends", sum.sends),
        ("sends foreseen", sum.kept),
        ("recalls", sum.recalls),
        ("races", sum.raced),
        ("messages behind the fence", sum.fenced),
        ("unknowns", sum.unknowns),
        ("takeovers", sum.takeovers),
        ("rewinds", sum.rewinds),
        ("gaps", sum.gaps),
        ("repeats", sum.repeats),
        ("discarded producers", sum.producer_resets),
        ("timers", sum.timers),
        ("audits", sum.audits),
        ("halts over losses", sum.halts),
        ("engines changed", sum.engines),
        ("halts at the barrier", sum.barriers),
        ("people in parts by a limit", sum.limited),
        ("ids forgotten", sum.forgotten_ids),
        ("look-ups", sum.look_ups),
    ] {
        assert!(count > WORLDS / 100, "only {count} {what} in {WORLDS} worlds");
    }
    // Rare ones.
    for (what, count) in [("people in parts by two user ids", sum.two_users), ("holds given up", sum.overflows)] {
        assert!(count > 0, "no {what} in {WORLDS} worlds");
    }
    for fault in Fault::ALL {
        let count = sum.faults.get(fault.name()).copied().unwrap_or(0);
        assert!(count > WORLDS / 400, "only {count} faults of kind {} in {WORLDS} worlds", fault.name());
    }
}

/// Cards that several people show, of two names, and that act alone. They are a switch, because recorded seeds are
/// worlds without them.
#[test]
fn worlds_in_which_people_have_custom_identifiers_hold() {
    let switches = Switches { cards: true, ..Switches::default() };
    let reports = on_all_cores((0..400).collect(), |seed| {
        let report = run(&Scenario::new(seed), switches, false);
        (seed, report.wrong, report.tally)
    });
    let mut sum = Tally::default();
    for (seed, wrong, tally) in reports {
        assert_eq!(wrong, None, "seed {seed}; make it smaller and replay it with `waypost-sim --cards --seed {seed} --shrink`");
        sum.add(&tally);
    }
    for (what, count) in
        [("merges", sum.merges), ("erases", sum.erases), ("detaches", sum.detaches), ("people in parts by a limit", sum.limited)]
    {
        assert!(count > 4, "only {count} {what}");
    }
    let story = |cards| run(&Scenario::new(3), Switches { cards, ..Switches::default() }, true).story;
    let shows = |cards| story(cards).lines().iter().any(|line| line.contains(" card-") || line.contains(" crm-"));
    assert!(shows(true) && !shows(false));
}

/// Journeys are paused, resumed, killed and published anew, runs are begun and ended by hand, and asked for again. A switch too.
#[test]
fn worlds_in_which_operators_are_at_work_hold() {
    const WORLDS: u64 = 400;
    let switches = Switches { operators: true, ..Switches::default() };
    let reports = on_all_cores((0..WORLDS).collect(), |seed| {
        let report = run(&Scenario::new(seed), switches, false);
        (seed, report.wrong, report.tally)
    });
    let mut sum = Tally::default();
    for (seed, wrong, tally) in reports {
        assert_eq!(wrong, None, "seed {seed}; make it smaller and replay it with `waypost-sim --operators --seed {seed} --shrink`");
        sum.add(&tally);
    }
    for what in [
        "commands",
        "runs begun",
        "starts refused",
        "runs cancelled",
        "entries refused",
        "sends that waited",
        "sends stopped",
        "runs killed",
        "messages behind a kill",
    ] {
        let count = sum.operated.get(what).copied().unwrap_or(0);
        let rare = ["sends that waited", "messages behind a kill"].contains(&what);
        assert!(count > if rare { 0 } else { WORLDS / 100 }, "only {count} {what} in {WORLDS} worlds: {:?}", sum.operated);
    }
    for (what, count) in
        [("merges", sum.merges), ("erases", sum.erases), ("sends foreseen", sum.kept), ("halts at the barrier", sum.barriers)]
    {
        assert!(count > WORLDS / 100, "only {count} {what} in {WORLDS} worlds");
    }
}

#[test]
fn one_seed_is_one_story() {
    for seed in [3, 7, 11] {
        let told = |seed| run(&Scenario::new(seed), Switches::default(), true);
        let (first, second) = (told(seed), told(seed));
        assert_eq!(first.story.lines(), second.story.lines());
        assert_eq!(first.story.digest(), second.story.digest());
        assert_eq!(first.tally, second.tally);
        let untold = run(&Scenario::new(seed), Switches::default(), false);
        assert_eq!(first.story.digest(), untold.story.digest(), "telling changes nothing");
        assert_ne!(first.story.digest(), told(seed + 1).story.digest());
    }
}

#[test]
fn a_world_without_a_kind_of_fault_has_none_of_it() {
    let has = |text: &str| {
        let report = run(&text.parse().unwrap(), Switches::default(), false);
        assert_eq!(report.wrong, None, "{text}");
        report.tally.faults.contains_key("rewind")
    };
    let seed = (0..100).find(|seed: &u64| has(&seed.to_string())).unwrap();
    assert!(!has(&format!("{seed}/rewind")));
}
