//! An attempt of which nobody knows what came: how its doubt ends, by what its provider promised (PROTOCOL §11).
//!
//! ```text
//! key honoured, its window − 1 min not over → READY, same key · look-up possible → ask
//! marketing → UNKNOWN · transactional → READY
//! ```
//!
//! The promise stands in the attempt's record. The process that folds it may know another provider by then.

use waypost_codec::{
    inbox::{Attempt, Promise},
    state::{DispatchPhase as Phase, DispatchState},
};
use waypost_types::{Span, Timestamp};

use super::{Effect, Here, class, expired, propose, stop, unknown};
use crate::definitions::Class;

/// The longest call of any provider: SMTP's steps of 30 s, twice where a connection had gone away, and
/// ten minutes for the answer to the final dot (PROTOCOL §12.2). A constant, because a fold that knew the
/// settings of its process would fold differently in another one.
pub const LONGEST_CALL: Span = Span::from_secs(14 * 60);
/// Added to the longest call before a doubt ends.
pub const DOUBT_MARGIN: Span = Span::from_secs(5);
/// So much of a key's window is not counted on.
pub const KEY_MARGIN: Span = Span::from_secs(60);
// Nothing is sent again for marketing, and a late answer sets UNKNOWN right: no need to wait for a call
// that an old process may still have under way.
const MARKETING_DOUBT: Span = Span::from_secs(30);
// The call is over, only its answer is missing: the provider gets a while to come to rest.
const AFTER_SILENCE: Span = Span::from_secs(30);
// Look-ups of one doubt: after 20, 40, 80, 160 and 320 s the provider is taken for one that cannot be asked.
const ASKS: u32 = 5;
const ASK_AGAIN: Span = Span::from_secs(20);

/// Its leader is gone, and its call may be under way in another life.
pub(super) fn begin(state: &mut DispatchState, here: Here) {
    let settles = state.promise.as_ref().is_some_and(can_settle);
    let wait = match class(state) {
        Class::Marketing if !settles => MARKETING_DOUBT,
        Class::Marketing | Class::Transactional => longest_call(state),
    };
    enter(state, Span::from_millis(wait.millis() + DOUBT_MARGIN.millis()), here);
}

/// Its call has ended without an answer. Returns whether anything can settle that; if not, nobody ever will.
pub(super) fn after_silence(state: &mut DispatchState, here: Here) -> bool {
    if class(state) == Class::Marketing && !state.promise.as_ref().is_some_and(can_settle) {
        unanswered(state);
        return false;
    }
    enter(state, AFTER_SILENCE, here);
    true
}

fn enter(state: &mut DispatchState, wait: Span, here: Here) {
    state.set_phase(Phase::InDoubt);
    "IN_DOUBT".clone_into(&mut state.reason);
    unanswered(state);
    let wait = if here.rules.in_doubt_wait { wait } else { Span::ZERO };
    state.due = here.now.plus(wait).millis();
}

/// The present attempt may have reached somebody, whatever comes of later ones.
fn unanswered(state: &mut DispatchState) {
    if state.unanswered.is_empty() {
        state.doubted_at = state.attempted_at;
        state.doubted = state.promise.clone();
        state.asked = 0;
    }
    if !state.unanswered.contains(&state.attempt) {
        state.unanswered.push(state.attempt);
    }
}

/// Somebody has answered for this attempt.
pub(super) fn answered(state: &mut DispatchState, number: u32) {
    state.unanswered.retain(|known| *known != number);
    if state.unanswered.is_empty() {
        over(state);
    }
}

/// Nothing is in doubt any more, or nothing can be done about it.
pub(super) fn over(state: &mut DispatchState) {
    state.doubted_at = 0;
    state.doubted = None;
    state.asked = 0;
}

/// Whether an attempt that nobody has answered for may have reached the address.
pub(super) fn maybe_sent(state: &DispatchState) -> bool {
    !state.unanswered.is_empty()
}

/// What is done about a doubt now.
pub(super) fn resolved(state: &mut DispatchState, here: Here) -> Vec<Effect> {
    if !maybe_sent(state) {
        return if state.raced { stop(state, "RECALLED", here) } else { super::ready(state, here) };
    }
    let valid = state.dispatch.as_ref().is_some_and(|dispatch| !expired(dispatch, here));
    let sendable = valid && !state.raced;
    if sendable && repeats_until(state).is_some_and(|until| here.now < until) {
        return propose(state, here);
    }
    if state.doubted.as_ref().is_some_and(|promise| promise.lookup) && state.asked < ASKS {
        state.set_phase(Phase::InDoubt);
        state.due = here.now.plus(Span::from_millis(ASK_AGAIN.millis() << state.asked)).millis();
        state.asked += 1;
        return vec![Effect::LookUp];
    }
    if sendable && class(state) == Class::Transactional { propose(state, here) } else { unknown(state, here) }
}

/// Whether this attempt may follow on the doubted ones. What its provider forgot meanwhile, or another one never
/// knew, is no key.
pub(super) fn may_follow(state: &mut DispatchState, attempt: &Attempt, now: Timestamp) -> bool {
    if !maybe_sent(state) {
        return true;
    }
    let way = |promise: Option<&Promise>| promise.map(|promise| promise.way.clone()).unwrap_or_default();
    if way(state.doubted.as_ref()) != way(attempt.promise.as_ref()) {
        state.doubted = None;
    }
    class(state) == Class::Transactional || repeats_until(state).is_some_and(|until| now < until)
}

/// Until when the call of an attempt may begin; none: whenever. Only real time can tell, because the attempt may
/// have lain in the log for longer than the key is known.
pub(super) fn call_until(state: &DispatchState) -> Option<Timestamp> {
    if maybe_sent(state) && class(state) == Class::Marketing { repeats_until(state) } else { None }
}

/// The end of the time in which a repeat of the doubted attempt is known as one.
fn repeats_until(state: &DispatchState) -> Option<Timestamp> {
    let window = Span::from_millis(state.doubted.as_ref()?.key_window);
    (window > KEY_MARGIN).then(|| Timestamp::from_millis(state.doubted_at).plus(window).minus(KEY_MARGIN))
}

fn can_settle(promise: &Promise) -> bool {
    promise.lookup || promise.key_window > KEY_MARGIN.millis()
}

fn longest_call(state: &DispatchState) -> Span {
    let promised = state.promise.as_ref().map_or(0, |promise| promise.longest_call);
    if promised > 0 { Span::from_millis(promised).min(LONGEST_CALL) } else { LONGEST_CALL }
}
