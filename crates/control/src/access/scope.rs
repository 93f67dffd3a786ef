//! Which workspace each request is about. A method whose request does not stand here cannot be written: it gets its message
//! only through [`admit`](super::admit).

use waypost_proto::control as pb;

use super::caller::{Scope, Scoped};

macro_rules! named {
    ($field:ident: $($request:ident),+ $(,)?) => {
        $(impl Scoped for pb::$request {
            fn scope(&self) -> Scope<'_> {
                Scope::Of(&self.$field)
            }
        })+
    };
}

macro_rules! own {
    ($($request:ident),+ $(,)?) => {
        $(impl Scoped for pb::$request {
            fn scope(&self) -> Scope<'_> {
                Scope::Own
            }
        })+
    };
}

named!(
    parent: ApplyDefinitionsRequest,
    ListDefinitionsRequest,
    DiffDefinitionsRequest,
    LookupProfileRequest,
    ExplainProfileRequest,
    EraseProfileRequest,
    DetachIdentifierRequest,
    ExpireProfileRequest,
    ExportProfileRequest,
    ListRevisionsRequest,
    ListRunsRequest,
    GetRunRequest,
    StartRunRequest,
    CancelRunRequest,
    TailDecisionsRequest,
    TailMessagesRequest,
    TailEventsRequest,
    ListKeysRequest,
);
named!(
    name: GetDefinitionRequest,
    DeleteDefinitionRequest,
    PublishJourneyRequest,
    ArchiveJourneyRequest,
    PauseJourneyRequest,
    ResumeJourneyRequest,
    KillJourneyRequest,
    PlanJourneyRequest,
    GetJourneyStatsRequest,
    DiffRevisionsRequest,
    RollbackDefinitionRequest,
    RotateKeyRequest,
    RevokeKeyRequest,
    GetWorkspaceRequest,
);
own!(
    ListDeadLettersRequest,
    GetDeadLetterRequest,
    RedriveDeadLettersRequest,
    DiscardDeadLettersRequest,
    WhoAmIRequest,
    ListPartitionsRequest,
    ListWorkspacesRequest,
    // of none yet: only who may in all of them
    CreateWorkspaceRequest,
    BulkRedriveDeadLettersRequest,
    ListSkipsRequest,
    ProposeSkipRequest,
    ApproveSkipRequest,
    RetryPartitionRequest,
    ListOperationsRequest,
    GetOperationRequest,
    WaitOperationRequest,
    CancelOperationRequest,
);

impl Scoped for pb::ListAuditEntriesRequest {
    fn scope(&self) -> Scope<'_> {
        if self.parent.is_empty() { Scope::Own } else { Scope::Of(&self.parent) }
    }
}

impl Scoped for pb::UpdateWorkspaceRequest {
    fn scope(&self) -> Scope<'_> {
        Scope::Of(self.workspace.as_ref().map_or("", |workspace| &workspace.name))
    }
}
