//! Properties by their name: text, number, time, link, money, product lines (PRODUCT §4.3). What cannot
//! be read is left out and noted; the event goes on.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde_json::Value as Json;
use waypost_codec::inbox;
use waypost_types::{Currency, Value};

use super::{number, text, time};
use crate::json::Map;

/// What normalisation reads of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Typing {
    /// The workspace's.
    pub currency: Currency,
    /// Of bare dates.
    pub zone: TimeZone,
}

/// What was left out, with its reason.
#[derive(Debug, Default)]
pub(crate) struct Qualities(pub Vec<inbox::Quality>);

/// Properties by name.
pub(crate) type Properties = BTreeMap<String, Value>;

/// How a property of a known name is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// By its own JSON type.
    Any,
    /// Text; numbers become text.
    Id,
    Number,
    Integer,
    Boolean,
    Time,
    Date,
    Url,
    Money,
    Currency,
    Lines,
    /// Waypost's own.
    Reserved,
}

/// Money of the second vocabulary.
const MONEY: [&str; 9] = ["price", "value", "revenue", "total", "subtotal", "shipping", "tax", "discount", "previous_price"];
const MAX_LINES: usize = 200;
const MAX_NOTES: usize = 50;
/// Of them, those on `context.externalIds`: hubs list dozens that are none of ours, first of all, and the rest of the event
/// has its faults noted too.
const MAX_EXTERNAL_NOTES: usize = 10;
const EXTERNAL: &str = "context.externalIds";
const LONGEST_NAME: usize = 100;

// === impl Qualities ===

impl Qualities {
    /// Notes that `path` was left out, where that is not noted yet.
    pub(crate) fn note_once(&mut self, path: &str, reason: &str) {
        if !self.0.iter().any(|quality| quality.path == path && quality.reason == reason) {
            self.note(path, reason);
        }
    }

    /// Notes that `path` was left out.
    pub(crate) fn note(&mut self, path: &str, reason: &str) {
        let external = path.starts_with(EXTERNAL);
        if external && self.0.iter().filter(|quality| quality.path.starts_with(EXTERNAL)).count() >= MAX_EXTERNAL_NOTES {
            return;
        }
        if self.0.len() < MAX_NOTES {
            let path = if path.len() > 200 { path.chars().take(60).collect() } else { path.to_owned() };
            self.0.push(inbox::Quality { path, reason: reason.to_owned() });
        }
    }
}

/// The properties of an event.
pub(crate) fn event(map: &Map, typing: &Typing, notes: &mut Qualities) -> Properties {
    let currency = currency_of(map, typing);
    let mut out = Properties::new();
    for (name, json) in renamed(map, "properties", notes) {
        let path = format!("properties.{name}");
        typed(&mut out, kind(&name), name, json, &path, currency, typing, notes);
    }
    out
}

/// The traits of an identify call.
pub(crate) fn traits(map: &Map, typing: &Typing, notes: &mut Qualities) -> Properties {
    let mut out = Properties::new();
    for (name, json) in renamed(map, "traits", notes) {
        let kind = match name.as_str() {
            "created_at" => Kind::Time,
            "birthday" => Kind::Date,
            "avatar" | "website" => Kind::Url,
            "email" | "phone" | "first_name" | "last_name" | "name" | "gender" | "title" | "username" | "id" | "locale" | "timezone" => {
                Kind::Id
            }
            _ => Kind::Any,
        };
        let path = format!("traits.{name}");
        typed(&mut out, kind, name, json, &path, None, typing, notes);
    }
    out
}

/// A context, by its own JSON types and names.
pub(crate) fn context(map: &Map, notes: &mut Qualities) -> Properties {
    let mut out = Properties::new();
    for (name, json) in map {
        let path = format!("context.{name}");
        if let Some(value) = free(json, &path, notes) {
            out.insert(name.clone(), value);
        }
    }
    out
}

/// As stored.
pub(crate) fn to_object(properties: Properties) -> inbox::Object {
    waypost_codec::value::object_to_proto(&properties.into_iter().collect::<Vec<_>>())
}

/// Names in their stored spelling: known names from `camelCase`, cleaned.
fn renamed<'a>(map: &'a Map, path: &str, notes: &mut Qualities) -> BTreeMap<String, &'a Json> {
    let mut out = BTreeMap::new();
    for (name, json) in map {
        let clean = text::clean(name);
        if clean.is_empty() || clean.len() > LONGEST_NAME {
            notes.note(&format!("{path}.{clean}"), "TEXT_TOO_LONG");
            continue;
        }
        let snake = snake(&clean);
        if snake != clean && (kind(&snake) != Kind::Any || is_trait(&snake)) {
            // The right spelling wins over the other.
            if !map.contains_key(&snake) {
                out.insert(snake, json);
            }
        } else {
            out.insert(clean, json);
        }
    }
    out
}

fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut before = ' ';
    for c in name.chars() {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
        before = c;
    }
    out
}

fn is_trait(name: &str) -> bool {
    matches!(name, "first_name" | "last_name" | "created_at" | "postal_code")
}

fn kind(name: &str) -> Kind {
    match name {
        "product_id" | "sku" | "category" | "name" | "brand" | "variant" | "coupon" | "coupon_id" | "coupon_name" | "cart_id"
        | "order_id" | "checkout_id" | "list_id" | "wishlist_id" | "wishlist_name" | "review_id" | "promotion_id" | "form_id"
        | "store_id" | "ticket_id" | "survey_id" | "subscription_id" | "program_id" | "shipment_id" | "return_id" | "group_id"
        | "affiliation" | "shipping_method" | "payment_method" | "carrier" | "channel" | "topic" | "state" | "basis" | "tier"
        | "previous_tier" | "status" | "email" | "phone" => Kind::Id,
        "price" | "value" | "revenue" | "total" | "subtotal" | "shipping" | "tax" | "discount" | "previous_price" => Kind::Money,
        "currency" => Kind::Currency,
        "products" => Kind::Lines,
        "quantity" | "position" | "step" | "seconds" | "replenish_days" => Kind::Integer,
        "balance" | "delta" | "rating" => Kind::Number,
        "url" | "image_url" | "checkout_url" | "cart_url" | "tracking_url" => Kind::Url,
        "at" | "expires_at" | "estimated_at" | "delivered_at" | "last_active" => Kind::Time,
        "machine" | "available" | "previous_available" => Kind::Boolean,
        "meta" | "context" => Kind::Reserved,
        _ if name.strip_suffix("_base").is_some_and(|stem| MONEY.contains(&stem)) => Kind::Reserved,
        _ => Kind::Any,
    }
}

/// The currency that amounts beside it are in; none: it is unknown, and so are they.
fn currency_of(map: &Map, typing: &Typing) -> Option<Currency> {
    match map.get("currency") {
        None | Some(Json::Null) => Some(typing.currency),
        Some(Json::String(code)) if code.trim().is_empty() => Some(typing.currency),
        Some(Json::String(code)) => Currency::parse(code),
        Some(Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_)) => None,
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one property with all that surrounds it; a struct of these would be made for this call only"
)]
fn typed(
    out: &mut Properties,
    kind: Kind,
    name: String,
    json: &Json,
    path: &str,
    currency: Option<Currency>,
    typing: &Typing,
    notes: &mut Qualities,
) {
    if json.is_null() {
        return;
    }
    let read = match kind {
        Kind::Any => {
            if let Some(value) = free(json, path, notes) {
                out.insert(name, value);
            }
            return;
        }
        Kind::Reserved => Err("NAME_RESERVED"),
        Kind::Id => scalar(json).ok_or("TYPE_MISMATCH").and_then(|t| text::text(&t).ok_or("TEXT_TOO_LONG")).map(Value::Text),
        Kind::Number => scalar(json).and_then(|t| number::number(&t)).ok_or("NUMBER_INVALID"),
        Kind::Integer => scalar(json).and_then(|t| number::integer(&t)).map(Value::Int).ok_or("NUMBER_INVALID"),
        Kind::Boolean => match json {
            Json::Bool(b) => Ok(Value::Bool(*b)),
            other @ (Json::Null | Json::Number(_) | Json::String(_) | Json::Array(_) | Json::Object(_)) => {
                scalar(other).and_then(|t| text::boolean(&t)).map(Value::Bool).ok_or("TYPE_MISMATCH")
            }
        },
        Kind::Time => scalar(json).and_then(|t| time::time(&t, &typing.zone)).map(Value::Time).ok_or("TIME_INVALID"),
        Kind::Date => scalar(json).and_then(|t| time::date(&t)).map(Value::Date).ok_or("TIME_INVALID"),
        Kind::Url => json.as_str().and_then(text::url).map(Value::Text).ok_or("URL_INVALID"),
        Kind::Currency => match currency {
            Some(currency) => Ok(Value::text(currency.as_str())),
            None => Err("CURRENCY_UNKNOWN"),
        },
        Kind::Money => {
            money(out, &name, json, path, currency, typing, notes);
            return;
        }
        Kind::Lines => lines(json, path, currency, typing, notes),
    };
    match read {
        Ok(value) => {
            out.insert(name, value);
        }
        Err(reason) => notes.note(path, reason),
    }
}

fn money(out: &mut Properties, name: &str, json: &Json, path: &str, currency: Option<Currency>, typing: &Typing, notes: &mut Qualities) {
    let Some(currency) = currency else { return notes.note(path, "CURRENCY_UNKNOWN") };
    let read = scalar(json).and_then(|t| number::plain(&t)).and_then(|t| currency.minor_units(&t));
    let Some((minor, rounded)) = read else { return notes.note(path, "NUMBER_INVALID") };
    if rounded {
        notes.note(path, "ROUNDED");
    }
    put_money(out, name, minor, currency, typing);
}

/// An amount, and beside it the same in the workspace's currency where that is known.
pub(crate) fn put_money(out: &mut Properties, name: &str, minor: i64, currency: Currency, typing: &Typing) {
    out.insert(name.to_owned(), Value::Amount { minor, currency: currency.as_str().to_owned() });
    if currency == typing.currency {
        out.insert(format!("{name}_base"), Value::Money(minor));
    }
}

fn lines(json: &Json, path: &str, currency: Option<Currency>, typing: &Typing, notes: &mut Qualities) -> Result<Value, &'static str> {
    let Json::Array(items) = json else { return Err("TYPE_MISMATCH") };
    if items.len() > MAX_LINES {
        notes.note(&format!("{path}[{MAX_LINES}]"), "LINE_INVALID");
    }
    let mut out = Vec::with_capacity(items.len().min(MAX_LINES));
    for (index, item) in items.iter().take(MAX_LINES).enumerate() {
        let path = format!("{path}[{index}]");
        match line(item, &path, currency, typing, notes) {
            Some(line) => out.push(Value::Object(line.into_iter().collect())),
            None => notes.note(&path, "LINE_INVALID"),
        }
    }
    Ok(Value::List(out))
}

fn line(json: &Json, path: &str, currency: Option<Currency>, typing: &Typing, notes: &mut Qualities) -> Option<Properties> {
    let Json::Object(map) = json else { return None };
    let currency = if map.contains_key("currency") { currency_of(map, typing) } else { currency };
    let mut names = renamed(map, path, notes);
    if !names.contains_key("product_id")
        && let Some(id) = names.remove("id")
    {
        names.insert("product_id".to_owned(), id);
    }
    let given = names.get("quantity").is_some_and(|q| !q.is_null());
    let mut out = Properties::new();
    for (name, json) in names {
        // A line of lines would be no line.
        let kind = if name == "products" { Kind::Any } else { kind(&name) };
        let path = format!("{path}.{name}");
        typed(&mut out, kind, name, json, &path, currency, typing, notes);
    }
    let has_id = |key: &str| out.get(key).and_then(Value::as_text).is_some_and(|t| !t.is_empty());
    if !has_id("product_id") && !has_id("sku") {
        return None;
    }
    match out.get("quantity") {
        Some(Value::Int(quantity)) if *quantity >= 1 => {}
        None if !given => {
            out.insert("quantity".to_owned(), Value::Int(1));
        }
        _ => return None,
    }
    Some(out)
}

/// By its own JSON type; what cannot be kept is noted, at any depth.
fn free(json: &Json, path: &str, notes: &mut Qualities) -> Option<Value> {
    match json {
        Json::Null => None,
        Json::Bool(b) => Some(Value::Bool(*b)),
        Json::Number(n) => {
            let value = number::number(n.as_str());
            if value.is_none() {
                notes.note(path, "NUMBER_INVALID");
            }
            value
        }
        Json::String(t) => {
            let value = text::text(t);
            if value.is_none() {
                notes.note(path, "TEXT_TOO_LONG");
            }
            value.map(Value::Text)
        }
        Json::Array(items) => Some(Value::List(items.iter().filter_map(|item| free(item, path, notes)).collect())),
        Json::Object(map) => {
            let entries = map.iter().filter_map(|(name, item)| {
                let value = free(item, &format!("{path}.{name}"), notes)?;
                Some((name.clone(), value))
            });
            Some(Value::object(entries.collect::<Vec<_>>()))
        }
    }
}

/// The text of a text or of a number.
pub(crate) fn scalar(json: &Json) -> Option<String> {
    match json {
        Json::String(t) => Some(t.clone()),
        Json::Number(n) => Some(n.as_str().to_owned()),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Properties, Vec<(String, String)>) {
        let map = serde_json::from_str(json).unwrap();
        let mut notes = Qualities::default();
        let typing = Typing { currency: Currency::EUR, zone: TimeZone::UTC };
        let properties = event(&map, &typing, &mut notes);
        (properties, notes.0.into_iter().map(|q| (q.path, q.reason)).collect())
    }

    fn amount(minor: i64, currency: &str) -> Value {
        Value::Amount { minor, currency: currency.to_owned() }
    }

    #[test]
    fn each_known_name_has_its_type() {
        let (properties, notes) = read(
            r#"{"orderId": 17, "price": "19.99", "quantity": "2", "url": "https://shop.example/p", "at": "2026-01-02",
                "machine": "true", "rating": 4.5, "colour": " red ", "nothing": null, "tags": ["a", 1, null, true], "deep": {"b": 1.5}}"#,
        );
        assert_eq!(notes, []);
        let expected = [
            ("at", Value::Time(waypost_types::Timestamp::from_millis(1_767_312_000_000))),
            ("colour", Value::text("red")),
            ("deep", Value::object([("b".to_owned(), Value::Decimal(1_500_000))])),
            ("machine", Value::Bool(true)),
            ("order_id", Value::text("17")),
            ("price", amount(1_999, "EUR")),
            ("price_base", Value::Money(1_999)),
            ("quantity", Value::Int(2)),
            ("rating", Value::Decimal(4_500_000)),
            ("tags", Value::List(vec![Value::text("a"), Value::Int(1), Value::Bool(true)])),
            ("url", Value::text("https://shop.example/p")),
        ];
        assert_eq!(properties.into_iter().collect::<Vec<_>>(), expected.map(|(n, v)| (n.to_owned(), v)));
    }

    #[test]
    fn what_cannot_be_read_is_left_out_with_its_reason() {
        for (json, path, reason) in [
            (r#"{"price": "cheap"}"#, "properties.price", "NUMBER_INVALID"),
            (r#"{"price": 1, "currency": "XXX"}"#, "properties.price", "CURRENCY_UNKNOWN"),
            (r#"{"quantity": 1.5}"#, "properties.quantity", "NUMBER_INVALID"),
            (r#"{"n": 123456789012345678901234567890}"#, "properties.n", "NUMBER_INVALID"),
            (r#"{"url": "javascript:alert(1)"}"#, "properties.url", "URL_INVALID"),
            (r#"{"expires_at": "soon"}"#, "properties.expires_at", "TIME_INVALID"),
            (r#"{"order_id": {"a": 1}}"#, "properties.order_id", "TYPE_MISMATCH"),
            (r#"{"machine": "perhaps"}"#, "properties.machine", "TYPE_MISMATCH"),
            (r#"{"products": "two"}"#, "properties.products", "TYPE_MISMATCH"),
            (r#"{"products": [{"name": "x"}]}"#, "properties.products[0]", "LINE_INVALID"),
            (r#"{"products": [{"sku": "x", "quantity": 0}]}"#, "properties.products[0]", "LINE_INVALID"),
            (r#"{"price_base": 5}"#, "properties.price_base", "NAME_RESERVED"),
            (r#"{"meta": {}}"#, "properties.meta", "NAME_RESERVED"),
            (r#"{"price": "1.005"}"#, "properties.price", "ROUNDED"),
        ] {
            let (_, notes) = read(json);
            assert!(notes.contains(&(path.to_owned(), reason.to_owned())), "{json}: {notes:?}");
        }
        let (properties, notes) = read(&format!(r#"{{"a": {:?}}}"#, "x".repeat(1_025)));
        assert_eq!((properties.len(), notes[0].1.as_str()), (0, "TEXT_TOO_LONG"));
    }

    #[test]
    fn lines_take_aliases_and_defaults() {
        let (properties, notes) = read(r#"{"currency": "usd", "products": [{"id": 7, "price": "5"}, {"sku": "s", "quantity": "3"}, 9]}"#);
        let lines = Value::List(vec![
            Value::object([
                ("price".to_owned(), amount(500, "USD")),
                ("product_id".to_owned(), Value::text("7")),
                ("quantity".to_owned(), Value::Int(1)),
            ]),
            Value::object([("quantity".to_owned(), Value::Int(3)), ("sku".to_owned(), Value::text("s"))]),
        ]);
        assert_eq!(properties["products"], lines);
        assert_eq!(properties["currency"], Value::text("USD"));
        assert_eq!(notes, [("properties.products[2]".to_owned(), "LINE_INVALID".to_owned())]);
    }
}
