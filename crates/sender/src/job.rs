//! Work outside the fold, as bytes between a fold and whoever does it.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::state::DispatchState;

/// Render, and propose attempt `state.attempt + 1`.
pub(crate) const RENDER: u32 = 1;
/// Call the provider for attempt `state.attempt`.
pub(crate) const CALL: u32 = 2;

/// The attempt that was proposed ended the dispatch: no call follows.
pub(crate) const RELEASE: u32 = 3;

/// Ask the provider what became of the dispatch.
pub(crate) const LOOK_UP: u32 = 4;

/// The partition is given back: nothing more is proposed under this leader, and what was proposed and not begun is
/// said not to have been.
pub(crate) const LAST: u32 = 5;

/// A dispatch has ended and nobody knows what came of some of its attempts. Only counted: a living call has counted its
/// own silence, that of a killed process stands nowhere else.
pub(crate) const UNKNOWN: u32 = 6;

/// What every kind of job carries; never stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Body {
    /// Workspace number.
    #[prost(uint32, tag = "1")]
    pub(crate) workspace: u32,
    /// The dispatch as it was folded.
    #[prost(message, optional, tag = "2")]
    pub(crate) state: Option<DispatchState>,
    /// The definition set in force there.
    #[prost(string, tag = "3")]
    pub(crate) defv: String,
    /// What the attempt said it would send; for [`CALL`] only.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) render_hash: Bytes,
    /// Its id, where the dispatch itself is no longer kept; for [`RELEASE`] only.
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) dispatch: Bytes,
    /// When the call must not begin any more, ms; 0: whenever. For [`CALL`] only.
    #[prost(int64, tag = "6")]
    pub(crate) until: i64,
}

// === impl Body ===

impl Body {
    pub(crate) fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }
}
