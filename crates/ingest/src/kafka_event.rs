//! Events of `waypost.events.v1`: the typed envelope with open JSON inside (CONVENTIONS §3.2).

use serde_json::Value as Json;
use waypost_codec::avro::EventInput;
use waypost_types::IdentifierClass;

use crate::{
    Accepted, Env, Reason, Rejection, Rights,
    json::{MAX_DEPTH, Map, deeper_than},
    normalise::{self, Call, Claimed, MAX_EVENT, time},
};

const UNDECLARED: &str = "a name behind `custom:` that Policy.custom_identifiers declares, or another identifier beside it; declare it \
     there, then redrive, or correct the producer";

/// Judges and normalises a decoded event; `env.now` is when the broker appended it.
///
/// # Errors
/// Why it is not let in. Bad optional properties never are a reason.
pub fn read(input: EventInput, rights: &Rights, env: Env<'_>) -> Result<Accepted, Rejection> {
    let message_id = input.message_id.trim().to_owned();
    if message_id.is_empty() {
        return Err(Rejection::new(Reason::MessageIdMissing, "message_id", "the producer's own id of the event"));
    }
    let call = call(input, rights, message_id.clone()).map_err(|rejection| rejection.of(&message_id))?;
    let undeclared = call.identifiers.iter().find(|claimed| !declared(claimed.class, &claimed.custom, rights));
    let undeclared = undeclared.map(|claimed| Rejection::new(Reason::SchemaMismatch, claimed.path.clone(), UNDECLARED).of(&message_id));
    // Where nobody is named but by a name that is not declared, that is what can be put right.
    let instead = |rejection: Rejection| if rejection.reason == Reason::NoIdentifier { undeclared.unwrap_or(rejection) } else { rejection };
    normalise::normalise(call, rights, env).map_err(instead)
}

fn call(input: EventInput, rights: &Rights, message_id: String) -> Result<Call, Rejection> {
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
        let expects = |expected| Rejection::new(Reason::SchemaMismatch, format!("{path}.class"), expected);
        let (class, custom) = class(&word).ok_or_else(|| expects("user_id, email, phone, device, anonymous or custom:<name>"))?;
        // What is wrong with one whose name is not declared is its class.
        let field = if declared(class, custom, rights) { "value" } else { "class" };
        identifiers.push(Claimed { path: format!("{path}.{field}"), class, custom: custom.to_owned(), value: Json::String(value) });
    }
    for (property, class) in [("email", IdentifierClass::Email), ("phone", IdentifierClass::Phone)] {
        if let Some(value) = traits.get(property).filter(|v| !v.is_null()) {
            identifiers.push(Claimed::new(format!("traits.{property}"), class, value.clone()));
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

/// Class and custom name of a word. One that is not declared is a class too: a name that the policy withdraws costs its
/// producers the identifier, and not the event.
fn class(word: &str) -> Option<(IdentifierClass, &str)> {
    if let Some(name) = word.strip_prefix("custom:") {
        return Some((IdentifierClass::Custom, name)).filter(|_| !name.is_empty());
    }
    let class = IdentifierClass::ALL.into_iter().filter(|c| *c != IdentifierClass::Custom).find(|c| c.as_str() == word);
    class.map(|class| (class, ""))
}

fn declared(class: IdentifierClass, custom: &str, rights: &Rights) -> bool {
    class != IdentifierClass::Custom || rights.policy.custom_identifiers.contains(custom)
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
