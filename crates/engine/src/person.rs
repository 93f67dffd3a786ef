//! What both the segmenter and the orchestrator know of a person: the stored [`Person`], its order,
//! its getters, and the delta that carries a change from one to the other.
//!
//! A stored person is *canonical*: every list is sorted by its key and holds each key once. [`diff`]
//! and [`apply`] are inverse on canonical persons: `apply(before, diff(before, after))` is `after`.

use waypost_codec::inbox::{Address, Cart, CartStatus, Consent, ConsentState, Field, Membership, Order, Person, Truth, Value};

use crate::membership;

/// The channel of e-mail addresses.
pub const EMAIL: &str = "email";
/// The channel of phone numbers.
pub const SMS: &str = "sms";
/// The topic that stands for a whole channel.
pub const WHOLE_CHANNEL: &str = "*";
/// Addresses kept per channel; the one set longest ago falls.
pub const MAX_ADDRESSES: usize = 5;

/// An entry of one of a person's lists, with the key it is sorted by.
pub(crate) trait Keyed: Clone + PartialEq {
    /// Its key; lists with a simple key leave the second part empty.
    fn key(&self) -> (&str, &str);
}

// === getters ===

/// The value of the field at `path`.
pub fn field<'a>(person: &'a Person, path: &str) -> Option<&'a Value> {
    find(&person.fields, (path, "")).and_then(|f| f.value.as_ref())
}

/// The cart with this id.
pub fn cart<'a>(person: &'a Person, cart_id: &str) -> Option<&'a Cart> {
    find(&person.carts, (cart_id, ""))
}

/// The order with this id.
pub fn order<'a>(person: &'a Person, order_id: &str) -> Option<&'a Order> {
    find(&person.orders, (order_id, ""))
}

/// The membership in this segment, as last evaluated, where more is kept of it than a fingerprint.
pub(crate) fn membership<'a>(person: &'a Person, segment: &str) -> Option<&'a Membership> {
    find(&person.memberships, (segment, ""))
}

/// The newest consent entry of a channel and topic.
pub fn consent<'a>(person: &'a Person, channel: &str, topic: &str) -> Option<&'a Consent> {
    find(&person.consents, (channel, topic))
}

/// The primary address of a channel: the last one verified, else the last one set.
pub fn address<'a>(person: &'a Person, channel: &str) -> Option<&'a Address> {
    person.addresses.iter().filter(|a| a.channel == channel).max_by_key(|a| (a.verified, a.set_at, a.value.as_str()))
}

/// The primary e-mail address.
pub fn email(person: &Person) -> Option<&Address> {
    address(person, EMAIL)
}

/// Whether a cart is one that can still be bought.
pub fn is_open(cart: &Cart) -> bool {
    matches!(cart.status(), CartStatus::Open | CartStatus::InCheckout)
}

/// Whether an order still counts: neither cancelled nor fully refunded.
pub fn counts(order: &Order) -> bool {
    !order.flags.iter().any(|f| f == "cancelled" || f == "refunded")
}

// === delta ===

/// Whether a delta, or all that is known of somebody, says nothing.
pub fn is_empty(delta: &Person) -> bool {
    let Person { fields, carts, orders, consents, memberships, addresses, removed_carts, removed_orders, not_in, removed_not_in } = delta;
    fields.is_empty()
        && carts.is_empty()
        && orders.is_empty()
        && consents.is_empty()
        && memberships.is_empty()
        && addresses.is_empty()
        && removed_carts.is_empty()
        && removed_orders.is_empty()
        && not_in.is_empty()
        && removed_not_in.is_empty()
}

/// Applies a delta: its entries replace those of the same key, a field without value and a membership
/// without truth fall away, and so do the records named as removed, and segments that are said to be plain now.
pub fn apply(person: &mut Person, delta: &Person) {
    for entry in &delta.fields {
        upsert(&mut person.fields, entry);
    }
    if delta.fields.iter().any(|f| f.value.is_none()) {
        person.fields.retain(|f| f.value.is_some());
    }
    if !delta.removed_carts.is_empty() {
        person.carts.retain(|c| !delta.removed_carts.contains(&c.cart_id));
    }
    for cart in &delta.carts {
        upsert(&mut person.carts, cart);
    }
    if !delta.removed_orders.is_empty() {
        person.orders.retain(|o| !delta.removed_orders.contains(&o.order_id));
    }
    for order in &delta.orders {
        upsert(&mut person.orders, order);
    }
    for consent in &delta.consents {
        upsert(&mut person.consents, consent);
    }
    if delta.consents.iter().any(|c| c.state() == ConsentState::Unspecified) {
        person.consents.retain(|c| c.state() != ConsentState::Unspecified);
    }
    membership::apply(person, delta);
    for address in &delta.addresses {
        upsert(&mut person.addresses, address);
    }
    limit_addresses(&mut person.addresses);
}

/// What has to be applied to `before` to make it `after`; both canonical.
pub fn diff(before: &Person, after: &Person) -> Person {
    let mut delta = Person {
        fields: changed(&before.fields, &after.fields),
        carts: changed(&before.carts, &after.carts),
        orders: changed(&before.orders, &after.orders),
        consents: changed(&before.consents, &after.consents),
        addresses: changed(&before.addresses, &after.addresses),
        removed_carts: gone(&before.carts, &after.carts).map(|c| c.cart_id.clone()).collect(),
        removed_orders: gone(&before.orders, &after.orders).map(|o| o.order_id.clone()).collect(),
        ..Person::default()
    };
    membership::diff(before, after, &mut delta);
    for gone in gone(&before.fields, &after.fields) {
        upsert(&mut delta.fields, &Field { path: gone.path.clone(), value: None, set_at: 0 });
    }
    for gone in gone(&before.consents, &after.consents) {
        upsert(&mut delta.consents, &removal_of_consent(gone));
    }
    delta
}

/// All of `after`, and what of `before` has fallen away: applied to `before` it makes `after` too.
pub fn whole(before: &Person, after: &Person) -> Person {
    let mut delta = diff(&Person::default(), after);
    let changes = diff(before, after);
    (delta.removed_carts, delta.removed_orders) = (changes.removed_carts, changes.removed_orders);
    delta.removed_not_in = changes.removed_not_in;
    for gone in changes.fields.iter().filter(|f| f.value.is_none()) {
        upsert(&mut delta.fields, gone);
    }
    for gone in changes.memberships.iter().filter(|m| m.truth() == Truth::Unspecified) {
        upsert(&mut delta.memberships, gone);
    }
    for gone in changes.consents.iter().filter(|c| c.state() == ConsentState::Unspecified) {
        upsert(&mut delta.consents, gone);
    }
    delta
}

/// What a delta says of a consent that has fallen away.
pub(crate) fn removal_of_consent(gone: &Consent) -> Consent {
    Consent { channel: gone.channel.clone(), topic: gone.topic.clone(), ..Consent::default() }
}

// === lists ===

/// The entry with this key.
pub(crate) fn find<'a, T: Keyed>(list: &'a [T], key: (&str, &str)) -> Option<&'a T> {
    list.binary_search_by(|e| e.key().cmp(&key)).ok().and_then(|at| list.get(at))
}

/// Puts an entry in its place, or instead of the one with its key.
pub(crate) fn upsert<T: Keyed>(list: &mut Vec<T>, entry: &T) {
    match list.binary_search_by(|e| e.key().cmp(&entry.key())) {
        Ok(at) => list[at] = entry.clone(),
        Err(at) => list.insert(at, entry.clone()),
    }
}

/// Entries of `after` that are new or different; both canonical.
pub(crate) fn changed<T: Keyed>(before: &[T], after: &[T]) -> Vec<T> {
    let mut rest = before;
    let is_new = |entry: &&T| {
        rest = from_key(rest, entry.key());
        rest.first() != Some(*entry)
    };
    after.iter().filter(is_new).cloned().collect()
}

/// Entries of `before` whose keys are not in `after`; both canonical.
pub(crate) fn gone<'a, T: Keyed>(before: &'a [T], after: &'a [T]) -> impl Iterator<Item = &'a T> {
    let mut rest = after;
    before.iter().filter(move |entry| {
        rest = from_key(rest, entry.key());
        rest.first().is_none_or(|first| first.key() != entry.key())
    })
}

/// What of a list is not below a key; walked, since whoever asks goes up in small steps.
fn from_key<'a, T: Keyed>(mut list: &'a [T], key: (&str, &str)) -> &'a [T] {
    while let [first, behind @ ..] = list
        && first.key() < key
    {
        list = behind;
    }
    list
}

/// Keeps the addresses of each channel that were set last.
pub(crate) fn limit_addresses(addresses: &mut Vec<Address>) {
    if addresses.len() <= MAX_ADDRESSES {
        return;
    }
    let all = addresses.clone();
    let rank = |a: &Address| (a.set_at, a.value.clone());
    addresses.retain(|a| all.iter().filter(|b| b.channel == a.channel && rank(b) > rank(a)).count() < MAX_ADDRESSES);
}

macro_rules! keyed {
    ($($entry:ty: $first:ident $(, $second:ident)?;)*) => {$(
        impl Keyed for $entry {
            fn key(&self) -> (&str, &str) {
                (&self.$first, keyed!(@ self $($second)?))
            }
        }
    )*};
    (@ $of:ident) => { "" };
    (@ $of:ident $second:ident) => { &$of.$second };
}

keyed! {
    Field: path;
    Cart: cart_id;
    Order: order_id;
    Consent: channel, topic;
    Membership: segment;
    Address: channel, value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_codec::inbox::value::Kind;

    fn text(path: &str, value: &str) -> Field {
        Field { path: path.to_owned(), value: Some(Value { kind: Some(Kind::Text(value.to_owned())) }), set_at: 1 }
    }

    fn cart(id: &str, status: CartStatus) -> Cart {
        Cart { cart_id: id.to_owned(), status: status.into(), ..Cart::default() }
    }

    fn membership(segment: &str, truth: Truth) -> Membership {
        Membership { segment: segment.to_owned(), truth: truth.into(), ..Membership::default() }
    }

    #[test]
    fn a_delta_carries_what_changed_and_nothing_else() {
        let before = Person {
            fields: vec![text("first_name", "Ada"), text("language", "en")],
            carts: vec![cart("a", CartStatus::Open), cart("b", CartStatus::Open)],
            memberships: vec![membership("old", Truth::Yes), membership("vip", Truth::No)],
            ..Person::default()
        };
        let after = Person {
            fields: vec![text("first_name", "Ada"), text("last_name", "L")],
            carts: vec![cart("b", CartStatus::Ordered), cart("c", CartStatus::Open)],
            memberships: vec![membership("vip", Truth::Yes)],
            ..Person::default()
        };
        let delta = diff(&before, &after);
        assert_eq!(delta.removed_carts, ["a"]);
        assert_eq!(delta.carts.len(), 2);
        assert_eq!(
            delta.fields.iter().map(|f| (f.path.as_str(), f.value.is_some())).collect::<Vec<_>>(),
            [("language", false), ("last_name", true)]
        );
        let mut person = before;
        apply(&mut person, &delta);
        assert_eq!(person, after);
        assert!(is_empty(&diff(&after, &after)));
    }

    #[test]
    fn the_primary_address_is_the_one_verified_last_else_set_last() {
        let address = |value: &str, verified, set_at| Address { channel: EMAIL.to_owned(), value: value.to_owned(), verified, set_at };
        let mut person = Person::default();
        for entry in [address("b@shop.example", false, 5), address("a@shop.example", false, 3)] {
            upsert(&mut person.addresses, &entry);
        }
        assert_eq!(email(&person).map(|a| a.value.as_str()), Some("b@shop.example"));
        upsert(&mut person.addresses, &address("a@shop.example", true, 3));
        assert_eq!(email(&person).map(|a| a.value.as_str()), Some("a@shop.example"));
    }

    #[test]
    fn of_many_addresses_the_newest_stay() {
        let mut person = Person::default();
        for n in 0..8 {
            upsert(
                &mut person.addresses,
                &Address { channel: EMAIL.to_owned(), value: format!("{n}@shop.example"), verified: false, set_at: n },
            );
        }
        limit_addresses(&mut person.addresses);
        assert_eq!(person.addresses.iter().map(|a| a.set_at).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    }
}
