//! Work that outlasts its call: what was begun, how far it is, and who works on it (`wp1.operations`).
//!
//! A record is the whole state of an operation as one process knows it. The topic is compacted, and each writer has a key of its own
//! for each operation, so compaction keeps the last word of each; of several words the greatest counts, whatever order they come in:
//! an end before anything, then the later attempt. A process that works says so every few seconds. Of one that has said nothing for
//! longer than any append of its can still be under way another takes the operation over.
//!
//! Nothing rests on there being one worker: the audit topic decides, letter by letter, who puts it back. What a dead worker wrote down
//! and may have done or not is looked for in the log, and only what is not there is done ([`doubt`]).

mod board;
mod bulk;
mod doubt;
mod record;
mod service;
mod store;
mod walk;
mod worker;

pub(crate) use self::{
    doubt::Doubt,
    store::{Hold, Operations},
};

/// What an operation is called.
pub(crate) fn name(id: &str) -> String {
    format!("operations/{id}")
}
