//! A document as a tree whose every node knows its place, from YAML or from a stored JSON body.
//!
//! Anchors, aliases, tags and directives are refused: a manifest is read by people and compared by content,
//! and an alias is the one way in which a small file becomes a large tree.

use granit_parser::{Event, Marker, Parser, ScalarStyle};
use serde_json::Value as Json;

use super::problem::At;

/// Deepest nesting of a document.
const DEPTH_MAX: usize = 32;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) value: Value,
}

/// What is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// A decimal as it was written; never a float.
    Decimal(String),
    Text(Text),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A text, with what is needed to map a place in it to a place in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Text {
    pub(super) text: String,
    layout: Layout,
}

/// How the text lies in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// On one line, its first character here.
    Line(At),
    /// A literal block: its lines are the file's lines from here on, each indented so.
    Block(At),
    /// Folded or stored: only the place of the whole is known.
    Folded,
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) at: At,
    pub(super) text: String,
}

/// Why a text is not a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unreadable {
    pub(super) at: At,
    pub(super) duplicate: bool,
    pub(super) message: String,
}

/// A collection that is still open.
enum Open {
    List(At, Vec<Node>),
    Map(At, Vec<(Key, Node)>, Option<Key>),
}

/// The documents of a file; empty ones are left out.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Unreadable> {
    let mut documents = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|e| Unreadable { at: at(*e.marker()), duplicate: false, message: e.info() })?;
        let here = at(span.start);
        let refuse = |what: &str| Err(Unreadable { at: here, duplicate: false, message: format!("{what} are not part of manifests") });
        let done = match event {
            Event::Scalar(_, _, anchor, tag) if anchor != 0 || tag.is_some() => return refuse("anchors and tags"),
            Event::SequenceStart(_, anchor, tag) | Event::MappingStart(_, anchor, tag) if anchor != 0 || tag.is_some() => {
                return refuse("anchors and tags");
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => return refuse("aliases"),
            Event::Scalar(value, style, _, _) => Some(scalar(&value, style, here, span.end, text)),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEPTH_MAX => {
                return Err(Unreadable { at: here, duplicate: false, message: format!("nested deeper than {DEPTH_MAX}") });
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(here, Vec::new()));
                None
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(here, Vec::new(), None));
                None
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(at, items)) => Some(Node { at, value: Value::List(items) }),
                Some(Open::Map(at, entries, _)) => Some(Node { at, value: Value::Map(entries) }),
                None => None,
            },
            // Nothing that a manifest says; and the parser may come to know more such events.
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd | Event::Anchor(..) | _ => None,
        };
        let Some(node) = done else { continue };
        match open.last_mut() {
            None if node.value == Value::Null => {}
            None => documents.push(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                None => *key = Some(as_key(node, entries)?),
                Some(key) => entries.push((key, node)),
            },
        }
    }
    Ok(documents)
}

/// The node as a key of a mapping that has `entries`.
fn as_key(node: Node, entries: &[(Key, Node)]) -> Result<Key, Unreadable> {
    let text = match node.value {
        Value::Text(t) => t.text,
        Value::Int(i) => i.to_string(),
        Value::Decimal(d) => d,
        Value::Bool(b) => b.to_string(),
        Value::Null | Value::List(_) | Value::Map(_) => {
            return Err(Unreadable { at: node.at, duplicate: false, message: "a key is a word".to_owned() });
        }
    };
    if entries.iter().any(|(k, _)| k.text == text) {
        return Err(Unreadable { at: node.at, duplicate: true, message: format!("`{text}` stands twice in one mapping") });
    }
    Ok(Key { at: node.at, text })
}

fn at(marker: Marker) -> At {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    At { line: number(marker.line()), column: number(marker.col()).saturating_add(1) }
}

/// A scalar by the core schema of YAML 1.2; decimals keep their text.
fn scalar(value: &str, style: ScalarStyle, start: At, end: Marker, source: &str) -> Node {
    let one_line = at(end).line == start.line;
    let text = |layout| Value::Text(Text { text: value.to_owned(), layout });
    let value = match style {
        ScalarStyle::Plain => match value {
            "" | "~" | "null" | "Null" | "NULL" => Value::Null,
            "true" | "True" | "TRUE" => Value::Bool(true),
            "false" | "False" | "FALSE" => Value::Bool(false),
            other => match other.parse::<i64>() {
                Ok(number) if !other.starts_with('+') => Value::Int(number),
                _ if is_decimal(other) => Value::Decimal(other.to_owned()),
                _ => text(if one_line { Layout::Line(start) } else { Layout::Folded }),
            },
        },
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted if one_line => {
            text(Layout::Line(At { column: start.column.saturating_add(1), ..start }))
        }
        ScalarStyle::Literal => {
            // The span of a block begins with its first line, behind the header.
            let skip = usize::try_from(start.line.saturating_sub(1)).unwrap_or(usize::MAX);
            let indent = source.lines().skip(skip).find(|l| !l.trim().is_empty()).map_or(0, |l| l.len() - l.trim_start().len());
            let column = u32::try_from(indent).unwrap_or(0).saturating_add(1);
            text(Layout::Block(At { line: start.line, column }))
        }
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted | ScalarStyle::Folded => text(Layout::Folded),
    };
    Node { at: start, value }
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.split_once('.').is_some_and(|(whole, fraction)| {
        let all = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        all(whole) && all(fraction)
    })
}

// === impl Node ===

impl Node {
    /// From a stored body.
    pub(super) fn from_json(json: &Json) -> Self {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => n.as_i64().map_or_else(|| Value::Decimal(n.to_string()), Value::Int),
            Json::String(s) => Value::Text(Text { text: s.clone(), layout: Layout::Folded }),
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                Value::Map(map.iter().map(|(k, v)| (Key { at: At::default(), text: k.clone() }, Self::from_json(v))).collect())
            }
        };
        Self { at: At::default(), value }
    }

    /// Canonical JSON: keys sorted, nothing absent is written.
    pub(super) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(i) => Json::from(*i),
            // A decimal stays the text it was: through a number it would depend on the reader.
            Value::Decimal(d) => Json::String(d.clone()),
            Value::Text(t) => Json::String(t.text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => {
                let mut sorted: Vec<_> = entries.iter().filter(|(_, n)| n.value != Value::Null).collect();
                sorted.sort_by(|a, b| a.0.text.cmp(&b.0.text));
                Json::Object(sorted.into_iter().map(|(k, n)| (k.text.clone(), n.to_json())).collect())
            }
        }
    }

    /// The node under these keys, to be changed.
    pub(super) fn find_mut(&mut self, path: &[&str]) -> Option<&mut Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        let Value::Map(entries) = &mut self.value else { return None };
        entries.iter_mut().find(|(k, _)| k.text == *first).and_then(|(_, n)| n.find_mut(rest))
    }

    /// Replaces a text, keeping its place.
    pub(super) fn set_text(&mut self, text: String) {
        self.value = Value::Text(Text { text, layout: Layout::Folded });
    }

    /// The place of a character of this text, counted from 1 within the text.
    pub(super) fn inner(&self, line: u32, column: u32) -> At {
        let Value::Text(Text { layout, .. }) = &self.value else { return self.at };
        match layout {
            Layout::Line(at) => At { line: at.line, column: at.column.saturating_add(column.saturating_sub(1)) },
            Layout::Block(at) => {
                At { line: at.line.saturating_add(line.saturating_sub(1)), column: at.column.saturating_add(column.saturating_sub(1)) }
            }
            Layout::Folded => self.at,
        }
    }

    /// Its type, for messages.
    pub(super) const fn type_name(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) => "a number",
            Value::Decimal(_) => "a decimal",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_knows_its_line_and_column() {
        let docs = documents("a: 1\nb:\n  - {c: 'x y', d: true}\n  - |\n    two\n    lines\n---\ne: 1.50\n").unwrap();
        assert_eq!(docs.len(), 2);
        let mut first = docs[0].clone();
        let list = first.find_mut(&["b"]).unwrap().clone();
        let Value::List(items) = &list.value else { panic!("{list:?}") };
        assert_eq!(items[0].at, At { line: 3, column: 5 });
        let mut map = items[0].clone();
        let c = map.find_mut(&["c"]).unwrap();
        assert_eq!((c.at, c.inner(1, 3)), (At { line: 3, column: 9 }, At { line: 3, column: 12 }));
        assert_eq!(items[1].inner(2, 1), At { line: 6, column: 5 });
        assert_eq!(docs[1].to_json().to_string(), r#"{"e":"1.50"}"#);
    }

    #[test]
    fn aliases_tags_and_double_keys_are_refused() {
        for (text, line, column) in [("a: &x 1", 1, 7), ("a: !!str 1", 1, 10), ("a: 1\na: 2", 2, 1), ("a: [1", 1, 4), ("{a: 1}: 2", 1, 1)] {
            let e = documents(text).unwrap_err();
            assert_eq!((e.at.line, e.at.column), (line, column), "{text}: {e:?}");
        }
    }

    #[test]
    fn canonical_json_does_not_depend_on_the_order_of_keys() {
        let json = |t: &str| documents(t).unwrap()[0].to_json().to_string();
        assert_eq!(json("b: 1\na: {d: [x], c: ~}"), json("{a: {d: [x]}, b: 1}"));
    }
}
