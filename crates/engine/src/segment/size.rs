//! A profile's state stays below 64 KiB (PRODUCT §5.1): cards fall, oldest first, then extra traits,
//! then lines of old orders and the oldest carts; never orders or consents.

use prost::Message as _;
use waypost_codec::inbox::{Line, Person};

/// Room for the rest of the entity is left.
const MAX_BYTES: usize = 60 * 1_024;
/// Newest orders that keep whole cards.
const WHOLE_ORDERS: usize = 3;

/// Cuts what may fall. What is left is bounded by the number and length of its entries. Returns whether something was lost that would have been kept in a smaller profile.
pub(super) fn limit(person: &mut Person) -> bool {
    let mut newest: Vec<_> = person.orders.iter().map(|o| (o.placed_at, o.order_id.clone())).collect();
    newest.sort_by(|a, b| b.cmp(a));
    let newest: Vec<_> = newest.into_iter().map(|(_, id)| id).collect();
    for id in newest.iter().skip(WHOLE_ORDERS) {
        cut_cards(person, id);
    }
    if person.encoded_len() <= MAX_BYTES {
        return false;
    }
    for id in newest.iter().rev() {
        cut_cards(person, id);
        if person.encoded_len() <= MAX_BYTES {
            return true;
        }
    }
    for cart in &mut person.carts {
        cart.lines.iter_mut().for_each(cut_card);
    }
    while person.encoded_len() > MAX_BYTES {
        let Some(extra) = person.fields.iter().rposition(|f| f.path.starts_with("extra.")) else { break };
        person.fields.remove(extra);
    }
    // Lines of the oldest orders go last: ids and values of the orders themselves always stay.
    for id in newest.iter().rev() {
        if person.encoded_len() <= MAX_BYTES {
            break;
        }
        if let Some(order) = person.orders.iter_mut().find(|o| o.order_id == *id) {
            order.lines.clear();
        }
    }
    while person.encoded_len() > MAX_BYTES && person.carts.len() > 1 {
        let oldest = (0..person.carts.len()).min_by_key(|at| (person.carts[*at].updated_at, person.carts[*at].cart_id.clone()));
        person.carts.remove(oldest.unwrap_or(0));
    }
    // The one cart left keeps its value, and of its lines the newest.
    let mut surplus = person.encoded_len().saturating_sub(MAX_BYTES);
    if let Some(cart) = person.carts.first_mut() {
        while surplus > 0 && !cart.lines.is_empty() {
            surplus = surplus.saturating_sub(cart.lines.remove(0).encoded_len());
        }
    }
    true
}

fn cut_cards(person: &mut Person, order_id: &str) {
    if let Some(order) = person.orders.iter_mut().find(|o| o.order_id == order_id) {
        order.lines.iter_mut().for_each(cut_card);
    }
}

/// Older lines keep ids, category, brand and price.
fn cut_card(line: &mut Line) {
    for text in [&mut line.name, &mut line.variant, &mut line.url, &mut line.image_url] {
        text.clear();
    }
    line.price_amount = None;
}
