//! From a call to a record: identifiers, name, properties, time (PRODUCT §4.1–4.4, §5.2). Pure.

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::tz::TimeZone;
use prost::Message as _;
use serde_json::Value as Json;
use waypost_codec::{frame::Record, inbox, kind};
use waypost_engine::identity::Limits;
use waypost_types::{IdentifierClass, IdentifierHash, Timestamp, Value, WorkspaceId};

use crate::{
    Reason, Rejection, Rights,
    identifiers::{self, Refused, phone},
    json::{self, Map},
    names,
};

mod number;
mod order_value;
mod properties;
pub(crate) mod text;
pub(crate) mod time;

pub(crate) use properties::{Qualities, scalar};

/// What holds for every event that comes in now.
#[derive(Clone, Copy, Debug)]
pub struct Env<'a> {
    /// Key of the identifiers' hashes.
    pub install: &'a [u8; 32],
    /// When it was received.
    pub now: Timestamp,
}

/// An event that is let in.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// Given or derived.
    pub message_id: String,
    /// What goes to `wp1.identity`.
    pub record: Record,
    /// What the record carries.
    pub event: inbox::Event,
    /// Which call it was: `track`, …; `event` on Kafka.
    pub call: &'static str,
}

/// What a door found, before anything is judged.
#[derive(Debug, Default)]
pub(crate) struct Call {
    /// Given or derived.
    pub message_id: String,
    /// As it came; empty: it only links.
    pub name: String,
    /// As they came.
    pub identifiers: Vec<Claimed>,
    /// Where there are more than an event may have, the weakest fall, and not the event. The last of those that it may
    /// have falls anyway: an event links its first to eight others.
    pub sheds: bool,
    /// What it says of its time.
    pub stated: time::Stated,
    /// As it came.
    pub properties: Map,
    /// As it came.
    pub context: Map,
    /// Of an identify call.
    pub traits: Map,
    /// Noted on the way here.
    pub notes: Qualities,
}

/// An identifier as it came.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// Where it stands in the call.
    pub path: String,
    /// Of which class.
    pub class: IdentifierClass,
    /// The name behind `custom:`, else empty.
    pub custom: String,
    /// Its value.
    pub value: Json,
}

/// An event may be this large as it comes in.
pub const MAX_EVENT: usize = 32 * 1024;
/// And this large as a record: what an inbox takes.
const MAX_RECORD: usize = 256 * 1024;
const MAX_IDENTIFIERS: usize = 10;
const LONGEST_MESSAGE_ID: usize = 100;
const LONGEST_NAME: usize = 100;

/// Judges and normalises a call.
pub(crate) fn normalise(call: Call, rights: &Rights, env: Env<'_>) -> Result<Accepted, Rejection> {
    let message_id = call.message_id.clone();
    judge(call, rights, env).map_err(|rejection| rejection.of(&message_id))
}

fn judge(call: Call, rights: &Rights, env: Env<'_>) -> Result<Accepted, Rejection> {
    let Call { message_id, name: given, mut identifiers, sheds, stated, properties: mut raw, context, traits, mut notes } = call;
    if message_id.len() > LONGEST_MESSAGE_ID || message_id.chars().any(char::is_control) {
        return Err(Rejection::new(Reason::SchemaMismatch, "messageId", "at most 100 bytes"));
    }
    let name = text::clean(names::stored(&given));
    if name.chars().count() > LONGEST_NAME {
        return Err(Rejection::new(Reason::SchemaMismatch, "event", "a name of at most 100 characters"));
    }
    if names::not_yet_supported(&name) {
        return Err(Rejection::new(Reason::NotYetSupported, "event", "an event of a person; catalog events come with a later version"));
    }
    if names::names_the_person(&name) {
        for (property, class) in [("email", IdentifierClass::Email), ("phone", IdentifierClass::Phone)] {
            if let Some(value) = raw.get(property).filter(|v| !v.is_null()) {
                identifiers.push(Claimed::new(format!("properties.{property}"), class, value.clone()));
            }
        }
    }
    let country = phone::country_of(&traits, &context, &raw).or_else(|| phone::country(&rights.policy.phone_region));
    let mut people = people(identifiers, country, rights, env, &mut notes);
    if people.is_empty() {
        return Err(Rejection::new(Reason::NoIdentifier, "userId", "`userId`, `anonymousId` or another identifier that names one person"));
    }
    if people.len() > MAX_IDENTIFIERS && !sheds {
        return Err(Rejection::new(Reason::SchemaMismatch, "identifiers", "at most 10 identifiers"));
    }
    // What identity would not link falls here, where it is seen.
    for (path, _) in people.drain(people.len().min(1 + Limits::default().links)..) {
        notes.note(&path, Refused::TooMany.as_str());
    }
    let identifiers: Vec<_> = people.into_iter().map(|(_, identifier)| identifier).collect();

    let first_version = given != name;
    if first_version
        && name.starts_with("Product ")
        && !raw.contains_key("product_id")
        && let Some(id) = raw.remove("id")
    {
        raw.insert("product_id".to_owned(), id);
    }
    if name.starts_with("Coupon ")
        && !raw.contains_key("coupon_id")
        && let Some(coupon) = raw.remove("coupon")
    {
        raw.insert("coupon_id".to_owned(), coupon);
    }
    let zone = TimeZone::get(&rights.policy.timezone).unwrap_or(TimeZone::UTC);
    let typing = properties::Typing { currency: rights.policy.currency, zone };
    let mut properties = properties::event(&raw, &typing, &mut notes);
    let has_text = |properties: &properties::Properties, key: &str| match properties.get(key) {
        Some(Value::Text(text)) => !text.is_empty(),
        other => other.is_some(),
    };
    if matches!(name.as_str(), "Product Added" | "Product Removed") && !has_text(&properties, "cart_id") {
        properties.insert("cart_id".to_owned(), Value::text("default"));
    }
    for any in names::required(&name) {
        let present = |key: &&&str| match properties.get(**key) {
            Some(Value::List(items)) if name == "Order Completed" => !items.is_empty(),
            _ => has_text(&properties, key),
        };
        if !any.iter().any(|key| present(&key)) {
            let path = format!("properties.{}", any[0]);
            return Err(Rejection::new(Reason::PropertyMissing, path, format!("`{}`, which {name} requires", any.join("` or `"))));
        }
    }
    for (property, words) in names::allowed_words(&name) {
        if !properties.get(*property).and_then(Value::as_text).is_some_and(|w| words.contains(&w)) {
            return Err(Rejection::new(Reason::SchemaMismatch, format!("properties.{property}"), format!("one of {}", words.join(", "))));
        }
    }
    if matches!(name.as_str(), "Order Completed" | "Order Updated") {
        order_value::fill(&mut properties, &typing);
    }
    let mut traits = properties::traits(&traits, &typing, &mut notes);
    // Messages would go there.
    for (name, class) in [("email", IdentifierClass::Email), ("phone", IdentifierClass::Phone)] {
        if !rights.asserts(class, "") && traits.remove(name).is_some() {
            notes.note_once(&format!("traits.{name}"), Reason::SourceForbidden.as_str());
        }
    }
    let context = properties::context(&context, &mut notes);
    let time = stated.event_time(env.now);
    if time.claimed.is_some() {
        notes.note("timestamp", "TIME_BOUNDED");
    }
    let object = |map: properties::Properties| (!map.is_empty()).then(|| properties::to_object(map));
    let event = inbox::Event {
        message_id: message_id.clone(),
        name,
        identifiers,
        event_time: time.at.millis(),
        received_at: env.now.millis(),
        claimed_time: time.claimed.map_or(0, Timestamp::millis),
        properties: object(properties),
        context: object(context),
        traits: object(traits),
        source: rights.source.clone(),
        may_grant: rights.may_grant,
        historical: time.historical,
        quality: notes.0,
    };
    let record = record(&event, rights.workspace, env.now);
    if record.body.len() > MAX_RECORD {
        return Err(Rejection::new(Reason::EventTooLarge, "", format!("at most {MAX_RECORD} bytes as it is stored")));
    }
    Ok(Accepted { message_id, record, event, call: "event" })
}

/// The identifiers with their paths, in class order and custom ones by name, each once, those that name nobody taken off.
fn people(
    found: Vec<Claimed>,
    country: Option<phone::Country>,
    rights: &Rights,
    env: Env<'_>,
    notes: &mut Qualities,
) -> Vec<(String, inbox::Identifier)> {
    let mut seen = BTreeSet::new();
    let mut people = Vec::new();
    for Claimed { path, class, custom, value } in found {
        let Some(value) = scalar(&value) else {
            notes.note(&path, "TYPE_MISMATCH");
            continue;
        };
        if class == IdentifierClass::Custom && !rights.policy.custom_identifiers.contains(&custom) {
            notes.note(&path, Refused::Undeclared.as_str());
            continue;
        }
        if !rights.asserts(class, &custom) {
            notes.note(&path, Reason::SourceForbidden.as_str());
            continue;
        }
        match identifiers::normalise(class, &value, country) {
            Ok(value) => {
                if seen.insert((class, custom.clone(), value.clone())) {
                    let hash = IdentifierHash::of(env.install, rights.workspace, class, &custom, &value);
                    let hash = Bytes::copy_from_slice(hash.as_bytes());
                    people.push((path, inbox::Identifier { class: class.number(), custom, value, hash }));
                }
            }
            Err(refused) => notes.note(&path, refused.as_str()),
        }
    }
    // As they came within a class and a name.
    people.sort_by(|(_, a), (_, b)| (a.class, &a.custom).cmp(&(b.class, &b.custom)));
    people
}

/// The record of an event, keyed by its primary identifier.
pub fn record(event: &inbox::Event, workspace: WorkspaceId, said: Timestamp) -> Record {
    let nodes = event.identifiers.iter().map(|i| inbox::NodeRef {
        class: i.class,
        hash: i.hash.clone(),
        generation: Bytes::new(),
        custom: i.custom.clone(),
    });
    let key = event.identifiers.first().map(|i| i.hash.clone()).unwrap_or_default();
    let body = inbox::IdentityEvent { identifiers: nodes.collect(), event: event.encode_to_vec().into(), by_profile: false };
    Record::new(kind::EVENT, workspace, record_id(workspace, &event.message_id), key, said, body.encode_to_vec().into())
}

/// `BLAKE3(workspace ‖ message id)`, its first 16 bytes.
pub(crate) fn record_id(workspace: WorkspaceId, message_id: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&workspace.number().to_be_bytes());
    hasher.update(message_id.as_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    id
}

/// A message id for a call without one: two retries of it agree, whenever they are sent.
pub(crate) fn derived_message_id(workspace: WorkspaceId, kind: &str, body: &Map) -> String {
    let canonical = json::canonical(body, &["sentAt", "receivedAt", "writeKey", "integrations", "type"]);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&workspace.number().to_be_bytes());
    hasher.update(kind.as_bytes());
    hasher.update(&[0]);
    hasher.update(canonical.as_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    format!("wp-{}", hex::encode(id))
}

// === impl Claimed ===

impl Claimed {
    /// One of a class that needs no name.
    pub(crate) fn new(path: impl Into<String>, class: IdentifierClass, value: Json) -> Self {
        Self { path: path.into(), class, custom: String::new(), value }
    }

    /// One of class `custom:<name>`.
    pub(crate) fn custom(path: impl Into<String>, name: &str, value: Json) -> Self {
        Self { path: path.into(), class: IdentifierClass::Custom, custom: name.to_owned(), value }
    }
}
