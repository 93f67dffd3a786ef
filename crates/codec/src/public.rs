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

fn long(into: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        into.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    into.push(zigzag as u8);
}

fn text(into: &mut Vec<u8>, value: &str) {
    long(into, i64::try_from(value.len()).unwrap_or(i64::MAX));
    into.extend_from_slice(value.as_bytes());
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
        }
    };
    (@ $into:ident, $value:expr, text) => { text(&mut $into, &$value) };
    (@ $into:ident, $value:expr, int) => { long(&mut $into, i64::from($value)) };
    (@ $into:ident, $value:expr, time) => { long(&mut $into, $value.millis()) };
}

row!(SegmentChange, "waypost.segment-changes.v1", [workspace: int, profile: text, at: time, segment: text, version: int, before: text, after: text, cause: text, detail: text]);
row!(Decision, "waypost.decisions.v1", [workspace: int, profile: text, at: time, journey: text, version: int, run: text, key: text, what: text, step: text, reason: text, send: text, cause: text, detail: text]);
row!(Message, "waypost.messages.v1", [workspace: int, profile: text, at: time, name: text, spec_name: text, send: text, dispatch: text, run: text, journey: text, step: text, channel: text, provider: text, attempt: int, reason: text, provider_id: text, detail: text]);
