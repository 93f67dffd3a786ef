//! What a provider tells about a message later on. It comes twice and out of order: sent < delivered < opened, and a
//! bounce sticks.

use waypost_codec::{
    inbox::{Feedback, Outcome, Suppress},
    state::{AddressState, DispatchPhase as Phase, DispatchState},
};

use super::{Effect, Here, address, done, end, report, touched};

/// One kind of feedback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The mailbox has it.
    Delivered,
    /// Somebody read it.
    Opened,
    /// Somebody called it spam, so somebody got it.
    Complained,
    /// It came back for good.
    Bounced,
}

/// Takes in feedback of a dispatch, which the ledger may have forgotten.
pub fn heard(state: Option<&mut DispatchState>, address: &mut AddressState, feedback: &Feedback, here: Here) -> Vec<Effect> {
    let Some(heard) = Heard::of(&feedback.what) else { return Vec::new() };
    if let Some(reason) = heard.suppresses() {
        address::suppress(address, &Suppress { reason: reason.to_owned(), ..Suppress::default() }, here.now);
    }
    let Some(state) = state else { return Vec::new() };
    touched(state, here);
    // Of what was never handed over there is nothing to hear.
    if state.attempt == 0 || heard.rank() <= state.heard {
        return Vec::new();
    }
    state.heard = heard.rank();
    let mut effects = match state.phase() {
        // An attempt has reached its provider: that settles it, and nothing is sent again.
        Phase::Ready | Phase::Retry | Phase::Inflight | Phase::InDoubt | Phase::Unknown => {
            let number = state.attempt;
            state.unanswered.clear();
            if heard == Heard::Bounced {
                end(state, Phase::Failed, Outcome::PermanentRecipient, "PROVIDER_RECIPIENT", number, here)
            } else {
                done(state, number, here)
            }
        }
        Phase::Done | Phase::Failed | Phase::Stopped | Phase::Unspecified => Vec::new(),
    };
    if !feedback.profile.is_empty() {
        effects.push(Effect::Tell(Box::new((feedback.profile.clone(), report::of_feedback(state, feedback, heard, here)))));
    }
    effects
}

// === impl Heard ===

impl Heard {
    fn of(word: &str) -> Option<Self> {
        match word {
            "delivered" => Some(Self::Delivered),
            "opened" => Some(Self::Opened),
            "complained" => Some(Self::Complained),
            "bounced" => Some(Self::Bounced),
            _ => None,
        }
    }

    fn rank(self) -> u32 {
        match self {
            Self::Delivered => 1,
            Self::Opened => 2,
            Self::Complained => 3,
            Self::Bounced => 4,
        }
    }

    fn suppresses(self) -> Option<&'static str> {
        match self {
            Self::Bounced => Some("HARD_BOUNCE"),
            Self::Complained => Some("COMPLAINT"),
            Self::Delivered | Self::Opened => None,
        }
    }
}
