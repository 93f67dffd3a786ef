//! Paths through a stored event, without decoding what is not asked for.

use waypost_codec::{
    inbox::{self, value::Kind},
    value::from_proto,
};
use waypost_types::{Timestamp, Value};

/// The value at a path of `event` or `entry`: a property's, or below `meta` or `context`.
pub(super) fn event(event: &inbox::Event, path: &str) -> Option<Value> {
    if path == "meta" {
        let names = ["id", "name", "received_at", "source", "time"];
        return Some(Value::object(names.into_iter().filter_map(|n| Some((n.to_owned(), meta(event, n)?)))));
    }
    if let Some(name) = path.strip_prefix("meta.") {
        return meta(event, name);
    }
    if path == "context" {
        return waypost_codec::value::object_from_proto(event.context.as_ref()?).map(Value::Object);
    }
    match path.strip_prefix("context.") {
        Some(rest) => at(event.context.as_ref()?, rest),
        None => at(event.properties.as_ref()?, path),
    }
}

fn meta(event: &inbox::Event, name: &str) -> Option<Value> {
    match name {
        "name" => Some(Value::text(&event.name)),
        "id" => Some(Value::text(&event.message_id)),
        "time" => Some(Value::Time(Timestamp::from_millis(event.event_time))),
        "received_at" => Some(Value::Time(Timestamp::from_millis(event.received_at))),
        "source" => Some(Value::text(&event.source)),
        _ => None,
    }
}

/// The value at a dotted path; only that value is decoded.
fn at(object: &inbox::Object, path: &str) -> Option<Value> {
    // A name may itself hold a dot: the whole rest is tried before its parts.
    if let Some(value) = entry(object, path) {
        return from_proto(value);
    }
    path.match_indices('.').find_map(|(dot, _)| match &entry(object, &path[..dot])?.kind {
        Some(Kind::Object(inner)) => at(inner, &path[dot + 1..]),
        _ => None,
    })
}

fn entry<'a>(object: &'a inbox::Object, name: &str) -> Option<&'a inbox::Value> {
    let index = object.entries.binary_search_by(|p| p.name.as_str().cmp(name)).ok()?;
    object.entries[index].value.as_ref()
}
