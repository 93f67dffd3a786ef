//! The doors: HTTP calls, the public Kafka topic, unsubscribe links. What is let in becomes an `EVENT`
//! record; what is not has a reason, the path of the offending field and what was expected.
//!
//! [`normalise`](normalise::normalise) is pure; the doors around it append and answer.

pub mod dead_letters;
pub mod events_door;
pub mod http;
pub mod kafka_event;
pub mod normalise;
pub mod ports;
pub mod reason;
pub mod segment_call;

mod identifiers;
mod json;
mod names;
mod told;

pub use dead_letters::LogDeadLetters;
pub use events_door::{EventsDoor, run_events_door, serve_events_door};
pub use http::{Connections, Ingest, IngestConfig, NotANetwork, NotAnOrigin, Origins, TrustedProxies, router, serve};
pub use identifiers::identifier;
pub use normalise::{Accepted, Env};
pub use ports::{DeadLetter, DeadLetters, Key, KeyRing, Keys, Rights};
pub use reason::{Reason, Rejection};
