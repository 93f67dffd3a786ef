//! Whoever works on operations: each control process, on what was asked for at it and on what others have left.

use std::{collections::BTreeSet, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use super::{
    record::{End, Outcome, Record, State, Work},
    store::Hold,
};
use crate::{server::Control, status::Refusal};

/// Operations under way at once in a process.
const AT_ONCE: usize = 2;
/// How often it is looked whether somebody has fallen silent.
const LOOK: Duration = Duration::from_secs(1);
/// Two that take an operation over at once hear of each other within this time.
const RIVALS: Duration = Duration::from_secs(1);

// === impl Control ===

impl Control {
    /// Works on operations until [`Control::close`]; ends when what is under way here has been put down in order.
    pub async fn operate(&self) {
        let mut closing = self.operations.closing();
        let working = async {
            tokio::select! {
                () = self.operations.follow() => {}
                () = self.take() => {}
            }
        };
        tokio::pin!(working);
        tokio::select! {
            () = &mut working => return,
            _ = closing.wait_for(|closing| *closing) => {}
        }
        // Followed still, so that what is said last is read back; `take` ends by itself.
        working.await;
    }

    /// Takes what is due, as long as there is room; ends when this process closes and nothing is under way.
    async fn take(&self) {
        let (mut board, mut closing) = (self.operations.board(), self.operations.closing());
        let (mut under_way, mut tasks) = (BTreeSet::new(), JoinSet::new());
        loop {
            let due = board.borrow_and_update().due(self.operations.life(), Instant::now());
            for state in due {
                if under_way.len() < AT_ONCE && !self.operations.is_closing() && under_way.insert(state.id.clone()) {
                    let control = self.clone();
                    tasks.spawn(async move {
                        let id = state.id.clone();
                        if let Err(refusal) = control.work_on(state).await {
                            tracing::warn!(operation = id, reason = refusal.reason(), "an operation stands still; it is taken up again");
                            tokio::time::sleep(LOOK).await;
                        }
                        id
                    });
                }
            }
            if self.operations.is_closing() && tasks.is_empty() {
                return;
            }
            tokio::select! {
                Some(ended) = tasks.join_next() => match ended {
                    Ok(id) => drop(under_way.remove(&id)),
                    // Its place is not given again: whatever panics here would do so again.
                    Err(error) => tracing::error!(%error, "an operation's task ended"),
                },
                _ = board.changed() => {}
                _ = closing.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// One attempt.
    async fn work_on(&self, before: State) -> Result<(), Refusal> {
        let (operations, state) = (self.operations.clone(), before.taken_by(self.operations.life()));
        let (id, attempt, asked_here) = (state.id.clone(), state.attempt, before.is_of(operations.life(), 0));
        operations.write(&Record::State(Box::new(state.clone()))).await?;
        if !asked_here {
            tokio::time::sleep(RIVALS).await;
        }
        let is_mine = operations.board().borrow().get(&id).is_some_and(|known| known.state.is_of(operations.life(), attempt));
        if !is_mine {
            return Ok(());
        }
        tracing::info!(operation = id, attempt, "working on an operation");
        let hold = Hold::new(operations.clone(), state);
        let outcome = tokio::select! {
            outcome = self.work(&hold) => outcome,
            refusal = hold.beat() => Err(refusal),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(refusal) => Some(failed(refusal)?),
        };
        let at = operations.now();
        tracing::info!(operation = id, attempt, ?outcome, "an operation is over here");
        hold.tell(|state| match outcome {
            Some(outcome) => state.end = Some(End { at, outcome }),
            None => state.free = true,
        })
        .await
    }

    async fn work(&self, hold: &Hold) -> Result<Option<Outcome>, Refusal> {
        match hold.state().work {
            Work::Redrive { .. } => self.redrive_all(hold).await,
        }
    }
}

/// How a refusal ends an operation.
///
/// # Errors
/// The refusal, where another attempt may fare better.
fn failed(refusal: Refusal) -> Result<Outcome, Refusal> {
    if matches!(refusal, Refusal::Unavailable(_) | Refusal::Aborted(_) | Refusal::Deadline) {
        return Err(refusal);
    }
    let status = tonic::Status::from(refusal);
    let reason = tonic_types::StatusExt::get_error_details(&status).error_info().map_or_else(String::new, |info| info.reason.clone());
    Ok(Outcome::Failed { code: status.code() as i32, reason, message: status.message().to_owned() })
}
