//! Maps records of `wp1.journey` to the engine's steps, and their effects to outputs (PROTOCOL §10.2).

mod erasing;
mod peeking;
mod tallying;

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use prost::Message;
use waypost_codec::{
    frame::Record,
    inbox::{
        Delta, Event, Flush, Flushed, JourneyItem, JourneyMergeBegin, JourneyMergeState, MergeDone, MergeState, Pass, Person,
        segment_item::Body,
    },
    kind,
    public::Decision,
    state::{JourneyProfile, SegmentProfile},
};
use waypost_engine::{
    definitions::{DefinitionSet, Workspace},
    drain,
    journey::{self, Context, Effect, Input, Limit},
    library::Library,
    version::Version,
};
use waypost_runtime::processor::{Definitions, Fireable, Fold, Output, Poison, Processor};
use waypost_types::{EntityId, ProfileId, Role, Timestamp, WorkspaceId};

use crate::{Profile, Rules};

/// Journey state that travels whole; above it the trail stays behind. With the segment state (64 KiB) and
/// the nodes it leaves room below the runtime's limit of a record.
const MAX_TRAVELLING: usize = 160 * 1_024;

/// The orchestrator role; one instance a partition.
#[derive(Debug)]
pub struct OrchestratorProcessor {
    library: Arc<Library>,
    set: Option<Arc<DefinitionSet>>,
    rules: Rules,
}

/// What became of a profile; the segmenter's says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unknown,
    Live,
    Moved,
    Erased,
}

// === impl OrchestratorProcessor ===

impl OrchestratorProcessor {
    /// With the definitions that have arrived so far.
    pub fn new(library: Arc<Library>) -> Self {
        Self { library, set: None, rules: Rules::default() }
    }

    /// With some rules switched off.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// A workspace's definitions; without any in force, those of an empty one.
    fn workspace(&self, id: WorkspaceId) -> Cow<'_, Workspace> {
        let found = self.set.as_ref().and_then(|set| set.workspaces.get(&id));
        found.map_or_else(|| Cow::Owned(Workspace::empty(id)), |ws| Cow::Borrowed(ws.as_ref()))
    }

    fn item(&self, fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
        let arrived = decode::<JourneyItem>(&record.body)?;
        let Some(item) = arrived.item else { return Err(malformed("an item without content")) };
        let delta = arrived.delta.as_ref();
        let mut profile = fold.take(id).unwrap_or_default();
        profile.saw(&item.node);
        let workspace = self.workspace(record.workspace);
        let (peeked, event);
        let nothing = Person::default();
        let input = match &item.body {
            Some(Body::Event(bytes)) => {
                peeked = peeking::Peeked::of(bytes)?;
                if journey::concerns(&profile.0, &workspace, &peeked.name, &peeked.source) {
                    event = decode::<Event>(bytes)?;
                    Input::Event { event: &event, delta }
                } else {
                    Input::Passing { name: &peeked.name, delta }
                }
            }
            Some(Body::Receipt(receipt)) => Input::Receipt { receipt, delta },
            Some(Body::Settled(_)) => {
                drain::settled(&mut profile.0, &item.node, record.via);
                Input::Delta(delta.unwrap_or(&nothing))
            }
            Some(Body::Command(command)) => Input::Command { command, record: &record.id, delta },
            Some(Body::Erase(_)) => return Err(malformed("an erase that the segmenter has not carried out")),
            None => return Err(malformed("an item without body")),
        };
        let effects = journey::fold(&mut profile.0, &workspace, &context(fold, record)?, input);
        fold.put(id, profile);
        emit(fold, record.workspace, &record.key, effects);
        if record.via > 0 {
            // Its identifier still takes the old road.
            merge_done(fold, record, &item.node);
        }
        Ok(())
    }

    fn delta(&self, fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
        let delta = decode::<Delta>(&record.body)?.delta.unwrap_or_default();
        let mut profile = fold.take(id).unwrap_or_default();
        let effects = journey::fold(&mut profile.0, &self.workspace(record.workspace), &context(fold, record)?, Input::Delta(&delta));
        fold.put(id, profile);
        emit(fold, record.workspace, &record.key, effects);
        Ok(())
    }

    fn merge_state(&self, fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
        let arrived = decode::<JourneyMergeState>(&record.body)?;
        let mut incoming = decode::<JourneyProfile>(&arrived.journey_state)?;
        incoming.ids.extend(arrived.ids.iter().cloned());
        incoming.losers.push(arrived.loser);
        let mut profile = fold.take(id).unwrap_or_default();
        let ws = self.workspace(record.workspace);
        let cx = context(fold, record)?;
        let effects = journey::import(&mut profile.0, &incoming, arrived.delta.as_ref(), &ws, &cx, self.rules.recheck_at_import);
        let nodes: BTreeSet<Bytes> = arrived.ids.into_iter().chain([arrived.node]).filter(|node| !node.is_empty()).collect();
        if self.rules.drain {
            drain::begin(&mut profile.0, &nodes, fold.now().max(fold.clock()));
        }
        fold.put(id, profile);
        emit(fold, record.workspace, &record.key, effects);
        for node in &nodes {
            merge_done(fold, record, node);
        }
        Ok(())
    }
}

impl Processor for OrchestratorProcessor {
    type Entity = Profile;

    const ROLE: Role = Role::Orchestrator;
    const RELAYS_TO: Option<Role> = None;
    const WATERMARKED: bool = false;
    const REPORTS_THROUGH: bool = false;
    /// The stages mirror each other; where they do not, everything that follows would be lost too.
    const HALTS: &'static [&'static str] = &["PASS_WITHOUT_TOMBSTONE", "ALREADY_MOVED", "ALREADY_ERASED", "GONE_BUT_ALIVE"];

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
        // The stages mirror each other: what the segmenter passed finds a tombstone here, and nothing else does but
        // its burial; what it answered for an erased profile finds no live one.
        let contradicts = |reason, what: &str| Err(Poison { reason, detail: format!("kind {} at a profile that {what}", record.kind) });
        match (record.kind, Standing::of(fold.get(&id))) {
            (kind::PASS | kind::PASS_RUN, Standing::Moved) => pass(fold, &id, record),
            (kind::PASS | kind::PASS_RUN, _) => contradicts("PASS_WITHOUT_TOMBSTONE", "has not moved"),
            (kind::ERASED, _) => erasing::erased(fold, &id, record, &self.workspace(record.workspace)),
            (_, Standing::Moved) => contradicts("ALREADY_MOVED", "has moved"),
            (kind::GONE, Standing::Live) => contradicts("GONE_BUT_ALIVE", "has not been erased"),
            (kind::GONE, Standing::Erased | Standing::Unknown) => erasing::gone(fold, &id, record),
            (kind::JOURNEY_MERGE_BEGIN, Standing::Erased) if !self.rules.erased_never_moves => merge_begin(fold, &id, record),
            (_, Standing::Erased) => contradicts("ALREADY_ERASED", "has been erased"),
            (kind::JOURNEY_ITEM | kind::JOURNEY_RUN_ITEM, _) => self.item(fold, &id, record),
            (kind::DELTA, _) => self.delta(fold, &id, record),
            (kind::JOURNEY_MERGE_BEGIN, _) => merge_begin(fold, &id, record),
            (kind::JOURNEY_MERGE_STATE, _) => self.merge_state(fold, &id, record),
            (kind::JOURNEY_FLUSH, _) => flush(fold, &id, record),
            (other, _) => Err(Poison { reason: "UNKNOWN_KIND", detail: format!("kind {other} at the orchestrator") }),
        }
    }

    fn fire(&self, fold: &mut Fold<'_, Profile>, entity: &EntityId, limit: Fireable) -> Result<bool, Poison> {
        let profile_id = ProfileId::from_slice(entity.key()).map_err(|e| malformed(&e.to_string()))?;
        let workspace = entity.workspace();
        let cx = Context { now: fold.now(), position: fold.position(), profile: profile_id, workspace, engine: Version(fold.engine()) };
        let limit = Limit { plain: limit.plain, absent: limit.absent, proven: limit.proven, before: limit.before };
        let ws = self.workspace(workspace);
        if !fold.get(entity).is_some_and(|profile| journey::may_fire(&profile.0, &ws, &limit)) {
            return Ok(false);
        }
        let Some(mut profile) = fold.take(entity) else { return Ok(false) };
        let effects = journey::fire(&mut profile.0, &ws, &cx, &limit).unwrap_or_default();
        fold.put(entity, profile);
        emit(fold, workspace, &Bytes::copy_from_slice(entity.key()), effects);
        Ok(true)
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

/// The profile that a record is about.
fn entity(record: &Record) -> Result<EntityId, Poison> {
    match record.kind {
        kind::JOURNEY_ITEM
        | kind::JOURNEY_RUN_ITEM
        | kind::DELTA
        | kind::JOURNEY_MERGE_BEGIN
        | kind::JOURNEY_MERGE_STATE
        | kind::JOURNEY_FLUSH
        | kind::PASS
        | kind::PASS_RUN
        | kind::ERASED
        | kind::GONE => {
            ProfileId::from_slice(&record.key).map_err(|e| malformed(&format!("a record's key is {e}")))?;
            Ok(EntityId::new(record.workspace, b'p', &record.key))
        }
        other => Err(Poison { reason: "UNKNOWN_KIND", detail: format!("kind {other} at the orchestrator") }),
    }
}

/// The profile becomes a tombstone; both its states go to the winner's segmenter in one record.
fn merge_begin(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
    let JourneyMergeBegin { begin, segment_state } = decode(&record.body)?;
    let Some(begin) = begin.filter(|b| b.winner.len() == 31 && b.winner != record.key) else {
        return Err(malformed("a merge without winner"));
    };
    let mut state = fold.take(id).filter(|p| !p.is_erased()).unwrap_or_default().0;
    let mut segment = decode::<SegmentProfile>(&segment_state)?;
    // Every node whose items either stage has folded: each is told where to go from now on.
    let mut ids: BTreeSet<Bytes> = std::mem::take(&mut segment.ids).into_iter().chain(std::mem::take(&mut state.ids)).collect();
    ids.insert(begin.node.clone());
    let ids: Vec<Bytes> = ids.into_iter().filter(|node| !node.is_empty()).collect();
    let tombstone = JourneyProfile {
        moved_to: begin.winner.clone(),
        ids: ids.clone(),
        now: state.now.max(fold.now().millis()),
        ..JourneyProfile::default()
    };
    // All of them are told, and waited for, at the winner.
    drain::give_up(&mut segment);
    drain::give_up(&mut state);
    // All travels in one record, so it travels once: the person as the segmenter has it comes back with its delta.
    state.person = None;
    if state.encoded_len() > MAX_TRAVELLING {
        // The trail only explains, and all of it has been put out.
        state.trail.clear();
    }
    let body = MergeState {
        node: begin.node,
        ids,
        segment_state: segment.encode_to_vec().into(),
        journey_state: state.encode_to_vec().into(),
        loser: record.key.clone(),
    };
    to_inbox(fold, Role::Segmenter, record, begin.winner, kind::MERGE_STATE, body.encode_to_vec());
    fold.put(id, Profile(tombstone));
    Ok(())
}

/// A record that met a tombstone goes on to where the profile moved, as it was and at its own time.
fn pass(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
    let inner = decode::<Pass>(&record.body)?.record.ok_or_else(|| malformed("nothing to pass on"))?;
    let inner = Record::from_proto(inner).map_err(|e| malformed(&e.to_string()))?;
    let to = fold.get(id).map(|p| p.0.moved_to.clone()).unwrap_or_default();
    fold.emit(Output::Inbox {
        role: Role::Segmenter,
        workspace: inner.workspace,
        key: to,
        kind: inner.kind,
        body: inner.body,
        id: inner.id,
        via: inner.via,
        at: inner.at,
    });
    Ok(())
}

/// The end of an identifier's old road has passed both stages here: its node may use the new one.
fn flush(fold: &mut Fold<'_, Profile>, id: &EntityId, record: &Record) -> Result<(), Poison> {
    let Flush { node, flush_no, .. } = decode(&record.body)?;
    let Some(identifier) = identifier_of(&node) else { return Err(malformed("a flush without node")) };
    let mut profile = fold.take(id).unwrap_or_default();
    profile.saw(&node);
    fold.put(id, profile);
    let body = Flushed { node, at: record.key.clone(), flush_no };
    to_inbox(fold, Role::Identity, record, identifier, kind::FLUSHED, body.encode_to_vec());
    Ok(())
}

/// How identity routes what is about a node: class, then the 16 bytes that its identifier is known by, then its life.
fn identifier_of(node: &Bytes) -> Option<Bytes> {
    (node.len() == 31).then(|| node.slice(1..17))
}

/// Tells a node's identifier where its profile is now.
fn merge_done(fold: &mut Fold<'_, Profile>, record: &Record, node: &Bytes) {
    let Some(identifier) = identifier_of(node) else { return };
    let body = MergeDone { node: node.clone(), at: record.key.clone() };
    to_inbox(fold, Role::Identity, record, identifier, kind::MERGE_DONE, body.encode_to_vec());
}

fn to_inbox(fold: &mut Fold<'_, Profile>, role: Role, record: &Record, key: Bytes, kind: u32, body: Vec<u8>) {
    let id = output_id(fold, &key, &body);
    fold.emit(Output::Inbox { role, workspace: record.workspace, key, kind, body: body.into(), id, via: 0, at: None });
}

fn emit(fold: &mut Fold<'_, Profile>, workspace: WorkspaceId, profile: &Bytes, effects: Vec<Effect>) {
    for effect in effects {
        let (key, kind, body) = match effect {
            Effect::Dispatch { key, dispatch } => (key, kind::DISPATCH, dispatch.encode_to_vec()),
            Effect::Recall { key, recall } => (key, kind::RECALL, recall.encode_to_vec()),
            Effect::Suppress { key, suppress } => (key, kind::SUPPRESS, suppress.encode_to_vec()),
            Effect::Feedback { key, feedback } => (key, kind::FEEDBACK, feedback.encode_to_vec()),
            Effect::Unsuppress { key, unsuppress } => (key, kind::UNSUPPRESS, unsuppress.encode_to_vec()),
            Effect::Decision(decision) => {
                fold.emit(Output::Public {
                    topic: Decision::TOPIC,
                    key: profile.clone(),
                    kind: "dev.waypost.decision.made",
                    version: Decision::VERSION,
                    body: decision.encode(),
                });
                tallying::tally(fold, *decision);
                continue;
            }
        };
        let key = Bytes::copy_from_slice(&key);
        let id = output_id(fold, &key, &body);
        fold.emit(Output::Inbox { role: Role::Sender, workspace, key, kind, body: body.into(), id, via: 0, at: None });
    }
}

/// The id of an output: of its time and content, so that two timers of one record do not share theirs.
fn output_id(fold: &Fold<'_, Profile>, key: &Bytes, body: &[u8]) -> [u8; 16] {
    let content = waypost_codec::frame::chain(0, 0, key, body);
    let position = fold.position();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&content.to_be_bytes());
    let place = format!("{}/{}/{}/{}", fold.partition(), position.offset, position.index, fold.now().millis());
    id[8..].copy_from_slice(&waypost_codec::frame::chain(content, kind::DISPATCH, place.as_bytes(), &[]).to_be_bytes());
    id
}

fn context(fold: &Fold<'_, Profile>, record: &Record) -> Result<Context, Poison> {
    let profile = ProfileId::from_slice(&record.key).map_err(|e| malformed(&e.to_string()))?;
    let now: Timestamp = fold.now();
    Ok(Context { now, position: fold.position(), profile, workspace: record.workspace, engine: Version(fold.engine()) })
}

fn malformed(what: &str) -> Poison {
    Poison { reason: "DECODE_FAILED", detail: what.to_owned() }
}

fn decode<M: Message + Default>(body: &Bytes) -> Result<M, Poison> {
    M::decode(body.clone()).map_err(|e| malformed(&e.to_string()))
}

#[cfg(test)]
mod tests;
