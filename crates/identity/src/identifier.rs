//! The stored identifier: all its lives, the message ids it has seen, and the items that wait.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{state::IdentifierState, stored};
use waypost_engine::identity;
use waypost_runtime::processor::{Entity, Wakeups};
use waypost_types::EntityId;

const VERSION: u16 = 1;

/// One identifier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identifier(pub IdentifierState);

// === impl Identifier ===

impl Entity for Identifier {
    fn decode(_id: &EntityId, bytes: &Bytes) -> Result<Self, String> {
        let (version, body) = stored::open(bytes).map_err(|e| e.to_string())?;
        if version != VERSION {
            return Err(format!("identifier of version {version}; this engine reads {VERSION}"));
        }
        IdentifierState::decode(body).map(Self).map_err(|e| e.to_string())
    }

    fn encode(&self) -> Option<Bytes> {
        (self.0 != IdentifierState::default()).then(|| stored::seal(VERSION, &self.0.encode_to_vec()))
    }

    fn wakeups(&self) -> Wakeups {
        Wakeups { plain: identity::held_since(&self.0).map(|since| since.plus(identity::HELD_FOR)), absent: None }
    }
}
