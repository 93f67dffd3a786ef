//! What is counted for operators: decisions once, whoever dies; and how a partition stands.

use waypost_runtime::{Config, Input, Machine, figures::DEAD_LETTER};
use waypost_types::Span;

use super::script::{Bench, Fault};

const TOLD: u64 = 12;

/// How often each was decided and committed, as these machines have counted.
fn tallied<'a>(machines: impl IntoIterator<Item = &'a dyn Machine>, what: &str) -> u64 {
    let counters = machines.into_iter().map(Machine::counters);
    counters.map(|counters| counters.tallies.iter().filter(|(tally, _)| tally.what == what).map(|(_, count)| count).sum::<u64>()).sum()
}

fn bench() -> Bench {
    let mut bench = Bench::new(Config { commit_interval: Span::from_millis(20), batch_records: 2, ..Config::default() });
    bench.settle();
    bench
}

/// Says so many things to be counted, one of them poison, one at a time.
fn say(bench: &Bench) {
    for n in 0..TOLD {
        bench.say(&[b'a' + u8::try_from(n % 3).unwrap()], b"t");
    }
    bench.say(b"a", b"q");
}

#[test]
fn a_decision_counts_once_whoever_dies_or_is_not_answered() {
    let mut calm = bench();
    say(&calm);
    let steps = calm.run_for(1_000, |_| Fault::None);
    assert_eq!(tallied([&*calm.machine], "told"), TOLD);
    assert_eq!(tallied([&*calm.machine], DEAD_LETTER), 1);
    for at in 0..steps {
        for fault in [Fault::NoAnswer, Fault::NotDone] {
            let mut bench = bench();
            say(&bench);
            bench.run_for(3_000, |step| if step == at { fault } else { Fault::None });
            assert_eq!(tallied([&*bench.machine], "told"), TOLD, "{fault:?} at {at}");
        }
        let mut bench = bench();
        say(&bench);
        for _ in 0..at {
            bench.step(Fault::None);
        }
        let killed = bench.take_over();
        bench.run_for(3_000, |_| Fault::None);
        assert_eq!(tallied([&*killed, &*bench.machine], "told"), TOLD, "killed at {at}");
        assert_eq!(tallied([&*killed, &*bench.machine], DEAD_LETTER), 1, "killed at {at}");
    }
}

#[test]
fn what_is_folded_and_not_committed_is_not_counted_yet() {
    let mut bench = bench();
    bench.broken = super::script::Broken::Commits;
    say(&bench);
    bench.run_for(500, |_| Fault::None);
    let figures = bench.machine.figures().pop().unwrap();
    assert!(figures.uncommitted_records > TOLD && figures.next > figures.off, "{figures:?}");
    assert_eq!(tallied([&*bench.machine], "told"), 0);
    assert!(bench.machine.folded() > TOLD);
}

#[test]
fn a_partition_says_how_it_stands() {
    let mut bench = bench();
    say(&bench);
    bench.run_for(1_000, |_| Fault::None);
    let figures = bench.machine.figures().pop().unwrap();
    assert!(figures.leading && figures.folding && !figures.halted, "{figures:?}");
    assert_eq!((figures.off, figures.uncommitted_records, figures.unacknowledged_bytes), (figures.next, 0, 0));
    assert_eq!(figures.oldest, None, "nothing waits");
    assert!(figures.committed.is_some_and(|at| at <= bench.clock.now()));
    assert_eq!(figures.timers, 0);
    bench.say(b"a", &[b'p', 250]);
    bench.run_for(1_000, |_| Fault::None);
    assert_eq!(bench.machine.figures()[0].timers, 1);
    bench.say(b"a", b"h");
    bench.run_for(100, |_| Fault::None);
    assert!(bench.machine.figures()[0].halted);
}

#[test]
fn a_timer_that_fires_counts_with_how_late_it_was() {
    let mut bench = bench();
    bench.say(b"a", &[b'p', 10]);
    bench.run_for(5_000, |_| Fault::None);
    let lateness = bench.machine.counters().lateness;
    assert_eq!(lateness.total(), 1);
    assert!(lateness.micros() < 1_500_000, "due after a second, told by a tick: {lateness:?}");
}

#[test]
fn whoever_takes_over_from_a_dead_owner_counts_it() {
    let mut bench = bench();
    assert_eq!(bench.machine.counters().rewinds, 0, "nobody was there before");
    drop(bench.take_over());
    bench.settle();
    assert_eq!(bench.machine.counters().rewinds, 1);
    bench.handle(Input::Drain);
    bench.run_for(2_000, |_| Fault::None);
    drop(bench.take_over());
    bench.settle();
    assert_eq!(bench.machine.counters().rewinds, 0, "it was given back");
}
