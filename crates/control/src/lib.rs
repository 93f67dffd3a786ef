//! The control plane: definitions, journeys, profiles, write keys, over gRPC.
//!
//! It decides nothing about people: it puts definitions in force by records in the inboxes, and answers
//! questions from what the partitions' owners hold.

pub mod access;
mod audit;
mod auditing;
mod catalog;
mod changes;
mod definitions;
mod engines;
mod export;
mod journal;
mod journeys;
mod keys;
mod letters;
mod lookup;
mod mask;
mod names;
mod operations;
mod partitions;
mod people;
mod present;
mod profiles;
mod reading;
mod reports;
mod reread;
mod revisions;
mod runs;
mod server;
mod skips;
mod sources;
mod stats;
mod status;
mod tail;
#[cfg(feature = "tls")]
pub mod tls;
mod traces;
mod whoami;
mod workspaces;

pub use audit::{Act, Audit, Line};
pub use catalog::{Catalog, Following, control_topic, definitions_topic};
pub use changes::{ChangeError, Changes};
pub use engines::{EngineError, activate_engine, check_engine};
pub use journal::{Entry, Journal, Skip, SkipPlace};
pub use keys::{KeyLine, WriteKey, WriteKeys};
pub use lookup::{Found, Kept, LookupError, kept};
pub use people::{Place, erase_record};
pub use reports::Reports;
pub use reread::{Content, Reread};
pub use server::{Control, Normalise, bounded};
pub use traces::{NoSkip, Search};
