//! What went out, and what is said of it (PROTOCOL §16.3, 5).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{Attempt, AttemptOutcome, Dispatch, Outcome},
    kind, state, stored,
};
use waypost_engine::dispatch::NOT_BEGUN;
use waypost_types::{DispatchId, Position, Role, Timestamp};

use super::{Partitions, Wrong, fence::Suppressed};
use crate::{
    naive::{Accepted, Folded},
    provider::{Done, Offers},
    world::World,
};

/// So many look-ups without an answer, and a provider is taken for one that cannot be asked.
const ASKS: u32 = 5;

/// What the sender's log says of one dispatch.
#[derive(Debug, Default)]
struct History {
    transactional: bool,
    /// By number.
    attempts: BTreeMap<u32, Tried>,
    /// Whoever had begun an attempt lost the partition before anybody had answered for it.
    interrupted: bool,
    /// An attempt was not to be made: its address was erased or had bounced, or there was nothing to send.
    refused: bool,
}

/// One attempt.
#[derive(Debug)]
struct Tried {
    at: Position,
    /// Under whom.
    leader: u64,
    /// It has had an answer that leaves no doubt.
    sure: bool,
}

/// Marketing goes out once at most; what is transactional once at least, and again only where an attempt was in
/// doubt and the provider could not help; and nobody knows nothing without a reason.
pub(super) fn calls(world: &mut World, folded: &Partitions) -> Result<(), Wrong> {
    let (done, offers) = (world.provider.done(), world.provider.offers());
    let (calls, repeats, look_ups) = world.provider.counts();
    world.tally.calls += calls;
    world.tally.known_keys += repeats;
    world.tally.look_ups += look_ups;
    let mut known = 0;
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Sender) {
        let histories = histories(&meaning.accepted)?;
        for (entity, bytes) in meaning.entities.iter().filter(|(entity, _)| entity.kind() == b'd') {
            let (_, body) = stored::open(bytes).map_err(|e| format!("{id}: {e}"))?;
            let dispatch = state::DispatchState::decode(body).map_err(|e| e.to_string())?;
            let name = DispatchId::from_slice(entity.key()).map_err(|e| e.to_string())?.to_string();
            let done = done.get(&name).copied().unwrap_or_default();
            known += done.sent;
            world.tally.raced += u64::from(dispatch.raced && done.sent > 0);
            world.tally.forgotten_keys += u64::from(done.forgotten);
            let nothing = History::default();
            let history = histories.get(entity.key()).unwrap_or(&nothing);
            no_more_than_promised(&name, done, offers)?;
            fits(&name, dispatch.phase(), done.sent, history)?;
            if dispatch.phase() == state::DispatchPhase::Unknown {
                world.tally.unknowns += 1;
                if done.silent == 0 && !(history.interrupted && world.something_hid_an_answer()) {
                    return Err(format!("dispatch {name} is unknown, and nothing was broken"));
                }
                nothing_was_left_to_try(&name, &dispatch, done, offers, latest(meaning), history.refused)?;
            }
        }
    }
    let all: u32 = done.values().map(|done| done.sent).sum();
    if known == all { Ok(()) } else { Err(format!("{all} messages went out, the sender knows of {known}")) }
}

/// A provider that knows a repeat, or can be asked, sends nothing twice while it does.
fn no_more_than_promised(name: &str, done: Done, offers: Offers) -> Result<(), Wrong> {
    let Done { sent, forgotten, unheard, .. } = done;
    if offers.key() && sent > 1 + forgotten {
        return Err(format!("provider count: dispatch {name} went out {sent} times under one key"));
    }
    if offers.lookup() && sent > 1 && unheard < ASKS {
        return Err(format!("provider count: dispatch {name} went out {sent} times, and whoever asked was told so"));
    }
    Ok(())
}

/// A doubt stays only where it could not be settled: whoever could be asked did not answer, and what is transactional
/// was taken back, was refused, or came too late to go again.
fn nothing_was_left_to_try(
    name: &str,
    dispatch: &state::DispatchState,
    done: Done,
    offers: Offers,
    latest: Timestamp,
    refused: bool,
) -> Result<(), Wrong> {
    if offers.lookup() && done.unheard == 0 {
        return Err(format!("dispatch {name} is unknown, and whoever could be asked was not, or has answered"));
    }
    let Some(Dispatch { class, valid_until, .. }) = &dispatch.dispatch else {
        return Err(format!("dispatch {name} is unknown, and nobody could be told of what comes to be known"));
    };
    let sendable = !dispatch.raced && !refused && latest < Timestamp::from_millis(*valid_until);
    if class == "transactional" && sendable {
        return Err(format!("dispatch {name} is transactional and unknown, and could have gone again"));
    }
    Ok(())
}

/// No fold of a partition was later.
fn latest(meaning: &Folded) -> Timestamp {
    meaning.accepted.last().map_or(Timestamp::ZERO, |last| last.appended).max(meaning.meta.clk)
}

fn histories(accepted: &[Accepted]) -> Result<BTreeMap<Bytes, History>, Wrong> {
    let mut histories: BTreeMap<Bytes, History> = BTreeMap::new();
    let mut led_at = Position::default();
    let (mut suppressed, mut bounced) = (Suppressed::default(), BTreeSet::new());
    for Accepted { record, position, .. } in accepted {
        let unreadable = |e: prost::DecodeError| e.to_string();
        suppressed.hear(record).map_err(unreadable)?;
        match record.kind {
            kind::LEADER => led_at = *position,
            kind::DISPATCH => {
                let dispatch = Dispatch::decode(record.body.clone()).map_err(unreadable)?;
                histories.entry(dispatch.dispatch).or_default().transactional = dispatch.class == "transactional";
            }
            kind::ATTEMPT => {
                let attempt = Attempt::decode(record.body.clone()).map_err(unreadable)?;
                // Of a leader who was none any more: it does not count, and another may have its number.
                if attempt.leader != led_at.offset + 1 {
                    continue;
                }
                let history = histories.entry(attempt.dispatch).or_default();
                history.refused |= !attempt.refused.is_empty() || suppressed.erased(&record.key) || bounced.contains(&record.key);
                history.attempts.entry(attempt.number).or_insert(Tried { at: *position, leader: attempt.leader, sure: false });
            }
            kind::OUTCOME => {
                let outcome = AttemptOutcome::decode(record.body.clone()).map_err(unreadable)?;
                if outcome.outcome() == Outcome::PermanentRecipient {
                    bounced.insert(record.key.clone());
                }
                let sure = outcome.outcome() != Outcome::Unknown;
                let history = histories.entry(outcome.dispatch).or_default();
                if outcome.reason == NOT_BEGUN && outcome.leader == led_at.offset + 1 {
                    // Ahead of its attempt, which comes too late to be called for.
                    let tried = Tried { at: *position, leader: outcome.leader, sure };
                    history.attempts.entry(outcome.number).or_insert(tried);
                }
                // Before any attempt of this number it is a former leader's word, and says nothing of what comes after.
                let Some(tried) = history.attempts.get_mut(&outcome.number) else { continue };
                if outcome.leader != 0 && outcome.leader != tried.leader {
                    continue;
                }
                history.interrupted |= !tried.sure && tried.at < led_at;
                tried.sure |= sure;
            }
            _ => {}
        }
    }
    for history in histories.values_mut() {
        history.interrupted |= history.attempts.values().any(|tried| !tried.sure && tried.at < led_at);
    }
    Ok(histories)
}

fn fits(name: &str, phase: state::DispatchPhase, count: u32, history: &History) -> Result<(), Wrong> {
    // The last attempt of all is no extra, in doubt or not; those before it are, where nobody answered for them.
    let doubts = u32::try_from(history.attempts.values().filter(|tried| !tried.sure).count()).unwrap_or(u32::MAX);
    let most = if history.transactional { doubts + 1 } else { 1 };
    if count > most {
        return Err(format!("provider count: dispatch {name} went out {count} times, with {doubts} attempts in doubt"));
    }
    let fits = match phase {
        state::DispatchPhase::Done => count >= 1,
        state::DispatchPhase::Stopped | state::DispatchPhase::Failed => count <= doubts,
        // Why it may be, `nothing_was_left_to_try` says.
        state::DispatchPhase::Unknown => doubts > 0,
        state::DispatchPhase::Unspecified
        | state::DispatchPhase::Ready
        | state::DispatchPhase::Inflight
        | state::DispatchPhase::InDoubt
        | state::DispatchPhase::Retry => return Err(format!("dispatch {name} is {} at rest", phase.as_str_name())),
    };
    if fits { Ok(()) } else { Err(format!("dispatch {name} is {} and went out {count} times", phase.as_str_name())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    fn offers(lookup: bool) -> Offers {
        let drawn = (0..100).map(|seed| Offers::draw(&mut Chance::new(seed), &mut Chance::new(seed + 1)));
        drawn.into_iter().find(|offers| offers.lookup() == lookup && !offers.key()).unwrap()
    }

    #[test]
    fn a_doubt_stays_only_where_nothing_was_left_to_try() {
        let stays = |class: &str, raced: bool, lookup: bool, unheard: u32, latest: i64, refused: bool| {
            let dispatch = Dispatch { class: class.to_owned(), valid_until: 100, ..Dispatch::default() };
            let state = state::DispatchState { dispatch: Some(dispatch), raced, ..state::DispatchState::default() };
            let done = Done { unheard, ..Done::default() };
            nothing_was_left_to_try("", &state, done, offers(lookup), Timestamp::from_millis(latest), refused).is_ok()
        };
        assert!(stays("marketing", false, false, 0, 99, false));
        assert!(!stays("marketing", false, true, 0, 99, false), "it could be asked");
        assert!(stays("marketing", false, true, 1, 99, false));
        assert!(!stays("transactional", false, false, 0, 99, false), "it could go again");
        assert!(stays("transactional", false, false, 0, 100, false));
        assert!(stays("transactional", true, false, 0, 99, false));
        assert!(stays("transactional", false, false, 0, 99, true), "its address was erased");
    }
}
