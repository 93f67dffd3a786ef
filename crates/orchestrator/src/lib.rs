//! Orchestrator: who enters a journey, who leaves, who gets a message. One entity per profile; logic in
//! `waypost_engine::journey`.

mod processor;
mod profile;
mod rules;
pub mod tallies;

pub use processor::OrchestratorProcessor;
pub use profile::Profile;
pub use rules::Rules;
