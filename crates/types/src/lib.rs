//! The vocabulary of Waypost: ids, times, money, values. Valid by construction, no IO, no clock.

pub mod hash;
pub mod ids;
pub mod money;
pub mod role;
pub mod time;
pub mod trace;
pub mod value;

pub use ids::{
    ContentHash, DispatchId, EntityId, Generation, IdentifierClass, IdentifierHash, Node, ProfileId, RecordId, RunId, SendId, WorkspaceId,
};
pub use money::Currency;
pub use role::{Layout, PartitionId, Position, Role};
pub use time::{Span, Timestamp};
pub use value::Value;
