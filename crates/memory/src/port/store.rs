//! The ports `Store` and `Upkeep` on the store in memory. They never wait.

use async_trait::async_trait;
use waypost_runtime::{
    digest::Part,
    ports::{
        AuditReply, ClaimReply, Commit, CommitReply, Deaths, InitReply, Install, Read, ReadReply, ReleaseReply, Store, StoreError, Token,
    },
    upkeep::{Head, Snapshot, Upkeep, UpkeepReply},
};
use waypost_types::PartitionId;

use crate::{
    MemoryStore,
    store::{Dump, Owner},
};

#[async_trait]
impl Store for MemoryStore {
    async fn init(&self, partition: PartitionId, install: &Install) -> Result<InitReply, StoreError> {
        Self::init(self, partition, install)
    }

    async fn claim(&self, partition: PartitionId, token: Token, install: &Install) -> Result<ClaimReply, StoreError> {
        Self::claim(self, partition, token, install)
    }

    async fn release(&self, partition: PartitionId, token: Token) -> Result<ReleaseReply, StoreError> {
        Self::release(self, partition, token)
    }

    async fn commit(&self, partition: PartitionId, commit: &Commit) -> Result<CommitReply, StoreError> {
        Self::commit(self, partition, commit)
    }

    async fn read(&self, partition: PartitionId, read: &Read) -> Result<ReadReply, StoreError> {
        Self::read(self, partition, read)
    }

    async fn audit(&self, partition: PartitionId, part: Part) -> Result<AuditReply, StoreError> {
        Self::audit(self, partition, part)
    }

    async fn deaths(&self, partition: PartitionId) -> Result<Option<Deaths>, StoreError> {
        Self::deaths(self, partition)
    }

    async fn note_deaths(&self, partition: PartitionId, deaths: Option<Deaths>) -> Result<(), StoreError> {
        Self::note_deaths(self, partition, deaths)
    }
}

#[async_trait]
impl Upkeep for MemoryStore {
    async fn head(&self, partition: PartitionId) -> Result<Option<Head>, StoreError> {
        Ok(self.dump(partition).map(|Dump { install, own, off, meta, sequences, .. }| {
            let frozen = if let Owner::Frozen(operation) = own { Some(operation) } else { None };
            Head { install, frozen, off, meta, sequences }
        }))
    }

    async fn snapshot(&self, partition: PartitionId) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.dump(partition).map(|Dump { install, off, meta, sequences, timers, entities, .. }| Snapshot {
            install,
            off,
            meta,
            sequences,
            timers,
            entities,
        }))
    }

    async fn freeze(&self, partition: PartitionId, operation: &str) -> Result<UpkeepReply, StoreError> {
        match self.dump(partition).map(|dump| dump.own) {
            Some(Owner::Frozen(other)) if other != operation => Ok(UpkeepReply::Held(other)),
            Some(Owner::None | Owner::Worker(_) | Owner::Frozen(_)) | None => {
                Self::freeze(self, partition, operation);
                Ok(UpkeepReply::Ok)
            }
        }
    }

    async fn thaw(&self, partition: PartitionId, operation: &str) -> Result<UpkeepReply, StoreError> {
        match self.dump(partition).map(|dump| dump.own) {
            Some(Owner::Frozen(own)) if own == operation => {
                Self::thaw(self, partition);
                Ok(UpkeepReply::Ok)
            }
            Some(Owner::Frozen(other)) => Ok(UpkeepReply::Held(other)),
            Some(Owner::None | Owner::Worker(_)) | None => Ok(UpkeepReply::Held(String::new())),
        }
    }

    async fn replace(&self, partition: PartitionId, operation: &str, snapshot: &Snapshot) -> Result<UpkeepReply, StoreError> {
        let here = Upkeep::freeze(self, partition, operation).await?;
        if here == UpkeepReply::Ok {
            let Snapshot { install, off, meta, sequences, timers, entities } = snapshot.clone();
            self.restore(partition, Dump { install, own: Owner::None, off, meta, sequences, timers, entities });
        }
        Ok(here)
    }
}
