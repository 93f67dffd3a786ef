//! Maps records of `wp1.identity` to the engine's steps, and their effects to outputs.

use bytes::Bytes;
use prost::Message;
use waypost_codec::{
    frame::Record,
    inbox::{IdentityEvent, Link, Receipt},
    kind,
};
use waypost_engine::{
    identity::{self, Effect, Here, IdentityError},
    record_id,
};
use waypost_runtime::processor::{Definitions, Fireable, Fold, Output, Poison, Processor};
use waypost_types::{EntityId, Layout, Role, WorkspaceId};

use crate::Identifier;

/// The identity role; one instance a partition.
#[derive(Debug)]
pub struct IdentityProcessor {
    layout: Layout,
}

// === impl IdentityProcessor ===

impl IdentityProcessor {
    /// New nodes carry the layout's number.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    fn emit(fold: &mut Fold<'_, Identifier>, record: &Record, effects: Vec<Effect>) {
        let (partition, position) = (fold.partition(), fold.position());
        for (index, effect) in effects.into_iter().enumerate() {
            let (role, key, kind, body, id) = match effect {
                // An item is its record at the next stage and keeps its id.
                Effect::Item { profile, item } => (Role::Segmenter, profile, kind::ITEM, item.encode_to_vec(), record.id),
                Effect::Link { to, link } => {
                    (Role::Identity, to, kind::LINK, link.encode_to_vec(), record_id::derived(Role::Identity, partition, position, index))
                }
                Effect::MergeBegin(begin) => {
                    let id = record_id::derived(Role::Identity, partition, position, index);
                    (Role::Segmenter, begin.loser.clone(), kind::MERGE_BEGIN, begin.encode_to_vec(), id)
                }
                Effect::Refused(refusal) => {
                    tracing::debug!(workspace = %record.workspace, partition, %position, reason = refusal.reason(), "identifiers not joined");
                    continue;
                }
            };
            fold.emit(Output::Inbox { role, workspace: record.workspace, key, kind, body: body.into(), id, via: 0, at: None });
        }
    }
}

impl Processor for IdentityProcessor {
    type Entity = Identifier;

    const ROLE: Role = Role::Identity;
    const RELAYS_TO: Option<Role> = None;
    const WATERMARKED: bool = false;
    const REPORTS_THROUGH: bool = true;

    fn define(&mut self, _defv: &str) -> Definitions {
        // Nothing here depends on definitions.
        Definitions::Loaded
    }

    fn entities(&self, record: &Record) -> Result<Vec<EntityId>, Poison> {
        match record.kind {
            kind::EVENT | kind::LINK => Ok(vec![identifier(record.workspace, &record.key)?]),
            // Keyed by the profile id, which is a node id: the identifier is its hash.
            kind::RECEIPT => Ok(vec![identifier(record.workspace, &receipt_hash(record)?)?]),
            // Hints of the merge's second half, which comes later: a merged identifier keeps its old road.
            kind::MERGE_DONE | kind::FLUSHED | kind::ERASE_NODE => Ok(Vec::new()),
            kind::SHARED | kind::ERASE | kind::DETACH | kind::EXPIRE | kind::EMIT => {
                Err(Poison { reason: "NOT_YET_SUPPORTED", detail: format!("records of kind {} at identity", record.kind) })
            }
            other => Err(Poison { reason: "UNKNOWN_KIND", detail: format!("kind {other} at identity") }),
        }
    }

    fn fold(&self, fold: &mut Fold<'_, Identifier>, record: &Record) -> Result<(), Poison> {
        let Some(id) = self.entities(record)?.pop() else { return Ok(()) };
        let here = Here { now: fold.now(), layout: self.layout, position: fold.position() };
        let mut entity = fold.get(&id).cloned().unwrap_or_default();
        let effects = match record.kind {
            kind::EVENT => identity::event(&mut entity.0, here, &record.id, &decode::<IdentityEvent>(&record.body)?),
            kind::LINK => identity::link(&mut entity.0, here, &decode::<Link>(&record.body)?),
            kind::RECEIPT => identity::receipt(&mut entity.0, here, &decode::<Receipt>(&record.body)?),
            other => return Err(Poison { reason: "UNKNOWN_KIND", detail: format!("kind {other} at identity") }),
        }
        .map_err(|e| poison(&e))?;
        fold.put(&id, entity);
        Self::emit(fold, record, effects);
        Ok(())
    }

    fn fire(&self, _fold: &mut Fold<'_, Identifier>, _entity: &EntityId, _limit: Fireable) -> Result<bool, Poison> {
        Ok(false)
    }
}

fn identifier(workspace: WorkspaceId, hash: &Bytes) -> Result<EntityId, Poison> {
    if hash.len() != 16 {
        return Err(Poison { reason: "DECODE_FAILED", detail: format!("an identifier's key has 16 bytes, not {}", hash.len()) });
    }
    Ok(EntityId::new(workspace, b'i', hash))
}

/// The hash within the profile id that a receipt names; the record's key is either.
fn receipt_hash(record: &Record) -> Result<Bytes, Poison> {
    let receipt = decode::<Receipt>(&record.body)?;
    if receipt.profile.len() != 31 {
        return Err(Poison { reason: "DECODE_FAILED", detail: "a receipt without profile id".to_owned() });
    }
    Ok(receipt.profile.slice(1..17))
}

fn decode<M: Message + Default>(body: &Bytes) -> Result<M, Poison> {
    M::decode(body.clone()).map_err(|e| Poison { reason: "DECODE_FAILED", detail: e.to_string() })
}

fn poison(error: &IdentityError) -> Poison {
    let reason = match error {
        IdentityError::Malformed(_) => "DECODE_FAILED",
        IdentityError::UnknownNode => "UNKNOWN_PROFILE",
    };
    Poison { reason, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use waypost_codec::inbox::{NodeRef, SegmentItem};
    use waypost_runtime::processor::Entity as _;
    use waypost_types::{Position, Timestamp};

    use super::*;

    fn node(class: u32, byte: u8) -> NodeRef {
        NodeRef { class, hash: Bytes::copy_from_slice(&[byte; 16]), generation: Bytes::new() }
    }

    fn record(kind: u32, key: &[u8], body: Vec<u8>) -> Record {
        Record::new(kind, WorkspaceId::new(1), [7; 16], Bytes::copy_from_slice(key), Timestamp::from_millis(5), body.into())
    }

    type Entities = BTreeMap<EntityId, Option<Identifier>>;

    fn run(entities: &mut Entities, offset: u64, record: &Record) -> Result<Vec<Output>, Poison> {
        let processor = IdentityProcessor::new(Layout { number: 1, partitions: 16 });
        let mut fold = Fold::new(Timestamp::from_millis(10), Position { offset, index: 0 }, entities);
        processor.fold(&mut fold, record)?;
        Ok(fold.outputs().to_vec())
    }

    fn inboxes(outputs: &[Output]) -> Vec<(Role, u32, Bytes)> {
        outputs
            .iter()
            .filter_map(|o| match o {
                Output::Inbox { role, kind, key, .. } => Some((*role, *kind, key.clone())),
                Output::Public { .. } | Output::Dead(_) => None,
            })
            .collect()
    }

    #[test]
    fn an_event_goes_to_its_profile_and_links_what_came_with_it() {
        let mut entities = Entities::new();
        let body = IdentityEvent { identifiers: vec![node(2, 2), node(5, 5)], event: Bytes::from_static(b"e"), by_profile: false };
        let event = record(kind::EVENT, &[2; 16], body.encode_to_vec());
        let out = inboxes(&run(&mut entities, 1, &event).unwrap());
        assert_eq!(out.iter().map(|(r, k, _)| (*r, *k)).collect::<Vec<_>>(), [(Role::Segmenter, kind::ITEM), (Role::Identity, kind::LINK)]);
        assert_eq!(&out[1].2[..], [5; 16]);
        assert!(run(&mut entities, 2, &event).unwrap().is_empty(), "the message id was seen");
        let stored = entities.values().flatten().next().unwrap();
        let id = EntityId::new(WorkspaceId::new(1), b'i', &[2; 16]);
        assert_eq!(&Identifier::decode(&id, &stored.encode().unwrap()).unwrap(), stored);
    }

    #[test]
    fn a_link_moves_the_weaker_profile_and_ids_are_functions_of_the_log() {
        let mut entities = Entities::new();
        let body = IdentityEvent { identifiers: vec![node(2, 2), node(5, 5)], event: Bytes::new(), by_profile: false };
        let out = run(&mut entities, 1, &record(kind::EVENT, &[2; 16], body.encode_to_vec())).unwrap();
        let Output::Inbox { body, key, .. } = &out[1] else { panic!("a link") };
        let link = record(kind::LINK, key, body.to_vec());
        let again = run(&mut entities.clone(), 9, &link).unwrap();
        let moved = run(&mut entities, 9, &link).unwrap();
        assert_eq!(again, moved);
        assert_eq!(
            inboxes(&moved).iter().map(|(r, k, _)| (*r, *k)).collect::<Vec<_>>(),
            [(Role::Segmenter, kind::MERGE_BEGIN), (Role::Identity, kind::LINK)]
        );
    }

    #[test]
    fn receipts_follow_the_profile_they_name() {
        let mut entities = Entities::new();
        let body = IdentityEvent { identifiers: vec![node(2, 2)], event: Bytes::new(), by_profile: false };
        let out = run(&mut entities, 1, &record(kind::EVENT, &[2; 16], body.encode_to_vec())).unwrap();
        let profile = inboxes(&out)[0].2.clone();
        let receipt = Receipt { profile: profile.clone(), ..Receipt::default() };
        let out = run(&mut entities, 2, &record(kind::RECEIPT, &profile, receipt.encode_to_vec())).unwrap();
        let Output::Inbox { body, key, .. } = &out[0] else { panic!("an item") };
        assert_eq!(*key, profile);
        assert!(SegmentItem::decode(body.clone()).unwrap().body.is_some());
    }

    #[test]
    fn what_cannot_be_folded_has_a_reason() {
        for (kind, key, body, reason) in [
            (kind::ERASE, &[2; 16][..], Vec::new(), "NOT_YET_SUPPORTED"),
            (kind::EVENT, &[2; 3], Vec::new(), "DECODE_FAILED"),
            (kind::EVENT, &[2; 16], vec![0xff], "DECODE_FAILED"),
            (kind::EVENT, &[2; 16], Vec::new(), "DECODE_FAILED"),
            (
                kind::RECEIPT,
                &[2; 16],
                Receipt { profile: Bytes::from_static(&[2; 31]), ..Receipt::default() }.encode_to_vec(),
                "UNKNOWN_PROFILE",
            ),
            (999, &[2; 16], Vec::new(), "UNKNOWN_KIND"),
        ] {
            let found = run(&mut Entities::new(), 1, &record(kind, key, body)).map_err(|p| p.reason);
            assert_eq!(found, Err(reason), "kind {kind}");
        }
        assert_eq!(run(&mut Entities::new(), 1, &record(kind::MERGE_DONE, &[2; 16], Vec::new())), Ok(Vec::new()));
    }
}
