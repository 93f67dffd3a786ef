//! The union of two persons (PRODUCT §5.3, 5).
//!
//! Associative, commutative and idempotent, so that it does not matter in which order the halves of a
//! person meet, as long as no list overflows on the way: every part is the greater of two under one
//! order, and what follows from the parts is computed again. Where lists overflow, two halves still come
//! to the same from either side, and no denial of either is lost.

use bytes::Bytes;
use prost::Message;
use waypost_codec::inbox::{Address, Cart, Consent, ConsentState, Field, Line, Membership, Order, Person, value::Kind};

use crate::{
    membership,
    person::{self, Keyed},
    segment::{CARRIED, Draft, FIRST_SEEN_AT, derive, is_order_trait, limit_consents, rank, restriction, settle, trim},
};

/// The union of two persons.
pub fn persons(a: &Person, b: &Person) -> Person {
    united(a, b).0.into_person()
}

/// The same, with the orders that found no room in it. They, and what fell out of the lists before, add up
/// where a state moves, which it does once ([`crate::segment::import`]); a union for itself, which may be
/// made of what already holds the other, leaves them out and takes the greater.
pub(crate) fn united(a: &Person, b: &Person) -> (Draft, Vec<Order>) {
    let mut union = Person {
        fields: lists(&a.fields, &b.fields, fields),
        carts: lists(&a.carts, &b.carts, carts),
        orders: lists(&a.orders, &b.orders, orders),
        consents: lists(&a.consents, &b.consents, consents),
        memberships: lists(&a.memberships, &b.memberships, memberships),
        addresses: lists(&a.addresses, &b.addresses, addresses),
        ..Person::default()
    };
    union.not_in = membership::union(&a.not_in, &b.not_in, &union.memberships);
    union.fields.retain(|f| !is_order_trait(&f.path));
    person::limit_addresses(&mut union.addresses);
    limit_consents(&mut union.consents);
    let mut draft = Draft::new(union);
    settle(&mut draft);
    let fallen = trim(&mut draft);
    derive(&mut draft);
    (draft, fallen)
}

/// Entries of both; those with one key become one.
fn lists<T: Keyed>(a: &[T], b: &[T], both: impl Fn(&T, &T) -> T) -> Vec<T> {
    let mut union = a.to_vec();
    for entry in b {
        let joined = person::find(a, entry.key()).map_or_else(|| entry.clone(), |own| both(own, entry));
        person::upsert(&mut union, &joined);
    }
    union
}

/// The one with the greater key.
fn greater<T: Clone, K: Ord>(a: &T, b: &T, key: impl Fn(&T) -> K) -> T {
    if key(b) > key(a) { b.clone() } else { a.clone() }
}

/// The last by time; of coverage, and of what fell out of lists, the one that says more.
fn fields(a: &Field, b: &Field) -> Field {
    let number = |f: &Field| match f.value.as_ref().and_then(|v| v.kind.as_ref()) {
        Some(Kind::Time(n) | Kind::Money(n) | Kind::Int(n)) => *n,
        _ => 0,
    };
    if a.path == FIRST_SEEN_AT || a.path == CARRIED[0] {
        greater(a, b, |f| (std::cmp::Reverse(number(f)), f.set_at))
    } else if CARRIED.contains(&a.path.as_str()) {
        greater(a, b, |f| (number(f), f.set_at))
    } else {
        greater(a, b, |f| (f.set_at, bytes_of(f)))
    }
}

/// The later lines and the later mark, each by its own time.
fn carts(a: &Cart, b: &Cart) -> Cart {
    let lines = greater(a, b, |c| (c.updated_at, lines_of(&c.lines)));
    let mark = greater(a, b, |c| (c.status_at, c.status));
    Cart { status: mark.status, status_at: mark.status_at, ..lines }
}

/// The later content, the higher status, all flags. Where both halves saw it placed (the browser and the
/// server each say so), the later time holds: carts have been closed up to it.
fn orders(a: &Order, b: &Order) -> Order {
    let content = |o: &Order| {
        let said = Order { cart_id: o.cart_id.clone(), lines: o.lines.clone(), value: o.value, total: o.total.clone(), ..Order::default() };
        (!o.stub, o.updated_at, bytes_of(&said))
    };
    let mut order = greater(a, b, content);
    order.status = greater(&a.status, &b.status, |s| rank(s));
    order.flags = a.flags.iter().chain(&b.flags).cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    order.placed_at = [a, b].into_iter().filter(|o| !o.stub).map(|o| o.placed_at).max().unwrap_or(0);
    order.refunded = a.refunded.max(b.refunded);
    order.stub = a.stub && b.stub;
    order
}

/// The most restrictive of what either states, dated the later.
fn consents(a: &Consent, b: &Consent) -> Consent {
    let soonest = |c: &Consent| (c.expires_at != 0, std::cmp::Reverse(c.expires_at));
    let stricter = greater(a, b, |c| (restriction(c.state()), soonest(c), c.basis.clone(), c.source.clone(), c.address.clone()));
    let stated = [a, b].into_iter().filter(|c| c.state() != ConsentState::Unspecified);
    Consent { at: stated.map(|c| c.at).max().unwrap_or(0), ..stricter }
}

/// Evaluated again after a merge; until then the newest.
fn memberships(a: &Membership, b: &Membership) -> Membership {
    greater(a, b, |m| (m.version, m.since, m.truth, m.valid_until))
}

fn addresses(a: &Address, b: &Address) -> Address {
    Address { verified: a.verified || b.verified, set_at: a.set_at.max(b.set_at), ..a.clone() }
}

fn bytes_of(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn lines_of(lines: &[Line]) -> Vec<Bytes> {
    lines.iter().map(bytes_of).collect()
}

#[cfg(test)]
mod tests;
