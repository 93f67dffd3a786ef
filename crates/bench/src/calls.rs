//! The traffic as HTTP calls: what a shop's site would have sent to bring the same events, as bytes of whole requests whose message
//! ids are written in place, so that whoever sends them has nothing to build.

use std::{fmt::Write as _, io::Write as _};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message as _;
use serde_json::{Map, Value as Json, json};
use waypost_codec::{frame::Record, inbox};
use waypost_types::{IdentifierClass, Timestamp};

/// Stands where a message id will; an id is as long.
const PLACE: &str = "m-@@@@@@@@@@@@@@@@";

/// A request to the door, whole.
#[derive(Clone, Debug)]
pub struct Call {
    bytes: Vec<u8>,
    /// Where its events' message ids stand.
    places: Vec<usize>,
}

/// The message id of a number.
pub fn message_id(number: u64) -> String {
    format!("m-{number:016x}")
}

// === impl Call ===

impl Call {
    /// One request with these `wp1.identity` records: a call of their kind if there is one, a batch of several.
    ///
    /// # Errors
    /// If one holds no event.
    pub fn new(host: &str, write_key: &str, records: &[Record]) -> anyhow::Result<Self> {
        let items = records.iter().map(item).collect::<anyhow::Result<Vec<_>>>()?;
        let (path, body) = match items.as_slice() {
            [one] => (one["type"].as_str().unwrap_or("track").to_owned(), one.to_string()),
            _ => ("batch".to_owned(), json!({"batch": items}).to_string()),
        };
        let key = STANDARD.encode(format!("{write_key}:"));
        let mut head = String::new();
        write!(head, "POST /v1/{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n")?;
        write!(head, "authorization: Basic {key}\r\ncontent-length: {}\r\n\r\n", body.len())?;
        let bytes = [head.as_bytes(), body.as_bytes()].concat();
        let places: Vec<usize> = bytes.windows(PLACE.len()).enumerate().filter(|(_, at)| *at == PLACE.as_bytes()).map(|(i, _)| i).collect();
        ensure!(places.len() == records.len(), "{} events with {} message ids", records.len(), places.len());
        Ok(Self { bytes, places })
    }

    /// How many events it has.
    pub fn events(&self) -> u64 {
        self.places.len() as u64
    }

    /// The request with message ids from `first` on.
    pub fn numbered(&mut self, first: u64) -> &[u8] {
        for (number, place) in (first..).zip(&self.places) {
            let mut at = &mut self.bytes[place + 2..place + PLACE.len()];
            // sixteen digits for a u64 of sixteen digits: it fits
            drop(write!(at, "{number:016x}"));
        }
        &self.bytes
    }
}

/// An event as Segment's clients write it.
fn item(record: &Record) -> anyhow::Result<Json> {
    let body = inbox::IdentityEvent::decode(record.body.clone()).context("a record of the traffic is no event")?.event;
    let event = inbox::Event::decode(body).context("an event of the traffic")?;
    let mut item = Map::new();
    let is_identify = event.name.is_empty();
    item.insert("type".to_owned(), if is_identify { "identify" } else { "track" }.into());
    item.insert("messageId".to_owned(), PLACE.into());
    for time in ["originalTimestamp", "timestamp"] {
        item.insert(time.to_owned(), Timestamp::from_millis(event.event_time).to_string().into());
    }
    let mut traits = object(event.traits.as_ref());
    for identifier in &event.identifiers {
        let value = identifier.value.clone().into();
        match IdentifierClass::from_number(identifier.class) {
            Some(IdentifierClass::UserId) => drop(item.insert("userId".to_owned(), value)),
            Some(IdentifierClass::Anonymous) => drop(item.insert("anonymousId".to_owned(), value)),
            Some(IdentifierClass::Email) => drop(traits.insert("email".to_owned(), value)),
            other => anyhow::bail!("the traffic has no identifiers of {other:?}"),
        }
    }
    if is_identify {
        item.insert("traits".to_owned(), traits.into());
    } else {
        item.insert("event".to_owned(), event.name.into());
        item.insert("properties".to_owned(), object(event.properties.as_ref()).into());
    }
    let context = object(event.context.as_ref());
    let page = json!({"path": context.get("page_path"), "url": "https://shop.example/", "referrer": "", "title": "A page of the shop"});
    let library = json!({"name": "analytics.js", "version": "2.1.0"});
    let context = json!({
        "locale": context.get("locale"), "page": page, "userAgent": context.get("user_agent"), "library": library,
        "timezone": "Europe/Berlin",
    });
    item.insert("context".to_owned(), context);
    Ok(item.into())
}

fn object(object: Option<&inbox::Object>) -> Map<String, Json> {
    let entries = object.into_iter().flat_map(|object| &object.entries);
    let value = |value: &inbox::Value| match &value.kind {
        Some(inbox::value::Kind::Text(text)) => text.clone().into(),
        Some(inbox::value::Kind::Int(number)) => (*number).into(),
        Some(inbox::value::Kind::Money(minor)) => format!("{}.{:02}", minor / 100, minor % 100).into(),
        _ => Json::Null,
    };
    entries.map(|entry| (entry.name.clone(), entry.value.as_ref().map_or(Json::Null, value))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waypost_ingest::{
        Env, Rights,
        segment_call::{CallKind, Shared, read},
    };
    use waypost_types::{Layout, WorkspaceId};

    use super::*;
    use crate::traffic::{Installation, Size, Traffic};

    #[test]
    fn the_door_takes_every_call_of_the_traffic() {
        let installation = Installation { hash_key: [7; 32], layout: Layout { number: 1, partitions: 8 }, workspace: WorkspaceId::new(1) };
        let mut traffic = Traffic::new(7, Size::S, installation);
        let now = Timestamp::from_millis(1_750_000_000_000);
        let mut bytes = 0;
        for number in 0..2_000 {
            let record = traffic.next(now);
            let mut call = Call::new("localhost", "key", &[record]).unwrap();
            let text = String::from_utf8(call.numbered(number).to_vec()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())));
            let kind = if head.starts_with("POST /v1/identify") { CallKind::Identify } else { CallKind::Track };
            let rights = Rights {
                workspace: WorkspaceId::new(1),
                source: "shop-backend".to_owned(),
                kind: "server".to_owned(),
                may_grant: true,
                may_assert: Vec::new(),
                policy: Arc::default(),
            };
            let env = Env { install: &[7; 32], now };
            let accepted = read(Some(kind), body, &Shared::default(), &rights, env).unwrap();
            assert!(String::from_utf8_lossy(&accepted.record.body).contains(&message_id(number)));
            bytes += body.len();
        }
        assert!((450..750).contains(&(bytes / 2_000)), "{}", bytes / 2_000);
    }

    #[test]
    fn a_batch_has_an_id_for_each_of_its_events() {
        let installation = Installation { hash_key: [7; 32], layout: Layout { number: 1, partitions: 8 }, workspace: WorkspaceId::new(1) };
        let mut traffic = Traffic::new(7, Size::S, installation);
        let records: Vec<Record> = (0..20).map(|i| traffic.next(Timestamp::from_millis(i))).collect();
        let mut call = Call::new("localhost", "key", &records).unwrap();
        assert_eq!(call.events(), 20);
        let text = String::from_utf8(call.numbered(40).to_vec()).unwrap();
        assert!((40..60).all(|number| text.contains(&message_id(number))) && text.starts_with("POST /v1/batch "));
    }
}
