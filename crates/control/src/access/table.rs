//! What each method needs. A method that does not stand here is refused; a test walks the descriptors and holds this
//! table and `docs/access.md` to them.

use super::role::Permission;

/// What a method needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: anybody may ask.
    Nothing,
    /// That somebody is known; or this machine's own address, for what describes the API itself.
    Described,
    /// That somebody is known.
    Known,
    /// A role that holds it, in the workspace that the request names.
    Permission(Permission),
}

/// Every method by its path.
pub(crate) const RULES: &[(&str, Need)] = &[
    ("/grpc.health.v1.Health/Check", Need::Nothing),
    ("/grpc.health.v1.Health/Watch", Need::Nothing),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::Described),
    ("/waypost.control.v1.AccessService/WhoAmI", Need::Known),
    ("/waypost.control.v1.AuditService/ListAuditEntries", Need::Permission(Permission::Audit)),
    ("/waypost.control.v1.DeadLetterService/BulkRedriveDeadLetters", Need::Permission(Permission::DeadLetters)),
    ("/waypost.control.v1.DeadLetterService/DiscardDeadLetters", Need::Permission(Permission::DeadLetters)),
    ("/waypost.control.v1.DeadLetterService/GetDeadLetter", Need::Permission(Permission::DeadLetters)),
    ("/waypost.control.v1.DeadLetterService/ListDeadLetters", Need::Permission(Permission::DeadLetters)),
    ("/waypost.control.v1.DeadLetterService/RedriveDeadLetters", Need::Permission(Permission::DeadLetters)),
    ("/waypost.control.v1.DecisionService/TailDecisions", Need::Permission(Permission::ReadPeople)),
    ("/waypost.control.v1.DefinitionService/ApplyDefinitions", Need::Permission(Permission::WriteDefinitions)),
    ("/waypost.control.v1.DefinitionService/DeleteDefinition", Need::Permission(Permission::WriteDefinitions)),
    ("/waypost.control.v1.DefinitionService/DiffDefinitions", Need::Permission(Permission::ReadDefinitions)),
    ("/waypost.control.v1.DefinitionService/GetDefinition", Need::Permission(Permission::ReadDefinitions)),
    ("/waypost.control.v1.DefinitionService/ListDefinitions", Need::Permission(Permission::ReadDefinitions)),
    ("/waypost.control.v1.EventService/TailEvents", Need::Permission(Permission::ReadEvents)),
    ("/waypost.control.v1.JourneyService/ArchiveJourney", Need::Permission(Permission::Publish)),
    ("/waypost.control.v1.JourneyService/GetJourneyStats", Need::Permission(Permission::ReadDefinitions)),
    ("/waypost.control.v1.JourneyService/KillJourney", Need::Permission(Permission::Publish)),
    ("/waypost.control.v1.JourneyService/PauseJourney", Need::Permission(Permission::Hold)),
    ("/waypost.control.v1.JourneyService/PlanJourney", Need::Permission(Permission::ReadDefinitions)),
    ("/waypost.control.v1.JourneyService/PublishJourney", Need::Permission(Permission::Publish)),
    ("/waypost.control.v1.JourneyService/ResumeJourney", Need::Permission(Permission::Hold)),
    ("/waypost.control.v1.MessageService/TailMessages", Need::Permission(Permission::ReadPeople)),
    ("/waypost.control.v1.OperationService/CancelOperation", Need::Permission(Permission::Operate)),
    ("/waypost.control.v1.OperationService/GetOperation", Need::Permission(Permission::Operate)),
    ("/waypost.control.v1.OperationService/ListOperations", Need::Permission(Permission::Operate)),
    ("/waypost.control.v1.OperationService/WaitOperation", Need::Permission(Permission::Operate)),
    ("/waypost.control.v1.PartitionService/ApproveSkip", Need::Permission(Permission::Repair)),
    ("/waypost.control.v1.PartitionService/ListPartitions", Need::Permission(Permission::Operate)),
    ("/waypost.control.v1.PartitionService/ListSkips", Need::Permission(Permission::Repair)),
    ("/waypost.control.v1.PartitionService/ProposeSkip", Need::Permission(Permission::Repair)),
    ("/waypost.control.v1.PartitionService/RetryPartition", Need::Permission(Permission::Repair)),
    ("/waypost.control.v1.ProfileService/DetachIdentifier", Need::Permission(Permission::Privacy)),
    ("/waypost.control.v1.ProfileService/EraseProfile", Need::Permission(Permission::Privacy)),
    ("/waypost.control.v1.ProfileService/ExpireProfile", Need::Permission(Permission::Privacy)),
    ("/waypost.control.v1.ProfileService/ExplainProfile", Need::Permission(Permission::ReadPeople)),
    ("/waypost.control.v1.ProfileService/ExportProfile", Need::Permission(Permission::Privacy)),
    ("/waypost.control.v1.ProfileService/LookupProfile", Need::Permission(Permission::ReadPeople)),
    ("/waypost.control.v1.RevisionService/DiffRevisions", Need::Permission(Permission::ReadDefinitions)),
    ("/waypost.control.v1.RevisionService/ListRevisions", Need::Permission(Permission::ReadDefinitions)),
    ("/waypost.control.v1.RevisionService/RollbackDefinition", Need::Permission(Permission::Publish)),
    ("/waypost.control.v1.RunService/CancelRun", Need::Permission(Permission::Runs)),
    ("/waypost.control.v1.RunService/GetRun", Need::Permission(Permission::ReadPeople)),
    ("/waypost.control.v1.RunService/ListRuns", Need::Permission(Permission::ReadPeople)),
    ("/waypost.control.v1.RunService/StartRun", Need::Permission(Permission::Runs)),
    ("/waypost.control.v1.SourceService/ListKeys", Need::Permission(Permission::Keys)),
    ("/waypost.control.v1.SourceService/RevokeKey", Need::Permission(Permission::Keys)),
    ("/waypost.control.v1.SourceService/RotateKey", Need::Permission(Permission::Keys)),
    ("/waypost.control.v1.WorkspaceService/CreateWorkspace", Need::Permission(Permission::Administer)),
    ("/waypost.control.v1.WorkspaceService/GetWorkspace", Need::Permission(Permission::ReadDefinitions)),
    ("/waypost.control.v1.WorkspaceService/ListWorkspaces", Need::Permission(Permission::ReadDefinitions)),
    ("/waypost.control.v1.WorkspaceService/UpdateWorkspace", Need::Permission(Permission::Administer)),
];

/// The rule of a method, with its name in the table: what callers make up stays out of logs and counts.
pub(crate) fn rule(path: &str) -> Option<(&'static str, Need)> {
    RULES.iter().find(|(method, _)| *method == path).copied()
}

/// What each permission opens, and who holds it, in the words of `docs/access.md`.
pub fn table() -> String {
    let mut lines = vec![
        format!("| permission | methods | {} |", super::Role::ALL.map(super::Role::as_str).join(" | ")),
        format!("|---|---|{}", "---|".repeat(super::Role::ALL.len())),
    ];
    let short = |path: &str| path.trim_start_matches("/waypost.control.v1.").replacen('/', ".", 1);
    for permission in Permission::ALL {
        let methods: Vec<_> =
            RULES.iter().filter(|(_, need)| *need == Need::Permission(permission)).map(|(path, _)| format!("`{}`", short(path))).collect();
        let held: Vec<_> = super::Role::ALL.iter().map(|role| if role.holds(permission) { "yes" } else { "" }).collect();
        lines.push(format!("| {permission} | {} | {} |", methods.join(" "), held.join(" | ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_has_a_rule_and_every_rule_a_method() {
        let set = FileDescriptorSet::decode(waypost_proto::DESCRIPTORS).unwrap();
        let mut methods: BTreeSet<String> = BTreeSet::new();
        for file in set.file.iter().filter(|file| file.package() == "waypost.control.v1") {
            for service in &file.service {
                methods.extend(service.method.iter().map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())));
            }
        }
        let ours = |path: &&str| path.starts_with("/waypost.");
        let rules: BTreeSet<String> = RULES.iter().map(|(path, _)| *path).filter(ours).map(str::to_owned).collect();
        assert_eq!(rules.difference(&methods).collect::<Vec<_>>(), [""; 0], "rules without a method");
        assert_eq!(methods.difference(&rules).collect::<Vec<_>>(), [""; 0], "methods without a rule: nobody may call them");
        assert_eq!(RULES.len(), RULES.iter().map(|(path, _)| path).collect::<BTreeSet<_>>().len(), "a method has one rule");
    }

    #[test]
    fn the_page_has_this_table() {
        let page = include_str!("../../../../docs/access.md");
        assert!(page.contains(&table()), "docs/access.md needs this table:\n{}", table());
    }
}
