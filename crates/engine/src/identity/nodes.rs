//! The lives of an identifier: nodes and the references to them.

use bytes::Bytes;
use waypost_codec::{
    inbox::NodeRef,
    state::{IdentifierState, Node as Stored},
};
use waypost_types::{Generation, IdentifierClass, IdentifierHash, Node};

use super::{Here, IdentityError, limits::Counts};

/// The current node of this identifier, made by this record where there is none.
pub(super) fn current(state: &mut IdentifierState, here: &Here, reference: &NodeRef) -> Result<usize, IdentityError> {
    let (class, hash, _) = parts(reference)?;
    if let Some(at) = last_live(state) {
        return Ok(at);
    }
    // By its name it is counted, and no hash tells it.
    if (class == IdentifierClass::Custom) == reference.custom.is_empty() {
        return Err(IdentityError::Malformed("a custom identifier without name, or a name of another class"));
    }
    state.custom.clone_from(&reference.custom);
    if state.generations.len() >= here.limits.generations {
        forget_oldest_gone(state);
    }
    Ok(begin(state, here, class, hash))
}

/// The node that takes what comes next, if the identifier has one.
pub(super) fn last_live(state: &IdentifierState) -> Option<usize> {
    state.generations.len().checked_sub(1).filter(|at| !state.generations[*at].gone)
}

/// A new life, which takes what comes next.
pub(super) fn begin(state: &mut IdentifierState, here: &Here, class: IdentifierClass, hash: IdentifierHash) -> usize {
    let generation = Generation { layout: here.layout.number, offset: here.position.offset, index: here.position.index };
    let id = Bytes::copy_from_slice(&Node { class, hash, generation }.to_bytes());
    state.class = class.number();
    let counts = Counts::one(class, &state.custom);
    state.generations.push(Stored {
        id: id.clone(),
        parent: id.clone(),
        route: id,
        size: 1,
        counts: counts.by_class,
        custom_counts: counts.by_name,
        user: if class == IdentifierClass::UserId { Bytes::copy_from_slice(hash.as_bytes()) } else { Bytes::new() },
        ..Stored::default()
    });
    state.generations.len() - 1
}

/// Makes room for a new life. Whether there was one to forget.
pub(super) fn forget_oldest_gone(state: &mut IdentifierState) -> bool {
    let gone = state.generations.iter().position(|node| node.gone);
    gone.map(|at| state.generations.remove(at)).is_some()
}

/// The node that a full reference names.
pub(super) fn known(state: &IdentifierState, reference: &NodeRef) -> Result<usize, IdentityError> {
    at(state, &full(reference)?.to_bytes())
}

/// The node of this id.
pub(super) fn at(state: &IdentifierState, id: &[u8]) -> Result<usize, IdentityError> {
    state.generations.iter().position(|n| n.id == id).ok_or(IdentityError::UnknownNode)
}

pub(super) fn is_root(node: &Stored) -> bool {
    node.parent == node.id
}

/// Nothing has been sent by it, and nobody has been linked to it.
pub(super) fn is_fresh(node: &Stored) -> bool {
    !node.sent && is_root(node) && node.known.is_empty() && node.size == 1
}

pub(super) fn stored(id: &[u8]) -> Result<Node, IdentityError> {
    Node::from_slice(id).map_err(|_| IdentityError::Malformed("a stored node"))
}

/// The reference to exactly this node.
pub(super) fn reference(node: &Node) -> NodeRef {
    NodeRef {
        class: node.class.number(),
        hash: Bytes::copy_from_slice(node.hash.as_bytes()),
        generation: Bytes::copy_from_slice(&node.to_bytes()[17..]),
        custom: String::new(),
    }
}

pub(super) fn full(reference: &NodeRef) -> Result<Node, IdentityError> {
    let (class, hash, generation) = parts(reference)?;
    Ok(Node { class, hash, generation: generation.ok_or(IdentityError::Malformed("no generation"))? })
}

pub(super) fn parts(reference: &NodeRef) -> Result<(IdentifierClass, IdentifierHash, Option<Generation>), IdentityError> {
    let class = IdentifierClass::from_number(reference.class).ok_or(IdentityError::Malformed("class"))?;
    let hash = IdentifierHash::from_slice(&reference.hash).map_err(|_| IdentityError::Malformed("hash"))?;
    if reference.generation.is_empty() {
        return Ok((class, hash, None));
    }
    let bytes = [&[class as u8][..], hash.as_bytes(), &reference.generation].concat();
    let node = Node::from_slice(&bytes).map_err(|_| IdentityError::Malformed("generation"))?;
    Ok((class, hash, Some(node.generation)))
}
