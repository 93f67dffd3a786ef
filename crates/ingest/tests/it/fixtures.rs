//! Calls as SDKs send them, and what becomes of them: `tests/fixtures/segment/*.json`.

use serde_json::{Value as Json, json};
use waypost_codec::{inbox, value};
use waypost_ingest::{
    Env,
    segment_call::{self, CallKind, Shared},
};
use waypost_types::{IdentifierClass, Value};

use crate::support::{INSTALL, NOW, rights_of};

fn show(value: &Value) -> Json {
    match value {
        Value::Bool(b) => json!(b),
        Value::Int(i) => json!(i),
        Value::Decimal(d) => json!({"decimal": d}),
        Value::Text(t) => json!(t),
        Value::Money(m) => json!({"money": m}),
        Value::Amount { minor, currency } => json!({"amount": [minor, currency]}),
        Value::Time(t) => json!({"time": t.millis()}),
        Value::Date(d) => json!({"date": d}),
        Value::List(items) => Json::Array(items.iter().map(show).collect()),
        Value::Object(entries) => entries.iter().map(|(name, value)| (name.clone(), show(value))).collect(),
    }
}

fn object(object: Option<&inbox::Object>) -> Json {
    object.map_or_else(|| json!({}), |o| show(&Value::Object(value::object_from_proto(o).unwrap())))
}

fn field(event: &inbox::Event, name: &str) -> Json {
    match name {
        "name" => json!(event.name),
        "event_time" => json!(event.event_time),
        "claimed_time" => json!(event.claimed_time),
        "historical" => json!(event.historical),
        "properties" => object(event.properties.as_ref()),
        "traits" => object(event.traits.as_ref()),
        "context" => object(event.context.as_ref()),
        "identifiers" => {
            let class = |i: &inbox::Identifier| IdentifierClass::from_number(i.class).unwrap().as_str();
            let word = |i: &inbox::Identifier| if i.custom.is_empty() { class(i).to_owned() } else { format!("{}:{}", class(i), i.custom) };
            event.identifiers.iter().map(|i| json!([word(i), i.value])).collect()
        }
        "quality" => event.quality.iter().map(|q| json!([q.path, q.reason])).collect(),
        other => panic!("a fixture expects {other}"),
    }
}

#[test]
fn calls_become_what_their_fixtures_say() {
    let files = [include_str!("../fixtures/segment/ecommerce.json"), include_str!("../fixtures/segment/people.json")];
    let mut failures = Vec::new();
    for case in files.iter().flat_map(|f| serde_json::from_str::<Vec<Json>>(f).unwrap()) {
        let what = case["what"].as_str().unwrap();
        let kind = CallKind::ALL.into_iter().find(|k| k.as_str() == case["call"]);
        let env = Env { install: &INSTALL, now: NOW };
        let rights = rights_of(case["source"].as_str().unwrap_or("backend"));
        let answer = segment_call::read(Some(kind.unwrap()), &case["body"].to_string(), &Shared::default(), &rights, env);
        match (&case["event"], &case["rejected"], answer) {
            (Json::Object(expected), Json::Null, Ok(accepted)) => {
                for (name, expected) in expected {
                    let found = field(&accepted.event, name);
                    // Sorted, because objects of fixtures are written for people.
                    let (found, expected) = (sorted(&found), sorted(expected));
                    if found != expected {
                        failures.push(format!("{what}: {name}\n  found    {found}\n  expected {expected}"));
                    }
                }
            }
            (Json::Null, expected @ Json::Object(_), Err(rejection)) => {
                let found = json!({"reason": rejection.reason.as_str(), "path": rejection.path, "messageId": rejection.message_id});
                if &found != expected {
                    failures.push(format!("{what}\n  found    {found}\n  expected {expected}"));
                }
            }
            (_, _, answer) => failures.push(format!("{what}: {answer:?}")),
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn sorted(json: &Json) -> String {
    match json {
        Json::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(name, value)| format!("{name}: {}", sorted(value))).collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Json::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(", ")),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => json.to_string(),
    }
}

#[test]
fn a_derived_message_id_is_the_same_for_every_retry() {
    let env = Env { install: &INSTALL, now: NOW };
    let id =
        |text: &str| segment_call::read(Some(CallKind::Track), text, &Shared::default(), &rights_of("backend"), env).unwrap().message_id;
    let first = id(r#"{"userId": "u-7", "event": "Signed In", "timestamp": "2026-03-01T11:00:00Z", "sentAt": "2026-03-01T11:00:01Z"}"#);
    let retry = id(r#"{"sentAt":"2026-03-01T11:05:00Z","event":"Signed In","userId":"u-7","timestamp":"2026-03-01T11:00:00Z"}"#);
    let other = id(r#"{"userId": "u-7", "event": "Signed In", "timestamp": "2026-03-01T11:00:02Z"}"#);
    assert_eq!(first, retry);
    assert_ne!(first, other);
    assert!(first.len() <= 100);
}

#[test]
fn the_record_is_keyed_by_the_primary_identifier_and_named_by_the_message_id() {
    let env = Env { install: &INSTALL, now: NOW };
    let read = |text: &str| segment_call::read(Some(CallKind::Track), text, &Shared::default(), &rights_of("backend"), env).unwrap().record;
    let one =
        read(r#"{"messageId": "m-1", "anonymousId": "c-1", "event": "Signed In", "context": {"traits": {"email": "a@shop.example"}}}"#);
    let two = read(r#"{"messageId": "m-1", "event": "Signed Out", "context": {"traits": {"email": "A@shop.example"}}}"#);
    assert_eq!((one.id, &one.key), (two.id, &two.key));
    assert_eq!(one.kind, waypost_codec::kind::EVENT);
    assert_eq!(one.said, NOW);
    let third = read(r#"{"messageId": "m-2", "anonymousId": "c-1", "event": "Signed In"}"#);
    assert_ne!((one.id, &one.key), (third.id, &third.key));
}
