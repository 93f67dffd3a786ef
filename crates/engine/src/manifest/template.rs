//! Templates (PRODUCT §8), as far as this version has them: an e-mail body, its data and its fields.

use std::collections::BTreeMap;

use waypost_types::ContentHash;

use super::{
    journey::{path_ok, paths},
    problem::codes,
    reader::{Item, Place, Reader},
};
use crate::{
    condition::Type,
    definitions::{EmailBody, Template},
};

/// Longest source of a body, bytes.
pub(super) const SOURCE_MAX: usize = 256 * 1024;
/// Longest of the short templates: subject, preheader, label, url.
const SHORT_MAX: usize = 2_048;

const CHANNELS_LATER: &[&str] = &["sms", "push", "whatsapp", "rcs", "viber", "webhook"];

/// Reads `spec`, whose body already stands in it.
pub(super) fn read(r: &mut Reader<'_>, spec: &Item<'_>, name: &str, hash: ContentHash) -> Option<Template> {
    let mut f = r.fields(spec)?;
    let requires = paths(r, &mut f, "requires", 50, None);
    let mut optional = BTreeMap::new();
    if let Some(list) = f.get("optional").and_then(|i| r.fields(&i)) {
        for (path, item) in list.entries() {
            if path_ok(r, &item, path)
                && let Some(fallback) = fallback(r, &item)
            {
                optional.insert(path.to_owned(), fallback);
            }
        }
    }
    let mut data = Vec::new();
    let mut data_ok = true;
    if let Some(list) = f.get("data").and_then(|i| r.fields(&i)) {
        for (name, item) in list.entries() {
            if !is_word(name) {
                r.problem(codes::VALUE_INVALID, item.at, &item.path, "a name of data is [a-z][a-z0-9_]{0,62}");
            }
            match r.condition(&item, Place::Template, &Type::Any) {
                Some(program) => data.push((name.to_owned(), program)),
                None => data_ok = false,
            }
        }
        // The stored form is sorted; so is this one, whoever wrote it.
        data.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let action = f.get("action").and_then(|i| action(r, &i));
    let email = match f.require(r, "channels", codes::TEMPLATE_LACKS_CHANNEL) {
        Some(item) => channels(r, &item),
        None => None,
    };
    f.finish(r, &["locales"]);
    data_ok.then(|| Template { name: name.to_owned(), hash, version: 0, requires, optional, data, action, email })
}

fn is_word(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A fallback is a text, or a number written as one.
fn fallback(r: &mut Reader<'_>, item: &Item<'_>) -> Option<String> {
    match &item.node.value {
        super::node::Value::Int(i) => Some(i.to_string()),
        super::node::Value::Decimal(d) => Some(d.clone()),
        super::node::Value::Null => Some(String::new()),
        super::node::Value::Bool(_) | super::node::Value::Text(_) | super::node::Value::List(_) | super::node::Value::Map(_) => {
            r.text(item, SHORT_MAX)
        }
    }
}

fn action(r: &mut Reader<'_>, item: &Item<'_>) -> Option<(String, String)> {
    let mut f = r.fields(item)?;
    let label = f.require(r, "label", codes::ACTION_MISSING).and_then(|i| r.text(&i, SHORT_MAX));
    let url = f.require(r, "url", codes::ACTION_MISSING).and_then(|i| r.text(&i, SHORT_MAX));
    f.finish(r, &[]);
    Some((label?, url?))
}

fn channels(r: &mut Reader<'_>, item: &Item<'_>) -> Option<EmailBody> {
    let mut f = r.fields(item)?;
    let email = f.require_unless(r, "email", codes::TEMPLATE_LACKS_CHANNEL, CHANNELS_LATER).and_then(|item| email(r, &item));
    f.finish(r, CHANNELS_LATER);
    email
}

fn email(r: &mut Reader<'_>, item: &Item<'_>) -> Option<EmailBody> {
    let mut f = r.fields(item)?;
    let subject = f.require(r, "subject", codes::FIELD_MISSING).and_then(|i| r.text(&i, SHORT_MAX));
    let preheader = f.text(r, "preheader", SHORT_MAX);
    let (mjml, html) = (f.get("mjml"), f.get("html"));
    let source = match (mjml, html) {
        (Some(item), None) => source(r, &item).map(|s| (s, true)),
        (None, Some(item)) => source(r, &item).map(|s| (s, false)),
        (Some(_), Some(html)) => {
            r.problem(codes::FIELD_NOT_ALLOWED_HERE, html.at, &html.path, "either `mjml` or `html`");
            None
        }
        (None, None) => {
            r.missing(codes::FIELD_MISSING, &f, "mjml");
            None
        }
    };
    f.finish(r, &["text", "from", "reply_to"]);
    let (source, mjml) = source?;
    Some(EmailBody { subject: subject?, preheader, source, mjml })
}

fn source(r: &mut Reader<'_>, item: &Item<'_>) -> Option<String> {
    let text = r.text(item, usize::MAX)?;
    if text.len() > SOURCE_MAX {
        r.problem(codes::LIMIT_EXCEEDED, item.node.at, &item.path, format!("at most {SOURCE_MAX} bytes"));
        return None;
    }
    Some(text)
}
