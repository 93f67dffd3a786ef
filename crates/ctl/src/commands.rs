//! One function a command: call, then print.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use serde_json::{Value, json};
use waypost_proto::control::{
    self as pb, access_service_client::AccessServiceClient, definition_service_client::DefinitionServiceClient,
    journey_service_client::JourneyServiceClient, profile_service_client::ProfileServiceClient,
};

use crate::{
    cli::{
        AuditCommand, Change, Cli, Command, DeadletterCommand, DecisionsCommand, DryRun, EventsCommand, MessagesCommand, Output,
        ProfileCommand,
    },
    completions,
    connection::{self, Asking},
    contexts, files, output, progress, terminal,
};

/// What a command has to say.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// For standard output.
    pub(crate) stdout: String,
    /// `diff` found a difference.
    pub(crate) differs: bool,
}

pub(crate) struct Session {
    pub(crate) channel: Asking,
    pub(crate) parent: String,
    /// Whether somebody said which workspace is meant.
    pub(crate) workspace_given: bool,
    pub(crate) output: Output,
}

/// Where no workspace is named.
const DEFAULT_WORKSPACE: &str = "default";

/// Runs the command.
///
/// # Errors
/// The server's answer as a [`tonic::Status`], or why it could not be asked.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<Done> {
    if let Command::Context { what } = &cli.command {
        return contexts::run(&cli, what);
    }
    if let Command::Completions { shell } = cli.command {
        return Ok(completions::of(shell));
    }
    let context = contexts::resolve(&cli)?;
    let channel = connection::connect(&context, cli.who).await?;
    let workspace = context.workspace.as_deref().unwrap_or(DEFAULT_WORKSPACE);
    let session =
        Session { channel, parent: format!("workspaces/{workspace}"), workspace_given: context.workspace.is_some(), output: cli.output };
    match cli.command {
        Command::Apply { filename, prune, dry_run } => session.apply(&filename, prune, dry_run).await,
        Command::Diff { filename } => session.diff(&filename).await,
        Command::Get { kind, name: None } => session.list(kind.as_deref()).await,
        Command::Get { kind, name: Some(name) } => session.get(&kind.unwrap_or_default(), &name).await,
        Command::Describe { definition } => session.describe(&definition).await,
        Command::Edit { definition } => session.edit(&definition).await,
        Command::Publish(wanted) => session.publish(&wanted).await,
        Command::Archive(wanted) => session.archive(&wanted).await,
        Command::Delete(wanted) => session.delete(wanted).await,
        Command::Plan(wanted) => session.plan(wanted).await,
        Command::Stats(wanted) => session.stats(wanted).await,
        Command::History(wanted) => session.history(wanted).await,
        Command::Rollback(wanted) => session.rollback(wanted).await,
        Command::Pause(wanted) => session.pause(&wanted).await,
        Command::Resume(wanted) => session.resume(&wanted).await,
        Command::Kill { change, yes } => session.kill(&change, yes).await,
        Command::Profile { what } => match what {
            ProfileCommand::Show { identifier } => session.profile(identifier).await,
            ProfileCommand::Export(export) => session.export(export).await,
            ProfileCommand::Erase(person) => session.erase(person).await,
            ProfileCommand::Detach(person) => session.detach(person).await,
            ProfileCommand::Expire(person) => session.expire(person).await,
        },
        Command::Run { what } => session.run(what).await,
        Command::Deadletter { what } => match what {
            DeadletterCommand::List { reason, source, limit, discarded } => session.letters(reason, source, limit, discarded).await,
            DeadletterCommand::Show { id } => session.letter(id).await,
            DeadletterCommand::Redrive(wanted) => session.redrive(wanted).await,
            DeadletterCommand::Discard(wanted) => session.discard(wanted).await,
        },
        Command::Operation { what } => session.operation(what).await,
        Command::Decisions { what: DecisionsCommand::Tail(wanted) } => session.decisions(wanted).await,
        Command::Messages { what: MessagesCommand::Tail(wanted) } => session.messages(wanted).await,
        Command::Events { what: EventsCommand::Tail(wanted) } => session.events(wanted).await,
        Command::Workspace { what } => session.workspaces(what).await,
        Command::Explain { identifier, journey } => session.explain(identifier, journey).await,
        Command::Source { what } => session.sources(what).await,
        Command::Partitions { role, troubled } => session.partitions(role, troubled).await,
        Command::Skip { what } => session.skip(what).await,
        Command::Top { every, once } => session.top(Duration::from_secs(every.into()), once, terminal::open).await,
        Command::Whoami => session.whoami().await,
        Command::Audit { what: AuditCommand::List(wanted) } => session.audit(wanted).await,
        // Done above: no server is asked.
        Command::Context { .. } | Command::Completions { .. } => Ok(Done::default()),
    }
}

/// An answer in the form that was asked for.
pub(crate) fn shown(output: Output, json: &Value, table: impl FnOnce() -> String, names: impl FnOnce() -> Vec<String>) -> Done {
    let stdout = match output {
        Output::Table => table(),
        Output::Json => serde_json::to_string_pretty(json).unwrap_or_default(),
        Output::Yaml => output::yaml(json),
        Output::Name => names().join("\n"),
    };
    Done { stdout, differs: false }
}

// === impl Session ===

impl Session {
    pub(crate) fn show(&self, json: &Value, table: impl FnOnce() -> String, names: impl FnOnce() -> Vec<String>) -> Done {
        shown(self.output, json, table, names)
    }

    pub(crate) fn definitions(&self) -> DefinitionServiceClient<Asking> {
        // Manifests with their bodies outgrow tonic's default of 4 MiB only in very large shops; the server's limit decides.
        DefinitionServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    async fn apply(&self, paths: &[PathBuf], prune: bool, dry_run: DryRun) -> anyhow::Result<Done> {
        let found = files::find(paths)?;
        let request = pb::ApplyDefinitionsRequest {
            parent: self.parent.clone(),
            manifests: found.manifests,
            attachments: found.attachments,
            validate_only: dry_run.is_dry(),
            etag: String::new(),
            prune,
        };
        let doing = format!("applying {} files", request.manifests.len() + request.attachments.len());
        let answer = progress::during(&doing, self.definitions().apply_definitions(request)).await?.into_inner();
        let json =
            json!({"set": answer.set, "etag": answer.etag, "changes": answer.changes.iter().map(output::change).collect::<Vec<_>>()});
        let note = if dry_run.is_dry() { " (server dry run)" } else { "" };
        Ok(self.show(
            &json,
            || {
                let lines = answer.changes.iter().map(|c| format!("{}/{} {}{note}", c.kind.to_lowercase(), c.name, described(c)));
                let summary = (prune || dry_run.is_dry()).then(|| counted(&answer.changes));
                lines.chain(summary).collect::<Vec<_>>().join("\n")
            },
            || answer.changes.iter().map(|c| format!("{}/{}", c.kind.to_lowercase(), c.name)).collect(),
        ))
    }

    async fn diff(&self, paths: &[PathBuf]) -> anyhow::Result<Done> {
        let found = files::find(paths)?;
        let request =
            pb::DiffDefinitionsRequest { parent: self.parent.clone(), manifests: found.manifests, attachments: found.attachments };
        let answer = self.definitions().diff_definitions(request).await?.into_inner();
        let changed: Vec<_> = answer.changes.iter().filter(|c| c.what() != pb::change::What::Unchanged).collect();
        let json = json!({"changes": changed.iter().map(|c| output::change(c)).collect::<Vec<_>>()});
        let mut done = self.show(
            &json,
            || {
                changed
                    .iter()
                    .map(|c| format!("{}/{} {}\n{}", c.kind.to_lowercase(), c.name, described(c), c.diff))
                    .collect::<Vec<_>>()
                    .join("\n")
            },
            || changed.iter().map(|c| format!("{}/{}", c.kind.to_lowercase(), c.name)).collect(),
        );
        done.differs = !changed.is_empty();
        Ok(done)
    }

    async fn list(&self, kind: Option<&str>) -> anyhow::Result<Done> {
        let mut definitions = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListDefinitionsRequest {
                parent: self.parent.clone(),
                kind: kind.unwrap_or_default().to_owned(),
                page_size: 0,
                page_token,
                read_mask: None,
            };
            let page = self.definitions().list_definitions(request).await?.into_inner();
            definitions.extend(page.definitions);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(self.show(
            &Value::Array(definitions.iter().map(output::definition).collect()),
            || {
                let rows = definitions.iter().map(|d| {
                    let name = d.name.rsplit('/').next().unwrap_or_default().to_owned();
                    vec![d.kind.clone(), name, d.version.to_string(), output::state(d.state).to_owned(), d.content_hash.clone()]
                });
                output::table(&["KIND", "NAME", "VERSION", "STATE", "CONTENT"], rows)
            },
            || definitions.iter().map(|d| d.name.clone()).collect(),
        ))
    }

    async fn get(&self, kind: &str, name: &str) -> anyhow::Result<Done> {
        let name = format!("{}/definitions/{kind}/{name}", self.parent);
        let definition = self.definitions().get_definition(pb::GetDefinitionRequest { name, read_mask: None }).await?.into_inner();
        Ok(self.definition(&definition))
    }

    fn definition(&self, definition: &pb::Definition) -> Done {
        let json = output::definition(definition);
        self.show(
            &json,
            || {
                let head = format!("{}  version {}  {}", definition.name, definition.version, output::state(definition.state));
                format!("{head}\n{}", serde_json::to_string_pretty(&json["manifest"]).unwrap_or_default())
            },
            || vec![definition.name.clone()],
        )
    }

    async fn publish(&self, wanted: &Change) -> anyhow::Result<Done> {
        let request = pb::PublishJourneyRequest {
            name: self.journey(&wanted.journey),
            etag: String::new(),
            validate_only: self.only_checks(wanted.dry_run).await?,
        };
        let definition = self.journeys().publish_journey(request).await?.into_inner();
        Ok(self.brief(&definition, "published", wanted.dry_run))
    }

    async fn archive(&self, wanted: &Change) -> anyhow::Result<Done> {
        let request = pb::ArchiveJourneyRequest {
            name: self.journey(&wanted.journey),
            etag: String::new(),
            validate_only: self.only_checks(wanted.dry_run).await?,
        };
        let definition = self.journeys().archive_journey(request).await?.into_inner();
        Ok(self.brief(&definition, "archived", wanted.dry_run))
    }

    async fn pause(&self, wanted: &Change) -> anyhow::Result<Done> {
        let request = pb::PauseJourneyRequest {
            name: self.journey(&wanted.journey),
            etag: String::new(),
            validate_only: self.only_checks(wanted.dry_run).await?,
        };
        let definition = self.journeys().pause_journey(request).await?.into_inner();
        Ok(self.brief(&definition, "paused", wanted.dry_run))
    }

    async fn resume(&self, wanted: &Change) -> anyhow::Result<Done> {
        let request = pb::ResumeJourneyRequest {
            name: self.journey(&wanted.journey),
            etag: String::new(),
            validate_only: self.only_checks(wanted.dry_run).await?,
        };
        let definition = self.journeys().resume_journey(request).await?.into_inner();
        Ok(self.brief(&definition, "resumed", wanted.dry_run))
    }

    async fn kill(&self, wanted: &Change, yes: bool) -> anyhow::Result<Done> {
        ensure!(yes || wanted.dry_run.is_dry(), "this ends every run of the journey for good, and nothing brings them back: say --yes");
        let request = pb::KillJourneyRequest {
            name: self.journey(&wanted.journey),
            etag: String::new(),
            validate_only: self.only_checks(wanted.dry_run).await?,
        };
        let definition = self.journeys().kill_journey(request).await?.into_inner();
        Ok(self.brief(&definition, "killed", wanted.dry_run))
    }

    /// Whether something is only to be checked. A server of before knows no such wish of some calls and would do it: it says no release.
    pub(crate) async fn only_checks(&self, dry_run: DryRun) -> anyhow::Result<bool> {
        if dry_run.is_dry() {
            let server = AccessServiceClient::new(self.channel.clone()).who_am_i(pb::WhoAmIRequest {}).await?.into_inner();
            ensure!(!server.release.is_empty(), "this server is too old to only check it, and would do it");
        }
        Ok(dry_run.is_dry())
    }

    fn journeys(&self) -> JourneyServiceClient<Asking> {
        JourneyServiceClient::new(self.channel.clone())
    }

    /// `cart` and `journeys/cart` are the same.
    pub(crate) fn journey(&self, name: &str) -> String {
        format!("{}/journeys/{}", self.parent, name.strip_prefix("journeys/").unwrap_or(name))
    }

    fn brief(&self, definition: &pb::Definition, done: &str, dry_run: DryRun) -> Done {
        let done = if dry_run.is_dry() { format!("would be {done}") } else { done.to_owned() };
        let short = definition.name.rsplit('/').next().unwrap_or_default();
        self.show(
            &output::definition(definition),
            || format!("journey/{short} {done}, version {}", definition.version),
            || vec![definition.name.clone()],
        )
    }

    async fn profile(&self, identifier: String) -> anyhow::Result<Done> {
        let request = pb::LookupProfileRequest { parent: self.parent.clone(), identifier, read_mask: None };
        let profile = ProfileServiceClient::new(self.channel.clone()).lookup_profile(request).await?.into_inner();
        Ok(self.show(&output::profile(&profile), || profile_text(&profile), || vec![profile.id.clone()]))
    }

    async fn explain(&self, identifier: String, journey: Option<String>) -> anyhow::Result<Done> {
        let request =
            pb::ExplainProfileRequest { parent: self.parent.clone(), identifier, journey: journey.unwrap_or_default(), from: 0, until: 0 };
        let answer = ProfileServiceClient::new(self.channel.clone()).explain_profile(request).await?.into_inner();
        Ok(self.show(&output::explanation(&answer), || explanation_text(&answer), || vec![answer.profile.clone()]))
    }
}

pub(crate) fn described(change: &pb::Change) -> String {
    match change.what() {
        pb::change::What::Deleted => output::what(change.what).to_owned(),
        pb::change::What::Kept => format!("{}: {}", output::what(change.what), change.reason),
        pb::change::What::Unspecified | pb::change::What::Created | pb::change::What::Changed | pb::change::What::Unchanged => {
            format!("{} (version {}, {})", output::what(change.what), change.version, output::state(change.state))
        }
    }
}

/// `2 created, 1 deleted, 7 unchanged`.
fn counted(changes: &[pb::Change]) -> String {
    use pb::change::What as W;
    let count = |what: W| changes.iter().filter(|c| c.what() == what).count();
    let words = [W::Created, W::Changed, W::Deleted, W::Kept, W::Unchanged].map(|what| (count(what), output::what(what.into())));
    let told: Vec<_> = words.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    told.join(", ")
}

fn profile_text(profile: &pb::Profile) -> String {
    let mut lines =
        vec![format!("{}  (segmenter offset {}, orchestrator offset {})", profile.id, profile.segment_offset, profile.journey_offset)];
    let mut section = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            lines.push(format!("{title}:"));
            lines.extend(items.into_iter().map(|i| format!("  {i}")));
        }
    };
    section("joined from", profile.joined_from.clone());
    section("fields", profile.fields.iter().map(|f| format!("{} = {}", f.path, f.value)).collect());
    section("carts", profile.carts.clone());
    section("orders", profile.orders.clone());
    section("consents", profile.consents.clone());
    section("segments", profile.memberships.clone());
    let runs = profile.runs.iter().map(|r| {
        let due = if r.next_due == 0 { String::new() } else { format!(", next at {}", output::time(r.next_due)) };
        format!(
            "{} v{} key `{}` at step {} since {}{due}; sends: {}",
            r.journey,
            r.version,
            r.key,
            r.step,
            output::time(r.entered_at),
            or_none(&r.sends)
        )
    });
    section("live runs", runs.collect());
    let past = profile
        .past
        .iter()
        .map(|p| format!("{} key `{}` {} – {} {}", p.journey, p.key, output::time(p.entered_at), output::time(p.exited_at), p.reason));
    section("ended runs", past.collect());
    lines.join("\n")
}

fn or_none(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn explanation_text(answer: &pb::ExplainProfileResponse) -> String {
    let mut lines = vec![answer.verdict.clone(), String::new()];
    for entry in &answer.entries {
        let step = if entry.step.is_empty() { String::new() } else { format!(" step {}", entry.step) };
        let key = if entry.key.is_empty() { String::new() } else { format!(" key {}", entry.key) };
        let cause = if entry.cause.is_empty() { String::new() } else { format!("  (by {})", entry.cause) };
        let note = if entry.note.is_empty() { String::new() } else { format!("  {}", entry.note) };
        lines.push(format!("{}  {}{key}{step} {} {}{note}{cause}", output::time(entry.at), entry.journey, entry.what, entry.reason));
        for check in &entry.checks {
            let until = if check.valid_until == 0 { String::new() } else { format!("  until {}", output::time(check.valid_until)) };
            lines.push(format!("    {:<28} {:<8} {}{until}", check.what, check.truth, check.operands.join("; ")));
        }
    }
    lines.join("\n")
}
