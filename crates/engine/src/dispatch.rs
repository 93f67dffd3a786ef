//! One send to one address, from its decision to its outcome (PROTOCOL §11).
//!
//! ```text
//! dispatch → READY ─propose→ [attempt n, leader ℓ] ─folded, ℓ = here.leader, gate 10→ INFLIGHT n ─call→ [outcome n]
//! accepted → DONE · permanent → FAILED · transient, throttled, auth → RETRY while valid
//! unknown → IN_DOUBT where the key, a look-up or the class may settle it (`doubt`), else UNKNOWN; whatever ends it
//! then without an acceptance ends it UNKNOWN, until somebody answers for that attempt too
//! feedback of a provider → settles what is open or UNKNOWN (`feedback`)
//! recall before the dispatch → remembered, and the dispatch STOPPED when it comes
//! INFLIGHT of an older leader → IN_DOUBT · recall before the attempt → STOPPED, after it → raced
//! "not begun" before its attempt → RETRY, and the attempt does not count
//! ```
//!
//! The intent is in the log before the call: whatever happens to the process, a later life finds the
//! attempt and knows that the call may have been made. There is no scan when a leader changes; an
//! INFLIGHT dispatch looks for itself when it is folded or its timer fires.

pub mod address;
mod doubt;
mod feedback;
mod report;

use waypost_codec::{
    inbox::{Attempt, AttemptOutcome, Dispatch, Outcome, Receipt, Suppress},
    public::Message,
    state::{AddressState, DispatchPhase as Phase, DispatchState},
};
use waypost_types::{Span, Timestamp, WorkspaceId};

use self::doubt::maybe_sent;
pub use self::{
    doubt::{DOUBT_MARGIN, KEY_MARGIN, LONGEST_CALL},
    feedback::heard,
};
use crate::definitions::Class;

/// Reason of an outcome: whoever proposed the attempt has not called for it, and will not.
pub const NOT_BEGUN: &str = "NOT_BEGUN";

/// Where a transition happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Here {
    /// Log time.
    pub now: Timestamp,
    /// The leader in force, as the runtime counts it.
    pub leader: u64,
    /// Whose send.
    pub workspace: WorkspaceId,
    /// The switches; all on but in the simulator.
    pub rules: Rules,
}

/// Rules of PROTOCOL §11 that the simulator switches off to find the hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A doubt ends only when the call in question cannot be under way any more.
    pub in_doubt_wait: bool,
    /// Where a receipt goes.
    pub receipts: Receipts,
}

/// Where a receipt goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receipts {
    /// To the node that its profile began with: it takes that identifier's roads.
    #[default]
    ToNode,
    /// Off: to the profile itself, wherever that has moved.
    ToProfile,
    /// Off: to whoever the address belongs to.
    ToAddress,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Render, and propose attempt `state.attempt + 1`.
    Propose,
    /// Call the provider for attempt `state.attempt`.
    Call {
        /// Hash of the bytes that were rendered for it.
        render_hash: bytes::Bytes,
        /// When it must not begin any more, by the clock on the wall: a repeat is known as one until then.
        until: Option<Timestamp>,
    },
    /// Ask the provider what became of the dispatch.
    LookUp,
    /// Tell the profile, and the public topic.
    Report(Box<(Receipt, Message)>),
    /// Tell the public topic under this profile id, which has heard it first.
    Tell(Box<(bytes::Bytes, Message)>),
    /// The ledger forgets it.
    Forget,
}

/// How long the ledger knows a dispatch id.
pub const LEDGER: Span = Span::from_days(35);
/// How soon a proposal that came to nothing is made again at first.
pub const PROPOSE_AGAIN: Span = Span::from_secs(5);
const PROPOSE_AT_MOST: Span = Span::from_secs(60);
/// How often a call under way is looked after.
pub const LOOK_AFTER: Span = Span::from_secs(10);
const RECALLED: &str = "RECALLED";
const FIRST_BACKOFF: Span = Span::from_secs(30);
const LONGEST_BACKOFF: Span = Span::from_hours(1);

/// A dispatch arrives. A repeat of a known id changes nothing; one that was recalled before it came ends at once.
pub fn dispatched(state: &mut Option<DispatchState>, dispatch: &Dispatch, address_key: &[u8], here: Here) -> Vec<Effect> {
    let recalled = state.as_ref().is_some_and(recalled_before_it_came);
    if state.is_some() && !recalled {
        return Vec::new();
    }
    let state = state.insert(DispatchState {
        dispatch: Some(dispatch.clone()),
        phase: Phase::Ready.into(),
        created_at: here.now.millis(),
        now: here.now.millis(),
        address_key: bytes::Bytes::copy_from_slice(address_key),
        ..DispatchState::default()
    });
    if recalled { stop(state, RECALLED, here) } else { ready(state, here) }
}

/// A recall of a dispatch that the ledger does not know: the two come over different channels after a
/// merge, and the recall may be first. What is kept ends the dispatch when it comes.
pub fn recalled_unknown(here: Here) -> DispatchState {
    DispatchState {
        phase: Phase::Stopped.into(),
        reason: RECALLED.to_owned(),
        raced: true,
        created_at: here.now.millis(),
        now: here.now.millis(),
        due: here.now.plus(LEDGER).millis(),
        ..DispatchState::default()
    }
}

// Nothing that was ever dispatched is stopped and raced without an attempt.
fn recalled_before_it_came(state: &DispatchState) -> bool {
    state.phase() == Phase::Stopped && state.raced && state.attempt == 0
}

/// An attempt is folded: from here on its call counts as made.
pub fn attempted(state: &mut DispatchState, address: &mut AddressState, attempt: &Attempt, here: Here) -> Vec<Effect> {
    touched(state, here);
    let mut effects = Vec::new();
    if state.phase() != Phase::Ready || attempt.number != state.attempt + 1 {
        return effects;
    }
    let Some(dispatch) = state.dispatch.clone() else { return effects };
    if attempt.leader != here.leader {
        // Proposed under a leader that is gone: its process must not call, so it does not count.
        effects.push(Effect::Propose);
        return effects;
    }
    if expired(&dispatch, here) {
        effects.extend(outlived(state, here));
        return effects;
    }
    if let Some(reason) = address::refusal(address, &dispatch, here.now) {
        effects.extend(stop(state, &reason, here));
        return effects;
    }
    if !attempt.refused.is_empty() {
        effects.extend(stop(state, &attempt.refused, here));
        return effects;
    }
    if !doubt::may_follow(state, attempt, here.now) {
        effects.extend(doubt::resolved(state, here));
        return effects;
    }
    state.set_phase(Phase::Inflight);
    state.attempted_at = here.now.millis();
    state.promise.clone_from(&attempt.promise);
    state.attempt = attempt.number;
    state.leader = attempt.leader;
    state.reason.clear();
    state.due = here.now.plus(LOOK_AFTER).millis();
    if state.first_attempt_at == 0 {
        state.first_attempt_at = here.now.millis();
    }
    address::sent(address, &dispatch, here.now);
    effects.push(Effect::Call { render_hash: attempt.render_hash.clone(), until: doubt::call_until(state) });
    effects
}

/// What came of an attempt, from whichever life appended it.
pub fn settled(state: &mut DispatchState, address: &mut AddressState, outcome: &AttemptOutcome, here: Here) -> Vec<Effect> {
    touched(state, here);
    let mut effects = Vec::new();
    let ahead_of_its_attempt = outcome.number == state.attempt + 1 && outcome.leader == here.leader && state.phase() == Phase::Ready;
    if ahead_of_its_attempt && outcome.reason == NOT_BEGUN {
        // The partition is given back while the attempt is on its way to the log: there it comes too late.
        (state.attempt, state.leader) = (outcome.number, outcome.leader);
    }
    let current = outcome.number == state.attempt && outcome.number > 0;
    if current && outcome.leader != 0 && outcome.leader != state.leader {
        return effects;
    }
    let earlier = outcome.number > 0 && outcome.number < state.attempt;
    let doubted = state.unanswered.contains(&outcome.number);
    if !matches!(outcome.outcome(), Outcome::Unknown | Outcome::Unspecified) {
        doubt::answered(state, outcome.number);
    }
    match state.phase() {
        // READY: the doubt had ended, and the answer comes after all; it decides what had to be guessed.
        Phase::Inflight | Phase::InDoubt | Phase::Ready if current => effects.extend(concluded(state, address, outcome, here)),
        Phase::Ready | Phase::Retry | Phase::Inflight | Phase::InDoubt if earlier && outcome.outcome() == Outcome::Accepted => {
            effects.extend(concluded(state, address, outcome, here));
        }
        // Of the doubted attempts this was the last.
        Phase::InDoubt if !maybe_sent(state) => effects.extend(doubt::resolved(state, here)),
        Phase::Unknown if doubted => effects.extend(corrected(state, address, outcome, here)),
        Phase::Unspecified
        | Phase::Ready
        | Phase::Inflight
        | Phase::InDoubt
        | Phase::Retry
        | Phase::Done
        | Phase::Failed
        | Phase::Unknown
        | Phase::Stopped => {}
    }
    effects
}

/// The send is to be taken back.
pub fn recalled(state: &mut DispatchState, here: Here) -> Vec<Effect> {
    touched(state, here);
    let mut effects = Vec::new();
    match state.phase() {
        Phase::Ready | Phase::Retry if !maybe_sent(state) => effects.extend(stop(state, RECALLED, here)),
        // It may have gone out already, so "recalled" would be a guess.
        Phase::Ready | Phase::Retry => {
            state.raced = true;
            effects.extend(doubt::resolved(state, here));
        }
        Phase::Inflight | Phase::InDoubt | Phase::Done | Phase::Unknown => state.raced = true,
        Phase::Unspecified | Phase::Failed | Phase::Stopped => {}
    }
    effects
}

/// The timer fires.
pub fn fired(state: &mut DispatchState, here: Here) -> Vec<Effect> {
    touched(state, here);
    let mut effects = Vec::new();
    if state.due == 0 || state.due > here.now.millis() {
        return effects;
    }
    match state.phase() {
        Phase::Ready | Phase::Retry => effects.extend(ready(state, here)),
        // Its validity is long over: whatever had to append the outcome will not.
        Phase::Inflight
            if state.dispatch.as_ref().is_none_or(|d| here.now.minus(LONGEST_CALL).minus(DOUBT_MARGIN).millis() > d.valid_until) =>
        {
            doubt::begin(state, here);
        }
        // The same leader and no outcome yet: the call is under way.
        Phase::Inflight => state.due = here.now.plus(LOOK_AFTER).millis(),
        Phase::InDoubt => effects.extend(doubt::resolved(state, here)),
        Phase::Unspecified | Phase::Done | Phase::Failed | Phase::Unknown | Phase::Stopped => effects.push(Effect::Forget),
    }
    effects
}

// A dispatch that is folded looks first whether the leader it was sent under is still there.
fn touched(state: &mut DispatchState, here: Here) {
    state.now = here.now.millis();
    if state.phase() == Phase::Inflight && state.leader != here.leader {
        doubt::begin(state, here);
    }
}

// Validity has ended before anybody said yes or no. To the profile a transient outcome means "not yet",
// so this end is told as a stop with the provider's code.
fn outlived(state: &mut DispatchState, here: Here) -> Vec<Effect> {
    let reason = state.reason.clone();
    match reason.as_str() {
        "PROVIDER_AUTH" | "PROVIDER_UNAVAILABLE" => failed(state, Outcome::Stopped, &reason, here),
        _ => stop(state, "EXPIRED", here),
    }
}

fn ready(state: &mut DispatchState, here: Here) -> Vec<Effect> {
    if state.dispatch.as_ref().is_none_or(|dispatch| expired(dispatch, here)) {
        return outlived(state, here);
    }
    if maybe_sent(state) { doubt::resolved(state, here) } else { propose(state, here) }
}

fn propose(state: &mut DispatchState, here: Here) -> Vec<Effect> {
    state.set_phase(Phase::Ready);
    // Further apart the longer it takes, so that an outage is not answered with a flood of renderings.
    let waited = here.now.since(Timestamp::from_millis(state.created_at)).millis() / 2;
    let again = waited.clamp(PROPOSE_AGAIN.millis(), PROPOSE_AT_MOST.millis());
    state.due = here.now.plus(Span::from_millis(again)).millis();
    vec![Effect::Propose]
}

fn concluded(state: &mut DispatchState, address: &mut AddressState, outcome: &AttemptOutcome, here: Here) -> Vec<Effect> {
    state.provider_id.clone_from(&outcome.provider_id);
    match outcome.outcome() {
        Outcome::Accepted => done(state, outcome.number, here),
        Outcome::PermanentRecipient | Outcome::PermanentContent | Outcome::Stopped => {
            refused(state, address, outcome, here);
            failed(state, outcome.outcome(), final_reason(outcome), here)
        }
        Outcome::Transient | Outcome::Throttled | Outcome::Auth => {
            not_sent(state, address, outcome);
            if state.raced {
                return stop(state, RECALLED, here);
            }
            let asked = Timestamp::from_millis(outcome.retry_at);
            let at = here.now.plus(backoff(state.attempt)).max(asked);
            let valid = state.dispatch.as_ref().is_some_and(|d| at.millis() < d.valid_until);
            final_reason(outcome).clone_into(&mut state.reason);
            if !valid {
                return failed(state, Outcome::Stopped, final_reason(outcome), here);
            }
            state.set_phase(Phase::Retry);
            state.due = at.millis();
            Vec::new()
        }
        Outcome::Unknown | Outcome::Unspecified => {
            if doubt::after_silence(state, here) {
                Vec::new()
            } else {
                unknown(state, here)
            }
        }
    }
}

// An answer after UNKNOWN was reported: nothing is sent again, but it is set right.
fn corrected(state: &mut DispatchState, address: &mut AddressState, outcome: &AttemptOutcome, here: Here) -> Vec<Effect> {
    match outcome.outcome() {
        Outcome::Accepted => {
            state.provider_id.clone_from(&outcome.provider_id);
            done(state, outcome.number, here)
        }
        // It did not go out; but another attempt, of which nobody knows, may have.
        Outcome::PermanentRecipient
        | Outcome::PermanentContent
        | Outcome::Transient
        | Outcome::Throttled
        | Outcome::Auth
        | Outcome::Stopped
            if maybe_sent(state) =>
        {
            refused(state, address, outcome, here);
            Vec::new()
        }
        Outcome::PermanentRecipient | Outcome::PermanentContent => {
            refused(state, address, outcome, here);
            failed(state, outcome.outcome(), final_reason(outcome), here)
        }
        Outcome::Transient | Outcome::Throttled | Outcome::Auth | Outcome::Stopped => {
            refused(state, address, outcome, here);
            failed(state, Outcome::Stopped, final_reason(outcome), here)
        }
        Outcome::Unknown | Outcome::Unspecified => Vec::new(),
    }
}

// This attempt did not go out; unless another may have, nothing did.
fn not_sent(state: &DispatchState, address: &mut AddressState, outcome: &AttemptOutcome) {
    if !maybe_sent(state) {
        address::not_sent(address, &outcome.dispatch);
    }
}

// And an address that does not exist is not tried again for anybody.
fn refused(state: &DispatchState, address: &mut AddressState, outcome: &AttemptOutcome, here: Here) {
    not_sent(state, address, outcome);
    if outcome.outcome() == Outcome::PermanentRecipient {
        let hard = Suppress { reason: "HARD_BOUNCE".to_owned(), ..Suppress::default() };
        address::suppress(address, &hard, here.now);
    }
}

fn final_reason(outcome: &AttemptOutcome) -> &'static str {
    match outcome.outcome() {
        Outcome::PermanentRecipient => "PROVIDER_RECIPIENT",
        Outcome::PermanentContent | Outcome::Stopped => "PROVIDER_CONTENT",
        Outcome::Auth => "PROVIDER_AUTH",
        Outcome::Transient | Outcome::Throttled => "PROVIDER_UNAVAILABLE",
        Outcome::Unknown => "OUTCOME_UNKNOWN",
        Outcome::Accepted | Outcome::Unspecified => "",
    }
}

fn done(state: &mut DispatchState, number: u32, here: Here) -> Vec<Effect> {
    let reason = if state.raced { "RACED" } else { "" };
    end(state, Phase::Done, Outcome::Accepted, reason, number, here)
}

fn failed(state: &mut DispatchState, outcome: Outcome, reason: &str, here: Here) -> Vec<Effect> {
    // What came of this attempt says nothing about one that was never answered.
    if maybe_sent(state) {
        return unknown(state, here);
    }
    let number = state.attempt;
    end(state, Phase::Failed, outcome, reason, number, here)
}

fn stop(state: &mut DispatchState, reason: &str, here: Here) -> Vec<Effect> {
    // With an attempt of which nobody knows what came, it is not true that nothing was sent.
    if maybe_sent(state) {
        return unknown(state, here);
    }
    let number = state.attempt;
    end(state, Phase::Stopped, Outcome::Stopped, reason, number, here)
}

fn unknown(state: &mut DispatchState, here: Here) -> Vec<Effect> {
    let number = state.attempt;
    end(state, Phase::Unknown, Outcome::Unknown, "OUTCOME_UNKNOWN", number, here)
}

fn end(state: &mut DispatchState, phase: Phase, outcome: Outcome, reason: &str, number: u32, here: Here) -> Vec<Effect> {
    state.set_phase(phase);
    reason.clone_into(&mut state.reason);
    state.due = Timestamp::from_millis(state.created_at).plus(LEDGER).max(here.now).millis();
    state.promise = None;
    doubt::over(state);
    let Some(dispatch) = state.dispatch.take() else { return Vec::new() };
    let report = report::of(state, &dispatch, outcome, number, here);
    if phase == Phase::Unknown {
        // A correction needs to know whom to tell, not what was said to whom.
        state.dispatch = Some(Dispatch { address: String::new(), variables: None, ..dispatch });
    } else {
        state.unanswered.clear();
    }
    vec![Effect::Report(Box::new(report))]
}

// === impl Rules ===

impl Default for Rules {
    fn default() -> Self {
        Self { in_doubt_wait: true, receipts: Receipts::ToNode }
    }
}

fn expired(dispatch: &Dispatch, here: Here) -> bool {
    here.now.millis() >= dispatch.valid_until
}

fn class(state: &DispatchState) -> Class {
    // What is not plainly transactional is treated with the caution that marketing needs.
    match state.dispatch.as_ref().map(|d| d.class.as_str()) {
        Some("transactional") => Class::Transactional,
        Some(_) | None => Class::Marketing,
    }
}

fn backoff(attempt: u32) -> Span {
    let doubled = FIRST_BACKOFF.millis().checked_shl(attempt.saturating_sub(1).min(20)).unwrap_or(i64::MAX);
    Span::from_millis(doubled.min(LONGEST_BACKOFF.millis()))
}

#[cfg(test)]
mod tests;
