//! What an operator may look at: made when somebody asks, and no more often than progress is looked at.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

use super::Driver;
use crate::{
    figures::{Figures, Spread},
    host::Stopwatch,
};

/// What a driver shows.
#[derive(Debug)]
pub(super) struct Shown {
    wanted: Arc<AtomicBool>,
    figures: watch::Sender<Arc<Figures>>,
    folds: Spread,
    has_joined: bool,
}

/// The way to look at it.
#[derive(Clone, Debug)]
pub(super) struct Look {
    wanted: Arc<AtomicBool>,
    figures: watch::Receiver<Arc<Figures>>,
}

// === impl Shown ===

impl Shown {
    pub(super) fn new() -> (Self, Look) {
        let (wanted, (figures, shown)) = (Arc::<AtomicBool>::default(), watch::channel(Arc::default()));
        let driver = Self { wanted: Arc::clone(&wanted), figures, folds: Spread::default(), has_joined: false };
        (driver, Look { wanted, figures: shown })
    }
}

// === impl Look ===

impl Look {
    /// Asks, and waits for the answer.
    pub(super) async fn fresh(&self) -> Arc<Figures> {
        let mut figures = self.figures.clone();
        figures.borrow_and_update();
        self.wanted.store(true, Ordering::Release);
        // a driver that has ended shows no more
        drop(figures.changed().await);
        self.last()
    }

    pub(super) fn last(&self) -> Arc<Figures> {
        Arc::clone(&self.figures.borrow())
    }
}

// === impl Driver ===

impl Driver {
    /// Does work in which records may be folded, and notes what one took.
    pub(super) fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let (before, began) = (self.machine.folded(), Stopwatch::start());
        let done = work(self);
        let folded = self.machine.folded().saturating_sub(before);
        if folded > 0 {
            self.shown.folds.add_mean(folded, began.micros());
        }
        done
    }

    /// Shows the figures, if somebody has asked for them.
    pub(super) fn show(&mut self, is_member: bool) {
        if self.shown.wanted.swap(false, Ordering::AcqRel) {
            let is_member = is_member || !self.membership.owned.is_empty();
            self.shown.has_joined |= is_member;
            let figures = Figures {
                at: self.ports.clock.now(),
                is_member,
                has_joined: self.shown.has_joined,
                counters: self.machine.counters(),
                folds: self.shown.folds,
                partitions: self.machine.figures(),
            };
            self.shown.figures.send_replace(Arc::new(figures));
        }
    }
}
