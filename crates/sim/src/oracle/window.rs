//! Which events count, at the identifiers they came by: one whose id is in the window does not (PROTOCOL §10.1).
//!
//! A window of a few ids forgets: then the same event counts again, once for each time it was forgotten.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use waypost_codec::kind;
use waypost_types::{PartitionId, Position, Role, Timestamp};

use super::Partitions;

/// Where the events stand that count.
pub(super) type Counted = BTreeSet<(PartitionId, Position)>;

/// By how much of its id a window knows an event.
type Half = [u8; 8];

/// The events that count where an identifier remembers `most` ids: those of the latest log time, and of the same
/// moment the greatest.
pub(super) fn counted(folded: &Partitions, most: usize) -> Counted {
    let mut windows: BTreeMap<Bytes, BTreeSet<(Timestamp, Half)>> = BTreeMap::new();
    let mut counted = Counted::new();
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Identity) {
        for accepted in meaning.accepted.iter().filter(|a| a.record.kind == kind::EVENT && !a.aside) {
            let record = &accepted.record;
            let mut half = Half::default();
            half.copy_from_slice(&record.id[..8]);
            let window = windows.entry(record.key.clone()).or_default();
            if window.iter().any(|(_, seen)| *seen == half) {
                continue;
            }
            window.insert((record.at.unwrap_or_else(|| record.said.min(accepted.appended)), half));
            while window.len() > most {
                window.pop_first();
            }
            counted.insert((*id, accepted.position));
        }
    }
    counted
}
