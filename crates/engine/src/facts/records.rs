//! Carts and orders as conditions and templates see them (PRODUCT §5.1).

use waypost_codec::inbox;
use waypost_types::{Timestamp, Value};

const CART: [&str; 6] = ["cart_id", "status", "lines", "value", "total", "updated_at"];
const ORDER: [&str; 9] = ["order_id", "status", "flags", "lines", "value", "total", "placed_at", "updated_at", "cart_id"];

/// A cart.
pub(super) fn cart(cart: &inbox::Cart) -> Value {
    object(CART.map(|name| (name, cart_entry(cart, name))))
}

/// An entry of a cart.
pub(super) fn cart_entry(cart: &inbox::Cart, name: &str) -> Option<Value> {
    match name {
        "cart_id" => text(&cart.cart_id),
        "status" => cart_status(cart.status()).map(Value::text),
        "lines" => Some(lines(&cart.lines)),
        "value" => cart.value.map(Value::Money),
        "total" => cart.total.as_ref().map(amount),
        "updated_at" => time(cart.updated_at),
        _ => None,
    }
}

/// An order.
pub(super) fn order(order: &inbox::Order) -> Value {
    object(ORDER.map(|name| (name, order_entry(order, name))))
}

/// An entry of an order.
pub(super) fn order_entry(order: &inbox::Order, name: &str) -> Option<Value> {
    match name {
        "order_id" => text(&order.order_id),
        "status" => text(&order.status),
        "flags" => Some(Value::List(order.flags.iter().map(Value::text).collect())),
        "lines" => Some(lines(&order.lines)),
        "value" => order.value.map(Value::Money),
        "total" => order.total.as_ref().map(amount),
        "placed_at" => time(order.placed_at),
        "updated_at" => time(order.updated_at),
        "cart_id" => text(&order.cart_id),
        _ => None,
    }
}

/// The word of a cart's status.
pub(super) fn cart_status(status: inbox::CartStatus) -> Option<&'static str> {
    match status {
        inbox::CartStatus::Open => Some("open"),
        inbox::CartStatus::InCheckout => Some("in_checkout"),
        inbox::CartStatus::Emptied => Some("emptied"),
        inbox::CartStatus::Ordered => Some("ordered"),
        inbox::CartStatus::Unspecified => None,
    }
}

fn lines(lines: &[inbox::Line]) -> Value {
    Value::List(lines.iter().map(line).collect())
}

// `price` is what it came in, `price_base` in workspace currency, as in an event's `products`.
fn line(line: &inbox::Line) -> Value {
    object([
        ("product_id", text(&line.product_id)),
        ("sku", text(&line.sku)),
        ("name", text(&line.name)),
        ("category", text(&line.category)),
        ("brand", text(&line.brand)),
        ("variant", text(&line.variant)),
        ("price", line.price_amount.as_ref().map(amount)),
        ("price_base", line.price.map(Value::Money)),
        ("url", text(&line.url)),
        ("image_url", text(&line.image_url)),
        ("quantity", Some(Value::Int(line.quantity))),
    ])
}

fn object<const N: usize>(entries: [(&str, Option<Value>); N]) -> Value {
    Value::object(entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))))
}

// Stored texts and times are absent when empty.
fn text(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| Value::text(text))
}

fn time(ms: i64) -> Option<Value> {
    (ms != 0).then(|| Value::Time(Timestamp::from_millis(ms)))
}

fn amount(amount: &inbox::Amount) -> Value {
    Value::Amount { minor: amount.minor, currency: amount.currency.clone() }
}
