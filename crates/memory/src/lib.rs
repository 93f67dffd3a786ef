//! Log, store and clock in memory, with the replies of the real ones (PROTOCOL §15) and the levers that
//! the simulator needs; and [`Embedded`], which drives machines over them on one thread.
//!
//! The cores here are synchronous; the async ports are thin wrappers around them.

pub mod clock;
pub mod contract;
pub mod embedded;
pub mod log;
pub mod port;
pub mod store;

pub use clock::VirtualClock;
pub use embedded::{Embedded, Parts, Seeded};
pub use log::MemoryLog;
pub use port::LogPort;
pub use store::MemoryStore;
