//! Avro on the public topics: Confluent framing, and the events that others write.

pub use event::{DecodeError, EventInput};
pub use framing::{FramingError, SchemaRef};

mod event;
mod framing;

/// The subject of a topic's values: the strategy that Waypost registers under.
pub fn subject(topic: &str) -> String {
    format!("{topic}-value")
}

pub use framing::{read, write};
