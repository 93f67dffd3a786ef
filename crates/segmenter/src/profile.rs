//! The stored profile, or the tombstone of one that moved.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{state::SegmentProfile, stored};
use waypost_engine::segment::{self, Judged, Timer};
use waypost_runtime::processor::{Entity, Wakeups};
use waypost_types::EntityId;

const VERSION: u16 = 1;

/// One profile: what is stored, and what is known of it in memory only.
#[derive(Clone, Debug, Default)]
pub struct Profile(pub SegmentProfile, pub(crate) Judged);

// === impl Profile ===

impl Profile {
    /// Whether it has moved into another.
    pub fn is_tombstone(&self) -> bool {
        !self.0.moved_to.is_empty()
    }

    /// Whether its person has been forgotten.
    pub fn is_erased(&self) -> bool {
        self.0.erased
    }
}

impl From<SegmentProfile> for Profile {
    fn from(stored: SegmentProfile) -> Self {
        Self(stored, Judged::default())
    }
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Entity for Profile {
    fn decode(_id: &EntityId, bytes: &Bytes) -> Result<Self, String> {
        let (version, body) = stored::open(bytes).map_err(|e| e.to_string())?;
        if version != VERSION {
            return Err(format!("segment profile of version {version}; this engine reads {VERSION}"));
        }
        SegmentProfile::decode(body).map(Self::from).map_err(|e| e.to_string())
    }

    fn encode(&self) -> Option<Bytes> {
        (self.0 != SegmentProfile::default()).then(|| stored::seal(VERSION, &self.0.encode_to_vec()))
    }

    fn wakeups(&self) -> Wakeups {
        match segment::next_timer(&self.0) {
            None => Wakeups::default(),
            Some(Timer::MarkGoes(due) | Timer::DrainEnds(due)) => Wakeups { plain: Some(due), absent: None },
            Some(Timer::Flips(due)) => Wakeups { plain: None, absent: Some(due) },
        }
    }
}
