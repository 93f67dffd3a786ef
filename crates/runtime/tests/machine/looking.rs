//! What a halted partition notices by itself, and that it does nothing until then.

use waypost_memory::store::{Dump, Owner};
use waypost_runtime::{
    Config, Input,
    ports::{Deaths, Token},
};
use waypost_types::{EntityId, Span};

use super::script::{Bench, Fault, P, install};

/// A state that was committed and backed up, and what came since.
fn backed_up() -> (Bench, Dump) {
    let mut bench = Bench::new(Config { commit_interval: Span::ZERO, ..Config::default() });
    bench.say(b"a", b"p\xff");
    bench.settle();
    let backup = bench.store.dump(P).unwrap();
    bench.say(b"b", b"");
    bench.settle();
    (bench, backup)
}

fn first_entity(bench: &Bench) -> EntityId {
    bench.store.dump(P).unwrap().entities.keys().next().unwrap().clone()
}

/// A field is gone, and the partition has noticed.
fn halted() -> (Bench, Dump) {
    let (mut bench, backup) = backed_up();
    assert!(bench.store.delete_field(P, &first_entity(&bench)));
    bench.run_for(25_000, |_| Fault::None);
    assert_eq!(bench.halted.len(), 1, "{:?}", bench.halted);
    (bench, backup)
}

fn leads(bench: &Bench) -> bool {
    bench.machine.progress()[0].leading
}

#[test]
fn a_restore_is_noticed_and_what_was_folded_since_is_folded_again() {
    let (mut bench, backup) = halted();
    let (mut calm, _) = backed_up();
    bench.say(b"c", b"");
    calm.say(b"c", b"");
    calm.run_for(60_000, |_| Fault::None);
    bench.store.restore(P, backup);
    bench.run_for(20_000, |_| Fault::None);
    assert!(leads(&bench), "{:?}", bench.machine);
    assert_eq!(bench.halted.len(), 1, "it halts no more");
    // But for the moments at which it was said.
    let counts = |bench: &Bench| {
        let entities = bench.store.dump(P).unwrap().entities.into_iter();
        entities.map(|(id, bytes)| (id, bytes.slice(..16))).collect::<Vec<_>>()
    };
    assert_eq!(counts(&bench), counts(&calm));
    assert_eq!(bench.accepted().len(), calm.accepted().len());
}

#[test]
fn until_somebody_does_something_it_looks_and_does_nothing() {
    let (mut bench, _) = halted();
    bench.say(b"c", b"");
    let (before, accepted, rewound) = (bench.store.dump(P).unwrap(), bench.accepted(), bench.machine.counters().rewound);
    let steps = bench.run_for(3_600_000, |_| Fault::None);
    assert_eq!((bench.store.dump(P).unwrap(), bench.accepted(), bench.machine.counters().rewound), (before, accepted, rewound));
    assert_eq!((bench.halted.len(), leads(&bench)), (1, false));
    // A question, its answer and a wake-up every 15 s, and the record that is dropped.
    assert!((200..=2 * 241 + 20).contains(&steps), "{steps} steps in an hour");
}

#[test]
fn a_part_that_is_whole_again_is_noticed() {
    let (mut bench, _) = backed_up();
    let whole = bench.store.dump(P).unwrap();
    let id = first_entity(&bench);
    assert!(bench.store.delete_field(P, &id));
    bench.run_for(25_000, |_| Fault::None);
    assert!(!leads(&bench));
    // As it was, and under the token of the life that has halted: put back by hand.
    let halted = bench.store.dump(P).unwrap();
    bench.store.restore(P, Dump { entities: whole.entities, ..halted });
    bench.run_for(20_000, |_| Fault::None);
    assert!(leads(&bench), "{:?}", bench.halted);
}

#[test]
fn a_retry_is_noticed() {
    let (mut bench, _) = backed_up();
    let offset = bench.store.dump(P).unwrap().off;
    bench.say(b"c", b"");
    // As six lives would have left it: two leader records stand before what killed them.
    let deaths = Deaths { offset, count: 6, processes: vec![1, 2, 3, 4, 5, 6], index: None };
    bench.store.note_deaths(P, Some(deaths)).unwrap();
    drop(bench.take_over());
    bench.run_for(60_000, |_| Fault::None);
    assert!(bench.halted.len() == 1 && bench.halted[0].contains("waypost skip retry"), "{:?}", bench.halted);
    assert_eq!(bench.store.deaths(P).unwrap().map(|deaths| deaths.count), Some(6), "to look is not to die");
    bench.store.note_deaths(P, None).unwrap();
    bench.run_for(20_000, |_| Fault::None);
    assert!(leads(&bench) && bench.halted.len() == 1, "{:?}", bench.halted);
}

#[test]
fn a_state_that_was_not_there_is_noticed_when_it_is() {
    let (mut bench, backup) = backed_up();
    bench.store.forget(P);
    bench.say(b"c", b"");
    bench.run_for(30_000, |_| Fault::None);
    assert!(!leads(&bench) && !bench.halted.is_empty());
    // So does whoever comes to nothing.
    drop(bench.take_over());
    bench.run_for(30_000, |_| Fault::None);
    assert!(bench.halted.last().is_some_and(|why| why.contains("the store has no state")), "{:?}", bench.halted);
    let halts = bench.halted.len();
    // Under the token of a life that is over, as a server's own copy has it.
    bench.store.restore(P, backup);
    bench.run_for(120_000, |_| Fault::None);
    assert!(leads(&bench), "{:?}", bench.halted);
    assert_eq!(bench.halted.len(), halts);
}

#[test]
fn the_same_state_is_noticed_where_there_was_none() {
    let (mut bench, _) = backed_up();
    let good = bench.store.dump(P).unwrap();
    bench.store.forget(P);
    bench.say(b"c", b"");
    bench.run_for(10_000, |_| Fault::None);
    assert!(!leads(&bench) && !bench.halted.is_empty());
    let halts = bench.halted.len();
    bench.store.restore(P, good);
    bench.run_for(120_000, |_| Fault::None);
    assert!(leads(&bench) && bench.halted.len() == halts, "{:?}", bench.halted);
}

#[test]
fn what_another_worker_has_is_left_to_it() {
    let (mut bench, backup) = halted();
    bench.store.restore(P, backup);
    let mut other = Token([9; 16]);
    for n in 0..40_u8 {
        // It gets on, in whichever way.
        other = Token([10 + n; 16]);
        bench.store.claim(P, other, &install()).unwrap();
        bench.run_for(14_000, |_| Fault::None);
    }
    assert_eq!((bench.store.dump(P).unwrap().own, leads(&bench)), (Owner::Worker(other), false));
    // A quiet one commits a tick a minute.
    for _ in 0..5 {
        bench.run_for(60_000, |_| Fault::None);
        assert!(!leads(&bench), "it may be there");
        other.0[15] = other.0[15].wrapping_add(1);
        bench.store.claim(P, other, &install()).unwrap();
    }
    // It is there no more, and has said nothing.
    bench.run_for(120_000, |_| Fault::None);
    assert!(leads(&bench), "{:?}", bench.halted);
}

#[test]
fn one_that_halts_again_begins_no_faster_than_it_looks() {
    let (mut bench, _) = backed_up();
    let good = Dump { own: Owner::None, ..bench.store.dump(P).unwrap() };
    let (end, mut halts, mut leads_on) = (bench.clock.now().plus(Span::from_millis(120_000)), 0, true);
    while bench.clock.now() < end {
        // The state goes when it leads, and is back before it has looked what there is.
        while bench.step(Fault::None) {
            if bench.halted.len() > halts {
                halts += 1;
                assert!(halts < 20, "one life after another");
                leads_on = true;
                bench.store.restore(P, good.clone());
            } else if leads_on && leads(&bench) {
                leads_on = false;
                bench.store.forget(P);
                bench.say(b"c", b"");
            }
        }
        bench.clock.advance(Span::from_millis(100));
        bench.handle(Input::Wake);
    }
    assert!((5..=9).contains(&halts), "{halts}");
}
