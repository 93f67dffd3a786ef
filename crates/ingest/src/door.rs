//! Until `waypost_runtime::door` is there.

use async_trait::async_trait;
use waypost_codec::frame::Record;
use waypost_types::Role;

/// Not appended, or unknown whether.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log does not answer: {0}")]
pub struct DoorError(pub String);

/// Appends records to inboxes.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// Answers when all are acknowledged.
    async fn append(&self, records: Vec<(Role, Record)>) -> Result<(), DoorError>;
}
