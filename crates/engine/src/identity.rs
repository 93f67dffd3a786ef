//! Identity (PROTOCOL §10): which person an identifier is, and by which road its items reach that person.
//!
//! Each step runs at the owner of the identifier it changes and knows nothing of the others: what they
//! have to do goes out as an [`Effect`].

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{Event, Flush, IdentityEvent, Link, MergeBegin, SegmentItem, Shared, segment_item::Body},
    state::IdentifierState,
};
use waypost_types::{Layout, Position, Timestamp};

mod commands;
mod limits;
mod links;
mod nodes;
mod road;
mod window;

pub use commands::{detach, erase, expire, run_command, shared};
pub use limits::{HELD_FOR, Limits};
pub use links::link;
pub use road::{erase_node, expire_hold, flushed, held_since, merge_done, receipt};

/// Where, when and under which settings a record is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Here {
    /// Log time.
    pub now: Timestamp,
    /// The installation's layout.
    pub layout: Layout,
    /// The record's position in `wp1.identity`.
    pub position: Position,
    /// The record's id.
    pub record: [u8; 16],
    /// Limits of the fold.
    pub limits: Limits,
    /// Rules in force.
    pub rules: Rules,
}

/// The rules of PROTOCOL §16.4 that identity keeps, all on; the simulator switches them off one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A route is switched behind a flush of the old road, not at once.
    pub flush: bool,
    /// Items wait while the flush is under way.
    pub hold: bool,
    /// A message id counts once in the window.
    pub window: bool,
}

/// What follows elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// An item to the segmenter's partition of a profile.
    Item {
        /// Profile id.
        profile: Bytes,
        /// The item.
        item: SegmentItem,
        /// What it came from.
        origin: Origin,
    },
    /// A link to the owner of another identifier.
    Link {
        /// Its hash.
        to: Bytes,
        /// The link.
        link: Link,
    },
    /// An identifier that two user ids claim is to become nobody's.
    Share {
        /// Its hash.
        to: Bytes,
        /// Which.
        shared: Shared,
    },
    /// The profile of a node that has ceased to be a root moves.
    MergeBegin(MergeBegin),
    /// Marks the end of a node's old road.
    Flush(Flush),
    /// Something that is not done; counted.
    Refused(Refusal),
}

/// The record that an item stands for at the next stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its id.
    pub id: [u8; 16],
    /// Its log time.
    pub at: Timestamp,
}

/// Why identifiers are not joined, or not parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `TWO_USER_IDS`: they belong to two user ids.
    TwoUserIds,
    /// `IDENTITY_LIMIT`: the person would have too many identifiers, or the identifier too many lives.
    IdentityLimit,
}

/// Why a record cannot be folded here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A node reference, or its class or hash, is not one.
    #[error("not a node reference: {0}")]
    Malformed(&'static str),
    /// It names a life of this identifier that there never was, or that was erased long ago.
    #[error("no such node at this identifier")]
    UnknownNode,
    /// It is a stop for a life of this identifier that is over, and there is no later one that it could stop.
    #[error("a stop for a profile that was erased or has expired, and nobody has come since under its identifier")]
    GoneNode,
}

/// An event at its identifier: dropped if its id was seen, else sent to the node's profile, and the other
/// identifiers in it are linked.
pub fn event(state: &mut IdentifierState, here: &Here, event: &IdentityEvent) -> Result<Vec<Effect>, IdentityError> {
    let primary = event.identifiers.first().ok_or(IdentityError::Malformed("an event without identifier"))?;
    let by_generation = !primary.generation.is_empty();
    if event.by_profile && !by_generation {
        return Err(IdentityError::Malformed("a profile without generation"));
    }
    // Looked for before the window is touched, so that a refused record leaves no trace.
    let named = if by_generation { nodes::known(state, primary) } else { nodes::current(state, here, primary) };
    let is_over = match &named {
        Ok(at) => state.generations[*at].gone,
        Err(error) => *error == IdentityError::UnknownNode,
    };
    let at = if event.by_profile && is_over && is_stop(event) { nodes::last_live(state).ok_or(IdentityError::GoneNode)? } else { named? };
    if state.generations[at].gone || here.rules.window && !window::admit(state, here.now, &here.record, here.limits.seen) {
        return Ok(Vec::new());
    }
    state.now = state.now.max(here.now.millis());
    let mut effects = road::route(state, here, at, Body::Event(event.event.clone()));
    effects.extend(links::of_event(&mut state.generations[at], here, &event.identifiers)?);
    Ok(effects)
}

/// Whether its sender wants no more messages. Who has gone may still press the link in an old one: the stop is meant for
/// whoever is written to under that identifier now.
fn is_stop(event: &IdentityEvent) -> bool {
    Event::decode(event.event.clone()).is_ok_and(|event| event.name == "Unsubscribed")
}

// === impl Rules ===

impl Default for Rules {
    fn default() -> Self {
        Self { flush: true, hold: true, window: true }
    }
}

// === impl Refusal ===

impl Refusal {
    /// Its reason code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TwoUserIds => "TWO_USER_IDS",
            Self::IdentityLimit => "IDENTITY_LIMIT",
        }
    }
}

#[cfg(test)]
mod tests;
