//! Values of properties, traits and conditions.

use crate::Timestamp;

/// A value. No floats: a decimal is 64-bit millionths, because no float enters state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// Millionths.
    Decimal(i64),
    /// Text, NFC.
    Text(String),
    /// Minor units of the workspace's currency.
    Money(i64),
    /// Minor units and the currency they came in; for templates only.
    Amount {
        /// Minor units.
        minor: i64,
        /// ISO 4217 code.
        currency: String,
    },
    /// An instant.
    Time(Timestamp),
    /// A calendar day, days since 1970-01-01.
    Date(i32),
    /// A list.
    List(Vec<Value>),
    /// Entries sorted by name, names unique.
    Object(Vec<(String, Value)>),
}

// === impl Value ===

impl Value {
    /// An object from entries in any order; of equal names the last wins.
    pub fn object(entries: impl IntoIterator<Item = (String, Self)>) -> Self {
        Self::Object(entries.into_iter().collect::<std::collections::BTreeMap<_, _>>().into_iter().collect())
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The entry `name` of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(entries) = self else { return None };
        entries.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok().map(|i| &entries[i].1)
    }

    /// The value at a dotted path through objects.
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |value, name| value.get(name))
    }

    /// Its text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_through_objects() {
        let value = Value::object([("a".to_owned(), Value::object([("b".to_owned(), Value::Int(1))]))]);
        assert_eq!(value.at("a.b"), Some(&Value::Int(1)));
        assert_eq!(value.at("a.c"), None);
        assert_eq!(value.at("a.b.c"), None);
    }
}
