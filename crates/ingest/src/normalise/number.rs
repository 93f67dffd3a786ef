//! Numbers, read from their text and never through a float.

use waypost_types::Value;

/// A 64-bit integer, or a decimal of at most 18 digits in millionths (more digits are rounded half to even).
pub(crate) fn number(text: &str) -> Option<Value> {
    let plain = plain(text)?;
    if let Ok(integer) = plain.parse::<i64>() {
        return Some(Value::Int(integer));
    }
    let (whole, fraction) = plain.split_once('.')?;
    if whole.trim_start_matches(['-', '0']).len() + fraction.len() > 18 {
        return None;
    }
    let kept = &fraction[..fraction.len().min(6)];
    let rest = &fraction[kept.len()..];
    let digits = whole.trim_start_matches('-');
    let mut millionths: i64 = format!("{digits}{kept:0<6}").parse().ok()?;
    let up = match rest.as_bytes().first() {
        Some(b'6'..=b'9') => true,
        Some(b'5') => millionths % 2 != 0 || rest[1..].bytes().any(|b| b != b'0'),
        _ => false,
    };
    millionths = millionths.checked_add(i64::from(up))?;
    Some(Value::Decimal(if whole.starts_with('-') { -millionths } else { millionths }))
}

/// A 64-bit integer; `2.0` is one.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let plain = plain(text)?;
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    fraction.bytes().all(|b| b == b'0').then(|| whole.parse().ok())?
}

/// Digits without exponent: `6e1` is `60`.
pub(crate) fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let (sign, unsigned) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !digits(whole)
        || !digits(fraction)
        || whole.len() + fraction.len() > 40
        || exponent.abs() > 40
    {
        return None;
    }
    let all = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let (whole, fraction) = match usize::try_from(point) {
        Ok(point) if point >= all.len() => (format!("{all}{}", "0".repeat(point - all.len())), String::new()),
        Ok(point) => (all[..point].to_owned(), all[point..].to_owned()),
        Err(_) => (String::new(), format!("{}{all}", "0".repeat(usize::try_from(-point).ok()?))),
    };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_from_their_text() {
        for (text, value) in [
            ("0", Value::Int(0)),
            ("-17", Value::Int(-17)),
            (" 42 ", Value::Int(42)),
            ("9007199254740993", Value::Int(9_007_199_254_740_993)),
            ("1e3", Value::Int(1_000)),
            ("0.1", Value::Decimal(100_000)),
            ("-0.5", Value::Decimal(-500_000)),
            ("1.5E-1", Value::Decimal(150_000)),
            ("60.00", Value::Decimal(60_000_000)),
            ("0.0000005", Value::Decimal(0)),
            ("0.0000015", Value::Decimal(2)),
            ("0.00000051", Value::Decimal(1)),
        ] {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for text in
            ["", ".", "-", "1,5", "abc", "NaN", "1e999999999", "99999999999999999999", "0.1234567890123456789", "1.2.3", "0x10", "+1", "1e"]
        {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn whole_numbers_may_have_a_point() {
        assert_eq!(integer("2.0"), Some(2));
        assert_eq!(integer("2.5"), None);
        assert_eq!(integer("1e2"), Some(100));
    }
}
