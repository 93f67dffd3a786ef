//! The sender role: what `runtime` needs to run the engine's dispatch over `wp1.send`, and the calls
//! that its leading owner makes outside the fold.

mod calls;
mod circuit;
mod entity;
mod job;
mod message;
mod permits;
mod processor;
pub mod provider;
mod tally;

pub use calls::{Calls, Links, Shelf};
pub use entity::SenderEntity;
pub use processor::{STOPPED, SenderProcessor};
pub use provider::{Capabilities, Channel, HttpChannel, Idempotency, OnRepeat, OutgoingEmail, Provider, ProviderOutcome};
pub use tally::WayFigures;

#[cfg(test)]
mod tests;
