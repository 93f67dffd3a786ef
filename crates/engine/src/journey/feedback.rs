//! What a provider told about a message comes back as an event of the profile, and is handed on to the address,
//! behind every dispatch that went there before (PROTOCOL §3.5).
//!
//! A door for callbacks appends `Message Delivered`, `Message Opened`, `Message Bounced` and `Message Complained` under the
//! profile id of their signed reference, with the properties `dispatch_id`, `address`, `channel`, and, as far as the
//! provider gave them back, `send_id`, `run_id`, `journey`, `step`. Anybody who holds a write key may call an event so;
//! only the door's source counts, whose name no definition can have.

use bytes::Bytes;
use waypost_codec::{
    inbox::{Event, Feedback, value::Kind},
    state::Run,
};
use waypost_types::{DispatchId, RunId, SendId, Timestamp};

use super::{Effect, bounced, turn::Turn};
use crate::{address, person};

/// Source of events that a callback door appends.
pub const CALLBACKS: &str = "waypost.callbacks";

/// Hands feedback on to the address it is about.
pub(crate) fn hand_on(turn: &mut Turn<'_>, runs: &[Run]) {
    let Some(event) = turn.event else { return };
    let Some((key, feedback)) = read(event, turn.cx.profile.as_bytes(), runs) else { return };
    if feedback.what == "bounced" {
        let now: Timestamp = turn.cx.now;
        bounced::note(turn.bounced, &Bytes::copy_from_slice(&key), now.millis());
    }
    turn.effects.push(Effect::Feedback { key, feedback });
}

/// The address that an event is feedback about, and what is said.
fn read(event: &Event, profile: &[u8], runs: &[Run]) -> Option<([u8; 16], Feedback)> {
    if event.source != CALLBACKS {
        return None;
    }
    let what = match event.name.as_str() {
        "Message Delivered" => "delivered",
        "Message Opened" if text(event, "machine") == Some("true") => return None,
        "Message Opened" => "opened",
        "Message Bounced" => "bounced",
        "Message Complained" => "complained",
        _ => return None,
    };
    let dispatch = id(event, "dispatch_id", DispatchId::as_bytes)?;
    let channel = text(event, "channel").unwrap_or(person::EMAIL);
    let known = runs.iter().flat_map(|run| run.sends.iter().map(move |send| (run, send))).find(|(_, send)| send.dispatch == dispatch);
    let key = match (&known, text(event, "address")) {
        (Some((_, send)), _) => <[u8; 16]>::try_from(send.address_key.as_ref()).ok()?,
        (None, Some(named)) => address::key(channel, named),
        (None, None) => return None,
    };
    let word = |name| text(event, name).unwrap_or_default().to_owned();
    let mut feedback = Feedback {
        dispatch,
        what: what.to_owned(),
        profile: Bytes::copy_from_slice(profile),
        send: id(event, "send_id", SendId::as_bytes).unwrap_or_default(),
        run: id(event, "run_id", RunId::as_bytes).unwrap_or_default(),
        journey: word("journey"),
        step: word("step"),
        channel: channel.to_owned(),
    };
    if let Some((run, send)) = known {
        feedback = Feedback {
            send: send.id.clone(),
            run: run.id.clone(),
            journey: run.journey.clone(),
            step: send.step.clone(),
            channel: send.channel.clone(),
            ..feedback
        };
    }
    Some((key, feedback))
}

fn id<T: std::str::FromStr>(event: &Event, name: &str, bytes: fn(&T) -> &[u8; 16]) -> Option<Bytes> {
    text(event, name)?.parse::<T>().ok().map(|id| Bytes::copy_from_slice(bytes(&id)))
}

fn text<'e>(event: &'e Event, name: &str) -> Option<&'e str> {
    let properties = &event.properties.as_ref()?.entries;
    match &properties.iter().find(|p| p.name == name)?.value.as_ref()?.kind {
        Some(Kind::Text(text)) => Some(text),
        Some(Kind::Bool(true)) => Some("true"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use waypost_codec::{
        inbox::{Object, Property, Value},
        state::RunSend,
    };

    use super::*;

    const DISPATCH: DispatchId = DispatchId::new([1; 16]);

    fn event(name: &str, source: &str, properties: &[(&str, &str)]) -> Event {
        let entries = properties
            .iter()
            .map(|(name, value)| Property { name: (*name).to_owned(), value: Some(Value { kind: Some(Kind::Text((*value).to_owned())) }) });
        let properties = Some(Object { entries: entries.collect() });
        Event { name: name.to_owned(), source: source.to_owned(), properties, ..Event::default() }
    }

    fn run() -> Run {
        let send = RunSend {
            id: Bytes::from_static(&[2; 16]),
            step: "remind".to_owned(),
            dispatch: Bytes::from_static(&[1; 16]),
            channel: "email".to_owned(),
            address_key: Bytes::from_static(&[5; 16]),
            ..RunSend::default()
        };
        Run { id: Bytes::from_static(&[3; 16]), journey: "cart".to_owned(), sends: vec![send], ..Run::default() }
    }

    #[test]
    fn only_a_callback_door_is_believed_and_only_about_a_dispatch() {
        let id = DISPATCH.to_string();
        let named = [("dispatch_id", id.as_str()), ("address", "Ann@shop.example")];
        for (name, what) in [
            ("Message Delivered", Some("delivered")),
            ("Message Opened", Some("opened")),
            ("Message Bounced", Some("bounced")),
            ("Message Complained", Some("complained")),
            ("Message Failed", None),
        ] {
            let found = read(&event(name, CALLBACKS, &named), &[4; 31], &[]);
            assert_eq!(found.as_ref().map(|(_, feedback)| feedback.what.as_str()), what, "{name}");
            if let Some((key, feedback)) = found {
                assert_eq!((key, &feedback.dispatch[..]), (address::key("email", "ann@shop.example"), &[1; 16][..]));
                assert_eq!(&feedback.profile[..], [4; 31]);
            }
            assert_eq!(read(&event(name, "web", &named), &[4; 31], &[run()]), None, "{name}");
        }
        for missing in [&named[..1], &named[1..], &[("dispatch_id", "dsp_1"), named[1]], &[]] {
            assert_eq!(read(&event("Message Bounced", CALLBACKS, missing), &[4; 31], &[]), None);
        }
        let machine = [named[0], named[1], ("machine", "true")];
        assert_eq!(read(&event("Message Opened", CALLBACKS, &machine), &[4; 31], &[]), None);
    }

    #[test]
    fn what_the_run_knows_of_its_send_goes_before_what_the_provider_says() {
        let id = DISPATCH.to_string();
        let said = [("dispatch_id", id.as_str()), ("address", "other@shop.example"), ("journey", "other")];
        let (key, feedback) = read(&event("Message Bounced", CALLBACKS, &said), &[4; 31], &[run()]).expect("feedback");
        assert_eq!(key, [5; 16]);
        assert_eq!((feedback.journey.as_str(), feedback.step.as_str()), ("cart", "remind"));
        assert_eq!((&feedback.send[..], &feedback.run[..]), (&[2; 16][..], &[3; 16][..]));
    }
}
