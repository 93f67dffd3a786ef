//! What one workspace decides and stores does not depend on whether another is there.

use waypost_codec::frame::Record;
use waypost_sim::{chance::Chance, shop::WORKSPACE};
use waypost_types::{Role, Span, Timestamp, WorkspaceId};

use crate::{
    line::{Line, Logic, Rules},
    scenarios::{Act, START, Scenario},
};

const OTHER: WorkspaceId = WorkspaceId::new(2);

/// A random story on three identifiers of two persons' classes.
fn story(chance: &mut Chance) -> Scenario {
    const WHO: [&[usize]; 6] = [&[0], &[1], &[2], &[1, 0], &[2, 0], &[2, 1]];
    let mut act = || {
        let who = WHO[chance.index(WHO.len())];
        match chance.index(8) {
            0 => Act::Erase(who[0]),
            1 => Act::Detach(who[0]),
            2..=3 => Act::Order(who),
            _ => Act::Cart(who),
        }
    };
    let acts = (0..10).map(|_| act()).collect();
    Scenario::of_acts("any", acts)
}

/// Lets everything arrive, the lowest channel first.
fn settle(logic: &Logic, line: &mut Line) -> Vec<Record> {
    let mut sent = Vec::new();
    while let Some(channel) = line.channels.keys().next().copied() {
        sent.extend(logic.deliver(line, channel).unwrap());
    }
    sent
}

/// The messages decided for `WORKSPACE`, and what is stored of it, after each record of `ours`, with `theirs` between.
fn run(logic: &Logic, ours: &[Record], theirs: &[Record]) -> (Vec<Record>, u128) {
    let mut line = Line::default();
    let mut sent = Vec::new();
    for (n, record) in ours.iter().enumerate() {
        logic.send(&mut line, None, Role::Identity, record.clone());
        sent.extend(settle(logic, &mut line));
        if let Some(their) = theirs.get(n) {
            logic.send(&mut line, None, Role::Identity, their.clone());
            settle(logic, &mut line);
        }
        let due = Timestamp::from_millis(START).plus(Span::from_secs(2 * i64::try_from(n).unwrap()));
        for partition in 0..2 {
            let fired = logic.fire(&mut line, partition, due).unwrap();
            sent.extend(fired.into_iter().filter(|record| record.workspace == WORKSPACE));
            sent.extend(settle(logic, &mut line).into_iter().filter(|record| record.workspace == WORKSPACE));
        }
    }
    line.forget(OTHER);
    (sent, line.hash())
}

#[test]
fn a_workspace_does_not_notice_another() {
    let mut messages = 0;
    for seed in 0..60 {
        let mut chance = Chance::new(seed);
        let (ours, theirs) = (story(&mut chance), story(&mut chance));
        let placement: Vec<(usize, usize)> = (0..6).map(|_| (chance.index(2), chance.index(2))).collect();
        let hashes: Vec<_> = ours.hashes_in(WORKSPACE).into_iter().chain(theirs.hashes_in(OTHER)).collect();
        let logic = Logic::new(&hashes, &placement, Rules::default());
        let (ours, theirs) = (ours.records_in(WORKSPACE), theirs.records_in(OTHER));
        let alone = run(&logic, &ours, &[]);
        let beside = run(&logic, &ours, &theirs);
        assert_eq!(alone, beside, "seed {seed}");
        messages += alone.0.len();
    }
    assert!(messages > 20, "only {messages} messages: nothing was decided");
}
