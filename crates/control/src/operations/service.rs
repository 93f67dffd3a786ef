//! `OperationService`: how far what was begun is, told by any control process.

use std::{collections::BTreeSet, time::Duration};

use tonic::{Request, Response, Status};
use waypost_proto::control::{self as pb, operation_service_server::OperationService};

use super::{
    board::{Board, Known, SILENT_MS},
    name,
    record::{Asked, Outcome, Progress, Record, State, Work},
};
use crate::{
    access::{Caller, admit},
    audit::{Act, Line},
    server::Control,
    status::Refusal,
};

/// Operations of an answer unless asked for fewer.
const PAGE: usize = 100;
/// Operations of an answer at most.
const PAGE_MAX: usize = 1_000;
/// How long somebody waits who does not say.
const WAIT: Duration = Duration::from_secs(10);
/// How long somebody may wait: below the time that any call has.
const WAIT_MAX: Duration = Duration::from_secs(50);

#[tonic::async_trait]
impl OperationService for Control {
    async fn list_operations(&self, request: Request<pb::ListOperationsRequest>) -> Result<Response<pb::ListOperationsResponse>, Status> {
        let (caller, request) = admit(request)?;
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => return Err(Refusal::Invalid("INVALID_PAGE_SIZE", "page_size may not be negative".to_owned()).into()),
        };
        let (board, seen) = (self.operations.fresh().await?, self.seen_by(&caller)?);
        let mut all: Vec<&Known> = board.all().filter(|known| is_seen(&known.state.asked, seen.as_ref())).collect();
        all.retain(|known| !request.open || known.state.end.is_none());
        all.sort_by_key(|known| std::cmp::Reverse(token(&known.state)));
        // A page begins behind what the one before ended with.
        if !request.page_token.is_empty() {
            all.retain(|known| token(&known.state) < request.page_token);
        }
        let more = all.len() > size;
        all.truncate(size);
        let next_page_token = all.last().filter(|_| more).map_or_else(String::new, |last| token(&last.state));
        let now = self.clock.now().millis();
        let mut operations: Vec<_> = all.into_iter().map(|known| told(known, &board, now)).collect();
        // A page of a thousand would be too large with them.
        for metadata in operations.iter_mut().filter_map(|operation| operation.metadata.as_mut()) {
            metadata.refusals.clear();
        }
        Ok(Response::new(pb::ListOperationsResponse { operations, next_page_token }))
    }

    async fn get_operation(&self, request: Request<pb::GetOperationRequest>) -> Result<Response<pb::Operation>, Status> {
        let (caller, pb::GetOperationRequest { name }) = admit(request)?;
        Ok(Response::new(self.operation(&caller, &name).await?.1))
    }

    async fn wait_operation(&self, request: Request<pb::WaitOperationRequest>) -> Result<Response<pb::Operation>, Status> {
        let (caller, pb::WaitOperationRequest { name, timeout_ms }) = admit(request)?;
        let patience = if timeout_ms == 0 { WAIT } else { Duration::from_millis(timeout_ms.into()).min(WAIT_MAX) };
        let (id, _) = self.operation(&caller, &name).await?;
        let (mut board, mut closing) = (self.operations.board(), self.operations.closing());
        let is_done = |board: &Board| board.get(&id).is_some_and(|known| known.state.end.is_some());
        tokio::select! {
            _ = board.wait_for(is_done) => {}
            _ = closing.wait_for(|closing| *closing) => {}
            () = tokio::time::sleep(patience) => {}
        }
        Ok(Response::new(self.operation(&caller, &name).await?.1))
    }

    async fn cancel_operation(&self, request: Request<pb::CancelOperationRequest>) -> Result<Response<pb::Operation>, Status> {
        let (caller, pb::CancelOperationRequest { name }) = admit(request)?;
        let (id, operation) = self.operation(&caller, &name).await?;
        let is_asked = operation.metadata.as_ref().is_some_and(|metadata| !metadata.cancelled_by.is_empty());
        if operation.done || is_asked {
            return Ok(Response::new(operation));
        }
        let record = Record::Cancel { id, by: caller.name().to_owned() };
        let line = Line::of(&caller, Act::CancelOperation, &name);
        self.audit.acted(line, self.operations.write(&record)).await?;
        Ok(Response::new(self.operation(&caller, &name).await?.1))
    }
}

// === impl Control ===

impl Control {
    /// One operation by its name, with its id; where it is not the caller's to see, the answer is that of one that does not exist.
    async fn operation(&self, caller: &Caller, asked: &str) -> Result<(String, pb::Operation), Refusal> {
        let wrong = || Refusal::Invalid("INVALID_NAME", "an operation is `operations/` and 32 digits, as the list shows it".to_owned());
        let is_digits = |id: &&str| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let id = asked.strip_prefix("operations/").filter(is_digits).ok_or_else(wrong)?;
        let (board, seen) = (self.operations.fresh().await?, self.seen_by(caller)?);
        let known = board.get(id).filter(|known| is_seen(&known.state.asked, seen.as_ref()));
        let known = known.ok_or_else(|| Refusal::NotFound(format!("there is no {asked}, or no longer: they are kept for 30 days")))?;
        Ok((id.to_owned(), told(known, &board, self.clock.now().millis())))
    }
}

/// By the time at which it was asked for; texts of one length.
fn token(state: &State) -> String {
    format!("{:015}-{}", state.started.max(0), state.id)
}

/// Whether somebody who sees these workspaces sees what was asked with those.
fn is_seen(asked: &Asked, seen: Option<&BTreeSet<u32>>) -> bool {
    match (&asked.workspaces, seen) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(asked), Some(seen)) => asked.is_subset(seen),
    }
}

pub(super) fn told(known: &Known, board: &Board, now: i64) -> pb::Operation {
    shown(&known.state, board.cancelled_by(&known.state.id), known.heard_at, now)
}

pub(super) fn shown(state: &State, cancelled_by: Option<&str>, heard_at: i64, now: i64) -> pb::Operation {
    let stands = stands(state, cancelled_by.is_some(), now - heard_at);
    let progress = &state.progress;
    let metadata = pb::OperationMetadata {
        state: stands.into(),
        act: state.work.act().word(),
        what: state.work.words(),
        by: state.asked.by.clone(),
        total: progress.total.unwrap_or_default(),
        done: progress.done,
        failed: progress.failed,
        started_at: state.started,
        heard_at,
        ended_at: state.end.as_ref().map_or(0, |end| end.at),
        attempts: state.attempt,
        cancelled_by: cancelled_by.unwrap_or_default().to_owned(),
        note: note(stands, &state.trouble),
        refusals: refusals(progress),
    };
    pb::Operation { name: name(&state.id), metadata: Some(metadata), done: state.end.is_some(), result: result(state) }
}

fn stands(state: &State, is_cancelled: bool, silent: i64) -> pb::OperationState {
    match &state.end {
        Some(end) => match end.outcome {
            Outcome::Succeeded => pb::OperationState::Succeeded,
            Outcome::Cancelled => pb::OperationState::Cancelled,
            Outcome::Failed { .. } => pb::OperationState::Failed,
        },
        None if is_cancelled => pb::OperationState::Cancelling,
        None if state.attempt == 0 => pb::OperationState::Pending,
        None if state.free || silent > SILENT_MS => pb::OperationState::Interrupted,
        None => pb::OperationState::Running,
    }
}

/// What becomes of it, or what to do; and what stopped the last attempt, while that stands in the way.
fn note(stands: pb::OperationState, trouble: &str) -> String {
    let next = next(stands);
    match stands {
        pb::OperationState::Pending | pb::OperationState::Running | pb::OperationState::Interrupted | pb::OperationState::Cancelling
            if !trouble.is_empty() =>
        {
            let stopped = format!("its last attempt was given up: {trouble}");
            if next.is_empty() { stopped } else { format!("{next}; {stopped}") }
        }
        pb::OperationState::Unspecified
        | pb::OperationState::Pending
        | pb::OperationState::Running
        | pb::OperationState::Interrupted
        | pb::OperationState::Cancelling
        | pb::OperationState::Succeeded
        | pb::OperationState::Failed
        | pb::OperationState::Cancelled => next.to_owned(),
    }
}

fn next(stands: pb::OperationState) -> &'static str {
    match stands {
        pb::OperationState::Interrupted => {
            "its process is gone or cannot write; a control process goes on with it within a minute, so start one if none runs"
        }
        pb::OperationState::Pending => "a control process begins with it when it has room",
        pb::OperationState::Cancelling => "it ends where it is; what is done stays done",
        pb::OperationState::Cancelled => "begun again it goes on with what is left",
        pb::OperationState::Failed => {
            "begun again it goes on with what is left, once the cause is gone; up to 100 letters of its last step may need --again"
        }
        pb::OperationState::Unspecified | pb::OperationState::Running | pb::OperationState::Succeeded => "",
    }
}

fn result(state: &State) -> Option<pb::operation::Result> {
    let error = |code: i32, reason: &str, message: &str| {
        pb::operation::Result::Error(pb::OperationError { code, reason: reason.to_owned(), message: message.to_owned() })
    };
    Some(match &state.end.as_ref()?.outcome {
        Outcome::Succeeded => pb::operation::Result::Response(pb::OperationResponse { kind: Some(response(state)) }),
        Outcome::Cancelled => error(tonic::Code::Cancelled as i32, "CANCELLED", "somebody has asked for its end"),
        Outcome::Failed { code, reason, message } => error(*code, reason, message),
    })
}

fn response(state: &State) -> pb::operation_response::Kind {
    let progress = &state.progress;
    match state.work {
        Work::Redrive { .. } => pb::operation_response::Kind::Redrive(pb::RedriveResult {
            redriven: progress.done - progress.failed.min(progress.done),
            refused: progress.failed,
            refusals: refusals(progress),
        }),
    }
}

fn refusals(progress: &Progress) -> Vec<pb::RefusedLetter> {
    progress.refusals.iter().map(|(id, why)| pb::RefusedLetter { id: id.clone(), why: why.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stopped_the_last_attempt_is_told_until_it_is_over() {
        assert_eq!(note(pb::OperationState::Running, "away"), "its last attempt was given up: away");
        assert!(note(pb::OperationState::Interrupted, "away").ends_with("; its last attempt was given up: away"));
        assert!(!note(pb::OperationState::Cancelled, "away").contains("away"));
    }

    #[test]
    fn an_operation_is_seen_by_whoever_sees_all_that_it_touches() {
        let asked = |workspaces: Option<&[u32]>| Asked {
            by: String::new(),
            how: String::new(),
            from: String::new(),
            workspaces: workspaces.map(|all| all.iter().copied().collect()),
        };
        let seen = BTreeSet::from([1, 2]);
        for (of, whole, some) in [(None, true, false), (Some(&[1][..]), true, true), (Some(&[1, 3][..]), true, false)] {
            assert_eq!((is_seen(&asked(of), None), is_seen(&asked(of), Some(&seen))), (whole, some), "{of:?}");
        }
    }
}
