//! Two engines in one binary: which of them folds a record stands in the log (PROTOCOL §9.2).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{frame::Record, inbox, kind};
use waypost_runtime::{Config, Input};
use waypost_types::{EntityId, WorkspaceId};

use super::{
    script::{Bench, Fault, P},
    toy::{COUNT, record},
};

fn activate(bench: &Bench, engine: u32) {
    let body: Bytes = inbox::EngineActivate { engine }.encode_to_vec().into();
    bench.frame(vec![Record::new(kind::ENGINE_ACTIVATE, WorkspaceId::new(0), [0; 16], Bytes::new(), bench.clock.now(), body)]);
}

type Outcome = (BTreeMap<EntityId, Bytes>, Vec<Bytes>);

/// Eight records under `first`, with `second` activated behind the fourth, and a fault now and then.
fn story(first: u32, second: Option<u32>, fault: impl FnMut(usize) -> Fault) -> (Outcome, u32, usize) {
    let mut bench = Bench::new(Config { engine: first, batch_records: 3, ..Config::default() });
    for n in 0..8_u8 {
        bench.say(&[n % 3], &[n]);
        if let (3, Some(second)) = (n, second) {
            activate(&bench, second);
        }
    }
    // Long enough for a tick to meet a store that was rewound at rest.
    let steps = bench.run_for(70_000, fault);
    let engine = bench.store.dump(P).unwrap().meta.eng;
    (bench.outcome(), engine, steps)
}

#[test]
fn a_partition_changes_its_engine_at_the_record_that_says_so() {
    let (one, under_one, _) = story(1, None, |_| Fault::None);
    let (two, under_two, _) = story(2, None, |_| Fault::None);
    let (changed, after, _) = story(1, Some(2), |_| Fault::None);
    assert_eq!((under_one, under_two, after), (1, 2, 2));
    assert_ne!(one.0, two.0, "the engines differ");
    assert!(changed.0 != one.0 && changed.0 != two.0, "each has folded its part");
    // Not above what is in force: dropped, so that control may say it again.
    assert_eq!(story(2, Some(1), |_| Fault::None).0, two);
    assert_eq!(story(2, Some(2), |_| Fault::None).0, two);
}

#[test]
fn every_life_folds_a_record_under_the_same_engine() {
    let (expected, _, steps) = story(1, Some(2), |_| Fault::None);
    for fault in [Fault::Killed, Fault::Zombie, Fault::Rewound(1), Fault::Rewound(9), Fault::NoAnswer, Fault::NotDone] {
        for at in 0..steps {
            let (outcome, engine, _) = story(1, Some(2), |step| if step == at { fault } else { Fault::None });
            assert_eq!((outcome, engine), (expected.clone(), 2), "{fault:?} at step {at}");
        }
    }
}

#[test]
fn a_binary_without_the_engine_halts_and_one_that_has_it_goes_on() {
    let mut bench = Bench::new(Config { engines: 1..=1, ..Config::default() });
    bench.settle();
    bench.say(b"a", b"");
    activate(&bench, 2);
    bench.say(b"a", b"");
    bench.run_for(300, |_| Fault::None);
    assert!(bench.halted[0].contains("activates engine 2, this binary has 1 to 1"), "{:?}", bench.halted);
    assert_eq!(bench.machine.progress()[0].eng, 1);

    bench.config.engines = 1..=2;
    drop(bench.take_over());
    bench.run_for(300, |_| Fault::None);
    assert_eq!((bench.machine.progress()[0].eng, bench.halted.len()), (2, 1));
    assert_eq!(bench.accepted().len(), 2);

    // Afterwards the way back is a third engine.
    bench.config.engines = 1..=1;
    drop(bench.take_over());
    bench.settle();
    assert!(bench.halted[1].contains("folded by engine 2"), "{:?}", bench.halted);
}

#[test]
fn a_record_that_only_a_later_engine_reads_halts() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    let now = bench.clock.now();
    // Read by what the binary has, whatever is in force.
    bench.frame(vec![Record { eng_min: 2, ..record(b"a", now, Bytes::new()) }]);
    bench.settle();
    assert_eq!((bench.accepted().len(), bench.halted.len()), (1, 0));
    bench.frame(vec![Record { eng_min: 4, ..record(b"a", now, Bytes::new()) }]);
    bench.settle();
    assert!(bench.halted[0].contains("asks for engine 4, this binary has 1 to 3"), "{:?}", bench.halted);
    bench.handle(Input::Wake);
    assert_eq!(bench.accepted().len(), 1, "and is not folded");
}

#[test]
fn what_is_put_out_asks_for_the_engine_that_its_kind_needs() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    bench.say(b"a", b"plain");
    bench.say(b"a", b"run");
    bench.settle();
    let asks: Vec<(u32, u32)> = bench.put_out().into_iter().filter(|r| r.kind != kind::MARK).map(|r| (r.kind, r.eng_min)).collect();
    assert_eq!(asks, [(COUNT, 0), (kind::RUN_ITEM, 3)]);
}
