//! `PartitionService`: where the pipeline stands, as its owners say, beside the ends of the inboxes.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use tonic::{Request, Response, Status};
use waypost_proto::control::{self as pb, partition_service_server::PartitionService};
use waypost_runtime::{machine::Progress, ports::Offset, progress::Owner};
use waypost_types::{PartitionId, Role};

use crate::{access::admit, server::Control, status::Refusal};

#[tonic::async_trait]
impl PartitionService for Control {
    async fn list_partitions(&self, request: Request<pb::ListPartitionsRequest>) -> Result<Response<pb::ListPartitionsResponse>, Status> {
        let (_, request) = admit(request)?;
        let roles = match request.role.as_str() {
            "" => Role::KEYED.to_vec(),
            name => vec![keyed(name)?],
        };
        let told = self
            .owners
            .owned()
            .ok_or_else(|| Refusal::Precondition("ONE_PROCESS", "one process owns everything here, and says nothing of it".to_owned()))?;
        let owners: BTreeMap<PartitionId, Owner> = told.into_iter().map(|owner| (owner.progress.partition, owner)).collect();
        let all = roles.into_iter().flat_map(|role| (0..self.layout.partitions).map(move |index| PartitionId { role, index }));
        let asked = all.map(|id| async move { Ok::<_, Refusal>((id, self.end(id).await?)) });
        let ends = try_join_all(asked).await?;
        let partitions = ends.into_iter().map(|(id, end)| partition(id, end, owners.get(&id)));
        let partitions = partitions.filter(|partition| !request.troubled || is_troubled(partition)).collect();
        Ok(Response::new(pb::ListPartitionsResponse { partitions, at: self.clock.now().millis() }))
    }

    async fn list_skips(&self, request: Request<pb::ListSkipsRequest>) -> Result<Response<pb::ListSkipsResponse>, Status> {
        let (caller, _) = admit(request)?;
        Ok(Response::new(pb::ListSkipsResponse { skips: self.skips(&caller)? }))
    }

    async fn propose_skip(&self, request: Request<pb::ProposeSkipRequest>) -> Result<Response<pb::Skip>, Status> {
        let (caller, request) = admit(request)?;
        Ok(Response::new(self.propose(&caller, request).await?))
    }

    async fn approve_skip(&self, request: Request<pb::ApproveSkipRequest>) -> Result<Response<pb::Skip>, Status> {
        let (caller, request) = admit(request)?;
        Ok(Response::new(self.approve(&caller, request).await?))
    }

    async fn retry_partition(&self, request: Request<pb::RetryPartitionRequest>) -> Result<Response<pb::RetryPartitionResponse>, Status> {
        let (caller, request) = admit(request)?;
        Ok(Response::new(self.retry(&caller, request).await?))
    }
}

// === impl Control ===

impl Control {
    /// The next offset of a partition's inbox.
    async fn end(&self, id: PartitionId) -> Result<Offset, Refusal> {
        let inbox = id.role.inbox().ok_or(Refusal::Internal)?;
        let topic = format!("{}{inbox}", self.changes.prefix());
        Ok(self.changes.log().watermarks(&topic, id.index).await?.1)
    }
}

fn keyed(name: &str) -> Result<Role, Refusal> {
    let role = Role::KEYED.into_iter().find(|role| role.as_str() == name);
    role.ok_or_else(|| {
        let known: Vec<_> = Role::KEYED.iter().map(|role| role.as_str()).collect();
        Refusal::Invalid("ROLE_UNKNOWN", format!("`{name}` is no role with partitions; {} are", known.join(", ")))
    })
}

fn partition(id: PartitionId, end: Offset, owner: Option<&Owner>) -> pb::Partition {
    let name = format!("partitions/{id}");
    let Some(Owner { address, progress, .. }) = owner else {
        return pb::Partition { name, state: pb::PartitionState::Unowned.into(), end, ..pb::Partition::default() };
    };
    let Progress { through, off, next, eng, defv, leading, halted, diverged, gap, .. } = progress;
    let state = match (halted, leading) {
        (Some(_), _) => pb::PartitionState::Halted,
        (None, true) => pb::PartitionState::Leading,
        (None, false) => pb::PartitionState::Replaying,
    };
    pb::Partition {
        name,
        state: state.into(),
        owner: address.clone(),
        committed: *off,
        next: *next,
        end: end.max(*next),
        through: through.millis(),
        engine: *eng,
        definitions: defv.clone(),
        halted: halted.clone().unwrap_or_default(),
        diverged: diverged.iter().map(ToString::to_string).collect(),
        gap_since: gap.map_or(0, waypost_types::Timestamp::millis),
    }
}

fn is_troubled(partition: &pb::Partition) -> bool {
    partition.state() != pb::PartitionState::Leading || !partition.diverged.is_empty() || partition.gap_since != 0
}
