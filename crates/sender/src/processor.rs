//! Maps records of `wp1.send` to the engine's dispatch, and its effects to outputs and jobs.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{
        Attempt, AttemptOutcome, Dispatch, EraseAddress, Feedback, Outcome, Recall, Receipt, SegmentItem, Suppress, Unsuppress,
        segment_item,
    },
    kind,
    public::Message,
    state::{AddressState, DispatchState},
};
use waypost_engine::dispatch::{self, Effect, Here, Receipts, Rules, address};
use waypost_runtime::{
    figures::Tally,
    processor::{Definitions, Fireable, Fold, Output, Poison, Processor},
};
use waypost_types::{EntityId, Role, Timestamp, WorkspaceId};

use crate::{
    entity::{self, SenderEntity},
    job,
};

/// The sender role; one instance a partition. It knows no settings: what it makes of a record may depend
/// on nothing but the log.
#[derive(Clone, Debug, Default)]
pub struct SenderProcessor {
    defv: String,
    rules: Rules,
}

const MESSAGE_TYPE: &str = "dev.waypost.message";

/// [`Tally::what`] of a send that the sender stopped: channel and reason.
pub const STOPPED: &str = "stopped";

// === impl SenderProcessor ===

impl SenderProcessor {
    /// A processor without definitions.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with rules switched off; for the simulator.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    fn here(&self, fold: &Fold<'_, SenderEntity>, workspace: WorkspaceId) -> Here {
        Here { now: fold.now(), leader: fold.leader(), workspace, rules: self.rules }
    }

    // Puts the dispatch back, or lets the ledger forget it, and carries the effects out.
    fn conclude(&self, fold: &mut Fold<'_, SenderEntity>, id: &EntityId, state: DispatchState, effects: Vec<Effect>) {
        let workspace = id.workspace();
        let mut forget = false;
        for effect in effects {
            match effect {
                Effect::Propose => fold.start(job::RENDER, self.job(workspace, &state).to_bytes()),
                Effect::Call { render_hash, until } => {
                    let until = until.map_or(0, Timestamp::millis);
                    fold.start(job::CALL, job::Body { render_hash, until, ..self.job(workspace, &state) }.to_bytes());
                }
                Effect::LookUp => fold.start(job::LOOK_UP, self.job(workspace, &state).to_bytes()),
                Effect::Report(report) => {
                    if report.0.outcome() == Outcome::Unknown {
                        fold.start(job::UNKNOWN, self.job(workspace, &state).to_bytes());
                    }
                    if report.0.outcome() == Outcome::Stopped {
                        let (name, reason) = (report.1.channel.clone(), report.1.reason.clone());
                        fold.tally(Tally { what: STOPPED, workspace, name, version: 0, reason });
                    }
                    self.receipt_out(fold, id, &state, &report.0);
                    row_out(fold, &report.0.profile, &report.1);
                }
                Effect::Tell(told) => row_out(fold, &told.0, &told.1),
                Effect::Forget => forget = true,
            }
        }
        if forget {
            fold.delete(id);
        } else {
            fold.put(id, SenderEntity::Dispatch(Box::new(state)));
        }
    }

    // To identity: the profile id is a node there, and its hash is the identifier that this node belongs to.
    fn receipt_out(&self, fold: &mut Fold<'_, SenderEntity>, id: &EntityId, state: &DispatchState, receipt: &Receipt) {
        let Some(node) = receipt.profile.get(1..17) else { return };
        let (key, body) = (Bytes::copy_from_slice(node), receipt.encode_to_vec());
        let (role, key, kind, body) = match self.rules.receipts {
            Receipts::ToNode => (Role::Identity, key, kind::RECEIPT, body),
            Receipts::ToAddress => (Role::Identity, state.address_key.clone(), kind::RECEIPT, body),
            Receipts::ToProfile => {
                let item =
                    SegmentItem { node: receipt.profile.clone(), body: Some(segment_item::Body::Receipt(receipt.clone())), first: false };
                (Role::Segmenter, receipt.profile.clone(), kind::ITEM, item.encode_to_vec())
            }
        };
        let (workspace, id) = (id.workspace(), receipt_id(receipt));
        fold.emit(Output::Inbox { role, workspace, key, kind, body: body.into(), id, via: 0, at: None });
    }

    fn job(&self, workspace: WorkspaceId, state: &DispatchState) -> job::Body {
        let (state, defv) = (Some(state.clone()), self.defv.clone());
        job::Body { workspace: workspace.number(), state, defv, ..job::Body::default() }
    }
}

impl Processor for SenderProcessor {
    type Entity = SenderEntity;

    const ROLE: Role = Role::Sender;
    const RELAYS_TO: Option<Role> = None;
    const WATERMARKED: bool = false;
    const REPORTS_THROUGH: bool = false;
    const LAST_JOB: Option<u32> = Some(job::LAST);

    fn define(&mut self, defv: &str) -> Definitions {
        // Only jobs read definitions, and they find them, or not, by this name.
        defv.clone_into(&mut self.defv);
        Definitions::Loaded
    }

    fn entities(&self, record: &Record) -> Result<Vec<EntityId>, Poison> {
        let workspace = record.workspace;
        match record.kind {
            kind::DISPATCH => Ok(vec![dispatch_entity(workspace, &decode::<Dispatch>(&record.body)?.dispatch)?]),
            kind::RECALL => Ok(vec![dispatch_entity(workspace, &decode::<Recall>(&record.body)?.dispatch)?]),
            kind::SUPPRESS | kind::UNSUPPRESS | kind::ERASE_ADDRESS => Ok(vec![address_entity(workspace, &record.key)?]),
            kind::FEEDBACK => {
                let feedback = decode::<Feedback>(&record.body)?;
                Ok(vec![dispatch_entity(workspace, &feedback.dispatch)?, address_entity(workspace, &record.key)?])
            }
            kind::ATTEMPT => {
                let attempt = decode::<Attempt>(&record.body)?;
                Ok(vec![dispatch_entity(workspace, &attempt.dispatch)?, address_entity(workspace, &record.key)?])
            }
            kind::OUTCOME => {
                let outcome = decode::<AttemptOutcome>(&record.body)?;
                Ok(vec![dispatch_entity(workspace, &outcome.dispatch)?, address_entity(workspace, &record.key)?])
            }
            other => Err(Poison { reason: "UNKNOWN_KIND", detail: format!("kind {other} at the sender") }),
        }
    }

    fn fold(&self, fold: &mut Fold<'_, SenderEntity>, record: &Record) -> Result<(), Poison> {
        let ids = self.entities(record)?;
        let here = self.here(fold, record.workspace);
        let Some(id) = ids.first() else { return Ok(()) };
        match record.kind {
            kind::DISPATCH => {
                let body = decode::<Dispatch>(&record.body)?;
                well_formed(&body)?;
                let mut state = known(fold, id)?;
                let effects = dispatch::dispatched(&mut state, &body, &record.key, here);
                if let Some(state) = state.filter(|_| !effects.is_empty()) {
                    self.conclude(fold, id, state, effects);
                }
            }
            kind::RECALL => {
                let (state, effects) = match known(fold, id)? {
                    Some(mut state) => {
                        let effects = dispatch::recalled(&mut state, here);
                        (state, effects)
                    }
                    None => (dispatch::recalled_unknown(here), Vec::new()),
                };
                self.conclude(fold, id, state, effects);
            }
            kind::SUPPRESS => {
                let mut state = at_address(fold, id)?;
                address::suppress(&mut state, &decode::<Suppress>(&record.body)?, here.now);
                fold.put(id, SenderEntity::Address(Box::new(state)));
            }
            kind::UNSUPPRESS => {
                let mut state = at_address(fold, id)?;
                address::unsuppress(&mut state, &decode::<Unsuppress>(&record.body)?, here.now);
                fold.put(id, SenderEntity::Address(Box::new(state)));
            }
            kind::ERASE_ADDRESS => {
                let mut state = at_address(fold, id)?;
                address::erase(&mut state, &decode::<EraseAddress>(&record.body)?, here.now);
                fold.put(id, SenderEntity::Address(Box::new(state)));
            }
            kind::FEEDBACK => {
                let Some(address_id) = ids.get(1) else { return Ok(()) };
                let feedback = decode::<Feedback>(&record.body)?;
                let (mut state, before) = (known(fold, id)?, at_address(fold, address_id)?);
                let mut address = before.clone();
                let effects = dispatch::heard(state.as_mut(), &mut address, &feedback, here);
                if address != before {
                    fold.put(address_id, SenderEntity::Address(Box::new(address)));
                }
                if let Some(state) = state {
                    self.conclude(fold, id, state, effects);
                }
            }
            kind::ATTEMPT | kind::OUTCOME => {
                let (Some(mut state), Some(address_id)) = (known(fold, id)?, ids.get(1)) else { return Ok(()) };
                let before = at_address(fold, address_id)?;
                let mut address = before.clone();
                let effects = if record.kind == kind::ATTEMPT {
                    let attempt = decode::<Attempt>(&record.body)?;
                    let effects = dispatch::attempted(&mut state, &mut address, &attempt, here);
                    let next = attempt.leader == here.leader && attempt.number == state.attempt + 1;
                    // No call follows on it. Of an attempt that counted the number is `state.attempt` by now.
                    if next || effects.iter().any(|effect| matches!(effect, Effect::Report(_))) {
                        fold.start(job::RELEASE, job::Body { dispatch: attempt.dispatch, ..job::Body::default() }.to_bytes());
                    }
                    effects
                } else {
                    dispatch::settled(&mut state, &mut address, &decode::<AttemptOutcome>(&record.body)?, here)
                };
                if address != before {
                    fold.put(address_id, SenderEntity::Address(Box::new(address)));
                }
                self.conclude(fold, id, state, effects);
            }
            other => return Err(Poison { reason: "UNKNOWN_KIND", detail: format!("kind {other} at the sender") }),
        }
        Ok(())
    }

    fn fire(&self, fold: &mut Fold<'_, SenderEntity>, id: &EntityId, limit: Fireable) -> Result<bool, Poison> {
        let due = fold.get(id).and_then(|entity| waypost_runtime::processor::Entity::wakeups(entity).plain);
        let Some(due) = due.filter(|due| *due <= limit.plain && limit.before.is_none_or(|before| *due < before)) else {
            return Ok(false);
        };
        // The runtime fires a timer at its due; were it later, nothing here may run behind the clock.
        let here = Here { now: fold.now().max(due), ..self.here(fold, id.workspace()) };
        match fold.get(id).cloned() {
            Some(SenderEntity::Dispatch(mut state)) => {
                let effects = dispatch::fired(&mut state, here);
                self.conclude(fold, id, *state, effects);
            }
            Some(SenderEntity::Address(mut state)) => {
                address::prune(&mut state, here.now);
                fold.put(id, SenderEntity::Address(state));
            }
            None => return Ok(false),
        }
        Ok(true)
    }
}

fn row_out(fold: &mut Fold<'_, SenderEntity>, profile: &Bytes, row: &Message) {
    let body = row.encode();
    fold.emit(Output::Public { topic: Message::TOPIC, key: profile.clone(), kind: MESSAGE_TYPE, version: Message::VERSION, body });
}

// A dispatch tells its outcome once, or twice where the first was "unknown".
fn receipt_id(receipt: &Receipt) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("waypost receipt id v1");
    hasher.update(&receipt.dispatch);
    hasher.update(&receipt.attempt.to_be_bytes());
    hasher.update(&receipt.outcome.to_be_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    id
}

fn well_formed(dispatch: &Dispatch) -> Result<(), Poison> {
    let wrong = |what: &str| Err(Poison { reason: "DECODE_FAILED", detail: format!("a dispatch without {what}") });
    if dispatch.profile.len() != 31 {
        return wrong("profile id");
    }
    if dispatch.send.len() != 16 || dispatch.run.len() != 16 {
        return wrong("send and run id");
    }
    if dispatch.valid_until == 0 {
        return wrong("validity");
    }
    if dispatch.channel != "email" {
        return Err(Poison { reason: "NOT_YET_SUPPORTED", detail: "a channel other than email".to_owned() });
    }
    Ok(())
}

fn known(fold: &Fold<'_, SenderEntity>, id: &EntityId) -> Result<Option<DispatchState>, Poison> {
    match fold.get(id) {
        None => Ok(None),
        Some(SenderEntity::Dispatch(state)) => Ok(Some((**state).clone())),
        Some(SenderEntity::Address(_)) => Err(mixed_up()),
    }
}

fn at_address(fold: &Fold<'_, SenderEntity>, id: &EntityId) -> Result<AddressState, Poison> {
    match fold.get(id) {
        None => Ok(AddressState::default()),
        Some(SenderEntity::Address(state)) => Ok((**state).clone()),
        Some(SenderEntity::Dispatch(_)) => Err(mixed_up()),
    }
}

fn mixed_up() -> Poison {
    Poison { reason: "DECODE_FAILED", detail: "an entity of another kind than its id".to_owned() }
}

fn dispatch_entity(workspace: WorkspaceId, dispatch: &[u8]) -> Result<EntityId, Poison> {
    if dispatch.len() == 16 { Ok(entity::dispatch_id(workspace, dispatch)) } else { Err(length("a dispatch id", dispatch)) }
}

fn address_entity(workspace: WorkspaceId, key: &[u8]) -> Result<EntityId, Poison> {
    if key.len() == 16 { Ok(entity::address_id(workspace, key)) } else { Err(length("an address key", key)) }
}

fn length(what: &str, bytes: &[u8]) -> Poison {
    Poison { reason: "DECODE_FAILED", detail: format!("{what} has 16 bytes, not {}", bytes.len()) }
}

fn decode<M: prost::Message + Default>(body: &Bytes) -> Result<M, Poison> {
    M::decode(body.clone()).map_err(|e| Poison { reason: "DECODE_FAILED", detail: e.to_string() })
}
