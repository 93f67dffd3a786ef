//! Erasing and what comes after it (PROTOCOL §10.7): an erased profile never moves, keeps nothing, and
//! answers whatever still reaches it. The answer goes to identity by way of the orchestrator.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{Bury, Erased, Flush, Gone, MergeBegin, MergeState, SegmentItem},
    kind,
    state::SegmentProfile,
};
use waypost_engine::segment::{self, Wiped};
use waypost_runtime::processor::{Fold, Poison};
use waypost_types::EntityId;

use super::{Origin, decode, tell, to_journey};
use crate::Profile;

/// Nodes, or tombstones, that one record asks to forget: each is an output of the orchestrator, which may have 512.
const AT_ONCE: usize = 128;

/// The person is to be forgotten: the profile is wiped, and the orchestrator is told whom to tell.
pub(super) fn erase(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record, node: &Bytes, suppress: bool) {
    let mut profile = fold.get(id).cloned().unwrap_or_default();
    // The mark stays by this partition's clock, however old the request is.
    let now = fold.now().max(fold.clock());
    segment::seen(&mut profile.0, node, now);
    let wiped = segment::erase(&mut profile.0, &record.key, suppress, now);
    profile.1.forget();
    let origin = Origin::of(record);
    tell(fold, origin, "erase", &wiped.changes);
    put_out(fold, origin, wiped, suppress, Bytes::new());
    fold.put(id, profile);
}

/// The tombstone of a profile that had moved into an erased one goes with it.
pub(super) fn bury(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
    let suppress = decode::<Bury>(&record.body)?.suppress;
    let mut profile = fold.get(id).cloned().unwrap_or_default();
    let now = fold.now().max(fold.clock());
    segment::erase(&mut profile.0, &record.key, suppress, now);
    profile.1.forget();
    put_out(fold, Origin::of(record), Wiped::default(), suppress, Bytes::new());
    fold.put(id, profile);
    Ok(())
}

/// Answers a record for a profile that is erased, or was so long ago that nobody knows it any more.
pub(super) fn answer(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
    let node = match record.kind {
        kind::ITEM | kind::RUN_ITEM => decode::<SegmentItem>(&record.body)?.node,
        kind::FLUSH => decode::<Flush>(&record.body)?.node,
        kind::MERGE_BEGIN => decode::<MergeBegin>(&record.body)?.node,
        kind::MERGE_STATE => return late_half(fold, id, record),
        other => return Err(Poison { reason: "UNKNOWN_KIND", detail: format!("kind {other} at an erased profile") }),
    };
    if node.len() != 31 {
        return Err(Poison { reason: "DECODE_FAILED", detail: "a record without node".to_owned() });
    }
    to_journey(fold, Origin::of(record), kind::GONE, Gone { nodes: vec![node] }.encode_to_vec());
    Ok(())
}

/// The other half of a person comes when they have been erased: it is forgotten in the same way.
fn late_half(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
    let arrived = decode::<MergeState>(&record.body)?;
    let mut moved = decode::<SegmentProfile>(&arrived.segment_state)?;
    moved.ids.extend(arrived.ids.into_iter().chain([arrived.node]).filter(|node| node.len() == 31));
    let suppress = fold.get(id).is_some_and(|profile| profile.0.suppress);
    let wiped = segment::erase_late(moved, &arrived.loser);
    put_out(fold, Origin::of(record), wiped, suppress, arrived.journey_state);
    Ok(())
}

/// What there is to forget, in portions.
fn put_out(fold: &mut Fold<'_, Profile>, origin: Origin<'_>, wiped: Wiped, suppress: bool, journey_state: Bytes) {
    let (mut ids, mut losers) = (wiped.ids.chunks(AT_ONCE), wiped.losers.chunks(AT_ONCE));
    let mut portion = || (ids.next().unwrap_or_default().to_vec(), losers.next().unwrap_or_default().to_vec());
    let (first_ids, first_losers) = portion();
    let first = Erased { ids: first_ids, suppress, addresses: wiped.addresses, losers: first_losers, journey_state };
    to_journey(fold, origin, kind::ERASED, first.encode_to_vec());
    loop {
        let (ids, losers) = portion();
        if ids.is_empty() && losers.is_empty() {
            return;
        }
        to_journey(fold, origin, kind::ERASED, Erased { ids, suppress, losers, ..Erased::default() }.encode_to_vec());
    }
}
