//! Work that outlasts its call: what there is, how far it is, waiting for it.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use waypost_proto::control::{
    self as pb, OperationState, operation::Result as Outcome, operation_response::Kind, operation_service_client::OperationServiceClient,
};

use crate::{
    commands::{Done, Session},
    connection::Asking,
    output,
};

/// How often whoever waits hears how far it is, ms.
const STEP: u32 = 1_000;
/// How long it is asked again where nobody answers: as long as a control process takes to come back, and more.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Subcommand)]
pub(crate) enum OperationCommand {
    /// What was begun in the last 30 days, the latest first
    List {
        /// Only what is not done
        #[arg(long)]
        open: bool,
        /// So many at most
        #[arg(long, default_value_t = 100)]
        limit: u16,
    },
    /// One of them: how far it is, what came of it
    Describe {
        /// As `list` shows it
        name: String,
    },
    /// End one where it is; what is done stays done
    Cancel {
        /// As `list` shows it
        name: String,
    },
    /// Wait until one is done; exit code 1 where it failed, was cancelled or is not done in time
    Wait {
        /// As `list` shows it
        name: String,
        /// Seconds; without it as long as it takes
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
}

// === impl Session ===

impl Session {
    fn operations(&self) -> OperationServiceClient<Asking> {
        OperationServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn operation(&self, what: OperationCommand) -> anyhow::Result<Done> {
        match what {
            OperationCommand::List { open, limit } => {
                let request = pb::ListOperationsRequest { open, page_size: i32::from(limit.max(1)), page_token: String::new() };
                let operations = self.operations().list_operations(request).await?.into_inner().operations;
                let json = json!({"operations": operations.iter().map(json).collect::<Vec<_>>()});
                let head = ["OPERATION", "STATE", "DONE", "FAILED", "ACT", "WHAT", "STARTED", "BY"];
                let names = || operations.iter().map(|operation| operation.name.clone()).collect();
                Ok(self.show(&json, || output::table(&head, operations.iter().map(row)), names))
            }
            OperationCommand::Describe { name } => {
                let request = pb::GetOperationRequest { name: full(name) };
                Ok(self.described(&self.operations().get_operation(request).await?.into_inner()))
            }
            OperationCommand::Cancel { name } => {
                let request = pb::CancelOperationRequest { name: full(name) };
                Ok(self.described(&self.operations().cancel_operation(request).await?.into_inner()))
            }
            OperationCommand::Wait { name, timeout } => {
                let operation = self.settled(full(name), timeout.map(Duration::from_secs)).await?;
                judged(&operation)?;
                Ok(self.described(&operation))
            }
        }
    }

    /// Waits until it is done, and says how far it is where somebody sees it.
    pub(crate) async fn settled(&self, name: String, timeout: Option<Duration>) -> anyhow::Result<pb::Operation> {
        let began = tokio::time::Instant::now();
        let (mut line, mut answered) = (Line::default(), began);
        loop {
            let asked = tokio::time::Instant::now();
            let request = pb::WaitOperationRequest { name: name.clone(), timeout_ms: STEP };
            let far = match self.operations().wait_operation(request).await {
                Ok(operation) => {
                    let operation = operation.into_inner();
                    if operation.done {
                        line.clear();
                        return Ok(operation);
                    }
                    answered = tokio::time::Instant::now();
                    words(&operation)
                }
                Err(status) if is_away(&status, answered.elapsed()) => "no control process answers".to_owned(),
                Err(status) => {
                    line.clear();
                    return Err(status).with_context(|| format!("it goes on without this command: waypostctl operation wait {name}"));
                }
            };
            if timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
                line.clear();
                bail!("{name} is not done yet: {far}");
            }
            line.say(&far);
            // A control process that closes answers at once.
            tokio::time::sleep_until(asked + Duration::from_millis(STEP.into())).await;
        }
    }

    fn described(&self, operation: &pb::Operation) -> Done {
        self.show(&json(operation), || described(operation), || vec![operation.name.clone()])
    }
}

/// Whether somebody may answer soon.
fn is_away(status: &tonic::Status, silent: Duration) -> bool {
    status.code() == tonic::Code::Unavailable && silent < PATIENCE
}

/// One line of a terminal that is written again and again.
#[derive(Default)]
struct Line {
    is_there: bool,
}

// === impl Line ===

impl Line {
    fn say(&mut self, text: &str) {
        self.is_there = true;
        write(&format!("\r{text}\u{1b}[K"));
    }

    fn clear(&mut self) {
        if self.is_there {
            write("\r\u{1b}[K");
        }
    }
}

fn write(text: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        // A terminal that has gone ends this by a signal.
        terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()).unwrap_or_default();
    }
}

fn full(name: String) -> String {
    if name.contains('/') { name } else { format!("operations/{name}") }
}

/// # Errors
/// What it failed of.
pub(crate) fn judged(operation: &pb::Operation) -> anyhow::Result<()> {
    match &operation.result {
        Some(Outcome::Error(error)) => bail!("{}: {} ({}); {}", operation.name, error.message, error.reason, words(operation)),
        Some(Outcome::Response(_)) | None => Ok(()),
    }
}

fn state(operation: &pb::Operation) -> &'static str {
    match operation.metadata.as_ref().map_or(OperationState::Unspecified, pb::OperationMetadata::state) {
        OperationState::Unspecified => "unknown",
        OperationState::Pending => "pending",
        OperationState::Running => "running",
        OperationState::Interrupted => "interrupted",
        OperationState::Cancelling => "cancelling",
        OperationState::Succeeded => "succeeded",
        OperationState::Failed => "failed",
        OperationState::Cancelled => "cancelled",
    }
}

/// How far it is.
fn counted(metadata: &pb::OperationMetadata) -> String {
    if metadata.total == 0 && metadata.ended_at == 0 { "counting".to_owned() } else { format!("{} of {}", metadata.done, metadata.total) }
}

/// In one line.
fn words(operation: &pb::Operation) -> String {
    let metadata = operation.metadata.clone().unwrap_or_default();
    let note = if metadata.note.is_empty() { String::new() } else { format!(": {}", metadata.note) };
    format!("{}, {}, {} failed{note}", state(operation), counted(&metadata), metadata.failed)
}

fn row(operation: &pb::Operation) -> Vec<String> {
    let metadata = operation.metadata.clone().unwrap_or_default();
    let (done, failed, started) = (counted(&metadata), metadata.failed.to_string(), output::time(metadata.started_at));
    let name = operation.name.trim_start_matches("operations/").to_owned();
    vec![name, state(operation).to_owned(), done, failed, metadata.act, metadata.what, started, metadata.by]
}

fn described(operation: &pb::Operation) -> String {
    let metadata = operation.metadata.clone().unwrap_or_default();
    let mut lines = vec![
        format!("{}  {}", operation.name, state(operation)),
        format!("{} {}", metadata.act, metadata.what),
        format!("{}, {} failed", counted(&metadata), metadata.failed),
        format!("begun {} by {}, attempt {}", output::time(metadata.started_at), metadata.by, metadata.attempts),
    ];
    if metadata.ended_at == 0 {
        lines.push(format!("last heard of {}", output::time(metadata.heard_at)));
    } else {
        lines.push(format!("ended {}", output::time(metadata.ended_at)));
    }
    if !metadata.cancelled_by.is_empty() {
        lines.push(format!("its end was asked for by {}", metadata.cancelled_by));
    }
    lines.extend([metadata.note].into_iter().filter(|note| !note.is_empty()));
    match &operation.result {
        Some(Outcome::Error(error)) => lines.push(format!("{}: {}", error.reason, error.message)),
        Some(Outcome::Response(_)) | None => {}
    }
    lines.extend(refusals(operation).into_iter().map(|(id, why)| format!("{id}: {why}")));
    lines.join("\n")
}

/// The first letters that were not put back, whatever became of the operation; a control process of before says so at its end alone.
pub(crate) fn refusals(operation: &pb::Operation) -> Vec<(String, String)> {
    let so_far = operation.metadata.as_ref().map(|metadata| metadata.refusals.clone()).filter(|refusals| !refusals.is_empty());
    let refusals = so_far.or_else(|| redriven(operation).map(|redrive| redrive.refusals)).unwrap_or_default();
    refusals.into_iter().map(|one| (one.id, one.why)).collect()
}

/// What came of putting letters back.
pub(crate) fn redriven(operation: &pb::Operation) -> Option<pb::RedriveResult> {
    match &operation.result {
        Some(Outcome::Response(pb::OperationResponse { kind: Some(Kind::Redrive(redrive)) })) => Some(redrive.clone()),
        Some(Outcome::Response(pb::OperationResponse { kind: None }) | Outcome::Error(_)) | None => None,
    }
}

pub(crate) fn json(operation: &pb::Operation) -> Value {
    let m = operation.metadata.clone().unwrap_or_default();
    let error = match &operation.result {
        Some(Outcome::Error(error)) => json!({"code": error.code, "reason": error.reason, "message": error.message}),
        Some(Outcome::Response(_)) | None => Value::Null,
    };
    let letters: Vec<_> = refusals(operation).into_iter().map(|(id, why)| json!({"id": id, "refused": why})).collect();
    let redrive =
        redriven(operation).map(|redrive| json!({"redriven": redrive.redriven, "refused": redrive.refused, "letters": letters.clone()}));
    json!({
        "name": operation.name, "state": state(operation), "isDone": operation.done, "act": m.act, "what": m.what, "by": m.by,
        "total": m.total, "done": m.done, "failed": m.failed, "startedAt": output::time(m.started_at), "heardAt": output::time(m.heard_at),
        "endedAt": output::time(m.ended_at), "attempts": m.attempts, "cancelledBy": m.cancelled_by, "note": m.note, "error": error,
        "refusals": letters, "redrive": redrive,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(state: OperationState, result: Option<Outcome>) -> pb::Operation {
        let metadata = pb::OperationMetadata {
            state: state.into(),
            act: "deadletter.redrive".into(),
            what: "reason R".into(),
            by: "ana".into(),
            total: 9,
            done: 4,
            failed: 1,
            attempts: 2,
            note: "hear hear".into(),
            ..pb::OperationMetadata::default()
        };
        pb::Operation { name: "operations/o1".into(), metadata: Some(metadata), done: result.is_some(), result }
    }

    #[test]
    fn how_far_it_is_is_one_line_and_all_of_it_a_paragraph() {
        let going = operation(OperationState::Interrupted, None);
        assert_eq!(words(&going), "interrupted, 4 of 9, 1 failed: hear hear");
        assert_eq!(row(&going)[..4], ["o1", "interrupted", "4 of 9", "1"]);
        assert!(judged(&going).is_ok() && described(&going).contains("attempt 2"));
        let refused =
            pb::RedriveResult { redriven: 3, refused: 1, refusals: vec![pb::RefusedLetter { id: "0-1".into(), why: "cut".into() }] };
        let done =
            operation(OperationState::Succeeded, Some(Outcome::Response(pb::OperationResponse { kind: Some(Kind::Redrive(refused)) })));
        assert!(described(&done).contains("0-1: cut"), "{}", described(&done));
        assert_eq!(json(&done)["redrive"]["letters"][0]["refused"], "cut");
        let error = pb::OperationError { code: 1, reason: "CANCELLED".into(), message: "ended".into() };
        let ended = operation(OperationState::Cancelled, Some(Outcome::Error(error)));
        let mut stopped = ended.clone();
        stopped.metadata.as_mut().unwrap().refusals = vec![pb::RefusedLetter { id: "0-2".into(), why: "cut".into() }];
        assert!(described(&stopped).contains("0-2: cut"), "{}", described(&stopped));
        assert_eq!(json(&stopped)["refusals"][0]["id"], "0-2");
        assert!(judged(&ended).unwrap_err().to_string().contains("ended (CANCELLED)"));
    }

    #[test]
    fn whoever_is_away_is_asked_again_for_a_minute() {
        let (away, wrong) = (tonic::Status::unavailable("away"), tonic::Status::not_found("none"));
        assert!(is_away(&away, Duration::from_secs(59)) && !is_away(&away, PATIENCE));
        assert!(!is_away(&wrong, Duration::ZERO));
    }

    #[test]
    fn a_name_may_be_said_short() {
        assert_eq!((full("a1".into()), full("operations/a1".into())), ("operations/a1".to_owned(), "operations/a1".to_owned()));
    }
}
