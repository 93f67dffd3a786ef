//! What went out, and what is said of it (PROTOCOL §16.3, 5).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{Attempt, AttemptOutcome, Dispatch, Outcome},
    kind, state, stored,
};
use waypost_types::{DispatchId, Role};

use super::{Partitions, Wrong};
use crate::{naive::Accepted, world::World};

/// What the sender's log says of one dispatch.
#[derive(Debug, Default)]
struct History {
    transactional: bool,
    /// Whether each attempt has had an answer that leaves no doubt, by number.
    attempts: BTreeMap<u32, bool>,
}

/// Marketing goes out once at most; what is transactional once at least, and again only where an attempt was in
/// doubt; and nobody knows nothing without a reason.
pub(super) fn calls(world: &mut World, folded: &Partitions) -> Result<(), Wrong> {
    let sent = world.provider.sent();
    world.tally.calls += world.provider.calls().0;
    world.tally.known_keys += world.provider.repeats();
    let mut known = 0;
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Sender) {
        let histories = histories(&meaning.accepted)?;
        for (entity, bytes) in meaning.entities.iter().filter(|(entity, _)| entity.kind() == b'd') {
            let (_, body) = stored::open(bytes).map_err(|e| format!("{id}: {e}"))?;
            let dispatch = state::DispatchState::decode(body).map_err(|e| e.to_string())?;
            let name = DispatchId::from_slice(entity.key()).map_err(|e| e.to_string())?.to_string();
            let count = sent.get(&name).copied().unwrap_or(0);
            known += count;
            world.tally.raced += u64::from(dispatch.raced && count > 0);
            let nothing = History::default();
            if count > 1 && world.provider.knows_keys() {
                return Err(format!("provider count: dispatch {name} went out {count} times under one key"));
            }
            fits(&name, dispatch.phase(), count, histories.get(entity.key()).unwrap_or(&nothing))?;
            if dispatch.phase() == state::DispatchPhase::Unknown {
                world.tally.unknowns += 1;
                if !world.something_hid_an_answer() {
                    return Err(format!("dispatch {name} is unknown, and nothing was broken"));
                }
            }
        }
    }
    let all: u32 = sent.values().sum();
    if known == all { Ok(()) } else { Err(format!("{all} messages went out, the sender knows of {known}")) }
}

fn histories(accepted: &[Accepted]) -> Result<BTreeMap<Bytes, History>, Wrong> {
    let mut histories: BTreeMap<Bytes, History> = BTreeMap::new();
    for Accepted { record, .. } in accepted {
        let unreadable = |e: prost::DecodeError| e.to_string();
        match record.kind {
            kind::DISPATCH => {
                let dispatch = Dispatch::decode(record.body.clone()).map_err(unreadable)?;
                histories.entry(dispatch.dispatch).or_default().transactional = dispatch.class == "transactional";
            }
            kind::ATTEMPT => {
                let attempt = Attempt::decode(record.body.clone()).map_err(unreadable)?;
                histories.entry(attempt.dispatch).or_default().attempts.entry(attempt.number).or_insert(false);
            }
            kind::OUTCOME => {
                let outcome = AttemptOutcome::decode(record.body.clone()).map_err(unreadable)?;
                let sure = outcome.outcome() != Outcome::Unknown;
                let answered = histories.entry(outcome.dispatch).or_default().attempts.entry(outcome.number).or_default();
                *answered |= sure;
            }
            _ => {}
        }
    }
    Ok(histories)
}

fn fits(name: &str, phase: state::DispatchPhase, count: u32, history: &History) -> Result<(), Wrong> {
    // The last attempt of all is no extra, in doubt or not; those before it are, where nobody answered for them.
    let doubts = u32::try_from(history.attempts.values().filter(|sure| !**sure).count()).unwrap_or(u32::MAX);
    let most = if history.transactional { doubts + 1 } else { 1 };
    if count > most {
        return Err(format!("provider count: dispatch {name} went out {count} times, with {doubts} attempts in doubt"));
    }
    let fits = match phase {
        state::DispatchPhase::Done => count >= 1,
        state::DispatchPhase::Stopped | state::DispatchPhase::Failed => count <= doubts,
        state::DispatchPhase::Unknown => true,
        state::DispatchPhase::Unspecified
        | state::DispatchPhase::Ready
        | state::DispatchPhase::Inflight
        | state::DispatchPhase::InDoubt
        | state::DispatchPhase::Retry => return Err(format!("dispatch {name} is {} at rest", phase.as_str_name())),
    };
    if fits { Ok(()) } else { Err(format!("dispatch {name} is {} and went out {count} times", phase.as_str_name())) }
}
