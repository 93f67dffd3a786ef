//! Calls of the Segment HTTP Tracking API, one event each (CONVENTIONS §1.1).

use jiff::tz::TimeZone;
use serde_json::Value as Json;
use waypost_types::{IdentifierClass, Timestamp};

use crate::{
    Accepted, Env, Reason, Rejection, Rights,
    identifiers::Refused,
    json::{MAX_DEPTH, Map, deeper_than},
    normalise::{self, Call, Claimed, MAX_EVENT, derived_message_id, scalar, time},
};

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Something happened.
    Track,
    /// Who somebody is.
    Identify,
    /// A page was viewed.
    Page,
    /// A screen was viewed.
    Screen,
    /// Somebody belongs to a group.
    Group,
    /// Two ids are one person.
    Alias,
}

/// What a batch says for all its items.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Merged into each item's context; the item's own entries win.
    pub context: serde_json::Map<String, Json>,
    /// `sentAt` of the request.
    pub sent_at: Option<Json>,
}

// === impl CallKind ===

impl CallKind {
    /// All.
    pub const ALL: [Self; 6] = [Self::Track, Self::Identify, Self::Page, Self::Screen, Self::Group, Self::Alias];

    /// Its word, in paths and in `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Identify => "identify",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Group => "group",
            Self::Alias => "alias",
        }
    }
}

/// Reads one event of `kind`, or of the `type` it names, from its JSON text.
///
/// # Errors
/// Why it is not let in. Bad optional properties never are a reason.
pub fn read(kind: Option<CallKind>, text: &str, shared: &Shared, rights: &Rights, env: Env<'_>) -> Result<Accepted, Rejection> {
    if text.len() > MAX_EVENT {
        return Err(Rejection::new(Reason::EventTooLarge, "", format!("at most {MAX_EVENT} bytes, not {}", text.len())));
    }
    if deeper_than(text.as_bytes(), MAX_DEPTH) {
        return Err(Rejection::new(Reason::TooDeep, "", format!("at most {MAX_DEPTH} levels")));
    }
    let item: Map = serde_json::from_str(text).map_err(|_| Rejection::new(Reason::BadJson, "", "a JSON object"))?;
    let given = match item.get("messageId") {
        None | Some(Json::Null) => None,
        Some(id) => Some(scalar(id).ok_or_else(|| Rejection::new(Reason::SchemaMismatch, "messageId", "text"))?),
    };
    let given = given.filter(|id| !id.trim().is_empty());
    let kind = match kind {
        Some(kind) => kind,
        None => {
            item.get("type").and_then(Json::as_str).and_then(|word| CallKind::ALL.into_iter().find(|k| k.as_str() == word)).ok_or_else(
                || {
                    let rejection = Rejection::new(Reason::SchemaMismatch, "type", "one of track, identify, page, screen, group, alias");
                    Rejection { message_id: given.clone(), ..rejection }
                },
            )?
        }
    };
    let message_id = given.unwrap_or_else(|| derived_message_id(rights.workspace, kind.as_str(), &item));
    let call = call(kind, item, shared, message_id.clone()).map_err(|rejection| rejection.of(&message_id))?;
    Ok(Accepted { call: kind.as_str(), ..normalise::normalise(call, rights, env)? })
}

fn call(kind: CallKind, mut item: Map, shared: &Shared, message_id: String) -> Result<Call, Rejection> {
    let mut context = object(&mut item, "context")?;
    for (name, value) in &shared.context {
        if !context.contains_key(name) {
            context.insert(name.clone(), value.clone());
        }
    }
    let mut call = Call { message_id, sheds: true, ..Call::default() };
    let traits = object(&mut item, "traits")?;
    call.properties = object(&mut item, "properties")?;
    identifiers(&mut call, &item, &context, &traits, kind);
    external_ids(&mut call, context.remove("externalIds"));
    times(&mut call, &item, shared);
    match kind {
        CallKind::Track => {
            call.name = match item.get("event") {
                Some(Json::String(name)) if !normalise::text::clean(name).is_empty() => name.clone(),
                _ => return Err(Rejection::new(Reason::NameMissing, "event", "the name of the event")),
            };
        }
        CallKind::Identify => {
            "Profile Updated".clone_into(&mut call.name);
            call.traits = traits;
        }
        CallKind::Page | CallKind::Screen => {
            if kind == CallKind::Page { "Page Viewed" } else { "Screen Viewed" }.clone_into(&mut call.name);
            for name in ["name", "category"] {
                if let Some(value) = item.remove(name)
                    && !call.properties.contains_key(name)
                {
                    call.properties.insert(name.to_owned(), value);
                }
            }
        }
        CallKind::Group => {
            "Group Joined".clone_into(&mut call.name);
            let group = item.remove("groupId").filter(|g| scalar(g).is_some_and(|t| !t.trim().is_empty()));
            let group = group.ok_or_else(|| Rejection::new(Reason::PropertyMissing, "groupId", "the group's id"))?;
            call.properties.insert("group_id".to_owned(), group);
            // The group's traits, not the person's.
            call.properties.insert("traits".to_owned(), Json::Object(traits));
        }
        CallKind::Alias => {
            let previous = item.remove("previousId").filter(|p| scalar(p).is_some_and(|t| !t.trim().is_empty()));
            let previous = previous.ok_or_else(|| Rejection::new(Reason::PropertyMissing, "previousId", "the id to link"))?;
            // What an id was before it was a user id: a cookie, or an address that served as one.
            let class =
                if previous.as_str().is_some_and(|p| p.contains('@')) { IdentifierClass::Email } else { IdentifierClass::Anonymous };
            call.identifiers.push(Claimed::new("previousId", class, previous));
            call.properties = Map::new();
        }
    }
    call.context = context;
    Ok(call)
}

fn identifiers(call: &mut Call, item: &Map, context: &Map, traits: &Map, kind: CallKind) {
    let mut add = |path: &str, class, value: Option<&Json>| {
        if let Some(value) = value.filter(|v| !v.is_null()) {
            call.identifiers.push(Claimed::new(path, class, value.clone()));
        }
    };
    add("userId", IdentifierClass::UserId, item.get("userId"));
    // A group's e-mail and phone are not the person's.
    if kind != CallKind::Group {
        add("traits.email", IdentifierClass::Email, traits.get("email"));
        add("traits.phone", IdentifierClass::Phone, traits.get("phone"));
    }
    if let Some(Json::Object(known)) = context.get("traits") {
        add("context.traits.email", IdentifierClass::Email, known.get("email"));
        add("context.traits.phone", IdentifierClass::Phone, known.get("phone"));
    }
    if let Some(Json::Object(device)) = context.get("device") {
        add("context.device.id", IdentifierClass::Device, device.get("id"));
    }
    add("anonymousId", IdentifierClass::Anonymous, item.get("anonymousId"));
}

/// `context.externalIds`: custom identifiers, their `type` the name that the policy declares. SDKs and hubs send others
/// of their own accord; what is no custom identifier here is noted, and costs nothing else. The context keeps none of
/// them: they name people, some whom nobody here may name, and whoever is taken stands among the identifiers.
fn external_ids(call: &mut Call, listed: Option<Json>) {
    let Some(listed) = listed.filter(|v| !v.is_null()) else { return };
    let Json::Array(items) = listed else { return call.notes.note("context.externalIds", "TYPE_MISMATCH") };
    for (index, item) in items.iter().enumerate() {
        let path = format!("context.externalIds[{index}]");
        let given = |field: &str| item.get(field).filter(|v| !v.is_null());
        // Not the person's, as a group's e-mail, or not the value itself.
        let is_other = |(field, only): &(&str, &str)| given(field).is_some_and(|v| v.as_str() != Some(only));
        if let Some((field, _)) = [("collection", "users"), ("encoding", "none")].into_iter().find(is_other) {
            call.notes.note(&format!("{path}.{field}"), Refused::Invalid.as_str());
            continue;
        }
        match (given("type").and_then(Json::as_str), given("id")) {
            (Some(name), Some(id)) => call.identifiers.push(Claimed::custom(format!("{path}.id"), name, id.clone())),
            (None, _) => call.notes.note(&format!("{path}.type"), "TYPE_MISMATCH"),
            (_, None) => call.notes.note(&format!("{path}.id"), "TYPE_MISMATCH"),
        }
    }
}

fn times(call: &mut Call, item: &Map, shared: &Shared) {
    let mut read = |path: &str, value: Option<&Json>| -> Option<Timestamp> {
        let value = value.filter(|v| !v.is_null())?;
        let instant = scalar(value).and_then(|t| time::time(&t, &TimeZone::UTC));
        if instant.is_none() {
            call.notes.note(path, "TIME_INVALID");
        }
        instant
    };
    let original = read("originalTimestamp", item.get("originalTimestamp"));
    let given = read("timestamp", item.get("timestamp"));
    let sent = read("sentAt", item.get("sentAt").or(shared.sent_at.as_ref()));
    let historical = item.get("historical") == Some(&Json::Bool(true));
    call.stated = time::Stated { original, sent, given, historical };
}

fn object(item: &mut Map, name: &str) -> Result<Map, Rejection> {
    match item.remove(name) {
        None | Some(Json::Null) => Ok(Map::new()),
        Some(Json::Object(map)) => Ok(map),
        Some(Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_)) => {
            Err(Rejection::new(Reason::SchemaMismatch, name, "a JSON object"))
        }
    }
}
