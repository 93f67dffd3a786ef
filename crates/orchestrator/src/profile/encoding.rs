//! The stored form of a profile: the bytes that prost makes of a [`JourneyProfile`], in about half the time.
//!
//! A length stands before every message. The derived code measures a message once for each message that it lies in, and then
//! writes it byte by byte; at every event that is more work than the fold. Here what a profile has many of is written in one pass,
//! and each length put before it afterwards. What it has few of is left to prost.

use prost::encoding::message;
use waypost_codec::{
    inbox::{Address, Consent, Field, Membership, Person},
    state::{Check, JourneyProfile, Trail},
};

/// Room that most profiles do with; more is found as it is needed.
const ROOM: usize = 4_096;

/// What `state.encode_to_vec()` gives.
pub(super) fn encoded(state: &JourneyProfile) -> Vec<u8> {
    // Here and below every field by name: a new one does not compile until it is written.
    let JourneyProfile {
        moved_to,
        erased,
        person,
        runs,
        past,
        sends,
        facts,
        trail,
        ids,
        losers,
        now,
        events,
        draining,
        draining_since,
        erased_at,
        bounced,
    } = state;
    let mut buf = Vec::with_capacity(ROOM);
    text(1, moved_to, &mut buf);
    number(2, u64::from(*erased), &mut buf);
    each(3, person.as_slice(), &mut buf, write_person);
    message::encode_repeated(4, runs, &mut buf);
    message::encode_repeated(5, past, &mut buf);
    message::encode_repeated(6, sends, &mut buf);
    message::encode_repeated(7, facts, &mut buf);
    each(8, trail, &mut buf, write_trail);
    blocks(9, ids, &mut buf);
    blocks(10, losers, &mut buf);
    number(11, now.cast_unsigned(), &mut buf);
    number(12, *events, &mut buf);
    blocks(13, draining, &mut buf);
    number(14, draining_since.cast_unsigned(), &mut buf);
    number(15, erased_at.cast_unsigned(), &mut buf);
    message::encode_repeated(16, bounced, &mut buf);
    buf
}

fn write_person(person: &Person, buf: &mut Vec<u8>) {
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

fn write_trail(trail: &Trail, buf: &mut Vec<u8>) {
    let Trail { at, journey, version, run, key, what, step, reason, checks, offset, index, cause, send, note } = trail;
    number(1, at.cast_unsigned(), buf);
    text(2, journey.as_bytes(), buf);
    number(3, u64::from(*version), buf);
    text(4, run, buf);
    text(5, key.as_bytes(), buf);
    text(6, what.as_bytes(), buf);
    text(7, step.as_bytes(), buf);
    text(8, reason.as_bytes(), buf);
    each(9, checks, buf, write_check);
    number(10, *offset, buf);
    number(11, u64::from(*index), buf);
    text(12, cause.as_bytes(), buf);
    text(13, send, buf);
    text(14, note.as_bytes(), buf);
}

fn write_check(check: &Check, buf: &mut Vec<u8>) {
    let Check { what, truth, operands, valid_until } = check;
    text(1, what.as_bytes(), buf);
    number(2, i64::from(*truth).cast_unsigned(), buf);
    blocks(3, operands, buf);
    number(4, valid_until.cast_unsigned(), buf);
}

// === the wire ===

/// Key of a field with this tag, which is below 16.
fn key(tag: u8, wire_type: u8) -> u8 {
    tag << 3 | wire_type
}

fn varint(mut number: u64, buf: &mut Vec<u8>) {
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
fn number(tag: u8, number: u64, buf: &mut Vec<u8>) {
    if number != 0 {
        buf.push(key(tag, 0));
        varint(number, buf);
    }
}

/// Text or bytes, unless they are the default.
fn text(tag: u8, bytes: &[u8], buf: &mut Vec<u8>) {
    if !bytes.is_empty() {
        block(tag, bytes, buf);
    }
}

/// A list of texts or bytes, empty ones too.
fn blocks(tag: u8, list: &[impl AsRef<[u8]>], buf: &mut Vec<u8>) {
    for bytes in list {
        block(tag, bytes.as_ref(), buf);
    }
}

fn block(tag: u8, bytes: &[u8], buf: &mut Vec<u8>) {
    buf.push(key(tag, 2));
    varint(bytes.len() as u64, buf);
    buf.extend_from_slice(bytes);
}

/// A list of numbers of four bytes each.
fn fixed(tag: u8, list: &[u32], buf: &mut Vec<u8>) {
    if !list.is_empty() {
        buf.push(key(tag, 2));
        varint(4 * list.len() as u64, buf);
        for number in list {
            buf.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// A list of messages. Most are short, so that one byte is kept for the length; what is longer is moved up.
fn each<T>(tag: u8, list: &[T], buf: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    for message in list {
        buf.extend_from_slice(&[key(tag, 2), 0]);
        let start = buf.len();
        write(message, buf);
        let length = buf.len() - start;
        if length < 0x80 {
            buf[start - 1] = low_bits(length as u64);
        } else {
            let mut head = Vec::new();
            varint(length as u64, &mut head);
            buf.splice(start - 1..start, head);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;
    use waypost_codec::{
        inbox::{Cart, Line, Order, Value, value::Kind},
        state::{Bounced, Fact, PastRun, Run, RunSend, RunTimer, SendLogEntry, Visit},
    };

    use super::*;

    fn word(n: usize) -> String {
        "w".repeat(n)
    }

    fn id(n: usize) -> Bytes {
        Bytes::from(vec![7; n])
    }

    /// Every list with `n` entries, of words of `long` bytes.
    fn full(n: usize, long: usize) -> JourneyProfile {
        let (at, small) = (i64::try_from(n).unwrap(), u32::try_from(n).unwrap());
        let value = Value { kind: Some(Kind::Text(word(long))) };
        let person = Person {
            fields: vec![Field { path: word(long), value: Some(value), set_at: at }; n],
            carts: vec![Cart { cart_id: word(long), lines: vec![Line::default(); n], value: Some(at), ..Cart::default() }; n],
            orders: vec![
                Order { order_id: word(long), lines: vec![Line::default(); n], flags: vec![word(long); n], ..Order::default() };
                n
            ],
            consents: vec![Consent { channel: word(long), state: -1, basis: word(2 * long), expires_at: at, ..Consent::default() }; n],
            memberships: vec![Membership { segment: word(long), truth: 1, since: -at, ..Membership::default() }; n],
            addresses: vec![Address { value: word(long), verified: true, ..Address::default() }; n],
            removed_carts: vec![word(long); n],
            removed_orders: vec![String::new(); n],
            not_in: vec![small; n],
            removed_not_in: vec![u32::MAX; n],
        };
        let check = Check { what: word(long), truth: 3, operands: vec![word(long); n], valid_until: i64::MIN };
        let run = Run {
            id: id(long),
            sends: vec![RunSend { id: id(long), ..RunSend::default() }; n],
            timers: vec![RunTimer { due: at, what: word(long), ..RunTimer::default() }; n],
            visits: vec![Visit { step: word(long), count: small }; n],
            ..Run::default()
        };
        JourneyProfile {
            moved_to: id(long),
            erased: n > 0,
            person: Some(person),
            runs: vec![run; n],
            past: vec![PastRun { journey: word(long), exited_at: at, ..PastRun::default() }; n],
            sends: vec![SendLogEntry { id: id(long), at, ..SendLogEntry::default() }; n],
            facts: vec![Fact { name: word(long), at: -at, ..Fact::default() }; n],
            trail: vec![Trail { at, checks: vec![check; n], run: id(long), index: small, note: word(long), ..Trail::default() }; n],
            ids: vec![id(long); n],
            losers: vec![Bytes::new(); n],
            now: -at,
            events: n as u64,
            draining: vec![id(long); n],
            draining_since: at,
            erased_at: at,
            bounced: vec![Bounced { address_key: id(long), at }; n],
        }
    }

    #[test]
    fn the_bytes_are_those_that_prost_makes() {
        assert_eq!(encoded(&JourneyProfile::default()), JourneyProfile::default().encode_to_vec());
        for (n, long) in [(0, 0), (1, 0), (1, 1), (2, 40), (3, 126), (3, 127), (3, 128), (17, 30), (50, 5), (2, 20_000)] {
            let state = full(n, long);
            assert!(encoded(&state) == state.encode_to_vec(), "{n} of {long}");
            assert_eq!(JourneyProfile::decode(&encoded(&state)[..]), Ok(state), "{n} of {long}");
        }
    }
}
