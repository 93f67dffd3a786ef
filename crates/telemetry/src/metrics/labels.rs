//! Label values and label sets.

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// Characters kept of a name.
const LONGEST: usize = 100;

/// A label set, and the names of its labels.
pub(crate) trait Labels: EncodeLabelSet + Clone + Ord + std::fmt::Debug + Send + Sync + 'static {
    /// In their order.
    const NAMES: &'static [&'static str];

    /// Their values, in the same order.
    fn values(&self) -> Vec<String>;
}

/// A label's value as text.
pub(crate) trait Word {
    /// As it is shown.
    fn word(&self) -> String;
}

/// The name of a definition, or a reason code, as a label's value. Whatever else it may hold, it holds no quotes, spaces,
/// or at-signs: anything that such names do not have becomes `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(String);

/// A partition's number, as a label's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Number(pub(crate) u32);

// === impl Name ===

impl Name {
    /// Of a text.
    pub(crate) fn of(text: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':') { c } else { '_' };
        Self(text.chars().take(LONGEST).map(plain).collect())
    }
}

impl Word for Name {
    fn word(&self) -> String {
        self.0.clone()
    }
}

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(&self.0)
    }
}

// === impl Number ===

impl EncodeLabelValue for Number {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        write!(encoder, "{}", self.0)
    }
}

impl Word for Number {
    fn word(&self) -> String {
        self.0.to_string()
    }
}

// === impl Word ===

impl Word for &'static str {
    fn word(&self) -> String {
        (*self).to_owned()
    }
}

/// Label sets by their fields; a field that is a keyword is written `r#type`.
macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),+ })+) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prometheus_client::encoding::EncodeLabelSet)]
        pub(crate) struct $name { $(pub(crate) $field: $kind),+ }

        impl $crate::metrics::labels::Labels for $name {
            const NAMES: &'static [&'static str] = &[$($crate::metrics::labels::bare(stringify!($field))),+];

            fn values(&self) -> Vec<String> {
                vec![$($crate::metrics::labels::Word::word(&self.$field)),+]
            }
        }
    )+ };
}

pub(crate) use labels;

/// A field's name without the mark of a keyword.
pub(crate) const fn bare(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => match field.split_at_checked(2) {
            Some((_, bare)) => bare,
            None => field,
        },
        _ => field,
    }
}
