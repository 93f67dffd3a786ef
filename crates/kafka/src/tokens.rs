//! Bearer tokens for brokers (OAUTHBEARER), and the file in which somebody renews one.

use std::{error::Error, fmt, fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use waypost_types::Timestamp;

use crate::connection::Identity;

/// A token, and what a client has to know of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token itself.
    pub value: String,
    /// Until when it is good; a client asks for the next one when four fifths of the time have passed.
    pub expires: Timestamp,
    /// Whom it speaks of, for the client's log.
    pub principal: String,
}

/// Where tokens come from. It is called on clients' threads, so a call may take a moment, but not long.
pub trait Tokens: Send + Sync {
    /// A token that is good now.
    ///
    /// # Errors
    /// Why there is none, without a secret.
    fn token(&self) -> Result<Token, String>;
}

/// A file with a JSON web token that somebody renews, such as a projected service account token. Brokers judge the token;
/// here only its end is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFile(
    /// Which.
    pub PathBuf,
);

#[derive(Deserialize)]
struct Claims {
    exp: i64,
    #[serde(default)]
    sub: String,
}

impl Tokens for TokenFile {
    fn token(&self) -> Result<Token, String> {
        let path = self.0.display();
        let text = fs::read_to_string(&self.0).map_err(|error| format!("kafka.token_file: cannot read {path}: {error}"))?;
        let value = text.trim().to_owned();
        let claims = value.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        // the error's text could repeat a part of it
        let claims = claims.and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
        let Claims { exp, sub } = claims.ok_or_else(|| format!("kafka.token_file: {path} holds no JSON web token with an `exp`"))?;
        Ok(Token { value, expires: Timestamp::from_millis(exp.saturating_mul(1000)), principal: sub })
    }
}

/// For librdkafka.
pub(crate) fn token_for(identity: &Identity) -> Result<OAuthToken, Box<dyn Error>> {
    let Token { value, expires, principal } = identity.token()?;
    Ok(OAuthToken { token: value, lifetime_ms: expires.millis(), principal_name: principal })
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires", &self.expires).field("principal", &self.principal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Token, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, text).unwrap();
        TokenFile(file).token()
    }

    #[test]
    fn the_end_of_a_token_is_read_from_it() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub": "waypost", "exp": 1893456000, "aud": ["kafka"]}"#);
        let text = format!("header.{payload}.signature");
        let token = of(&format!("{text}\n")).unwrap();
        assert_eq!(token.expires.millis(), 1_893_456_000_000);
        assert_eq!((token.value.as_str(), token.principal.as_str()), (text.as_str(), "waypost"));
        assert!(!format!("{token:?}").contains("signature"));
    }

    #[test]
    fn what_is_none_is_refused_without_repeating_it() {
        let endless = format!("h.{}.s", URL_SAFE_NO_PAD.encode(r#"{"sub": "canary"}"#));
        for text in ["canary", "canary.canary.canary", &endless, ""] {
            let refusal = of(text).unwrap_err();
            assert!(refusal.contains("kafka.token_file") && !refusal.contains("canary"), "{refusal}");
        }
        let refusal = TokenFile("/nowhere/token".into()).token().unwrap_err();
        assert!(refusal.starts_with("kafka.token_file: cannot read /nowhere/token"), "{refusal}");
    }
}
