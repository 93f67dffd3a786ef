//! Pure decisions: conditions, segments, identity linking, journeys, gates, sends, templates.
//!
//! No clock, no randomness, no IO, no async, no logging: every answer is a function of the arguments.
//! The engine works on the stored forms of `waypost_codec::{inbox, state}` directly; what is stored is
//! data with a version, and a second set of the same structs would only have to be kept in step.

pub mod address;
pub mod apply;
pub mod condition;
pub mod consent;
pub mod definitions;
pub mod dispatch;
pub mod drain;
pub mod explain;
pub mod facts;
pub mod identity;
pub mod journey;
pub mod library;
pub mod localtime;
pub mod manifest;
mod membership;
pub mod merge;
pub mod person;
pub mod record_id;
pub mod segment;
pub mod template;
pub mod version;
