//! Holds that were given up because too much waited (PROTOCOL §10.5), as the logs show them.

use std::collections::BTreeMap;

use prost::Message as _;
use waypost_codec::{
    inbox::{SegmentItem, segment_item::Body},
    kind,
};
use waypost_types::{Position, Role};

use super::Partitions;
use crate::naive::{Accepted, Folded, Out};

/// An event or a receipt sends one item on; where there are more, others waited and were let go.
pub(super) fn overflows(folded: &Partitions) -> u64 {
    folded.iter().filter(|(id, _)| id.role == Role::Identity).map(|(_, meaning)| let_go(meaning)).sum()
}

fn let_go(meaning: &Folded) -> u64 {
    let mut items: BTreeMap<Position, usize> = BTreeMap::new();
    for out in meaning.put_out.iter().filter(|(field, _)| field.starts_with("x:segmenter:")).flat_map(|(_, outs)| outs) {
        if let Out::Record(record) = out
            && record.kind == kind::ITEM
        {
            let settles = SegmentItem::decode(record.body.clone()).is_ok_and(|item| matches!(item.body, Some(Body::Settled(_))));
            *items.entry(record.cause).or_default() += usize::from(!settles);
        }
    }
    let one = |accepted: &&Accepted| matches!(accepted.record.kind, kind::EVENT | kind::RECEIPT);
    meaning.accepted.iter().filter(one).filter(|accepted| items.get(&accepted.position).is_some_and(|sent| *sent > 1)).count() as u64
}
