//! The port `Store` on the store in memory. It never waits.

use async_trait::async_trait;
use waypost_runtime::ports::{
    ClaimReply, Commit, CommitReply, InitReply, Install, Read, ReadReply, ReleaseReply, Store, StoreError, Token,
};
use waypost_types::PartitionId;

use crate::MemoryStore;

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
}
