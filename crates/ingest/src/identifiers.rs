//! Identifiers (PRODUCT §5.2): one normalised form per class, and what may not name a person.

use waypost_types::IdentifierClass;

use crate::normalise::text;

pub(crate) mod phone;

/// What may not name a person, whatever its class, in lower case.
const BLOCKED: [&str; 17] = [
    "null",
    "undefined",
    "none",
    "nil",
    "nan",
    "n/a",
    "unknown",
    "anonymous",
    "guest",
    "test",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "[object object]",
    "test@test.com",
];

/// Why a value is no identifier of its class, or is not taken as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// On the block list.
    Blocked,
    /// Not of this class's form.
    Invalid,
    /// A custom one of a name that the workspace's policy does not declare.
    Undeclared,
    /// One more than an event may have.
    TooMany,
}

// === impl Refused ===

impl Refused {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "IDENTIFIER_BLOCKED",
            Self::Invalid => "IDENTIFIER_INVALID",
            Self::Undeclared => "IDENTIFIER_UNDECLARED",
            Self::TooMany => "IDENTIFIER_TOO_MANY",
        }
    }
}

/// The one form of `value` in `class`; a national phone number is one of `country`.
pub(crate) fn normalise(class: IdentifierClass, value: &str, country: Option<phone::Country>) -> Result<String, Refused> {
    let value = text::clean(value);
    if blocked(&value) {
        return Err(Refused::Blocked);
    }
    let normal = match class {
        IdentifierClass::UserId | IdentifierClass::Device | IdentifierClass::Anonymous | IdentifierClass::Custom => value,
        IdentifierClass::Email => email(&value)?,
        IdentifierClass::Phone => phone::normalise(&value, country)?,
    };
    let longest = if class == IdentifierClass::Email { 254 } else { 128 };
    if normal.len() > longest { Err(Refused::Invalid) } else { Ok(normal) }
}

/// The one form of `value` in `class`, as every door makes it where no country is known; none if it may not name a
/// person.
pub fn identifier(class: IdentifierClass, value: &str) -> Option<String> {
    normalise(class, value, None).ok()
}

fn blocked(value: &str) -> bool {
    let lower = value.to_lowercase();
    let mut rest = lower.chars().filter(|c| *c != '-');
    let Some(first) = rest.next() else { return true };
    let (mut length, mut same) = (1, true);
    for c in rest {
        length += 1;
        same &= c == first;
    }
    let repeated = same && (first == '0' || length >= 3);
    repeated || BLOCKED.contains(&lower.as_str())
}

fn email(value: &str) -> Result<String, Refused> {
    let lower = value.to_lowercase();
    let (local, domain) = lower.split_once('@').ok_or(Refused::Invalid)?;
    let bad = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '@' | '<' | '>' | '(' | ')' | ',' | ';' | ':' | '\\' | '"' | '[' | ']')
    };
    if local.is_empty() || local.len() > 64 || local.contains(bad) || local.starts_with('.') || local.ends_with('.') {
        return Err(Refused::Invalid);
    }
    let domain = idna::domain_to_ascii(domain).map_err(|_| Refused::Invalid)?;
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let mut labels = domain.split('.').rev();
    let top = labels.next().unwrap_or_default();
    let second = labels.next().unwrap_or_default();
    if !domain.contains('.') || !domain.split('.').all(label) || top.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refused::Invalid);
    }
    let reserved = matches!(top, "test" | "invalid" | "localhost") || (second == "example" && matches!(top, "com" | "net" | "org"));
    if reserved || matches!(local, "noreply" | "no-reply" | "postmaster") {
        return Err(Refused::Blocked);
    }
    Ok(format!("{local}@{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_one_form() {
        use IdentifierClass::{Anonymous, Custom, Email, Phone, UserId};
        for (class, from, to) in [
            (Custom, " LC-77 ", "LC-77"),
            (UserId, " U-17 ", "U-17"),
            (UserId, "42", "42"),
            (Email, " Ana.Maria+x@Shop.Example ", "ana.maria+x@shop.example"),
            (Email, "info@bücher.example", "info@xn--bcher-kva.example"),
            (Phone, "+49 (170) 123-4567", "+491701234567"),
            (Anonymous, "c0ffee", "c0ffee"),
            (Anonymous, "cafe\u{301}", "caf\u{e9}"),
        ] {
            assert_eq!(normalise(class, from, None).as_deref(), Ok(to), "{from}");
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        use IdentifierClass::{Anonymous, Custom, Email, Phone, UserId};
        use Refused::{Blocked, Invalid};
        for (class, value, why) in [
            (Custom, " N/A ", Blocked),
            (Custom, "0000", Blocked),
            (UserId, "", Blocked),
            (UserId, " null ", Blocked),
            (UserId, "Guest", Blocked),
            (UserId, "-1", Blocked),
            (UserId, "00", Blocked),
            (UserId, "aaaa", Blocked),
            (Anonymous, "00000000-0000-0000-0000-000000000000", Blocked),
            (Anonymous, "---", Blocked),
            (Email, "test@test.com", Blocked),
            (Email, "a@shop.test", Blocked),
            (Email, "a@example.com", Blocked),
            (Email, "noreply@shop.example", Blocked),
            (Email, "nobody", Invalid),
            (Email, "a@b", Invalid),
            (Email, "a@b@shop.example", Invalid),
            (Email, "a b@shop.example", Invalid),
            (Email, "a\r\nb@shop example", Invalid),
            (Email, "a@shop..example", Invalid),
            (Email, "a@127.0.0.1", Invalid),
            (Email, "<a@shop.example>", Invalid),
            (Phone, "0170 1234567", Invalid),
            (Phone, "000", Blocked),
        ] {
            assert_eq!(normalise(class, value, None), Err(why), "{value}");
        }
        assert_eq!(normalise(UserId, &"ab".repeat(65), None), Err(Invalid));
        assert_eq!(normalise(Custom, &"ab".repeat(65), None), Err(Invalid));
        assert!(normalise(Custom, &"ab".repeat(64), None).is_ok());
    }
}
