//! Rows of the public topics that Waypost writes, in Avro binary without the registry's prefix
//! (CONVENTIONS §3). Fields stand in the order of `schemas/<subject>/v1.avsc`; a test holds both together.

use bytes::Bytes;
use waypost_types::Timestamp;

/// `waypost.segment-changes.v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentChange {
    /// Workspace number.
    pub workspace: u32,
    /// Profile id, text form.
    pub profile: String,
    /// Log time.
    pub at: Timestamp,
    /// Segment name.
    pub segment: String,
    /// Its version.
    pub version: u32,
    /// `yes no unknown`, empty at first.
    pub before: String,
    /// `yes no unknown`.
    pub after: String,
    /// `event time merge backfill`.
    pub cause: String,
    /// JSON.
    pub detail: String,
}

/// `waypost.decisions.v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Workspace number.
    pub workspace: u32,
    /// Profile id, text form.
    pub profile: String,
    /// Log time.
    pub at: Timestamp,
    /// Journey name.
    pub journey: String,
    /// Its version.
    pub version: u32,
    /// Run id, text form; empty for a refusal.
    pub run: String,
    /// Run key.
    pub key: String,
    /// `ENTERED REFUSED REARMED EXITED GOAL WAITING BRANCHED SENT STOPPED RECALLED RECEIPT MERGED`.
    pub what: String,
    /// Step id.
    pub step: String,
    /// Reason code, exit reason, outcome.
    pub reason: String,
    /// Send id, text form.
    pub send: String,
    /// Event name or timer.
    pub cause: String,
    /// JSON: checks with operands.
    pub detail: String,
}

/// `waypost.messages.v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Workspace number.
    pub workspace: u32,
    /// Profile id, text form.
    pub profile: String,
    /// Log time.
    pub at: Timestamp,
    /// `Message Accepted`, … (PRODUCT §4.2).
    pub name: String,
    /// Segment's name for it, where it has one.
    pub spec_name: String,
    /// Send id, text form.
    pub send: String,
    /// Dispatch id, text form.
    pub dispatch: String,
    /// Run id, text form.
    pub run: String,
    /// Journey name.
    pub journey: String,
    /// Step id.
    pub step: String,
    /// `email`, ….
    pub channel: String,
    /// Channel definition.
    pub provider: String,
    /// Attempt number.
    pub attempt: u32,
    /// Reason code, where there is one.
    pub reason: String,
    /// The provider's id of the message.
    pub provider_id: String,
    /// JSON.
    pub detail: String,
}

pub(crate) fn long(into: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        into.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    into.push((zigzag & 0x7f) as u8);
}

pub(crate) fn text(into: &mut Vec<u8>, value: &str) {
    long(into, i64::try_from(value.len()).unwrap_or(i64::MAX));
    into.extend_from_slice(value.as_bytes());
}

fn read_long(from: &mut &[u8]) -> Option<i64> {
    let mut zigzag = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        zigzag |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
        }
    }
    None
}

fn read_text(from: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(read_long(from)?).ok()?;
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    String::from_utf8(text.to_vec()).ok()
}

macro_rules! row {
    ($name:ty, $topic:literal, [$($field:ident : $kind:ident),* $(,)?]) => {
        impl $name {
            /// Topic without prefix.
            pub const TOPIC: &'static str = $topic;
            /// Version of the subject's schema that [`Self::encode`] writes.
            pub const VERSION: u32 = 1;
            /// Avro binary.
            pub fn encode(&self) -> Bytes {
                let mut into = Vec::with_capacity(256);
                $(row!(@ into, self.$field, $kind);)*
                into.into()
            }
            /// From Avro binary written in this version.
            pub fn decode(mut from: &[u8]) -> Option<Self> {
                let row = Self { $($field: row!(% from, $kind)),* };
                from.is_empty().then_some(row)
            }
        }
    };
    (% $from:ident, text) => { read_text(&mut $from)? };
    (% $from:ident, int) => { u32::try_from(read_long(&mut $from)?).ok()? };
    (% $from:ident, time) => { Timestamp::from_millis(read_long(&mut $from)?) };
    (@ $into:ident, $value:expr, text) => { text(&mut $into, &$value) };
    (@ $into:ident, $value:expr, int) => { long(&mut $into, i64::from($value)) };
    (@ $into:ident, $value:expr, time) => { long(&mut $into, $value.millis()) };
}

row!(SegmentChange, "waypost.segment-changes.v1", [workspace: int, profile: text, at: time, segment: text, version: int, before: text, after: text, cause: text, detail: text]);
row!(Decision, "waypost.decisions.v1", [workspace: int, profile: text, at: time, journey: text, version: int, run: text, key: text, what: text, step: text, reason: text, send: text, cause: text, detail: text]);
row!(Message, "waypost.messages.v1", [workspace: int, profile: text, at: time, name: text, spec_name: text, send: text, dispatch: text, run: text, journey: text, step: text, channel: text, provider: text, attempt: int, reason: text, provider_id: text, detail: text]);

#[cfg(test)]
mod tests {
    use apache_avro::{reader::datum::GenericDatumReader, types::Value};

    use super::*;
    use crate::schemas::{Schema, committed};

    fn read(topic: &str, version: u32, row: &[u8]) -> Vec<(String, Value)> {
        let subject = crate::avro::subject(topic);
        let committed = committed().iter().find(|c| c.subject == subject && c.version == version).unwrap();
        let schema = Schema::parse(0, committed.text).unwrap().avro;
        let mut rest = row;
        let value = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut rest).unwrap();
        assert!(rest.is_empty(), "{subject}: bytes left over");
        let Value::Record(fields) = value else { panic!("{subject}: not a record") };
        fields
    }

    fn field(name: &str, value: &str) -> (String, Value) {
        (name.to_owned(), Value::String(value.to_owned()))
    }

    fn number(name: &str, value: i64) -> (String, Value) {
        (name.to_owned(), Value::Long(value))
    }

    fn at() -> (String, Value) {
        ("at".to_owned(), Value::TimestampMillis(1_700_000_000_000))
    }

    #[test]
    fn segment_changes_are_what_their_committed_schema_says() {
        let row = SegmentChange {
            workspace: u32::MAX,
            profile: "prf_1".into(),
            at: Timestamp::from_millis(1_700_000_000_000),
            segment: "s".into(),
            version: 2,
            before: String::new(),
            after: "yes".into(),
            cause: "time".into(),
            detail: "{}".into(),
        };
        let expected = vec![
            number("workspace", i64::from(u32::MAX)),
            field("profile", "prf_1"),
            at(),
            field("segment", "s"),
            number("version", 2),
            field("before", ""),
            field("after", "yes"),
            field("cause", "time"),
            field("detail", "{}"),
        ];
        assert_eq!(read(SegmentChange::TOPIC, SegmentChange::VERSION, &row.encode()), expected);
    }

    #[test]
    fn decisions_are_what_their_committed_schema_says() {
        let row = Decision {
            workspace: 1,
            profile: "prf_1".into(),
            at: Timestamp::from_millis(1_700_000_000_000),
            journey: "j".into(),
            version: 3,
            run: "run_1".into(),
            key: "k".into(),
            what: "SENT".into(),
            step: "first".into(),
            reason: "accepted".into(),
            send: "snd_1".into(),
            cause: "timer".into(),
            detail: "{}".into(),
        };
        let expected = vec![
            number("workspace", 1),
            field("profile", "prf_1"),
            at(),
            field("journey", "j"),
            number("version", 3),
            field("run", "run_1"),
            field("key", "k"),
            field("what", "SENT"),
            field("step", "first"),
            field("reason", "accepted"),
            field("send", "snd_1"),
            field("cause", "timer"),
            field("detail", "{}"),
        ];
        assert_eq!(read(Decision::TOPIC, Decision::VERSION, &row.encode()), expected);
    }

    #[test]
    fn messages_are_what_their_committed_schema_says() {
        let row = Message {
            workspace: 1,
            profile: "prf_1".into(),
            at: Timestamp::from_millis(1_700_000_000_000),
            name: "Message Accepted".into(),
            spec_name: "Email Delivered".into(),
            send: "snd_1".into(),
            dispatch: "dsp_1".into(),
            run: "run_1".into(),
            journey: "j".into(),
            step: "first".into(),
            channel: "email".into(),
            provider: "mail".into(),
            attempt: 1,
            reason: String::new(),
            provider_id: "p".into(),
            detail: "{}".into(),
        };
        let expected = vec![
            number("workspace", 1),
            field("profile", "prf_1"),
            at(),
            field("name", "Message Accepted"),
            field("spec_name", "Email Delivered"),
            field("send", "snd_1"),
            field("dispatch", "dsp_1"),
            field("run", "run_1"),
            field("journey", "j"),
            field("step", "first"),
            field("channel", "email"),
            field("provider", "mail"),
            number("attempt", 1),
            field("reason", ""),
            field("provider_id", "p"),
            field("detail", "{}"),
        ];
        assert_eq!(read(Message::TOPIC, Message::VERSION, &row.encode()), expected);
    }
}
