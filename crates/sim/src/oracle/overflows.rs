//! Holds that were given up because too much waited, or for too long (PROTOCOL §10.5), as the logs show them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{inbox::SegmentItem, kind};
use waypost_types::{Position, Role};

use super::Partitions;
use crate::naive::{Folded, Out};

/// How often too much waited.
pub(super) fn overflows(folded: &Partitions) -> u64 {
    identities(folded).map(|meaning| let_go(meaning, &[kind::EVENT, kind::RECEIPT]).count() as u64).sum()
}

/// Nodes whose hold was given up: what waited went out on the old road, behind the flush.
pub(super) fn given_up(folded: &Partitions) -> BTreeSet<Bytes> {
    identities(folded).flat_map(|meaning| let_go(meaning, &[kind::EVENT, kind::RECEIPT, kind::TICK])).flatten().collect()
}

fn identities(folded: &Partitions) -> impl Iterator<Item = &Folded> {
    folded.iter().filter(|(id, _)| id.role == Role::Identity).map(|(_, meaning)| meaning)
}

/// An event or a receipt sends one item on, a tick none; where there are more, others waited and were let go. Returns
/// their nodes, for each record of these kinds.
fn let_go<'a>(meaning: &'a Folded, kinds: &'a [u32]) -> impl Iterator<Item = Vec<Bytes>> + 'a {
    let mut items: BTreeMap<Position, Vec<Bytes>> = BTreeMap::new();
    for out in meaning.put_out.iter().filter(|(field, _)| field.starts_with("x:segmenter:")).flat_map(|(_, outs)| outs) {
        if let Out::Record(record) = out
            && record.kind == kind::ITEM
        {
            let node = SegmentItem::decode(record.body.clone()).map(|item| item.node).unwrap_or_default();
            items.entry(record.cause).or_default().push(node);
        }
    }
    meaning.accepted.iter().filter(move |accepted| kinds.contains(&accepted.record.kind)).filter_map(move |accepted| {
        let own = usize::from(accepted.record.kind != kind::TICK);
        items.remove(&accepted.position).filter(|nodes| nodes.len() > own)
    })
}
