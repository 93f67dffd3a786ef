//! `workspace`: what each has, and may have.

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use waypost_proto::control::{self as pb, workspace_service_client::WorkspaceServiceClient};

use crate::{
    cli::DryRun,
    commands::{Done, Session},
    output,
};

#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// All that the caller may read, with what they have and may have
    List,
    /// One of them
    Describe {
        /// Its name; without it the workspace in use
        workspace: Option<String>,
    },
    /// Make one with nothing in it; only for an admin of the whole installation. Workspaces are not deleted
    Create {
        /// Its name: [a-z][a-z0-9-]{0,62}
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Say what a workspace may have; only for an admin of the whole installation
    SetQuota(SetQuota),
}

#[derive(Debug, Args)]
pub(crate) struct SetQuota {
    /// Its name; without it the workspace in use
    workspace: Option<String>,
    /// Journeys in force, paused ones too; `none`: what the product allows, as for the others
    #[arg(long, value_name = "N")]
    live_journeys: Option<Bound>,
    /// Segments
    #[arg(long, value_name = "N")]
    segments: Option<Bound>,
    /// Names of all kinds together, drafts too
    #[arg(long, value_name = "N")]
    definitions: Option<Bound>,
    /// Events a second of all write keys together, at each ingest process
    #[arg(long, value_name = "N")]
    events_per_second: Option<Bound>,
    #[command(flatten)]
    dry_run: DryRun,
}

/// A number, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound(Option<u32>);

impl std::str::FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|number| Self(Some(number))).map_err(|_| "write a number, or `none`".to_owned())
    }
}

// === impl SetQuota ===

impl SetQuota {
    /// The quota, and which of its fields are meant.
    fn quota(&self) -> (pb::Quota, Vec<String>) {
        let fields = [
            ("live_journeys", self.live_journeys),
            ("segments", self.segments),
            ("definitions", self.definitions),
            ("events_per_second", self.events_per_second),
        ];
        let paths = fields.into_iter().filter(|(_, bound)| bound.is_some()).map(|(name, _)| format!("quota.{name}")).collect();
        let [live_journeys, segments, definitions, events_per_second] = fields.map(|(_, bound)| bound.and_then(|Bound(number)| number));
        (pb::Quota { live_journeys, segments, definitions, events_per_second }, paths)
    }
}

// === impl Session ===

impl Session {
    pub(crate) async fn workspaces(&self, what: WorkspaceCommand) -> anyhow::Result<Done> {
        let mut client = WorkspaceServiceClient::new(self.channel.clone());
        match what {
            WorkspaceCommand::List => {
                let (mut all, mut request) = (Vec::new(), pb::ListWorkspacesRequest::default());
                loop {
                    let page = client.list_workspaces(request).await?.into_inner();
                    all.extend(page.workspaces);
                    if page.next_page_token.is_empty() {
                        break;
                    }
                    request = pb::ListWorkspacesRequest { page_token: page.next_page_token, ..pb::ListWorkspacesRequest::default() };
                }
                let json = json!({"workspaces": all.iter().map(json_of).collect::<Vec<_>>()});
                Ok(self.show(&json, || table(&all), || all.iter().map(|workspace| workspace.name.clone()).collect()))
            }
            WorkspaceCommand::Describe { workspace } => {
                let found = client.get_workspace(pb::GetWorkspaceRequest { name: self.workspace_named(workspace) }).await?.into_inner();
                Ok(self.workspace(&found))
            }
            WorkspaceCommand::Create { name, dry_run } => {
                let workspace_id = name.trim_start_matches("workspaces/").to_owned();
                let validate_only = dry_run.is_dry();
                let request = pb::CreateWorkspaceRequest { workspace: None, workspace_id, validate_only };
                let made = client.create_workspace(request).await?.into_inner();
                let note = if validate_only { " (server dry run)" } else { "" };
                Ok(self.show(
                    &json_of(&made),
                    || format!("{} created, number {}{note}", made.name, made.number),
                    || vec![made.name.clone()],
                ))
            }
            WorkspaceCommand::SetQuota(wanted) => {
                let (quota, paths) = wanted.quota();
                ensure!(!paths.is_empty(), "say what is bounded: --live-journeys, --segments, --definitions, --events-per-second");
                let validate_only = wanted.dry_run.is_dry();
                let name = self.workspace_named(wanted.workspace);
                let workspace = Some(pb::Workspace { name, quota: Some(quota), ..pb::Workspace::default() });
                let update_mask = Some(prost_types::FieldMask { paths });
                let request = pb::UpdateWorkspaceRequest { workspace, update_mask, validate_only };
                Ok(self.workspace(&client.update_workspace(request).await?.into_inner()))
            }
        }
    }

    fn workspace_named(&self, name: Option<String>) -> String {
        name.map_or_else(|| self.parent.clone(), |name| format!("workspaces/{}", name.trim_start_matches("workspaces/")))
    }

    fn workspace(&self, workspace: &pb::Workspace) -> Done {
        self.show(&json_of(workspace), || table(std::slice::from_ref(workspace)), || vec![workspace.name.clone()])
    }
}

fn json_of(workspace: &pb::Workspace) -> Value {
    let (quota, usage) = (workspace.quota.unwrap_or_default(), workspace.usage.unwrap_or_default());
    json!({"name": workspace.name, "number": workspace.number, "etag": workspace.etag,
        "quota": {"liveJourneys": quota.live_journeys, "segments": quota.segments, "definitions": quota.definitions,
            "eventsPerSecond": quota.events_per_second},
        "usage": {"liveJourneys": usage.live_journeys, "segments": usage.segments, "definitions": usage.definitions}})
}

fn table(workspaces: &[pb::Workspace]) -> String {
    let bounded = |has: u32, may: Option<u32>| may.map_or_else(|| has.to_string(), |may| format!("{has} of {may}"));
    let rows = workspaces.iter().map(|workspace| {
        let (quota, usage) = (workspace.quota.unwrap_or_default(), workspace.usage.unwrap_or_default());
        vec![
            workspace.name.trim_start_matches("workspaces/").to_owned(),
            workspace.number.to_string(),
            bounded(usage.live_journeys, quota.live_journeys),
            bounded(usage.segments, quota.segments),
            bounded(usage.definitions, quota.definitions),
            quota.events_per_second.map_or_else(String::new, |events| format!("at most {events}")),
        ]
    });
    output::table(&["WORKSPACE", "NUMBER", "LIVE JOURNEYS", "SEGMENTS", "DEFINITIONS", "EVENTS/S"], rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        quota: SetQuota,
    }

    #[test]
    fn what_is_said_is_meant_and_nothing_else() {
        let said = Line::parse_from(["set-quota", "shop", "--live-journeys", "20", "--segments", "none"]).quota;
        let (quota, paths) = said.quota();
        assert_eq!((quota.live_journeys, quota.segments, quota.definitions), (Some(20), None, None));
        assert_eq!(paths, ["quota.live_journeys", "quota.segments"]);
        assert!(Line::try_parse_from(["set-quota", "--segments", "few"]).is_err());
    }

    #[test]
    fn a_table_says_how_much_of_how_much() {
        let quota = pb::Quota { live_journeys: Some(20), events_per_second: Some(500), ..pb::Quota::default() };
        let usage = pb::Usage { live_journeys: 3, segments: 2, definitions: 9 };
        let workspace =
            pb::Workspace { name: "workspaces/shop".into(), number: 1, quota: Some(quota), usage: Some(usage), etag: "e".into() };
        let text = table(std::slice::from_ref(&workspace));
        let cells: Vec<_> = text.lines().nth(1).unwrap().split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, ["shop", "1", "3 of 20", "2", "9", "at most 500"]);
        assert_eq!(
            json_of(&workspace)["quota"],
            json!({"liveJourneys": 20, "segments": null, "definitions": null, "eventsPerSecond": 500})
        );
    }
}
