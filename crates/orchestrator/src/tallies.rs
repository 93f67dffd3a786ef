//! What the orchestrator tallies ([`Tally::what`](waypost_runtime::figures::Tally::what)).

/// A run began: journey and version.
pub const ENTERED: &str = "entered";
/// A run ended: journey and reason.
pub const EXITED: &str = "exited";
/// A send was stopped before the sender heard of it: reason.
pub const STOPPED: &str = "stopped";
