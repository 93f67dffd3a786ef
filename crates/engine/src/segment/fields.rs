//! Addresses and person fields: from identifiers, from the traits of an identify call, from the context.

use waypost_codec::{
    inbox::Address,
    view::{Event, Object, Value},
};
use waypost_types::IdentifierClass;

use super::{Draft, properties::Properties};
use crate::person::{self, EMAIL, SMS};

/// Extra traits kept, and bytes of each.
const MAX_EXTRA: usize = 64;
const MAX_EXTRA_BYTES: usize = 256;
const MAX_TEXT_BYTES: usize = 1_024;
const MAX_ADDRESS_BYTES: usize = 254;

/// Spellings of the person fields of PRODUCT §5.1.
const FIELDS: [(&str, &str); 19] = [
    ("birthday", "birthday"),
    ("city", "city"),
    ("company", "company"),
    ("country", "country"),
    ("createdAt", "created_at"),
    ("created_at", "created_at"),
    ("firstName", "first_name"),
    ("first_name", "first_name"),
    ("gender", "gender"),
    ("language", "language"),
    ("lastName", "last_name"),
    ("last_name", "last_name"),
    ("locale", "locale"),
    ("postalCode", "postcode"),
    ("postal_code", "postcode"),
    ("postcode", "postcode"),
    ("region", "region"),
    ("state", "region"),
    ("timezone", "timezone"),
];

/// Folds who the event is from and what it says of them. Returns what was left out.
pub(super) fn fold(person: &mut Draft, event: &Event<'_>, properties: Properties<'_>, context: Properties<'_>) -> Vec<&'static str> {
    let at = event.event_time;
    for (class, value) in &event.identifiers {
        match IdentifierClass::from_number(*class) {
            Some(IdentifierClass::Email) => address(person, EMAIL, value, at),
            Some(IdentifierClass::Phone) => address(person, SMS, value, at),
            Some(IdentifierClass::UserId | IdentifierClass::Device | IdentifierClass::Anonymous | IdentifierClass::Custom) | None => {}
        }
    }
    let mut left_out = Vec::new();
    if let Some(given) = &event.traits {
        traits(person, given, at, &mut left_out);
    }
    if event.name == "Signed Up" {
        for name in ["first_name", "last_name", "language", "country"] {
            if let Some(value) = properties.value(name) {
                set(person, name, value, at);
            }
        }
    }
    for name in ["timezone", "locale"] {
        if let Some(value) = context.value(name) {
            set(person, name, value, at);
        }
    }
    left_out
}

fn traits(person: &mut Draft, given: &Object<'_>, at: i64, left_out: &mut Vec<&'static str>) {
    for (name, value) in given.entries() {
        match (name, value) {
            ("email", Value::Text(text)) if text.contains('@') => address(person, EMAIL, &text.trim().to_lowercase(), at),
            ("phone", Value::Text(text)) if text.starts_with('+') => address(person, SMS, text.trim(), at),
            ("email" | "phone", _) => left_out.push("TYPE_MISMATCH"),
            ("address", Value::Object(object)) => {
                for (part, value) in object.entries() {
                    if let Some(path @ ("city" | "country" | "postcode" | "region")) = field_of(part) {
                        set(person, path, value, at);
                    }
                }
            }
            (name, _) => match field_of(name) {
                Some(path) => set(person, path, value, at),
                None => extra(person, name, value, at, left_out),
            },
        }
    }
}

fn field_of(name: &str) -> Option<&'static str> {
    FIELDS.binary_search_by(|(spelling, _)| (*spelling).cmp(name)).ok().map(|at| FIELDS[at].1)
}

/// A trait that nobody declared: scalar and small.
fn extra(person: &mut Draft, name: &str, value: &Value<'_>, at: i64, left_out: &mut Vec<&'static str>) {
    let path = format!("extra.{name}");
    let scalar = match value {
        Value::Text(text) => text.len() <= MAX_EXTRA_BYTES,
        Value::List(_) | Value::Object(_) | Value::Nothing => false,
        Value::Bool(_) | Value::Int(_) | Value::Decimal(_) | Value::Money(_) | Value::Amount { .. } | Value::Time(_) | Value::Date(_) => {
            true
        }
    };
    if !scalar || name.len() > MAX_EXTRA_BYTES {
        left_out.push("TYPE_MISMATCH");
    } else if person::field(person, &path).is_none() && person.fields.iter().filter(|f| f.path.starts_with("extra.")).count() >= MAX_EXTRA {
        left_out.push("PROFILE_TOO_LARGE");
    } else {
        set(person, &path, value, at);
    }
}

/// Sets a scalar; what is there already and the same keeps its time, so that a delta carries news only.
fn set(person: &mut Draft, path: &str, value: &Value<'_>, at: i64) {
    let fits = match value {
        Value::Text(text) => !text.is_empty() && text.len() <= MAX_TEXT_BYTES,
        Value::List(_) | Value::Object(_) | Value::Nothing => false,
        Value::Bool(_) | Value::Int(_) | Value::Decimal(_) | Value::Money(_) | Value::Amount { .. } | Value::Time(_) | Value::Date(_) => {
            true
        }
    };
    if fits && person::field(person, path).is_none_or(|known| !value.is(known)) {
        person.set_field(path, value.to_proto(), at);
    }
}

fn address(person: &mut Draft, channel: &str, value: &str, at: i64) {
    // No channel can use a longer one.
    if value.len() > MAX_ADDRESS_BYTES {
        return;
    }
    let known = person::find(&person.addresses, (channel, value));
    // Seen again it is set again only where another has come between, or every event would carry it.
    let primary = person::address(person, channel).is_some_and(|a| a.value == value);
    if known.is_some_and(|a| primary || a.set_at >= at) {
        return;
    }
    let verified = known.is_some_and(|a| a.verified);
    let entry = Address { channel: channel.to_owned(), value: value.to_owned(), verified, set_at: at };
    let addresses = person.addresses_mut();
    person::upsert(addresses, &entry);
    person::limit_addresses(addresses);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_sorted() {
        assert!(FIELDS.is_sorted());
    }
}
