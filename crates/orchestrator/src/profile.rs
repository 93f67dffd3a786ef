//! The stored profile: its runs, what they rest on, and why everything was decided.

mod encoding;

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{state::JourneyProfile, stored};
use waypost_engine::journey;
use waypost_runtime::processor::{Entity, Wakeups};
use waypost_types::EntityId;

const VERSION: u16 = 1;

/// One profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile(pub JourneyProfile);

// === impl Profile ===

impl Profile {
    /// Whether it was joined into another.
    pub fn is_tombstone(&self) -> bool {
        !self.0.moved_to.is_empty()
    }

    /// Whether its person has been forgotten.
    pub fn is_erased(&self) -> bool {
        self.0.erased
    }

    /// Notes the node whose item was folded here.
    pub fn saw(&mut self, node: &Bytes) {
        if !node.is_empty()
            && let Err(at) = self.0.ids.binary_search(node)
        {
            self.0.ids.insert(at, node.clone());
        }
    }
}

impl Entity for Profile {
    fn decode(_id: &EntityId, bytes: &Bytes) -> Result<Self, String> {
        let (version, body) = stored::open(bytes).map_err(|e| e.to_string())?;
        if version != VERSION {
            return Err(format!("profile of version {version}; this engine reads {VERSION}"));
        }
        JourneyProfile::decode(body).map(Self).map_err(|e| e.to_string())
    }

    fn encode(&self) -> Option<Bytes> {
        (!self.is_nothing()).then(|| stored::seal(VERSION, &encoding::encoded(&self.0)))
    }

    fn is_nothing(&self) -> bool {
        self.0 == JourneyProfile::default()
    }

    fn wakeups(&self) -> Wakeups {
        let (plain, absent) = journey::wakeups(&self.0);
        Wakeups { plain, absent }
    }
}
