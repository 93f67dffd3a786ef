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

pub(crate) const MAX_RECORDS: usize = 24;
/// Behind the last record everything that is due so much later fires.
const AFTERWARDS: Span = Span::from_days(40);

/// A role by the first byte, then records: kind, offset, minutes since the beginning, lengths of key and body, key, body.
/// Whether every one of them was folded.
pub(crate) fn fold(data: &[u8]) -> bool {
    let Some((role, mut rest)) = data.split_first() else { return false };
    let mut records = Vec::new();
    while records.len() < MAX_RECORDS
        && let Some((head, after)) = rest.split_first_chunk::<7>()
    {
        let [kind, offset, hour, minute, key, long, short] = *head;
        let (key, after) = after.split_at(usize::from(key).min(after.len()));
        let (body, next) = after.split_at(usize::from(u16::from_be_bytes([long, short])).min(after.len()));
        let said = NOW.plus(Span::from_secs(60 * i64::from(u16::from_be_bytes([hour, minute]))));
        let record = Record::new(u32::from(kind), SHOP, [offset; 16], Bytes::copy_from_slice(key), said, Bytes::copy_from_slice(body));
        let cause = Position { offset: u64::from(offset), index: 0 };
        records.push(Record { at: Some(said), cause, ..record });
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

fn twice<P: Processor>(make: impl Fn() -> P, records: &[Record]) -> bool {
    let (outputs, all) = folded(&make, records);
    assert_eq!(folded(&make, records), (outputs, all), "the same records, other outputs");
    all && !records.is_empty()
}

fn folded<P: Processor>(make: &impl Fn() -> P, records: &[Record]) -> (Vec<Vec<Output>>, bool) {
    let mut processor = make();
    processor.define(&PUBLISHED.1);
    let mut entities: BTreeMap<EntityId, Option<P::Entity>> = BTreeMap::new();
    let (mut outputs, mut all) = (Vec::new(), true);
    for record in records {
        let Ok(wanted) = processor.entities(record) else {
            all = false;
            continue;
        };
        for id in &wanted {
            entities.entry(id.clone()).or_insert(None);
        }
        // Ids follow from the offset, and later records name them: it stands in the seed.
        let position = record.cause;
        let now = record.at.unwrap_or(NOW);
        for id in &wanted {
            fire(&processor, &mut entities, id, now, position, &mut outputs);
        }
        let mut fold = Fold::new(now, position, &mut entities);
        let done = processor.fold(&mut fold, record);
        let put_out = fold.outputs().to_vec();
        if done.is_ok() {
            outputs.push(put_out);
        } else {
            all = false;
        }
    }
    let (last, end) = (records.iter().filter_map(|r| r.at).max().unwrap_or(NOW), Position { offset: 256, index: 0 });
    let ids: Vec<EntityId> = entities.keys().cloned().collect();
    for id in &ids {
        fire(&processor, &mut entities, id, last.plus(AFTERWARDS), end, &mut outputs);
    }
    (outputs, all)
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
