//! Derived traits (PRODUCT §6.2): `order_count first_order_at last_order_at ltv last_seen_at`.

use waypost_codec::inbox::{Order, Person, Value, value::Kind};

use super::Draft;
use crate::person::{self, counts};

/// Log time of the first event; coverage begins here, whatever an import told of before.
pub const FIRST_SEEN_AT: &str = "first_seen_at";
/// Event time of the last one.
pub const LAST_SEEN_AT: &str = "last_seen_at";
/// What orders that fell out of the list add to the aggregates.
pub(crate) const CARRIED: [&str; 3] = ["carried.first_order_at", "carried.ltv", "carried.order_count"];

/// The person did something at `at`, and now we know.
pub(super) fn seen(person: &mut Draft, at: i64, now: i64) {
    if time(person, LAST_SEEN_AT).is_none_or(|last| last < at) {
        put(person, LAST_SEEN_AT, Kind::Time(at), at);
    }
    if time(person, FIRST_SEEN_AT).is_none() {
        put(person, FIRST_SEEN_AT, Kind::Time(now), now);
    }
}

/// Remembers what orders that fall out of the list have been worth.
pub(super) fn carry(person: &mut Draft, fallen: &[Order]) {
    for order in fallen.iter().filter(|o| counts(o) && !o.stub) {
        let first = time(person, CARRIED[0]).map_or(order.placed_at, |t| t.min(order.placed_at));
        let ltv = money(person, CARRIED[1]).saturating_add(net(order));
        let count = int(person, CARRIED[2]).saturating_add(1);
        put(person, CARRIED[0], Kind::Time(first), order.placed_at);
        put(person, CARRIED[1], Kind::Money(ltv), order.placed_at);
        put(person, CARRIED[2], Kind::Int(count), order.placed_at);
    }
}

/// After a union: what fell out of the list of either half is worth what both say together.
pub(super) fn carry_both(person: &mut Draft, a: &Person, b: &Person) {
    if int(a, CARRIED[2]) == 0 || int(b, CARRIED[2]) == 0 {
        return;
    }
    let set_at = |path: &str| person::find(&person.fields, (path, "")).map_or(0, |f| f.set_at);
    let (ltv_at, count_at) = (set_at(CARRIED[1]), set_at(CARRIED[2]));
    put(person, CARRIED[1], Kind::Money(money(a, CARRIED[1]).saturating_add(money(b, CARRIED[1]))), ltv_at);
    put(person, CARRIED[2], Kind::Int(int(a, CARRIED[2]).saturating_add(int(b, CARRIED[2]))), count_at);
}

/// The traits that follow from the orders: those not cancelled or fully refunded.
pub(crate) fn derive(person: &mut Draft) {
    let (mut count, mut ltv) = (int(person, CARRIED[2]), money(person, CARRIED[1]));
    let (mut first, mut last) = (time(person, CARRIED[0]), time(person, CARRIED[0]));
    for order in person.orders.iter().filter(|o| counts(o) && !o.stub) {
        count = count.saturating_add(1);
        ltv = ltv.saturating_add(net(order));
        first = Some(first.map_or(order.placed_at, |t| t.min(order.placed_at)));
        last = Some(last.map_or(order.placed_at, |t| t.max(order.placed_at)));
    }
    let (Some(first), Some(last)) = (first, last) else {
        person.retain_fields(|f| !is_order_trait(&f.path));
        return;
    };
    put(person, "order_count", Kind::Int(count), last);
    put(person, "first_order_at", Kind::Time(first), last);
    put(person, "last_order_at", Kind::Time(last), last);
    put(person, "ltv", Kind::Money(ltv), last);
}

/// Whether a field is computed from the orders.
pub(crate) fn is_order_trait(path: &str) -> bool {
    matches!(path, "order_count" | "first_order_at" | "last_order_at" | "ltv")
}

/// What an order has been worth, less what was given back.
fn net(order: &Order) -> i64 {
    order.value.unwrap_or(0).saturating_sub(order.refunded)
}

fn put(person: &mut Draft, path: &str, kind: Kind, at: i64) {
    person.put_field(path, Value { kind: Some(kind) }, at);
}

/// A field that is a time.
pub(crate) fn time(person: &Person, path: &str) -> Option<i64> {
    if let Some(Kind::Time(ms)) = person::field(person, path)?.kind { Some(ms) } else { None }
}

fn money(person: &Person, path: &str) -> i64 {
    if let Some(Some(Kind::Money(minor))) = person::field(person, path).map(|v| &v.kind) { *minor } else { 0 }
}

fn int(person: &Person, path: &str) -> i64 {
    if let Some(Some(Kind::Int(number))) = person::field(person, path).map(|v| &v.kind) { *number } else { 0 }
}
