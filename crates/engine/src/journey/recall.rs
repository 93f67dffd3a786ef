//! Taking back: what was decided before a stop or a denial that is known by now (PRODUCT §7.8), and the
//! fence at the address that an opt-out puts up.

use waypost_codec::{
    inbox::{self, ConsentState, Event, Suppress, Unsuppress, value::Kind},
    state::{Run, SendState},
};

use super::{
    Effect, is_live,
    trail::{self, Entry, What},
    turn::Turn,
    version_of,
};
use crate::{
    address,
    consent::{self, Question, Refusal},
    definitions::{Journey, StepKind},
    person::{self, WHOLE_CHANNEL},
};

/// Recalls every send of a run that was decided and not yet answered for.
pub(crate) fn unconfirmed(turn: &mut Turn<'_>, run: &mut Run, reason: &str) {
    for index in 0..run.sends.len() {
        one(turn, run, index, reason);
    }
}

/// Recalls one send, unless it was answered for or is being recalled already.
pub(crate) fn one(turn: &mut Turn<'_>, run: &mut Run, index: usize, reason: &str) {
    let Some(send) = run.sends.get_mut(index).filter(|s| s.state() == SendState::Decided) else { return };
    send.set_state(SendState::Recalling);
    let (id, step, dispatch) = (send.id.clone(), send.step.clone(), send.dispatch.clone());
    let Ok(key) = <[u8; 16]>::try_from(send.address_key.as_ref()) else { return };
    if let Some(logged) = turn.log.iter_mut().find(|l| l.id == id) {
        logged.set_state(SendState::Recalling);
    }
    turn.effects.push(Effect::Recall { key, recall: inbox::Recall { dispatch, reason: reason.to_owned() } });
    let entry = Entry { step, ..Entry::of(run) };
    trail::record(turn, What::Recalled, entry.reason(reason).send(id));
}

/// Acts on what the record said about permission: recalls sends that are now denied, and puts up or
/// takes down the fence at the address.
pub(crate) fn permissions(turn: &mut Turn<'_>, runs: &mut [Run]) {
    if let Some(event) = turn.event {
        fence(turn, event);
    }
    let ws = turn.ws;
    let is_open = |run: &Run| run.sends.iter().any(|send| send.state() == SendState::Decided);
    for run in runs.iter_mut().filter(|run| is_live(run) && is_open(run)) {
        let Some(journey) = version_of(ws, run) else { continue };
        for index in 0..run.sends.len() {
            if is_denied(turn, journey, run, index) {
                one(turn, run, index, Refusal::Denied.code());
            }
        }
    }
}

fn is_denied(turn: &Turn<'_>, journey: &Journey, run: &Run, index: usize) -> bool {
    let Some(decided) = run.sends.get(index).filter(|s| s.state() == SendState::Decided) else { return false };
    let step = journey.steps.iter().find(|s| s.id == decided.step);
    let Some(StepKind::Send(send)) = step.map(|s| &s.kind) else { return false };
    let question = Question {
        person: turn.person,
        channel: &decided.channel,
        topic: send.topic.as_deref(),
        definition: send.topic.as_ref().and_then(|t| turn.ws.topics.get(t)),
        class: send.class,
        address: None,
        now: turn.now(),
    };
    consent::resolve(&question).refusal == Some(Refusal::Denied)
}

/// Whether events of this name say what may be sent.
pub(crate) fn is_about_permission(name: &str) -> bool {
    matches!(name, "Unsubscribed" | "Subscribed" | "Consent Changed")
}

/// Suppresses at the person's addresses what they unsubscribed from; a newer express grant lifts it.
///
/// What counts is the ledger after the event: an old denial that a newer grant has overtaken puts up no fence.
fn fence(turn: &mut Turn<'_>, event: &Event) {
    if !is_about_permission(&event.name) {
        return;
    }
    let channel = text(event, "channel").unwrap_or(person::EMAIL);
    let topic = text(event, "topic").unwrap_or(WHOLE_CHANNEL);
    let Some(entry) = person::consent(turn.person, channel, topic) else { return };
    // The whole channel is every topic: no name.
    let topic = if topic == WHOLE_CHANNEL { String::new() } else { topic.to_owned() };
    // The address that the event names; else all of the channel.
    let keys: Vec<[u8; 16]> = match text(event, "address") {
        Some(named) => vec![address::key(channel, named)],
        None => turn.person.addresses.iter().filter(|a| a.channel == channel).map(|a| address::key(channel, &a.value)).collect(),
    };
    // A source that may not grant leaves no entry in the ledger: an older grant found there is not its doing.
    let granted = event.may_grant && entry.at == event.event_time && entry.state() == ConsentState::Granted && entry.basis == "express";
    for key in keys {
        if event.name == "Unsubscribed" && entry.state() == ConsentState::Denied {
            let profile = bytes::Bytes::copy_from_slice(turn.cx.profile.as_bytes());
            let suppress = Suppress { reason: "UNSUBSCRIBED".to_owned(), topic: topic.clone(), profile };
            turn.effects.push(Effect::Suppress { key, suppress });
        } else if event.name != "Unsubscribed" && granted {
            // Topics that stay denied are stopped by the ledger at gate 3.
            for reason in ["UNSUBSCRIBED", "COMPLAINT"] {
                turn.effects.push(Effect::Unsuppress { key, unsuppress: Unsuppress { reason: reason.to_owned(), topic: topic.clone() } });
            }
        }
    }
}

fn text<'e>(event: &'e Event, name: &str) -> Option<&'e str> {
    let properties = &event.properties.as_ref()?.entries;
    let value = properties.iter().find(|p| p.name == name)?.value.as_ref()?;
    match &value.kind {
        Some(Kind::Text(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}
