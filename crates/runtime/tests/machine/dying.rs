//! A record that kills the process: found frame by frame, named, set aside; and lives that end otherwise.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::inbox;
use waypost_memory::store::Owner;
use waypost_runtime::{
    Command, Config, Input, Rules,
    ports::{Deaths, Token},
    processor::Entity as _,
};
use waypost_types::{PartitionId, Position};

use super::{
    script::{Bench, Broken, Fault, INBOX, P, install},
    toy::{Counter, counter_id, record},
};

/// A panic is not caught here: it stands for what cannot be.
fn mortal() -> Config {
    Config { rules: Rules { catch_unwind: false, ..Rules::default() }, ..Config::default() }
}

/// Goes on until it rests; says whether it died.
fn dies(bench: &mut Bench) -> bool {
    catch_unwind(AssertUnwindSafe(|| bench.run_for(300, |_| Fault::None))).is_err()
}

/// One life after another until nothing dies any more.
fn deaths(bench: &mut Bench) -> usize {
    let mut deaths = 0;
    while dies(bench) {
        deaths += 1;
        assert!(deaths < 50, "dies for ever");
        drop(bench.take_over());
    }
    deaths
}

fn count(bench: &Bench, key: &[u8]) -> u64 {
    bench.store.dump(P).unwrap().entities.get(&counter_id(key)).map_or(0, |bytes| Counter::decode(&counter_id(key), bytes).unwrap().count)
}

fn letters(bench: &Bench) -> Vec<(String, Bytes)> {
    let all = (0..8).flat_map(|q| bench.log.all("wp1.dead", q));
    all.map(|d| (String::from_utf8(d.headers[0].1.to_vec()).unwrap(), d.payload)).collect()
}

/// Records before, beside and behind the one that kills; its position.
fn with_a_killer(bench: &mut Bench) -> Position {
    bench.settle();
    bench.say(b"a", b"");
    bench.say(b"b", b"");
    let now = bench.clock.now();
    let one = |key: &[u8], body: &'static [u8]| record(key, now, Bytes::from_static(body));
    bench.frame(vec![one(b"c", b""), one(b"d", b"x"), one(b"e", b"")]);
    bench.say(b"f", b"");
    Position { offset: bench.log.watermarks(INBOX, 0).unwrap().1 - 2, index: 1 }
}

#[test]
fn a_record_that_kills_the_process_is_found_and_named_and_may_be_set_aside() {
    let mut bench = Bench::new(mortal());
    let killer = with_a_killer(&mut bench);
    // The first had committed before: it noted nothing.
    assert_eq!(deaths(&mut bench), 1 + 6, "three to notice, three to be sure");
    let [why] = &bench.halted[..] else { panic!("halts once: {:?}", bench.halted) };
    let named = format!("--role segmenter --partition 0 --offset {} --index 1", killer.offset);
    assert!(why.contains("waypost skip propose") && why.contains(&named), "{why}");
    assert_eq!(bench.store.dump(P).unwrap().off, killer.offset, "all before it is committed");
    let noted = bench.store.deaths(P).unwrap().unwrap();
    assert_eq!((noted.offset, noted.count, noted.index, noted.processes.len()), (killer.offset, 6, Some(1), 6));
    // Whoever comes next does not try it again.
    drop(bench.take_over());
    assert!(!dies(&mut bench));
    assert_eq!(bench.halted.len(), 2);

    let elsewhere = PartitionId { index: 1, ..P };
    bench.handle(Input::Skips(BTreeSet::from([(elsewhere, killer)])));
    bench.settle();
    assert!(bench.machine.progress()[0].halted.is_some(), "another partition's record is listed");
    bench.handle(Input::Skips(BTreeSet::from([(P, killer)])));
    assert!(!dies(&mut bench));
    assert!(bench.machine.progress()[0].leading, "it goes on by itself");
    let counts = [b"a", b"b", b"c", b"d", b"e", b"f"].map(|key| count(&bench, key));
    assert_eq!(counts, [1, 1, 1, 0, 1, 1]);
    let letters = letters(&bench);
    assert_eq!(letters.iter().map(|(reason, _)| reason.as_str()).collect::<Vec<_>>(), ["SKIPPED"]);
    let whole = inbox::Record::decode(letters[0].1.clone()).unwrap();
    assert_eq!((&whole.key[..], &whole.body[..]), (&b"d"[..], &b"x"[..]), "the record whole");
    assert_eq!(bench.store.deaths(P), Ok(None), "and nothing is counted any more");
}

#[test]
fn a_listed_record_is_set_aside_in_every_life() {
    let outcome = |take_over_at: Option<usize>| {
        let mut bench = Bench::new(Config::default());
        let killer = with_a_killer(&mut bench);
        bench.skips = BTreeSet::from([(P, killer)]);
        drop(bench.take_over());
        let mut steps = 0;
        while bench.step(Fault::None) {
            steps += 1;
            if Some(steps) == take_over_at {
                drop(bench.take_over());
            }
        }
        bench.run_for(300, |_| Fault::None);
        assert!(!letters(&bench).is_empty());
        (bench.outcome(), steps)
    };
    let (calm, steps) = outcome(None);
    for at in 1..steps {
        assert_eq!(outcome(Some(at)).0, calm, "taken over at step {at}");
    }
}

#[test]
fn without_the_list_the_record_is_folded() {
    let mut config = mortal();
    config.rules.skip_list = false;
    let mut bench = Bench::new(config);
    let killer = with_a_killer(&mut bench);
    bench.skips = BTreeSet::from([(P, killer)]);
    drop(bench.take_over());
    assert!(dies(&mut bench));
}

#[test]
fn a_timer_that_kills_the_process_is_named_by_its_tick() {
    let mut bench = Bench::new(mortal());
    bench.settle();
    bench.say(b"a", b"k");
    assert_eq!(deaths(&mut bench), 1 + 6);
    assert!(bench.halted[0].contains("waypost skip propose"), "{:?}", bench.halted);
}

#[test]
fn lives_at_rest_note_nothing() {
    let mut bench = Bench::new(Config::default());
    for _ in 0..20 {
        drop(bench.take_over());
        let mut steps = 0;
        // The commit does not go through: the next one finds nothing but leaders.
        while steps < 40 && bench.pending.iter().all(|c| !matches!(c, Command::Commit(..))) && bench.step(Fault::None) {
            steps += 1;
        }
        assert_eq!(bench.store.deaths(P), Ok(None));
    }
    bench.settle();
    assert_eq!(bench.halted, [""; 0]);
}

#[test]
fn a_commit_and_a_clean_release_clear_the_count() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    bench
        .store
        .note_deaths(P, Some(Deaths { offset: bench.store.dump(P).unwrap().off, count: 2, processes: vec![7, 8], index: None }))
        .unwrap();
    drop(bench.take_over());
    bench.say(b"a", b"");
    let said = bench.log.watermarks(INBOX, 0).unwrap().1 - 1;
    let noted = |bench: &Bench| bench.store.deaths(P).unwrap().map(|deaths| deaths.count);
    while !matches!(bench.pending.front(), Some(Command::NoteDeaths(..))) {
        assert!(bench.step(Fault::None), "notes before it folds");
    }
    assert_eq!(bench.machine.progress()[0].next, said);
    bench.step(Fault::None);
    assert_eq!((noted(&bench), bench.machine.progress()[0].next > said), (Some(3), true));
    bench.run_for(300, |_| Fault::None);
    assert_eq!(noted(&bench), None);

    // Given back with nothing acknowledged and nothing committed: nobody has died.
    bench.say(b"a", b"");
    drop(bench.take_over());
    let mut held = Vec::new();
    while noted(&bench).is_none() || bench.step(Fault::None) {
        bench.step(Fault::None);
        while let Some(i) = bench.pending.iter().position(|c| matches!(c, Command::Produce(..))) {
            held.extend(bench.pending.remove(i));
        }
    }
    assert_eq!(noted(&bench), Some(1));
    bench.handle(Input::Revoke(vec![0]));
    bench.run_for(1_200, |_| Fault::None);
    assert!(bench.gone);
    assert_eq!((noted(&bench), bench.store.dump(P).unwrap().own), (None, Owner::None));
}

#[test]
fn a_process_that_lost_its_partition_and_lives_has_not_died() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    // Nothing is acknowledged from now on, hence nothing committed; and again and again somebody else claims.
    bench.broken = Broken::Appends;
    for n in 0..10_u8 {
        bench.say(&[n], b"");
        bench.run_for(1_000, |_| Fault::None);
        bench.store.claim(P, Token([n + 1; 16]), &install()).unwrap();
    }
    bench.say(b"new", b"");
    bench.run_for(1_000, |_| Fault::None);
    assert!(bench.machine.counters().rewound >= 8, "{:?}", bench.machine.counters());
    assert_eq!(bench.store.deaths(P).unwrap().map(|deaths| deaths.count), Some(1), "folded again, not died again");
    assert_eq!(bench.halted, [""; 0]);
}
