//! Whether a provider is worth a call (PROTOCOL §11.1). Of this process and unlogged: an open circuit only keeps
//! attempts from being proposed, and the dispatches ask again.
//!
//! ```text
//! CLOSED ─8 failures in a row, or bad credentials→ OPEN for a pause ─over→ TRIAL of one call ─taken→ CLOSED
//!                                                    ▲──────────── twice the pause ─failed─┘
//! ```

use waypost_codec::inbox::Outcome;
use waypost_types::{Span, Timestamp};

/// Failures in a row that open it.
const FAILURES: u32 = 8;
const FIRST_PAUSE: Span = Span::from_secs(1);
const LONGEST_PAUSE: Span = Span::from_secs(60);
/// A trial of which nothing was heard; longer than most calls, and SMTP's longest are no reason to wait.
const TRIAL_LOST: Span = Span::from_secs(60);

/// The circuit of one channel's provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Circuit {
    /// In a row.
    failures: u32,
    /// The present pause, or the one before this trial.
    pause: Span,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open(Timestamp),
    Trial(Timestamp),
}

// === impl Circuit ===

impl Circuit {
    /// Whether an attempt may be proposed; of an open circuit whose pause is over, one.
    pub(crate) fn admits(&mut self, now: Timestamp) -> bool {
        match self.state {
            State::Closed => true,
            State::Open(until) if now < until => false,
            State::Trial(since) if now.since(since) < TRIAL_LOST => false,
            State::Open(_) | State::Trial(_) => {
                self.state = State::Trial(now);
                true
            }
        }
    }

    /// What came of a call.
    pub(crate) fn heard(&mut self, outcome: Outcome, now: Timestamp) {
        match outcome {
            // It answered for itself, whatever it thought of the message.
            Outcome::Accepted | Outcome::PermanentRecipient | Outcome::PermanentContent => *self = Self::default(),
            Outcome::Transient | Outcome::Throttled | Outcome::Auth | Outcome::Unknown => {
                self.failures = self.failures.saturating_add(1);
                let opens = match self.state {
                    State::Closed => self.failures >= FAILURES || outcome == Outcome::Auth,
                    State::Trial(_) => true,
                    // Of a call that was under way.
                    State::Open(_) => false,
                };
                if opens {
                    let doubled = Span::from_millis(self.pause.millis().saturating_mul(2));
                    self.pause = doubled.clamp(FIRST_PAUSE, LONGEST_PAUSE);
                    self.state = State::Open(now.plus(self.pause));
                }
            }
            Outcome::Stopped | Outcome::Unspecified => {}
        }
    }

    /// Whether messages are held back.
    pub(crate) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// What was admitted came to no call: another may be the trial.
    pub(crate) fn untried(&mut self, now: Timestamp) {
        if let State::Trial(_) = self.state {
            self.state = State::Open(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000);

    fn opened() -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES {
            assert!(circuit.admits(T0));
            circuit.heard(Outcome::Unknown, T0);
        }
        circuit
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_success_starts_the_count_again() {
        let mut circuit = Circuit::default();
        for _ in 0..100 {
            for _ in 1..FAILURES {
                circuit.heard(Outcome::Transient, T0);
            }
            circuit.heard(Outcome::PermanentRecipient, T0);
            assert!(circuit.admits(T0));
        }
        assert!(!opened().admits(T0) && opened().is_open() && !circuit.is_open());
        let mut circuit = Circuit::default();
        circuit.heard(Outcome::Auth, T0);
        assert!(!circuit.admits(T0), "credentials do not mend by trying");
    }

    #[test]
    fn after_the_pause_one_call_is_tried() {
        let mut circuit = opened();
        let mut now = T0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let start = now;
            while !circuit.admits(now) {
                now = now.plus(Span::from_millis(500));
            }
            pauses.push(now.since(start).millis() / 1_000);
            assert!(!circuit.admits(now), "one");
            circuit.heard(Outcome::Throttled, now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!circuit.admits(now));
        now = now.plus(LONGEST_PAUSE);
        assert!(circuit.admits(now));
        circuit.heard(Outcome::Accepted, now);
        assert_eq!(circuit, Circuit::default());
    }

    #[test]
    fn calls_under_way_do_not_lengthen_the_pause_and_lost_trials_are_made_again() {
        let mut circuit = opened();
        for _ in 0..100 {
            circuit.heard(Outcome::Unknown, T0);
        }
        let now = T0.plus(FIRST_PAUSE);
        assert!(circuit.admits(now));
        circuit.untried(now);
        assert!(circuit.admits(now));
        assert!(!circuit.admits(now.plus(Span::from_secs(59))));
        assert!(circuit.admits(now.plus(TRIAL_LOST)));
    }
}
