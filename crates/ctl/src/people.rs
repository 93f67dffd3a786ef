//! Erase, detach, expire: asked for here, done where the person is.

use anyhow::ensure;
use serde_json::json;
use waypost_proto::control::{self as pb, profile_service_client::ProfileServiceClient};

use crate::{
    cli::Person,
    commands::{Done, Session},
    output,
};

// === impl Session ===

impl Session {
    pub(crate) async fn erase(&self, person: Person) -> anyhow::Result<Done> {
        ensure!(person.yes, "this forgets a person for good, and nothing brings her back: say --yes");
        let request = pb::EraseProfileRequest { parent: self.parent.clone(), identifier: person.identifier };
        let answer = ProfileServiceClient::new(self.channel.clone()).erase_profile(request).await?.into_inner();
        Ok(self.acknowledged("erase", answer.acknowledged))
    }

    pub(crate) async fn detach(&self, person: Person) -> anyhow::Result<Done> {
        ensure!(person.yes, "what was known of this identifier stays behind with the old profile: say --yes");
        let request = pb::DetachIdentifierRequest { parent: self.parent.clone(), identifier: person.identifier };
        let answer = ProfileServiceClient::new(self.channel.clone()).detach_identifier(request).await?.into_inner();
        Ok(self.acknowledged("detach", answer.acknowledged))
    }

    pub(crate) async fn expire(&self, person: Person) -> anyhow::Result<Done> {
        ensure!(person.yes, "this forgets a person for good, and nothing brings her back: say --yes");
        let request = pb::ExpireProfileRequest { parent: self.parent.clone(), identifier: person.identifier };
        let answer = ProfileServiceClient::new(self.channel.clone()).expire_profile(request).await?.into_inner();
        Ok(self.acknowledged("expire", answer.acknowledged))
    }

    fn acknowledged(&self, what: &str, answer: Option<pb::Acknowledged>) -> Done {
        let answer = answer.unwrap_or_default();
        let json = json!({"identifierHash": answer.identifier_hash, "record": answer.record, "at": output::time(answer.at)});
        self.show(
            &json,
            || format!("{what} of {} accepted at {}, record {}", answer.identifier_hash, output::time(answer.at), answer.record),
            || vec![answer.identifier_hash.clone()],
        )
    }
}
