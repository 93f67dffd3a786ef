//! Events of `waypost.events.v1`: the typed envelope with open JSON inside (CONVENTIONS §3.2).

use serde_json::Value as Json;
use waypost_codec::avro::EventInput;
use waypost_types::IdentifierClass;

use crate::{
    Accepted, Env, Reason, Rejection, Rights,
    json::{MAX_DEPTH, Map, deeper_than},
    normalise::{self, Call, MAX_EVENT, time},
};

/// Judges and normalises a decoded event; `env.now` is when the broker appended it.
///
/// # Errors
/// Why it is not let in. Bad optional properties never are a reason.
pub fn read(input: EventInput, rights: &Rights, env: Env<'_>) -> Result<Accepted, Rejection> {
    let message_id = input.message_id.trim().to_owned();
    if message_id.is_empty() {
        return Err(Rejection::new(Reason::MessageIdMissing, "message_id", "the producer's own id of the event"));
    }
    let call = call(input, message_id.clone()).map_err(|rejection| rejection.of(&message_id))?;
    normalise::normalise(call, rights, env)
}

fn call(input: EventInput, message_id: String) -> Result<Call, Rejection> {
    let size = input.properties.len() + input.context.len() + input.traits.len();
    if size > MAX_EVENT {
        return Err(Rejection::new(Reason::EventTooLarge, "", format!("at most {MAX_EVENT} bytes of JSON, not {size}")));
    }
    let traits = object("traits", &input.traits)?;
    let name = match input.name.trim() {
        "" if !traits.is_empty() => "Profile Updated",
        "" => return Err(Rejection::new(Reason::NameMissing, "name", "the name of the event")),
        name => name,
    };
    let mut identifiers = Vec::with_capacity(input.identifiers.len() + 2);
    for (index, (word, value)) in input.identifiers.into_iter().enumerate() {
        let path = format!("identifiers[{index}]");
        let class = class(&word).map_err(|(reason, expected)| Rejection::new(reason, format!("{path}.class"), expected))?;
        identifiers.push((format!("{path}.value"), class, Json::String(value)));
    }
    for (property, class) in [("email", IdentifierClass::Email), ("phone", IdentifierClass::Phone)] {
        if let Some(value) = traits.get(property).filter(|v| !v.is_null()) {
            identifiers.push((format!("traits.{property}"), class, value.clone()));
        }
    }
    Ok(Call {
        message_id,
        name: name.to_owned(),
        identifiers,
        stated: time::Stated { given: input.event_time, historical: input.historical, ..time::Stated::default() },
        properties: object("properties", &input.properties)?,
        context: object("context", &input.context)?,
        traits,
        ..Call::default()
    })
}

fn class(word: &str) -> Result<IdentifierClass, (Reason, &'static str)> {
    if word.starts_with("custom:") {
        return Err((Reason::NotYetSupported, "user_id, email, phone, device or anonymous; custom classes come with a later version"));
    }
    IdentifierClass::ALL
        .into_iter()
        .filter(|c| *c != IdentifierClass::Custom)
        .find(|c| c.as_str() == word)
        .ok_or((Reason::SchemaMismatch, "user_id, email, phone, device or anonymous"))
}

fn object(path: &str, text: &str) -> Result<Map, Rejection> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    if deeper_than(text.as_bytes(), MAX_DEPTH) {
        return Err(Rejection::new(Reason::TooDeep, path, format!("at most {MAX_DEPTH} levels")));
    }
    serde_json::from_str(text).map_err(|_| Rejection::new(Reason::SchemaMismatch, path, "the text of a JSON object"))
}
