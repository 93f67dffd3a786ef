//! The receipt for the profile, and the row for the public topic.

use waypost_codec::{
    inbox::{Dispatch, Feedback, Outcome, Receipt},
    public::Message,
    state::DispatchState,
};
use waypost_types::{DispatchId, ProfileId, RunId, SendId};

use super::{Here, feedback::Heard};

pub(super) fn of(state: &DispatchState, dispatch: &Dispatch, outcome: Outcome, number: u32, here: Here) -> (Receipt, Message) {
    let receipt = Receipt {
        profile: dispatch.profile.clone(),
        dispatch: dispatch.dispatch.clone(),
        send: dispatch.send.clone(),
        attempt: number,
        outcome: outcome.into(),
        reason: state.reason.clone(),
        run: dispatch.run.clone(),
        journey: dispatch.journey.clone(),
        step: dispatch.step.clone(),
        channel: dispatch.channel.clone(),
    };
    let (name, spec_name) = names(outcome, &state.reason, &dispatch.channel);
    let message = Message {
        workspace: here.workspace.number(),
        profile: ProfileId::from_slice(&dispatch.profile).map(|id| id.to_string()).unwrap_or_default(),
        at: here.now,
        name: name.to_owned(),
        spec_name: spec_name.to_owned(),
        send: SendId::from_slice(&dispatch.send).map(|id| id.to_string()).unwrap_or_default(),
        dispatch: DispatchId::from_slice(&dispatch.dispatch).map(|id| id.to_string()).unwrap_or_default(),
        run: RunId::from_slice(&dispatch.run).map(|id| id.to_string()).unwrap_or_default(),
        journey: dispatch.journey.clone(),
        step: dispatch.step.clone(),
        channel: dispatch.channel.clone(),
        provider: dispatch.provider.clone(),
        attempt: number,
        reason: state.reason.clone(),
        provider_id: state.provider_id.clone(),
        detail: detail(state, outcome),
    };
    (receipt, message)
}

/// The row of something heard later; who it was comes with the feedback.
pub(super) fn of_feedback(state: &DispatchState, feedback: &Feedback, heard: Heard, here: Here) -> Message {
    let (name, email_name) = match heard {
        Heard::Delivered => ("Message Delivered", "Email Delivered"),
        Heard::Opened => ("Message Opened", "Email Opened"),
        Heard::Complained => ("Message Complained", "Email Marked as Spam"),
        Heard::Bounced => ("Message Bounced", "Email Bounced"),
    };
    Message {
        workspace: here.workspace.number(),
        profile: ProfileId::from_slice(&feedback.profile).map(|id| id.to_string()).unwrap_or_default(),
        at: here.now,
        name: name.to_owned(),
        spec_name: if feedback.channel == "email" { email_name.to_owned() } else { String::new() },
        send: SendId::from_slice(&feedback.send).map(|id| id.to_string()).unwrap_or_default(),
        dispatch: DispatchId::from_slice(&feedback.dispatch).map(|id| id.to_string()).unwrap_or_default(),
        run: RunId::from_slice(&feedback.run).map(|id| id.to_string()).unwrap_or_default(),
        journey: feedback.journey.clone(),
        step: feedback.step.clone(),
        channel: feedback.channel.clone(),
        provider: String::new(),
        attempt: state.attempt,
        reason: String::new(),
        provider_id: state.provider_id.clone(),
        detail: "{}".to_owned(),
    }
}

fn names(outcome: Outcome, reason: &str, channel: &str) -> (&'static str, &'static str) {
    let email = channel == "email";
    match outcome {
        Outcome::Accepted => ("Message Accepted", ""),
        Outcome::PermanentRecipient if email => ("Message Bounced", "Email Bounced"),
        Outcome::PermanentRecipient => ("Message Bounced", ""),
        Outcome::Unknown | Outcome::Unspecified => ("Message Unknown", ""),
        Outcome::Stopped if reason == "EXPIRED" => ("Message Expired", ""),
        Outcome::PermanentContent | Outcome::Transient | Outcome::Throttled | Outcome::Auth | Outcome::Stopped => ("Message Failed", ""),
    }
}

fn detail(state: &DispatchState, outcome: Outcome) -> String {
    let mut detail = serde_json::Map::new();
    detail.insert("outcome".to_owned(), outcome.as_str_name().trim_start_matches("OUTCOME_").to_ascii_lowercase().into());
    if state.raced {
        detail.insert("raced".to_owned(), true.into());
    }
    serde_json::Value::Object(detail).to_string()
}
