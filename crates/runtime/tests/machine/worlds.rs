//! Many worlds: with all rules on none goes wrong; with one off, some does (PROTOCOL §16.4).

use waypost_memory::store::Checks;
use waypost_runtime::Rules;

use super::world::World;

const ON: Rules = Rules {
    commit_behind_acknowledgements: true,
    contiguous_acknowledgements: true,
    void_discarded_acknowledgements: true,
    frozen_write_sets: true,
    coalesced_deletions: true,
    keep_uncommitted: true,
    through_behind_acknowledgements: true,
    held_in_through: true,
    ticks_in_log: true,
    activations_in_log: true,
    go_back_n: true,
    overlapping_tail: true,
    density_check: true,
    fresh_token: true,
    leader_check: true,
    own_timers_first: true,
    catch_unwind: true,
    lastrec_check: true,
    digest_check: true,
    whole_parts: true,
    run_ahead_limit: true,
    wm_gate: true,
    skip_list: true,
    whole_producer: true,
    calls_ahead_of_commits: true,
    through_ahead_of_commits: true,
};
const CHECKED: Checks = Checks { commit_offset: true, commit_token: true, read_offset: true, read_token: true };

fn first_wrong(seeds: std::ops::Range<u64>, rules: Rules, checks: Checks) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| World::new(seed, rules, checks).run(400).err().map(|why| (seed, why)))
}

#[test]
fn no_world_goes_wrong() {
    let seeds = option_env!("WAYPOST_WORLDS").and_then(|n| n.parse().ok()).unwrap_or(40);
    if let Some((seed, why)) = first_wrong(0..seeds, ON, CHECKED) {
        panic!("seed {seed}: {why}");
    }
}

/// Each rule that the machine keeps is needed: without it some world of these few goes wrong.
#[test]
fn without_a_rule_some_world_goes_wrong() {
    let rules = [
        ("commit behind acknowledgements", Rules { commit_behind_acknowledgements: false, ..ON }),
        ("contiguous acknowledgements", Rules { contiguous_acknowledgements: false, ..ON }),
        ("frozen write sets", Rules { frozen_write_sets: false, ..ON }),
        ("uncommitted entities stay in memory", Rules { keep_uncommitted: false, ..ON }),
        ("ticks in the log", Rules { ticks_in_log: false, ..ON }),
        ("activations in the log", Rules { activations_in_log: false, ..ON }),
        ("go-back-N at the receiver", Rules { go_back_n: false, ..ON }),
        ("tail of an overlapping section", Rules { overlapping_tail: false, ..ON }),
        ("density check", Rules { density_check: false, ..ON }),
    ];
    let checks = [
        ("offset check of commits", Checks { commit_offset: false, ..CHECKED }),
        ("checked reads", Checks { read_offset: false, read_token: false, ..CHECKED }),
    ];
    let cases = rules.map(|(name, rules)| (name, rules, CHECKED)).into_iter().chain(checks.map(|(name, checks)| (name, ON, checks)));
    let missed: Vec<&str> = cases
        .filter(|(name, rules, checks)| {
            let found = first_wrong(0..600, *rules, *checks);
            println!("{name}: {found:?}");
            found.is_none()
        })
        .map(|(name, ..)| name)
        .collect();
    assert_eq!(missed, [""; 0], "no world found these");
}
