//! Values in words, for explain.

use waypost_types::{Currency, Span, Value};

use super::Type;

/// Most characters of a text, and most entries of a list, that are shown.
const SHOWN: usize = 80;
const SHOWN_ENTRIES: usize = 5;

/// A value in words.
pub(super) fn print(value: Option<&Value>, ty: &Type, currency: Currency) -> String {
    let Some(value) = value else { return "unknown".to_owned() };
    match value {
        Value::Bool(b) => if *b { "yes" } else { "no" }.to_owned(),
        Value::Int(ms) if *ty == Type::Duration => Span::from_millis(*ms).to_string(),
        Value::Int(i) => i.to_string(),
        Value::Decimal(millionths) => decimal(*millionths),
        Value::Text(text) => quoted(text),
        Value::Money(minor) => currency.format(*minor),
        Value::Amount { minor, currency } => match Currency::parse(currency) {
            Some(currency) => currency.format(*minor),
            None => format!("{minor} minor units of {}", quoted(currency)),
        },
        Value::Time(t) => t.to_string(),
        Value::Date(day) => date(*day),
        Value::List(items) => {
            let shown: Vec<_> = items.iter().take(SHOWN_ENTRIES).map(|i| print(Some(i), &Type::Any, currency)).collect();
            let more = if items.len() > SHOWN_ENTRIES { format!(", … {} in all", items.len()) } else { String::new() };
            format!("[{}{more}]", shown.join(", "))
        }
        Value::Object(entries) => {
            // An id says more than a count.
            let id = ["cart_id", "order_id", "product_id"].into_iter().find_map(|name| value.get(name));
            match id {
                Some(id) => format!("{{{}, …}}", print(Some(id), &Type::Any, currency)),
                None => format!("{{{} entries}}", entries.len()),
            }
        }
    }
}

/// A text in quotes, shortened.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

fn decimal(millionths: i64) -> String {
    let sign = if millionths < 0 { "-" } else { "" };
    let digits = format!("{:0>7}", millionths.unsigned_abs());
    let (whole, fraction) = digits.split_at(digits.len() - 6);
    let fraction = fraction.trim_end_matches('0');
    format!("{sign}{whole}.{}", if fraction.is_empty() { "0" } else { fraction })
}

fn date(day: i32) -> String {
    let epoch = jiff::civil::Date::constant(1970, 1, 1);
    match epoch.checked_add(jiff::Span::new().days(i64::from(day.clamp(-700_000, 2_900_000)))) {
        Ok(date) => date.to_string(),
        Err(_) => format!("day {day}"),
    }
}
