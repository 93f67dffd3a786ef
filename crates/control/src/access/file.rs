//! The access file: which token, certificate or claim has which roles where. Read strictly; no error repeats a value that
//! could be a secret.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::{
    caller::{Caller, Grant, How, Workspaces},
    role::Role,
    token,
};

/// Names in it are no longer than this.
const NAME_MAX: usize = 256;

/// The file, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    tokens: Vec<(token::Hash, String, Grant)>,
    certificates: Vec<(String, Grant)>,
    claims: Vec<(String, Grant)>,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub(crate) struct FileError {
    pub(crate) line: usize,
    pub(crate) message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<TokenEntry>,
    #[serde(default)]
    certificate: Vec<CertificateEntry>,
    #[serde(default)]
    claim: Vec<ClaimEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: Spanned<String>,
    hash: Spanned<HexHash>,
    roles: Spanned<BTreeSet<Role>>,
    workspaces: Spanned<BTreeSet<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
    san: Spanned<String>,
    roles: Spanned<BTreeSet<Role>>,
    workspaces: Spanned<BTreeSet<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimEntry {
    value: Spanned<String>,
    roles: Spanned<BTreeSet<Role>>,
    workspaces: Spanned<BTreeSet<String>>,
}

struct HexHash(token::Hash);

// === impl HexHash ===

impl<'de> Deserialize<'de> for HexHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || de::Error::custom("hash must be the 64 hex digits of the token's SHA-256, as `waypost token` writes them");
        let bytes = hex::decode(String::deserialize(deserializer).map_err(|_| wrong())?).map_err(|_| wrong())?;
        bytes.try_into().map(Self).map_err(|_| wrong())
    }
}

// === impl Granted ===

impl Granted {
    /// Reads a file's text.
    ///
    /// # Errors
    /// [`FileError`], the first thing that is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, FileError> {
        let file: File = toml::from_str(text).map_err(|e| error(text, e.span().map_or(0, |span| span.start), e.message()))?;
        let mut granted = Self::default();
        for entry in file.token {
            let grant = grant(text, &entry.roles, entry.workspaces)?;
            let (at, name) = (entry.name.span().start, checked(text, "name", entry.name)?);
            if granted.tokens.iter().any(|(_, other, _)| *other == name) {
                return Err(error(
                    text,
                    at,
                    &format!("there are two tokens `{name}`: give each its own name, the audit topic names callers by it"),
                ));
            }
            let (at, HexHash(hash)) = (entry.hash.span().start, entry.hash.into_inner());
            if granted.tokens.iter().any(|(other, ..)| token::same(other, &hash)) {
                return Err(error(text, at, "another token has this hash: `waypost token` makes a new one"));
            }
            granted.tokens.push((hash, name, grant));
        }
        for entry in file.certificate {
            let grant = grant(text, &entry.roles, entry.workspaces)?;
            granted.certificates.push((checked(text, "san", entry.san)?, grant));
        }
        for entry in file.claim {
            let grant = grant(text, &entry.roles, entry.workspaces)?;
            granted.claims.push((checked(text, "value", entry.value)?, grant));
        }
        Ok(granted)
    }

    /// Whose static token this is; looks at all of them, in a time that does not tell which one came close.
    pub(crate) fn token(&self, presented: &str) -> Option<Caller> {
        let hash = token::hash(presented);
        let mut found = None;
        for (known, name, grant) in &self.tokens {
            if token::same(known, &hash) {
                found = Some((name, grant));
            }
        }
        found.map(|(name, grant)| Caller::new(name, How::Token, vec![grant.clone()]))
    }

    /// What a certificate of this name was granted.
    pub(crate) fn certificate(&self, san: &str) -> Vec<Grant> {
        self.certificates.iter().filter(|(name, _)| name == san).map(|(_, grant)| grant.clone()).collect()
    }

    /// What these values of the claim were granted.
    #[cfg_attr(not(any(feature = "tls", test)), expect(dead_code, reason = "without an issuer there are no claims"))]
    pub(crate) fn claims(&self, values: &[String]) -> Vec<Grant> {
        self.claims.iter().filter(|(value, _)| values.contains(value)).map(|(_, grant)| grant.clone()).collect()
    }

    /// How many of each, for the log.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.tokens.len(), self.certificates.len(), self.claims.len())
    }
}

fn grant(text: &str, roles: &Spanned<BTreeSet<Role>>, workspaces: Spanned<BTreeSet<String>>) -> Result<Grant, FileError> {
    let at = workspaces.span().start;
    let names = workspaces.into_inner();
    if roles.get_ref().is_empty() {
        let all = Role::ALL.map(Role::as_str).join(", ");
        return Err(error(text, roles.span().start, &format!("roles is empty: name at least one of {all}")));
    }
    if names.is_empty() || names.contains("") {
        return Err(error(text, at, "workspaces names none: write their names, or [\"*\"] for all"));
    }
    if names.contains("*") && names.len() > 1 {
        return Err(error(text, at, "workspaces names `*` beside others: `*` is all of them, write it alone"));
    }
    let workspaces = if names.contains("*") { Workspaces::All } else { Workspaces::Named(names) };
    Ok(Grant { roles: roles.get_ref().clone(), workspaces })
}

fn checked(text: &str, what: &str, name: Spanned<String>) -> Result<String, FileError> {
    let at = name.span().start;
    let name = name.into_inner();
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(error(text, at, &format!("{what} must have 1 to {NAME_MAX} characters, and no control characters")));
    }
    Ok(name)
}

fn error(text: &str, at: usize, message: &str) -> FileError {
    let before = text.as_bytes().get(..at.min(text.len())).unwrap_or_default();
    FileError { line: before.split(|byte| *byte == b'\n').count(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[[token]]
name = "ci"
hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
roles = ["publisher", "operator"]
workspaces = ["shop"]

[[certificate]]
san = "spiffe://cluster/ns/shop/sa/marketing"
roles = ["editor"]
workspaces = ["shop"]

[[claim]]
value = "waypost-admins"
roles = ["admin"]
workspaces = ["*"]
"#;

    #[test]
    fn a_token_is_known_by_its_hash() {
        let granted = Granted::parse(GOOD).unwrap();
        assert_eq!(granted.counts(), (1, 1, 1));
        let ci = granted.token("test").unwrap();
        assert_eq!((ci.name(), ci.how()), ("ci", How::Token));
        assert_eq!(ci.grants()[0].roles, BTreeSet::from([Role::Publisher, Role::Operator]));
        for other in ["", "tes", "test ", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"] {
            assert_eq!(granted.token(other), None, "{other}");
        }
        assert_eq!(granted.certificate("spiffe://cluster/ns/shop/sa/marketing").len(), 1);
        assert!(granted.certificate("spiffe://cluster/ns/shop/sa/marketin").is_empty());
        assert_eq!(granted.claims(&["x".to_owned(), "waypost-admins".to_owned()]), [Grant::all()]);
        assert!(granted.claims(&[]).is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_to_write() {
        let twice = format!("{GOOD}{}", GOOD.replace("name = \"ci\"", "name = \"cd\""));
        for (text, line, says) in [
            (GOOD.replace("name =", "nmae ="), 3, "unknown field `nmae`, expected one of `name`, `hash`, `roles`, `workspaces`"),
            (GOOD.replace("[[claim]]", "[[claims]]"), 13, "unknown field `claims`"),
            (GOOD.replace("\"editor\"", "\"boss\""), 10, "unknown variant `boss`, expected one of `viewer`, `editor`"),
            (GOOD.replace("f00a08", "f00a"), 4, "64 hex digits"),
            (GOOD.replace("9f86", "zzzz"), 4, "64 hex digits"),
            (GOOD.replace("\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"", "12"), 4, "64 hex digits"),
            (GOOD.replace("[\"admin\"]", "[]"), 15, "roles is empty"),
            (GOOD.replace("[\"*\"]", "[]"), 16, "workspaces names none"),
            (GOOD.replace("[\"*\"]", "[\"*\", \"shop\"]"), 16, "write it alone"),
            (GOOD.replace("san = \"spiffe://cluster/ns/shop/sa/marketing\"", "san = \"\""), 9, "1 to 256"),
            (format!("{GOOD}{GOOD}"), 19, "two tokens `ci`"),
            (twice, 20, "another token has this hash"),
            (GOOD.replace("roles = [\"admin\"]\n", ""), 13, "missing field `roles`"),
            ("[[token]".to_owned(), 1, ""),
        ] {
            let error = Granted::parse(&text).unwrap_err();
            assert!(error.line == line && error.message.contains(says), "wanted line {line}, `{says}`: {error}");
        }
    }

    #[test]
    fn a_token_that_was_written_for_its_hash_is_not_repeated() {
        let error = Granted::parse(&GOOD.replace("9f86d081", "wpt_5ec7e7")).unwrap_err();
        assert!(!error.to_string().contains("5ec7e7"), "{error}");
    }
}
