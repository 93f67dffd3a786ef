//! Cart records (PRODUCT §4.2): what the events of a cart do to it, each by its own time.
//!
//! A cart has lines with the time of their last change, and a mark (`in_checkout`, `ordered`) with its
//! time. Its status follows from both: lines changed after the mark make it open again, or emptied.

use waypost_codec::inbox::{Cart, CartStatus, Line, Person};

use super::properties::{MAX_LINES, Properties, same_product, share_product, total_of, value_of};
use crate::person;

/// Carts kept; the one changed longest ago falls.
const MAX_CARTS: usize = 5;
/// The cart of a shop that names none.
const DEFAULT: &str = "default";

/// Folds an event into the carts. Returns the cart's id where the event does not name it itself.
pub(super) fn fold(person: &mut Person, name: &str, properties: Properties<'_>, at: i64) -> Option<String> {
    let named = properties.text("cart_id");
    let lines = properties.lines();
    let one = properties.line();
    let seen: Vec<Line> = lines.clone().unwrap_or_default().into_iter().chain(one.clone()).collect();
    let id = match name {
        "Product Added" | "Product Removed" | "Wishlist Product Added to Cart" => named.clone().or_else(|| Some(DEFAULT.to_owned())),
        "Cart Updated" | "Checkout Started" => {
            named.clone().or_else(|| touched(person, &seen)).or_else(|| (!seen.is_empty()).then(|| DEFAULT.to_owned()))
        }
        "Cart Viewed" | "Checkout Step Viewed" | "Checkout Step Completed" | "Payment Info Entered" => {
            named.clone().or_else(|| touched(person, &seen))
        }
        _ => None,
    }?;
    let mut cart = person::cart(person, &id).cloned().unwrap_or_else(|| Cart { cart_id: id.clone(), ..Cart::default() });
    let before = cart.clone();
    match name {
        "Product Added" | "Wishlist Product Added to Cart" => {
            if let Some(line) = one {
                add(&mut cart, line, at);
            }
        }
        "Product Removed" => {
            if let Some(line) = one {
                remove(&mut cart, &line, at, properties.has("quantity"));
            }
        }
        "Cart Updated" => {
            if let Some(lines) = lines
                && at >= cart.status_at
            {
                replace(&mut cart, lines, at);
            }
        }
        "Checkout Started" if at >= cart.status_at => {
            begin_afresh(&mut cart, at);
            if let Some(lines) = lines.filter(|l| !l.is_empty()) {
                replace(&mut cart, lines, at);
            }
            (cart.status, cart.status_at) = (CartStatus::InCheckout.into(), at);
        }
        _ => {}
    }
    if cart != before {
        person::upsert(&mut person.carts, &cart);
    }
    named.is_none().then_some(id)
}

/// Orders close their carts, status follows from lines and marks, and the oldest carts fall.
///
/// An order closes the cart it names; naming none, every cart that shares a product with it, or, where
/// it has no lines, every cart. What was put into a cart after that opens it again.
pub(crate) fn settle(person: &mut Person) {
    let Person { carts, orders, .. } = person;
    for cart in carts.iter_mut() {
        for order in orders.iter().filter(|o| !o.stub) {
            let its_own = order.cart_id == cart.cart_id;
            let shared = order.cart_id.is_empty() && (order.lines.is_empty() || share_product(&order.lines, &cart.lines));
            if (its_own || shared) && order.placed_at >= cart.status_at {
                (cart.status, cart.status_at) = (CartStatus::Ordered.into(), order.placed_at);
            }
        }
        if cart.updated_at > cart.status_at {
            cart.status = if cart.lines.is_empty() { CartStatus::Emptied } else { CartStatus::Open }.into();
        }
    }
    while carts.len() > MAX_CARTS {
        let oldest = (0..carts.len()).min_by_key(|at| (carts[*at].updated_at, carts[*at].cart_id.clone()));
        carts.remove(oldest.unwrap_or(0));
    }
}

/// The open cart that shares a product, else the open one touched last.
fn touched(person: &Person, lines: &[Line]) -> Option<String> {
    let open = || person.carts.iter().filter(|c| person::is_open(c));
    let last = |c: &&Cart| (c.updated_at.max(c.status_at), c.cart_id.clone());
    let sharing = open().filter(|c| share_product(&c.lines, lines)).max_by_key(last);
    sharing.or_else(|| open().max_by_key(last)).map(|c| c.cart_id.clone())
}

/// After an order a cart starts over.
fn begin_afresh(cart: &mut Cart, at: i64) {
    if cart.status() == CartStatus::Ordered && at > cart.status_at {
        cart.lines.clear();
        count(cart);
    }
}

fn add(cart: &mut Cart, line: Line, at: i64) {
    // What was put in before a checkout or an order is part of it.
    if at < cart.status_at || (at == cart.status_at && cart.status() == CartStatus::Ordered) {
        return;
    }
    begin_afresh(cart, at);
    let late = at < cart.updated_at;
    match cart.lines.iter_mut().find(|l| same_product(l, &line)) {
        // It may be in what was seen since: rather one too few than one twice.
        Some(_) if late => return,
        Some(known) => {
            let quantity = known.quantity.saturating_add(line.quantity);
            *known = Line { quantity, ..line };
        }
        None => cart.lines.push(line),
    }
    if cart.lines.len() > MAX_LINES {
        cart.lines.remove(0);
    }
    changed(cart, at);
}

fn remove(cart: &mut Cart, line: &Line, at: i64, counted: bool) {
    if at < cart.updated_at.max(cart.status_at) || cart.status() == CartStatus::Ordered {
        return;
    }
    let Some(known) = cart.lines.iter().position(|l| same_product(l, line)) else { return };
    let left = if counted { cart.lines[known].quantity.saturating_sub(line.quantity) } else { 0 };
    if left > 0 {
        cart.lines[known].quantity = left;
    } else {
        cart.lines.remove(known);
    }
    changed(cart, at);
}

fn replace(cart: &mut Cart, lines: Vec<Line>, at: i64) {
    if at >= cart.updated_at {
        cart.lines = lines;
        changed(cart, at);
    }
}

fn changed(cart: &mut Cart, at: i64) {
    cart.updated_at = cart.updated_at.max(at);
    if cart.status() == CartStatus::Unspecified {
        cart.status = CartStatus::Open.into();
    }
    count(cart);
}

fn count(cart: &mut Cart) {
    cart.value = value_of(&cart.lines);
    cart.total = total_of(&cart.lines);
}
