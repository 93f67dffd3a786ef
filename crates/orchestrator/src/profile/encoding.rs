//! The stored form of a profile: the bytes that prost makes of a [`JourneyProfile`], in about half the time.
//! What a profile has many of is written in one pass ([`wire`]), what it has few of is left to prost.

use prost::encoding::message;
use waypost_codec::{
    state::{Check, JourneyProfile, Trail},
    wire::{self, blocks, each, number, text},
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
    each(3, person.as_slice(), &mut buf, wire::person);
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;
    use waypost_codec::{
        inbox::{Address, Cart, Consent, Field, Line, Membership, Order, Person, Value, value::Kind},
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
