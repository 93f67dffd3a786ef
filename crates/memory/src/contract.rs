//! The promises of the ports (PROTOCOL §15), as one suite that memory, Kafka and Redis pass alike.
//!
//! A case panics where a promise is broken, with what was expected; a suite runs all of its cases, one
//! after the other, each on partitions or topics of its own.

#![expect(clippy::missing_panics_doc, reason = "a suite panics where a promise is broken")]

mod clock;
mod log;
mod servers;
mod store;

pub use clock::clock_suite;
pub use log::{LogFixture, log_suite};
pub use servers::{fresh_prefix, server};
pub use store::{Meddle, StoreFixture, store_suite};
