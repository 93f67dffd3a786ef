//! An event read where it lies: nothing of it is copied.
//!
//! Most of an event is looked at by nobody, and every text of it that is decoded is an allocation. Only what is plainly as it is
//! written here is read so: fields in order, each once, none that is not known. Of anything else [`Event::read`] says nothing,
//! and the derived decoder judges it.

use crate::inbox::{self, value::Kind};

/// What is read of an [`inbox::Event`] before it is folded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event<'a> {
    /// Its name.
    pub name: &'a str,
    /// Class and value of each identifier, in class order.
    pub identifiers: Vec<(u32, &'a str)>,
    /// When it happened, ms.
    pub event_time: i64,
    /// Its properties.
    pub properties: Option<Object<'a>>,
    /// Its context.
    pub context: Option<Object<'a>>,
    /// Traits of an identify call.
    pub traits: Option<Object<'a>>,
    /// Who sent it.
    pub source: &'a str,
    /// Whether its source may grant consent.
    pub may_grant: bool,
}

/// An object: names with their values, in the order of the bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'a>(Vec<(&'a str, Option<Value<'a>>)>);

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Of no kind that is known.
    Nothing,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Millionths.
    Decimal(i64),
    /// A text.
    Text(&'a str),
    /// Minor units of the workspace's currency.
    Money(i64),
    /// Minor units of another.
    Amount {
        /// How many.
        minor: i64,
        /// Of which.
        currency: &'a str,
    },
    /// ms since the epoch.
    Time(i64),
    /// Days since the epoch.
    Date(i32),
    /// Values.
    List(Vec<Value<'a>>),
    /// Named values.
    Object(Object<'a>),
}

/// One field of a message.
pub(crate) enum Field<'a> {
    Number(u64),
    Block(&'a [u8]),
}

/// Objects in objects; what is deeper is left to the derived decoder, which has a limit of its own.
const MAX_DEPTH: u32 = 30;

// === impl Event ===

impl<'a> Event<'a> {
    /// Reads an encoded event; none where it is not as it is written here, or not well formed.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut event = Self::default();
        fields(bytes, &[3, 13], |tag, field| {
            match (tag, field) {
                (1, Field::Block(message_id)) => drop(text(message_id)?),
                (2, Field::Block(name)) => event.name = text(name)?,
                (3, Field::Block(identifier)) => event.identifiers.push(self::identifier(identifier)?),
                (4, Field::Number(time)) => event.event_time = time.cast_signed(),
                (5 | 6 | 12, Field::Number(_)) => {}
                (7, Field::Block(properties)) => event.properties = Some(Object::read(properties, 0)?),
                (8, Field::Block(context)) => event.context = Some(Object::read(context, 0)?),
                (9, Field::Block(traits)) => event.traits = Some(Object::read(traits, 0)?),
                (10, Field::Block(source)) => event.source = text(source)?,
                (11, Field::Number(may_grant)) => event.may_grant = may_grant != 0,
                (13, Field::Block(quality)) => fields(quality, &[], |tag, field| match (tag, field) {
                    (1 | 2, Field::Block(word)) => text(word).map(drop),
                    _ => None,
                })?,
                _ => return None,
            }
            Some(())
        })?;
        Some(event)
    }
}

impl<'a> From<&'a inbox::Event> for Event<'a> {
    fn from(event: &'a inbox::Event) -> Self {
        let object = |object: &'a Option<inbox::Object>| object.as_ref().map(Object::from);
        Self {
            name: &event.name,
            identifiers: event.identifiers.iter().map(|i| (i.class, i.value.as_str())).collect(),
            event_time: event.event_time,
            properties: object(&event.properties),
            context: object(&event.context),
            traits: object(&event.traits),
            source: &event.source,
            may_grant: event.may_grant,
        }
    }
}

/// Name and source of an encoded event whose fields are in order, without a look at what the others hold; none otherwise.
pub fn name_and_source(event: &[u8]) -> Option<(&str, &str)> {
    let (mut name, mut source) = ("", "");
    fields(event, &[3, 13], |tag, field| {
        match (tag, field) {
            (2, Field::Block(said)) => name = text(said)?,
            (10, Field::Block(said)) => source = text(said)?,
            (2 | 10, Field::Number(_)) => return None,
            _ => {}
        }
        Some(())
    })?;
    Some((name, source))
}

fn identifier(bytes: &[u8]) -> Option<(u32, &str)> {
    let (mut class, mut value) = (0, "");
    fields(bytes, &[], |tag, field| {
        match (tag, field) {
            (1, Field::Number(number)) => class = u32::try_from(number).ok()?,
            (2, Field::Block(custom)) => drop(text(custom)?),
            (3, Field::Block(said)) => value = text(said)?,
            (4, Field::Block(_)) => {}
            _ => return None,
        }
        Some(())
    })?;
    Some((class, value))
}

// === impl Object ===

impl<'a> Object<'a> {
    /// The value of this name, if it has one.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        let Self(entries) = self;
        entries.binary_search_by(|(entry, _)| (*entry).cmp(name)).ok().and_then(|at| entries[at].1.as_ref())
    }

    /// All names that have a value.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &Value<'a>)> {
        self.0.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?)))
    }

    fn read(bytes: &'a [u8], depth: u32) -> Option<Self> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut entries = Vec::with_capacity(8);
        fields(bytes, &[1], |tag, field| {
            let (1, Field::Block(property)) = (tag, field) else { return None };
            let mut entry = ("", None);
            fields(property, &[], |tag, field| {
                match (tag, field) {
                    (1, Field::Block(name)) => entry.0 = text(name)?,
                    (2, Field::Block(value)) => entry.1 = Some(Value::read(value, depth)?),
                    _ => return None,
                }
                Some(())
            })?;
            entries.push(entry);
            Some(())
        })?;
        Some(Self(entries))
    }
}

impl<'a> From<&'a inbox::Object> for Object<'a> {
    fn from(object: &'a inbox::Object) -> Self {
        Self(object.entries.iter().map(|p| (p.name.as_str(), p.value.as_ref().map(Value::from))).collect())
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    fn read(bytes: &'a [u8], depth: u32) -> Option<Self> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut value = Self::Nothing;
        fields(bytes, &[], |tag, field| {
            if !matches!(value, Self::Nothing) {
                return None;
            }
            value = match (tag, field) {
                (1, Field::Number(number)) => Self::Bool(number != 0),
                (2, Field::Number(number)) => Self::Int(signed(number)),
                (3, Field::Number(number)) => Self::Decimal(signed(number)),
                (4, Field::Block(said)) => Self::Text(text(said)?),
                (5, Field::Number(number)) => Self::Money(signed(number)),
                (6, Field::Block(amount)) => Self::amount(amount)?,
                (7, Field::Number(number)) => Self::Time(signed(number)),
                (8, Field::Number(number)) => Self::Date(i32::try_from(signed(number)).ok()?),
                (9, Field::Block(list)) => Self::list(list, depth + 1)?,
                (10, Field::Block(object)) => Self::Object(Object::read(object, depth + 1)?),
                _ => return None,
            };
            Some(())
        })?;
        Some(value)
    }

    fn amount(bytes: &'a [u8]) -> Option<Self> {
        let (mut minor, mut currency) = (0, "");
        fields(bytes, &[], |tag, field| {
            match (tag, field) {
                (1, Field::Number(number)) => minor = signed(number),
                (2, Field::Block(name)) => currency = text(name)?,
                _ => return None,
            }
            Some(())
        })?;
        Some(Self::Amount { minor, currency })
    }

    fn list(bytes: &'a [u8], depth: u32) -> Option<Self> {
        let mut items = Vec::new();
        fields(bytes, &[1], |tag, field| {
            let (1, Field::Block(item)) = (tag, field) else { return None };
            items.push(Self::read(item, depth)?);
            Some(())
        })?;
        Some(Self::List(items))
    }

    /// Whether it is what is stored there.
    pub fn is(&self, stored: &inbox::Value) -> bool {
        match (self, &stored.kind) {
            (Self::Text(text), Some(Kind::Text(stored))) => text == stored,
            _ => self.to_proto() == *stored,
        }
    }

    /// As it is stored.
    pub fn to_proto(&self) -> inbox::Value {
        let kind = match self {
            Self::Nothing => return inbox::Value::default(),
            Self::Bool(is_so) => Kind::Bool(*is_so),
            Self::Int(number) => Kind::Int(*number),
            Self::Decimal(millionths) => Kind::Decimal(*millionths),
            Self::Text(text) => Kind::Text((*text).to_owned()),
            Self::Money(minor) => Kind::Money(*minor),
            Self::Amount { minor, currency } => Kind::Amount(inbox::Amount { minor: *minor, currency: (*currency).to_owned() }),
            Self::Time(ms) => Kind::Time(*ms),
            Self::Date(days) => Kind::Date(*days),
            Self::List(items) => Kind::List(inbox::List { items: items.iter().map(Self::to_proto).collect() }),
            Self::Object(Object(entries)) => {
                let property = |(name, value): &(&str, Option<Self>)| inbox::Property {
                    name: (*name).to_owned(),
                    value: value.as_ref().map(Self::to_proto),
                };
                Kind::Object(inbox::Object { entries: entries.iter().map(property).collect() })
            }
        };
        inbox::Value { kind: Some(kind) }
    }
}

impl<'a> From<&'a inbox::Value> for Value<'a> {
    fn from(value: &'a inbox::Value) -> Self {
        match &value.kind {
            None => Self::Nothing,
            Some(Kind::Bool(is_so)) => Self::Bool(*is_so),
            Some(Kind::Int(number)) => Self::Int(*number),
            Some(Kind::Decimal(millionths)) => Self::Decimal(*millionths),
            Some(Kind::Text(text)) => Self::Text(text),
            Some(Kind::Money(minor)) => Self::Money(*minor),
            Some(Kind::Amount(amount)) => Self::Amount { minor: amount.minor, currency: &amount.currency },
            Some(Kind::Time(ms)) => Self::Time(*ms),
            Some(Kind::Date(days)) => Self::Date(*days),
            Some(Kind::List(list)) => Self::List(list.items.iter().map(Self::from).collect()),
            Some(Kind::Object(object)) => Self::Object(Object::from(object)),
        }
    }
}

// === fields ===

/// Hands out the fields of a message; none unless they are in order, each once or `repeated`, and all that there is.
pub(crate) fn fields<'a>(mut bytes: &'a [u8], repeated: &[u8], mut each: impl FnMut(u8, Field<'a>) -> Option<()>) -> Option<()> {
    let mut last = 0;
    while let Some((key, rest)) = bytes.split_first() {
        let (tag, wire_type) = (key >> 3, key & 7);
        // A tag of 16 and more has a key of two bytes.
        if *key >= 0x80 || tag < last || (tag == last && !repeated.contains(&tag)) {
            return None;
        }
        last = tag;
        let (number, rest) = varint(rest)?;
        let field;
        (field, bytes) = match wire_type {
            0 => (Field::Number(number), rest),
            2 => {
                let (block, rest) = rest.split_at_checked(usize::try_from(number).ok()?)?;
                (Field::Block(block), rest)
            }
            _ => return None,
        };
        each(tag, field)?;
    }
    Some(())
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        return Some((u64::from(*first), rest));
    }
    let mut number = 0;
    for (place, byte) in bytes.iter().enumerate() {
        // The tenth byte has room for one bit.
        if place == 9 && *byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            return Some((number, &bytes[place + 1..]));
        }
    }
    None
}

fn signed(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::inbox::{Amount, Identifier, List, Property, Quality};

    fn value(kind: Kind) -> inbox::Value {
        inbox::Value { kind: Some(kind) }
    }

    fn property(name: &str, kind: Kind) -> Property {
        Property { name: name.to_owned(), value: Some(value(kind)) }
    }

    /// Everything that an event can have.
    fn event() -> inbox::Event {
        let line = inbox::Object { entries: vec![property("price", Kind::Money(-1)), property("sku", Kind::Text("é".to_owned()))] };
        let entries = vec![
            property("amount", Kind::Amount(Amount { minor: i64::MIN, currency: "USD".to_owned() })),
            property("bool", Kind::Bool(true)),
            property("date", Kind::Date(i32::MIN)),
            property("decimal", Kind::Decimal(1_500_000)),
            property("int", Kind::Int(i64::MAX >> 2)),
            property("list", Kind::List(List { items: vec![value(Kind::Object(line)), inbox::Value::default()] })),
            Property { name: "nothing".to_owned(), value: None },
            Property { name: "of no kind".to_owned(), value: Some(inbox::Value::default()) },
            property("text", Kind::Text("x".repeat(300))),
            property("time", Kind::Time(1_700_000_000_000)),
        ];
        let object = Some(inbox::Object { entries });
        let identifier = |class, value: &str| Identifier {
            class,
            custom: "card".to_owned(),
            value: value.to_owned(),
            hash: bytes::Bytes::from_static(&[3; 16]),
        };
        inbox::Event {
            message_id: "m".to_owned(),
            name: "Order Completed".to_owned(),
            identifiers: vec![identifier(1, "u"), identifier(6, "")],
            event_time: 1_700_000_000_000,
            received_at: 5,
            claimed_time: 6,
            properties: object.clone(),
            context: Some(inbox::Object::default()),
            traits: object,
            source: "web".to_owned(),
            may_grant: true,
            historical: true,
            quality: vec![Quality { path: "a".to_owned(), reason: "b".to_owned() }; 2],
        }
    }

    #[test]
    fn an_event_says_what_the_derived_decoder_says() {
        for event in [event(), inbox::Event::default()] {
            let bytes = event.encode_to_vec();
            assert_eq!(Event::read(&bytes), Some(Event::from(&event)));
        }
    }

    #[test]
    fn values_are_stored_as_they_were() {
        let event = event();
        let properties = event.properties.as_ref().unwrap();
        let view = Object::from(properties);
        assert_eq!(view.entries().count(), 9);
        for Property { name, value } in &properties.entries {
            assert_eq!(view.get(name).map(Value::to_proto), *value, "{name}");
            assert!(value.as_ref().is_none_or(|value| view.get(name).unwrap().is(value)));
        }
        assert!(!view.get("text").unwrap().is(&value(Kind::Text("y".to_owned()))));
    }

    #[test]
    fn of_anything_else_it_says_nothing_or_the_same() {
        let whole = event().encode_to_vec();
        let mut read = 0;
        let mut check = |bytes: &[u8]| {
            let Some(view) = Event::read(bytes) else { return };
            read += 1;
            let decoded = inbox::Event::decode(bytes).expect("what is read can be decoded");
            assert_eq!(view, Event::from(&decoded));
            assert_eq!(name_and_source(bytes), Some((view.name, view.source)));
        };
        for at in 0..whole.len() {
            check(&whole[..at]);
            check(&[&whole[..at], &whole[at + 1..]].concat());
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                check(&bytes);
            }
        }
        // twice, the other way round, and deeper than anything is
        check(&[whole.as_slice(), &whole].concat());
        let (name, time) = whole.split_at(3);
        check(&[time, name].concat());
        let mut deep = value(Kind::Int(1));
        for _ in 0..60 {
            deep = value(Kind::List(List { items: vec![deep] }));
        }
        let entries = vec![Property { name: "deep".to_owned(), value: Some(deep) }];
        let bytes = inbox::Event { properties: Some(inbox::Object { entries }), ..inbox::Event::default() }.encode_to_vec();
        assert_eq!(Event::read(&bytes), None);
        assert!(read > 1_000, "{read}");
    }
}
