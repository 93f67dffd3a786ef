//! The end of a partition channel, at its source or at its receiver: last number and chain, 16 bytes in the store.

use waypost_types::{PartitionId, Role};

use crate::machine::Destination;

/// Last sequence number and the chain after it; both 0 at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tip {
    /// Last number.
    pub seq: u64,
    /// Chain after it.
    pub chain: u64,
}

// === impl Tip ===

impl Tip {
    /// Stored form.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.seq) << 64 | u128::from(self.chain)).to_be_bytes()
    }

    /// From its stored form.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        let low = |n: u128| u64::try_from(n & u128::from(u64::MAX)).unwrap_or_default();
        Self { seq: low(both >> 64), chain: low(both) }
    }
}

/// Field of what was last put out to `destination`: `x:<role>:<q>`, `x:<topic>:<q>`.
pub fn sent_field(destination: &Destination) -> String {
    match destination {
        Destination::Inbox(PartitionId { role, index }) => format!("x:{role}:{index}"),
        Destination::Public { topic, partition } => format!("x:{topic}:{partition}"),
        Destination::Dead(partition) => format!("x:wp1.dead:{partition}"),
    }
}

/// Field of what was last accepted from a source: `i:<role>:<q>`.
pub fn accepted_field(role: Role, partition: u32) -> String {
    format!("i:{role}:{partition}")
}

/// The source that an `i:` field names.
pub fn accepted_source(field: &str) -> Option<(Role, u32)> {
    let (role, partition) = field.strip_prefix("i:")?.split_once(':')?;
    Some((role.parse().ok()?, partition.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bytes_hold_number_then_chain() {
        let tip = Tip { seq: 7, chain: u64::MAX };
        assert_eq!(tip.to_bytes()[..8], 7_u64.to_be_bytes());
        assert_eq!(Tip::from_bytes(tip.to_bytes()), tip);
    }

    #[test]
    fn fields_name_their_partition_channel() {
        assert_eq!(sent_field(&Destination::Inbox(PartitionId { role: Role::Sender, index: 3 })), "x:sender:3");
        assert_eq!(sent_field(&Destination::Public { topic: "waypost.decisions.v1", partition: 1 }), "x:waypost.decisions.v1:1");
        assert_eq!(accepted_source(&accepted_field(Role::Identity, 12)), Some((Role::Identity, 12)));
        assert_eq!(accepted_source("x:identity:1"), None);
    }
}
