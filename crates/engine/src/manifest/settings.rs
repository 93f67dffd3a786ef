//! The kinds that are in force when applied: Segment, Topic, Channel, Policy, Source.

use std::collections::{BTreeMap, BTreeSet};

use waypost_types::{ContentHash, Currency, IdentifierClass, Span, Timestamp};

use super::{
    journey::{class, zone},
    node::Value,
    problem::{codes, nearest},
    reader::{Fields, Item, Place, Reader},
};
use crate::{
    condition::Type,
    definitions::{Channel, Class, ConsentDefault, HttpChannel, Idempotency, OnRepeat, Policy, Segment, Source, Topic},
};

/// Channel types that the product describes and this version lacks.
pub(super) const CHANNELS_LATER: &[&str] =
    &["sms", "push", "whatsapp", "rcs", "viber", "webhook", "meta_audience", "google_audience", "ads"];
const PROVIDERS_LATER: &[&str] = &["ses", "sendgrid", "postmark", "mailgun", "resend"];
/// A key that is forgotten within two minutes settles no doubt: a minute of its window is kept back.
const SHORTEST_WINDOW: Span = Span::from_secs(120);
const LONGEST_WINDOW: Span = Span::from_days(30);
/// Custom identifiers of a workspace: what a shop calls its people in its tills, its CRM and its chats are a handful.
const CUSTOM_MAX: usize = 20;
/// Not to be had as `custom:<name>`: the classes, and what Segment calls some of them.
const CUSTOM_RESERVED: [&str; 9] =
    ["user_id", "email", "phone", "device", "anonymous", "custom", "anonymous_id", "device_id", "profile_id"];
const POLICY_LATER: &[&str] =
    &["holidays", "windows", "hold_out", "guards", "attribution", "arbiter", "stop_scope", "consent_terms", "consent_categories", "rfm"];

pub(super) fn segment(r: &mut Reader<'_>, spec: &Item<'_>, name: &str) -> Option<Segment> {
    let mut f = r.fields(spec)?;
    let describe = f.text(r, "describe", 4_000).unwrap_or_default();
    let condition = f.require_unless(r, "where", codes::FIELD_MISSING, &["static"]);
    let condition = condition.and_then(|item| r.condition(&item, Place::Segment, &Type::Bool));
    f.finish(r, &["static"]);
    Some(Segment { name: name.to_owned(), describe, version: 0, condition: condition? })
}

pub(super) fn topic(r: &mut Reader<'_>, spec: &Item<'_>, name: &str) -> Option<Topic> {
    let mut f = r.fields(spec)?;
    let title = f.require(r, "title", codes::FIELD_MISSING).and_then(|i| r.text(&i, 80));
    let class = class(r, &mut f).unwrap_or(Class::Marketing);
    let mut defaults = BTreeMap::new();
    if let Some(mut channels) = f.get("defaults").and_then(|i| r.fields(&i)) {
        match channels.get("email").and_then(|i| r.word(&i, &["opt_in", "opt_out"], &[])) {
            Some("opt_out") => defaults.insert("email".to_owned(), ConsentDefault::OptOut),
            Some(_) => defaults.insert("email".to_owned(), ConsentDefault::OptIn),
            None => None,
        };
        channels.finish(r, CHANNELS_LATER);
    }
    let inherit = f.bool(r, "inherit", false);
    f.finish(r, &["double_opt_in", "visible"]);
    Some(Topic { name: name.to_owned(), title: title?, class, defaults, inherit })
}

pub(super) fn channel(r: &mut Reader<'_>, spec: &Item<'_>, name: &str, hash: ContentHash) -> Option<Channel> {
    let mut f = r.fields(spec)?;
    let kind = f.require(r, "type", codes::FIELD_MISSING).and_then(|i| r.word(&i, &["email"], CHANNELS_LATER));
    let provider = f.require(r, "provider", codes::FIELD_MISSING);
    let provider = provider.and_then(|i| r.word(&i, &["smtp", "http", "catcher"], PROVIDERS_LATER));
    let from = f.require(r, "from", codes::FIELD_MISSING).and_then(|i| {
        let text = r.text(&i, 320)?;
        let ok = is_sender(&text);
        if !ok {
            r.problem(codes::VALUE_INVALID, i.node.at, &i.path, "a sender is as `Shop <hello@news.shop.example>`");
        }
        ok.then_some(text)
    });
    let secret = f.get("secret").and_then(|i| r.name(&i));
    let default = f.bool(r, "default", false);
    let http = (provider == Some("http")).then(|| http(r, &mut f));
    f.finish(r, &["rate", "price"]);
    let http = match http {
        Some(settings) => Some(settings?),
        None => None,
    };
    Some(Channel {
        name: name.to_owned(),
        kind: kind?.to_owned(),
        provider: provider?.to_owned(),
        from: from?,
        secret,
        default,
        http,
        hash,
    })
}

/// Where and with which promises messages are posted.
fn http(r: &mut Reader<'_>, f: &mut Fields<'_>) -> Option<HttpChannel> {
    let url = f.require(r, "url", codes::FIELD_MISSING).and_then(|i| {
        let text = r.text(&i, 2_000)?;
        let ok = is_endpoint(&text);
        if !ok {
            r.problem(
                codes::VALUE_INVALID,
                i.node.at,
                &i.path,
                "an endpoint is as `https://mail.example/send`, without `?`, `#`, `%`, `..` and a password",
            );
        }
        ok.then(|| text.trim_end_matches('/').to_owned())
    });
    let key = f.get("idempotency").and_then(|i| {
        let mut k = r.fields(&i)?;
        let window = k.require(r, "window", codes::FIELD_MISSING).and_then(|i| r.span(&i, SHORTEST_WINDOW, LONGEST_WINDOW));
        let on_repeat = match k.get("on_repeat").and_then(|i| r.word(&i, &["replay", "error"], &[])) {
            Some("error") => OnRepeat::Error,
            Some(_) | None => OnRepeat::Replay,
        };
        k.finish(r, &[]);
        Some(Idempotency { window: window?, on_repeat })
    });
    let lookup = f.bool(r, "lookup", false);
    Some(HttpChannel { url: url?, key, lookup })
}

/// An absolute URL that a path can be added to; credentials belong into a secret.
fn is_endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |rest: &str| rest.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@' | '%' | '"' | '<' | '>' | '\\'));
    // An operator allows paths by their beginning: no way back up.
    rest.is_some_and(|rest| plain(rest) && !rest.contains("..") && rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['))
}

/// `Name <local@domain>` or the bare address; no control character, because this becomes a header.
fn is_sender(text: &str) -> bool {
    let address = match text.split_once('<') {
        Some((_, rest)) => match rest.strip_suffix('>') {
            Some(address) => address,
            None => return false,
        },
        None => text,
    };
    let plain = |t: &str| !t.is_empty() && !t.contains(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '@' | ',' | ';'));
    let halves = address.split_once('@').is_some_and(|(local, domain)| plain(local) && plain(domain) && domain.contains('.'));
    halves && !text.contains(char::is_control)
}

pub(super) fn policy(r: &mut Reader<'_>, spec: &Item<'_>) -> Option<Policy> {
    let mut f = r.fields(spec)?;
    let mut policy = Policy::default();
    if let Some(item) = f.get("currency")
        && let Some(code) = r.text(&item, 8)
    {
        match Currency::parse(&code) {
            Some(currency) => policy.currency = currency,
            None => r.problem(codes::UNKNOWN_REFERENCE, item.node.at, &item.path, format!("`{code}` is not a currency")),
        }
    }
    if let Some(item) = f.get("timezone")
        && let Some(name) = r.text(&item, 64)
        && let Some(name) = zone(r, &item, name)
    {
        policy.timezone = name;
    }
    if let Some(item) = f.get("phone_region")
        && let Some(region) = r.text(&item, 8)
    {
        if region.len() == 2 && region.bytes().all(|b| b.is_ascii_uppercase()) {
            policy.phone_region = region;
        } else {
            r.problem(codes::VALUE_INVALID, item.node.at, &item.path, "an ISO country, as `DE`");
        }
    }
    if let Some(mut shop) = f.get("shop").and_then(|i| r.fields(&i)) {
        policy.restore_url = url(r, &mut shop, "restore_url");
        policy.product_url = url(r, &mut shop, "product_url");
        policy.postal_address = shop.text(r, "postal_address", 500);
        shop.finish(r, &[]);
    }
    if let Some(item) = f.get("covered_since")
        && let Some(text) = r.text(&item, 64)
    {
        policy.covered_since = instant(&text, &policy.timezone);
        if policy.covered_since.is_none() {
            r.problem(codes::VALUE_INVALID, item.node.at, &item.path, "a date, as `2025-01-01`, or an instant with its offset");
        }
    }
    policy.custom_identifiers = custom_identifiers(r, &mut f);
    f.finish(r, POLICY_LATER);
    Some(policy)
}

/// What may stand behind `custom:`.
fn custom_identifiers(r: &mut Reader<'_>, f: &mut Fields<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for item in f.items(r, "custom_identifiers", CUSTOM_MAX) {
        let Some(name) = r.text(&item, 255) else { continue };
        if !is_custom_name(&name) {
            r.problem(codes::VALUE_INVALID, item.node.at, &item.path, "a name is [a-z][a-z0-9_]{0,31}, without `custom:`");
        } else if CUSTOM_RESERVED.contains(&name.as_str()) {
            r.problem(codes::VALUE_INVALID, item.node.at, &item.path, format!("`{name}` is reserved: choose another name"));
        } else {
            r.unique(&mut names, &name, &item);
        }
    }
    names
}

/// Short, because each record that counts a person's identifiers carries it.
fn is_custom_name(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn url(r: &mut Reader<'_>, f: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let item = f.get(name)?;
    let text = r.text(&item, 2_048)?;
    let host = text.strip_prefix("https://").unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        r.problem(codes::VALUE_INVALID, item.node.at, &item.path, "an address that begins with https://");
        return None;
    }
    Some(text)
}

/// A date is its local midnight.
fn instant(text: &str, timezone: &str) -> Option<Timestamp> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp::from_millis(instant.as_millisecond()));
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    let zoned = date.to_zoned(jiff::tz::TimeZone::get(timezone).ok()?).ok()?;
    Some(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
}

pub(super) fn source(r: &mut Reader<'_>, spec: &Item<'_>, name: &str) -> Option<Source> {
    let mut f = r.fields(spec)?;
    let later = &["webhook", "shopify", "woocommerce", "form"];
    let kind = f.require(r, "kind", codes::FIELD_MISSING).and_then(|i| r.word(&i, &["browser", "server", "kafka"], later));
    let grants = f.get("may_grant");
    let may_grant = f.bool(r, "may_grant", false);
    if let (Some("browser"), true, Some(item)) = (kind, may_grant, grants) {
        r.problem(codes::FIELD_NOT_ALLOWED_HERE, item.at, &item.path, "a browser may deny consent, never grant it");
    }
    let mut may_assert = Vec::new();
    let known: Vec<&'static str> = IdentifierClass::ALL.iter().filter(|c| **c != IdentifierClass::Custom).map(|c| c.as_str()).collect();
    for item in f.items(r, "may_assert", known.len() + CUSTOM_MAX) {
        let class = if let Value::Text(t) = &item.node.value
            && t.text.starts_with("custom:")
        {
            declared(r, &item, &t.text)
        } else {
            r.word(&item, &known, &[]).map(str::to_owned)
        };
        may_assert.extend(class);
    }
    f.finish(r, &["scheme", "header", "secret", "map"]);
    Some(Source { name: name.to_owned(), kind: kind?.to_owned(), may_grant, may_assert })
}

/// `custom:<name>` of a name that the workspace's policy declares, as far as that is known.
fn declared(r: &mut Reader<'_>, item: &Item<'_>, class: &str) -> Option<String> {
    let names = r.scopes.map(|scopes| &scopes.custom);
    let is_declared = |name: &str| names.is_none_or(|names| names.contains(name));
    if class.strip_prefix("custom:").is_some_and(|name| is_custom_name(name) && is_declared(name)) {
        return Some(class.to_owned());
    }
    let known: Vec<String> = names.into_iter().flatten().map(|name| format!("custom:{name}")).collect();
    let near = nearest(class, known.iter().map(String::as_str));
    let message = format!("Policy.custom_identifiers does not declare `{class}`");
    r.suggest(codes::UNKNOWN_REFERENCE, item.node.at, &item.path, message, near);
    None
}
