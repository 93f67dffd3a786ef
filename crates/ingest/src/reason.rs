//! Why something is not let in: stable words, documented, also labels of metrics (PRODUCT §12).

use std::fmt;

/// A reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The body is not JSON of the expected shape.
    BadJson,
    /// More events than a batch may hold.
    BatchTooManyEvents,
    /// The body is larger than a request may be.
    BodyTooLarge,
    /// Missing, unknown or revoked write key.
    BadKey,
    /// The key's source may not do this.
    SourceForbidden,
    /// Over a rate.
    Throttled,
    /// The log does not answer.
    Unavailable,
    /// No identifier is left that may name a person.
    NoIdentifier,
    /// A track call without an event name.
    NameMissing,
    /// A required property is absent or unreadable.
    PropertyMissing,
    /// One event over 32 KiB.
    EventTooLarge,
    /// Nested deeper than 32.
    TooDeep,
    /// A field of the envelope has the wrong type, or a required property a word that is not allowed.
    SchemaMismatch,
    /// Known, and of a later version.
    NotYetSupported,
    /// A Kafka value without a schema id.
    NotFramed,
    /// The registry definitely has no such schema.
    SchemaUnknown,
    /// The bytes are not what their schema says, or not an event.
    DecodeFailed,
    /// A Kafka event without message id.
    MessageIdMissing,
}

/// Why one event is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// Dotted path of the offending field; empty: the event as a whole.
    pub path: String,
    /// What was expected there.
    pub expected: String,
    /// The event's message id, where it is known.
    pub message_id: Option<String>,
}

// === impl Reason ===

impl Reason {
    /// All.
    pub const ALL: [Self; 18] = [
        Self::BadJson,
        Self::BatchTooManyEvents,
        Self::BodyTooLarge,
        Self::BadKey,
        Self::SourceForbidden,
        Self::Throttled,
        Self::Unavailable,
        Self::NoIdentifier,
        Self::NameMissing,
        Self::PropertyMissing,
        Self::EventTooLarge,
        Self::TooDeep,
        Self::SchemaMismatch,
        Self::NotYetSupported,
        Self::NotFramed,
        Self::SchemaUnknown,
        Self::DecodeFailed,
        Self::MessageIdMissing,
    ];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "BAD_JSON",
            Self::BatchTooManyEvents => "BATCH_TOO_MANY_EVENTS",
            Self::BodyTooLarge => "BODY_TOO_LARGE",
            Self::BadKey => "BAD_KEY",
            Self::SourceForbidden => "SOURCE_FORBIDDEN",
            Self::Throttled => "THROTTLED",
            Self::Unavailable => "UNAVAILABLE",
            Self::NoIdentifier => "NO_IDENTIFIER",
            Self::NameMissing => "NAME_MISSING",
            Self::PropertyMissing => "PROPERTY_MISSING",
            Self::EventTooLarge => "EVENT_TOO_LARGE",
            Self::TooDeep => "TOO_DEEP",
            Self::SchemaMismatch => "SCHEMA_MISMATCH",
            Self::NotYetSupported => "NOT_YET_SUPPORTED",
            Self::NotFramed => "NOT_FRAMED",
            Self::SchemaUnknown => "SCHEMA_UNKNOWN",
            Self::DecodeFailed => "DECODE_FAILED",
            Self::MessageIdMissing => "MESSAGE_ID_MISSING",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Rejection ===

impl Rejection {
    /// A rejection of an event whose message id is not known yet.
    pub fn new(reason: Reason, path: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { reason, path: path.into(), expected: expected.into(), message_id: None }
    }

    /// The same, with the event's message id.
    #[must_use]
    pub fn of(mut self, message_id: &str) -> Self {
        self.message_id = Some(message_id.to_owned());
        self
    }

    /// For people: `items[3].price: expected a number`.
    pub fn message(&self) -> String {
        if self.path.is_empty() { format!("expected {}", self.expected) } else { format!("{}: expected {}", self.path, self.expected) }
    }
}
