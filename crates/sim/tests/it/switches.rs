//! Without a rule of the protocol some world goes wrong, and the simulator finds it (PROTOCOL §16.4).

use crate::common::on_all_cores;
use waypost_sim::{
    Scenario, run, shrink,
    switches::{ALL, Switch, Without},
};

/// Worlds within which a hole must be found, and within which a rule that nobody needs does no harm.
const SEARCHED: u64 = 2_000;
const RIGHT: u64 = 120;
/// So many other findings are told where the hole does not show.
const OTHERS: usize = 3;

#[test]
fn every_hole_is_found_and_what_no_world_needs_stays_so() {
    let failures: Vec<String> = on_all_cores(ALL.iter().collect(), judge).into_iter().flatten().collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn judge(switch: &Switch) -> Option<String> {
    let wrong = |seed: u64| run(&Scenario::new(seed), switch.switches(), false).wrong.map(|wrong| (seed, wrong));
    match switch.without {
        Without::Wrong { first, found } => {
            // The first seed of before, then whatever is left, up to one that shows this hole and not only what may come of it.
            let shows = |wrong: &(u64, String)| found.iter().any(|words| wrong.1.contains(words));
            let mut others = Vec::new();
            let found_it = std::iter::once(first).chain(0..SEARCHED).filter_map(wrong).any(|wrong| {
                let shows = shows(&wrong);
                others.extend((!shows && others.len() < OTHERS).then(|| format!("seed {}: {:.200}", wrong.0, wrong.1)));
                shows
            });
            (!found_it).then(|| format!("without \"{}\": no world of {SEARCHED} shows {found:?}, but {others:?}", switch.rule))
        }
        Without::Right(_) => (0..RIGHT).find_map(wrong).map(|(seed, wrong)| format!("without \"{}\": seed {seed}: {wrong}", switch.rule)),
    }
}

#[test]
fn a_world_that_goes_wrong_gets_smaller() {
    let Some(switch) = ALL.iter().find(|switch| switch.rule == "commits are checked by offset") else { panic!("no such switch") };
    let seed = (0..SEARCHED).find(|seed| run(&Scenario::new(*seed), switch.switches(), false).wrong.is_some()).unwrap();
    let parts = run(&Scenario::new(seed), switch.switches(), false).parts.len();
    let shrunk = shrink::shrink(&Scenario::new(seed), switch.switches(), 120, &mut |_| ()).unwrap();
    let again = run(&shrunk.scenario.to_string().parse().unwrap(), switch.switches(), false);
    assert_eq!(again.wrong, Some(shrunk.wrong), "what is printed replays the same world");
    assert!(again.parts.len() * 3 < parts, "{} of {parts} parts are left: {}", again.parts.len(), shrunk.scenario);
}
