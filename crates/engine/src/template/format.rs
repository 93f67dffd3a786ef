//! How amounts, numbers and times are written for a person: by language, in their zone. Never a float.

use waypost_types::{Currency, Timestamp};

/// How one language writes numbers and days.
#[derive(Clone, Copy, Debug)]
pub(super) struct Locale {
    decimal: char,
    group: &'static str,
    // Whether the sign of a currency stands before the number.
    sign_first: bool,
    date: &'static str,
    time: &'static str,
}

const ENGLISH: Locale = Locale { decimal: '.', group: ",", sign_first: true, date: "%-d %B %Y", time: "%H:%M" };

/// The rules of a language tag (`de`, `de-AT`); of an unknown language, or none: English.
pub(super) fn locale(tag: Option<&str>) -> Locale {
    let tag = tag.unwrap_or("en").to_ascii_lowercase().replace('_', "-");
    let language = tag.split('-').next().unwrap_or("en");
    match language {
        "de" | "da" | "fi" | "nb" | "no" => Locale { decimal: ',', group: ".", sign_first: false, date: "%d.%m.%Y", ..ENGLISH },
        "fr" => Locale { decimal: ',', group: "\u{202f}", sign_first: false, date: "%d/%m/%Y", ..ENGLISH },
        "es" | "it" | "pt" => Locale { decimal: ',', group: ".", sign_first: false, date: "%d/%m/%Y", ..ENGLISH },
        "nl" => Locale { decimal: ',', group: ".", sign_first: true, date: "%d-%m-%Y", ..ENGLISH },
        "pl" | "cs" | "sv" => Locale { decimal: ',', group: "\u{a0}", sign_first: false, date: "%d.%m.%Y", ..ENGLISH },
        _ if tag == "en-us" => Locale { date: "%B %-d, %Y", time: "%-I:%M %p", ..ENGLISH },
        _ => ENGLISH,
    }
}

/// `€1,250.00`, `1.250,00 €`, `60.00 CHF`.
pub(super) fn money(minor: i64, currency: &str, locale: Locale) -> String {
    let Some(known) = Currency::parse(currency) else { return format!("{minor} {currency}") };
    let number = scaled(i128::from(minor), known.minor_digits() as usize, locale);
    let sign = match known.as_str() {
        "EUR" => "€",
        "USD" => "$",
        "GBP" => "£",
        "JPY" => "¥",
        "INR" => "₹",
        code => return format!("{number}\u{a0}{code}"),
    };
    match (locale.sign_first, number.strip_prefix('-')) {
        (true, Some(rest)) => format!("-{sign}{rest}"),
        (true, None) => format!("{sign}{number}"),
        (false, _) => format!("{number}\u{a0}{sign}"),
    }
}

/// `1,250` or `12.5`: millionths without surplus zeros.
pub(super) fn number(millionths: i128, locale: Locale) -> String {
    let text = scaled(millionths, 6, locale);
    text.trim_end_matches('0').trim_end_matches(locale.decimal).to_owned()
}

/// Digits behind the point, rounded half away from zero.
pub(super) fn rounded(millionths: i128, digits: u32, locale: Locale) -> String {
    let digits = digits.min(6);
    let unit = 10_i128.pow(6 - digits);
    let half = if millionths < 0 { -(unit / 2) } else { unit / 2 };
    scaled((millionths + half) / unit, digits as usize, locale)
}

fn scaled(number: i128, digits: usize, locale: Locale) -> String {
    let plain = format!("{:0>width$}", number.unsigned_abs(), width = digits + 1);
    let (whole, fraction) = plain.split_at(plain.len() - digits);
    let mut out = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push_str(locale.group);
        }
        out.push(digit);
    }
    if digits > 0 {
        out.push(locale.decimal);
        out.push_str(fraction);
    }
    out
}

/// The day of an instant in a zone; none for an instant out of range or a format that is none.
pub(super) fn day(instant: Timestamp, zone: &jiff::tz::TimeZone, format: Option<&str>, locale: Locale) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(instant.millis()).ok()?.to_zoned(zone.clone());
    jiff::fmt::strtime::format(format.unwrap_or(locale.date), &at).ok()
}

/// A calendar day.
pub(super) fn date(days: i32, format: Option<&str>, locale: Locale) -> Option<String> {
    let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().try_days(days).ok()?).ok()?;
    jiff::fmt::strtime::format(format.unwrap_or(locale.date), date).ok()
}

/// The time of day of an instant in a zone.
pub(super) fn time(instant: Timestamp, zone: &jiff::tz::TimeZone, format: Option<&str>, locale: Locale) -> Option<String> {
    day(instant, zone, Some(format.unwrap_or(locale.time)), locale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_follows_the_language() {
        for (tag, minor, currency, shown) in [
            (None, 6_000, "EUR", "€60.00"),
            (Some("en"), 125_000_000, "USD", "$1,250,000.00"),
            (Some("en"), -5, "GBP", "-£0.05"),
            (Some("de-AT"), 125_000, "EUR", "1.250,00\u{a0}€"),
            (Some("fr"), 125_000, "CHF", "1\u{202f}250,00\u{a0}CHF"),
            (Some("ja"), 1_250, "JPY", "¥1,250"),
            (None, 1_500, "KWD", "1.500\u{a0}KWD"),
            (None, i64::MIN, "EUR", "-€92,233,720,368,547,758.08"),
            (None, 5, "???", "5 ???"),
        ] {
            assert_eq!(money(minor, currency, locale(tag)), shown);
        }
    }

    #[test]
    fn numbers_keep_no_surplus_zeros() {
        assert_eq!(number(12_500_000, locale(None)), "12.5");
        assert_eq!(number(1_000_000_000, locale(Some("de"))), "1.000");
        assert_eq!(number(0, locale(None)), "0");
        assert_eq!(rounded(12_345_678, 2, locale(None)), "12.35");
        assert_eq!(rounded(-500_000, 0, locale(None)), "-1");
    }

    #[test]
    fn days_and_times_follow_zone_and_language() {
        let zone = jiff::tz::TimeZone::get("Europe/Berlin").expect("bundled");
        let at = Timestamp::from_millis(1_767_222_000_000);
        assert_eq!(day(at, &zone, None, locale(None)).as_deref(), Some("1 January 2026"));
        assert_eq!(day(at, &zone, None, locale(Some("de"))).as_deref(), Some("01.01.2026"));
        assert_eq!(time(at, &zone, None, locale(Some("en-US"))).as_deref(), Some("12:00 AM"));
        assert_eq!(date(1, Some("%Y-%m-%d"), locale(None)).as_deref(), Some("1970-01-02"));
        assert_eq!(day(at, &zone, Some("%Q%"), locale(None)), None);
        assert_eq!(day(Timestamp::MAX, &zone, None, locale(None)), None);
    }
}
