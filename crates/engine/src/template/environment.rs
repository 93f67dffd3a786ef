//! The MiniJinja environment of one message: strict, bounded, with our filters and functions only.

use std::{fmt, io, sync::Arc};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior,
    value::{Object, ObjectRepr, Rest, Value as Jinja, ValueKind},
};
use waypost_types::{Timestamp, Value};

use super::{
    CONTENT_REFUSED, FUEL, LIMIT, Links, MAX_OUTPUT, MISSING_FIELD, RenderError,
    format::{self, Locale},
    html, scan, variables,
};
use crate::definitions::Policy;

/// Filters a template may use.
pub(super) const FILTERS: [&str; 15] = [
    "money", "number", "percent", "date", "time", "upper", "lower", "title", "trim", "truncate", "default", "join", "length", "first",
    "last",
];
/// Functions a template may call.
pub(super) const FUNCTIONS: [&str; 4] = ["unsubscribe_url", "cart_url", "product_url", "postal_address"];
/// Tests behind `is` that a template may use.
pub(super) const TESTS: [&str; 2] = ["defined", "none"];

const MAX_JOINED: usize = 64 * 1024;
const TOO_MUCH: &str = "limit";
const ABSENT: &str = "absent:";

/// Renders the parts of one message.
pub(super) struct Renderer {
    env: Environment<'static>,
    variables: Vec<(String, Jinja)>,
}

/// Minor units of a currency.
#[derive(Debug, PartialEq, Eq)]
struct Amount {
    minor: i64,
    currency: String,
}

/// An instant.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Timestamp);

/// A calendar day.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Day(i32);

/// A decimal, in millionths.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Decimal(i64);

/// Writes up to so many bytes, then refuses.
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

// === impl Renderer ===

impl Renderer {
    pub(super) fn new(links: &Links, policy: &Policy, variables: &Value) -> Result<Self, RenderError> {
        if let Some(path) = variables::long_list(variables, "") {
            return Err(RenderError::new(LIMIT, path));
        }
        let text = |name| variables.get(name).and_then(Value::as_text);
        let locale = format::locale(text(variables::LOCALE));
        let zone = text(variables::ZONE).and_then(|name| jiff::tz::TimeZone::get(name).ok());
        let zone = zone.or_else(|| jiff::tz::TimeZone::get(&policy.timezone).ok()).unwrap_or(jiff::tz::TimeZone::UTC);
        let mut env = empty();
        add_filters(&mut env, locale, &zone);
        add_functions(&mut env, links, policy);
        let Value::Object(entries) = variables else { return Err(RenderError::new(CONTENT_REFUSED, "variables")) };
        let currency = policy.currency.as_str();
        Ok(Self { env, variables: entries.iter().map(|(name, value)| (name.clone(), jinja(value, currency))).collect() })
    }

    /// With the rendered call to action at hand.
    pub(super) fn with_action(mut self, label: &str, url: &str) -> Self {
        let action = Jinja::from_pairs([("label", Jinja::from(label)), ("url", Jinja::from(url))]);
        self.variables.push(("action".to_owned(), action));
        self
    }

    /// One line of plain text: nothing is escaped, and nothing that could end a header line passes.
    pub(super) fn line(&self, part: &str, source: &str) -> Result<String, RenderError> {
        let line = self.render(part, source.trim())?;
        if line.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
            return Err(RenderError::new(CONTENT_REFUSED, part));
        }
        Ok(line)
    }

    /// HTML, or MJML on its way there: every value is escaped.
    pub(super) fn html(&self, part: &str, source: &str) -> Result<String, RenderError> {
        self.render(part, source)
    }

    fn render(&self, part: &str, source: &str) -> Result<String, RenderError> {
        let failed = |error: &Error| failure(error, part, source);
        let template = self.env.template_from_named_str(part, source).map_err(|e| failed(&e))?;
        let mut out = Bounded { bytes: Vec::with_capacity(source.len()), full: false };
        let context = Jinja::from_pairs(self.variables.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let rendered = template.render_captured_to(context, &mut out).map(drop);
        if out.full {
            return Err(RenderError::new(LIMIT, part));
        }
        rendered.map_err(|e| failed(&e))?;
        String::from_utf8(out.bytes).map_err(|_| RenderError::new(CONTENT_REFUSED, part))
    }
}

/// An environment without loader, globals, filters: strict and bounded.
pub(super) fn empty() -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(64);
    env.set_debug(true);
    env.set_auto_escape_callback(|part| if matches!(part, "mjml" | "html") { AutoEscape::Html } else { AutoEscape::None });
    env.set_formatter(|out, state, value| {
        if value.is_undefined() {
            // Only the missing `else` of an inline `if`; anything else was refused before.
            return Ok(());
        }
        if value.is_none() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        if matches!(value.kind(), ValueKind::Map | ValueKind::Seq | ValueKind::Iterable | ValueKind::Bytes | ValueKind::Invalid) {
            return Err(Error::new(ErrorKind::InvalidOperation, "a list or an object is not text"));
        }
        let text = value.to_string();
        // By the part, not by a flag that a template could change.
        if matches!(state.name(), "mjml" | "html") {
            let mut escaped = String::with_capacity(text.len());
            html::escape(&text, &mut escaped);
            out.write_str(&escaped).map_err(Error::from)
        } else {
            out.write_str(&text).map_err(Error::from)
        }
    });
    env.add_test("defined", |value: &Jinja| !value.is_undefined());
    env.add_test("none", |value: &Jinja| value.is_none());
    env
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow: what we do not know is refused")]
fn failure(error: &Error, part: &str, source: &str) -> RenderError {
    let place = || format!("{part}:{}", error.line().unwrap_or(1));
    let (code, path) = match error.kind() {
        ErrorKind::UndefinedError => {
            let expression = error.range().and_then(|range| match source.get(range.clone()).map(str::trim) {
                // Of a filter only its name is known; what it stands in says more.
                Some(filter) if FILTERS.contains(&filter) => enclosing(source, range.start),
                other => other.map(str::to_owned),
            });
            (MISSING_FIELD, expression.filter(|text| !text.is_empty()).unwrap_or_else(place))
        }
        ErrorKind::OutOfFuel | ErrorKind::WriteFailure => (LIMIT, place()),
        ErrorKind::InvalidOperation => match error.detail() {
            Some(TOO_MUCH) => (LIMIT, place()),
            Some(detail) if detail.starts_with(ABSENT) => (MISSING_FIELD, detail[ABSENT.len()..].to_owned()),
            _ => (CONTENT_REFUSED, place()),
        },
        _ => (CONTENT_REFUSED, place()),
    };
    RenderError::new(code, path)
}

fn enclosing(source: &str, at: usize) -> Option<String> {
    let tag = scan::tags(source).into_iter().find(|tag| (tag.start..tag.end).contains(&at))?;
    source.get(tag.start + 2..tag.end - 2).map(|text| text.trim().to_owned())
}

fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

fn absent(path: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{ABSENT}{path}"))
}

fn millionths(value: &Jinja) -> Result<i128, Error> {
    if let Some(decimal) = value.downcast_object_ref::<Decimal>() {
        return Ok(i128::from(decimal.0));
    }
    match (value.is_undefined(), value.as_i64()) {
        (true, _) => Err(Error::from(ErrorKind::UndefinedError)),
        (false, Some(int)) => Ok(i128::from(int) * 1_000_000),
        (false, None) => Err(refused("not a number")),
    }
}

fn add_filters(env: &mut Environment<'static>, locale: Locale, zone: &jiff::tz::TimeZone) {
    use minijinja::filters;
    env.add_filter("upper", filters::upper);
    env.add_filter("lower", filters::lower);
    env.add_filter("title", filters::title);
    env.add_filter("trim", filters::trim);
    env.add_filter("default", filters::default);
    env.add_filter("length", filters::length);
    env.add_filter("first", filters::first);
    env.add_filter("last", filters::last);
    env.add_filter("join", |value: Jinja, separator: Option<String>| join(&value, separator.as_deref().unwrap_or("")));
    env.add_filter("truncate", |text: String, length: Option<u32>, end: Option<String>| truncate(&text, length, end.as_deref()));
    env.add_filter("money", move |value: &Jinja| match (value.downcast_object_ref::<Amount>(), value.is_undefined()) {
        (Some(amount), _) => Ok(format::money(amount.minor, &amount.currency, locale)),
        (None, true) => Err(Error::from(ErrorKind::UndefinedError)),
        (None, false) => Err(refused("not an amount")),
    });
    env.add_filter("number", move |value: &Jinja, digits: Option<u32>| {
        let value = millionths(value)?;
        Ok::<_, Error>(digits.map_or_else(|| format::number(value, locale), |digits| format::rounded(value, digits, locale)))
    });
    env.add_filter("percent", move |value: &Jinja| Ok::<_, Error>(format!("{}%", format::number(millionths(value)?, locale))));
    let in_zone = zone.clone();
    env.add_filter("date", move |value: &Jinja, format: Option<String>| {
        let shown = if let Some(moment) = value.downcast_object_ref::<Moment>() {
            format::day(moment.0, &in_zone, format.as_deref(), locale)
        } else if let Some(day) = value.downcast_object_ref::<Day>() {
            format::date(day.0, format.as_deref(), locale)
        } else if value.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        } else {
            return Err(refused("not a day"));
        };
        shown.ok_or_else(|| refused("not a format of a day"))
    });
    let in_zone = zone.clone();
    env.add_filter("time", move |value: &Jinja, format: Option<String>| {
        match (value.downcast_object_ref::<Moment>(), value.is_undefined()) {
            (Some(moment), _) => {
                format::time(moment.0, &in_zone, format.as_deref(), locale).ok_or_else(|| refused("not a format of a time"))
            }
            (None, true) => Err(Error::from(ErrorKind::UndefinedError)),
            (None, false) => Err(refused("not a time")),
        }
    });
}

// Joins nested in joins multiply; fuel does not see it.
fn join(value: &Jinja, separator: &str) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let mut joined = String::new();
    for (at, item) in value.try_iter()?.enumerate() {
        if at > 0 {
            joined.push_str(separator);
        }
        if item.is_undefined() || item.is_none() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        joined.push_str(&item.to_string());
        if joined.len() > MAX_JOINED {
            return Err(refused(TOO_MUCH));
        }
    }
    Ok(joined)
}

fn truncate(text: &str, length: Option<u32>, end: Option<&str>) -> String {
    let (length, end) = (length.unwrap_or(255) as usize, end.unwrap_or("…"));
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    format!("{}{end}", kept.trim_end())
}

fn add_functions(env: &mut Environment<'static>, links: &Links, policy: &Policy) {
    let unsubscribe = links.unsubscribe_url.clone();
    env.add_function(
        "unsubscribe_url",
        move || {
            if unsubscribe.is_empty() { Err(absent("unsubscribe_url()")) } else { Ok(unsubscribe.clone()) }
        },
    );
    let restore = links.restore_url.clone().or_else(|| policy.restore_url.clone());
    env.add_function("cart_url", move |key: String| {
        let restore = restore.as_deref().ok_or_else(|| absent("policy.restore_url"))?;
        let join = if restore.contains('?') { '&' } else { '?' };
        Ok::<_, Error>(format!("{restore}{join}cart={}", percent_encoded(&key)))
    });
    let product = links.product_url.clone().or_else(|| policy.product_url.clone());
    env.add_function("product_url", move |line: &Jinja| {
        let of = |name| line.get_attr(name).ok().and_then(|value| value.as_str().map(str::to_owned)).filter(|text| !text.is_empty());
        if let Some(url) = of("url") {
            return Ok(url);
        }
        let prefix = product.as_deref().ok_or_else(|| absent("policy.product_url"))?;
        let id = of("product_id").ok_or_else(|| absent("product_id"))?;
        Ok(format!("{prefix}{}", percent_encoded(&id)))
    });
    let address = policy.postal_address.clone();
    env.add_function("postal_address", move |_: Rest<Jinja>| address.clone().ok_or_else(|| absent("policy.postal_address")));
}

fn percent_encoded(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 15)])]);
        }
    }
    out
}

fn jinja(value: &Value, currency: &str) -> Jinja {
    match value {
        Value::Bool(b) => Jinja::from(*b),
        Value::Int(i) => Jinja::from(*i),
        // A whole number is one to `>` and `==` as well.
        Value::Decimal(d) if d % 1_000_000 == 0 => Jinja::from(d / 1_000_000),
        Value::Decimal(d) => Jinja::from_object(Decimal(*d)),
        Value::Text(t) => Jinja::from(t.as_str()),
        Value::Money(minor) => Jinja::from_object(Amount { minor: *minor, currency: currency.to_owned() }),
        Value::Amount { minor, currency } => Jinja::from_object(Amount { minor: *minor, currency: currency.clone() }),
        Value::Time(t) => Jinja::from_object(Moment(*t)),
        Value::Date(d) => Jinja::from_object(Day(*d)),
        Value::List(items) => items.iter().map(|item| jinja(item, currency)).collect(),
        Value::Object(entries) => Jinja::from_pairs(entries.iter().map(|(name, value)| (name.as_str(), jinja(value, currency)))),
    }
}

macro_rules! plain {
    ($name:ty, |$this:ident, $other:ident| $compare:expr, $show:expr) => {
        impl Object for $name {
            fn repr(self: &Arc<Self>) -> ObjectRepr {
                ObjectRepr::Plain
            }

            fn custom_cmp(self: &Arc<Self>, other: &minijinja::value::DynObject) -> Option<std::cmp::Ordering> {
                let ($this, $other) = (self, other.downcast_ref::<Self>()?);
                $compare
            }

            fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let show: fn(&Self) -> String = $show;
                f.write_str(&show(self))
            }
        }
    };
}

plain!(Amount, |this, other| (this.currency == other.currency).then(|| this.minor.cmp(&other.minor)), |amount| {
    waypost_types::Currency::parse(&amount.currency)
        .map_or_else(|| format!("{} {}", amount.minor, amount.currency), |currency| currency.format(amount.minor))
});
plain!(Moment, |this, other| Some(this.0.cmp(&other.0)), |moment| moment.0.to_string());
plain!(Day, |this, other| Some(this.0.cmp(&other.0)), |day| format::date(day.0, Some("%Y-%m-%d"), format::locale(None))
    .unwrap_or_else(|| day.0.to_string()));
plain!(Decimal, |this, other| Some(this.0.cmp(&other.0)), |decimal| format::number(i128::from(decimal.0), format::locale(None))
    .replace(',', ""));

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT {
            self.full = true;
            return Err(io::Error::other("output is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renderer")
    }
}
