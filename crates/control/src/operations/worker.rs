//! Whoever works on operations: each control process, on what was asked for at it and on what others have left.

use std::time::Duration;

use tokio::{
    task::{self, JoinSet},
    time::Instant,
};

use super::{
    record::{End, Outcome, Record, State, Work},
    store::Hold,
};
use crate::{server::Control, status::Refusal};

/// Operations under way at once in a process.
const AT_ONCE: usize = 2;
/// How often it is looked whether somebody has fallen silent.
const LOOK: Duration = Duration::from_secs(1);
/// Two that take an operation at once hear of each other within this time, also where both were asked for the same.
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
        let (mut under_way, mut tasks) = (Vec::<(task::Id, String)>::new(), JoinSet::new());
        loop {
            let due = board.borrow_and_update().due(self.operations.life(), Instant::now());
            for state in due {
                let has_room = under_way.len() < AT_ONCE && !self.operations.is_closing();
                if has_room && !under_way.iter().any(|(_, id)| *id == state.id) {
                    let (control, id) = (self.clone(), state.id.clone());
                    let task = tasks.spawn(async move {
                        let id = state.id.clone();
                        if let Err(refusal) = control.work_on(state).await {
                            let (reason, error) = (refusal.reason(), refusal.message());
                            tracing::warn!(operation = id, reason, error, "an operation stands still; it is taken up again");
                            tokio::time::sleep(LOOK).await;
                        }
                    });
                    under_way.push((task.id(), id));
                }
            }
            if self.operations.is_closing() && tasks.is_empty() {
                return;
            }
            tokio::select! {
                Some(ended) = tasks.join_next_with_id() => {
                    let task = ended.as_ref().map_or_else(task::JoinError::id, |(task, ())| *task);
                    let place = under_way.iter().position(|(of, _)| *of == task);
                    let id = place.map(|place| under_way.swap_remove(place).1).unwrap_or_default();
                    if let Err(error) = ended {
                        tracing::error!(operation = id, %error, "an operation's task ended");
                        self.give_up(&id).await;
                    }
                }
                _ = board.changed() => {}
                _ = closing.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Ends an operation whose task has panicked here: it would do so again, here and elsewhere.
    async fn give_up(&self, id: &str) {
        let known = self.operations.board().borrow().get(id).map(|known| known.state.clone());
        let Some(mut state) = known.filter(|state| state.worker == self.operations.life() && state.end.is_none()) else { return };
        let Ok(outcome) = failed(Refusal::Internal) else { return };
        state.end = Some(End { at: self.operations.now(), outcome });
        if let Err(refusal) = self.operations.write(&Record::State(Box::new(state))).await {
            tracing::warn!(operation = id, reason = refusal.reason(), "that an operation failed cannot be written; it is taken up again");
        }
    }

    /// One attempt.
    async fn work_on(&self, before: State) -> Result<(), Refusal> {
        let (operations, state) = (self.operations.clone(), before.taken_by(self.operations.life()));
        let (id, attempt) = (state.id.clone(), state.attempt);
        let heard = Instant::now();
        operations.write(&Record::State(Box::new(state.clone()))).await?;
        tokio::time::sleep(RIVALS).await;
        let is_mine = operations.board().borrow().get(&id).is_some_and(|known| known.state.is_of(operations.life(), attempt));
        if !is_mine {
            return Ok(());
        }
        tracing::info!(operation = id, attempt, "working on an operation");
        let hold = Hold::new(operations.clone(), state, heard);
        let outcome = tokio::select! {
            outcome = self.work(&hold) => outcome,
            refusal = hold.beat() => Err(refusal),
            refusal = hold.stalled() => Err(refusal),
        };
        let outcome = match outcome.or_else(|refusal| failed(refusal).map(Some)) {
            Ok(outcome) => outcome,
            Err(refusal) => {
                hold.stop(&refusal.message()).await;
                return Err(refusal);
            }
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
    if refusal.is_passing() {
        return Err(refusal);
    }
    let status = tonic::Status::from(refusal);
    let reason = tonic_types::StatusExt::get_error_details(&status).error_info().map_or_else(String::new, |info| info.reason.clone());
    Ok(Outcome::Failed { code: status.code() as i32, reason, message: status.message().to_owned() })
}
