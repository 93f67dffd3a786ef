//! Metrics: one registry a process, as a value, and one struct a concern.
//!
//! Labels are words of the code, names of definitions and numbers of partitions: never an id, an address or anything that
//! somebody sent. A family has at most [`MOST_SERIES`] lines; what comes beyond is left out and counted.

mod door;
mod family;
mod histogram;
mod labels;
mod process;
mod register;
mod requests;
mod role;
mod sends;

use prometheus_client::{encoding::text, registry::Registry};

pub use door::{DoorMetrics, SourceKind};
pub use family::MOST_SERIES;
pub use process::ProcessMetrics;
pub use register::{Described, Kind};
pub use requests::ControlMetrics;
pub use role::{CommitResult, Counted, PartitionState, RoleMetrics, RoleState};
pub use sends::{SendMetrics, WayState};

use self::register::Register;

/// What `/metrics` is, for its `content-type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    described: Vec<Described>,
    /// The doors.
    pub door: DoorMetrics,
    /// The keyed roles.
    pub roles: RoleMetrics,
    /// The sender's calls.
    pub sends: SendMetrics,
    /// The control API.
    pub control: ControlMetrics,
    /// The process, and what it depends on.
    pub process: ProcessMetrics,
}

// === impl Metrics ===

impl Metrics {
    /// All of them, at nothing; `version` is this binary's, `engine` the newest that it folds with.
    pub fn new(version: &str, engine: u32) -> Self {
        let mut register = Register::default();
        let process = ProcessMetrics::new(&mut register, version, engine);
        let roles = RoleMetrics::new(&mut register);
        let door = DoorMetrics::new(&mut register, roles.dead_letters.clone());
        let sends = SendMetrics::new(&mut register);
        let control = ControlMetrics::new(&mut register);
        let (registry, described) = register.end();
        Self { registry, described, door, roles, sends, control, process }
    }

    /// As Prometheus reads them.
    pub fn encode(&self) -> String {
        let mut shown = String::with_capacity(16 << 10);
        // Writing to a text does not fail, and no label or value refuses to be written.
        text::encode(&mut shown, &self.registry).unwrap_or_default();
        shown
    }

    /// What each is.
    pub fn described(&self) -> &[Described] {
        &self.described
    }
}

#[cfg(test)]
mod tests;
