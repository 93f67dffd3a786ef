//! Privacy acts: erase, detach and expire, as control appends them, among the events of the people they are about.
//!
//! In one world of three. Each is asked for of an identifier that some event carries, a little before or after that
//! event, often close to others of its kind; and some events come by the same identifier afterwards, to be a new life's.

use std::collections::BTreeSet;

use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{self, Event, IdentityEvent, NodeRef},
    kind,
};
use waypost_types::{IdentifierClass, Role, Timestamp, Value};

use super::{Append, Named, event};
use crate::{chance::Chance, shop::WORKSPACE};

/// One world of so many has them.
const OF_WORLDS: usize = 3;
/// Numbers of the events that follow.
const EVENTS: usize = 3_000;
/// Identifiers of most people are asked about at most so often: a world with nobody left proves little.
const MOST: usize = 4;

/// The acts of a world and the events behind them, for what comes in otherwise.
pub(super) fn draw(chance: &mut Chance, told: &[Append]) -> Vec<Append> {
    let mut appends = Vec::new();
    if chance.index(OF_WORLDS) > 0 {
        return appends;
    }
    let mut taken: BTreeSet<Timestamp> = told.iter().map(|append| append.at).collect();
    for _ in 0..chance.small(MOST) {
        let Some((names, near)) = chance.pick(told).and_then(named) else { continue };
        let mut at = near.plus(if chance.index(2) == 0 { chance.span(-60, 90) } else { chance.span(-500, 5_000) });
        // Alone, or several of one person within a moment, so that they meet each other and the merges of the event.
        for _ in 0..(if chance.index(3) == 0 { 1 + chance.small(2) } else { 1 }) {
            let Some(name) = chance.pick(&names) else { continue };
            appends.push(act(chance, name, appends.len(), at));
            at = at.plus(chance.span(0, 60));
        }
        for _ in 0..chance.index(4) {
            at = at.plus(if chance.index(2) == 0 { chance.span(1, 60) } else { chance.span(100, 4_000) });
            // No two events at one instant.
            while !taken.insert(at) {
                at = at.plus(waypost_types::Span::from_millis(1));
            }
            let number = EVENTS + appends.len();
            appends.extend(afterwards(chance, &names, number, at));
        }
    }
    appends
}

/// The identifiers of an event, and when it comes.
fn named(append: &Append) -> Option<(Vec<Named>, Timestamp)> {
    let body = IdentityEvent::decode(append.record.body.clone()).ok()?;
    let event = Event::decode(body.event).ok()?;
    let names = event.identifiers.into_iter().filter_map(|i| Some((IdentifierClass::from_number(i.class)?, i.value)));
    Some((names.collect(), append.at))
}

/// The record that control makes of it: the node has no generation, whoever the identifier is when it is folded.
fn act(chance: &mut Chance, (class, value): &Named, number: usize, at: Timestamp) -> Append {
    let hash = super::hash(*class, value);
    let node = Some(NodeRef { class: class.number(), hash: hash.clone(), ..NodeRef::default() });
    let (kind, body, what) = match chance.index(4) {
        0 | 1 => (kind::ERASE, inbox::Erase { node, suppress: true }.encode_to_vec(), "erase"),
        2 => (kind::DETACH, inbox::Detach { node }.encode_to_vec(), "detach"),
        _ => (kind::EXPIRE, inbox::Expire { node }.encode_to_vec(), "expire"),
    };
    let mut id = [0xaa; 16];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let record = Record::new(kind, WORKSPACE, id, hash, at, body.into());
    Append { at, role: Role::Identity, partition: None, record, number: None, says: format!("{what} {value}") }
}

/// Somebody goes on with what was erased, expired or detached.
fn afterwards(chance: &mut Chance, names: &[Named], number: usize, at: Timestamp) -> Option<Append> {
    let text = |name: &str, value: String| (name.to_owned(), Value::text(value));
    let name = chance.pick(names)?.clone();
    // Of `u2`, `d2-0` and `u2@people.example` alike.
    let person = name.1.chars().find(char::is_ascii_digit)?;
    let traits = vec![text("email", format!("u{person}@people.example"))];
    Some(match chance.index(5) {
        0 => event(number, "", names, vec![], traits, at),
        1 => event(number, "Ticket Asked", &[name], vec![text("ticket_id", format!("t{number}"))], traits, at),
        2 => event(number, "Order Completed", &[name], vec![text("order_id", format!("o{number}"))], vec![], at),
        3 => event(number, "Pledge Made", &[name], vec![text("subscription_id", format!("s{number}"))], traits, at),
        _ => {
            let cart = vec![text("cart_id", format!("c{}", chance.index(2))), text("product_id", "p0".to_owned())];
            event(number, "Product Added", &[name], cart, traits, at)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_worlds_have_them_and_every_kind_of_them_and_the_others_are_as_they_were() {
        let start = Timestamp::from_millis(1_000);
        let mut kinds = BTreeSet::new();
        let mut without = 0;
        for seed in 0..60 {
            let all = super::super::draw(&mut Chance::new(seed), start, 2);
            let acts: Vec<u32> = all.iter().map(|append| append.record.kind).filter(|kind| *kind != kind::EVENT).collect();
            without += usize::from(!acts.iter().any(|kind| [kind::ERASE, kind::DETACH, kind::EXPIRE].contains(kind)));
            kinds.extend(acts);
        }
        assert!(kinds.is_superset(&[kind::ERASE, kind::DETACH, kind::EXPIRE].into()));
        assert!((30..55).contains(&without), "{without} worlds of 60 have none");
    }
}
