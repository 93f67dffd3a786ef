//! The port to a provider: one call per attempt, no retries inside.

use async_trait::async_trait;
use bytes::Bytes;
use waypost_codec::inbox::Outcome;
use waypost_engine::dispatch::LONGEST_CALL;
use waypost_types::{Span, Timestamp};

pub use waypost_engine::definitions::{Channel, HttpChannel, Idempotency, OnRepeat};

/// What a provider offers against sending twice, and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How it honours an idempotency key, if it does.
    pub key: Option<Idempotency>,
    /// Whether it can be asked what became of a dispatch.
    pub lookup: bool,
    /// The longest that a call takes; at most [`LONGEST_CALL`].
    pub longest_call: Span,
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

/// A way out for e-mail; one serves every channel that names it.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// What it offers on this channel.
    fn capabilities(&self, channel: &Channel) -> Capabilities;

    /// Whether this process can serve the channel; if not, what its operator has to change.
    fn serves(&self, _channel: &Channel) -> Result<(), String> {
        Ok(())
    }

    /// Hands the message over, once. Never fails: what is not known is [`Outcome::Unknown`].
    async fn send(&self, channel: &Channel, message: &OutgoingEmail) -> ProviderOutcome;

    /// Asks what became of a dispatch (text form of its id), where [`Capabilities::lookup`] says that it can be
    /// asked: accepted, definitely not taken, or [`Outcome::Unknown`] where there is no answer.
    async fn look_up(&self, _channel: &Channel, _dispatch: &str) -> ProviderOutcome {
        ProviderOutcome::other(Outcome::Unknown, "cannot be asked")
    }
}

// === impl Capabilities ===

impl Capabilities {
    /// No key, no look-up: most mail systems.
    pub const NONE: Self = Self { key: None, lookup: false, longest_call: LONGEST_CALL };
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
