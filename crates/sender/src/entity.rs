//! What the sender stores: dispatches (`d`) and addresses (`a`).

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    state::{AddressState, DispatchState},
    stored,
};
use waypost_engine::dispatch::address;
use waypost_runtime::processor::{Entity, Wakeups};
use waypost_types::{EntityId, Timestamp, WorkspaceId};

const VERSION: u16 = 1;
/// Kind of a dispatch's entity id.
pub(crate) const DISPATCH: u8 = b'd';
/// Kind of an address's entity id.
pub(crate) const ADDRESS: u8 = b'a';

/// One stored entity.
#[derive(Clone, Debug, PartialEq)]
pub enum SenderEntity {
    /// One send to one address.
    Dispatch(Box<DispatchState>),
    /// One address.
    Address(Box<AddressState>),
}

/// The entity of a dispatch id.
pub(crate) fn dispatch_id(workspace: WorkspaceId, dispatch: &[u8]) -> EntityId {
    EntityId::new(workspace, DISPATCH, dispatch)
}

/// The entity of an address key.
pub(crate) fn address_id(workspace: WorkspaceId, key: &[u8]) -> EntityId {
    EntityId::new(workspace, ADDRESS, key)
}

// === impl SenderEntity ===

impl Entity for SenderEntity {
    fn decode(id: &EntityId, bytes: &Bytes) -> Result<Self, String> {
        let (version, body) = stored::open(bytes).map_err(|e| e.to_string())?;
        if version != VERSION {
            return Err(format!("sender state of version {version}; this release reads {VERSION}"));
        }
        match id.kind() {
            DISPATCH => DispatchState::decode(body).map(|state| Self::Dispatch(Box::new(state))).map_err(|e| e.to_string()),
            ADDRESS => AddressState::decode(body).map(|state| Self::Address(Box::new(state))).map_err(|e| e.to_string()),
            kind => Err(format!("no sender entity of kind {kind}")),
        }
    }

    fn encode(&self) -> Option<Bytes> {
        (!self.is_nothing()).then(|| match self {
            Self::Dispatch(state) => stored::seal(VERSION, &state.encode_to_vec()),
            Self::Address(state) => stored::seal(VERSION, &state.encode_to_vec()),
        })
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Address(state) if address::is_empty(state))
    }

    fn wakeups(&self) -> Wakeups {
        let plain = match self {
            Self::Dispatch(state) => (state.due != 0).then(|| Timestamp::from_millis(state.due)),
            Self::Address(state) => address::prunes_at(state),
        };
        Wakeups { plain, absent: None }
    }
}
