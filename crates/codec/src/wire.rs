//! Protobuf written in one pass: the bytes that prost makes, in about half the time.
//!
//! A length stands before every message. The derived code measures a message once for each message that it lies in, and then
//! writes it byte by byte; at every event that is more work than the fold. Here each length is put before what it measures
//! afterwards. Every field by name, so that a new one does not compile until it is written. Tags are below 16.

use prost::encoding::{encoded_len_varint, message};

use crate::inbox::{
    Address, Amount, Cart, Consent, Field, Line, Membership, Order, Person, SegmentItem, Value, segment_item::Body, value::Kind,
};

/// An item, as it goes to the segmenter.
pub fn segment_item(item: &SegmentItem, buf: &mut Vec<u8>) {
    let SegmentItem { node, body, first } = item;
    text(1, node, buf);
    match body {
        None => {}
        Some(Body::Event(event)) => block(2, event, buf),
        Some(Body::Receipt(receipt)) => message::encode(3, receipt, buf),
        Some(Body::Settled(settled)) => message::encode(4, settled, buf),
        Some(Body::Erase(erase)) => message::encode(5, erase, buf),
        Some(Body::Command(command)) => message::encode(7, command, buf),
    }
    number(6, u64::from(*first), buf);
}

/// A person.
pub fn person(person: &Person, buf: &mut Vec<u8>) {
    let Person { fields, carts, orders, consents, memberships, addresses, removed_carts, removed_orders, not_in, removed_not_in } = person;
    each(1, fields, buf, write_field);
    each(2, carts, buf, write_cart);
    each(3, orders, buf, write_order);
    each(4, consents, buf, write_consent);
    each(5, memberships, buf, write_membership);
    each(6, addresses, buf, write_address);
    blocks(7, removed_carts, buf);
    blocks(8, removed_orders, buf);
    fixed(9, not_in, buf);
    fixed(10, removed_not_in, buf);
}

fn write_field(field: &Field, buf: &mut Vec<u8>) {
    let Field { path, value, set_at } = field;
    text(1, path.as_bytes(), buf);
    each(2, value.as_slice(), buf, write_value);
    number(3, set_at.cast_unsigned(), buf);
}

/// A kind is written whatever it says: an oneof has no default.
fn write_value(value: &Value, buf: &mut Vec<u8>) {
    match &value.kind {
        None => {}
        Some(Kind::Bool(is_so)) => some_number(1, u64::from(*is_so), buf),
        Some(Kind::Int(number)) => some_number(2, zigzag(*number), buf),
        Some(Kind::Decimal(millionths)) => some_number(3, zigzag(*millionths), buf),
        Some(Kind::Text(text)) => block(4, text.as_bytes(), buf),
        Some(Kind::Money(minor)) => some_number(5, zigzag(*minor), buf),
        Some(Kind::Amount(amount)) => message::encode(6, amount, buf),
        Some(Kind::Time(ms)) => some_number(7, zigzag(*ms), buf),
        Some(Kind::Date(days)) => some_number(8, zigzag(i64::from(*days)), buf),
        Some(Kind::List(list)) => message::encode(9, list, buf),
        Some(Kind::Object(object)) => message::encode(10, object, buf),
    }
}

fn write_cart(cart: &Cart, buf: &mut Vec<u8>) {
    let Cart { cart_id, status, lines, value, total, updated_at, status_at } = cart;
    text(1, cart_id.as_bytes(), buf);
    number(2, i64::from(*status).cast_unsigned(), buf);
    each(3, lines, buf, write_line);
    optional(4, *value, buf);
    each(5, total.as_slice(), buf, write_amount);
    number(6, updated_at.cast_unsigned(), buf);
    number(7, status_at.cast_unsigned(), buf);
}

fn write_order(order: &Order, buf: &mut Vec<u8>) {
    let Order { order_id, status, flags, lines, value, total, placed_at, updated_at, refunded, cart_id, stub } = order;
    text(1, order_id.as_bytes(), buf);
    text(2, status.as_bytes(), buf);
    blocks(3, flags, buf);
    each(4, lines, buf, write_line);
    optional(5, *value, buf);
    each(6, total.as_slice(), buf, write_amount);
    number(7, placed_at.cast_unsigned(), buf);
    number(8, updated_at.cast_unsigned(), buf);
    number(9, zigzag(*refunded), buf);
    text(10, cart_id.as_bytes(), buf);
    number(11, u64::from(*stub), buf);
}

fn write_line(line: &Line, buf: &mut Vec<u8>) {
    let Line { product_id, sku, name, category, brand, variant, price, price_amount, url, image_url, quantity } = line;
    text(1, product_id.as_bytes(), buf);
    text(2, sku.as_bytes(), buf);
    text(3, name.as_bytes(), buf);
    text(4, category.as_bytes(), buf);
    text(5, brand.as_bytes(), buf);
    text(6, variant.as_bytes(), buf);
    optional(7, *price, buf);
    each(8, price_amount.as_slice(), buf, write_amount);
    text(9, url.as_bytes(), buf);
    text(10, image_url.as_bytes(), buf);
    number(11, zigzag(*quantity), buf);
}

fn write_amount(amount: &Amount, buf: &mut Vec<u8>) {
    let Amount { minor, currency } = amount;
    number(1, zigzag(*minor), buf);
    text(2, currency.as_bytes(), buf);
}

fn write_consent(consent: &Consent, buf: &mut Vec<u8>) {
    let Consent { channel, topic, state, basis, source, at, expires_at, address } = consent;
    text(1, channel.as_bytes(), buf);
    text(2, topic.as_bytes(), buf);
    number(3, i64::from(*state).cast_unsigned(), buf);
    text(4, basis.as_bytes(), buf);
    text(5, source.as_bytes(), buf);
    number(6, at.cast_unsigned(), buf);
    number(7, expires_at.cast_unsigned(), buf);
    text(8, address.as_bytes(), buf);
}

fn write_membership(membership: &Membership, buf: &mut Vec<u8>) {
    let Membership { segment, truth, valid_until, since, version } = membership;
    text(1, segment.as_bytes(), buf);
    number(2, i64::from(*truth).cast_unsigned(), buf);
    number(3, valid_until.cast_unsigned(), buf);
    number(4, since.cast_unsigned(), buf);
    number(5, u64::from(*version), buf);
}

fn write_address(address: &Address, buf: &mut Vec<u8>) {
    let Address { channel, value, verified, set_at } = address;
    text(1, channel.as_bytes(), buf);
    text(2, value.as_bytes(), buf);
    number(3, u64::from(*verified), buf);
    number(4, set_at.cast_unsigned(), buf);
}

/// Key of a field with this tag, which is below 16.
fn key(tag: u8, wire_type: u8) -> u8 {
    tag << 3 | wire_type
}

/// A number of as many bytes as it needs.
pub fn varint(mut number: u64, buf: &mut Vec<u8>) {
    while let rest @ 1.. = number >> 7 {
        buf.push(low_bits(number) | 0x80);
        number = rest;
    }
    buf.push(low_bits(number));
}

fn low_bits(number: u64) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

/// A number, unless it is the default.
pub fn number(tag: u8, number: u64, buf: &mut Vec<u8>) {
    if number != 0 {
        some_number(tag, number, buf);
    }
}

/// A number, the default too.
fn some_number(tag: u8, number: u64, buf: &mut Vec<u8>) {
    buf.push(key(tag, 0));
    varint(number, buf);
}

/// A number with a sign, if there is one.
fn optional(tag: u8, number: Option<i64>, buf: &mut Vec<u8>) {
    if let Some(number) = number {
        some_number(tag, zigzag(number), buf);
    }
}

/// A number with a sign, as `sint64` writes it.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

/// Text or bytes, unless they are the default.
pub fn text(tag: u8, bytes: &[u8], buf: &mut Vec<u8>) {
    if !bytes.is_empty() {
        block(tag, bytes, buf);
    }
}

/// A list of texts or bytes, empty ones too.
pub fn blocks(tag: u8, list: &[impl AsRef<[u8]>], buf: &mut Vec<u8>) {
    for bytes in list {
        block(tag, bytes.as_ref(), buf);
    }
}

/// Text or bytes.
pub fn block(tag: u8, bytes: &[u8], buf: &mut Vec<u8>) {
    buf.push(key(tag, 2));
    varint(bytes.len() as u64, buf);
    buf.extend_from_slice(bytes);
}

/// A list of numbers of four bytes each.
pub fn fixed(tag: u8, list: &[u32], buf: &mut Vec<u8>) {
    if !list.is_empty() {
        buf.push(key(tag, 2));
        varint(4 * list.len() as u64, buf);
        for number in list {
            buf.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// A list of messages, or one that may be there. Most are short, so that one byte is kept for the length; what is longer is moved up.
pub fn each<T>(tag: u8, list: &[T], buf: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    for message in list {
        buf.extend_from_slice(&[key(tag, 2), 0]);
        let start = buf.len();
        write(message, buf);
        let length = buf.len() - start;
        if length < 0x80 {
            buf[start - 1] = low_bits(length as u64);
        } else {
            let (more, end) = (encoded_len_varint(length as u64) - 1, buf.len());
            buf.resize(end + more, 0);
            buf.copy_within(start..end, start + more);
            let mut rest = length as u64;
            for byte in &mut buf[start - 1..start + more] {
                *byte = low_bits(rest) | 0x80;
                rest >>= 7;
            }
            buf[start + more - 1] &= 0x7f;
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::inbox::{List, Object, Property, Receipt, Settled};

    fn line(word: &str, price: Option<i64>) -> Line {
        Line {
            product_id: word.to_owned(),
            sku: "s".to_owned(),
            name: "n".to_owned(),
            category: "c".to_owned(),
            brand: "b".to_owned(),
            variant: "v".to_owned(),
            price,
            price_amount: price.map(|minor| Amount { minor, currency: "EUR".to_owned() }),
            url: "u".to_owned(),
            image_url: "i".to_owned(),
            quantity: -1,
        }
    }

    fn cart(word: &str, value: Option<i64>) -> Cart {
        let total = value.map(|minor| Amount { minor, currency: word.to_owned() });
        Cart {
            cart_id: word.to_owned(),
            status: 2,
            lines: vec![line(word, value), Line::default()],
            value,
            total,
            updated_at: 1,
            status_at: i64::MIN,
        }
    }

    fn order(word: &str) -> Order {
        Order {
            order_id: word.to_owned(),
            status: "placed".to_owned(),
            flags: vec!["delayed".to_owned(), String::new()],
            lines: vec![line(word, Some(i64::MIN))],
            value: Some(-5),
            total: Some(Amount::default()),
            placed_at: 1,
            updated_at: 2,
            refunded: i64::MAX,
            cart_id: word.to_owned(),
            stub: true,
        }
    }

    #[test]
    fn every_kind_of_value_is_written_as_prost_writes_it() {
        let text = |text: &str| Value { kind: Some(Kind::Text(text.to_owned())) };
        let object = Object { entries: vec![Property { name: "a".to_owned(), value: Some(text("b")) }] };
        let mut kinds = vec![
            Kind::Bool(false),
            Kind::Bool(true),
            Kind::Text(String::new()),
            Kind::Amount(Amount { minor: 0, currency: "EUR".to_owned() }),
            Kind::List(List { items: vec![text("c"), Value::default()] }),
            Kind::Object(object),
        ];
        for number in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN] {
            kinds.extend([Kind::Int(number), Kind::Decimal(number), Kind::Money(number), Kind::Time(number)]);
        }
        kinds.extend([0, 1, -1, i32::MAX, i32::MIN].map(Kind::Date));
        for kind in kinds {
            let (mut buf, value) = (Vec::new(), Value { kind: Some(kind) });
            write_value(&value, &mut buf);
            assert_eq!(buf, value.encode_to_vec(), "{value:?}");
        }
    }

    #[test]
    fn items_are_written_as_prost_writes_them() {
        let receipt = Receipt { profile: vec![1; 31].into(), attempt: 7, reason: "x".repeat(200), ..Receipt::default() };
        let bodies = [
            None,
            Some(Body::Event(vec![5; 300].into())),
            Some(Body::Event(Vec::new().into())),
            Some(Body::Receipt(receipt)),
            Some(Body::Settled(Settled { node: vec![2; 31].into() })),
            Some(Body::Erase(crate::inbox::Erase::default())),
            Some(Body::Command(crate::inbox::RunCommand::default())),
        ];
        for body in bodies {
            for first in [false, true] {
                let (mut buf, item) = (Vec::new(), SegmentItem { node: vec![1; 31].into(), body: body.clone(), first });
                segment_item(&item, &mut buf);
                assert_eq!(buf, item.encode_to_vec(), "{item:?}");
            }
        }
    }

    #[test]
    fn the_bytes_are_those_that_prost_makes() {
        for long in [0, 1, 60, 126, 127, 128, 16_380, 16_390, 300_000] {
            let word = "w".repeat(long);
            let value = Value { kind: Some(Kind::Text(word.clone())) };
            let full = Person {
                fields: vec![Field { path: word.clone(), value: Some(value), set_at: -1 }; 3],
                carts: vec![cart(&word, None), cart(&word, Some(0)), Cart::default()],
                orders: vec![order(&word), Order::default()],
                consents: vec![Consent { channel: word.clone(), expires_at: i64::MAX, ..Consent::default() }],
                memberships: vec![Membership { segment: word.clone(), truth: -1, ..Membership::default() }],
                addresses: vec![Address { value: word.clone(), verified: true, ..Address::default() }],
                removed_carts: vec![word, String::new()],
                not_in: vec![1, u32::MAX],
                ..Person::default()
            };
            let mut buf = Vec::new();
            person(&full, &mut buf);
            assert!(buf == full.encode_to_vec(), "{long}");
            let (mut buf, record) = (Vec::new(), crate::state::SegmentProfile { person: Some(full), ..Default::default() });
            each(3, record.person.as_slice(), &mut buf, person);
            assert!(buf == record.encode_to_vec(), "{long}");
        }
    }
}
