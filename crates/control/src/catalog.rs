//! The catalog: this process's copy of the control journal and of every definition's body.
//!
//! Every process follows `wp1.control` and `wp1.definitions`; folds wait until the bodies that a set names are here.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use waypost_engine::library::Library;
use waypost_runtime::ports::{Delivery, Log, LogError, Tail};

use crate::journal::Journal;

/// Partitions of `wp1.definitions`.
pub(crate) const DEFINITION_PARTITIONS: u32 = 8;

/// What a process knows of definitions, shared by its roles.
#[derive(Clone, Debug)]
pub struct Catalog {
    library: Arc<Library>,
    journal: watch::Receiver<Journal>,
    arrivals: watch::Receiver<u64>,
}

/// The tasks that keep a catalog current; dropping it stops them.
#[derive(Debug)]
pub struct Following {
    _tasks: tokio::task::JoinSet<()>,
}

/// Topic of definition bodies.
pub fn definitions_topic(prefix: &str) -> String {
    format!("{prefix}wp1.definitions")
}

/// Topic of the control journal.
pub fn control_topic(prefix: &str) -> String {
    format!("{prefix}wp1.control")
}

// === impl Catalog ===

impl Catalog {
    /// Reads both topics to their present ends, then follows them.
    ///
    /// # Errors
    /// When the log cannot be read to its present end.
    pub async fn follow(log: &Arc<dyn Log>, prefix: &str) -> Result<(Self, Following), LogError> {
        let library = Arc::new(Library::default());
        let (journal_in, journal) = watch::channel(Journal::default());
        let (arrivals_in, arrivals) = watch::channel(0_u64);
        let mut tasks = tokio::task::JoinSet::new();
        // All at once: each end is only known when a fetch has come back empty.
        let mut ends = Vec::new();
        for partition in 0..DEFINITION_PARTITIONS {
            let tail = log.tail(&definitions_topic(prefix), partition, 0).await?;
            let (library, arrivals) = (library.clone(), arrivals_in.clone());
            let (end, at_end) = oneshot::channel();
            ends.push(at_end);
            tasks.spawn(read(tail, end, move |record| {
                insert(&library, record.payload);
                arrivals.send_modify(|n| *n += 1);
            }));
        }
        let tail = log.tail(&control_topic(prefix), 0, 0).await?;
        let (end, at_end) = oneshot::channel();
        ends.push(at_end);
        tasks.spawn(read(tail, end, move |record| {
            journal_in.send_modify(|j| {
                j.fold(record.offset, &record.payload);
            });
            arrivals_in.send_modify(|n| *n += 1);
        }));
        for at_end in ends {
            at_end.await.map_err(|_| LogError::Unavailable("the reader ended".to_owned()))??;
        }
        Ok((Self { library, journal, arrivals }, Following { _tasks: tasks }))
    }

    /// Bodies and compiled sets.
    pub fn library(&self) -> &Arc<Library> {
        &self.library
    }

    /// The journal as folded so far; changes wake the receiver.
    pub fn journal(&self) -> watch::Receiver<Journal> {
        self.journal.clone()
    }

    /// Rises with everything that arrives.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.clone()
    }
}

/// Takes every record; says once when the present end is reached, or why it cannot be.
async fn read(mut tail: Box<dyn Tail>, end: oneshot::Sender<Result<(), LogError>>, mut take: impl FnMut(Delivery)) {
    let mut end = Some(end);
    loop {
        match (tail.next().await, end.take()) {
            (Ok(Some(record)), waiting) => {
                take(record);
                end = waiting;
            }
            // Whoever waited may be gone.
            (Ok(None), waiting) => drop(waiting.map(|end| end.send(Ok(())))),
            (Err(error), Some(waiting)) => {
                drop(waiting.send(Err(error)));
                return;
            }
            (Err(error), None) => {
                tracing::warn!(%error, "definitions or the control journal cannot be read, trying again");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

fn insert(library: &Library, body: Bytes) {
    if !body.is_empty() {
        library.insert(body);
    }
}
