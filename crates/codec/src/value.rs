//! [`Value`] in protobuf.

use waypost_types::{Timestamp, Value};

use crate::inbox::{self, value::Kind};

/// To protobuf.
pub fn to_proto(value: &Value) -> inbox::Value {
    let kind = match value {
        Value::Bool(b) => Kind::Bool(*b),
        Value::Int(i) => Kind::Int(*i),
        Value::Decimal(d) => Kind::Decimal(*d),
        Value::Text(t) => Kind::Text(t.clone()),
        Value::Money(m) => Kind::Money(*m),
        Value::Amount { minor, currency } => Kind::Amount(inbox::Amount { minor: *minor, currency: currency.clone() }),
        Value::Time(t) => Kind::Time(t.millis()),
        Value::Date(d) => Kind::Date(*d),
        Value::List(items) => Kind::List(inbox::List { items: items.iter().map(to_proto).collect() }),
        Value::Object(entries) => Kind::Object(object_to_proto(entries)),
    };
    inbox::Value { kind: Some(kind) }
}

/// Entries of an object to protobuf.
pub fn object_to_proto(entries: &[(String, Value)]) -> inbox::Object {
    inbox::Object {
        entries: entries.iter().map(|(name, value)| inbox::Property { name: name.clone(), value: Some(to_proto(value)) }).collect(),
    }
}

/// From protobuf; none for a value of no kind, or an object with one.
pub fn from_proto(value: &inbox::Value) -> Option<Value> {
    Some(match value.kind.as_ref()? {
        Kind::Bool(b) => Value::Bool(*b),
        Kind::Int(i) => Value::Int(*i),
        Kind::Decimal(d) => Value::Decimal(*d),
        Kind::Text(t) => Value::Text(t.clone()),
        Kind::Money(m) => Value::Money(*m),
        Kind::Amount(a) => Value::Amount { minor: a.minor, currency: a.currency.clone() },
        Kind::Time(t) => Value::Time(Timestamp::from_millis(*t)),
        Kind::Date(d) => Value::Date(*d),
        Kind::List(list) => Value::List(list.items.iter().map(from_proto).collect::<Option<_>>()?),
        Kind::Object(object) => Value::Object(object_from_proto(object)?),
    })
}

/// Entries of an object from protobuf.
pub fn object_from_proto(object: &inbox::Object) -> Option<Vec<(String, Value)>> {
    object.entries.iter().map(|p| Some((p.name.clone(), from_proto(p.value.as_ref()?)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let value = Value::object([
            ("a".to_owned(), Value::List(vec![Value::Int(-1), Value::Bool(false), Value::Money(6000)])),
            ("b".to_owned(), Value::Amount { minor: 5, currency: "USD".to_owned() }),
            ("c".to_owned(), Value::Time(Timestamp::from_millis(7))),
        ]);
        assert_eq!(from_proto(&to_proto(&value)), Some(value));
    }
}
