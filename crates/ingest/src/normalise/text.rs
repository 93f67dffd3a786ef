//! Text, links and truth values.

use unicode_normalization::{UnicodeNormalization as _, is_nfc};

/// Texts longer than this are left out.
const LONGEST: usize = 1_024;
const LONGEST_URL: usize = 2_048;

/// NFC, without control characters, trimmed.
pub(crate) fn clean(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    let normal = if is_nfc(&plain) { plain } else { plain.nfc().collect() };
    normal.trim().to_owned()
}

/// A text property; none if it is too long.
pub(crate) fn text(value: &str) -> Option<String> {
    let clean = clean(value);
    (clean.len() <= LONGEST).then_some(clean)
}

/// An http(s) link.
pub(crate) fn url(value: &str) -> Option<String> {
    let clean = clean(value);
    let rest = strip(&clean, "https://").or_else(|| strip(&clean, "http://"))?;
    let plausible = clean.len() <= LONGEST_URL && !rest.is_empty() && !rest.starts_with('/') && !clean.contains(char::is_whitespace);
    plausible.then_some(clean)
}

fn strip<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// A truth value in words or digits.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_trimmed_composed_and_without_control_characters() {
        assert_eq!(clean(" a\u{0}\r\nb \u{7f}"), "ab");
        assert_eq!(clean("e\u{301}"), "\u{e9}");
        assert_eq!(text(&"x".repeat(1_025)), None);
    }

    #[test]
    fn links_are_http() {
        for good in ["https://shop.example/a?b=c", "HTTP://shop.example"] {
            assert!(url(good).is_some(), "{good}");
        }
        for bad in ["javascript:alert(1)", "https://", "https:///x", "shop.example", "https://a b", "ftp://shop.example", "é"] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }
}
