//! Maps records of `wp1.identity` to the engine's steps, and their effects to outputs.

use bytes::Bytes;
use prost::Message;
use waypost_codec::{frame::Record, inbox::segment_item::Body, kind, wire};
use waypost_engine::{
    identity::{self, Effect, Here, IdentityError, Limits, Rules},
    record_id,
};
use waypost_runtime::processor::{Definitions, Entity as _, Fireable, Fold, Output, Poison, Processor};
use waypost_types::{EntityId, Layout, Role, Span, WorkspaceId};

use crate::Identifier;

/// The identity role; one instance a partition.
#[derive(Debug)]
pub struct IdentityProcessor {
    layout: Layout,
    limits: Limits,
    rules: Rules,
}

// === impl IdentityProcessor ===

impl IdentityProcessor {
    /// New nodes carry the layout's number.
    pub fn new(layout: Layout) -> Self {
        Self { layout, limits: Limits::default(), rules: Rules::default() }
    }

    /// The same under other limits and rules; for the simulator.
    #[must_use]
    pub fn under(self, limits: Limits, rules: Rules) -> Self {
        Self { limits, rules, ..self }
    }

    fn here(&self, fold: &Fold<'_, Identifier>, record: [u8; 16]) -> Here {
        let (layout, limits, rules) = (self.layout, self.limits, self.rules);
        Here { now: fold.now(), layout, position: fold.position(), record, limits, rules }
    }

    fn step(&self, entity: &mut Identifier, fold: &Fold<'_, Identifier>, record: &Record) -> Result<Vec<Effect>, Poison> {
        let here = &self.here(fold, record.id);
        let state = &mut entity.0;
        let body = &record.body;
        match record.kind {
            kind::EVENT => identity::event(state, here, &decode(body)?),
            kind::LINK => identity::link(state, here, &decode(body)?),
            kind::SHARED => identity::shared(state, here, &decode(body)?),
            kind::MERGE_DONE => identity::merge_done(state, here, &decode(body)?),
            kind::FLUSHED => identity::flushed(state, here, &decode(body)?),
            kind::ERASE_NODE => identity::erase_node(state, &decode(body)?),
            kind::RECEIPT => identity::receipt(state, here, &decode(body)?),
            kind::ERASE => identity::erase(state, here, &decode(body)?),
            kind::DETACH => identity::detach(state, here, &decode(body)?),
            kind::EXPIRE => identity::expire(state, here, &decode(body)?),
            kind::RUN_COMMAND => identity::run_command(state, here, &decode(body)?),
            other => return Err(unknown(other)),
        }
        .map_err(|e| poison(&e))
    }
}

impl Processor for IdentityProcessor {
    type Entity = Identifier;

    const ROLE: Role = Role::Identity;
    const RELAYS_TO: Option<Role> = None;
    const WATERMARKED: bool = false;
    const REPORTS_THROUGH: bool = true;
    const HOLDS_FOR: Option<Span> = Some(identity::HELD_FOR);

    fn define(&mut self, _defv: &str) -> Definitions {
        // Nothing here depends on definitions.
        Definitions::Loaded
    }

    fn entities(&self, record: &Record) -> Result<Vec<EntityId>, Poison> {
        Ok(vec![entity(record)?])
    }

    fn fold(&self, fold: &mut Fold<'_, Identifier>, record: &Record) -> Result<(), Poison> {
        let id = entity(record)?;
        let mut entity = fold.take(&id).unwrap_or_default();
        let effects = self.step(&mut entity, fold, record)?;
        fold.put(&id, entity);
        emit(fold, record.workspace, effects);
        Ok(())
    }

    /// A hold that lasts too long is given up.
    fn fire(&self, fold: &mut Fold<'_, Identifier>, id: &EntityId, limit: Fireable) -> Result<bool, Poison> {
        let Some(mut entity) = fold.get(id).cloned() else { return Ok(false) };
        let due = entity.wakeups().plain.filter(|due| *due <= limit.plain && limit.before.is_none_or(|before| *due < before));
        let Some(due) = due else { return Ok(false) };
        let here = self.here(fold, record_id::of_timer(Role::Identity, id.as_bytes(), due));
        let effects = identity::expire_hold(&mut entity.0, &here);
        let fired = !effects.is_empty();
        if fired {
            fold.put(id, entity);
            emit(fold, id.workspace(), effects);
        }
        Ok(fired)
    }
}

fn emit(fold: &mut Fold<'_, Identifier>, workspace: WorkspaceId, effects: Vec<Effect>) {
    let (partition, position) = (fold.partition(), fold.position());
    for (index, effect) in effects.into_iter().enumerate() {
        let derived = || record_id::derived(Role::Identity, partition, position, index);
        let (role, key, kind, body, id, at) = match effect {
            // An item is its record at the next stage and keeps its id and its log time.
            Effect::Item { profile, item, origin } => {
                let mut body = Vec::with_capacity(item.encoded_len());
                wire::segment_item(&item, &mut body);
                let kind = if matches!(item.body, Some(Body::Command(_))) { kind::RUN_ITEM } else { kind::ITEM };
                (Role::Segmenter, profile, kind, body, origin.id, Some(origin.at))
            }
            Effect::Link { to, link } => (Role::Identity, to, kind::LINK, link.encode_to_vec(), derived(), None),
            Effect::Share { to, shared } => (Role::Identity, to, kind::SHARED, shared.encode_to_vec(), derived(), None),
            Effect::MergeBegin(begin) => (Role::Segmenter, begin.loser.clone(), kind::MERGE_BEGIN, begin.encode_to_vec(), derived(), None),
            Effect::Flush(flush) => (Role::Segmenter, flush.profile.clone(), kind::FLUSH, flush.encode_to_vec(), derived(), None),
            Effect::Refused(refusal) => {
                fold.refuse();
                tracing::debug!(%workspace, partition, %position, reason = refusal.reason(), "identifiers not joined");
                continue;
            }
        };
        fold.emit(Output::Inbox { role, workspace, key, kind, body: body.into(), id, via: 0, at });
    }
}

/// What a record is about.
fn entity(record: &Record) -> Result<EntityId, Poison> {
    match record.kind {
        kind::EVENT
        | kind::LINK
        | kind::SHARED
        | kind::MERGE_DONE
        | kind::FLUSHED
        | kind::ERASE_NODE
        | kind::ERASE
        | kind::DETACH
        | kind::EXPIRE
        | kind::RUN_COMMAND => identifier(record.workspace, &record.key),
        // Keyed by the profile id, which is a node id: the identifier is its hash.
        kind::RECEIPT => identifier(record.workspace, &receipt_hash(record)?),
        kind::EMIT => Err(Poison { reason: "NOT_YET_SUPPORTED", detail: "an event that a journey emits".to_owned() }),
        other => Err(unknown(other)),
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
    let receipt = decode::<waypost_codec::inbox::Receipt>(&record.body)?;
    if receipt.profile.len() != 31 {
        return Err(Poison { reason: "DECODE_FAILED", detail: "a receipt without profile id".to_owned() });
    }
    Ok(receipt.profile.slice(1..17))
}

fn decode<M: Message + Default>(body: &Bytes) -> Result<M, Poison> {
    M::decode(body.clone()).map_err(|e| Poison { reason: "DECODE_FAILED", detail: e.to_string() })
}

fn unknown(kind: u32) -> Poison {
    Poison { reason: "UNKNOWN_KIND", detail: format!("kind {kind} at identity") }
}

fn poison(error: &IdentityError) -> Poison {
    let reason = match error {
        IdentityError::Malformed(_) => "DECODE_FAILED",
        IdentityError::UnknownNode => "UNKNOWN_PROFILE",
        IdentityError::GoneNode => "PROFILE_GONE",
    };
    Poison { reason, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use waypost_codec::inbox::{
        Erase, Flushed, IdentityEvent, MergeDone, NodeRef, Receipt, RunCommand, SegmentItem, StartRun, run_command,
    };
    use waypost_runtime::processor::{Entity as _, Wakeups};
    use waypost_types::{Position, Timestamp};

    use super::*;

    fn node(class: u32, byte: u8) -> NodeRef {
        NodeRef { class, hash: Bytes::copy_from_slice(&[byte; 16]), generation: Bytes::new(), custom: String::new() }
    }

    fn record(kind: u32, key: &[u8], body: Vec<u8>) -> Record {
        Record::new(kind, WorkspaceId::new(1), [7; 16], Bytes::copy_from_slice(key), Timestamp::from_millis(5), body.into())
    }

    type Entities = BTreeMap<EntityId, Option<Identifier>>;

    fn run(entities: &mut Entities, offset: u64, record: &Record) -> Result<Vec<Output>, Poison> {
        let processor = IdentityProcessor::new(Layout { number: 1, partitions: 16 }).under(Limits::default(), Rules::default());
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

    /// An identifier whose only node holds one event of log time 10 ms, its id, and where it is going.
    fn holding() -> (Entities, Bytes, Bytes) {
        let mut entities = Entities::new();
        let event = |id| {
            let body = IdentityEvent { identifiers: vec![node(2, 2)], event: Bytes::from_static(b"e"), by_profile: false };
            Record { id: [id; 16], ..record(kind::EVENT, &[2; 16], body.encode_to_vec()) }
        };
        let profile = inboxes(&run(&mut entities, 1, &event(1)).unwrap())[0].2.clone();
        let at = Bytes::from([&[1], &profile[1..]].concat());
        let done = MergeDone { node: profile.clone(), at: at.clone() };
        let out = run(&mut entities, 2, &record(kind::MERGE_DONE, &[2; 16], done.encode_to_vec())).unwrap();
        assert_eq!(inboxes(&out), [(Role::Segmenter, kind::FLUSH, profile.clone())]);
        assert_eq!(run(&mut entities, 3, &event(3)), Ok(Vec::new()));
        (entities, profile, at)
    }

    #[test]
    fn what_is_held_keeps_its_id_and_log_time_and_wakes_its_identifier() {
        let (mut entities, profile, at) = holding();
        let due = Timestamp::from_millis(10).plus(identity::HELD_FOR);
        let wakeups = |entities: &Entities| entities.values().flatten().next().unwrap().wakeups();
        assert_eq!(wakeups(&entities), Wakeups { plain: Some(due), absent: None });
        let flushed = Flushed { node: profile, at: at.clone(), flush_no: 1 };
        let out = run(&mut entities, 4, &record(kind::FLUSHED, &[2; 16], flushed.encode_to_vec())).unwrap();
        let Output::Inbox { key, id, at: log_time, .. } = &out[0] else { panic!("an item") };
        assert_eq!((key, *id, *log_time), (&at, [3; 16], Some(Timestamp::from_millis(10))));
        assert_eq!(wakeups(&entities), Wakeups::default());
    }

    #[test]
    fn a_hold_past_its_time_is_given_up_by_the_timer() {
        let (mut entities, profile, _) = holding();
        let id = entities.keys().next().unwrap().clone();
        let due = Timestamp::from_millis(10).plus(identity::HELD_FOR);
        let processor = IdentityProcessor::new(Layout { number: 1, partitions: 16 }).under(Limits::default(), Rules::default());
        let mut fold = Fold::new(due, Position { offset: 4, index: 0 }, &mut entities);
        let limit = Fireable { plain: due, absent: due, proven: due, before: None };
        assert_eq!(processor.fire(&mut fold, &id, limit), Ok(true));
        let outputs = fold.outputs().to_vec();
        let item = |profile: &Bytes| (Role::Segmenter, kind::ITEM, profile.clone());
        assert_eq!(inboxes(&outputs), [item(&profile), item(&profile)], "what was held, and what settles behind it");
        assert_eq!(processor.fire(&mut fold, &id, limit), Ok(false));
    }

    #[test]
    fn a_command_about_runs_keeps_its_place_among_the_events_in_a_kind_of_its_own() {
        let start = StartRun { journey: "cart".to_owned(), key: "k1".to_owned() };
        let command = RunCommand { node: Some(node(2, 2)), what: Some(run_command::What::Start(start.clone())) };
        let command = Record { id: [8; 16], ..record(kind::RUN_COMMAND, &[2; 16], command.encode_to_vec()) };
        let (mut entities, profile, at) = holding();
        let version = |entities: &Entities| {
            let stored = entities.values().flatten().next().unwrap().encode().unwrap();
            waypost_codec::stored::open(&stored).unwrap().0
        };
        assert_eq!(version(&entities), 2);
        assert_eq!(run(&mut entities, 4, &command), Ok(Vec::new()));
        assert_eq!(version(&entities), 3, "a binary that knows no commands must not take it for nothing");
        let id = entities.keys().next().unwrap().clone();
        let stored = entities[&id].clone().unwrap();
        assert_eq!(Identifier::decode(&id, &stored.encode().unwrap()).unwrap(), stored);
        let flushed = Flushed { node: profile, at, flush_no: 1 };
        let out = run(&mut entities, 5, &record(kind::FLUSHED, &[2; 16], flushed.encode_to_vec())).unwrap();
        let kinds: Vec<u32> = inboxes(&out).into_iter().map(|(_, kind, _)| kind).collect();
        assert_eq!(kinds, [kind::ITEM, kind::RUN_ITEM, kind::ITEM], "behind the event that waited, before what settles");
        let Output::Inbox { body, id, .. } = &out[1] else { panic!("an item") };
        let sent = SegmentItem::decode(body.clone()).unwrap();
        let Some(Body::Command(RunCommand { what: Some(run_command::What::Start(sent)), .. })) = sent.body else { panic!("a start") };
        assert_eq!((sent, *id), (start, [8; 16]));
        assert_eq!(version(&entities), 2);
        assert_eq!(run(&mut Entities::new(), 1, &command), Ok(Vec::new()), "nobody has this identifier");
    }

    #[test]
    fn commands_for_nobody_make_nobody() {
        let mut entities = Entities::new();
        let erase = Erase { node: Some(node(2, 2)), suppress: true };
        assert_eq!(run(&mut entities, 1, &record(kind::ERASE, &[2; 16], erase.encode_to_vec())), Ok(Vec::new()));
        assert!(entities.values().flatten().all(|identifier| identifier.encode().is_none()));
    }

    #[test]
    fn what_cannot_be_folded_has_a_reason() {
        for (kind, key, body, reason) in [
            (kind::EMIT, &[2; 16][..], Vec::new(), "NOT_YET_SUPPORTED"),
            (kind::ERASE, &[2; 16], Vec::new(), "DECODE_FAILED"),
            (kind::MERGE_DONE, &[2; 16], Vec::new(), "DECODE_FAILED"),
            (kind::ERASE_NODE, &[2; 16], Vec::new(), "UNKNOWN_PROFILE"),
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
    }
}
