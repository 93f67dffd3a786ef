//! The road of a node's items (PROTOCOL §10.1, §10.5): they go to its route, wait while a flush of the old
//! road is under way, and follow in order when it has passed or the hold is given up.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{EraseNode, Flush, Flushed, MergeDone, Receipt, SegmentItem, Settled, segment_item::Body},
    state::{HeldItem, IdentifierState},
};
use waypost_types::Timestamp;

use super::{Effect, Here, IdentityError, Origin, nodes};

/// An item of the node at this place: it goes out, or waits.
pub(super) fn route(state: &mut IdentifierState, here: &Here, at: usize, body: Body) -> Vec<Effect> {
    let node = &mut state.generations[at];
    let item = SegmentItem { node: node.id.clone(), body: Some(body), first: !node.sent };
    node.sent = true;
    if !node.holding {
        let origin = Origin { id: here.record, at: here.now };
        return vec![Effect::Item { profile: node.route.clone(), item, origin }];
    }
    let id = node.id.clone();
    state.held.push(HeldItem { item: Some(item), id: Bytes::copy_from_slice(&here.record), at: here.now.millis(), node: id.clone() });
    let (mut items, mut bytes) = (0, 0);
    for held in state.held.iter().filter(|held| held.node == id) {
        items += 1;
        bytes += held.encoded_len();
    }
    if items > here.limits.held_items || bytes > here.limits.held_bytes { give_up(state, here, at) } else { Vec::new() }
}

/// What became of a dispatch goes where the profile it was decided for routes to.
pub fn receipt(state: &mut IdentifierState, here: &Here, receipt: &Receipt) -> Result<Vec<Effect>, IdentityError> {
    let at = nodes::at(state, &receipt.profile)?;
    if state.generations[at].gone {
        return Ok(Vec::new());
    }
    state.now = state.now.max(here.now.millis());
    Ok(route(state, here, at, Body::Receipt(receipt.clone())))
}

/// The person's state has been imported at a profile that the node may not route to yet.
pub fn merge_done(state: &mut IdentifierState, here: &Here, done: &MergeDone) -> Result<Vec<Effect>, IdentityError> {
    let target = profile(&done.at)?;
    let at = nodes::at(state, &done.node)?;
    let node = &mut state.generations[at];
    if node.gone || node.holding {
        // What settles when the hold ends brings the next word.
        return Ok(Vec::new());
    }
    if node.route == target {
        return Ok(settle(state, here, at));
    }
    if nodes::stored(&node.route)?.outranks(&nodes::stored(&target)?) {
        // A late word: what this node sent was there once, and has moved on, since a person only moves up.
        return Ok(Vec::new());
    }
    if !here.rules.flush {
        node.route = target;
        return Ok(Vec::new());
    }
    node.flush_no += 1;
    node.holding = here.rules.hold;
    Ok(vec![Effect::Flush(Flush { profile: node.route.clone(), node: node.id.clone(), flush_no: node.flush_no })])
}

/// All that was sent on the old road has been folded at both stages of `at`: from here on, straight there.
pub fn flushed(state: &mut IdentifierState, here: &Here, flushed: &Flushed) -> Result<Vec<Effect>, IdentityError> {
    let target = profile(&flushed.at)?;
    let at = nodes::at(state, &flushed.node)?;
    let node = &mut state.generations[at];
    if node.gone || flushed.flush_no != node.flush_no || here.rules.hold && !node.holding {
        return Ok(Vec::new());
    }
    node.route = target;
    Ok(end_hold(state, here, at))
}

/// What waits goes out, and what settles behind it: by the new road it ends a drain, by the old one it brings the next
/// word about where that ends.
fn end_hold(state: &mut IdentifierState, here: &Here, at: usize) -> Vec<Effect> {
    let mut effects = release(state, at);
    effects.extend(settle(state, here, at));
    effects
}

fn settle(state: &mut IdentifierState, here: &Here, at: usize) -> Vec<Effect> {
    let node = state.generations[at].id.clone();
    route(state, here, at, Body::Settled(Settled { node }))
}

/// The node's profile is gone. What it holds falls; its identifier goes on as another node.
pub fn erase_node(state: &mut IdentifierState, erased: &EraseNode) -> Result<Vec<Effect>, IdentityError> {
    let at = nodes::at(state, &erased.node)?;
    let node = &mut state.generations[at];
    if node.gone {
        return Ok(Vec::new());
    }
    node.gone = true;
    node.holding = false;
    node.flush_no += 1;
    node.known.clear();
    node.user = Bytes::new();
    let id = node.id.clone();
    state.held.retain(|held| held.node != id);
    Ok(Vec::new())
}

/// Log time of the oldest item that waits.
pub fn held_since(state: &IdentifierState) -> Option<Timestamp> {
    state.held.iter().map(|held| Timestamp::from_millis(held.at)).min()
}

/// Gives up the hold that has the oldest item: a flush that takes so long must not hold up the watermark.
/// Returns nothing where nothing is held.
pub fn expire_hold(state: &mut IdentifierState, here: &Here) -> Vec<Effect> {
    let oldest = state.held.iter().min_by_key(|held| held.at).map(|held| held.node.clone());
    let Some(at) = oldest.and_then(|node| nodes::at(state, &node).ok()) else { return Vec::new() };
    give_up(state, here, at)
}

/// What waits goes out on the old road, behind the flush, which counts no more.
fn give_up(state: &mut IdentifierState, here: &Here, at: usize) -> Vec<Effect> {
    state.generations[at].flush_no += 1;
    end_hold(state, here, at)
}

/// The hold ends: what waits goes out, in order.
fn release(state: &mut IdentifierState, at: usize) -> Vec<Effect> {
    let node = &mut state.generations[at];
    node.holding = false;
    let (id, profile) = (node.id.clone(), node.route.clone());
    let (freed, held) = std::mem::take(&mut state.held).into_iter().partition(|held: &HeldItem| held.node == id);
    state.held = held;
    let send = |held: HeldItem| {
        let mut origin = Origin { id: [0; 16], at: Timestamp::from_millis(held.at) };
        origin.id.copy_from_slice(held.id.get(..16)?);
        Some(Effect::Item { profile: profile.clone(), item: held.item?, origin })
    };
    freed.into_iter().filter_map(send).collect()
}

/// A profile id is that of the node which founded it.
fn profile(id: &Bytes) -> Result<Bytes, IdentityError> {
    nodes::stored(id).map(|_| id.clone()).map_err(|_| IdentityError::Malformed("a profile id"))
}
