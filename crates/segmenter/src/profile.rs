//! The stored profile, or the tombstone of one that moved.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{state::SegmentProfile, stored};
use waypost_engine::segment;
use waypost_runtime::processor::{Entity, Wakeups};
use waypost_types::EntityId;

const VERSION: u16 = 1;

/// One profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile(pub SegmentProfile);

// === impl Profile ===

impl Profile {
    /// Whether it has moved into another.
    pub fn is_tombstone(&self) -> bool {
        !self.0.moved_to.is_empty()
    }
}

impl Entity for Profile {
    fn decode(_id: &EntityId, bytes: &Bytes) -> Result<Self, String> {
        let (version, body) = stored::open(bytes).map_err(|e| e.to_string())?;
        if version != VERSION {
            return Err(format!("segment profile of version {version}; this engine reads {VERSION}"));
        }
        SegmentProfile::decode(body).map(Self).map_err(|e| e.to_string())
    }

    fn encode(&self) -> Option<Bytes> {
        (self.0 != SegmentProfile::default()).then(|| stored::seal(VERSION, &self.0.encode_to_vec()))
    }

    /// A membership that time alone may end rests on something not having happened.
    fn wakeups(&self) -> Wakeups {
        if self.is_tombstone() {
            return Wakeups::default();
        }
        Wakeups { plain: None, absent: segment::next_flip(&self.0) }
    }
}
