//! Events as their producers wrote them, with their values or without.

use serde_json::Value;
use waypost_codec::{
    avro::{self, EventInput},
    schemas::SchemasError,
};
use waypost_proto::control as pb;
use waypost_runtime::ports::Delivery;
use waypost_types::{IdentifierClass, Timestamp, WorkspaceId};

use super::{part::Reading, row::Row};
use crate::{mask::masked, profiles::class_of, server::Normalise, status::Refusal};

/// One record of the topic.
#[derive(Debug)]
pub(super) struct Event {
    at: Timestamp,
    partition: u32,
    offset: u64,
    input: EventInput,
}

/// Which events, and how much of each.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) workspace: WorkspaceId,
    pub(super) event: String,
    pub(super) source: String,
    pub(super) identifier: Option<Identifier>,
    /// Whether values are shown.
    pub(super) values: bool,
}

/// An identifier that is looked for, in the form in which all that mean it are the same.
#[derive(Debug)]
pub(super) struct Identifier {
    class: IdentifierClass,
    custom: String,
    normal: String,
    normalise: Normalise,
}

// === impl Identifier ===

impl Identifier {
    pub(super) fn read(text: &str, normalise: Normalise) -> Result<Self, Refusal> {
        let (class, custom, value) = class_of(text)?;
        let normal = normalise(class, value)
            .ok_or_else(|| Refusal::Invalid("INVALID_IDENTIFIER", format!("this is no {} that a door would take", class.as_str())))?;
        Ok(Self { class, custom: custom.to_owned(), normal, normalise })
    }

    fn is(&self, word: &str, value: &str) -> bool {
        class(word).is_some_and(|(class, custom)| class == self.class && custom == self.custom)
            && (self.normalise)(self.class, value).is_some_and(|normal| normal == self.normal)
    }
}

/// Class and custom name of a producer's word for it; none if it is no such word.
fn class(word: &str) -> Option<(IdentifierClass, &str)> {
    if let Some(name) = word.strip_prefix("custom:") {
        return Some((IdentifierClass::Custom, name)).filter(|_| !name.is_empty());
    }
    let class = IdentifierClass::ALL.into_iter().filter(|class| *class != IdentifierClass::Custom).find(|class| class.as_str() == word);
    class.map(|class| (class, ""))
}

/// The JSON of a producer without its values. What is none is a value as a whole.
fn names_of(json: &str) -> String {
    match serde_json::from_str::<Value>(json) {
        Ok(value) => masked(&value, &[]).to_string(),
        Err(_) if json.is_empty() => String::new(),
        Err(_) => Value::String(format!("{} bytes that are no JSON", json.len())).to_string(),
    }
}

impl Row for Event {
    type Filter = Events;
    type Shown = pb::EventRow;
    const TOPIC: &'static str = EventInput::TOPIC;

    /// What is no event is passed over: the door has set it aside. A registry that is away is not: what it knows may be events.
    async fn read(delivery: &Delivery, reading: &mut Reading) -> Result<Option<Self>, Refusal> {
        let Ok((reference, body)) = avro::read(&delivery.headers, &delivery.payload) else { return Ok(None) };
        let schema = match reading.cache.schema(&*reading.schemas, reference).await {
            Ok(schema) => schema,
            Err(SchemasError::NotFound | SchemasError::Invalid(_) | SchemasError::Incompatible(_)) => return Ok(None),
            Err(SchemasError::Unavailable(why)) => {
                tracing::warn!(why, "events cannot be read without the schema registry");
                return Err(Refusal::Unavailable("the schema registry does not answer; try again".to_owned()));
            }
        };
        let input = EventInput::decode(&schema, &body).ok();
        Ok(input.map(|input| Self { at: delivery.appended, partition: delivery.partition, offset: delivery.offset, input }))
    }

    fn at(&self) -> Timestamp {
        self.at
    }

    fn fits(&self, wanted: &Events) -> bool {
        let claimed = |wanted: &Identifier| self.input.identifiers.iter().any(|(word, value)| wanted.is(word, value));
        self.input.workspace == i64::from(wanted.workspace.number())
            && (wanted.event.is_empty() || wanted.event == self.input.name)
            && (wanted.source.is_empty() || wanted.source == self.input.source)
            && wanted.identifier.as_ref().is_none_or(claimed)
    }

    fn shown(self, wanted: &Events) -> pb::EventRow {
        let values = wanted.values;
        let json = |text: String| if values { text } else { names_of(&text) };
        let identifier = |(word, value): (String, String)| {
            // A producer may have put anything there.
            let class = if values || class(&word).is_some() { word } else { "unknown".to_owned() };
            pb::EventIdentifier { class, value: if values { value } else { String::new() } }
        };
        let Self { at, partition, offset, input } = self;
        pb::EventRow {
            at: at.millis(),
            name: input.name,
            source: input.source,
            message_id: if values { input.message_id } else { String::new() },
            event_time: input.event_time.map(Timestamp::millis),
            historical: input.historical,
            identifiers: input.identifiers.into_iter().map(identifier).collect(),
            properties: json(input.properties),
            context: json(input.context),
            traits: json(input.traits),
            partition,
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let input = EventInput {
            message_id: "order of ana".to_owned(),
            name: "Order Completed".to_owned(),
            identifiers: vec![("email".to_owned(), " Ana@shop.example".to_owned()), ("ana@shop.example".to_owned(), "x".to_owned())],
            properties: r#"{"type":"gift for ana","total":12.5}"#.to_owned(),
            context: "ana, no JSON".to_owned(),
            source: "shop".to_owned(),
            workspace: 2,
            ..EventInput::default()
        };
        Event { at: Timestamp::from_millis(5), partition: 1, offset: 9, input }
    }

    fn wanted() -> Events {
        Events { workspace: WorkspaceId::new(2), event: String::new(), source: String::new(), identifier: None, values: false }
    }

    fn person(text: &str) -> Identifier {
        Identifier::read(text, |_, value| Some(value.trim().to_lowercase())).unwrap()
    }

    #[test]
    fn an_event_is_of_the_workspace_and_of_what_is_asked_for() {
        assert!(event().fits(&wanted()));
        assert!(!event().fits(&Events { workspace: WorkspaceId::new(1), ..wanted() }));
        assert!(event().fits(&Events { event: "Order Completed".into(), source: "shop".into(), ..wanted() }));
        assert!(!event().fits(&Events { event: "Order".into(), ..wanted() }));
        assert!(!event().fits(&Events { source: "web".into(), ..wanted() }));
        assert!(event().fits(&Events { identifier: Some(person("email:ana@SHOP.example")), ..wanted() }));
        assert!(!event().fits(&Events { identifier: Some(person("user_id:ana@shop.example")), ..wanted() }));
        assert!(!event().fits(&Events { identifier: Some(person("ben@shop.example")), ..wanted() }));
    }

    #[test]
    fn without_values_nothing_of_the_person_is_shown() {
        let shown = event().shown(&wanted());
        assert_eq!((shown.name.as_str(), shown.source.as_str(), shown.partition, shown.offset), ("Order Completed", "shop", 1, 9));
        assert_eq!(shown.properties, r#"{"type":"text of 12","total":"number"}"#);
        let classes: Vec<_> = shown.identifiers.iter().map(|i| i.class.as_str()).collect();
        assert_eq!(classes, ["email", "unknown"]);
        assert!(!format!("{shown:?}").to_lowercase().contains("ana"), "{shown:?}");
        let shown = event().shown(&Events { values: true, ..wanted() });
        assert_eq!((shown.message_id.as_str(), shown.identifiers[0].value.as_str()), ("order of ana", " Ana@shop.example"));
        assert!(shown.properties.contains("gift for ana") && shown.context == "ana, no JSON");
    }
}
