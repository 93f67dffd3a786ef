//! Metrics: one registry a process, as a value, and one struct a concern.
//!
//! Labels are words of the code, names of definitions and numbers of partitions: never an id, an address or anything that
//! somebody sent. A family has at most [`MOST_SERIES`] lines; what comes beyond is left out and counted.

mod door;
mod family;
mod histogram;
mod labels;
mod process;
mod reading;
mod register;
mod requests;
mod role;
mod sends;

use std::fmt;

use prometheus_client::{encoding::text, registry::Registry};

pub use door::{DoorMetrics, SourceKind};
pub use family::MOST_SERIES;
pub use process::ProcessMetrics;
pub use reading::{Point, PointValue, Reading};
pub use register::{Described, Kind};
pub use requests::ControlMetrics;
pub use role::{CommitResult, Counted, PartitionState, RoleMetrics, RoleState};
pub use sends::{SendMetrics, WayState};

use self::register::{Readers, Register};

/// What `/metrics` is, for its `content-type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a process.
pub struct Metrics {
    registry: Registry,
    readers: Readers,
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
        let (registry, readers) = register.end();
        Self { registry, readers, door, roles, sends, control, process }
    }

    /// As Prometheus reads them.
    pub fn encode(&self) -> String {
        let mut shown = String::with_capacity(16 << 10);
        // Writing to a text does not fail, and no label or value refuses to be written.
        text::encode(&mut shown, &self.registry).unwrap_or_default();
        shown
    }

    /// What each is.
    pub fn described(&self) -> impl Iterator<Item = &Described> {
        self.readers.iter().map(|(described, _)| described)
    }

    /// What each says now.
    pub fn read(&self) -> Vec<Reading> {
        self.readers.iter().map(|(described, read)| Reading { described: *described, points: read() }).collect()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("registry", &self.registry).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
