//! Order records (PRODUCT §4.2): created once, updated by what comes later, matched by id over the profile.

use waypost_codec::inbox::Order;

use super::{
    Draft,
    properties::{Properties, value_of},
};
use crate::person;

/// Orders kept.
const MAX_ORDERS: usize = 20;

/// Statuses, lowest first; a lower one never overwrites a higher.
const RANKS: [&str; 7] = ["placed", "fulfilled", "shipped", "out_for_delivery", "delivered", "return_requested", "returned"];

/// The rank of a status; unknown and unset are lowest.
pub(crate) fn rank(status: &str) -> usize {
    RANKS.iter().position(|r| *r == status).map_or(0, |at| at + 1)
}

/// Folds an event into the orders. Returns whether the order was unknown to an event other than its own.
pub(super) fn fold(person: &mut Draft, name: &str, properties: Properties<'_>, at: i64) -> bool {
    let Some(life) = life(name, properties) else { return false };
    let Some(id) = properties.id("order_id") else { return false };
    let known = person::order(person, &id);
    let unmatched = known.is_none() && life != Life::Completed;
    let mut order = known.cloned().unwrap_or_else(|| Order { order_id: id, stub: true, updated_at: at, ..Order::default() });
    match life {
        Life::Completed => complete(&mut order, properties, at),
        Life::Updated => update(&mut order, properties, at),
        Life::Status(status) => {
            if rank(status) > rank(&order.status) {
                status.clone_into(&mut order.status);
            }
        }
        Life::Flag(name) => flag(&mut order, name),
        Life::Refunded => refund(&mut order, properties),
    }
    person::upsert(person.orders_mut(), &order);
    unmatched
}

/// Keeps the newest orders, stubs falling first; returns what fell.
pub(crate) fn trim(person: &mut Draft) -> Vec<Order> {
    let mut fallen = Vec::new();
    while person.orders.len() > MAX_ORDERS {
        let orders = &person.orders;
        let oldest = (0..orders.len()).min_by_key(|at| (!orders[*at].stub, orders[*at].updated_at, orders[*at].order_id.clone()));
        fallen.push(person.orders_mut().remove(oldest.unwrap_or(0)));
    }
    fallen
}

/// What an event means to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Completed,
    Updated,
    Status(&'static str),
    Flag(&'static str),
    Refunded,
}

fn life(name: &str, properties: Properties<'_>) -> Option<Life> {
    Some(match name {
        "Order Completed" => Life::Completed,
        "Order Fulfilled" => Life::Status("fulfilled"),
        "Order Shipped" => Life::Status("shipped"),
        "Shipment Out For Delivery" => Life::Status("out_for_delivery"),
        "Order Delivered" => Life::Status("delivered"),
        "Return Requested" => Life::Status("return_requested"),
        "Order Returned" => Life::Status("returned"),
        "Shipment Delayed" => Life::Flag("delayed"),
        "Order Cancelled" => Life::Flag("cancelled"),
        "Order Refunded" => Life::Refunded,
        "Order Updated" => match properties.text("status").as_deref() {
            Some("cancelled" | "canceled") => Life::Flag("cancelled"),
            Some("refunded") => Life::Refunded,
            Some("delayed") => Life::Flag("delayed"),
            Some(status) => RANKS.iter().find(|r| **r == status).map_or(Life::Updated, |r| Life::Status(r)),
            None => Life::Updated,
        },
        _ => return None,
    })
}

fn complete(order: &mut Order, properties: Properties<'_>, at: i64) {
    order.placed_at = if order.stub || order.placed_at == 0 { at } else { order.placed_at.min(at) };
    if rank(&order.status) == 0 {
        RANKS[0].clone_into(&mut order.status);
    }
    if order.stub {
        (order.stub, order.updated_at) = (false, at);
    }
    update(order, properties, at);
}

fn update(order: &mut Order, properties: Properties<'_>, at: i64) {
    if at < order.updated_at {
        return;
    }
    order.updated_at = at;
    if let Some(lines) = properties.lines() {
        order.lines = lines;
    }
    if let Some(cart_id) = properties.id("cart_id") {
        order.cart_id = cart_id;
    }
    order.value = net(properties).or_else(|| order.value.or_else(|| value_of(&order.lines).filter(|_| !order.lines.is_empty())));
    order.total = properties.amount("total").or_else(|| properties.amount("revenue")).or_else(|| order.total.take());
}

/// The order's value without shipping and tax, as far as the event says it (PRODUCT §4.3).
fn net(properties: Properties<'_>) -> Option<i64> {
    let of = |name| properties.money(name);
    let or_none = |name| of(name).unwrap_or(0);
    of("revenue")
        .or_else(|| Some(of("total")?.saturating_sub(or_none("shipping")).saturating_sub(or_none("tax"))))
        .or_else(|| Some(of("subtotal")?.saturating_sub(or_none("discount"))))
        .or_else(|| {
            let lines = properties.lines().filter(|l| !l.is_empty())?;
            Some(value_of(&lines)?.saturating_sub(or_none("discount")))
        })
}

/// Without `total` and `products` everything is given back.
fn refund(order: &mut Order, properties: Properties<'_>) {
    let lines = properties.lines().filter(|l| !l.is_empty());
    let part = properties.money("total").or_else(|| value_of(lines.as_deref()?));
    let Some(part) = part.filter(|_| properties.has("total") || properties.has("total_base") || lines.is_some()) else {
        if properties.has("total") || lines.is_some() {
            // Some of it, in a currency we cannot count.
            flag(order, "partially_refunded");
        } else {
            order.refunded = order.value.unwrap_or(order.refunded);
            flag(order, "refunded");
        }
        return;
    };
    order.refunded = order.refunded.saturating_add(part.max(0));
    let all = order.value.is_some_and(|value| order.refunded >= value);
    flag(order, if all { "refunded" } else { "partially_refunded" });
}

fn flag(order: &mut Order, name: &str) {
    if let Err(place) = order.flags.binary_search_by(|f| f.as_str().cmp(name)) {
        order.flags.insert(place, name.to_owned());
    }
}
