//! Many worlds: with every rule on none goes wrong; with one off some does (PROTOCOL §16.4).

use waypost_sim::{Switches, run, story::Tally};

fn first_wrong(seeds: std::ops::Range<u64>, switches: Switches) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| run(seed, switches, false).wrong.map(|wrong| (seed, wrong)))
}

#[test]
fn three_hundred_worlds_hold() {
    let mut sum = Tally::default();
    for seed in 0..300 {
        let report = run(seed, Switches::default(), false);
        assert_eq!(report.wrong, None, "seed {seed}; replay it with `waypost-sim --seed {seed}`");
        sum.add(&report.tally);
    }
    println!("{sum}");
    // What never happens proves nothing.
    for (what, count) in [
        ("merges", sum.merges),
        ("sends", sum.sends),
        ("unknowns", sum.unknowns),
        ("takeovers", sum.takeovers),
        ("rewinds", sum.rewinds),
        ("gaps", sum.gaps),
        ("repeats", sum.repeats),
        ("timers", sum.timers),
    ] {
        assert!(count > 0, "no {what} in any world");
    }
}

#[test]
fn one_seed_is_one_story() {
    for seed in [3, 7, 11] {
        let (first, second) = (run(seed, Switches::default(), true), run(seed, Switches::default(), true));
        assert_eq!(first.story.lines(), second.story.lines());
        assert_eq!(first.story.digest(), second.story.digest());
        assert_eq!(first.tally, second.tally);
        assert_ne!(first.story.digest(), run(seed + 1, Switches::default(), false).story.digest());
    }
}

fn off(change: impl FnOnce(&mut Switches)) -> Switches {
    let mut switches = Switches::default();
    change(&mut switches);
    switches
}
#[test]
#[ignore = "prints what is found"]
fn probe() {
    let all: Vec<(&str, Switches)> = vec![
        ("commit_behind", off(|s| s.rules.commit_behind_acknowledgements = false)),
        ("contiguous", off(|s| s.rules.contiguous_acknowledgements = false)),
        ("void_discarded", off(|s| s.rules.void_discarded_acknowledgements = false)),
        ("frozen", off(|s| s.rules.frozen_write_sets = false)),
        ("keep_uncommitted", off(|s| s.rules.keep_uncommitted = false)),
        ("through_behind", off(|s| s.rules.through_behind_acknowledgements = false)),
        ("ticks_in_log", off(|s| s.rules.ticks_in_log = false)),
        ("activations", off(|s| s.rules.activations_in_log = false)),
        ("go_back_n", off(|s| s.rules.go_back_n = false)),
        ("overlap", off(|s| s.rules.overlapping_tail = false)),
        ("density", off(|s| s.rules.density_check = false)),
        ("fresh_token", off(|s| s.rules.fresh_token = false)),
        ("leader_check", off(|s| s.rules.leader_check = false)),
        ("own_timers", off(|s| s.rules.own_timers_first = false)),
        ("commit_offset", off(|s| s.checks.commit_offset = false)),
        ("commit_token", off(|s| s.checks.commit_token = false)),
        ("read_offset", off(|s| s.checks.read_offset = false)),
        ("read_token", off(|s| s.checks.read_token = false)),
        ("read both", off(|s| (s.checks.read_offset, s.checks.read_token) = (false, false))),
    ];
    for (name, s) in all {
        let f = first_wrong(0..150, s);
        println!("{name}: {}", f.map_or("NOT FOUND".to_owned(), |(s, w)| format!("{s} {}", w.chars().take(160).collect::<String>())));
    }
}
