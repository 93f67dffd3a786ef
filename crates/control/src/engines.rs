//! Activating an engine version: only when every process has it, then one frame in every inbox (PROTOCOL §9.2).
//!
//! Each partition changes at that frame of its own. A partition that has it already drops it, so a command that
//! was cut short is given again.

use std::{ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    frame::{Frame, Record},
    inbox, kind,
};
use waypost_runtime::{
    ports::{Append, AppendError, Log, LogError},
    progress::Directory,
};
use waypost_types::{Layout, PartitionId, Role, Timestamp, WorkspaceId};

/// Why no engine was activated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A process cannot fold with it: its partitions would halt.
    #[error("the process at {address} has engines {} to {}: roll out the binary that has engine {wanted} first", has.start(), has.end())]
    Lacking {
        /// Its private address.
        address: String,
        /// What it has.
        has: RangeInclusive<u32>,
        /// What was asked for.
        wanted: u32,
    },
    /// Nobody says that it owns a partition, so nobody says what would fold it.
    #[error("nobody owns {0}: start every role and try again")]
    Silent(PartitionId),
    /// A partition is past it.
    #[error("{partition} folds with engine {present}: the way back from it is a later engine")]
    Past {
        /// Which.
        partition: PartitionId,
        /// What is in force there.
        present: u32,
    },
    /// The log does not take records; some partitions may have the activation.
    #[error("the log is unavailable: {0}; give the command again")]
    Unavailable(String),
}

/// Whether everybody who was heard lately can fold with `engine`, and every partition has an owner.
///
/// # Errors
/// [`EngineError`], the first thing that stands in the way.
pub fn check_engine(directory: &Directory, layout: Layout, engine: u32, now: Timestamp) -> Result<(), EngineError> {
    for (address, has) in directory.engines(now) {
        if !has.contains(&engine) {
            return Err(EngineError::Lacking { address, has, wanted: engine });
        }
    }
    for partition in partitions(layout) {
        let owner = directory.owner(partition, now).ok_or(EngineError::Silent(partition))?;
        let present = owner.progress.eng;
        if present > engine {
            return Err(EngineError::Past { partition, present });
        }
    }
    Ok(())
}

/// Appends the activation to every partition of every inbox. [`check_engine`] comes first.
///
/// # Errors
/// [`EngineError::Unavailable`].
pub async fn activate_engine(log: &Arc<dyn Log>, prefix: &str, layout: Layout, engine: u32, now: Timestamp) -> Result<(), EngineError> {
    let producer = log.producer().map_err(|e: LogError| EngineError::Unavailable(e.to_string()))?;
    let body = inbox::EngineActivate { engine }.encode_to_vec();
    let record = Record::new(kind::ENGINE_ACTIVATE, WorkspaceId::new(0), [0; 16], Bytes::new(), now, body.into());
    let payload = Frame::unsourced(vec![record]).encode();
    let appended: Vec<_> = partitions(layout)
        .map(|partition| {
            let topic = format!("{prefix}{}", partition.role.inbox().unwrap_or_default());
            producer.append(Append { topic, partition: partition.index, key: None, headers: Vec::new(), payload: payload.clone() })
        })
        .collect();
    for acknowledged in appended {
        acknowledged.await.map_err(|e: AppendError| EngineError::Unavailable(e.to_string()))?;
    }
    Ok(())
}

fn partitions(layout: Layout) -> impl Iterator<Item = PartitionId> {
    Role::KEYED.into_iter().flat_map(move |role| (0..layout.partitions).map(move |index| PartitionId { role, index }))
}
