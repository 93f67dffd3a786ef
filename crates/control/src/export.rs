//! All that is stored of a person, as one JSON document for that person.
//!
//! Every stored message is taken apart field by field, so that a field that is added to one does not compile here until it is
//! put into the document or passed over by name.

mod decisions;
mod identifiers;
mod person;
mod sending;

use serde_json::{Map, Value as Json, json};
use waypost_codec::{inbox, value};
use waypost_engine::definitions::Workspace;
use waypost_types::{Currency, Timestamp, Value};

pub(crate) use self::{
    identifiers::{Identified, identified},
    sending::{Sending, sending},
};
use crate::{lookup::Found, present};

/// What the document is made of.
#[derive(Debug)]
pub(crate) struct Exported<'a> {
    /// Name of the workspace.
    pub(crate) workspace: &'a str,
    /// What segmenter and orchestrator hold.
    pub(crate) found: &'a Found,
    /// What identity holds.
    pub(crate) identified: &'a Identified,
    /// What the sender holds.
    pub(crate) sending: &'a Sending,
    /// What is in force, to call segments by their names.
    pub(crate) definitions: Option<&'a Workspace>,
    /// The workspace's currency.
    pub(crate) currency: Currency,
    /// When it was asked for.
    pub(crate) at: Timestamp,
}

// === impl Exported ===

impl Exported<'_> {
    /// The document.
    pub(crate) fn document(&self) -> Json {
        let Found { profile, joined_from, segment, segment_offset, journey, journey_offset } = self.found;
        let mut document = Map::new();
        let mut put = |name: &str, value: Json| drop(document.insert(name.to_owned(), value));
        put("workspace", json!(self.workspace));
        put("profile", json!(profile.to_string()));
        put("exportedAt", json!(self.at.to_string()));
        put("asOf", json!({"segmenter": segment_offset, "orchestrator": journey_offset}));
        put("ledBy", json!(joined_from.iter().map(ToString::to_string).collect::<Vec<_>>()));
        put("identifiers", self.identified.document(self.currency));
        put("person", person::segmented(segment.as_ref(), self.definitions, self.currency));
        put("journeys", decisions::decided(journey.as_ref(), self.currency));
        put("sender", self.sending.document(self.currency));
        Json::Object(document)
    }
}

/// An instant in words; null where there is none.
fn instant(ms: i64) -> Json {
    if ms == 0 { Json::Null } else { json!(Timestamp::from_millis(ms).to_string()) }
}

/// Bytes that are an id, hex.
fn id(bytes: &[u8]) -> Json {
    if bytes.is_empty() { Json::Null } else { json!(hex::encode(bytes)) }
}

/// The name of an enum's value without what they all begin with, in small letters.
fn word(name: &str, prefix: &str) -> Json {
    let name = name.trim_start_matches(prefix);
    if name == "UNSPECIFIED" { Json::Null } else { json!(name.to_lowercase()) }
}

/// A stored value as JSON: what JSON has no form for is text, as `waypostctl profile show` writes it.
fn stored(stored: Option<&inbox::Value>, currency: Currency) -> Json {
    stored.and_then(value::from_proto).map_or(Json::Null, |value| plain(&value, currency))
}

fn plain(value: &Value, currency: Currency) -> Json {
    match value {
        Value::Bool(is_so) => json!(is_so),
        Value::Int(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::List(items) => items.iter().map(|item| plain(item, currency)).collect(),
        Value::Object(entries) => Json::Object(entries.iter().map(|(name, value)| (name.clone(), plain(value, currency))).collect()),
        Value::Decimal(_) | Value::Money(_) | Value::Amount { .. } | Value::Time(_) | Value::Date(_) => {
            json!(present::text(value, currency))
        }
    }
}

fn object(object: Option<&inbox::Object>, currency: Currency) -> Json {
    let entries = object.map(|object| object.entries.as_slice()).unwrap_or_default();
    Json::Object(entries.iter().map(|property| (property.name.clone(), stored(property.value.as_ref(), currency))).collect())
}

/// An event as somebody sent it.
fn event(event: &inbox::Event, currency: Currency) -> Json {
    let inbox::Event {
        message_id,
        name,
        identifiers,
        event_time,
        received_at,
        claimed_time,
        properties,
        context,
        traits,
        source,
        may_grant,
        historical,
        quality,
    } = event;
    let identifiers: Vec<_> = identifiers.iter().map(identifiers::named).collect();
    let left_out: Vec<_> = quality.iter().map(|inbox::Quality { path, reason }| json!({"path": path, "reason": reason})).collect();
    json!({
        "messageId": message_id, "name": name, "identifiers": identifiers, "eventTime": instant(*event_time),
        "receivedAt": instant(*received_at), "claimedTime": instant(*claimed_time), "properties": object(properties.as_ref(), currency),
        "context": object(context.as_ref(), currency), "traits": object(traits.as_ref(), currency), "source": source,
        "mayGrant": may_grant, "historical": historical, "leftOut": left_out,
    })
}
