//! Protobuf written in one pass: the bytes that prost makes, in about half the time.
//!
//! A length stands before every message. The derived code measures a message once for each message that it lies in, and then
//! writes it byte by byte; at every event that is more work than the fold. Here each length is put before what it measures
//! afterwards. Every field by name, so that a new one does not compile until it is written. Tags are below 16.

use prost::encoding::{encoded_len_varint, message};

use crate::inbox::{Address, Consent, Field, Membership, Person};

/// A person.
pub fn person(person: &Person, buf: &mut Vec<u8>) {
    let Person { fields, carts, orders, consents, memberships, addresses, removed_carts, removed_orders, not_in, removed_not_in } = person;
    each(1, fields, buf, write_field);
    message::encode_repeated(2, carts, buf);
    message::encode_repeated(3, orders, buf);
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
    if let Some(value) = value {
        message::encode(2, value, buf);
    }
    number(3, set_at.cast_unsigned(), buf);
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
        buf.push(key(tag, 0));
        varint(number, buf);
    }
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
    use crate::inbox::{Cart, Value, value::Kind};

    #[test]
    fn the_bytes_are_those_that_prost_makes() {
        for long in [0, 1, 60, 126, 127, 128, 16_380, 16_390, 300_000] {
            let word = "w".repeat(long);
            let value = Value { kind: Some(Kind::Text(word.clone())) };
            let full = Person {
                fields: vec![Field { path: word.clone(), value: Some(value), set_at: -1 }; 3],
                carts: vec![Cart { cart_id: word.clone(), ..Cart::default() }; 2],
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
