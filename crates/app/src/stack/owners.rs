//! Private reads between processes: who owns a partition answers for it, over gRPC.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};
use waypost_proto::owner::{
    ReadEntityRequest, ReadEntityResponse,
    owner_service_client::OwnerServiceClient,
    owner_service_server::{OwnerService, OwnerServiceServer},
};
use waypost_runtime::{
    driver::LocalOwners,
    host::SystemClock,
    ports::{Clock as _, Offset, Owners, OwnersError},
    progress::Directory,
};
use waypost_types::{EntityId, PartitionId, Role};

/// How long an owner may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Answers for the partitions that this process owns.
#[derive(Clone, Debug)]
pub(super) struct Answering(pub(super) LocalOwners);

/// Asks whoever owns a partition, as the directory knows it.
pub(super) struct Asking {
    directory: Arc<Directory>,
    channels: tokio::sync::Mutex<BTreeMap<String, Channel>>,
}

// === impl Answering ===

impl Answering {
    pub(super) fn service(self) -> OwnerServiceServer<Self> {
        OwnerServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl OwnerService for Answering {
    async fn read_entity(&self, request: Request<ReadEntityRequest>) -> Result<Response<ReadEntityResponse>, Status> {
        let request = request.into_inner();
        let role = Role::from_number(request.role).ok_or_else(|| Status::invalid_argument("no such role"))?;
        let partition = PartitionId { role, index: request.partition };
        let read = self.0.read(partition, EntityId::from_bytes(&request.entity)).await;
        let (value, as_of) = read.map_err(|e| Status::unavailable(e.why))?;
        Ok(Response::new(ReadEntityResponse { found: value.is_some(), value: value.unwrap_or_default(), as_of }))
    }
}

// === impl Asking ===

impl Asking {
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        Self { directory, channels: tokio::sync::Mutex::default() }
    }

    async fn channel(&self, address: &str) -> Result<Channel, String> {
        let mut channels = self.channels.lock().await;
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
        let channel = endpoint.timeout(PATIENCE).connect_timeout(PATIENCE).connect_lazy();
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

#[async_trait]
impl Owners for Asking {
    async fn read(&self, partition: PartitionId, entity: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError> {
        let away = |why: String| OwnersError { partition, why };
        let owner = self.directory.owner(partition, SystemClock.now()).ok_or_else(|| away("nobody owns it at the moment".to_owned()))?;
        let channel = self.channel(&owner.address).await.map_err(away)?;
        let request = ReadEntityRequest {
            role: partition.role.number(),
            partition: partition.index,
            entity: Bytes::copy_from_slice(entity.as_bytes()),
        };
        let answer = OwnerServiceClient::new(channel).read_entity(request).await.map_err(|s| away(s.message().to_owned()))?.into_inner();
        Ok((answer.found.then_some(answer.value), answer.as_of))
    }
}
