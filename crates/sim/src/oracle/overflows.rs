//! Holds that were given up because too much waited (PROTOCOL §10.5), as the logs show them.

use std::collections::BTreeMap;

use waypost_codec::kind;
use waypost_types::{Position, Role};

use super::Partitions;
use crate::naive::Out;

/// An event or a receipt sends one item on; where it sends more, it found others waiting, and let them go.
pub(super) fn overflows(folded: &Partitions) -> u64 {
    let mut overflows = 0;
    for (_, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Identity) {
        let mut items: BTreeMap<Position, u64> = BTreeMap::new();
        for out in meaning.put_out.iter().filter(|(field, _)| field.starts_with("x:segmenter:")).flat_map(|(_, outs)| outs) {
            if let Out::Record(record) = out
                && record.kind == kind::ITEM
            {
                *items.entry(record.cause).or_default() += 1;
            }
        }
        let several = |position: &Position| items.get(position).is_some_and(|items| *items > 1);
        let brought = meaning.accepted.iter().filter(|a| matches!(a.record.kind, kind::EVENT | kind::RECEIPT));
        overflows += brought.filter(|accepted| several(&accepted.position)).count() as u64;
    }
    overflows
}
