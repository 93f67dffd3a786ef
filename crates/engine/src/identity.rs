//! Identity linking (PROTOCOL §10.1): what an event, a link or a receipt does at one identifier.
//!
//! Each step runs at the owner of the identifier it changes and knows nothing of the others: what they
//! have to do goes out as an [`Effect`]. Parents always outrank their children, so links cannot cycle.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{IdentityEvent, Link, MergeBegin, NodeRef, Receipt, SegmentItem, segment_item::Body},
    state::{IdentifierState, Node as Stored},
};
use waypost_types::{Generation, IdentifierClass, IdentifierHash, Layout, Node, Position, Timestamp};

mod limits;
mod window;

/// Links one event may cause.
pub const MAX_LINKS: usize = 8;

/// Where and when a record is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Here {
    /// Log time.
    pub now: Timestamp,
    /// The installation's layout.
    pub layout: Layout,
    /// The record's position in `wp1.identity`.
    pub position: Position,
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
    },
    /// A link to the owner of another identifier.
    Link {
        /// Its hash.
        to: Bytes,
        /// The link.
        link: Link,
    },
    /// The profile of a node that has ceased to be a root moves.
    MergeBegin(MergeBegin),
    /// A join that is not made; counted.
    Refused(Refusal),
}

/// Why two identifiers are not joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `TWO_USER_IDS`: they belong to two user ids.
    TwoUserIds,
    /// `IDENTITY_LIMIT`: the person would have too many identifiers.
    IdentityLimit,
}

/// Why a record cannot be folded here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A node reference, or its class or hash, is not one.
    #[error("not a node reference: {0}")]
    Malformed(&'static str),
    /// It names a life of this identifier that there never was.
    #[error("no such node at this identifier")]
    UnknownNode,
}

// === steps ===

/// An event at its identifier: dropped if its id was seen, else routed to the node's profile, and the
/// other identifiers in it are linked.
pub fn event(state: &mut IdentifierState, here: Here, id: &[u8; 16], event: &IdentityEvent) -> Result<Vec<Effect>, IdentityError> {
    let primary = event.identifiers.first().ok_or(IdentityError::Malformed("an event without identifier"))?;
    let target = node_ref(primary)?;
    if event.by_profile && target.2.is_none() {
        return Err(IdentityError::Malformed("a profile without generation"));
    }
    // Looked for before the window is touched, so that a refused record leaves no trace.
    let at = if target.2.is_some() { known_node(state, primary)? } else { current(state, here, primary)? };
    if !window::admit(&mut state.seen, here.now, id) {
        return Ok(Vec::new());
    }
    state.now = state.now.max(here.now.millis());
    let node = &mut state.generations[at];
    let mut effects = vec![item(node, Body::Event(event.event.clone()))];
    if node.shared || node.gone {
        return Ok(effects);
    }
    let mut links = 0;
    for other in event.identifiers.iter().skip(1) {
        let (class, hash, _) = node_ref(other)?;
        let other = NodeRef { class: class.number(), hash: Bytes::copy_from_slice(hash.as_bytes()), generation: Bytes::new() };
        let bytes = Bytes::from(other.encode_to_vec());
        let Err(place) = node.known.binary_search(&bytes) else { continue };
        if links == MAX_LINKS || node.known.len() >= limits::TOTAL || other.hash == primary.hash {
            continue;
        }
        links += 1;
        node.known.insert(place, bytes);
        let link = Link {
            a: Some(reference(node)?),
            b: Some(other.clone()),
            claimed: Some(other.clone()),
            counts: node.counts.clone(),
            joined: false,
        };
        effects.push(Effect::Link { to: other.hash, link });
    }
    Ok(effects)
}

/// Two identifiers were seen together; `b` is here.
pub fn link(state: &mut IdentifierState, here: Here, link: &Link) -> Result<Vec<Effect>, IdentityError> {
    let a_ref = link.a.as_ref().ok_or(IdentityError::Malformed("a link without a"))?;
    let b_ref = link.b.as_ref().ok_or(IdentityError::Malformed("a link without b"))?;
    if link.joined {
        return joined(state, a_ref, b_ref, link);
    }
    let a = full_node(a_ref)?;
    let at = if b_ref.generation.is_empty() { current(state, here, b_ref)? } else { known_node(state, b_ref)? };
    state.now = state.now.max(here.now.millis());
    let stored = &mut state.generations[at];
    if stored.gone || stored.shared {
        return Ok(Vec::new());
    }
    let b = stored_node(&stored.id)?;
    if !is_root(stored) {
        let parent = stored_node(&stored.parent)?;
        return Ok(vec![send(&parent, Link { b: Some(to_ref(&parent)), ..link.clone() })]);
    }
    if a == b {
        return Ok(Vec::new());
    }
    if a.class == IdentifierClass::UserId && b.class == IdentifierClass::UserId {
        return Ok(vec![Effect::Refused(Refusal::TwoUserIds)]);
    }
    if b.outranks(&a) {
        let turned =
            Link { a: Some(to_ref(&b)), b: Some(to_ref(&a)), claimed: link.claimed.clone(), counts: stored.counts.clone(), joined: false };
        return Ok(vec![send(&a, turned)]);
    }
    if limits::over(&link.counts, &stored.counts) {
        return Ok(vec![Effect::Refused(Refusal::IdentityLimit)]);
    }
    let winner = Bytes::copy_from_slice(&a.to_bytes());
    stored.parent = winner.clone();
    let begin = MergeBegin { loser: stored.id.clone(), winner, node: stored.id.clone(), first: !stored.sent };
    let news = Link { a: Some(to_ref(&a)), b: Some(to_ref(&b)), claimed: None, counts: stored.counts.clone(), joined: true };
    Ok(vec![Effect::MergeBegin(begin), send(&a, news)])
}

/// What became of a dispatch goes where the profile it was decided for routes to.
pub fn receipt(state: &mut IdentifierState, here: Here, receipt: &Receipt) -> Result<Vec<Effect>, IdentityError> {
    let at = position_of(state, &receipt.profile).ok_or(IdentityError::UnknownNode)?;
    state.now = state.now.max(here.now.millis());
    Ok(vec![item(&mut state.generations[at], Body::Receipt(receipt.clone()))])
}

/// `b` has become a child of `a`, which is here: its identifiers count from now on, here and above.
fn joined(state: &mut IdentifierState, a: &NodeRef, b: &NodeRef, link: &Link) -> Result<Vec<Effect>, IdentityError> {
    let at = known_node(state, a)?;
    let node = &mut state.generations[at];
    node.counts = limits::sum(&node.counts, &link.counts);
    node.size = node.counts.iter().sum();
    if is_root(node) {
        return Ok(Vec::new());
    }
    let parent = stored_node(&node.parent)?;
    Ok(vec![send(&parent, Link { a: Some(to_ref(&parent)), b: Some(b.clone()), ..link.clone() })])
}

// === nodes ===

/// An item of this node, to where it routes; it says whether it is the node's first.
fn item(node: &mut Stored, body: Body) -> Effect {
    let first = !node.sent && !node.gone;
    node.sent = true;
    Effect::Item { profile: node.route.clone(), item: SegmentItem { node: node.id.clone(), body: Some(body), first } }
}

/// The current node of this identifier, made by this record where there is none.
fn current(state: &mut IdentifierState, here: Here, reference: &NodeRef) -> Result<usize, IdentityError> {
    let (class, hash, _) = node_ref(reference)?;
    if let Some(at) = state.generations.len().checked_sub(1)
        && !state.generations[at].gone
    {
        return Ok(at);
    }
    let generation = Generation { layout: here.layout.number, offset: here.position.offset, index: here.position.index };
    let id = Bytes::copy_from_slice(&Node { class, hash, generation }.to_bytes());
    state.class = class.number();
    state.generations.push(Stored {
        id: id.clone(),
        parent: id.clone(),
        route: id,
        size: 1,
        counts: limits::one(class),
        user: if class == IdentifierClass::UserId { reference.hash.clone() } else { Bytes::new() },
        ..Stored::default()
    });
    Ok(state.generations.len() - 1)
}

fn known_node(state: &IdentifierState, reference: &NodeRef) -> Result<usize, IdentityError> {
    let node = full_node(reference)?;
    position_of(state, &node.to_bytes()).ok_or(IdentityError::UnknownNode)
}

fn position_of(state: &IdentifierState, id: &[u8]) -> Option<usize> {
    state.generations.iter().position(|n| n.id == id)
}

fn is_root(node: &Stored) -> bool {
    node.parent == node.id
}

fn stored_node(id: &[u8]) -> Result<Node, IdentityError> {
    Node::from_slice(id).map_err(|_| IdentityError::Malformed("a stored node"))
}

fn reference(node: &Stored) -> Result<NodeRef, IdentityError> {
    stored_node(&node.id).map(|n| to_ref(&n))
}

/// The reference to exactly this node.
fn to_ref(node: &Node) -> NodeRef {
    let bytes = node.to_bytes();
    NodeRef {
        class: node.class.number(),
        hash: Bytes::copy_from_slice(node.hash.as_bytes()),
        generation: Bytes::copy_from_slice(&bytes[17..]),
    }
}

fn full_node(reference: &NodeRef) -> Result<Node, IdentityError> {
    let (class, hash, generation) = node_ref(reference)?;
    Ok(Node { class, hash, generation: generation.ok_or(IdentityError::Malformed("no generation"))? })
}

fn node_ref(reference: &NodeRef) -> Result<(IdentifierClass, IdentifierHash, Option<Generation>), IdentityError> {
    let class = IdentifierClass::from_number(reference.class).ok_or(IdentityError::Malformed("class"))?;
    let hash = IdentifierHash::from_slice(&reference.hash).map_err(|_| IdentityError::Malformed("hash"))?;
    if reference.generation.is_empty() {
        return Ok((class, hash, None));
    }
    let bytes = [&[class as u8][..], hash.as_bytes(), &reference.generation].concat();
    let node = Node::from_slice(&bytes).map_err(|_| IdentityError::Malformed("generation"))?;
    Ok((class, hash, Some(node.generation)))
}

fn send(to: &Node, link: Link) -> Effect {
    Effect::Link { to: Bytes::copy_from_slice(to.hash.as_bytes()), link }
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
