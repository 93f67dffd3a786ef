//! The reporter: what journeys have done, counted by the hour from the public topics (PRODUCT §9.1), each row once.
//!
//! Each control process counts all partitions for itself and answers from its memory; every few seconds it writes what has changed
//! to `wp1.reports`, from where the next process goes on, also when the public topics have let the rows go. [`fold`] says why that
//! is exact with any number of processes, and without a group.

mod fold;
mod measure;
mod packed;
mod reader;
mod record;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use waypost_runtime::ports::{Clock, Log};
use waypost_types::{Span, Timestamp};

use self::{fold::Fold, record::Place};
pub(crate) use self::{
    fold::{begin_of, hour_of},
    measure::{Series, What},
};
use crate::status::Refusal;

/// The topic of figures, without prefix.
const TOPIC: &str = "wp1.reports";
/// Cells in memory, of all partitions together: some 400 MB.
const CELLS: usize = 4_000_000;
/// How often what has changed is written, and the ends of the topics are asked for.
const EVERY: Duration = Duration::from_secs(5);

/// What journeys have done, as this process has counted it; cheap to clone.
#[derive(Clone)]
pub struct Reports {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    prefix: String,
    /// Of this process, and of no other ever.
    life: u64,
    /// Hours that are kept.
    hours: u32,
    every: Duration,
    state: Arc<Mutex<State>>,
}

/// Whether there are figures.
#[derive(Clone, Debug)]
enum State {
    /// What was written before is being read.
    Beginning,
    /// There is no topic for them.
    NoTopic,
    /// They are here.
    Counting(Arc<[Part]>),
}

/// One partition of a public topic.
#[derive(Debug)]
pub(crate) struct Part {
    place: Place,
    fold: Mutex<Fold>,
    /// Everything that was written until then is counted, ms; 0: not yet known.
    as_of: AtomicI64,
}

// === impl Reports ===

impl Reports {
    /// Figures are kept for so many days. `life` is drawn at random for each process.
    pub fn new(log: Arc<dyn Log>, clock: Arc<dyn Clock>, prefix: &str, life: u64, days: u32) -> Self {
        let state = Arc::new(Mutex::new(State::Beginning));
        Self { log, clock, prefix: prefix.to_owned(), life, hours: days.saturating_mul(24), every: EVERY, state }
    }

    /// With another time between two writes.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// How far what is told here lies behind now; none where nothing is counted yet.
    pub fn lag(&self) -> Option<Span> {
        let as_of = self.parts().ok().and_then(|parts| as_of(&parts))?;
        Some(self.clock.now().since(as_of).max(Span::ZERO))
    }

    /// The partitions.
    pub(crate) fn parts(&self) -> Result<Arc<[Part]>, Refusal> {
        match &*self.state() {
            State::Counting(parts) => Ok(Arc::clone(parts)),
            State::Beginning => {
                Err(Refusal::Unavailable("this server has just begun and still reads what was counted; try again".to_owned()))
            }
            State::NoTopic => {
                let topic = format!("{}{TOPIC}", self.prefix);
                let message = format!(
                    "there is no topic {topic}, in which journeys' figures are kept: run `waypost init` again, which makes it; counting \
                     begins within a minute, with all that the public topics still have"
                );
                Err(Refusal::Precondition("NO_TOPIC", message))
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reports").field("prefix", &self.prefix).field("hours", &self.hours).finish_non_exhaustive()
    }
}

/// Everything that was written until then is counted in all of them; none: not yet known.
pub(crate) fn as_of(parts: &[Part]) -> Option<Timestamp> {
    parts.iter().map(Part::as_of).min().flatten()
}

// === impl Part ===

impl Part {
    fn new(fold: Fold) -> Self {
        Self { place: fold.place(), fold: Mutex::new(fold), as_of: AtomicI64::new(0) }
    }

    pub(crate) fn fold(&self) -> MutexGuard<'_, Fold> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn as_of(&self) -> Option<Timestamp> {
        let ms = self.as_of.load(Ordering::Relaxed);
        (ms > 0).then(|| Timestamp::from_millis(ms))
    }

    fn is_through(&self, at: Timestamp) {
        self.as_of.fetch_max(at.millis(), Ordering::Relaxed);
    }
}
