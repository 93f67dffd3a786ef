//! The topic, followed and written to.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};
use waypost_runtime::{
    install::OPERATIONS,
    ports::{Append, Clock, Log, LogError, Producer, Tail},
};

use super::{
    board::{BEAT, Board, SURE},
    record::{Record, State},
};
use crate::status::Refusal;

/// How long a process may take to read what the topic has.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what cannot be read is left alone.
const AGAIN: Duration = Duration::from_secs(2);
/// An attempt of which nothing has moved for so long is given up: what it waits for may never answer.
const STALLED: Duration = Duration::from_mins(1);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Operations, as this process knows them; cheap to clone.
#[derive(Clone)]
pub(crate) struct Operations {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    topic: String,
    board: Arc<watch::Sender<Board>>,
    producer: Arc<Mutex<Option<Arc<dyn Producer>>>>,
    closing: Arc<watch::Sender<bool>>,
    /// Random name of this process's life.
    life: Arc<str>,
}

/// One attempt at an operation: what its worker says of it, and whether it still may.
pub(crate) struct Hold {
    operations: Operations,
    said: Mutex<Said>,
    /// Counts what was read, looked at and done.
    moves: AtomicU64,
}

struct Said {
    state: State,
    /// When the last word was begun that the log has: nobody heard it earlier.
    heard: Instant,
}

/// What was told of a log that cannot be read, so that it is told once.
#[derive(Default)]
struct Told(Option<LogError>);

// === impl Operations ===

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operations").field("topic", &self.topic).field("life", &self.life).finish_non_exhaustive()
    }
}

impl Operations {
    pub(crate) fn new(log: Arc<dyn Log>, clock: Arc<dyn Clock>, prefix: &str, life: &[u8]) -> Self {
        let (board, closing) = (Arc::new(watch::Sender::new(Board::default())), Arc::new(watch::Sender::new(false)));
        let (topic, life) = (format!("{prefix}{OPERATIONS}"), hex::encode(life).into());
        Self { log, clock, topic, board, producer: Arc::default(), closing, life }
    }

    /// Ends what works here, each behind what it is about.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    pub(super) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    pub(super) fn board(&self) -> watch::Receiver<Board> {
        self.board.subscribe()
    }

    pub(super) fn life(&self) -> &str {
        &self.life
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now().millis()
    }

    /// Reads the topic from its start, and on; never ends. An installation from before there was one has none yet.
    pub(super) async fn follow(&self) {
        let mut told = Told::default();
        loop {
            if let Err(error) = self.read_on(&mut told).await
                && told.is_news(&error)
            {
                tracing::warn!(%error, "operations cannot be read, trying again");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn read_on(&self, told: &mut Told) -> Result<(), LogError> {
        self.there().await?;
        let (start, end) = self.log.watermarks(&self.topic, 0).await?;
        self.board.send_if_modified(|board| {
            // The topic was deleted and made anew, and what it had is gone.
            let is_anew = board.next > end;
            if is_anew {
                *board = Board::default();
            }
            let is_behind = board.next < start;
            board.next = board.next.max(start);
            is_anew || is_behind
        });
        let next = self.board.borrow().next;
        let mut tail: Box<dyn Tail> = self.log.tail(&self.topic, 0, next).await?;
        loop {
            let delivery = tail.next().await?;
            *told = Told::default();
            if let Some(delivery) = delivery {
                self.board.send_modify(|board| board.fold(&delivery, Instant::now()));
            }
        }
    }

    async fn there(&self) -> Result<(), LogError> {
        self.log.describe(&self.topic).await?.map(drop).ok_or(LogError::Unknown)
    }

    /// Everything that stands in the topic now.
    pub(super) async fn fresh(&self) -> Result<Board, Refusal> {
        let absent = |error| match error {
            LogError::Unknown => Refusal::Precondition("NO_TOPIC", format!("there is no topic {}: `waypost init` makes it", self.topic)),
            LogError::OutOfRange | LogError::Unavailable(_) => Refusal::from(error),
        };
        self.there().await.map_err(absent)?;
        let next = self.board.borrow().next;
        let (_, end) = self.log.watermarks(&self.topic, 0).await?;
        if next > end {
            return Err(Refusal::Unavailable("operations are read anew here; try again".to_owned()));
        }
        self.read_to(end).await
    }

    async fn read_to(&self, next: u64) -> Result<Board, Refusal> {
        let late = || Refusal::Unavailable("operations have not been read here yet; try again".to_owned());
        let mut board = self.board();
        let read = tokio::time::timeout(PATIENCE, board.wait_for(|board| board.next >= next)).await;
        Ok(read.map_err(|_| late())?.map_err(|_| late())?.clone())
    }

    /// Queues a record now; the answer is there when the log has it, with its offset.
    fn queue(&self, record: &Record) -> Result<impl Future<Output = Result<u64, Refusal>> + Send + use<>, Refusal> {
        let key = Some(Bytes::from(record.key()));
        // a struct of texts and numbers always has a JSON form
        let payload = serde_json::to_vec(record).unwrap_or_default().into();
        let append = Append { topic: self.topic.clone(), partition: 0, key, headers: Vec::new(), payload };
        let mut current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let producer = match &*current {
            Some(producer) => Arc::clone(producer),
            None => Arc::clone(current.insert(self.log.producer()?)),
        };
        let (queued, forget) = (producer.append(append), Arc::clone(&self.producer));
        Ok(async move {
            queued.await.map_err(|error| {
                *forget.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Refusal::Unavailable(error.to_string())
            })
        })
    }

    /// Writes a record, and reads it back.
    pub(super) async fn write(&self, record: &Record) -> Result<Board, Refusal> {
        let offset = self.queue(record)?.await?;
        self.read_to(offset + 1).await
    }
}

// === impl Told ===

impl Told {
    /// Whether somebody is to hear of it. An absent topic is told by whoever asks for an operation.
    fn is_news(&mut self, error: &LogError) -> bool {
        let is_news = self.0.as_ref() != Some(error);
        self.0 = Some(error.clone());
        is_news && *error != LogError::Unknown
    }
}

// === impl Hold ===

impl Hold {
    /// `heard`: from before its first word was written.
    pub(super) fn new(operations: Operations, state: State, heard: Instant) -> Self {
        Self { operations, said: Mutex::new(Said { state, heard }), moves: AtomicU64::new(0) }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> State {
        self.said().state.clone()
    }

    /// Says how it stands now. Words are queued in the order in which they are said.
    pub(super) async fn tell(&self, change: impl FnOnce(&mut State) + Send) -> Result<(), Refusal> {
        // Whoever reads it has it no earlier than now, however late its acknowledgement comes.
        let begun = Instant::now();
        let queued = {
            let mut said = self.said();
            change(&mut said.state);
            self.operations.queue(&Record::State(Box::new(said.state.clone())))?
        };
        queued.await?;
        let mut said = self.said();
        said.heard = said.heard.max(begun);
        Ok(())
    }

    /// Says the same again and again; ends when that is not heard.
    pub(super) async fn beat(&self) -> Refusal {
        loop {
            tokio::time::sleep(BEAT).await;
            if let Err(refusal) = self.tell(|_| ()).await {
                return refusal;
            }
        }
    }

    /// Says that the attempt goes on: something was read, looked at or done.
    pub(crate) fn moved(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends when nothing has moved for long. A log that is away may never answer, and the beats beside go on.
    pub(super) async fn stalled(&self) -> Refusal {
        let (mut seen, mut since) = (self.moves.load(Ordering::Relaxed), Instant::now());
        while since.elapsed() < STALLED {
            tokio::time::sleep(LOOK).await;
            let moves = self.moves.load(Ordering::Relaxed);
            if moves != seen {
                (seen, since) = (moves, Instant::now());
            }
        }
        Refusal::Unavailable(format!("a log has not answered for {} s", STALLED.as_secs()))
    }

    /// Says what the attempt is given up for, where the log takes it soon.
    pub(super) async fn stop(&self, why: &str) {
        let said = tokio::time::timeout(PATIENCE, self.tell(|state| state.stopped_by(why))).await;
        if !matches!(said, Ok(Ok(()))) {
            tracing::debug!("why an attempt was given up is in no record");
        }
    }

    /// Ends when this process closes, or the operation's end was asked for, unless that is known.
    pub(super) async fn interrupted(&self, is_known: bool) {
        let id = self.said().state.id.clone();
        let (mut board, mut closing) = (self.operations.board(), self.operations.closing());
        tokio::select! {
            _ = board.wait_for(|board| !is_known && board.cancelled_by(&id).is_some()) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }

    /// Whether nobody can have taken the operation over yet.
    pub(crate) fn is_sure(&self) -> bool {
        let said = self.said();
        let board = self.operations.board.borrow();
        let held = board.get(&said.state.id).is_some_and(|known| known.state.is_of(&said.state.worker, said.state.attempt));
        held && said.heard.elapsed() < SURE
    }

    /// Whether its end was asked for.
    pub(super) fn is_cancelled(&self) -> bool {
        let id = self.said().state.id.clone();
        self.operations.board.borrow().cancelled_by(&id).is_some()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.operations.is_closing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_away_is_told_of_once() {
        let away = |why: &str| LogError::Unavailable(why.to_owned());
        let mut told = Told::default();
        let heard = [away("a"), away("a"), away("b"), LogError::Unknown, LogError::Unknown, away("b")].map(|error| told.is_news(&error));
        assert_eq!(heard, [true, false, true, false, false, true]);
    }
}
