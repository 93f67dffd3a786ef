//! The variables of a send: everything its template may name, computed when the send is decided and
//! frozen with it, so that a retry renders the same bytes.

use prost::Message as _;
use waypost_types::{Currency, Value};

use super::{MAX_LIST, MAX_VARIABLES};
use crate::{
    condition::{Facts, Root},
    definitions::Template,
};

/// Name under which the person's time zone is frozen; no template can name it.
pub(super) const ZONE: &str = "_zone";
/// Name under which the person's locale is frozen; no template can name it.
pub(super) const LOCALE: &str = "_locale";

/// Where required and optional paths lead.
pub type Fields<'a> = dyn Facts + 'a;

/// Why a send has no variables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariablesError {
    /// A required field, or a datum, is not there.
    #[error("{path} is missing")]
    Missing {
        /// Which.
        path: String,
    },
    /// Larger than may be frozen, or a list that is too long.
    #[error("{path} is too large")]
    Limit {
        /// Which.
        path: String,
    },
}

/// Computes what `template` names: required paths, optional ones or their fallback, data. `extra`
/// holds whole roots that the caller knows and the facts do not; what it has wins.
///
/// # Errors
/// [`VariablesError`]: the send stops at gate 4, or with `RENDER_LIMIT`.
pub fn variables(template: &Template, facts: &dyn Facts, extra: &[(String, Value)]) -> Result<Value, VariablesError> {
    let currency = facts.currency();
    let mut tree = Tree::default();
    for path in &template.requires {
        let value = look_up(path, facts, extra).ok_or_else(|| VariablesError::Missing { path: path.clone() })?;
        tree.set(path, carrying(value, currency));
    }
    for (path, fallback) in &template.optional {
        let value = look_up(path, facts, extra).map_or_else(|| Value::text(fallback), |value| carrying(value, currency));
        tree.set(path, value);
    }
    for (name, program) in &template.data {
        let path = format!("data.{name}");
        let value = program.evaluate(facts).value.ok_or_else(|| VariablesError::Missing { path: path.clone() })?;
        tree.set(&path, carrying(value, currency));
    }
    for (name, paths) in [(ZONE, ["timezone", "timezone"]), (LOCALE, ["locale", "language"])] {
        if let Some(Value::Text(text)) = paths.iter().find_map(|path| facts.path(Root::Profile, path)) {
            tree.set(name, Value::Text(text));
        }
    }
    let value = tree.into_value();
    if let Some(path) = long_list(&value, "") {
        return Err(VariablesError::Limit { path });
    }
    if waypost_codec::value::to_proto(&value).encoded_len() > MAX_VARIABLES {
        return Err(VariablesError::Limit { path: "variables".to_owned() });
    }
    Ok(value)
}

fn look_up(path: &str, facts: &dyn Facts, extra: &[(String, Value)]) -> Option<Value> {
    let (root, rest) = path.split_once('.')?;
    if let Some(value) = extra.iter().find(|(name, _)| name == root).and_then(|(_, value)| value.at(rest)) {
        return Some(value.clone());
    }
    let root = match root {
        "profile" => Root::Profile,
        "event" => Root::Event,
        "entry" => Root::Entry,
        "run" => Root::Run,
        "vars" => Root::Vars,
        "global" => Root::Global,
        _ => return None,
    };
    // An empty text is nothing to address somebody with.
    facts.path(root, rest).filter(|value| !matches!(value, Value::Text(text) if text.trim().is_empty()))
}

/// Money of the workspace with its currency: an amount carries it from here on.
fn carrying(value: Value, currency: Currency) -> Value {
    match value {
        Value::Money(minor) => Value::Amount { minor, currency: currency.as_str().to_owned() },
        Value::List(items) => Value::List(items.into_iter().map(|item| carrying(item, currency)).collect()),
        Value::Object(entries) => Value::Object(entries.into_iter().map(|(name, value)| (name, carrying(value, currency))).collect()),
        value @ (Value::Bool(_)
        | Value::Int(_)
        | Value::Decimal(_)
        | Value::Text(_)
        | Value::Amount { .. }
        | Value::Time(_)
        | Value::Date(_)) => value,
    }
}

/// The first list that is longer than a template may go through.
pub(super) fn long_list(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::List(items) if items.len() > MAX_LIST => Some(path.to_owned()),
        Value::List(items) => items.iter().find_map(|item| long_list(item, path)),
        Value::Object(entries) => entries.iter().find_map(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            long_list(value, &path)
        }),
        Value::Bool(_)
        | Value::Int(_)
        | Value::Decimal(_)
        | Value::Text(_)
        | Value::Money(_)
        | Value::Amount { .. }
        | Value::Time(_)
        | Value::Date(_) => None,
    }
}

/// Values by dotted path, on their way to one object.
#[derive(Default)]
struct Tree {
    leaf: Option<Value>,
    branches: std::collections::BTreeMap<String, Tree>,
}

// === impl Tree ===

impl Tree {
    fn set(&mut self, path: &str, value: Value) {
        let node = path.split('.').fold(self, |node, name| node.branches.entry(name.to_owned()).or_default());
        node.leaf = Some(value);
    }

    // Where both a path and one below it are named, the lower ones are laid over the object above.
    fn into_value(self) -> Value {
        let mut entries = match self.leaf {
            Some(Value::Object(entries)) => entries,
            Some(value) if self.branches.is_empty() => return value,
            Some(_) | None => Vec::new(),
        };
        entries.extend(self.branches.into_iter().map(|(name, tree)| (name, tree.into_value())));
        Value::object(entries)
    }
}

// === impl VariablesError ===

impl VariablesError {
    /// The reason code of the stop.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "FIELD_MISSING",
            Self::Limit { .. } => "RENDER_LIMIT",
        }
    }

    /// Which field.
    pub fn path(&self) -> &str {
        match self {
            Self::Missing { path } | Self::Limit { path } => path,
        }
    }
}
