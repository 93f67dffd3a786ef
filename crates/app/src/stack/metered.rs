//! The store, watched on its way: what commits take, what comes of them, and whether it answers at all.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use waypost_runtime::{
    digest::Part,
    host::Stopwatch,
    ports::{
        AuditReply, ClaimReply, Clock, Commit, CommitReply, Deaths, InitReply, Install, Read, ReadReply, ReleaseReply, Store, StoreError,
        Token,
    },
};
use waypost_telemetry::metrics::{CommitResult, RoleMetrics};
use waypost_types::{PartitionId, Timestamp};

/// The store behind a watch.
pub(super) struct Metered {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    roles: RoleMetrics,
    answers: Arc<Answers>,
}

/// Whether the store answers.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Option<Answer>>);

/// Its last answer, or how long it has given none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has answered.
    Good,
    /// It has given none, or refused, since then.
    NoneSince(Timestamp),
}

// === impl Answers ===

impl Answers {
    /// None: it has not been asked.
    pub(super) fn last(&self) -> Option<Answer> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, is_good: bool, now: Timestamp) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = match *last {
            _ if is_good => Some(Answer::Good),
            silent @ Some(Answer::NoneSince(_)) => silent,
            Some(Answer::Good) | None => Some(Answer::NoneSince(now)),
        };
    }
}

// === impl Metered ===

impl Metered {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, roles: RoleMetrics) -> Self {
        Self { store, clock, roles, answers: Arc::default() }
    }

    pub(super) fn answers(&self) -> Arc<Answers> {
        Arc::clone(&self.answers)
    }

    fn heard<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.answers.heard(answer.is_ok(), self.clock.now());
        answer
    }
}

fn result(reply: &Result<CommitReply, StoreError>) -> CommitResult {
    match reply {
        Ok(CommitReply::Ok | CommitReply::Already) => CommitResult::Ok,
        Ok(CommitReply::Moved(_) | CommitReply::Fenced | CommitReply::Uninit | CommitReply::BadArg | CommitReply::Torn)
        | Err(StoreError::Refused(_)) => CommitResult::Refused,
        Err(StoreError::Unknown(_)) => CommitResult::Unknown,
    }
}

#[async_trait]
impl Store for Metered {
    async fn init(&self, partition: PartitionId, install: &Install) -> Result<InitReply, StoreError> {
        self.heard(self.store.init(partition, install).await)
    }

    async fn claim(&self, partition: PartitionId, token: Token, install: &Install) -> Result<ClaimReply, StoreError> {
        self.heard(self.store.claim(partition, token, install).await)
    }

    async fn release(&self, partition: PartitionId, token: Token) -> Result<ReleaseReply, StoreError> {
        self.heard(self.store.release(partition, token).await)
    }

    async fn commit(&self, partition: PartitionId, commit: &Commit) -> Result<CommitReply, StoreError> {
        let began = Stopwatch::start();
        let reply = self.store.commit(partition, commit).await;
        self.roles.committed(partition.role.as_str(), result(&reply), began.seconds());
        self.heard(reply)
    }

    async fn read(&self, partition: PartitionId, read: &Read) -> Result<ReadReply, StoreError> {
        self.heard(self.store.read(partition, read).await)
    }

    async fn audit(&self, partition: PartitionId, part: Part) -> Result<AuditReply, StoreError> {
        self.heard(self.store.audit(partition, part).await)
    }

    async fn deaths(&self, partition: PartitionId) -> Result<Option<Deaths>, StoreError> {
        self.heard(self.store.deaths(partition).await)
    }

    async fn note_deaths(&self, partition: PartitionId, deaths: Option<Deaths>) -> Result<(), StoreError> {
        self.heard(self.store.note_deaths(partition, deaths).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_its_beginning() {
        let (answers, at) = (Answers::default(), Timestamp::from_millis);
        assert_eq!(answers.last(), None);
        for (is_good, now, expected) in [
            (false, 1, Answer::NoneSince(at(1))),
            (false, 2, Answer::NoneSince(at(1))),
            (true, 3, Answer::Good),
            (true, 4, Answer::Good),
            (false, 5, Answer::NoneSince(at(5))),
        ] {
            answers.heard(is_good, at(now));
            assert_eq!(answers.last(), Some(expected), "at {now}");
        }
    }
}
