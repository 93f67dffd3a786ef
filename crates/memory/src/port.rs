//! The async ports over the synchronous cores.

mod clock;
mod group;
mod log;
mod store;

pub use log::LogPort;
