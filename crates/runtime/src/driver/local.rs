//! Reads of what this process owns.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use waypost_types::{EntityId, PartitionId, Role};

use super::Handle;
use crate::ports::{Offset, Owners, OwnersError};

/// The owners in this process: enough where all roles run in one, and what the private read service asks.
#[derive(Clone, Debug, Default)]
pub struct LocalOwners {
    handles: BTreeMap<Role, Handle>,
}

// === impl LocalOwners ===

impl LocalOwners {
    /// The owners behind these drivers.
    pub fn new(handles: impl IntoIterator<Item = Handle>) -> Self {
        Self { handles: handles.into_iter().map(|h| (h.role(), h)).collect() }
    }
}

#[async_trait]
impl Owners for LocalOwners {
    async fn read(&self, partition: PartitionId, entity: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError> {
        let not_here = |why: &str| OwnersError { partition, why: why.to_owned() };
        let handle = self.handles.get(&partition.role).ok_or_else(|| not_here("its role does not run in this process"))?;
        handle.read(partition.index, entity).await.ok_or_else(|| not_here("it is not led by this process"))
    }
}
