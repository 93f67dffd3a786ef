//! Rows of the public topics, as they are written and as the API shows them.

use waypost_codec::{
    avro,
    public::{Decision, Message},
};
use waypost_proto::control as pb;
use waypost_runtime::ports::Delivery;
use waypost_types::{Timestamp, WorkspaceId};

use super::part::Reading;
use crate::status::Refusal;

/// A row.
pub(super) trait Row: Sized + Send + 'static {
    /// Which of them are wanted.
    type Filter: Send + Sync + 'static;
    /// As the API shows it.
    type Shown: Send + 'static;
    /// Topic without prefix.
    const TOPIC: &'static str;
    /// From a record; none where it is nobody's row, or was read before.
    fn read(delivery: &Delivery, reading: &mut Reading) -> impl Future<Output = Result<Option<Self>, Refusal>> + Send;
    fn at(&self) -> Timestamp;
    /// Whether it is wanted. Its workspace comes first: of others' nothing is looked at.
    fn fits(&self, wanted: &Self::Filter) -> bool;
    fn shown(self, wanted: &Self::Filter) -> Self::Shown;
}

/// Which rows that Waypost writes about people in journeys.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) workspace: WorkspaceId,
    pub(super) journey: String,
    pub(super) profile: String,
}

// === impl Told ===

impl Told {
    fn fits(&self, workspace: u32, journey: &str, profile: &str) -> bool {
        workspace == self.workspace.number()
            && (self.journey.is_empty() || self.journey == journey)
            && (self.profile.is_empty() || self.profile == profile)
    }
}

/// A row of ours, each once. One that cannot be read is not passed over in silence.
fn ours<R>(delivery: &Delivery, reading: &mut Reading, decode: fn(&[u8]) -> Option<R>) -> Result<Option<R>, Refusal> {
    if !reading.once.is_new(delivery) {
        return Ok(None);
    }
    let body = avro::read(&delivery.headers, &delivery.payload).ok();
    let row = body.and_then(|(_, body)| decode(&body)).ok_or_else(|| {
        let place = format!("{}/{} offset {}", reading.topic, delivery.partition, delivery.offset);
        Refusal::Precondition("ROW_UNREADABLE", format!("the row at {place} is of no schema that this server knows; begin behind it"))
    })?;
    Ok(Some(row))
}

impl Row for Decision {
    type Filter = Told;
    type Shown = pb::DecisionRow;
    const TOPIC: &'static str = Self::TOPIC;

    async fn read(delivery: &Delivery, reading: &mut Reading) -> Result<Option<Self>, Refusal> {
        ours(delivery, reading, Self::decode)
    }

    fn at(&self) -> Timestamp {
        self.at
    }

    fn fits(&self, wanted: &Told) -> bool {
        wanted.fits(self.workspace, &self.journey, &self.profile)
    }

    fn shown(self, _: &Told) -> pb::DecisionRow {
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
    type Filter = Told;
    type Shown = pb::MessageRow;
    const TOPIC: &'static str = Self::TOPIC;

    async fn read(delivery: &Delivery, reading: &mut Reading) -> Result<Option<Self>, Refusal> {
        ours(delivery, reading, Self::decode)
    }

    fn at(&self) -> Timestamp {
        self.at
    }

    fn fits(&self, wanted: &Told) -> bool {
        wanted.fits(self.workspace, &self.journey, &self.profile)
    }

    fn shown(self, _: &Told) -> pb::MessageRow {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_of_the_workspace_and_of_what_is_asked_for() {
        let wanted =
            |journey: &str, profile: &str| Told { workspace: WorkspaceId::new(2), journey: journey.into(), profile: profile.into() };
        let row = Decision { workspace: 2, journey: "cart".into(), profile: "prf_1".into(), ..Decision::default() };
        let fits = |row: &Decision, wanted: &Told| Row::fits(row, wanted);
        assert!(fits(&row, &wanted("", "")) && fits(&row, &wanted("cart", "prf_1")));
        assert!(!fits(&row, &wanted("car", "")) && !fits(&row, &wanted("", "prf_2")));
        assert!(!fits(&Decision { workspace: 1, ..row }, &wanted("", "")));
    }
}
