//! All that was folded in a world, each record behind the one that caused it.

use std::collections::BTreeMap;

use waypost_types::PartitionId;

use super::{Partitions, Wrong};
use crate::naive::Accepted;

/// Every accepted record, in an order in which a cause stands before what it caused and partitions keep theirs.
///
/// # Errors
/// A record that stands before its own cause.
pub(super) fn order(folded: &Partitions) -> Result<Vec<(PartitionId, &Accepted)>, Wrong> {
    let mut cursors: BTreeMap<PartitionId, usize> = folded.keys().map(|id| (*id, 0)).collect();
    let mut ordered = Vec::new();
    loop {
        let before = ordered.len();
        for (id, meaning) in folded {
            while let Some(accepted) = meaning.accepted.get(cursors[id]) {
                if !is_caused(folded, &cursors, accepted) {
                    break;
                }
                ordered.push((*id, accepted));
                *cursors.entry(*id).or_default() += 1;
            }
        }
        if ordered.len() == before {
            break;
        }
    }
    let all: usize = folded.values().map(|meaning| meaning.accepted.len()).sum();
    if ordered.len() == all { Ok(ordered) } else { Err(format!("{} records wait for a cause that comes later", all - ordered.len())) }
}

/// Whether the source has folded what this record came from.
fn is_caused(folded: &Partitions, cursors: &BTreeMap<PartitionId, usize>, accepted: &Accepted) -> bool {
    let Some((role, index)) = accepted.source else { return true };
    let source = PartitionId { role, index };
    let next = folded.get(&source).and_then(|meaning| meaning.accepted.get(cursors[&source]));
    next.is_none_or(|next| next.position > accepted.record.cause)
}
