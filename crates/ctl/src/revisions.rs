//! `delete`, `history`, `rollback`, `plan`: definitions over time.

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use waypost_proto::control::{
    self as pb, definition_service_client::DefinitionServiceClient, journey_service_client::JourneyServiceClient,
    revision_service_client::RevisionServiceClient,
};

use crate::{
    cli::DryRun,
    commands::{Done, Session, described},
    output,
};

/// A definition, and whether it is only checked.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// As `journeys/cart-recovery`, `topic/news`
    #[arg(value_name = "KIND/NAME")]
    definition: String,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// As `journeys/cart-recovery`; without it the whole workspace's
    #[arg(value_name = "KIND/NAME")]
    definition: Option<String>,
    /// So many at most
    #[arg(long, default_value_t = 50, conflicts_with = "from")]
    limit: u16,
    /// Show what changed since this set, as the list numbers them; exit code 0 same, 1 different
    #[arg(long, value_name = "SET", requires = "definition")]
    from: Option<u64>,
    /// And until this one; without it the one in force
    #[arg(long, value_name = "SET", requires = "from")]
    until: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// As `journeys/cart-recovery`
    #[arg(value_name = "KIND/NAME")]
    definition: String,
    /// The version whose content is to be in force again, as `history` shows it
    #[arg(long, value_name = "VERSION")]
    to: u32,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct Planned {
    /// Its name, or `journeys/NAME`
    journey: String,
}

// === impl Session ===

impl Session {
    pub(crate) async fn delete(&self, wanted: Delete) -> anyhow::Result<Done> {
        let validate_only = wanted.dry_run.is_dry();
        let request = pb::DeleteDefinitionRequest { name: self.named(&wanted.definition)?, etag: String::new(), validate_only };
        let answer = DefinitionServiceClient::new(self.channel.clone()).delete_definition(request).await?.into_inner();
        Ok(self.changed(answer.change, answer.set, validate_only, false))
    }

    pub(crate) async fn rollback(&self, wanted: Rollback) -> anyhow::Result<Done> {
        let validate_only = wanted.dry_run.is_dry();
        let (name, version) = (self.named(&wanted.definition)?, wanted.to);
        let request = pb::RollbackDefinitionRequest { name, version, etag: String::new(), validate_only };
        let answer = RevisionServiceClient::new(self.channel.clone()).rollback_definition(request).await?.into_inner();
        Ok(self.changed(answer.change, answer.set, validate_only, validate_only))
    }

    pub(crate) async fn history(&self, wanted: History) -> anyhow::Result<Done> {
        let mut client = RevisionServiceClient::new(self.channel.clone());
        let parent = wanted.definition.as_deref().map_or_else(|| Ok(self.parent.clone()), |text| self.named(text))?;
        if let Some(from) = wanted.from {
            let request = pb::DiffRevisionsRequest { name: parent, from, until: wanted.until.unwrap_or_default() };
            let answer = client.diff_revisions(request).await?.into_inner();
            let change = answer.change.unwrap_or_default();
            let json = json!({"change": revision_change(&change), "diff": answer.diff});
            let mut done = self.show(&json, || answer.diff.clone(), || vec![format!("{}/{}", change.kind.to_lowercase(), change.name)]);
            done.differs = !answer.diff.is_empty();
            return Ok(done);
        }
        let limit = usize::from(wanted.limit.max(1));
        let mut request = pb::ListRevisionsRequest { parent, page_size: i32::from(wanted.limit.max(1)), page_token: String::new() };
        let mut revisions = Vec::new();
        loop {
            let page = client.list_revisions(request.clone()).await?.into_inner();
            revisions.extend(page.revisions);
            request.page_token = page.next_page_token;
            if revisions.len() >= limit || request.page_token.is_empty() {
                break;
            }
        }
        revisions.truncate(limit);
        Ok(self.show(
            &Value::Array(revisions.iter().map(revision).collect()),
            || {
                let rows = revisions.iter().flat_map(|r| r.changes.iter().map(move |c| row(r, c)));
                output::table(&["SET", "AT", "BY", "ACT", "DEFINITION", "BEFORE", "AFTER", "CONTENT"], rows)
            },
            || revisions.iter().map(|r| r.set.to_string()).collect(),
        ))
    }

    pub(crate) async fn plan(&self, wanted: Planned) -> anyhow::Result<Done> {
        let journey = wanted.journey.rsplit_once('/').map_or(wanted.journey.as_str(), |(_, name)| name);
        let request = pb::PlanJourneyRequest { name: format!("{}/journeys/{journey}", self.parent) };
        let answer = JourneyServiceClient::new(self.channel.clone()).plan_journey(request).await?.into_inner();
        let change = answer.change.clone().unwrap_or_default();
        let pinned: Vec<_> = answer.pinned.iter().map(|p| json!({"version": p.version, "until": output::time(p.until)})).collect();
        let json = json!({"change": output::change(&change), "active": answer.active, "pinned": pinned,
            "templates": answer.templates.iter().map(output::change).collect::<Vec<_>>()});
        Ok(self.show(&json, || plan_text(&answer, &change), || vec![format!("journey/{}", change.name)]))
    }

    /// The resource name of `journeys/cart-recovery`.
    fn named(&self, text: &str) -> anyhow::Result<String> {
        let (kind, name) = text.split_once('/').with_context(|| format!("`{text}`: write KIND/NAME, as journeys/cart-recovery"))?;
        if kind.is_empty() || name.is_empty() || name.contains('/') {
            bail!("`{text}`: write KIND/NAME, as journeys/cart-recovery");
        }
        Ok(format!("{}/definitions/{}/{name}", self.parent, singular(kind)))
    }

    fn changed(&self, change: Option<pb::Change>, set: u64, validate_only: bool, with_diff: bool) -> Done {
        let change = change.unwrap_or_default();
        let note = if validate_only { " (server dry run)" } else { "" };
        let name = format!("{}/{}", change.kind.to_lowercase(), change.name);
        let diff = if with_diff { format!("\n{}", change.diff) } else { String::new() };
        self.show(
            &json!({"set": set, "change": output::change(&change)}),
            || format!("{name} {}{note}{diff}", described(&change)),
            || vec![name.clone()],
        )
    }
}

/// The kind in the singular, as the API has it.
fn singular(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => kind.strip_suffix('s').map_or_else(|| kind.clone(), str::to_owned),
    }
}

fn versioned(version: u32, state: i32) -> String {
    if version == 0 { String::new() } else { format!("{version} {}", output::state(state)) }
}

fn row(revision: &pb::Revision, change: &pb::RevisionChange) -> Vec<String> {
    vec![
        revision.set.to_string(),
        output::time(revision.at),
        revision.by.clone(),
        revision.act.clone(),
        format!("{}/{}", change.kind.to_lowercase(), change.name),
        versioned(change.version_before, change.state_before),
        if change.version == 0 { "deleted".to_owned() } else { versioned(change.version, change.state) },
        if change.hash.is_empty() { change.hash_before.clone() } else { change.hash.clone() },
    ]
}

fn revision(revision: &pb::Revision) -> Value {
    json!({"set": revision.set, "etag": revision.etag, "at": output::time(revision.at), "by": revision.by, "act": revision.act,
        "changes": revision.changes.iter().map(revision_change).collect::<Vec<_>>()})
}

fn revision_change(change: &pb::RevisionChange) -> Value {
    let side = |version: u32, state: i32, hash: &str| match version {
        0 => Value::Null,
        _ => json!({"version": version, "state": output::state(state), "contentHash": hash}),
    };
    json!({"kind": change.kind, "name": change.name, "change": output::what(change.what),
        "before": side(change.version_before, change.state_before, &change.hash_before),
        "after": side(change.version, change.state, &change.hash)})
}

fn plan_text(answer: &pb::PlanJourneyResponse, change: &pb::Change) -> String {
    let name = format!("journey/{}", change.name);
    if change.what() == pb::change::What::Unchanged {
        return format!("{name} version {} is in force, and publishing would change nothing", change.version);
    }
    let active = if answer.active == 0 { "nothing is in force".to_owned() } else { format!("version {} is in force", answer.active) };
    let mut lines = vec![format!("{name}: {active}, version {} would be", change.version), change.diff.clone()];
    for template in &answer.templates {
        lines.push(format!("template/{} {}", template.name, described(template)));
        lines.push(template.diff.clone());
    }
    let stays =
        answer.pinned.iter().map(|p| format!("runs on version {} finish on it, by {} at the latest", p.version, output::time(p.until)));
    lines.extend(stays);
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_taken_in_singular_and_plural() {
        for (written, kind) in [("journeys", "journey"), ("Journey", "journey"), ("policies", "policy"), ("topic", "topic")] {
            assert_eq!(singular(written), kind);
        }
    }

    #[test]
    fn a_plan_says_what_is_what_would_be_and_what_stays() {
        let change = pb::Change {
            name: "hello".to_owned(),
            version: 2,
            what: pb::change::What::Changed.into(),
            diff: "-a\n+b".to_owned(),
            ..pb::Change::default()
        };
        let pinned = vec![pb::PinnedVersion { version: 1, until: 1_774_594_800_000 }];
        let answer = pb::PlanJourneyResponse { active: 1, pinned, ..pb::PlanJourneyResponse::default() };
        let text = plan_text(&answer, &change);
        assert!(text.starts_with("journey/hello: version 1 is in force, version 2 would be\n-a\n+b\nruns on version 1 finish"), "{text}");
        let same = pb::Change { what: pb::change::What::Unchanged.into(), ..change };
        assert!(plan_text(&answer, &same).ends_with("would change nothing"));
    }
}
