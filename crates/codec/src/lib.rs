//! Bytes ↔ meaning: frames of the inboxes, values, public Avro topics, the port to a schema registry.

pub mod avro;
pub mod frame;
pub mod kind;
pub mod public;
pub mod schemas;
pub mod stored;
pub mod unsubscribe;
pub mod value;
pub mod view;
pub mod wire;
pub mod write_key;

pub use waypost_proto::{inbox, state};
