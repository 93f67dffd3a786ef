//! Joining (PROTOCOL §10.1, PRODUCT §5.3): identifiers that came together become one person, unless a rule
//! refuses. Parents always outrank their children, so links cannot cycle.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{Link, MergeBegin, NodeRef, Shared},
    state::{IdentifierState, Node as Stored},
};
use waypost_types::{IdentifierClass, Node};

use super::{Effect, Here, IdentityError, Refusal, limits::Counts, nodes};

/// Links to the identifiers that an event of this node brought along and that it does not know yet.
pub(super) fn of_event(node: &mut Stored, here: &Here, identifiers: &[NodeRef]) -> Result<Vec<Effect>, IdentityError> {
    let Some((primary, others)) = identifiers.split_first().filter(|_| !node.shared) else { return Ok(Vec::new()) };
    let mut effects = Vec::new();
    for other in others {
        let (class, hash, _) = nodes::parts(other)?;
        let hash = Bytes::copy_from_slice(hash.as_bytes());
        let other = NodeRef { class: class.number(), hash, generation: Bytes::new(), custom: other.custom.clone() };
        let bytes = Bytes::from(other.encode_to_vec());
        let Err(place) = node.known.binary_search(&bytes) else { continue };
        if effects.len() == here.limits.links || node.known.len() >= here.limits.identifiers as usize || other.hash == primary.hash {
            continue;
        }
        node.known.insert(place, bytes);
        let link = Link {
            a: Some(nodes::reference(&nodes::stored(&node.id)?)),
            b: Some(other.clone()),
            claimed: Some(other.clone()),
            counts: node.counts.clone(),
            custom_counts: node.custom_counts.clone(),
            joined: false,
        };
        effects.push(Effect::Link { to: other.hash, link });
    }
    Ok(effects)
}

/// Two identifiers were seen together; `b` is here.
pub fn link(state: &mut IdentifierState, here: &Here, link: &Link) -> Result<Vec<Effect>, IdentityError> {
    let a_ref = link.a.as_ref().ok_or(IdentityError::Malformed("a link without a"))?;
    let b_ref = link.b.as_ref().ok_or(IdentityError::Malformed("a link without b"))?;
    if link.joined {
        return joined(state, a_ref, b_ref, link);
    }
    let a = nodes::full(a_ref)?;
    let at = if b_ref.generation.is_empty() { nodes::current(state, here, b_ref)? } else { nodes::known(state, b_ref)? };
    state.now = state.now.max(here.now.millis());
    let node = &mut state.generations[at];
    if node.gone || node.shared {
        return Ok(Vec::new());
    }
    let b = nodes::stored(&node.id)?;
    if !nodes::is_root(node) {
        let parent = nodes::stored(&node.parent)?;
        return Ok(vec![send(&parent, Link { b: Some(nodes::reference(&parent)), ..link.clone() })]);
    }
    if a == b {
        return Ok(Vec::new());
    }
    if a.class == IdentifierClass::UserId && b.class == IdentifierClass::UserId {
        return Ok(two_user_ids(link.claimed.as_ref()));
    }
    if b.outranks(&a) {
        let (a_ref, b_ref) = (nodes::reference(&a), nodes::reference(&b));
        let (counts, custom_counts) = (node.counts.clone(), node.custom_counts.clone());
        let turned = Link { a: Some(b_ref), b: Some(a_ref), claimed: link.claimed.clone(), counts, custom_counts, joined: false };
        return Ok(vec![send(&a, turned)]);
    }
    if here.limits.over(&Counts::told(link), &Counts::of(node)) {
        return Ok(vec![Effect::Refused(Refusal::IdentityLimit)]);
    }
    let winner = Bytes::copy_from_slice(&a.to_bytes());
    node.parent = winner.clone();
    let begin = MergeBegin { loser: node.id.clone(), winner, node: node.id.clone(), first: !node.sent };
    let (a_ref, b_ref) = (nodes::reference(&a), nodes::reference(&b));
    let (counts, custom_counts) = (node.counts.clone(), node.custom_counts.clone());
    let news = Link { a: Some(a_ref), b: Some(b_ref), claimed: None, counts, custom_counts, joined: true };
    Ok(vec![Effect::MergeBegin(begin), send(&a, news)])
}

/// `b` has become a child of `a`, which is here: its identifiers count from now on, here and above.
fn joined(state: &mut IdentifierState, a: &NodeRef, b: &NodeRef, link: &Link) -> Result<Vec<Effect>, IdentityError> {
    let at = nodes::known(state, a)?;
    let node = &mut state.generations[at];
    if node.gone {
        return Ok(Vec::new());
    }
    let counts = Counts::of(node).plus(&Counts::told(link));
    node.size = counts.total();
    (node.counts, node.custom_counts) = (counts.by_class, counts.by_name);
    if nodes::is_root(node) {
        return Ok(Vec::new());
    }
    let parent = nodes::stored(&node.parent)?;
    Ok(vec![send(&parent, Link { a: Some(nodes::reference(&parent)), b: Some(b.clone()), ..link.clone() })])
}

/// Two user ids never join. The cookie or device that a second one claims becomes nobody's; an address that
/// both claim stays with the first.
fn two_user_ids(claimed: Option<&NodeRef>) -> Vec<Effect> {
    let refused = Effect::Refused(Refusal::TwoUserIds);
    let nobodys =
        |node: &&NodeRef| matches!(IdentifierClass::from_number(node.class), Some(IdentifierClass::Anonymous | IdentifierClass::Device));
    let share = claimed.filter(nobodys).map(|node| Effect::Share { to: node.hash.clone(), shared: Shared { node: Some(node.clone()) } });
    std::iter::once(refused).chain(share).collect()
}

fn send(to: &Node, link: Link) -> Effect {
    Effect::Link { to: Bytes::copy_from_slice(to.hash.as_bytes()), link }
}
