//! Types of expressions, and which go together.

/// The type of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// A 64-bit integer.
    Int,
    /// Millionths; `double` in the language.
    Double,
    /// Text.
    Text,
    /// In the workspace's currency.
    Money,
    /// In the currency it came in; cannot be compared.
    Amount,
    /// An instant.
    Time,
    /// A calendar day.
    Date,
    /// A length of time; as a value milliseconds, [`waypost_types::Value::Int`].
    Duration,
    /// A list.
    List(Box<Type>),
    /// A line of a cart, an order or `products`.
    Line,
    /// A cart record.
    Cart,
    /// An order record.
    Order,
    /// Known at run time only; where it does not fit then, the result is unknown.
    Any,
}

// === impl Type ===

impl Type {
    /// A list of `item`.
    pub fn list(item: Self) -> Self {
        Self::List(Box::new(item))
    }

    /// Whether a value of this type may stand where `wanted` is; `Any` fits everywhere.
    pub fn fits(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::List(a), Self::List(b)) => a.fits(b),
            (a, b) => a == b,
        }
    }

    /// The type that covers both; none where they do not go together.
    pub(super) fn join(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => Some(Self::Any),
            (Self::List(a), Self::List(b)) => a.join(b).map(Self::list),
            (a, b) => (a == b).then(|| a.clone()),
        }
    }

    /// In words, with its article.
    pub fn describe(&self) -> String {
        match self {
            Self::Bool => "a bool".to_owned(),
            Self::Int => "an int".to_owned(),
            Self::Double => "a double".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::Money => "money".to_owned(),
            Self::Amount => "an amount".to_owned(),
            Self::Time => "a time".to_owned(),
            Self::Date => "a date".to_owned(),
            Self::Duration => "a duration".to_owned(),
            Self::List(item) if **item == Self::Any => "a list".to_owned(),
            Self::List(item) => format!("a list whose entries are {}", item.describe()),
            Self::Line => "a line".to_owned(),
            Self::Cart => "a cart".to_owned(),
            Self::Order => "an order".to_owned(),
            Self::Any => "any value".to_owned(),
        }
    }
}
