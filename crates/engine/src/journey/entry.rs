//! What a run keeps of its entry event: the paths its version reads, and no identifiers.

use std::collections::BTreeSet;

use prost::Message as _;
use waypost_codec::{
    inbox::{self, Event, Object, Property, value::Kind},
    state::Run,
};

use crate::definitions::Journey;

/// Elements kept of a list.
const MAX_LIST: usize = 50;

/// The entry event of a run.
///
/// Its bytes were written by [`keep`]; if they cannot be read, the run sees an entry without properties.
pub(crate) fn of(run: &Run) -> Event {
    Event::decode(run.entry.clone()).unwrap_or_default()
}

/// The entry event as a run of this version keeps it, with its event time.
pub(crate) fn keep(event: &Event, journey: &Journey) -> bytes::Bytes {
    let paths = &journey.entry_paths;
    let kept = Event {
        message_id: event.message_id.clone(),
        name: event.name.clone(),
        event_time: event.event_time,
        received_at: event.received_at,
        source: event.source.clone(),
        properties: event.properties.as_ref().map(|o| prune(o, paths, "")),
        context: event.context.as_ref().map(|o| prune(o, paths, "context.")),
        ..Event::default()
    };
    kept.encode_to_vec().into()
}

/// Only what lies on one of the paths; of lists the first 50 elements.
pub(crate) fn prune(object: &Object, paths: &BTreeSet<String>, prefix: &str) -> Object {
    let entries = object.entries.iter().filter_map(|property| {
        let path = format!("{prefix}{}", property.name);
        let below = format!("{path}.");
        let whole = paths.contains(&path) || prefix.strip_suffix('.').is_some_and(|p| paths.contains(p));
        let deeper = paths.range(below.clone()..).next().is_some_and(|p| p.starts_with(&below));
        if !whole && !deeper {
            return None;
        }
        let value = property.value.as_ref()?;
        let kind = match value.kind.as_ref()? {
            Kind::Object(inner) if !whole => Kind::Object(prune(inner, paths, &below)),
            Kind::List(list) => Kind::List(inbox::List { items: list.items.iter().take(MAX_LIST).cloned().collect() }),
            kind @ (Kind::Object(_)
            | Kind::Bool(_)
            | Kind::Int(_)
            | Kind::Decimal(_)
            | Kind::Text(_)
            | Kind::Money(_)
            | Kind::Amount(_)
            | Kind::Time(_)
            | Kind::Date(_)) => kind.clone(),
        };
        Some(Property { name: property.name.clone(), value: Some(inbox::Value { kind: Some(kind) }) })
    });
    Object { entries: entries.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_codec::value::{object_from_proto, object_to_proto};
    use waypost_types::Value;

    #[test]
    fn only_what_is_read_is_kept() {
        let text = |t: &str| Value::text(t);
        let Value::Object(entries) = Value::object([
            ("cart_id".to_owned(), text("k1")),
            ("note".to_owned(), text("x")),
            ("ship".to_owned(), Value::object([("city".to_owned(), text("Bonn")), ("street".to_owned(), text("y"))])),
            ("lines".to_owned(), Value::List(vec![Value::Int(1); 60])),
        ]) else {
            panic!("an object")
        };
        let paths = ["cart_id", "lines", "ship.city"].map(str::to_owned).into();
        let kept = Value::Object(object_from_proto(&prune(&object_to_proto(&entries), &paths, "")).unwrap());
        assert_eq!(kept.at("cart_id"), Some(&text("k1")));
        assert_eq!(kept.at("note"), None);
        assert_eq!(kept.at("ship"), Some(&Value::object([("city".to_owned(), text("Bonn"))])));
        assert!(matches!(kept.at("lines"), Some(Value::List(items)) if items.len() == 50));
    }
}
