//! `waypost.events.v1`: an event as a shop writes it, resolved from its writer's schema to ours.

use std::sync::LazyLock;

use apache_avro::{Schema as Avro, reader::datum::GenericDatumReader, types::Value};
use bytes::Bytes;
use waypost_types::Timestamp;

use crate::{
    public::{long, text},
    schemas::{Schema, committed},
};

/// One event as it came in; nothing is checked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventInput {
    /// Dedupe key; empty is refused later.
    pub message_id: String,
    /// Event name.
    pub name: String,
    /// Class and value.
    pub identifiers: Vec<(String, String)>,
    /// When it happened, if the writer said so.
    pub event_time: Option<Timestamp>,
    /// JSON text.
    pub properties: String,
    /// JSON text.
    pub context: String,
    /// JSON text.
    pub traits: String,
    /// Name of a `Source`.
    pub source: String,
    /// Imported history.
    pub historical: bool,
    /// Workspace number.
    pub workspace: i64,
}

/// Why Avro bytes are not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an event by its schema: {0}")]
pub struct DecodeError(String);

/// Above this a value is not looked at: four times what the door lets in.
const MAX_BYTES: usize = 128 * 1024;

static READER: LazyLock<Avro> = LazyLock::new(|| {
    let newest = committed().iter().rfind(|c| c.subject == "waypost.events.v1-value");
    let text = newest.expect("the events' schema is committed").text;
    Schema::parse(0, text).expect("the committed schemas parse, as a test proves").avro
});

// === impl EventInput ===

impl EventInput {
    /// Topic without prefix.
    pub const TOPIC: &'static str = "waypost.events.v1";
    /// Version of the subject's schema that [`Self::encode`] writes.
    pub const VERSION: u32 = 1;

    /// Reads Avro binary that `writer` wrote.
    pub fn decode(writer: &Schema, body: &[u8]) -> Result<Self, DecodeError> {
        let failed = |e: apache_avro::Error| DecodeError(e.to_string());
        if body.len() > MAX_BYTES {
            return Err(DecodeError(format!("{} bytes are more than {MAX_BYTES}", body.len())));
        }
        if recursive(&writer.avro, &mut Vec::new()) {
            return Err(DecodeError("the writer's schema contains itself".to_owned()));
        }
        let reader = GenericDatumReader::builder(&writer.avro).reader_schema(&READER).build().map_err(failed)?;
        let mut rest = body;
        let value = reader.read_value(&mut rest).map_err(failed)?;
        if !rest.is_empty() {
            return Err(DecodeError(format!("{} bytes too many", rest.len())));
        }
        Self::from_value(value).ok_or_else(|| DecodeError("the resolved value has another shape".to_owned()))
    }

    /// Avro binary by the committed schema.
    pub fn encode(&self) -> Bytes {
        let mut into = Vec::with_capacity(256);
        text(&mut into, &self.message_id);
        text(&mut into, &self.name);
        if !self.identifiers.is_empty() {
            long(&mut into, i64::try_from(self.identifiers.len()).unwrap_or(i64::MAX));
            for (class, value) in &self.identifiers {
                text(&mut into, class);
                text(&mut into, value);
            }
        }
        long(&mut into, 0);
        match self.event_time {
            None => long(&mut into, 0),
            Some(time) => {
                long(&mut into, 1);
                long(&mut into, time.millis());
            }
        }
        for json in [&self.properties, &self.context, &self.traits, &self.source] {
            text(&mut into, json);
        }
        into.push(u8::from(self.historical));
        long(&mut into, self.workspace);
        into.into()
    }

    fn from_value(value: Value) -> Option<Self> {
        let Value::Record(fields) = value else { return None };
        let mut event = Self::default();
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("message_id", Value::String(v)) => event.message_id = v,
                ("name", Value::String(v)) => event.name = v,
                ("properties", Value::String(v)) => event.properties = v,
                ("context", Value::String(v)) => event.context = v,
                ("traits", Value::String(v)) => event.traits = v,
                ("source", Value::String(v)) => event.source = v,
                ("historical", Value::Boolean(v)) => event.historical = v,
                ("workspace", Value::Long(v)) => event.workspace = v,
                ("event_time", Value::Union(_, v)) => event.event_time = time(&v)?,
                ("identifiers", Value::Array(items)) => event.identifiers = items.into_iter().map(identifier).collect::<Option<_>>()?,
                _ => return None,
            }
        }
        Some(event)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "Avro's types, of which two can be here")]
#[expect(clippy::option_option, reason = "another type is not the same as no time")]
fn time(value: &Value) -> Option<Option<Timestamp>> {
    match value {
        Value::Null => Some(None),
        Value::TimestampMillis(ms) | Value::Long(ms) => Some(Some(Timestamp::from_millis(*ms))),
        _ => None,
    }
}

fn identifier(value: Value) -> Option<(String, String)> {
    let Value::Record(fields) = value else { return None };
    let mut both = fields.into_iter().filter_map(|(_, v)| if let Value::String(s) = v { Some(s) } else { None });
    Some((both.next()?, both.next()?))
}

/// Whether a schema contains itself: then a few bytes could nest without end.
#[expect(clippy::wildcard_enum_match_arm, reason = "Avro's types; all others hold none")]
fn recursive(schema: &Avro, open: &mut Vec<String>) -> bool {
    match schema {
        Avro::Ref { name } => open.contains(&name.fullname(None)),
        Avro::Array(array) => recursive(&array.items, open),
        Avro::Map(map) => recursive(&map.types, open),
        Avro::Union(union) => union.variants().iter().any(|v| recursive(v, open)),
        Avro::Record(record) => {
            open.push(record.name.fullname(None));
            let found = record.fields.iter().any(|f| recursive(&f.schema, open));
            open.pop();
            found
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Schema {
        Schema::parse(1, committed()[0].text).unwrap()
    }

    fn event() -> EventInput {
        EventInput {
            message_id: "m-1".to_owned(),
            name: "Order Completed".to_owned(),
            identifiers: vec![("email".to_owned(), "a@shop.example".to_owned()), ("anonymous".to_owned(), "c1".to_owned())],
            event_time: Some(Timestamp::from_millis(1_700_000_000_000)),
            properties: r#"{"order_id":"o-1"}"#.to_owned(),
            workspace: 1,
            ..EventInput::default()
        }
    }

    #[test]
    fn events_come_back() {
        for event in [event(), EventInput { event_time: None, identifiers: Vec::new(), historical: true, ..event() }] {
            assert_eq!(EventInput::decode(&ours(), &event.encode()), Ok(event));
        }
    }

    #[test]
    fn a_writer_with_fewer_and_other_fields_is_resolved() {
        let writer = Schema::parse(
            9,
            r#"{"type":"record","name":"Event","fields":[
                {"name":"extra","type":"string"},{"name":"message_id","type":"string"},{"name":"name","type":"string"},
                {"name":"event_time","type":"long"}]}"#,
        )
        .unwrap();
        let mut body = Vec::new();
        for field in ["unknown to us", "m-2", "Signed Up"] {
            text(&mut body, field);
        }
        long(&mut body, 1_700_000_000_000);
        let event = EventInput::decode(&writer, &body).unwrap();
        assert_eq!((event.message_id.as_str(), event.name.as_str(), event.workspace), ("m-2", "Signed Up", 1));
        assert_eq!(event.event_time, Some(Timestamp::from_millis(1_700_000_000_000)));
    }

    #[test]
    fn what_is_not_an_event_is_an_error() {
        let body = event().encode();
        assert!(EventInput::decode(&ours(), &body[..body.len() - 1]).is_err());
        assert!(EventInput::decode(&ours(), &[&body[..], b"x"].concat()).is_err());
        assert!(EventInput::decode(&ours(), b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        let number = Schema::parse(2, r#""long""#).unwrap();
        assert!(EventInput::decode(&number, b"\x02").is_err());
    }

    #[test]
    fn a_schema_that_contains_itself_is_refused() {
        let writer = Schema::parse(
            3,
            r#"{"type":"record","name":"Event","fields":[{"name":"next","type":["null",{"type":"array","items":"Event"}]}]}"#,
        )
        .unwrap();
        assert!(EventInput::decode(&writer, &[2, 2].repeat(10_000)).unwrap_err().0.contains("contains itself"));
    }
}
