//! When timers fire: behind the watermark or at last without it, before their entity's records, and in
//! slices between live records (PROTOCOL §8.3–8.5).

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes};
use prost::Message as _;
use waypost_codec::{
    frame::{Frame, Record},
    inbox, kind,
};
use waypost_runtime::{Config, Input, Rules, processor::Entity as _};
use waypost_types::{Span, Timestamp, WorkspaceId};

use super::{
    script::{Bench, Fault, INBOX, OUT, P},
    toy::{Counter, counter_id, record},
};

const MINUTES_15: i64 = 15 * 60_000;

fn fired(bench: &Bench, key: &[u8]) -> u64 {
    bench.store.dump(P).unwrap().entities.get(&counter_id(key)).map_or(0, |bytes| Counter::decode(&counter_id(key), bytes).unwrap().fired)
}

/// Everything in the inbox, by the record that it is.
fn inbox(bench: &Bench) -> Vec<Record> {
    bench.log.all(INBOX, 0).into_iter().flat_map(|d| Frame::decode(d.payload).unwrap().sections).flat_map(|s| s.records).collect()
}

#[test]
fn an_absent_timer_waits_for_what_is_upstream_a_quarter_of_an_hour() {
    let mut bench = Bench::new(Config::default());
    bench.settle();
    bench.handle(Input::Through(0, bench.clock.now()));
    bench.say(b"a", b"a\x64");
    bench.run_for(10_000 + MINUTES_15 - 1, |_| Fault::None);
    assert_eq!(fired(&bench, b"a"), 0, "due for a quarter of an hour, less a moment");
    bench.run_for(300, |_| Fault::None);
    assert_eq!(fired(&bench, b"a"), 1, "a stop that has not come by now does not count");
    let ticks = inbox(&bench).iter().filter(|r| r.kind == kind::TICK).count();
    assert!(ticks < 20, "{ticks} ticks of a partition that waits");
}

#[test]
fn without_the_gate_an_absent_timer_fires_by_the_clock() {
    let mut bench = Bench::new(Config { rules: Rules { wm_gate: false, ..Rules::default() }, ..Config::default() });
    bench.settle();
    bench.say(b"a", b"a\x64");
    bench.run_for(10_300, |_| Fault::None);
    assert_eq!(fired(&bench, b"a"), 1);
}

#[test]
fn the_watermark_is_the_least_of_all_identity_partitions_whoever_has_them() {
    let mut bench = Bench::with_partitions(Config::default(), 4);
    bench.settle();
    let now = bench.clock.now();
    let later = |s: i64| now.plus(Span::from_secs(s));
    let marks = |bench: &Bench| -> Vec<i64> {
        let all = bench.log.all(OUT, 0).into_iter().flat_map(|d| Frame::decode(d.payload).unwrap().sections).flat_map(|s| s.records);
        all.filter(|r| r.kind == kind::MARK).map(|r| inbox::Mark::decode(r.body).unwrap().wm - now.millis()).collect()
    };
    for (partition, s) in [(0, 9), (1, 3), (2, 8)] {
        bench.handle(Input::Through(partition, later(s)));
    }
    bench.run_for(2_000, |_| Fault::None);
    assert_eq!(marks(&bench), [0_i64; 0], "of one partition nothing is known");
    bench.handle(Input::Through(3, later(5)));
    bench.run_for(2_000, |_| Fault::None);
    // A stale statement, of an owner that was taken over, takes nothing back.
    bench.handle(Input::Through(1, later(1)));
    bench.run_for(2_000, |_| Fault::None);
    bench.handle(Input::Through(1, later(7)));
    bench.run_for(2_000, |_| Fault::None);
    assert_eq!(marks(&bench), [3_000, 5_000]);
}

#[test]
fn no_more_than_so_many_own_timers_go_before_a_record() {
    let order = |own_timers, said: i64| {
        let mut bench = Bench::new(Config { own_timers, tick_entities: 1, ..Config::default() });
        bench.settle();
        let start = bench.clock.now();
        bench.say(b"b", b"p\x01");
        bench.say(b"a", b"p\x02");
        bench.say(b"a", b"a\x03");
        bench.settle();
        let now = start.plus(Span::from_secs(1));
        bench.clock.advance_to(now);
        // The tick fires one entity, `b`; the record finds the timers of `a` due.
        let tick = inbox::Tick { now: now.millis(), wm: now.millis() }.encode_to_vec().into();
        bench.frame(vec![Record::new(kind::TICK, WorkspaceId::new(0), [0; 16], Bytes::new(), now, tick)]);
        bench.frame(vec![record(b"a", start.plus(Span::from_millis(said)), Bytes::from_static(b"r"))]);
        bench.run_for(1_000, |_| Fault::None);
        let name = |body: &Bytes| match body.first() {
            Some(b'f') => (Timestamp::from_millis((&body[1..]).get_i64()).since(start).millis() / 100).to_string(),
            _ => "record".to_owned(),
        };
        bench.accepted().iter().skip(3).map(name).collect::<Vec<_>>()
    };
    assert_eq!(order(32, 400), ["1", "2", "3", "record"]);
    assert_eq!(order(1, 400), ["1", "2", "record", "3"], "one at most");
    assert_eq!(order(32, 300), ["1", "2", "record", "3"], "at the same instant the record goes first");
}

/// Ten thousand timers of one second, and somebody who comes by every few milliseconds meanwhile.
#[test]
fn a_burst_of_timers_comes_in_slices_with_live_records_between() {
    const TIMERS: u32 = 10_000;
    let mut bench = Bench::new(Config { cache_entities: 1_000_000, ..Config::default() });
    bench.settle();
    let start = bench.clock.now();
    for chunk in (0..TIMERS).collect::<Vec<_>>().chunks(500) {
        let due = |n: u32| if n.is_multiple_of(2) { &b"p\x32"[..] } else { b"p\x33" };
        bench.frame(chunk.iter().map(|n| record(&n.to_be_bytes(), start, Bytes::from_static(due(*n)))).collect());
    }
    bench.run_for(4_000, |_| Fault::None);
    let mut live = 0_u64;
    // A live record is put in before every third step of the worker while the burst lasts.
    let mut steps = 0;
    while bench.machine.counters().timers < u64::from(TIMERS) {
        if steps % 3 == 0 && bench.clock.now() >= start.plus(Span::from_secs(5)) {
            bench.say(b"live", &live.to_be_bytes());
            live += 1;
        }
        if !bench.step(Fault::None) || steps % 20 == 0 {
            bench.clock.advance(Span::from_millis(1));
        }
        steps += 1;
        assert!(steps < 100_000, "does not end");
    }
    bench.run_for(500, |_| Fault::None);

    // What was put out, in order: how many timers stand between two live records.
    let mut between: Vec<usize> = vec![0];
    let (mut last, mut dues) = (None, BTreeMap::<Timestamp, u32>::new());
    for body in bench.accepted().into_iter().skip(TIMERS as usize) {
        if body.first() == Some(&b'f') && body.len() == 9 {
            let due = Timestamp::from_millis((&body[1..]).get_i64());
            assert!(last.is_none_or(|last| last <= due), "in due order");
            last = Some(due);
            *dues.entry(due).or_default() += 1;
            *between.last_mut().unwrap() += 1;
        } else {
            between.push(0);
        }
    }
    assert_eq!(dues.values().sum::<u32>(), TIMERS, "each once");
    assert!(between.iter().all(|n| *n <= 256), "a tick fires 256 entities: {:?}", between.iter().max());
    let slices = between.iter().filter(|n| **n > 0).count();
    assert!(slices >= (TIMERS / 256) as usize, "live records come between all slices: {slices}");
    let ticks = inbox(&bench).iter().filter(|r| r.kind == kind::TICK).count();
    assert!(ticks < 60, "{ticks} ticks for 40 slices");
}
