//! Cart records (PRODUCT §4.2): what the events of a cart do to it, each by its own time.
//!
//! A cart has lines with the time of their last change, and a mark (`in_checkout`, `ordered`) with its
//! time. Its status follows from both: lines changed after the mark make it open again, or emptied.

use waypost_codec::inbox::{Cart, CartStatus, Line, Order, Person};

use super::{
    Draft,
    properties::{MAX_LINES, Properties, same_product, share_product, total_of, value_of},
};
use crate::person;

/// Carts kept; the one changed longest ago falls.
const MAX_CARTS: usize = 5;
/// The cart of a shop that names none.
const DEFAULT: &str = "default";

/// Which cart an event is about that names none.
#[derive(Clone, Copy)]
enum Unnamed {
    /// The one of a shop that names none.
    Default,
    /// The one with its products; where there are products and no such cart, the same.
    TouchedElseDefault,
    /// The one with its products, if there is one.
    Touched,
}

/// Folds an event into the carts. Returns the cart's id where the event does not name it itself.
pub(super) fn fold(person: &mut Draft, name: &str, properties: Properties<'_>, at: i64) -> Option<String> {
    let unnamed = unnamed(name)?;
    let named = properties.text("cart_id");
    let lines = properties.lines();
    let one = properties.line();
    let seen: Vec<Line> = lines.clone().unwrap_or_default().into_iter().chain(one.clone()).collect();
    let default = || DEFAULT.to_owned();
    let id = named.clone().or_else(|| match unnamed {
        Unnamed::Default => Some(default()),
        Unnamed::TouchedElseDefault => touched(person, &seen).or_else(|| (!seen.is_empty()).then(default)),
        Unnamed::Touched => touched(person, &seen),
    })?;
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
        person::upsert(person.carts_mut(), &cart);
    }
    named.is_none().then_some(id)
}

/// Orders close their carts, status follows from lines and marks, and the oldest carts fall.
///
/// An order closes the cart it names; naming none, every cart that shares a product with it, or, where
/// it has no lines, every cart. What was put into a cart after that opens it again.
pub(crate) fn settle(person: &mut Draft) {
    for place in 0..person.carts.len() {
        let cart = &person.carts[place];
        let settled = status(cart, &person.orders);
        if settled != (cart.status, cart.status_at) {
            let cart = &mut person.carts_mut()[place];
            (cart.status, cart.status_at) = settled;
        }
    }
    while person.carts.len() > MAX_CARTS {
        let carts = &person.carts;
        let oldest = (0..carts.len()).min_by_key(|at| (carts[*at].updated_at, carts[*at].cart_id.clone()));
        person.carts_mut().remove(oldest.unwrap_or(0));
    }
}

/// What a cart's status, and its time, come to behind these orders.
fn status(cart: &Cart, orders: &[Order]) -> (i32, i64) {
    let (mut status, mut status_at) = (cart.status, cart.status_at);
    for order in orders.iter().filter(|o| !o.stub) {
        let its_own = order.cart_id == cart.cart_id;
        let shared = || order.cart_id.is_empty() && (order.lines.is_empty() || share_product(&order.lines, &cart.lines));
        if order.placed_at >= status_at && (its_own || shared()) {
            (status, status_at) = (CartStatus::Ordered.into(), order.placed_at);
        }
    }
    if cart.updated_at > status_at {
        status = if cart.lines.is_empty() { CartStatus::Emptied } else { CartStatus::Open }.into();
    }
    (status, status_at)
}

/// What an event of this name is about; none: no cart.
fn unnamed(name: &str) -> Option<Unnamed> {
    match name {
        "Product Added" | "Product Removed" | "Wishlist Product Added to Cart" => Some(Unnamed::Default),
        "Cart Updated" | "Checkout Started" => Some(Unnamed::TouchedElseDefault),
        "Cart Viewed" | "Checkout Step Viewed" | "Checkout Step Completed" | "Payment Info Entered" => Some(Unnamed::Touched),
        _ => None,
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
