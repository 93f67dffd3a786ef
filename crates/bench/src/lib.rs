//! What Waypost costs: traffic like a shop's, and harnesses that measure what it takes to follow it.
//!
//! The reference is the design's performance text; every figure names the command that shows it.

pub mod calls;
pub mod cart1;
pub mod costs;
pub mod drive;
pub mod guards;
pub mod record;
pub mod reminders;
pub mod scaling;
pub mod shop;
pub mod sights;
pub mod stages;
pub mod traffic;
