//! A profile's state stays below 64 KiB (PRODUCT §5.1): cards fall, oldest first, then extra traits,
//! then lines of old orders and the oldest carts; never orders or consents.

use prost::Message as _;
use waypost_codec::inbox::{Line, Person};

use super::{Draft, plan::Size};

/// Room for the rest of the entity is left.
const MAX_BYTES: usize = 60 * 1_024;
/// Newest orders that keep whole cards.
const WHOLE_ORDERS: usize = 3;

/// Cuts what may fall. What is left is bounded by the number and length of its entries. Returns whether something was
/// lost that would have been kept in a smaller profile.
///
/// `size` is what is known of it without looking at each membership.
pub(super) fn limit(person: &mut Draft, size: Option<Size<'_>>) -> bool {
    // Those of a person of whom so much is known were cut when they were touched.
    if person.orders.len() > WHOLE_ORDERS && (size.is_none() || person.has_touched_orders()) {
        for place in newest(person).into_iter().skip(WHOLE_ORDERS) {
            cut_cards(person, place);
        }
    }
    if size.is_some_and(|Size { segments, rest }| surely_fits(person, segments, rest)) || person.encoded_len() <= MAX_BYTES {
        return false;
    }
    let newest = newest(person);
    for place in newest.iter().rev() {
        cut_cards(person, *place);
        if person.encoded_len() <= MAX_BYTES {
            return true;
        }
    }
    for cart in person.carts_mut() {
        cart.lines.iter_mut().for_each(cut_card);
    }
    while person.encoded_len() > MAX_BYTES {
        let Some(extra) = person.fields.iter().rposition(|f| f.path.starts_with("extra.")) else { break };
        person.remove_field(extra);
    }
    // Lines of the oldest orders go last: ids and values of the orders themselves always stay.
    for place in newest.iter().rev() {
        if person.encoded_len() <= MAX_BYTES {
            break;
        }
        person.orders_mut()[*place].lines.clear();
    }
    while person.encoded_len() > MAX_BYTES && person.carts.len() > 1 {
        let oldest = (0..person.carts.len()).min_by_key(|at| (person.carts[*at].updated_at, person.carts[*at].cart_id.clone()));
        person.carts_mut().remove(oldest.unwrap_or(0));
    }
    // The one cart left keeps its value, and of its lines the newest.
    let mut surplus = person.encoded_len().saturating_sub(MAX_BYTES);
    if let Some(cart) = person.carts_mut().first_mut() {
        while surplus > 0 && !cart.lines.is_empty() {
            surplus = surplus.saturating_sub(cart.lines.remove(0).encoded_len());
        }
    }
    true
}

/// Most events set a field or two: what was measured before, and these, says as much as measuring all of it again.
fn surely_fits(person: &mut Draft, segments: usize, rest: &mut Option<usize>) -> bool {
    let reckoned = rest.zip(person.longer_by()).map(|(before, more)| before + more).filter(|now| now + segments <= MAX_BYTES);
    let now = reckoned.unwrap_or_else(|| person.len_without_segments());
    *rest = Some(now);
    now + segments <= MAX_BYTES
}

/// Places of the orders, newest first.
fn newest(person: &Person) -> Vec<usize> {
    let mut places: Vec<usize> = (0..person.orders.len()).collect();
    let rank = |at: &usize| (person.orders[*at].placed_at, person.orders[*at].order_id.as_str());
    places.sort_by(|a, b| rank(b).cmp(&rank(a)));
    places
}

fn cut_cards(person: &mut Draft, place: usize) {
    if person.orders[place].lines.iter().any(has_card) {
        person.orders_mut()[place].lines.iter_mut().for_each(cut_card);
    }
}

fn has_card(line: &Line) -> bool {
    [&line.name, &line.variant, &line.url, &line.image_url].into_iter().any(|text| !text.is_empty()) || line.price_amount.is_some()
}

/// Older lines keep ids, category, brand and price.
fn cut_card(line: &mut Line) {
    for text in [&mut line.name, &mut line.variant, &mut line.url, &mut line.image_url] {
        text.clear();
    }
    line.price_amount = None;
}
