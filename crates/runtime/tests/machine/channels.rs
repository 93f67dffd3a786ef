//! What is said of partition channels: another history, and a gap that stays (PROTOCOL §7.3, §7.4).

use bytes::Bytes;
use waypost_codec::frame::{Frame, Record, Section, Source, chain};
use waypost_runtime::{Config, machine::Alarm, ports::Append};
use waypost_types::{PartitionId, Role, Span};

use super::{
    script::{Bench, Fault, INBOX},
    toy::record,
};

const FROM: PartitionId = PartitionId { role: Role::Identity, index: 3 };

fn records(bench: &Bench, first: u64, end: u64) -> Vec<Record> {
    (first..=end).map(|n| record(b"a", bench.clock.now(), Bytes::copy_from_slice(&n.to_be_bytes()))).collect()
}

/// A section `first` to `end` of what [`FROM`] sends; `lie` changes its chain.
fn send(bench: &Bench, first: u64, end: u64, lie: u64) {
    let chain = (1..=end).fold(0, |c, n: u64| chain(c, 1, b"a", &n.to_be_bytes())) ^ lie;
    let source = Source { role: FROM.role, partition: FROM.index, first, chain };
    let section = Section { source: Some(source), records: records(bench, first, end) };
    let payload = Frame { sections: vec![section] }.encode();
    bench.log.append(Append { topic: INBOX.into(), partition: 0, key: None, headers: Vec::new(), payload }).unwrap();
}

#[test]
fn another_history_is_told_and_shown_and_stops_nothing() {
    let mut bench = Bench::new(Config::default());
    send(&bench, 1, 2, 0);
    send(&bench, 1, 2, 0);
    bench.settle();
    assert_eq!((&bench.alarms[..], &bench.machine.progress()[0].diverged[..]), (&[][..], &[][..]));
    send(&bench, 3, 4, 7);
    // What was accepted last, with another chain.
    send(&bench, 3, 4, 0);
    bench.settle();
    let told = Alarm::Diverged { from: FROM, first: 3, end: 4 };
    assert_eq!(bench.alarms, [told, told]);
    assert!(told.to_string().contains("identity/3") && told.to_string().contains("3 to 4"), "{told}");
    let progress = &bench.machine.progress()[0];
    assert_eq!((&progress.diverged[..], &progress.halted), (&[FROM][..], &None));
    assert_eq!(bench.machine.counters().divergences, 2);
    assert_eq!(bench.accepted().len(), 4, "the source's history is the authority");
}

#[test]
fn a_gap_that_stays_is_told_once_and_a_short_one_is_not() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    send(&bench, 1, 1, 0);
    send(&bench, 3, 3, 0);
    bench.run_for(4_000, |_| Fault::None);
    assert_eq!(bench.machine.progress()[0].gap, Some(bench.clock.now().minus(Span::from_secs(4))));
    send(&bench, 2, 3, 0);
    bench.run_for(10_000, |_| Fault::None);
    assert_eq!((&bench.alarms[..], bench.machine.progress()[0].gap), (&[][..], None), "it healed in time");

    send(&bench, 6, 6, 0);
    bench.run_for(3_000, |_| Fault::None);
    send(&bench, 5, 6, 0);
    bench.run_for(20_000, |_| Fault::None);
    assert_eq!(bench.alarms, [Alarm::Gap { from: FROM, expected: 4, sent: 6, age: Span::from_secs(5) }]);
    send(&bench, 4, 6, 0);
    bench.run_for(1_000, |_| Fault::None);
    assert_eq!(bench.machine.progress()[0].gap, None);
    assert_eq!(bench.machine.counters().gaps, 3);
}

#[test]
fn a_gap_that_is_filled_in_part_stays_one() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    send(&bench, 3, 4, 0);
    send(&bench, 1, 2, 0);
    bench.run_for(20_000, |_| Fault::None);
    assert_eq!(bench.alarms, [Alarm::Gap { from: FROM, expected: 3, sent: 4, age: Span::from_secs(5) }], "nobody sends 3 and 4 again");
    send(&bench, 3, 4, 0);
    bench.settle();
    assert_eq!((bench.accepted().len(), bench.machine.progress()[0].gap), (4, None));
}
