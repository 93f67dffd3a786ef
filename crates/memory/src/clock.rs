//! Time that moves only when told to.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use tokio::sync::watch;
use waypost_types::{Span, Timestamp};

/// A clock that is set by hand; clones show the same time.
#[derive(Clone, Debug)]
pub struct VirtualClock {
    time: Arc<watch::Sender<Timestamp>>,
    /// The same, in ms: asked for far more often than it moves.
    ms: Arc<AtomicI64>,
}

// === impl VirtualClock ===

impl VirtualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self { time: Arc::new(watch::Sender::new(start)), ms: Arc::new(AtomicI64::new(start.millis())) }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.ms.load(Ordering::Acquire))
    }

    /// Moves to `instant`; an earlier one changes nothing, since a clock never goes back.
    pub fn advance_to(&self, instant: Timestamp) {
        self.time.send_if_modified(|now| {
            let later = instant > *now;
            if later {
                *now = instant;
                self.ms.store(instant.millis(), Ordering::Release);
            }
            later
        });
    }

    /// Moves on by `span`.
    pub fn advance(&self, span: Span) {
        self.advance_to(self.now().plus(span));
    }

    /// Tells of every move; for those who sleep.
    pub fn watch(&self) -> watch::Receiver<Timestamp> {
        self.time.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back() {
        let clock = VirtualClock::new(Timestamp::from_millis(5));
        clock.advance(Span::from_millis(3));
        clock.advance_to(Timestamp::from_millis(2));
        assert_eq!(clock.now(), Timestamp::from_millis(8));
    }
}
