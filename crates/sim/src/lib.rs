//! The simulator (PROTOCOL §16): the real runtime and roles over `memory`, on one thread, one seed = one schedule.
//!
//! A [`world::World`] is drawn from a seed: how many partitions, which limits, which faults and how often, who
//! does what in the shop. At every step one small thing happens to one process: a record is delivered, a command
//! is carried out, an answer arrives, time moves, something breaks. At rest an oracle that shares no code with the
//! runtime folds every log again from its start and compares. [`run::run`] does it all for one seed.

pub mod chance;
mod fatal;
pub mod faults;
pub mod naive;
pub mod oracle;
mod process;
pub mod provider;
pub mod run;
pub mod scenario;
pub mod shop;
pub mod shrink;
pub mod story;
pub mod switches;
pub mod workload;
pub mod world;

pub use run::{Report, run};
pub use scenario::Scenario;
pub use switches::Switches;
