//! People who are joined while they act: the half that moves is busy under its old identifier, and stops there what
//! the other half is about to be reminded of.

use waypost_types::{IdentifierClass, Span, Timestamp, Value};

use super::{Append, Named, event};
use crate::chance::Chance;

/// They have names of their own, so that nobody else's carts are touched.
const FIRST: usize = 40;
/// From a cart to its reminder.
const REMINDED: i64 = 4_000;

/// In some worlds; what they do comes into `appends`.
pub(super) fn draw(chance: &mut Chance, start: Timestamp, appends: &mut Vec<Append>) {
    if chance.index(4) > 0 {
        return;
    }
    for person in 0..chance.small(4) {
        let at = start.plus(chance.span(2_500, 9_000));
        cross(chance, FIRST + person, at, appends);
    }
}

/// A cart of the user; the user's device is recognised; and until the reminder the device is what acts.
fn cross(chance: &mut Chance, name: usize, at: Timestamp, appends: &mut Vec<Append>) {
    let user: Named = (IdentifierClass::UserId, format!("u{name}"));
    let device: Named = (IdentifierClass::Anonymous, format!("d{name}-0"));
    let text = |name: &str, value: String| (name.to_owned(), Value::text(value));
    let address = || vec![text("email", format!("u{name}@people.example"))];
    let cart = |cart: &str| vec![text("cart_id", cart.to_owned()), text("product_id", "p0".to_owned())];
    let mut number = 10_000 + 100 * name;
    let mut act = |name: &str, names: &[Named], properties: Vec<(String, Value)>, at: Timestamp| {
        number += 1;
        appends.push(event(number, name, names, properties, address(), at));
    };
    if chance.index(3) > 0 {
        act("Product Added", std::slice::from_ref(&device), cart("c1"), at.minus(chance.span(1, 1_500)));
    }
    act("Product Added", std::slice::from_ref(&user), cart("c0"), at);
    let due = at.plus(Span::from_millis(REMINDED));
    let mut now = at.plus(chance.span(100, REMINDED - 400));
    act("", &[user, device.clone()], vec![], now);
    for _ in 0..chance.small(8) {
        now = now.plus(if chance.index(3) > 0 { chance.span(1, 60) } else { chance.span(60, 500) });
        if now < due {
            act("Signed Up", std::slice::from_ref(&device), vec![], now);
        }
    }
    let left = due.since(now).millis();
    if left > 2 {
        let bought = now.plus(chance.span(1, left - 1));
        act("Order Completed", std::slice::from_ref(&device), vec![text("order_id", format!("o{name}"))], bought);
    }
}
