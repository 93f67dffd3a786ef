//! Finds out who calls, from what a request brings.

use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::sync::Arc;

#[cfg(feature = "tls")]
use waypost_runtime::ports::Clock;

use super::{
    caller::{Caller, How},
    file::Granted,
};
#[cfg(feature = "tls")]
use super::{
    claims::{self, Expected},
    keys::{KeyCache, Keys},
};
use crate::{
    reread::{Content, Reread},
    status::Refusal,
};

/// Knows callers: by the access file, an issuer, or both.
#[derive(Debug)]
pub struct Authority {
    granted: Option<Reread<Granted>>,
    #[cfg(feature = "tls")]
    issuer: Option<(KeyCache, Expected)>,
}

/// Where callers are known from.
#[derive(Debug, Default)]
pub struct AuthoritySettings {
    /// The access file; without one nobody has a role.
    pub access_file: Option<PathBuf>,
    /// The issuer of tokens.
    #[cfg(feature = "tls")]
    pub issuer: Option<Issuer>,
}

/// An `OpenID` Connect issuer.
#[cfg(feature = "tls")]
pub struct Issuer {
    /// As tokens name it.
    pub name: String,
    /// For whom tokens must be.
    pub audience: String,
    /// The claim whose values the access file gives roles to; a path with dots where it lies in another one.
    pub claim: String,
    /// Its keys.
    pub keys: Arc<dyn Keys>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// What a request brings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presented {
    /// The value of `authorization`; empty where it cannot be read or stands there twice.
    pub(crate) authorization: Option<String>,
    /// The client certificate's name, checked by the TLS handshake.
    pub(crate) certificate: Option<Result<String, &'static str>>,
}

// === impl AuthoritySettings ===

impl AuthoritySettings {
    /// An access file, and no issuer.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            access_file: Some(path.into()),
            #[cfg(feature = "tls")]
            issuer: None,
        }
    }
}

// === impl Issuer ===

#[cfg(feature = "tls")]
impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name).field("audience", &self.audience).finish_non_exhaustive()
    }
}

// === impl Authority ===

impl Authority {
    /// Reads the access file for the first time.
    ///
    /// # Errors
    /// What is wrong with the access file.
    pub fn open(settings: AuthoritySettings) -> Result<Self, String> {
        let parse = |contents: &[Content]| {
            let text = contents.first().and_then(|bytes| str::from_utf8(bytes).ok()).ok_or("it is no text")?;
            Granted::parse(text).map_err(|e| e.to_string())
        };
        let granted = settings.access_file.map(|path| Reread::open("control.access_file", vec![path], parse)).transpose()?;
        if let Some(granted) = &granted {
            let (tokens, certificates, claims) = granted.current().counts();
            tracing::info!(tokens, certificates, claims, "the access file");
        }
        Ok(Self {
            granted,
            #[cfg(feature = "tls")]
            issuer: settings.issuer.map(|issuer| {
                let expected = Expected { issuer: issuer.name, audience: issuer.audience, claim: issuer.claim };
                (KeyCache::new(issuer.keys, issuer.clock), expected)
            }),
        })
    }

    /// Who calls. A token that is of no use is refused, also beside a good certificate: whoever shows one means it.
    pub(crate) async fn caller(&self, presented: &Presented) -> Result<Caller, Refusal> {
        let granted = self.granted.as_ref().map(Reread::current).unwrap_or_default();
        if let Some(authorization) = &presented.authorization {
            let token = bearer(authorization).ok_or_else(|| unknown("the authorization is no bearer token"))?;
            if let Some(caller) = granted.token(token) {
                return Ok(caller);
            }
            return self.of_issuer(token, &granted).await;
        }
        match &presented.certificate {
            Some(Ok(san)) => Ok(Caller::new(san, How::Certificate, granted.certificate(san))),
            Some(Err(why)) => Err(unknown(*why)),
            None => Err(unknown("this API asks who calls: send a token (`authorization: Bearer …`) or a client certificate")),
        }
    }

    #[cfg(feature = "tls")]
    async fn of_issuer(&self, token: &str, granted: &Granted) -> Result<Caller, Refusal> {
        let Some((keys, expected)) = &self.issuer else { return Err(unknown("nobody has this token")) };
        let signed = claims::Signed::read(token).map_err(unknown)?;
        let key = keys.find(&signed.kid).await?;
        let claims = signed.verify(&key).map_err(unknown)?;
        let known = expected.judge(&claims, keys.now()).map_err(unknown)?;
        Ok(Caller::new(known.subject, How::Oidc, granted.claims(&known.values)))
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_async, reason = "as where an issuer may be asked")]
    async fn of_issuer(&self, _: &str, _: &Granted) -> Result<Caller, Refusal> {
        Err(unknown("nobody has this token"))
    }
}

fn unknown(why: impl Into<String>) -> Refusal {
    Refusal::Unauthenticated(why.into())
}

/// The token of `Bearer …`.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(text: &str) -> (Authority, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.toml");
        std::fs::write(&path, text).unwrap();
        (Authority::open(AuthoritySettings::file(path)).unwrap(), folder)
    }

    const FILE: &str = r#"
[[token]]
name = "ci"
hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
roles = ["publisher"]
workspaces = ["shop"]
[[certificate]]
san = "spiffe://cluster/marketing"
roles = ["editor"]
workspaces = ["shop"]
"#;

    fn shows(authorization: Option<&str>, certificate: Option<Result<&str, &'static str>>) -> Presented {
        Presented { authorization: authorization.map(str::to_owned), certificate: certificate.map(|san| san.map(str::to_owned)) }
    }

    #[tokio::test]
    async fn whoever_shows_something_good_is_known() {
        let (authority, _folder) = authority(FILE);
        for (presented, name, how, grants) in [
            (shows(Some("Bearer test"), None), "ci", How::Token, 1),
            (shows(Some("bearer  test"), None), "ci", How::Token, 1),
            (shows(None, Some(Ok("spiffe://cluster/marketing"))), "spiffe://cluster/marketing", How::Certificate, 1),
            (shows(None, Some(Ok("spiffe://cluster/other"))), "spiffe://cluster/other", How::Certificate, 0),
            (shows(Some("Bearer test"), Some(Ok("spiffe://cluster/marketing"))), "ci", How::Token, 1),
        ] {
            let caller = authority.caller(&presented).await.unwrap();
            assert_eq!((caller.name(), caller.how(), caller.grants().len()), (name, how, grants), "{presented:?}");
        }
    }

    #[tokio::test]
    async fn whoever_shows_nothing_good_is_not() {
        let (authority, _folder) = authority(FILE);
        for presented in [
            shows(None, None),
            shows(Some(""), None),
            shows(Some("test"), None),
            shows(Some("Bearer "), None),
            shows(Some("Bearer tes"), None),
            shows(Some("Basic dGVzdDo="), None),
            shows(Some("Bearer a.b.c"), None),
            shows(None, Some(Err("two names"))),
            // a bad token is not made good by a certificate
            shows(Some("Bearer tes"), Some(Ok("spiffe://cluster/marketing"))),
        ] {
            let refused = authority.caller(&presented).await.unwrap_err();
            assert!(matches!(refused, Refusal::Unauthenticated(_)), "{presented:?}");
        }
    }
}
