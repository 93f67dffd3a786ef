//! Cookies that go on while they are being joined: so much waits for a flush that a hold is given up (PROTOCOL §10.5).

use std::collections::BTreeSet;

use prost::Message as _;
use waypost_codec::inbox::{Event, IdentityEvent};
use waypost_types::{IdentifierClass, Span, Timestamp};

use super::{Append, Named, event};
use crate::chance::Chance;

/// Behind the numbers of all other events.
const FIRST: usize = 5_000;

/// In a few worlds, what cookies do right after somebody has said whose they are.
pub fn draw(chance: &mut Chance, told: &[Append]) -> Vec<Append> {
    if chance.index(6) > 0 {
        return Vec::new();
    }
    // No two events at one instant.
    let mut taken: BTreeSet<Timestamp> = told.iter().map(|append| append.at).collect();
    let mut appends = Vec::new();
    for identified in told {
        let Some(cookie) = joined(identified) else { continue };
        if chance.index(2) == 0 {
            continue;
        }
        let mut at = identified.at;
        for _ in 0..3 + chance.index(8) {
            at = at.plus(Span::from_millis(chance.within(1, 25)));
            if !taken.insert(at) {
                continue;
            }
            appends.push(event(FIRST + appends.len(), "Signed Up", std::slice::from_ref(&cookie), vec![], vec![], at));
        }
    }
    appends
}

/// The cookie that an event names beside its person.
fn joined(append: &Append) -> Option<Named> {
    let body = IdentityEvent::decode(append.record.body.clone()).ok()?;
    let event = Event::decode(body.event).ok()?;
    let cookie = event.identifiers.into_iter().skip(1).find(|named| named.class == IdentifierClass::Anonymous.number())?;
    Some((IdentifierClass::Anonymous, cookie.value))
}
