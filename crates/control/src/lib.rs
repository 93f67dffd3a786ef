//! The control plane: definitions, journeys, profiles, write keys, over gRPC.
//!
//! It decides nothing about people: it puts definitions in force by records in the inboxes, and answers
//! questions from what the partitions' owners hold.

mod catalog;
mod changes;
mod definitions;
mod journal;
mod journeys;
mod lookup;
mod names;
mod present;
mod profiles;
mod server;
mod sources;
mod status;

pub use catalog::{Catalog, Following, control_topic, definitions_topic};
pub use changes::{ChangeError, Changes};
pub use journal::{Entry, Journal};
pub use lookup::{Found, LookupError};
pub use server::{Control, Normalise};
