//! The port to a provider: one call per attempt, no retries inside.

use async_trait::async_trait;
use bytes::Bytes;
use waypost_codec::inbox::Outcome;
use waypost_types::{Span, Timestamp};

/// What a provider does with a repeated key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRepeat {
    /// Answers as it did the first time.
    Replay,
    /// Answers with an error that means "done already".
    Error,
}

/// What a provider offers against sending twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether it honours an idempotency key.
    pub key: bool,
    /// For how long.
    pub window: Span,
    /// What a repeat gets.
    pub on_repeat: OnRepeat,
    /// Whether it can be asked what became of a key.
    pub lookup: bool,
}

/// One message, ready to go: the same bytes on every attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingEmail {
    /// Dispatch id, text form: the idempotency key.
    pub dispatch: String,
    /// Envelope sender.
    pub from: String,
    /// Envelope recipient.
    pub to: String,
    /// Without angle brackets.
    pub message_id: String,
    /// When the send was decided.
    pub at: Timestamp,
    /// For listings.
    pub subject: String,
    /// The HTML part, decoded; for listings.
    pub html: String,
    /// The plain part, decoded; for listings.
    pub text: String,
    /// The whole message: headers, empty line, body, lines ended by CRLF.
    pub raw: Bytes,
}

/// What a provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderOutcome {
    /// Which of the outcomes.
    pub class: Outcome,
    /// The provider's id of the message.
    pub provider_id: String,
    /// For people: `550 5.1.1`, `connection refused`; no personal data.
    pub reason: String,
    /// When the provider wants to be asked again.
    pub retry_after: Option<Span>,
}

/// A way out for e-mail.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// What it offers.
    fn capabilities(&self) -> Capabilities;

    /// Hands the message over, once. Never fails: what is not known is [`Outcome::Unknown`].
    async fn send(&self, message: &OutgoingEmail) -> ProviderOutcome;
}

// === impl Capabilities ===

impl Capabilities {
    /// No key, no look-up: most mail systems.
    pub const NONE: Self = Self { key: false, window: Span::ZERO, on_repeat: OnRepeat::Error, lookup: false };
}

// === impl ProviderOutcome ===

impl ProviderOutcome {
    /// Taken over.
    pub fn accepted(provider_id: impl Into<String>) -> Self {
        Self { class: Outcome::Accepted, provider_id: provider_id.into(), reason: String::new(), retry_after: None }
    }

    /// Any other outcome.
    pub fn other(class: Outcome, reason: impl Into<String>) -> Self {
        Self { class, provider_id: String::new(), reason: reason.into(), retry_after: None }
    }
}
