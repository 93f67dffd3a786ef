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
    let mut before = Counts::default();
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
        effects.push(match class {
            IdentifierClass::Custom => to_custom(node, here, other, link, &mut before)?,
            IdentifierClass::UserId
            | IdentifierClass::Email
            | IdentifierClass::Phone
            | IdentifierClass::Device
            | IdentifierClass::Anonymous => Effect::Link { to: other.hash, link },
        });
    }
    Ok(effects)
}

/// The same to a custom identifier; `before` are those that its event was linked to before it.
///
/// No other end can know what one event links at once, so what is too much beside those is refused here; the first of a
/// name is judged where it is, which may be with this person already. And only the root knows the names of the whole
/// person: from below, the link goes up to it first, the other way round, and is turned there, because each of her phones
/// would find room for five more. (Other classes are counted below the node alone, because logs of before are folded so.)
fn to_custom(node: &Stored, here: &Here, other: NodeRef, link: Link, before: &mut Counts) -> Result<Effect, IdentityError> {
    let beside = before.of_name(&other.custom);
    if beside > 0 && Counts::of(node).of_name(&other.custom).saturating_add(beside) >= here.limits.each_name() {
        return Ok(Effect::Refused(Refusal::IdentityLimit));
    }
    let custom_counts = before.by_name.clone();
    *before = before.plus(&Counts::one(IdentifierClass::Custom, &other.custom));
    if nodes::is_root(node) {
        return Ok(Effect::Link { to: other.hash, link });
    }
    let parent = nodes::stored(&node.parent)?;
    let b = Some(nodes::reference(&parent));
    Ok(send(&parent, Link { a: Some(other), b, counts: Vec::new(), custom_counts, ..link }))
}

/// Two identifiers were seen together; `b` is here.
///
/// Where `a` names no life it is a custom identifier on its way up to the root of those it came with (see [`of_event`]),
/// with the names that its event linked before it as counts. Nothing is decided by it but at the root, which turns it.
pub fn link(state: &mut IdentifierState, here: &Here, link: &Link) -> Result<Vec<Effect>, IdentityError> {
    let a_ref = link.a.as_ref().ok_or(IdentityError::Malformed("a link without a"))?;
    let b_ref = link.b.as_ref().ok_or(IdentityError::Malformed("a link without b"))?;
    if link.joined {
        return joined(state, a_ref, b_ref, link);
    }
    let (a_class, a_hash, a_life) = nodes::parts(a_ref)?;
    if a_life.is_none() && (a_class != IdentifierClass::Custom || b_ref.generation.is_empty()) {
        return Err(IdentityError::Malformed("no generation"));
    }
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
    let Some(generation) = a_life else {
        // Whichever of the two is above: there its life is known, and it is turned once more if need be.
        let custom_counts = Counts::of(node).plus(&Counts::told(link)).by_name;
        let turned =
            Link { a: Some(nodes::reference(&b)), b: Some(a_ref.clone()), counts: node.counts.clone(), custom_counts, ..link.clone() };
        return Ok(vec![Effect::Link { to: a_ref.hash.clone(), link: turned }]);
    };
    let a = Node { class: a_class, hash: a_hash, generation };
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
