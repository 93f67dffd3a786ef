//! The keyed exactly-once processor (PROTOCOL §4–8). It knows no profile and no journey.
//!
//! A role brings a [`Processor`]: which entities a record touches, how it folds, when its timers fire.
//! The runtime brings everything else, as state machines without IO: a [`Machine`] takes [`Input`]s
//! and answers [`Command`]s. Two drivers perform them: [`driver`] over the async ports [`Log`] and
//! [`Store`], and the deterministic ones of `memory` (embedded) and `sim` (seeded faults).

pub mod append;
pub mod backup;
mod cache;
pub mod channel_in;
pub mod channel_out;
pub mod config;
pub mod digest;
pub mod door;
pub mod driver;
pub mod figures;
pub mod finding;
pub mod host;
pub mod install;
mod late;
pub mod machine;
mod pace;
mod packer;
pub mod ports;
pub mod processor;
pub mod progress;
mod publisher;
pub mod refold;
pub mod repair;
mod role_machine;
mod timers;
pub mod tip;
pub mod upkeep;
mod worker;

pub use config::{Config, Rules};
pub use machine::{Command, Input, Machine};
pub use processor::{Entity, Fold, Poison, Processor};
pub use role_machine::RoleMachine;
