//! What operators do while people are at it: they hold journeys, and begin and end runs by hand (PRODUCT §7.9, 14).
//!
//! A switch, because recorded seeds are worlds without them. Who asks for a run may ask again under the same id, not
//! knowing whether the first arrived.

use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{CancelRuns, Event, IdentityEvent, NodeRef, RunCommand, StartRun, run_command::What},
    kind,
};
use waypost_types::{IdentifierClass, Role, Timestamp};

use super::{Append, Named, activate};
use crate::{
    chance::Chance,
    oracle::text_of,
    shop::{
        WORKSPACE,
        held::{Held, SHOPS},
    },
};

/// Numbers of their acts, behind those of all events: first the sets, then the commands.
const SETS: u32 = 1_000_000;
const COMMANDS: u32 = 2_000_000;
/// Most commands of a world.
const MOST: usize = 12;

/// Puts a held shop in the place of the one there is, and commands among the events. Returns the shop.
pub fn draw(chance: &mut Chance, start: Timestamp, partitions: u32, appends: &mut Vec<Append>) -> &'static Held {
    let held = &Held::all()[chance.index(SHOPS)];
    let told: Vec<Append> = appends.iter().filter(|append| append.record.kind == kind::EVENT).cloned().collect();
    appends.retain(|append| append.record.kind != kind::DEF_ACTIVATE);
    let mut at = start.plus(chance.span(0, 300));
    for (set, number) in held.shop.sets.iter().zip(0..) {
        let first = appends.len();
        activate(chance, at, set, partitions, appends);
        // Without the first nothing would be in force.
        let number = (number > 0).then_some(SETS + number);
        appends[first..].iter_mut().for_each(|append| append.number = number);
        at = at.plus(if chance.index(3) == 0 { chance.span(50, 600) } else { chance.span(600, 5_000) });
    }
    let mut number = COMMANDS;
    for which in 0..chance.small(MOST) {
        for append in asked(chance, &told, which) {
            appends.push(Append { number: Some(number), ..append });
            number += 1;
        }
    }
    held
}

/// One command, as often as it is asked for.
fn asked(chance: &mut Chance, told: &[Append], which: usize) -> Vec<Append> {
    let Some((names, near, key)) = chance.pick(told).and_then(named) else { return Vec::new() };
    let Some((class, value)) = chance.pick(&names).cloned() else { return Vec::new() };
    let (what, says) = what(chance, key);
    let mut at = near.plus(if chance.index(2) == 0 { chance.span(-60, 90) } else { chance.span(-500, 6_000) });
    let hash = super::hash(class, &value);
    let node = Some(NodeRef { class: class.number(), hash: hash.clone(), ..NodeRef::default() });
    let body = RunCommand { node, what: Some(what) }.encode_to_vec();
    let mut id = [0xbb; 16];
    // Identity knows an id by its first half.
    id[..8].copy_from_slice(&(0xbb << 56 | which as u64).to_be_bytes());
    let record = Record { eng_min: 3, ..Record::new(kind::RUN_COMMAND, WORKSPACE, id, hash, at, body.into()) };
    let mut appends = Vec::new();
    for time in 0..(if chance.index(2) == 0 { 1 } else { chance.small(3) }) {
        let again = if time > 0 { "again: " } else { "" };
        let says = format!("{again}command {which}: {says} of {value}");
        appends.push(Append {
            at,
            role: Role::Identity,
            partition: None,
            record: Record { said: at, ..record.clone() },
            number: None,
            says,
        });
        at = at.plus(if chance.index(2) == 0 { chance.span(1, 40) } else { chance.span(40, 5_000) });
    }
    appends
}

/// The identifiers of an event, when it comes, and what it is about, if that can be the key of a run.
fn named(append: &Append) -> Option<(Vec<Named>, Timestamp, Option<String>)> {
    let body = IdentityEvent::decode(append.record.body.clone()).ok()?;
    let event = Event::decode(body.event).ok()?;
    let key = ["cart_id", "ticket_id", "subscription_id"].iter().map(|name| text_of(&event, name)).find(|key| !key.is_empty());
    let names = event.identifiers.into_iter().filter_map(|i| Some((IdentifierClass::from_number(i.class)?, i.value)));
    Some((names.collect(), append.at, key))
}

/// What is asked for. A cancel without a name is aimed when it comes: at a run that is live then.
fn what(chance: &mut Chance, key: Option<String>) -> (What, String) {
    let keyed = ["cart", "ticket", "pledge"][chance.index(3)];
    let own = format!("x{}", chance.index(3));
    match chance.index(8) {
        // Mostly of a run that there may be.
        0 | 1 => start(keyed, key.unwrap_or(own)),
        2 => start(keyed, own),
        3 => start("welcome", String::new()),
        // Where it has no such key.
        4 if chance.index(3) == 0 => start("welcome", own),
        4 | 5 => {
            let journey = ["cart", "ticket", "pledge", "welcome"][chance.index(4)].to_owned();
            let says = format!("cancel {journey}");
            (What::Cancel(CancelRuns { journey, ..CancelRuns::default() }), says)
        }
        _ => (What::Cancel(CancelRuns::default()), "cancel a run".to_owned()),
    }
}

fn start(journey: &str, key: String) -> (What, String) {
    let says = format!("start {journey} {key}");
    (What::Start(StartRun { journey: journey.to_owned(), key }), says)
}

/// Whether this is a cancel that is to be aimed.
pub fn is_unaimed(command: &RunCommand) -> bool {
    command.what == Some(What::Cancel(CancelRuns::default()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn operators_do_everything_and_ask_again() {
        let start = Timestamp::from_millis(1_000);
        let (mut whats, mut repeated) = (BTreeSet::new(), false);
        for seed in 0..40 {
            let mut appends = super::super::draw(&mut Chance::new(seed), start, 2);
            let people = appends.iter().filter(|append| append.record.kind == kind::EVENT).count();
            let held = draw(&mut Chance::new(seed).at(12), start, 2, &mut appends);
            assert_eq!(people, appends.iter().filter(|append| append.record.kind == kind::EVENT).count());
            let activations = appends.iter().filter(|append| append.record.kind == kind::DEF_ACTIVATE);
            assert!(activations.count() >= held.shop.sets.len() * 6);
            let mut ids = BTreeSet::new();
            for append in appends.iter().filter(|append| append.record.kind == kind::RUN_COMMAND) {
                repeated |= !ids.insert(append.record.id);
                whats.extend(append.says.split(' ').find(|word| ["start", "cancel"].contains(word)).map(str::to_owned));
            }
            let numbers: Vec<u32> = appends.iter().filter_map(|append| append.number).collect();
            let sets = numbers.iter().filter(|number| (SETS..COMMANDS).contains(number)).count();
            let distinct: BTreeSet<u32> = numbers.iter().copied().filter(|number| *number < SETS || *number >= COMMANDS).collect();
            assert_eq!(distinct.len() + sets, numbers.len(), "each but the sets has a number of its own");
        }
        assert!(repeated && whats.len() == 2);
    }
}
