//! Records of the inboxes, folded by the roles one after another: whatever stands in a record, folding it
//! ends in state and outputs or in a reason, and the same records give the same outputs.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use waypost_codec::frame::Record;
use waypost_identity::IdentityProcessor;
use waypost_orchestrator::OrchestratorProcessor;
use waypost_runtime::processor::{Fireable, Fold, Output, Processor};
use waypost_segmenter::SegmenterProcessor;
use waypost_sender::SenderProcessor;
use waypost_types::{EntityId, Layout, Position, Span, Timestamp};

use crate::shop::{NOW, PUBLISHED, SHOP};

const MAX_RECORDS: usize = 16;

/// A role by the first byte, then records: kind, two bytes of key, two of length, body.
pub(crate) fn fold(data: &[u8]) {
    let Some((role, mut rest)) = data.split_first() else { return };
    let mut records = Vec::new();
    while records.len() < MAX_RECORDS
        && let Some((head, after)) = rest.split_first_chunk::<5>()
    {
        let length = usize::from(u16::from_be_bytes([head[3], head[4]])).min(after.len());
        let (body, next) = after.split_at(length);
        records.push(record(u32::from(head[0]), [head[1], head[2]], body, records.len()));
        rest = next;
    }
    let library = || Arc::clone(&PUBLISHED.0);
    match role % 4 {
        0 => twice(|| IdentityProcessor::new(Layout { number: 1, partitions: 4 }), &records),
        1 => twice(|| SegmenterProcessor::new(library()), &records),
        2 => twice(|| OrchestratorProcessor::new(library()), &records),
        _ => twice(SenderProcessor::new, &records),
    }
}

/// Keys of every length that a role knows: identifier or address (16 bytes), profile (31).
fn record(kind: u32, key: [u8; 2], body: &[u8], index: usize) -> Record {
    let length = if key[0] & 1 == 0 { 16 } else { 31 };
    let mut bytes = vec![key[1] % 4 + 1; length];
    bytes[0] = key[0] % 6 + 1;
    let mut id = [0; 16];
    id[0] = u8::try_from(index).unwrap_or_default();
    let said = NOW.plus(Span::from_secs(i64::from(key[0])));
    Record { at: Some(said), ..Record::new(kind, SHOP, id, bytes.into(), said, Bytes::copy_from_slice(body)) }
}

fn twice<P: Processor>(make: impl Fn() -> P, records: &[Record]) {
    assert_eq!(folded(&make, records), folded(&make, records), "the same records, other outputs");
}

fn folded<P: Processor>(make: &impl Fn() -> P, records: &[Record]) -> Vec<Vec<Output>> {
    let mut processor = make();
    processor.define(&PUBLISHED.1);
    let mut entities: BTreeMap<EntityId, Option<P::Entity>> = BTreeMap::new();
    let mut outputs = Vec::new();
    for (offset, record) in records.iter().enumerate() {
        let Ok(wanted) = processor.entities(record) else { continue };
        for id in &wanted {
            entities.entry(id.clone()).or_insert(None);
        }
        let position = Position { offset: offset as u64, index: 0 };
        let now = record.at.unwrap_or(NOW);
        let mut fold = Fold::new(now, position, &mut entities);
        let done = processor.fold(&mut fold, record);
        let put_out = fold.outputs().to_vec();
        if done.is_ok() {
            outputs.push(put_out);
        }
        for id in &wanted {
            fire(&processor, &mut entities, id, now.plus(Span::from_days(40)), position, &mut outputs);
        }
    }
    outputs
}

fn fire<P: Processor>(
    processor: &P,
    entities: &mut BTreeMap<EntityId, Option<P::Entity>>,
    id: &EntityId,
    limit: Timestamp,
    position: Position,
    outputs: &mut Vec<Vec<Output>>,
) {
    for _ in 0..32 {
        let mut fold = Fold::new(limit, position, entities);
        let fired = processor.fire(&mut fold, id, Fireable { plain: limit, absent: limit, proven: limit, before: None });
        outputs.push(fold.outputs().to_vec());
        if !matches!(fired, Ok(true)) {
            return;
        }
    }
}
