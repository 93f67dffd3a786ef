//! `ProfileService`: lookup, explain and export, from what the partitions' owners hold; erase, detach, expire.

use tonic::{Request, Response, Status};
use waypost_engine::explain::{Question, explain};
use waypost_proto::control::{self as pb, profile_service_server::ProfileService};
use waypost_types::{Currency, IdentifierClass, IdentifierHash, ProfileId, Timestamp, WorkspaceId};

use crate::{
    access::admit,
    audit::{Act, Line},
    export::{self, Exported},
    lookup::{self, Found},
    names,
    people::Wish,
    present,
    reading::ReadMask,
    server::Control,
    status::Refusal,
};

#[tonic::async_trait]
impl ProfileService for Control {
    async fn lookup_profile(&self, request: Request<pb::LookupProfileRequest>) -> Result<Response<pb::Profile>, Status> {
        let (_, request) = admit(request)?;
        let mask = ReadMask::of("Profile", request.read_mask)?;
        let (workspace, found) = self.find(&request.parent, &request.identifier).await?;
        Ok(Response::new(mask.cut(present::profile(&found, self.currency(workspace)))?))
    }

    async fn explain_profile(&self, request: Request<pb::ExplainProfileRequest>) -> Result<Response<pb::ExplainProfileResponse>, Status> {
        let (_, request) = admit(request)?;
        let (workspace, found) = self.find(&request.parent, &request.identifier).await?;
        let instant = |ms: i64| (ms != 0).then(|| Timestamp::from_millis(ms));
        let question = Question {
            journey: (!request.journey.is_empty()).then_some(&*request.journey),
            send: None,
            from: instant(request.from),
            until: instant(request.until),
        };
        let set = self.in_force();
        let definitions = set.as_ref().and_then(|s| s.workspaces.get(&workspace)).map(|w| &**w);
        let state = found.journey.clone().unwrap_or_default();
        Ok(Response::new(present::explanation(&found, explain(&state, definitions, &question))))
    }

    async fn erase_profile(&self, request: Request<pb::EraseProfileRequest>) -> Result<Response<pb::EraseProfileResponse>, Status> {
        let (caller, request) = admit(request)?;
        let acknowledged = self.wish(&caller, Wish::Erase, &request.parent, &request.identifier, request.validate_only).await?;
        Ok(Response::new(pb::EraseProfileResponse { acknowledged }))
    }

    async fn detach_identifier(
        &self,
        request: Request<pb::DetachIdentifierRequest>,
    ) -> Result<Response<pb::DetachIdentifierResponse>, Status> {
        let (caller, request) = admit(request)?;
        let acknowledged = self.wish(&caller, Wish::Detach, &request.parent, &request.identifier, request.validate_only).await?;
        Ok(Response::new(pb::DetachIdentifierResponse { acknowledged }))
    }

    async fn expire_profile(&self, request: Request<pb::ExpireProfileRequest>) -> Result<Response<pb::ExpireProfileResponse>, Status> {
        let (caller, request) = admit(request)?;
        let acknowledged = self.wish(&caller, Wish::Expire, &request.parent, &request.identifier, request.validate_only).await?;
        Ok(Response::new(pb::ExpireProfileResponse { acknowledged }))
    }

    async fn export_profile(&self, request: Request<pb::ExportProfileRequest>) -> Result<Response<pb::ExportProfileResponse>, Status> {
        let (caller, request) = admit(request)?;
        let name = names::workspace(&request.parent)?;
        let subject = format!("identifiers/{}", self.named(self.workspace(name)?, &request.identifier)?);
        let line = Line::of(&caller, Act::Export, subject).in_workspace(name);
        // Nothing of the person is read before the line stands.
        Ok(Response::new(self.audit.acted(line, self.exported(&request)).await?))
    }
}

// === impl Control ===

impl Control {
    pub(crate) async fn find(&self, parent: &str, identifier: &str) -> Result<(WorkspaceId, Found), Refusal> {
        let workspace = self.workspace(names::workspace(parent)?)?;
        let owners = &*self.owners;
        if let Ok(profile) = identifier.parse::<ProfileId>() {
            return Ok((workspace, lookup::by_profile(owners, self.layout, workspace, profile).await?));
        }
        let place = self.place(workspace, identifier)?;
        Ok((workspace, lookup::by_identifier(owners, self.layout, workspace, place.hash).await?))
    }

    /// The hash by which the audit topic names whom a request is about: a profile's id begins with its identifier's.
    fn named(&self, workspace: WorkspaceId, identifier: &str) -> Result<IdentifierHash, Refusal> {
        match identifier.parse::<ProfileId>() {
            Ok(profile) => IdentifierHash::from_slice(&profile.as_bytes()[1..17]).map_err(|_| Refusal::Internal),
            Err(_) => Ok(self.place(workspace, identifier)?.hash),
        }
    }

    async fn exported(&self, request: &pb::ExportProfileRequest) -> Result<pb::ExportProfileResponse, Refusal> {
        let (workspace, found) = self.find(&request.parent, &request.identifier).await?;
        let identified = export::identified(&*self.owners, self.layout, workspace, &found).await?;
        let sending = export::sending(&*self.owners, self.layout, workspace, &found, &identified).await?;
        let set = self.in_force();
        let exported = Exported {
            workspace: names::workspace(&request.parent)?,
            found: &found,
            identified: &identified,
            sending: &sending,
            definitions: set.as_ref().and_then(|s| s.workspaces.get(&workspace)).map(|w| &**w),
            currency: self.currency(workspace),
            at: self.clock.now(),
        };
        Ok(pb::ExportProfileResponse {
            profile: found.profile.to_string(),
            document: exported.document().to_string(),
            segment_offset: found.segment_offset,
            journey_offset: found.journey_offset,
        })
    }

    fn currency(&self, workspace: WorkspaceId) -> Currency {
        self.in_force().and_then(|set| set.workspaces.get(&workspace).map(|w| w.policy.currency)).unwrap_or(Currency::EUR)
    }
}

/// Class, custom name and value of `email:ana@shop.example`, `custom:loyalty_card:77`, or a bare address.
pub(crate) fn class_of(text: &str) -> Result<(IdentifierClass, &str, &str), Refusal> {
    let error = || {
        Refusal::Invalid(
            "INVALID_IDENTIFIER",
            "write class:value with class user_id, email, phone, device, anonymous or custom:<name>, a profile id, or a bare e-mail address".to_owned(),
        )
    };
    if let Some((word, rest)) = text.split_once(':') {
        if word == "custom" {
            let (name, value) = rest.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or_else(error)?;
            return Ok((IdentifierClass::Custom, name, value));
        }
        let class = IdentifierClass::ALL.into_iter().find(|c| c.as_str() == word).ok_or_else(error)?;
        return Ok((class, "", rest));
    }
    if text.contains('@') { Ok((IdentifierClass::Email, "", text)) } else { Err(error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_written_with_their_class() {
        use IdentifierClass::{Custom, Email, UserId};
        assert_eq!(class_of("user_id:u1").ok(), Some((UserId, "", "u1")));
        assert_eq!(class_of("email:a@shop.example").ok(), Some((Email, "", "a@shop.example")));
        assert_eq!(class_of("a@shop.example").ok(), Some((Email, "", "a@shop.example")));
        assert_eq!(class_of("custom:card:7:7").ok(), Some((Custom, "card", "7:7")));
        assert!(class_of("u1").is_err());
        assert!(class_of("shoe:u1").is_err());
        assert!(class_of("custom:card").is_err());
        assert!(class_of("custom::7").is_err());
    }
}
