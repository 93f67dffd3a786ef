//! What orchestrators have decided, as `waypost.decisions.v1` tells it, each decision where its record stands.

use bytes::Bytes;
use waypost_codec::public::Decision;
use waypost_types::{PartitionId, Position};

use super::Wrong;
use crate::naive::{Folded, Out};

/// One decision.
#[derive(Clone, Debug)]
pub(super) struct Decided {
    /// The record under way.
    pub(super) at: Position,
    pub(super) profile: Bytes,
    pub(super) row: Decision,
}

/// Those of a partition, in order.
pub(super) fn decided(id: PartitionId, meaning: &Folded) -> Result<Vec<Decided>, Wrong> {
    let mut all = Vec::new();
    for out in meaning.put_out.iter().filter(|(field, _)| field.starts_with("x:waypost.decisions.v1:")).flat_map(|(_, outs)| outs) {
        let Out::Public(profile, headers, body) = out else { continue };
        let name = headers.iter().find(|(name, _)| name == "ce_id").map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        let at = name.as_deref().and_then(place).ok_or_else(|| format!("{id}: a decision without a place: {name:?}"))?;
        let row = Decision::decode(body).ok_or_else(|| format!("{id}: a decision that cannot be read"))?;
        all.push(Decided { at, profile: profile.clone(), row });
    }
    // Those of a profile are in one public partition, in order.
    all.sort_by_key(|decided| decided.at);
    Ok(all)
}

/// Of `role/partition/offset.index.output`.
fn place(name: &str) -> Option<Position> {
    let mut parts = name.rsplit('/').next()?.split('.');
    Some(Position { offset: parts.next()?.parse().ok()?, index: parts.next()?.parse().ok()? })
}

#[test]
fn a_place_is_read_from_a_name() {
    assert_eq!(place("orchestrator/3/17.2.5"), Some(Position { offset: 17, index: 2 }));
    assert_eq!(place("orchestrator"), None);
}
