//! Identity: which person an identifier is. One entity per identifier; logic in `waypost_engine::identity`.

mod identifier;
mod processor;

pub use identifier::Identifier;
pub use processor::IdentityProcessor;
