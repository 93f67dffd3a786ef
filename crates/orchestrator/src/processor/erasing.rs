//! Erasing (PROTOCOL §10.7), as the segmenter of the same number has done it: everybody who knows something of
//! the person is told to forget it.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{Address, Bury, EraseAddress, EraseNode, Erased, Gone},
    kind,
    state::JourneyProfile,
};
use waypost_engine::{address, definitions::Workspace, journey};
use waypost_runtime::processor::{Fold, Poison};
use waypost_types::{EntityId, Role};

use super::{context, decode, emit, identifier_of, to_inbox};
use crate::Profile;

/// The profile is wiped, or the tombstone it was is buried. What was queued for the person is taken back before
/// their addresses are forgotten.
pub(super) fn erased(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record, ws: &Workspace) -> Result<(), Poison> {
    let erased = decode::<Erased>(&record.body)?;
    let cx = context(fold, record)?;
    let mut profile = fold.get(id).cloned().unwrap_or_default();
    let mut effects = journey::erase(&mut profile.0, ws, &cx);
    if !erased.journey_state.is_empty() {
        effects.extend(journey::erase(&mut decode::<JourneyProfile>(&erased.journey_state)?, ws, &cx));
    }
    fold.put(id, profile);
    emit(fold, record.workspace, &record.key, effects);
    for node in &erased.ids {
        erase_node(fold, record, node);
    }
    for loser in erased.losers {
        let body = Bury { profile: loser.clone(), suppress: erased.suppress };
        to_inbox(fold, Role::Segmenter, record, loser, kind::BURY, body.encode_to_vec());
    }
    for address in &erased.addresses {
        erase_address(fold, record, address, erased.suppress);
    }
    Ok(())
}

/// Nodes have sent something to a profile that is gone. Without any, the mark of the erase goes.
pub(super) fn gone(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
    let nodes = decode::<Gone>(&record.body)?.nodes;
    if nodes.is_empty() && fold.get(id).is_some() {
        fold.delete(id);
    }
    for node in &nodes {
        erase_node(fold, record, node);
    }
    Ok(())
}

fn erase_node(fold: &mut Fold<'_, Profile>, record: &Record, node: &Bytes) {
    let Some(identifier) = identifier_of(node) else { return };
    let body = EraseNode { node: node.clone() };
    to_inbox(fold, Role::Identity, record, identifier, kind::ERASE_NODE, body.encode_to_vec());
}

fn erase_address(fold: &mut Fold<'_, Profile>, record: &Record, address: &Address, suppress: bool) {
    let key = Bytes::copy_from_slice(&address::key(&address.channel, &address.value));
    let body = EraseAddress { suppress, profile: record.key.clone(), channel: address.channel.clone() };
    to_inbox(fold, Role::Sender, record, key, kind::ERASE_ADDRESS, body.encode_to_vec());
}
