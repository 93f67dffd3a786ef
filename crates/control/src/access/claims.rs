//! Tokens of an issuer (JWT): a signature by one of three algorithms, then who it is for, from whom, and until when.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, crypto};
use serde::Deserialize;
use serde_json::{Map, Value};
use waypost_types::{Span, Timestamp};

use super::keys::Key;

/// No issuer's tokens are longer; it also bounds what is parsed before a signature is checked.
const TOKEN_MAX: usize = 16 << 10;
/// How far the issuer's clock and ours may be apart.
const SKEW: Span = Span::from_secs(60);
/// Longest subject: it is the caller's name in the audit topic, and is never cut.
const SUBJECT_MAX: usize = 256;

/// A token whose signature is still to be checked.
#[derive(Debug)]
pub(crate) struct Signed<'a> {
    /// The name of the key.
    pub(crate) kid: String,
    algorithm: Algorithm,
    message: &'a str,
    claims: &'a str,
    signature: &'a str,
}

/// What tokens must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) claim: String,
}

/// Whom a token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) subject: String,
    pub(crate) values: Vec<String>,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// The algorithms that are believed. Nothing symmetric, and never `none`.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "ES256" => Some(Algorithm::ES256),
        "EdDSA" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

// === impl Signed ===

impl<'a> Signed<'a> {
    /// Takes a token apart; believes nothing of it.
    pub(crate) fn read(token: &'a str) -> Result<Self, &'static str> {
        if token.len() > TOKEN_MAX {
            return Err("the token is longer than any issuer's");
        }
        let mut parts = token.split('.');
        let (Some(head), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err("nobody has this token");
        };
        let message = &token[..head.len() + 1 + claims.len()];
        let head: Head = json(head).ok_or("the token's head cannot be read")?;
        if head.crit.is_some() {
            return Err("the token asks for an extension (`crit`) that nobody here knows");
        }
        let algorithm = algorithm(&head.alg).ok_or("the token's algorithm is none of RS256, ES256 and EdDSA")?;
        let kid = head.kid.filter(|kid| !kid.is_empty()).ok_or("the token does not say which key signed it (`kid`)")?;
        Ok(Self { kid, algorithm, message, claims, signature })
    }

    /// Its claims, if this key signed them, as the key was meant to.
    pub(crate) fn verify(&self, key: &Key) -> Result<Map<String, Value>, &'static str> {
        if key.algorithm != self.algorithm {
            return Err("the token's algorithm is not that of its key");
        }
        let signed = crypto::verify(self.signature, self.message.as_bytes(), &key.key, self.algorithm).unwrap_or(false);
        if !signed {
            return Err("the token's signature is not its issuer's");
        }
        json(self.claims).ok_or("the token's claims cannot be read")
    }
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

// === impl Expected ===

impl Expected {
    /// Whom the claims name, if they are for us, from our issuer, and of now.
    pub(crate) fn judge(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Known, &'static str> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(&*self.issuer) {
            return Err("the token is of another issuer");
        }
        if !values(claims.get("aud")).contains(&self.audience) {
            return Err("the token is for somebody else (`aud`)");
        }
        let instant = |name: &str| claims.get(name).map(|value| seconds(value).ok_or("a time in the token is no number"));
        let expires = instant("exp").ok_or("the token never expires (`exp`)")??;
        if now.since(expires) >= SKEW {
            return Err("the token has expired");
        }
        if let Some(begins) = instant("nbf").transpose()?
            && begins.since(now) > SKEW
        {
            return Err("the token is not valid yet (`nbf`)");
        }
        let subject = text("sub").filter(|sub| !sub.is_empty() && sub.len() <= SUBJECT_MAX && !sub.chars().any(char::is_control));
        let subject = subject.ok_or("the token names nobody (`sub`), or by more than 256 characters")?.to_owned();
        Ok(Known { subject, values: values(self.claim(claims)) })
    }

    /// The claim by its name, else along the dots in it.
    fn claim<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let along = || {
            let mut parts = self.claim.split('.');
            let first = claims.get(parts.next()?)?;
            parts.try_fold(first, |value, part| value.get(part))
        };
        claims.get(&self.claim).or_else(along)
    }
}

fn seconds(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_f64().filter(|seconds| (0.0..1e12).contains(seconds))?;
    #[expect(clippy::cast_possible_truncation, reason = "bounded above, and the part of a second does not matter")]
    let seconds = seconds as i64;
    Some(Timestamp::from_millis(seconds * 1_000))
}

/// A text, or the texts of a list.
fn values(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_774_594_800;

    fn judge(claims: &Value) -> Result<Known, &'static str> {
        let expected = Expected { issuer: "https://id.example".into(), audience: "waypost".into(), claim: "groups".into() };
        expected.judge(claims.as_object().unwrap(), Timestamp::from_millis(NOW * 1_000))
    }

    fn with(changes: &Value) -> Value {
        let mut claims = json!({"iss": "https://id.example", "aud": "waypost", "sub": "ana", "exp": NOW + 600, "groups": ["a", 7, "b"]});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    #[test]
    fn a_token_of_now_for_us_names_somebody() {
        let known = Known { subject: "ana".into(), values: vec!["a".into(), "b".into()] };
        assert_eq!(judge(&with(&json!({}))), Ok(known));
        for good in [
            json!({"aud": ["other", "waypost"]}),
            json!({"exp": NOW - 59}),
            json!({"exp": 1_774_594_900.5}),
            json!({"nbf": NOW + 60}),
            json!({"groups": "a"}),
            json!({"groups": null}),
        ] {
            assert!(judge(&with(&good)).is_ok(), "{good}");
        }
    }

    #[test]
    fn any_other_names_nobody() {
        for (bad, says) in [
            (json!({"iss": "https://id.example/"}), "another issuer"),
            (json!({"iss": null}), "another issuer"),
            (json!({"aud": "waypos"}), "somebody else"),
            (json!({"aud": []}), "somebody else"),
            (json!({"exp": NOW - 60}), "expired"),
            (json!({"exp": "tomorrow"}), "no number"),
            (json!({"exp": 1e300}), "no number"),
            (json!({"nbf": NOW + 61}), "not valid yet"),
            (json!({"nbf": null}), "no number"),
            (json!({"sub": ""}), "names nobody"),
            (json!({"sub": "a\nb"}), "names nobody"),
            (json!({"sub": "x".repeat(257)}), "names nobody"),
        ] {
            let error = judge(&with(&bad)).unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
        let mut endless = with(&json!({}));
        endless.as_object_mut().unwrap().remove("exp");
        assert!(judge(&endless).unwrap_err().contains("never expires"));
    }

    #[test]
    fn a_claim_may_lie_in_another_one() {
        let claims = json!({"realm_access": {"roles": ["a"]}, "x.y": "flat"});
        let find = |claim: &str| {
            let expected = Expected { issuer: String::new(), audience: String::new(), claim: claim.to_owned() };
            values(expected.claim(claims.as_object().unwrap()))
        };
        assert_eq!(find("realm_access.roles"), ["a"]);
        assert_eq!(find("x.y"), ["flat"]);
        assert!(find("realm_access.groups").is_empty() && find("nothing.at.all").is_empty());
    }

    #[test]
    fn what_is_no_token_of_an_issuer_is_refused_before_any_key_is_looked_for() {
        let token = |head: &Value| format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(head.to_string()));
        assert!(Signed::read(&token(&json!({"alg": "RS256", "kid": "k"}))).is_ok());
        for (bad, says) in [
            (token(&json!({"alg": "none", "kid": "k"})), "algorithm"),
            (token(&json!({"alg": "HS256", "kid": "k"})), "algorithm"),
            (token(&json!({"alg": "RS256"})), "kid"),
            (token(&json!({"alg": "RS256", "kid": "k", "crit": ["x"]})), "crit"),
            ("a.b.c".to_owned(), "head"),
            ("a.b".to_owned(), "nobody"),
            ("a.b.c.d".to_owned(), "nobody"),
            ("a.".repeat(TOKEN_MAX), "longer"),
        ] {
            assert!(Signed::read(&bad).unwrap_err().contains(says), "{says}");
        }
    }
}
