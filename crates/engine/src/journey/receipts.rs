//! Receipts: what became of a send, and where that leads its run.

use waypost_codec::{
    inbox::{Outcome, Receipt},
    state::{Run, SendState},
};

use super::{
    bounced, is_live, sends, steps,
    trail::{self, Entry, What},
    turn::Turn,
    version_of,
};

/// Takes in a receipt. One that settles nothing yet (a retry is to come) changes nothing.
pub(crate) fn take(turn: &mut Turn<'_>, runs: &mut [Run], receipt: &Receipt) {
    let Some(state) = settled(receipt) else { return };
    if let Some(logged) = turn.log.iter_mut().find(|l| l.id == receipt.send) {
        logged.set_state(state);
    }
    let Some(run) = runs.iter_mut().find(|r| r.sends.iter().any(|s| s.dispatch == receipt.dispatch)) else {
        return orphan(turn, receipt, state);
    };
    let waited_for = sends::waited_for(run).is_some_and(|s| s.dispatch == receipt.dispatch);
    let Some(send) = run.sends.iter_mut().find(|s| s.dispatch == receipt.dispatch) else { return };
    // Accepted or unknown after its recall went out: the message was under way already.
    let raced = send.state() == SendState::Recalling && matches!(state, SendState::Accepted | SendState::Unknown);
    send.set_state(state);
    receipt.reason.clone_into(&mut send.reason);
    if receipt.outcome() == Outcome::PermanentRecipient {
        bounced::note(turn.bounced, &send.address_key, turn.cx.now.millis());
    }
    let entry = Entry { step: send.step.clone(), ..Entry::of(run) };
    let note = if raced { "RACED: it was under way when it was recalled" } else { "" };
    trail::record(turn, What::Receipt, entry.reason(said(receipt, state)).send(receipt.send.clone()).note(note));
    let ws = turn.ws;
    if waited_for
        && is_live(run)
        && let Some(journey) = version_of(ws, run)
    {
        steps::leave_by(turn, run, journey, word(state));
    }
}

/// A receipt whose run is gone; it is still shown.
fn orphan(turn: &mut Turn<'_>, receipt: &Receipt, state: SendState) {
    let entry = Entry { journey: receipt.journey.clone(), run: receipt.run.clone(), step: receipt.step.clone(), ..Entry::default() };
    trail::record(turn, What::Receipt, entry.reason(said(receipt, state)).send(receipt.send.clone()).note("after the run ended"));
}

/// What a receipt settles.
fn settled(receipt: &Receipt) -> Option<SendState> {
    match receipt.outcome() {
        Outcome::Accepted => Some(SendState::Accepted),
        Outcome::PermanentRecipient | Outcome::PermanentContent => Some(SendState::Failed),
        Outcome::Unknown => Some(SendState::Unknown),
        // A provider that would not take it until it was no longer valid has failed it; we did not stop it.
        Outcome::Stopped if receipt.reason.starts_with("PROVIDER_") => Some(SendState::Failed),
        Outcome::Stopped => Some(SendState::Stopped),
        Outcome::Transient | Outcome::Throttled | Outcome::Auth | Outcome::Unspecified => None,
    }
}

/// The outcome as steps name it.
fn word(state: SendState) -> &'static str {
    match state {
        SendState::Accepted => "accepted",
        SendState::Failed => "failed",
        SendState::Unknown => "unknown",
        SendState::Stopped | SendState::Unspecified | SendState::Decided | SendState::Recalling => "stopped",
    }
}

fn said(receipt: &Receipt, state: SendState) -> &str {
    if receipt.reason.is_empty() { word(state) } else { &receipt.reason }
}
