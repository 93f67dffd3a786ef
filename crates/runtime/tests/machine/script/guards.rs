//! What a worker does when store, log or client are not what they were: each reply, each doubt, each silence.

use waypost_runtime::ports::Commit;

use super::*;

fn bench() -> Bench {
    let mut bench = Bench::new(Config { commit_interval: Span::ZERO, ..Config::default() });
    bench.settle();
    bench
}

/// A partition that has folded and committed something, and one that takes it over.
fn committed() -> Bench {
    let mut bench = bench();
    for n in 0..4 {
        bench.say(&[n], b"");
    }
    bench.settle();
    assert!(bench.off() > 4);
    bench
}

impl Bench {
    fn off(&self) -> Offset {
        self.store.dump(P).unwrap().off
    }

    fn end(&self) -> Offset {
        self.log.watermarks(INBOX, 0).unwrap().1
    }

    /// Goes on until the machine wants this done, and takes it away.
    fn until<T>(&mut self, mut wanted: impl FnMut(&Command) -> Option<T>) -> T {
        for _ in 0..10_000 {
            if let Some(found) = self.pending.front().and_then(&mut wanted) {
                self.pending.pop_front();
                return found;
            }
            if !self.step(Fault::None) {
                let wake = self.machine.next_wake().expect("it waits for something");
                self.clock.advance_to(wake.max(self.clock.now().plus(Span::from_millis(1))));
            }
        }
        panic!("it never wants that")
    }

    fn commit(&mut self) -> Commit {
        self.until(|command| if let Command::Commit(_, commit) = command { Some((**commit).clone()) } else { None })
    }

    fn claim(&mut self) -> Token {
        self.until(|command| if let Command::Claim(_, token) = command { Some(*token) } else { None })
    }
}

// ---- replies (PROTOCOL §5.3) ----------------------------------------------------------------------

/// What becomes of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    GoesOn,
    /// The same bytes, at once and at last; meanwhile it folds on.
    Repeats,
    /// Everything in memory is dropped; a claim under a fresh token follows within so many ms.
    ClaimsWithin(i64),
    Halts,
}

#[test]
fn every_reply_to_a_commit_is_dealt_with_as_the_table_says() {
    let refused = |text: &str| Err(StoreError::Refused(text.to_owned()));
    let rows: [(Result<CommitReply, StoreError>, Then); 17] = [
        (Ok(CommitReply::Ok), Then::GoesOn),
        (Ok(CommitReply::Already), Then::GoesOn),
        (Ok(CommitReply::Moved(0)), Then::ClaimsWithin(0)),
        (Ok(CommitReply::Fenced), Then::ClaimsWithin(500)),
        (Ok(CommitReply::Uninit), Then::Halts),
        (Ok(CommitReply::BadArg), Then::Halts),
        (Ok(CommitReply::Torn), Then::Halts),
        (refused("OOM command not allowed"), Then::Repeats),
        (refused("NOREPLICAS Not enough good replicas"), Then::Repeats),
        (refused("MISCONF Errors writing to the AOF file"), Then::Repeats),
        (refused("READONLY You can't write against a read only replica"), Then::Repeats),
        (refused("LOADING Redis is loading the dataset"), Then::Repeats),
        (refused("BUSY Redis is busy running a script"), Then::Repeats),
        (refused("CLUSTERDOWN The cluster is down"), Then::Repeats),
        (refused("TRYAGAIN Multiple keys request during rehashing"), Then::Repeats),
        (Err(StoreError::Unknown("time-out".to_owned())), Then::Repeats),
        (Err(StoreError::Unknown("connection reset".to_owned())), Then::Repeats),
    ];
    for (reply, then) in rows {
        let mut bench = bench();
        bench.say(b"a", b"");
        let commit = bench.commit();
        let (token, before) = (commit.token, bench.clock.now());
        bench.handle(Input::Committed(0, token, reply.clone()));
        match then {
            Then::GoesOn => {
                bench.say(b"a", b"");
                let next = bench.commit();
                assert_eq!((next.token, next.expected), (token, commit.next), "{reply:?}");
            }
            Then::Repeats => {
                let folded = bench.machine.progress()[0].next;
                bench.say(b"b", b"");
                let mut last = before;
                for _ in 0..12 {
                    assert_eq!(bench.commit(), commit, "{reply:?}");
                    let waited = bench.clock.now().since(last).millis();
                    assert!((10..=1_000).contains(&waited), "{reply:?}: after {waited} ms");
                    last = bench.clock.now();
                    bench.handle(Input::Committed(0, token, reply.clone()));
                }
                assert!(bench.machine.progress()[0].next > folded, "{reply:?}: it folds on meanwhile");
            }
            Then::ClaimsWithin(ms) => {
                assert_ne!(bench.claim(), token, "{reply:?}");
                assert!(bench.clock.now() <= before.plus(Span::from_millis(ms)), "{reply:?}");
            }
            Then::Halts => {}
        }
        assert_eq!(
            bench.halted.len() + bench.pending.iter().filter(|c| matches!(c, Command::Halted(..))).count(),
            usize::from(then == Then::Halts),
            "{reply:?}"
        );
    }
}

#[test]
fn every_reply_to_a_claim_and_a_read_is_dealt_with_as_the_table_says() {
    let again = [
        Ok(ClaimReply::Frozen("relayout".to_owned())),
        Err(StoreError::Refused("LOADING".to_owned())),
        Err(StoreError::Unknown("time-out".to_owned())),
    ];
    for reply in again {
        let mut bench = Bench::new(Config::default());
        let token = bench.claim();
        for _ in 0..5 {
            let before = bench.clock.now();
            bench.handle(Input::Claimed(0, token, reply.clone()));
            assert_eq!(bench.claim(), token, "{reply:?}");
            assert_eq!(bench.clock.now().since(before), Span::from_secs(1), "{reply:?}");
        }
    }
    for (reply, claims) in [(Ok(ReadReply::Moved), true), (Err(StoreError::Refused("LOADING".to_owned())), false)] {
        let mut bench = bench();
        bench.say(b"new", b"");
        let read = |command: &Command| {
            if let Command::Read(_, number, read) = command {
                Some((*number, read.clone())).filter(|(_, read)| read.timers.is_none())
            } else {
                None
            }
        };
        let (number, first) = bench.until(read);
        bench.handle(Input::Loaded(0, first.token, number, reply.clone()));
        if claims {
            assert_ne!(bench.claim(), first.token, "{reply:?}");
        } else {
            assert_eq!(bench.until(read).1.entities, first.entities, "{reply:?}");
        }
    }
}

#[test]
fn a_store_that_refuses_for_long_is_asked_by_claims_only() {
    let mut bench = bench();
    bench.say(b"a", b"");
    bench.settle();
    bench.store.refuse(Some("OOM"));
    bench.say(b"a", b"");
    let before = bench.clock.now();
    let first = bench.commit();
    bench.pending.push_front(Command::Commit(0, Box::new(first)));
    let token = bench.claim();
    bench.pending.push_front(Command::Claim(0, token));
    let waited = bench.clock.now().since(before);
    assert!(waited >= Span::from_secs(30) && waited <= Span::from_secs(33), "{waited}");
    bench.run_for(200_000, |_| Fault::None);
    assert!(!bench.machine.progress()[0].leading);
    bench.store.refuse(None);
    bench.run_for(5_000, |_| Fault::None);
    assert_eq!((bench.off(), bench.exits, &bench.halted[..]), (bench.end(), 0, &[][..]));
}

#[test]
fn a_duel_is_settled_by_the_group() {
    let mut bench = bench();
    let fence = |bench: &mut Bench| {
        bench.say(b"a", b"");
        let token = bench.commit().token;
        bench.handle(Input::Committed(0, token, Ok(CommitReply::Fenced)));
        bench.settle();
    };
    for _ in 0..2 {
        fence(&mut bench);
        bench.run_for(600, |_| Fault::None);
    }
    assert_eq!(bench.rejoins, 0);
    fence(&mut bench);
    assert_eq!(bench.rejoins, 1, "the third within 5 s");
    bench.run_for(20_000, |_| Fault::None);
    for _ in 0..3 {
        fence(&mut bench);
        bench.run_for(6_000, |_| Fault::None);
    }
    assert_eq!(bench.rejoins, 1, "now and then is no duel");
}

#[test]
fn a_draining_worker_that_is_fenced_just_stops() {
    let mut bench = bench();
    bench.say(b"a", b"");
    let commit = bench.commit();
    bench.handle(Input::Revoke(vec![0]));
    bench.handle(Input::Committed(0, commit.token, Ok(CommitReply::Fenced)));
    bench.settle();
    assert!(bench.gone);
    assert_eq!(bench.machine.next_wake(), None);
}

// ---- the same log (PROTOCOL §6.4) -------------------------------------------------------------------

#[test]
fn the_frame_before_the_offset_is_compared_and_not_folded() {
    let mut bench = committed();
    let (off, before) = (bench.off(), bench.store.dump(P).unwrap().entities);
    drop(bench.take_over());
    let start = bench.until(|command| if let Command::Seek(_, offset) = command { Some(*offset) } else { None });
    assert_eq!(start, off - 1);
    bench.position = Some(start);
    bench.settle();
    assert!(bench.machine.progress()[0].leading);
    assert_eq!(bench.machine.counters().frames, 1, "its leader record");
    assert_eq!(bench.store.dump(P).unwrap().entities, before);
    assert_eq!((bench.machine.counters().unvouched, &bench.halted[..]), (0, &[][..]));
}

#[test]
fn another_log_halts_and_says_what_was_expected_and_found() {
    type Change = fn(&Bench, Offset);
    let changes: [(&str, Change); 2] = [
        ("another frame", |bench, off| {
            bench.log.cut(INBOX, 0, off - 1);
            bench.say(b"other", b"");
            bench.say(b"other", b"");
        }),
        ("the same frame at another time", |bench, off| {
            let frame = bench.log.all(INBOX, 0).pop().unwrap();
            bench.log.cut(INBOX, 0, off - 1);
            bench.clock.advance(Span::from_millis(1));
            let append = Append { topic: INBOX.into(), partition: 0, key: None, headers: Vec::new(), payload: frame.payload };
            bench.log.append(append).unwrap();
        }),
    ];
    for (what, change) in changes {
        let mut bench = committed();
        let (off, stored) = (bench.off(), bench.store.dump(P).unwrap());
        change(&bench, off);
        drop(bench.take_over());
        bench.settle();
        let [why] = &bench.halted[..] else { panic!("{what}: {:?}", bench.halted) };
        let found = bench.log.all(INBOX, 0)[usize::try_from(off).unwrap() - 1].clone();
        let found = format!("{}:{:08x}:{}", found.offset, crc32c::crc32c(&found.payload), found.appended.millis());
        assert!(why.contains(&stored.meta.lastrec) && why.contains(&found), "{what}: {why}");
        assert_eq!(bench.store.dump(P).unwrap().meta, stored.meta, "{what}: nothing is folded");
        assert!(bench.machine.wants(0), "{what}: polled on and dropped");
    }
    // With the rule off nobody notices.
    let rules = Rules { lastrec_check: false, ..Rules::default() };
    let mut bench = committed();
    changes[0].1(&bench, bench.off());
    bench.config.rules = rules;
    drop(bench.take_over());
    bench.settle();
    assert_eq!(bench.halted, [""; 0]);
}

/// What was lost may come again from somebody late, to the same offset and at the same instant: only what this worker
/// appends itself tells.
#[test]
fn an_own_record_that_stands_before_the_committed_offset_halts() {
    for (lost, halts) in [(1, true), (0, false)] {
        let mut bench = committed();
        let off = bench.off();
        drop(bench.take_over());
        while !matches!(bench.pending.front(), Some(Command::Produce(..))) {
            assert!(bench.step(Fault::None), "its leader record comes");
        }
        bench.log.cut(INBOX, 0, off - lost);
        bench.settle();
        let why = format!("appends at {}, before the offset {off}", off - lost);
        assert_eq!(bench.halted.iter().any(|halt| halt.contains(&why)), halts, "{:?}", bench.halted);
    }
}

#[test]
fn watermarks_decide_where_the_position_is_out_of_range() {
    // (start behind off, frames cut from the end; halts with, or goes on unvouched)
    let rows: [(i64, u64, Option<&str>, u64); 5] = [
        (-1, 0, None, 0),
        (0, 0, None, 1),
        (1, 0, Some("its records are gone"), 0),
        (-9, 2, Some("it lost its tail"), 0),
        (-9, 9, Some("it lost its tail"), 0),
    ];
    for (start, cut, halts, unvouched) in rows {
        let mut bench = committed();
        let off = bench.off();
        for _ in 0..2 {
            bench.say(b"later", b"");
        }
        if cut > 0 {
            bench.log.cut(INBOX, 0, off.saturating_sub(cut));
        }
        bench.log.trim(INBOX, 0, off.saturating_add_signed(start));
        drop(bench.take_over());
        bench.run_for(2_000, |_| Fault::None);
        let row = format!("start {start}, cut {cut}: {:?}", bench.halted);
        match halts {
            Some(why) => {
                assert!(bench.halted.len() == 1 && bench.halted[0].contains(why), "{row}");
                assert!(bench.halted[0].contains(&off.to_string()), "{row}: names the offset {off}");
            }
            None => assert_eq!((&bench.halted[..], bench.off()), (&[][..], bench.end()), "{row}"),
        }
        assert_eq!(bench.machine.counters().unvouched, unvouched, "{row}");
    }
}

#[test]
fn a_log_that_loses_its_tail_later_is_noticed_within_a_minute() {
    let mut bench = committed();
    bench.log.cut(INBOX, 0, bench.off() - 2);
    bench.run_for(63_000, |_| Fault::None);
    assert!(bench.halted.len() == 1 && bench.halted[0].contains("it lost its tail"), "{:?}", bench.halted);
}

#[test]
fn nobody_leads_before_the_log_has_answered() {
    let mut bench = Bench::new(Config::default());
    let mut asked = Vec::new();
    loop {
        while let Some(i) = bench.pending.iter().position(|command| matches!(command, Command::Watermarks(_))) {
            asked.extend(bench.pending.remove(i));
        }
        if !bench.step(Fault::None) && bench.pending.is_empty() {
            break;
        }
    }
    assert!(asked.len() == 1 && !bench.machine.progress()[0].leading);
    bench.pending.extend(asked);
    bench.settle();
    assert!(bench.machine.progress()[0].leading);
}

// ---- watchdog (PROTOCOL §6.3, §6.5) -----------------------------------------------------------------

#[test]
fn a_silent_partition_is_sought_then_its_consumer_made_anew() {
    let mut bench = bench();
    bench.say(b"a", b"p\x01");
    bench.settle();
    // The tick that fires the timer stands in the log and never comes.
    bench.broken = Broken::Deliveries;
    bench.run_for(9_000, |_| Fault::None);
    assert_eq!((bench.machine.counters().seeks, bench.rejoins), (0, 0));
    bench.run_for(3_000, |_| Fault::None);
    assert_eq!((bench.machine.counters().seeks, bench.rejoins), (1, 0));
    bench.run_for(10_000, |_| Fault::None);
    assert_eq!((bench.machine.counters().seeks, bench.rejoins), (1, 1));
}

#[test]
fn three_gaps_in_a_row_make_the_consumer_anew() {
    let mut bench = bench();
    bench.say(b"a", b"");
    bench.say(b"a", b"");
    let gap = bench.log.all(INBOX, 0).pop().unwrap();
    for (seeks, rejoins) in [(1, 0), (2, 0), (2, 1)] {
        bench.handle(Input::Delivered(gap.clone()));
        bench.handle(Input::Delivered(gap.clone()));
        let counters = bench.machine.counters();
        assert_eq!((counters.seeks, counters.rejoins), (seeks, rejoins));
        bench.clock.advance(Span::from_secs(1));
    }
}

#[test]
fn a_worker_that_does_not_get_on_starts_anew_and_at_last_gives_the_process_up() {
    let mut bench = bench();
    bench.say(b"a", b"");
    bench.broken = Broken::Commits;
    for (seconds, stalls, exits) in [(29, 0, 0), (3, 1, 0), (31, 2, 0), (31, 3, 1)] {
        bench.run_for(seconds * 1_000, |_| Fault::None);
        assert_eq!((bench.machine.counters().stalls, bench.exits), (stalls, exits));
    }
}

#[test]
fn a_worker_whose_log_is_away_waits() {
    let mut bench = bench();
    bench.say(b"a", b"");
    bench.broken = Broken::Appends;
    bench.run_for(200_000, |_| Fault::None);
    assert_eq!((bench.machine.counters().stalls, bench.exits), (0, 0));
}

// ---- digest (PROTOCOL §13.4) --------------------------------------------------------------------------

/// Loses one thing of the only entity in silence; the part it was in.
type Loss = fn(&Bench) -> String;

const LOSSES: [Loss; 3] = [
    |bench| {
        assert!(bench.store.delete_field(P, &entity(bench)));
        format!("state bucket {:x}", entity(bench).bucket())
    },
    |bench| {
        assert!(bench.store.delete_timer(P, &entity(bench)));
        "the timers".to_owned()
    },
    |bench| {
        assert!(bench.store.delete_sequence(P, "x:orchestrator:0"));
        "the sequences".to_owned()
    },
];

/// The one that has a timer.
fn entity(bench: &Bench) -> EntityId {
    bench.store.dump(P).unwrap().timers.keys().next().unwrap().clone()
}

#[test]
fn what_is_lost_is_never_taken_for_what_never_was() {
    for whole_parts in [true, false] {
        for loss in LOSSES {
            // the audit is not what finds it
            let rules = Rules { digest_check: false, whole_parts, ..Rules::default() };
            let mut bench = Bench::new(Config { commit_interval: Span::ZERO, rules, ..Config::default() });
            bench.say(b"a", b"p\xff");
            bench.settle();
            drop(bench.take_over());
            let part = loss(&bench);
            let before = bench.accepted();
            bench.say(b"a", b"");
            bench.run_for(1_000, |_| Fault::None);
            if whole_parts {
                let [why] = &bench.halted[..] else { panic!("{part}: {:?}", bench.halted) };
                assert!(why.contains(&part) && why.contains("restore its shard"), "{why}");
                assert_eq!(bench.accepted(), before, "{part}");
            } else {
                assert_eq!(bench.halted, [""; 0], "{part}");
            }
        }
    }
}

#[test]
fn whatever_the_store_loses_in_silence_is_found_and_named() {
    for rules in [Rules::default(), Rules { digest_check: false, whole_parts: false, ..Rules::default() }] {
        for loss in LOSSES {
            let config = Config { commit_interval: Span::ZERO, rules, ..Config::default() };
            let mut bench = Bench::new(config);
            bench.say(b"a", b"p\xff");
            bench.settle();
            let part = loss(&bench);
            let audits = bench.machine.counters().audits;
            bench.run_for(25_000, |_| Fault::None);
            if rules.digest_check {
                let [why] = &bench.halted[..] else { panic!("{part}: {:?}", bench.halted) };
                assert!(why.contains(&part) && why.contains("restore its shard"), "{why}");
            } else {
                assert_eq!((&bench.halted[..], bench.machine.counters().audits), (&[][..], audits));
            }
        }
    }
}

#[test]
fn every_part_is_compared_after_a_claim_and_daily() {
    let mut bench = committed();
    bench.run_for(30_000, |_| Fault::None);
    assert_eq!(bench.machine.counters().audits, 18);
    bench.run_for(86_400_000, |_| Fault::None);
    assert_eq!(bench.machine.counters().audits, 36);
    assert_eq!(bench.halted, [""; 0]);
}

// ---- pace (PROTOCOL §5.4) -----------------------------------------------------------------------------

#[test]
fn slow_commits_are_rare_commits() {
    let mut bench = Bench::new(Config::default());
    bench.run_for(1_000, |_| Fault::None);
    let mut sent = Vec::new();
    for _ in 0..10 {
        bench.say(b"a", b"");
        let commit = bench.commit();
        sent.push(bench.clock.now());
        bench.clock.advance(Span::from_millis(60));
        let reply = bench.store.commit(P, &commit);
        bench.handle(Input::Committed(0, commit.token, reply));
    }
    let pauses: Vec<i64> = sent.windows(2).map(|pair| pair[1].since(pair[0]).millis()).collect();
    assert!(pauses.iter().all(|pause| (390..=400).contains(pause)), "60 ms are 15 % of 400: {pauses:?}");
}
