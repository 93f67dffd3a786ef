//! Maps records of `wp1.segment` to the engine's steps, and their outcomes to outputs (PROTOCOL §10.2).

mod erasing;

use std::{borrow::Cow, slice, sync::Arc};

use bytes::Bytes;
use prost::Message;
use waypost_codec::{
    frame::Record,
    inbox::{
        Delta, Event, Flush, Gone, JourneyMergeBegin, JourneyMergeState, MergeBegin, MergeState, Pass, Person, SegmentItem, Truth,
        segment_item::Body,
    },
    kind,
    public::SegmentChange,
    state::SegmentProfile,
    view, wire,
};
use waypost_engine::{
    definitions::{DefinitionSet, Workspace},
    drain,
    library::Library,
    person, record_id,
    segment::{self, Outcome, Plan, Timer},
};
use waypost_runtime::processor::{Definitions, Fireable, Fold, Output, Poison, Processor};
use waypost_types::{ContentHash, EntityId, ProfileId, Role, Timestamp, WorkspaceId};

use crate::{Profile, Rules};

/// Room that most items do with on their way to the orchestrator; more is found as it is needed.
const ROOM: usize = 1_024;

/// The segmenter role; one instance a partition.
#[derive(Debug)]
pub struct SegmenterProcessor {
    library: Arc<Library>,
    set: Option<Arc<DefinitionSet>>,
    rules: Rules,
}

/// What became of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unknown,
    Live,
    Moved,
    Erased,
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
        Self { library, set: None, rules: Rules::default() }
    }

    /// With some rules switched off.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// A workspace's segments; without definitions in force, those of an empty one.
    fn plan(&self, id: WorkspaceId) -> Cow<'_, Plan> {
        let empty = || Plan::new(ContentHash::new([0; 16]), Arc::new(Workspace::empty(id)));
        self.set.as_ref().and_then(|set| set.plan(id)).map_or_else(|| Cow::Owned(empty()), Cow::Borrowed)
    }

    fn item(&self, fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
        let mut item = decode::<SegmentItem>(&record.body)?;
        if let Some(Body::Erase(erase)) = &item.body {
            erasing::erase(fold, id, record, &item.node, erase.suppress);
            return Ok(());
        }
        let mut profile = fold.take(id).unwrap_or_default();
        let outcome = match &item.body {
            Some(Body::Event(bytes)) => {
                let decoded;
                let event = if let Some(event) = view::Event::read(bytes) {
                    event
                } else {
                    decoded = decode::<Event>(bytes)?;
                    view::Event::from(&decoded)
                };
                segment::event(&mut profile.0, &mut profile.1, &item.node, &event, fold.now(), &self.plan(record.workspace))
            }
            Some(Body::Receipt(_) | Body::Command(_)) => {
                segment::seen(&mut profile.0, &item.node, fold.now());
                Outcome::default()
            }
            Some(Body::Settled(_)) => {
                segment::seen(&mut profile.0, &item.node, fold.now());
                drain::settled(&mut profile.0, &item.node, record.via);
                Outcome::default()
            }
            Some(Body::Erase(_)) | None => return Err(Poison { reason: "DECODE_FAILED", detail: "an item without body".to_owned() }),
        };
        if let (Some(cart_id), Some(Body::Event(bytes))) = (outcome.cart_id, &mut item.body) {
            *bytes = segment::with_cart(decode(bytes)?, cart_id).encode_to_vec().into();
        }
        for reason in &outcome.refused {
            tracing::debug!(workspace = %record.workspace, position = %fold.position(), reason, "left out of a profile");
        }
        let origin = Origin::of(record);
        let kind = if record.kind == kind::RUN_ITEM { kind::JOURNEY_RUN_ITEM } else { kind::JOURNEY_ITEM };
        to_journey(fold, origin, kind, journey_item(&item, &outcome.delta));
        tell(fold, origin, "event", &outcome.changes);
        fold.put(id, profile);
        Ok(())
    }

    fn merge_state(&self, fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
        let arrived = decode::<MergeState>(&record.body)?;
        let mut moved = decode::<SegmentProfile>(&arrived.segment_state)?;
        moved.ids.extend(arrived.ids.iter().cloned());
        let mut profile = fold.take(id).unwrap_or_default();
        let outcome = segment::import(&mut profile.0, &mut profile.1, moved, &arrived.loser, fold.now(), &self.plan(record.workspace));
        if self.rules.drain {
            let moved = arrived.ids.iter().chain([&arrived.node]);
            drain::begin(&mut profile.0, moved.filter(|node| !node.is_empty()), fold.now().max(fold.clock()));
        }
        let origin = Origin::of(record);
        let body = JourneyMergeState {
            node: arrived.node,
            ids: arrived.ids,
            journey_state: arrived.journey_state,
            delta: Some(outcome.delta),
            loser: arrived.loser,
        };
        to_journey(fold, origin, kind::JOURNEY_MERGE_STATE, body.encode_to_vec());
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
    /// A profile moves once: a second merge of it means that identity and this log disagree. Only a tombstone is
    /// buried: a profile that lives has moved nowhere.
    const HALTS: &'static [&'static str] = &["ALREADY_MOVED", "BURIED_ALIVE"];

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
        Ok(vec![entity(record)?])
    }

    fn fold(&self, fold: &mut Fold<'_, Profile>, record: &Record) -> Result<(), Poison> {
        let id = entity(record)?;
        let standing = Standing::of(fold.get(&id));
        match (record.kind, standing) {
            (kind::MERGE_BEGIN, Standing::Moved) => {
                Err(Poison { reason: "ALREADY_MOVED", detail: "a profile moves once; this one has moved before".to_owned() })
            }
            (kind::BURY, Standing::Moved) => erasing::bury(fold, &id, record),
            (kind::BURY, Standing::Live) => {
                Err(Poison { reason: "BURIED_ALIVE", detail: "only what has moved is buried with where it moved to".to_owned() })
            }
            (kind::BURY, Standing::Erased | Standing::Unknown) => Ok(()),
            (_, Standing::Moved) => {
                self.pass(fold, &id, record);
                Ok(())
            }
            (kind::MERGE_BEGIN, Standing::Erased) if !self.rules.erased_never_moves => merge_begin(fold, &id, record),
            (_, Standing::Erased) => self.answer(fold, &id, record),
            (_, Standing::Unknown) if !may_begin(record)? => self.answer(fold, &id, record),
            (kind::ITEM | kind::RUN_ITEM, Standing::Live | Standing::Unknown) => self.item(fold, &id, record),
            (kind::FLUSH, Standing::Live | Standing::Unknown) => flush(fold, &id, record),
            (kind::MERGE_BEGIN, Standing::Live | Standing::Unknown) => merge_begin(fold, &id, record),
            (kind::MERGE_STATE, Standing::Live | Standing::Unknown) => self.merge_state(fold, &id, record),
            (other, Standing::Live | Standing::Unknown) => {
                Err(Poison { reason: "UNKNOWN_KIND", detail: format!("kind {other} at the segmenter") })
            }
        }
    }

    fn fire(&self, fold: &mut Fold<'_, Profile>, entity: &EntityId, limit: Fireable) -> Result<bool, Poison> {
        let Some(mut profile) = fold.get(entity).cloned() else { return Ok(false) };
        let Some(timer) = segment::next_timer(&profile.0) else { return Ok(false) };
        let (due, until) = match timer {
            Timer::MarkGoes(due) | Timer::DrainEnds(due) => (due, limit.plain),
            Timer::Flips(due) => (due, limit.absent),
        };
        if due > until || limit.before.is_some_and(|before| due >= before) {
            return Ok(false);
        }
        match timer {
            Timer::Flips(_) => self.flip(fold, entity, profile, due),
            Timer::DrainEnds(_) => {
                drain::give_up(&mut profile.0);
                fold.put(entity, profile);
            }
            Timer::MarkGoes(_) => mark_goes(fold, entity, due),
        }
        Ok(true)
    }
}

impl SegmenterProcessor {
    /// Unless the rule is off: then what comes too late falls.
    fn answer(&self, fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
        if self.rules.answer_erased { erasing::answer(fold, id, record) } else { Ok(()) }
    }

    /// On the one road; unless the rule is off: then the short way, to where the profile moved.
    fn pass(&self, fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) {
        if self.rules.one_road {
            return pass(fold, record);
        }
        let to = fold.get(id).map(|profile| profile.0.moved_to.clone()).unwrap_or_default();
        let Record { workspace, kind, body, id, via, at, .. } = record.clone();
        fold.emit(Output::Inbox { role: Role::Segmenter, workspace, key: to, kind, body, id, via: via.saturating_add(1), at });
    }

    /// Memberships that time alone has changed.
    fn flip(&self, fold: &mut Fold<'_, Profile>, entity: &EntityId, mut profile: Profile, due: Timestamp) {
        let now = fold.now().max(due);
        let outcome = segment::wake(&mut profile.0, &mut profile.1, now, &self.plan(entity.workspace()));
        let key = Bytes::copy_from_slice(entity.key());
        let id = record_id::of_timer(Role::Segmenter, entity.as_bytes(), due);
        let origin = Origin { workspace: entity.workspace(), profile: &key, id, via: 0 };
        if !person::is_empty(&outcome.delta) {
            to_journey(fold, origin, kind::DELTA, Delta { delta: Some(outcome.delta) }.encode_to_vec());
        }
        tell(fold, origin, "time", &outcome.changes);
        fold.put(entity, profile);
    }
}

// === impl Origin ===

impl<'a> Origin<'a> {
    fn of(record: &'a Record) -> Self {
        Self { workspace: record.workspace, profile: &record.key, id: record.id, via: record.via }
    }
}

// === impl Standing ===

impl Standing {
    fn of(profile: Option<&Profile>) -> Self {
        match profile {
            None => Self::Unknown,
            Some(profile) if profile.is_tombstone() => Self::Moved,
            Some(profile) if profile.is_erased() => Self::Erased,
            Some(_) => Self::Live,
        }
    }
}

/// Whether a profile that nobody knows may begin with this record. Else it was known once, and was erased so long
/// ago that its mark has gone. A link may make a winner of a node that has sent nothing, so a state that
/// arrives is always taken in.
fn may_begin(record: &Record) -> Result<bool, Poison> {
    Ok(match record.kind {
        kind::ITEM | kind::RUN_ITEM => decode::<SegmentItem>(&record.body)?.first,
        kind::MERGE_BEGIN => decode::<MergeBegin>(&record.body)?.first,
        kind::FLUSH => false,
        _ => true,
    })
}

/// The end of an identifier's old road has come by here; the orchestrator answers when it has come by there too.
fn flush(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
    let flush = decode::<Flush>(&record.body)?;
    let mut profile = fold.take(id).unwrap_or_default();
    segment::seen(&mut profile.0, &flush.node, fold.now());
    to_journey(fold, Origin::of(record), kind::JOURNEY_FLUSH, flush.encode_to_vec());
    fold.put(id, profile);
    Ok(())
}

/// Nothing can be on its way to an erased profile any more: both stages forget that there was one.
fn mark_goes(fold: &mut Fold<'_, Profile>, entity: &EntityId, due: Timestamp) {
    let key = Bytes::copy_from_slice(entity.key());
    let id = record_id::of_timer(Role::Segmenter, entity.as_bytes(), due);
    to_journey(fold, Origin { workspace: entity.workspace(), profile: &key, id, via: 0 }, kind::GONE, Gone::default().encode_to_vec());
    fold.delete(entity);
}

/// The profile becomes a tombstone, and all it was goes its one road.
fn merge_begin(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
    let begin = decode::<MergeBegin>(&record.body)?;
    if begin.winner.len() != 31 || begin.winner == record.key {
        return Err(Poison { reason: "DECODE_FAILED", detail: "a merge without winner".to_owned() });
    }
    let mut state = fold.take(id).filter(|p| !p.is_erased()).unwrap_or_default().0;
    segment::seen(&mut state, &begin.node, fold.now());
    let tombstone = SegmentProfile { moved_to: begin.winner.clone(), ids: state.ids.clone(), now: state.now, ..SegmentProfile::default() };
    let origin = Origin::of(record);
    let body = JourneyMergeBegin { begin: Some(begin), segment_state: state.encode_to_vec().into() };
    to_journey(fold, origin, kind::JOURNEY_MERGE_BEGIN, body.encode_to_vec());
    fold.put(id, Profile::from(tombstone));
    Ok(())
}

/// A record that met a tombstone goes to the orchestrator's, behind the state that went before it.
fn pass(fold: &mut Fold<'_, Profile>, record: &Record) {
    let via = record.via.saturating_add(1);
    let passed = Record { via, at: Some(record.at.unwrap_or_else(|| fold.now())), ..record.clone() };
    let origin = Origin { workspace: record.workspace, profile: &record.key, id: record.id, via };
    let kind = if record.kind == kind::RUN_ITEM { kind::PASS_RUN } else { kind::PASS };
    to_journey(fold, origin, kind, Pass { record: Some(passed.to_proto()) }.encode_to_vec());
}

fn to_journey(fold: &mut Fold<'_, Profile>, origin: Origin<'_>, kind: u32, body: Vec<u8>) {
    fold.emit(Output::Inbox {
        role: Role::Orchestrator,
        workspace: origin.workspace,
        key: origin.profile.clone(),
        kind,
        body: body.into(),
        id: origin.id,
        via: origin.via,
        at: None,
    });
}

/// What the encoding of a [`JourneyItem`] is, in one pass.
fn journey_item(item: &SegmentItem, delta: &Person) -> Vec<u8> {
    let mut body = Vec::with_capacity(ROOM);
    wire::each(1, slice::from_ref(item), &mut body, wire::segment_item);
    wire::each(2, slice::from_ref(delta), &mut body, wire::person);
    body
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

/// The profile that a record is about.
fn entity(record: &Record) -> Result<EntityId, Poison> {
    match record.kind {
        kind::ITEM | kind::RUN_ITEM | kind::MERGE_BEGIN | kind::MERGE_STATE | kind::FLUSH | kind::BURY => {
            let malformed = |e| Poison { reason: "DECODE_FAILED", detail: format!("a record's key is {e}") };
            ProfileId::from_slice(&record.key).map_err(malformed)?;
            Ok(EntityId::new(record.workspace, b'p', &record.key))
        }
        other => Err(Poison { reason: "UNKNOWN_KIND", detail: format!("kind {other} at the segmenter") }),
    }
}

fn decode<M: Message + Default>(body: &Bytes) -> Result<M, Poison> {
    M::decode(body.clone()).map_err(|e| Poison { reason: "DECODE_FAILED", detail: e.to_string() })
}

#[cfg(test)]
mod tests;
