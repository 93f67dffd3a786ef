//! Roles, partitions, positions: where in the pipeline something is.

use std::fmt;

use crate::{WorkspaceId, hash::hash64};

/// A service of the pipeline. The numbers are in stored records and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// The doors.
    Ingest = 1,
    /// Identity resolution.
    Identity = 2,
    /// Traits and segments.
    Segmenter = 3,
    /// Journeys.
    Orchestrator = 4,
    /// Channel senders.
    Sender = 5,
    /// The control plane.
    Control = 6,
}

/// How keys fall to partitions; fixed by `waypost init` for the life of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Counts relayouts, from 1.
    pub number: u16,
    /// Partitions of each inbox (V).
    pub partitions: u32,
}

/// One partition of one keyed role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// Whose inbox.
    pub role: Role,
    /// 0 … V − 1.
    pub index: u32,
}

/// A record's place in its inbox partition: the frame's offset, and the record's index in the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Offset of the frame.
    pub offset: u64,
    /// Index of the record in it, dropped ones counted.
    pub index: u32,
}

// === impl Role ===

impl Role {
    /// Every role, in pipeline order.
    pub const ALL: [Self; 6] = [Self::Ingest, Self::Identity, Self::Segmenter, Self::Orchestrator, Self::Sender, Self::Control];
    /// The roles that own partitions.
    pub const KEYED: [Self; 4] = [Self::Identity, Self::Segmenter, Self::Orchestrator, Self::Sender];

    /// Its word in topics, keys, metrics and flags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Identity => "identity",
            Self::Segmenter => "segmenter",
            Self::Orchestrator => "orchestrator",
            Self::Sender => "sender",
            Self::Control => "control",
        }
    }

    /// The inbox topic, without prefix; none for roles without partitions.
    pub const fn inbox(self) -> Option<&'static str> {
        match self {
            Self::Identity => Some("wp1.identity"),
            Self::Segmenter => Some("wp1.segment"),
            Self::Orchestrator => Some("wp1.journey"),
            Self::Sender => Some("wp1.send"),
            Self::Ingest | Self::Control => None,
        }
    }

    /// The role with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|r| u32::from(*r as u8) == number)
    }

    /// Its number in stored records.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|r| r.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|r| r.as_str()).collect();
            format!("`{text}` is not a role; roles are {}", names.join(" "))
        })
    }
}

// === impl Layout ===

impl Layout {
    /// The partition of a routing key: `xxh3_64(workspace u32 BE ‖ 0x00 ‖ key) mod V`.
    ///
    /// Computed here and produced with an explicit partition, because librdkafka's default
    /// partitioner is not Java's. Golden vectors below pin it.
    pub fn partition(self, workspace: WorkspaceId, key: &[u8]) -> u32 {
        let v = u64::from(self.partitions.max(1));
        u32::try_from(hash64(&[&workspace.number().to_be_bytes(), &[0], key]) % v).unwrap_or(0)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.index)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.offset, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_function_is_pinned() {
        let layout = Layout { number: 1, partitions: 16 };
        let of = |w: u32, key: &[u8]| layout.partition(WorkspaceId::new(w), key);
        assert_eq!([of(1, b""), of(1, b"a"), of(2, b"a"), of(1, b"0123456789abcdef"), of(7, b"waypost")], [5, 0, 7, 5, 9]);
    }
}
