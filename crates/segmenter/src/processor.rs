//! Maps records of `wp1.segment` to the engine's steps, and their outcomes to outputs (PROTOCOL §10.2).

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message;
use waypost_codec::{
    frame::Record,
    inbox::{
        Delta, Event, JourneyItem, JourneyMergeBegin, JourneyMergeState, MergeBegin, MergeState, Pass, SegmentItem, Truth,
        segment_item::Body,
    },
    kind,
    public::SegmentChange,
    state::SegmentProfile,
};
use waypost_engine::{
    definitions::{DefinitionSet, Policy, Workspace},
    library::Library,
    record_id,
    segment::{self, Outcome},
};
use waypost_runtime::processor::{Definitions, Fireable, Fold, Output, Poison, Processor};
use waypost_types::{EntityId, ProfileId, Role, WorkspaceId};

use crate::Profile;

/// The segmenter role; one instance a partition.
#[derive(Debug)]
pub struct SegmenterProcessor {
    library: Arc<Library>,
    set: Option<Arc<DefinitionSet>>,
}

/// Whose outputs these are: the record's, and of which profile.
#[derive(Clone, Copy, Debug)]
struct Origin<'a> {
    workspace: WorkspaceId,
    profile: &'a Bytes,
    id: [u8; 16],
    via: u32,
}

// === impl SegmenterProcessor ===

impl SegmenterProcessor {
    /// With the definitions that have arrived so far.
    pub fn new(library: Arc<Library>) -> Self {
        Self { library, set: None }
    }

    /// A workspace's definitions; without any in force, those of an empty one.
    fn workspace(&self, id: WorkspaceId) -> Cow<'_, Workspace> {
        self.set.as_ref().and_then(|set| set.workspaces.get(&id)).map_or_else(|| Cow::Owned(empty(id)), |w| Cow::Borrowed(w.as_ref()))
    }

    fn item(&self, fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
        let mut item = decode::<SegmentItem>(&record.body)?;
        let mut profile = fold.get(id).cloned().unwrap_or_default();
        let outcome = match &item.body {
            Some(Body::Event(bytes)) => {
                let event = decode::<Event>(bytes)?;
                segment::event(&mut profile.0, &item.node, &event, fold.now(), &self.workspace(record.workspace))
            }
            Some(Body::Receipt(_) | Body::Settled(_)) => {
                segment::seen(&mut profile.0, &item.node, fold.now());
                Outcome::default()
            }
            Some(Body::Erase(_)) => return Err(Poison { reason: "NOT_YET_SUPPORTED", detail: "erasing a profile".to_owned() }),
            None => return Err(Poison { reason: "DECODE_FAILED", detail: "an item without body".to_owned() }),
        };
        if let Some(rewritten) = outcome.rewritten {
            item.body = Some(Body::Event(rewritten));
        }
        for reason in &outcome.refused {
            tracing::debug!(workspace = %record.workspace, position = %fold.position(), reason, "left out of a profile");
        }
        let origin = Origin { workspace: record.workspace, profile: &record.key, id: record.id, via: record.via };
        let body = JourneyItem { item: Some(item), delta: Some(outcome.delta) };
        to_journey(fold, origin, kind::JOURNEY_ITEM, &body);
        tell(fold, origin, "event", &outcome.changes);
        fold.put(id, profile);
        Ok(())
    }

    fn merge_state(&self, fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
        let arrived = decode::<MergeState>(&record.body)?;
        let mut moved = decode::<SegmentProfile>(&arrived.segment_state)?;
        moved.ids.extend(arrived.ids.iter().cloned());
        let mut profile = fold.get(id).cloned().unwrap_or_default();
        let outcome = segment::import(&mut profile.0, moved, &arrived.loser, fold.now(), &self.workspace(record.workspace));
        let origin = Origin { workspace: record.workspace, profile: &record.key, id: record.id, via: record.via };
        let body = JourneyMergeState {
            node: arrived.node,
            ids: arrived.ids,
            journey_state: arrived.journey_state,
            delta: Some(outcome.delta),
            loser: arrived.loser,
        };
        to_journey(fold, origin, kind::JOURNEY_MERGE_STATE, &body);
        tell(fold, origin, "merge", &outcome.changes);
        fold.put(id, profile);
        Ok(())
    }
}

impl Processor for SegmenterProcessor {
    type Entity = Profile;

    const ROLE: Role = Role::Segmenter;
    const RELAYS_TO: Option<Role> = Some(Role::Orchestrator);
    const WATERMARKED: bool = true;
    const REPORTS_THROUGH: bool = false;
    /// A profile moves once: a second merge of it means that identity and this log disagree.
    const HALTS: &'static [&'static str] = &["ALREADY_MOVED"];

    fn define(&mut self, defv: &str) -> Definitions {
        if defv.is_empty() {
            self.set = None;
            return Definitions::Loaded;
        }
        let Some(set) = self.library.set(defv) else { return Definitions::Missing };
        self.set = Some(set);
        Definitions::Loaded
    }

    fn entities(&self, record: &Record) -> Result<Vec<EntityId>, Poison> {
        match record.kind {
            kind::ITEM | kind::MERGE_BEGIN | kind::MERGE_STATE => Ok(vec![profile(record.workspace, &record.key)?]),
            kind::FLUSH | kind::BURY => {
                Err(Poison { reason: "NOT_YET_SUPPORTED", detail: format!("records of kind {} at the segmenter", record.kind) })
            }
            other => Err(Poison { reason: "UNKNOWN_KIND", detail: format!("kind {other} at the segmenter") }),
        }
    }

    fn fold(&self, fold: &mut Fold<'_, Profile>, record: &Record) -> Result<(), Poison> {
        let Some(id) = self.entities(record)?.pop() else { return Ok(()) };
        let moved = fold.get(&id).is_some_and(Profile::is_tombstone);
        match record.kind {
            kind::MERGE_BEGIN if moved => {
                Err(Poison { reason: "ALREADY_MOVED", detail: "a profile moves once; this one has moved before".to_owned() })
            }
            kind::MERGE_BEGIN => merge_begin(fold, &id, record),
            _ if moved => {
                pass(fold, record);
                Ok(())
            }
            kind::ITEM => self.item(fold, &id, record),
            kind::MERGE_STATE => self.merge_state(fold, &id, record),
            other => Err(Poison { reason: "UNKNOWN_KIND", detail: format!("kind {other} at the segmenter") }),
        }
    }

    fn fire(&self, fold: &mut Fold<'_, Profile>, entity: &EntityId, limit: Fireable) -> Result<bool, Poison> {
        let Some(mut profile) = fold.get(entity).filter(|p| !p.is_tombstone()).cloned() else { return Ok(false) };
        let due = segment::next_flip(&profile.0);
        let Some(due) = due.filter(|due| *due <= limit.absent && limit.before.is_none_or(|before| *due < before)) else { return Ok(false) };
        let now = fold.now().max(due);
        let outcome = segment::wake(&mut profile.0, now, &self.workspace(entity.workspace()));
        let key = Bytes::copy_from_slice(entity.key());
        let id = record_id::of_timer(Role::Segmenter, entity.as_bytes(), due);
        let origin = Origin { workspace: entity.workspace(), profile: &key, id, via: 0 };
        if !outcome.delta.memberships.is_empty() {
            to_journey(fold, origin, kind::DELTA, &Delta { delta: Some(outcome.delta) });
        }
        tell(fold, origin, "time", &outcome.changes);
        fold.put(entity, profile);
        Ok(true)
    }
}

/// The profile becomes a tombstone, and all it was goes its one road.
fn merge_begin(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
    let begin = decode::<MergeBegin>(&record.body)?;
    if begin.winner.len() != 31 || begin.winner == record.key {
        return Err(Poison { reason: "DECODE_FAILED", detail: "a merge without winner".to_owned() });
    }
    let mut state = fold.get(id).cloned().unwrap_or_default().0;
    segment::seen(&mut state, &begin.node, fold.now());
    let tombstone = SegmentProfile { moved_to: begin.winner.clone(), ids: state.ids.clone(), now: state.now, ..SegmentProfile::default() };
    let origin = Origin { workspace: record.workspace, profile: &record.key, id: record.id, via: record.via };
    let body = JourneyMergeBegin { begin: Some(begin), segment_state: state.encode_to_vec().into() };
    to_journey(fold, origin, kind::JOURNEY_MERGE_BEGIN, &body);
    fold.put(id, Profile(tombstone));
    Ok(())
}

/// A record that met a tombstone goes to the orchestrator's, behind the state that went before it.
fn pass(fold: &mut Fold<'_, Profile>, record: &Record) {
    let via = record.via.saturating_add(1);
    let passed = Record { via, at: Some(record.at.unwrap_or_else(|| fold.now())), ..record.clone() };
    let origin = Origin { workspace: record.workspace, profile: &record.key, id: record.id, via };
    to_journey(fold, origin, kind::PASS, &Pass { record: Some(passed.to_proto()) });
}

fn to_journey(fold: &mut Fold<'_, Profile>, origin: Origin<'_>, kind: u32, body: &impl Message) {
    fold.emit(Output::Inbox {
        role: Role::Orchestrator,
        workspace: origin.workspace,
        key: origin.profile.clone(),
        kind,
        body: body.encode_to_vec().into(),
        id: origin.id,
        via: origin.via,
        at: None,
    });
}

/// Membership changes for the public.
fn tell(fold: &mut Fold<'_, Profile>, origin: Origin<'_>, cause: &str, changes: &[segment::Change]) {
    for change in changes {
        let row = SegmentChange {
            workspace: origin.workspace.number(),
            profile: ProfileId::from_slice(origin.profile).map(|p| p.to_string()).unwrap_or_default(),
            at: fold.now(),
            segment: change.segment.clone(),
            version: change.version,
            before: word(change.before).to_owned(),
            after: word(change.after).to_owned(),
            cause: cause.to_owned(),
            detail: "{}".to_owned(),
        };
        fold.emit(Output::Public {
            topic: SegmentChange::TOPIC,
            key: origin.profile.clone(),
            kind: "dev.waypost.segment.changed",
            version: SegmentChange::VERSION,
            body: row.encode(),
        });
    }
}

const fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::Unspecified => "",
        Truth::No => "no",
        Truth::Yes => "yes",
        Truth::Unknown => "unknown",
    }
}

fn empty(id: WorkspaceId) -> Workspace {
    Workspace {
        id,
        name: String::new(),
        policy: Policy::default(),
        topics: BTreeMap::new(),
        channels: BTreeMap::new(),
        segments: BTreeMap::new(),
        segment_order: Vec::new(),
        templates: BTreeMap::new(),
        journeys: BTreeMap::new(),
        sources: BTreeMap::new(),
    }
}

fn profile(workspace: WorkspaceId, key: &Bytes) -> Result<EntityId, Poison> {
    ProfileId::from_slice(key).map_err(|e| Poison { reason: "DECODE_FAILED", detail: format!("a record's key is {e}") })?;
    Ok(EntityId::new(workspace, b'p', key))
}

fn decode<M: Message + Default>(body: &Bytes) -> Result<M, Poison> {
    M::decode(body.clone()).map_err(|e| Poison { reason: "DECODE_FAILED", detail: e.to_string() })
}

#[cfg(test)]
mod tests;
