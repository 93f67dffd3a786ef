//! Manifests: what authors write (PRODUCT §7, 8), read strictly.
//!
//! [`parse_files`] checks the shape of documents and inlines the files they name. What needs the rest of the
//! workspace (conditions, references, the content of templates) is checked when a set is planned
//! ([`crate::apply`]), again with the place in the file. What is stored and hashed is the canonical JSON of a
//! document, and reading that gives the same definition as reading the file.

mod graph;
mod journey;
pub(crate) mod link;
mod node;
mod problem;
mod reader;
mod settings;
mod step;
mod template;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waypost_types::{ContentHash, Span};

pub(crate) use self::reader::is_name;
use self::{
    node::{Node, Unreadable, Value},
    reader::{Item, Reader, Scopes},
};
pub use self::{
    problem::{At, Problem, codes, nearest},
    text::{diff, to_yaml},
};
use crate::definitions::{Channel, Journey, Policy, Segment, Source, Template, Topic};

/// The one version of the envelope.
const API_VERSION: &str = "waypost.dev/v1";
/// Longest file of manifests, bytes.
const FILE_MAX: usize = 1024 * 1024;
/// Kinds that the product describes and this version lacks.
const KINDS_LATER: [&str; 8] = ["Trait", "Fragment", "Offer", "Variables", "ProductList", "EventSchema", "FrequencyCap", "JourneyTest"];

/// What a definition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Workspace-wide settings; one a workspace.
    Policy,
    /// A subject one consents to.
    Topic,
    /// A way out.
    Channel,
    /// A write key's owner.
    Source,
    /// A condition.
    Segment,
    /// The content of a message.
    Template,
    /// A graph of steps.
    Journey,
}

/// Gives the text of a file that a manifest names.
pub type Attachments<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// One document, readable as a definition.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What it defines.
    pub kind: Kind,
    /// `metadata.name`.
    pub name: String,
    /// The file it stands in, or a label where it is a stored body.
    pub file: String,
    /// Canonical JSON, with the files it names inlined: what is stored.
    pub body: Bytes,
    /// Of `body`.
    pub hash: ContentHash,
    node: Node,
    /// The file that gave the body's source.
    attachment: Option<String>,
}

/// A document that was understood.
#[derive(Debug)]
enum Document {
    Journey(Box<Journey>),
    Segment(Segment),
    Template(Box<Template>),
    Topic(Topic),
    Channel(Channel),
    Policy(Policy),
    Source(Source),
}

/// Reads files of YAML documents.
///
/// `attachments` gives the text of a file that a template names; its argument is the path beside the manifest's
/// own, as `journeys/cart-recovery/remind.mjml` for `remind.mjml` named in `journeys/cart-recovery/journey.yaml`.
/// Every problem of every file is reported at once.
pub fn parse_files(files: &[(String, String)], attachments: &Attachments<'_>) -> Result<Vec<Manifest>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut manifests: Vec<Manifest> = Vec::new();
    for (file, text) in files {
        let mut r = Reader { file, problems: Vec::new(), scopes: None };
        if text.len() > FILE_MAX {
            r.problem(codes::LIMIT_EXCEEDED, At { line: 1, column: 1 }, "", format!("a file has at most {FILE_MAX} bytes"));
            problems.extend(r.problems);
            continue;
        }
        match node::documents(text) {
            Ok(documents) => {
                for document in documents {
                    let manifest = envelope(&mut r, document, Some(attachments));
                    manifests.extend(manifest);
                }
            }
            Err(Unreadable { at, duplicate, message }) => {
                let code = if duplicate { codes::DUPLICATE_ID } else { codes::BAD_YAML };
                r.problem(code, at, "", message);
            }
        }
        problems.extend(r.problems);
    }
    for (index, manifest) in manifests.iter().enumerate() {
        problems.extend(manifest.read(None).1);
        let same = |m: &&Manifest| m.kind == manifest.kind && (m.name == manifest.name || m.kind == Kind::Policy);
        if let Some(first) = manifests[..index].iter().find(same) {
            let message = if manifest.kind == Kind::Policy {
                format!("a workspace has one Policy; another stands in {}", first.file)
            } else {
                format!("{} `{}` stands in {} already", manifest.kind, manifest.name, first.file)
            };
            problems.push(manifest.problem(codes::DUPLICATE_ID, "metadata.name", message));
        }
    }
    if problems.is_empty() { Ok(manifests) } else { Err(problems) }
}

/// `apiVersion`, `kind`, `metadata`, `spec`.
fn envelope(r: &mut Reader<'_>, mut document: Node, attachments: Option<&Attachments<'_>>) -> Option<Manifest> {
    let (kind, name) = {
        let root = Item { node: &document, at: document.at, path: String::new() };
        let mut f = r.fields(&root)?;
        if let Some(item) = f.require(r, "apiVersion", codes::FIELD_MISSING) {
            r.word(&item, &[API_VERSION], &[]);
        }
        let kind = f.require(r, "kind", codes::FIELD_MISSING).and_then(|i| kind(r, &i));
        let mut name = None;
        if let Some(mut metadata) = f.require(r, "metadata", codes::FIELD_MISSING).and_then(|i| r.fields(&i)) {
            name = metadata.require(r, "name", codes::FIELD_MISSING).and_then(|i| r.name(&i));
            for map in ["labels", "annotations"] {
                let entries = metadata.get(map).and_then(|i| r.fields(&i)).map(|f| f.entries()).unwrap_or_default();
                for (_, item) in entries {
                    r.text(&item, 1_024);
                }
            }
            metadata.finish(r, &[]);
        }
        f.require(r, "spec", codes::FIELD_MISSING)?;
        f.finish(r, &[]);
        (kind?, name?)
    };
    let attachment = match (kind, attachments) {
        (Kind::Template, Some(attachments)) => inline(r, &mut document, attachments),
        _ => None,
    };
    let body = Bytes::from(document.to_json().to_string());
    let hash = ContentHash::of(&body);
    Some(Manifest { kind, name, file: r.file.to_owned(), body, hash, node: document, attachment })
}

fn kind(r: &mut Reader<'_>, item: &Item<'_>) -> Option<Kind> {
    let names: Vec<&'static str> = Kind::ALL.iter().map(|k| k.as_str()).collect();
    let word = r.word(item, &names, &KINDS_LATER)?;
    word.parse().ok()
}

/// Puts the text of a named file in the place of its name.
fn inline(r: &mut Reader<'_>, document: &mut Node, attachments: &Attachments<'_>) -> Option<String> {
    let mut attached = None;
    for form in ["mjml", "html"] {
        let Some(node) = document.find_mut(&["spec", "channels", "email", form]) else { continue };
        let Value::Text(named) = &node.value else { continue };
        let named = named.text.clone();
        if named.contains('\n') || named.trim_start().starts_with('<') {
            continue;
        }
        let path = format!("spec.channels.email.{form}");
        let outside = named.starts_with('/') || named.split(['/', '\\']).any(|part| part == "..") || named.contains(':');
        if outside {
            r.problem(codes::VALUE_INVALID, node.at, &path, "a file lies beside or below its manifest");
            continue;
        }
        let beside = match r.file.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{named}"),
            None => named.clone(),
        };
        match attachments(&beside) {
            Some(text) => {
                node.set_text(text);
                attached = Some(beside);
            }
            None => r.problem(codes::UNKNOWN_REFERENCE, node.at, &path, format!("there is no file `{beside}`")),
        }
    }
    attached
}

// === impl Manifest ===

impl Manifest {
    /// From a stored body; `label` stands for the file in problems.
    pub fn from_body(body: &Bytes, label: &str) -> Result<Self, Vec<Problem>> {
        let mut r = Reader { file: label, problems: Vec::new(), scopes: None };
        let found = match serde_json::from_slice::<serde_json::Value>(body) {
            Ok(json) => envelope(&mut r, Node::from_json(&json), None),
            Err(e) => {
                r.problem(codes::BAD_YAML, At::default(), "", e.to_string());
                None
            }
        };
        match found {
            // The hash is that of the stored bytes, whatever a later canonical form would give.
            Some(manifest) if r.problems.is_empty() => Ok(Self { body: body.clone(), hash: ContentHash::of(body), ..manifest }),
            _ => Err(r.problems),
        }
    }

    /// Its labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut node = self.node.clone();
        let Some(Node { value: Value::Map(entries), .. }) = node.find_mut(&["metadata", "labels"]) else { return BTreeMap::new() };
        let text = |n: &Node| if let Value::Text(t) = &n.value { t.text.clone() } else { String::new() };
        entries.iter().map(|(k, n)| (k.text.clone(), text(n))).collect()
    }

    /// Templates as a journey names them.
    pub(crate) fn template_names(&self) -> BTreeSet<String> {
        let mut node = self.node.clone();
        let Some(Node { value: Value::List(steps), .. }) = node.find_mut(&["spec", "steps"]) else { return BTreeSet::new() };
        let name = |step: &mut Node| match step.find_mut(&["send", "template"]) {
            Some(Node { value: Value::Text(t), .. }) => Some(t.text.clone()),
            _ => None,
        };
        steps.iter_mut().filter_map(name).collect()
    }

    /// The duration at a path of mappings, or its default.
    pub(crate) fn span(&self, path: &str, default: Span) -> Span {
        let mut node = self.node.clone();
        let path: Vec<&str> = path.split('.').collect();
        match node.find_mut(&path) {
            Some(Node { value: Value::Text(t), .. }) => t.text.parse().unwrap_or(default),
            _ => default,
        }
    }

    /// What it defines; without `scopes` only its shape is read, and no definition comes of it.
    fn read(&self, scopes: Option<&Scopes>) -> (Option<Document>, Vec<Problem>) {
        let mut r = Reader { file: &self.file, problems: Vec::new(), scopes };
        let Value::Map(entries) = &self.node.value else { return (None, r.problems) };
        let Some((key, node)) = entries.iter().find(|(k, _)| k.text == "spec") else { return (None, r.problems) };
        let spec = Item { node, at: key.at, path: "spec".to_owned() };
        let name = self.name.as_str();
        let document = match self.kind {
            Kind::Journey => journey::read(&mut r, &spec, name).map(Box::new).map(Document::Journey),
            Kind::Segment => settings::segment(&mut r, &spec, name).map(Document::Segment),
            Kind::Template => template::read(&mut r, &spec, name, self.hash).map(Box::new).map(Document::Template),
            Kind::Topic => settings::topic(&mut r, &spec, name).map(Document::Topic),
            Kind::Channel => settings::channel(&mut r, &spec, name, self.hash).map(Document::Channel),
            Kind::Policy => settings::policy(&mut r, &spec).map(Document::Policy),
            Kind::Source => settings::source(&mut r, &spec, name).map(Document::Source),
        };
        (document, r.problems)
    }

    /// A problem of this document at a path, placed at the value there or the nearest one above it.
    pub(crate) fn problem(&self, code: &'static str, path: &str, message: impl Into<String>) -> Problem {
        let at = self.at(path);
        let (file, path) = (self.file.clone(), path.to_owned());
        Problem { code, file, line: at.line, column: at.column, path, message: message.into(), suggestion: None }
    }

    fn at(&self, path: &str) -> At {
        self.at_inner(path, 1, 0)
    }

    /// The place of a character of the text at a path; column 0 is the value itself.
    fn at_inner(&self, path: &str, line: u32, column: u32) -> At {
        let mut node = &self.node;
        for part in path.split(['.', '[']) {
            let next = match &node.value {
                Value::List(items) => part.strip_suffix(']').and_then(|p| p.parse::<usize>().ok()).and_then(|i| items.get(i)),
                Value::Map(entries) => entries.iter().find(|(k, _)| k.text == part).map(|(_, n)| n),
                Value::Null | Value::Bool(_) | Value::Int(_) | Value::Decimal(_) | Value::Text(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => return node.at,
            }
        }
        if column == 0 { node.at } else { node.inner(line, column) }
    }
}

// === impl Kind ===

impl Kind {
    /// Every kind, those that others read first.
    pub const ALL: [Self; 7] = [Self::Policy, Self::Topic, Self::Channel, Self::Source, Self::Segment, Self::Template, Self::Journey];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "Policy",
            Self::Topic => "Topic",
            Self::Channel => "Channel",
            Self::Source => "Source",
            Self::Segment => "Segment",
            Self::Template => "Template",
            Self::Journey => "Journey",
        }
    }

    /// Whether applying it makes a draft, which publishing a journey puts in force.
    pub const fn drafts(self) -> bool {
        matches!(self, Self::Template | Self::Journey)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|k| k.as_str() == text).ok_or_else(|| format!("`{text}` is not a kind"))
    }
}

#[cfg(test)]
mod tests;
