//! Reading a document field by field: what is not asked for is refused, so nothing is silently ignored.

use std::{collections::BTreeSet, sync::Arc};

use waypost_types::Span;

use super::{
    node::{Key, Node, Value},
    problem::{At, Problem, codes, nearest},
};
use crate::condition::{self, Program, Scope, Type};

/// Collects what is wrong while a document is read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) file: &'a str,
    pub(super) problems: Vec<Problem>,
    /// What conditions and sources may name; none while only the shape of a document is read, because segments,
    /// currency and custom identifiers are known only beside the other definitions. Then no document comes of a condition.
    pub(super) scopes: Option<&'a Scopes>,
}

/// What the conditions of a workspace may name, and its sources.
#[derive(Clone, Debug)]
pub(super) struct Scopes {
    pub(super) journey: Scope,
    pub(super) segment: Scope,
    pub(super) template: Scope,
    /// Names of custom identifiers.
    pub(super) custom: BTreeSet<String>,
}

/// Where a condition stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Journey,
    Segment,
    Template,
}

/// A value that was found, with its path.
#[derive(Clone, Debug)]
pub(super) struct Item<'n> {
    pub(super) node: &'n Node,
    /// Where the key stands that names it, or the value in a list.
    pub(super) at: At,
    pub(super) path: String,
}

/// A mapping that is being read.
#[derive(Debug)]
pub(super) struct Fields<'n> {
    entries: &'n [(Key, Node)],
    pub(super) at: At,
    pub(super) path: String,
    asked: BTreeSet<&'static str>,
}

/// Names of resources and ids: `[a-z][a-z0-9-]{0,62}`.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

// === impl Reader ===

impl Reader<'_> {
    pub(super) fn problem(&mut self, code: &'static str, at: At, path: &str, message: impl Into<String>) {
        self.suggest(code, at, path, message, None);
    }

    pub(super) fn suggest(&mut self, code: &'static str, at: At, path: &str, message: impl Into<String>, suggestion: Option<String>) {
        let (file, path) = (self.file.to_owned(), path.to_owned());
        self.problems.push(Problem { code, file, line: at.line, column: at.column, path, message: message.into(), suggestion });
    }

    fn mismatch(&mut self, item: &Item<'_>, wanted: &str) {
        self.problem(codes::TYPE_MISMATCH, item.node.at, &item.path, format!("{wanted} is wanted, {} stands there", item.node.type_name()));
    }

    /// The fields of a mapping.
    pub(super) fn fields<'n>(&mut self, item: &Item<'n>) -> Option<Fields<'n>> {
        if let Value::Map(entries) = &item.node.value {
            return Some(Fields { entries, at: item.node.at, path: item.path.clone(), asked: BTreeSet::new() });
        }
        self.mismatch(item, "a mapping");
        None
    }

    /// The items of a list of at most `most`.
    pub(super) fn items<'n>(&mut self, item: &Item<'n>, most: usize) -> Vec<Item<'n>> {
        let Value::List(nodes) = &item.node.value else {
            self.mismatch(item, "a list");
            return Vec::new();
        };
        if nodes.len() > most {
            self.problem(codes::LIMIT_EXCEEDED, item.node.at, &item.path, format!("at most {most}, {} stand there", nodes.len()));
        }
        nodes.iter().take(most).enumerate().map(|(i, node)| Item { node, at: node.at, path: format!("{}[{i}]", item.path) }).collect()
    }

    /// A text of at most `most` characters.
    pub(super) fn text(&mut self, item: &Item<'_>, most: usize) -> Option<String> {
        let Value::Text(t) = &item.node.value else {
            self.mismatch(item, "a text");
            return None;
        };
        if t.text.chars().count() > most {
            self.problem(codes::LIMIT_EXCEEDED, item.node.at, &item.path, format!("at most {most} characters"));
            return None;
        }
        Some(t.text.clone())
    }

    /// An id or a resource name.
    pub(super) fn name(&mut self, item: &Item<'_>) -> Option<String> {
        let text = self.text(item, 255)?;
        if is_name(&text) {
            return Some(text);
        }
        self.problem(codes::VALUE_INVALID, item.node.at, &item.path, "a name is [a-z][a-z0-9-]{0,62}");
        None
    }

    /// One of these words; words of `later` are known and not built.
    pub(super) fn word(&mut self, item: &Item<'_>, now: &[&'static str], later: &[&'static str]) -> Option<&'static str> {
        let text = self.text(item, 255)?;
        if let Some(word) = now.iter().find(|w| **w == text) {
            return Some(word);
        }
        if later.contains(&text.as_str()) {
            self.problem(
                codes::NOT_YET_SUPPORTED,
                item.node.at,
                &item.path,
                format!("`{text}` is not yet supported; {} are", now.join(" ")),
            );
        } else {
            let near = nearest(&text, now.iter().chain(later).copied());
            self.suggest(codes::UNKNOWN_REFERENCE, item.node.at, &item.path, format!("`{text}` is none of {}", now.join(" ")), near);
        }
        None
    }

    pub(super) fn bool(&mut self, item: &Item<'_>) -> Option<bool> {
        if let Value::Bool(b) = item.node.value {
            return Some(b);
        }
        self.mismatch(item, "true or false");
        None
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, item: &Item<'_>, least: i64, most: i64) -> Option<u32> {
        let Value::Int(number) = item.node.value else {
            self.mismatch(item, "a whole number");
            return None;
        };
        if (least..=most).contains(&number) {
            return u32::try_from(number).ok();
        }
        self.problem(codes::LIMIT_EXCEEDED, item.node.at, &item.path, format!("from {least} to {most}"));
        None
    }

    /// A duration within bounds.
    pub(super) fn span(&mut self, item: &Item<'_>, least: Span, most: Span) -> Option<Span> {
        let text = self.text(item, 32)?;
        match text.parse::<Span>() {
            Ok(span) if (least..=most).contains(&span) => Some(span),
            Ok(_) => {
                self.problem(codes::LIMIT_EXCEEDED, item.node.at, &item.path, format!("from {least} to {most}"));
                None
            }
            Err(e) => {
                self.problem(codes::VALUE_INVALID, item.node.at, &item.path, e.to_string());
                None
            }
        }
    }

    /// A condition; places within it become places in the file.
    pub(super) fn condition(&mut self, item: &Item<'_>, place: Place, wanted: &Type) -> Option<Arc<Program>> {
        // `where: true` and a number are conditions too; YAML has already made values of them.
        let source = match &item.node.value {
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Text(t) => t.text.clone(),
            Value::Null | Value::Decimal(_) | Value::List(_) | Value::Map(_) => {
                self.mismatch(item, "a condition");
                return None;
            }
        };
        let scopes = self.scopes?;
        let scope = match place {
            Place::Journey => &scopes.journey,
            Place::Segment => &scopes.segment,
            Place::Template => &scopes.template,
        };
        match condition::compile_as(&source, scope, wanted) {
            Ok(program) => Some(Arc::new(program)),
            Err(e) => {
                let at = item.node.inner(e.line, e.column);
                self.suggest(e.code, at, &item.path, e.message, e.suggestion);
                None
            }
        }
    }

    /// An absent field that must be there.
    pub(super) fn missing(&mut self, code: &'static str, fields: &Fields<'_>, name: &str) {
        self.problem(code, fields.at, &fields.path_of(name), format!("`{name}` is required"));
    }

    /// Refuses the second of two equal ids.
    pub(super) fn unique(&mut self, seen: &mut BTreeSet<String>, id: &str, item: &Item<'_>) {
        if !seen.insert(id.to_owned()) {
            self.problem(codes::DUPLICATE_ID, item.node.at, &item.path, format!("`{id}` is given twice"));
        }
    }
}

// === impl Fields ===

impl<'n> Fields<'n> {
    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The field of that name; one without a value is absent.
    pub(super) fn get(&mut self, name: &'static str) -> Option<Item<'n>> {
        self.asked.insert(name);
        let (key, node) = self.entries.iter().find(|(k, n)| k.text == name && n.value != Value::Null)?;
        Some(Item { node, at: key.at, path: self.path_of(name) })
    }

    /// Whether one of these fields is given, without asking for it.
    pub(super) fn has_any(&self, names: &[&str]) -> bool {
        self.entries.iter().any(|(k, _)| names.contains(&k.text.as_str()))
    }

    /// Every entry, where the keys are the author's own.
    pub(super) fn entries(&self) -> Vec<(&'n str, Item<'n>)> {
        let item = |(k, node): &'n (Key, Node)| (k.text.as_str(), Item { node, at: k.at, path: self.path_of(&k.text) });
        self.entries.iter().map(item).collect()
    }

    /// The field, or a problem with `code`.
    pub(super) fn require(&mut self, r: &mut Reader<'_>, name: &'static str, code: &'static str) -> Option<Item<'n>> {
        let found = self.get(name);
        if found.is_none() {
            r.missing(code, self, name);
        }
        found
    }

    /// The field; a problem with `code` unless one of `instead` is given, which is refused for itself.
    pub(super) fn require_unless(
        &mut self,
        r: &mut Reader<'_>,
        name: &'static str,
        code: &'static str,
        instead: &[&str],
    ) -> Option<Item<'n>> {
        let found = self.get(name);
        if found.is_none() && !self.has_any(instead) {
            r.missing(code, self, name);
        }
        found
    }

    pub(super) fn text(&mut self, r: &mut Reader<'_>, name: &'static str, most: usize) -> Option<String> {
        self.get(name).and_then(|item| r.text(&item, most))
    }

    pub(super) fn bool(&mut self, r: &mut Reader<'_>, name: &'static str, default: bool) -> bool {
        self.get(name).and_then(|item| r.bool(&item)).unwrap_or(default)
    }

    pub(super) fn span(&mut self, r: &mut Reader<'_>, name: &'static str, least: Span, most: Span, default: Span) -> Span {
        self.get(name).and_then(|item| r.span(&item, least, most)).unwrap_or(default)
    }

    pub(super) fn condition(&mut self, r: &mut Reader<'_>, name: &'static str, place: Place, wanted: &Type) -> Option<Arc<Program>> {
        self.get(name).and_then(|item| r.condition(&item, place, wanted))
    }

    pub(super) fn items(&mut self, r: &mut Reader<'_>, name: &'static str, most: usize) -> Vec<Item<'n>> {
        self.get(name).map(|item| r.items(&item, most)).unwrap_or_default()
    }

    /// Refuses what nobody asked for: `later` names fields that the product describes and this version lacks.
    pub(super) fn finish(self, r: &mut Reader<'_>, later: &[&'static str]) {
        for (key, _) in self.entries {
            let name = key.text.as_str();
            if self.asked.contains(name) {
                continue;
            }
            let path = self.path_of(name);
            if later.contains(&name) {
                r.problem(codes::NOT_YET_SUPPORTED, key.at, &path, format!("`{name}` is not yet supported"));
            } else {
                let near = nearest(name, self.asked.iter().chain(later).copied());
                r.suggest(codes::UNKNOWN_FIELD, key.at, &path, format!("there is no field `{name}` here"), near);
            }
        }
    }
}
