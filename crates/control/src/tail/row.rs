//! Rows of the public topics, as they are written and as the API shows them.

use waypost_codec::public::{Decision, Message};
use waypost_proto::control as pb;
use waypost_types::Timestamp;

/// A row.
pub(super) trait Row: Sized + Send + 'static {
    /// As the API shows it.
    type Shown: Send + 'static;
    /// Topic without prefix.
    const TOPIC: &'static str;
    /// From Avro binary of the version that this server writes.
    fn read(body: &[u8]) -> Option<Self>;
    fn workspace(&self) -> u32;
    fn profile(&self) -> &str;
    fn journey(&self) -> &str;
    fn at(&self) -> Timestamp;
    fn shown(self) -> Self::Shown;
}

impl Row for Decision {
    type Shown = pb::DecisionRow;
    const TOPIC: &'static str = Self::TOPIC;

    fn read(body: &[u8]) -> Option<Self> {
        Self::decode(body)
    }

    fn workspace(&self) -> u32 {
        self.workspace
    }

    fn profile(&self) -> &str {
        &self.profile
    }

    fn journey(&self) -> &str {
        &self.journey
    }

    fn at(&self) -> Timestamp {
        self.at
    }

    fn shown(self) -> pb::DecisionRow {
        pb::DecisionRow {
            profile: self.profile,
            at: self.at.millis(),
            journey: self.journey,
            version: self.version,
            run: self.run,
            key: self.key,
            what: self.what,
            step: self.step,
            reason: self.reason,
            send: self.send,
            cause: self.cause,
            detail: self.detail,
        }
    }
}

impl Row for Message {
    type Shown = pb::MessageRow;
    const TOPIC: &'static str = Self::TOPIC;

    fn read(body: &[u8]) -> Option<Self> {
        Self::decode(body)
    }

    fn workspace(&self) -> u32 {
        self.workspace
    }

    fn profile(&self) -> &str {
        &self.profile
    }

    fn journey(&self) -> &str {
        &self.journey
    }

    fn at(&self) -> Timestamp {
        self.at
    }

    fn shown(self) -> pb::MessageRow {
        pb::MessageRow {
            profile: self.profile,
            at: self.at.millis(),
            name: self.name,
            spec_name: self.spec_name,
            send: self.send,
            dispatch: self.dispatch,
            run: self.run,
            journey: self.journey,
            step: self.step,
            channel: self.channel,
            provider: self.provider,
            attempt: self.attempt,
            reason: self.reason,
            provider_id: self.provider_id,
            detail: self.detail,
        }
    }
}
