//! Runs of a person: list, describe, start, cancel.

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tonic::{Code, Response, Status};
use waypost_proto::control::{self as pb, run_service_client::RunServiceClient};

use crate::{
    cli::DryRun,
    commands::{Done, Session},
    output,
};

/// Between one try and the next.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Runs of a person: live ones, then those that ended and are still remembered
    List(RunList),
    /// One run: where it is, what it waits for, its messages
    Describe {
        /// `email:…`, `user_id:…`, `phone:…`, `device:…`, `anonymous:…`, `custom:<name>:…`, a profile id, or a bare e-mail address
        identifier: String,
        /// As `list` shows it
        run: String,
    },
    /// Begin a run for a person, whatever the entry's event and filter say; all else an entry is asked is asked of it
    Start(RunStart),
    /// End a run with CANCELLED, or all live ones of a journey, and take back what they have queued
    Cancel(RunCancel),
}

#[derive(Debug, Args)]
pub(crate) struct RunList {
    /// `email:…`, `user_id:…`, `phone:…`, `device:…`, `anonymous:…`, `custom:<name>:…`, a profile id, or a bare e-mail address
    identifier: String,
    /// Only of this journey
    #[arg(long)]
    journey: Option<String>,
    /// Only live ones
    #[arg(long)]
    live: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunStart {
    /// `email:…`, `user_id:…`, `phone:…`, `device:…`, `anonymous:…`, `custom:<name>:…`, or a bare e-mail address
    identifier: String,
    /// Journey
    journey: String,
    /// What the run is about, where the journey's entries have a key: a cart, an order
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct RunCancel {
    /// `email:…`, `user_id:…`, `phone:…`, `device:…`, `anonymous:…`, `custom:<name>:…`, or a bare e-mail address
    identifier: String,
    /// As `list` shows it
    #[arg(required_unless_present = "journey", conflicts_with = "journey")]
    run: Option<String>,
    /// All live runs of this journey
    #[arg(long)]
    journey: Option<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

// === impl Session ===

impl Session {
    pub(crate) async fn run(&self, what: RunCommand) -> anyhow::Result<Done> {
        match what {
            RunCommand::List(wanted) => self.runs(wanted).await,
            RunCommand::Describe { identifier, run } => self.describe_run(identifier, run).await,
            RunCommand::Start(wanted) => self.start_run(wanted).await,
            RunCommand::Cancel(wanted) => self.cancel_run(wanted).await,
        }
    }

    fn run_service(&self) -> RunServiceClient<crate::connection::Asking> {
        RunServiceClient::new(self.channel.clone())
    }

    async fn runs(&self, wanted: RunList) -> anyhow::Result<Done> {
        let RunList { identifier, journey, live } = wanted;
        let journey = journey.unwrap_or_default();
        let request = pb::ListRunsRequest { parent: self.parent.clone(), identifier, journey, live, read_mask: None };
        let answer = self.run_service().list_runs(request).await?.into_inner();
        let json = json!({"profile": answer.profile, "runs": answer.runs.iter().map(run).collect::<Vec<_>>(),
            "journeyOffset": answer.journey_offset});
        let row = |run: &pb::RunDetail| {
            let state = if run.state() == pb::RunState::Live { "live".to_owned() } else { run.exit_reason.clone() };
            let next = run.waits.first().map_or_else(String::new, |wait| format!("{} {}", wait.what, output::time(wait.due)));
            let (entered, exited) = (output::time(run.entered_at), output::time(run.exited_at));
            vec![run.id.clone(), run.journey.clone(), run.key.clone(), state, run.step.clone(), entered, exited, next]
        };
        Ok(self.show(
            &json,
            || output::table(&["RUN", "JOURNEY", "KEY", "STATE", "STEP", "ENTERED", "EXITED", "WAITS FOR"], answer.runs.iter().map(row)),
            || answer.runs.iter().map(|run| run.id.clone()).collect(),
        ))
    }

    async fn describe_run(&self, identifier: String, wanted: String) -> anyhow::Result<Done> {
        let request = pb::GetRunRequest { parent: self.parent.clone(), identifier, run: wanted, read_mask: None };
        let found = self.run_service().get_run(request).await?.into_inner();
        Ok(self.show(&run(&found), || described(&found), || vec![found.id.clone()]))
    }

    async fn start_run(&self, wanted: RunStart) -> anyhow::Result<Done> {
        let RunStart { identifier, journey, key, dry_run } = wanted;
        let (parent, key, validate_only) = (self.parent.clone(), key.unwrap_or_default(), dry_run.is_dry());
        let request = pb::StartRunRequest { parent, identifier, journey: journey.clone(), key, validate_only, request_id: request_id()? };
        let answer = repeated(async || self.run_service().start_run(request.clone()).await).await?;
        Ok(self.accepted(&format!("start of {journey}, version {}", answer.version), answer.acknowledged))
    }

    async fn cancel_run(&self, wanted: RunCancel) -> anyhow::Result<Done> {
        let RunCancel { identifier, run, journey, dry_run } = wanted;
        let (run, journey) = (run.unwrap_or_default(), journey.unwrap_or_default());
        let what = format!("cancel of {run}{journey}");
        let (parent, validate_only) = (self.parent.clone(), dry_run.is_dry());
        let request = pb::CancelRunRequest { parent, identifier, run, journey, validate_only, request_id: request_id()? };
        let answer = repeated(async || self.run_service().cancel_run(request.clone()).await).await?;
        Ok(self.accepted(&what, answer.acknowledged))
    }

    /// What was put into the log, or would be.
    fn accepted(&self, what: &str, answer: Option<pb::Acknowledged>) -> Done {
        let Some(answer) = answer else {
            return self.show(&json!({"checked": what}), || format!("{what} (server dry run)"), Vec::new);
        };
        let json = json!({"identifierHash": answer.identifier_hash, "record": answer.record, "at": output::time(answer.at)});
        let text = || {
            format!("{what} accepted at {}, record {}; `waypostctl explain` says what came of it", output::time(answer.at), answer.record)
        };
        self.show(&json, text, || vec![answer.record.clone()])
    }
}

/// A random UUID.
pub(crate) fn request_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("this computer has no random numbers")?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
}

/// Asks, and asks again where nobody knows whether it was done: under its request id it is done once.
async fn repeated<T>(ask: impl AsyncFn() -> Result<Response<T>, Status>) -> Result<T, Status> {
    for pause in PAUSES {
        match ask().await {
            Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Unknown) => {
                tokio::time::sleep(pause).await;
            }
            answer => return answer.map(Response::into_inner),
        }
    }
    ask().await.map(Response::into_inner)
}

fn run(run: &pb::RunDetail) -> Value {
    let waits: Vec<_> = run.waits.iter().map(|wait| json!({"what": wait.what, "due": output::time(wait.due)})).collect();
    let messages = run.messages.iter().map(|m| {
        json!({"id": m.id, "step": m.step, "channel": m.channel, "state": m.state, "reason": m.reason, "decidedAt": output::time(m.decided_at)})
    });
    let state = if run.state() == pb::RunState::Live { "live" } else { "ended" };
    json!({"id": run.id, "journey": run.journey, "version": run.version, "key": run.key, "state": state,
        "enteredAt": output::time(run.entered_at), "entry": run.entry, "step": run.step, "stepAt": output::time(run.step_at),
        "waits": waits, "messages": messages.collect::<Vec<_>>(), "goalMet": run.goal_met, "exitedAt": output::time(run.exited_at),
        "exitReason": run.exit_reason, "latest": run.latest})
}

fn described(run: &pb::RunDetail) -> String {
    let mut lines = vec![run.id.clone()];
    let mut line = |title: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("{:<10} {text}", format!("{title}:")));
        }
    };
    let version = if run.version == 0 { String::new() } else { format!(", version {}", run.version) };
    line("Journey", format!("{}{version}", run.journey));
    line("Key", run.key.clone());
    line(
        "Entered",
        if run.entry.is_empty() { output::time(run.entered_at) } else { format!("{} by {}", output::time(run.entered_at), run.entry) },
    );
    line("Step", if run.step_at == 0 { run.step.clone() } else { format!("{} since {}", run.step, output::time(run.step_at)) });
    line("Exited", if run.exited_at == 0 { String::new() } else { format!("{} {}", output::time(run.exited_at), run.exit_reason) });
    line("Goal", if run.goal_met { "met".to_owned() } else { String::new() });
    line("Latest", run.latest.clone());
    for wait in &run.waits {
        line("Waits for", format!("{} until {}", wait.what, output::time(wait.due)));
    }
    for m in &run.messages {
        let text = format!("{} by {} decided {}, {} {}", m.step, m.channel, output::time(m.decided_at), m.state, m.reason);
        line("Message", text.trim_end().to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeSet};

    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_and_drawn_anew() {
        let drawn: BTreeSet<_> = (0..8).map(|_| request_id().unwrap()).collect();
        assert_eq!(drawn.len(), 8);
        for id in drawn {
            let groups: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!((groups, &id[14..15]), (vec![8, 4, 4, 4, 12], "4"), "{id}");
            assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_have_been_lost_is_asked_again() {
        for (failures, code, tries, expected) in [
            (1, Code::Unavailable, 2, Ok(7)),
            (2, Code::DeadlineExceeded, 3, Ok(7)),
            (9, Code::Unknown, 3, Err(Code::Unknown)),
            (1, Code::NotFound, 1, Err(Code::NotFound)),
            (1, Code::FailedPrecondition, 1, Err(Code::FailedPrecondition)),
        ] {
            let asked = Cell::new(0);
            let answer = repeated(async || {
                asked.set(asked.get() + 1);
                if asked.get() > failures { Ok(Response::new(7)) } else { Err(Status::new(code, "")) }
            });
            assert_eq!(answer.await.map_err(|status| status.code()), expected);
            assert_eq!(asked.get(), tries, "{code}");
        }
    }
}
