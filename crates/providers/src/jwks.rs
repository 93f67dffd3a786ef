//! The keys of an `OpenID` Connect issuer, over HTTP.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use reqwest::{Client, Url};
use serde::Deserialize;
use waypost_control::access::{Keys, KeysError};

/// For the whole of an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// No issuer's answer is longer.
const BYTES_MAX: usize = 1 << 20;

/// Asks an issuer.
pub struct HttpKeys {
    issuer: String,
    /// Where the keys are; none: where the issuer says, which is asked first each time.
    keys: Option<Url>,
    client: Client,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

// === impl HttpKeys ===

impl fmt::Debug for HttpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpKeys").field("issuer", &self.issuer).field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl HttpKeys {
    /// Of this issuer; `keys` is where its keys are, and empty if the issuer is to say so.
    ///
    /// # Errors
    /// An address that is none, or is neither https nor this machine's own.
    pub fn new(issuer: &str, keys: &str) -> Result<Self, KeysError> {
        safe(issuer)?;
        let keys = (!keys.is_empty()).then(|| safe(keys)).transpose()?;
        let redirects = reqwest::redirect::Policy::none();
        let client = Client::builder().connect_timeout(ANSWER).timeout(ANSWER).redirect(redirects).build();
        Ok(Self { issuer: issuer.to_owned(), keys, client: client.map_err(|e| KeysError(e.without_url().to_string()))? })
    }

    async fn get(&self, url: Url) -> Result<Vec<u8>, KeysError> {
        let failed = |e: reqwest::Error| KeysError(e.without_url().to_string());
        let mut answer = self.client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > BYTES_MAX {
                return Err(KeysError(format!("its answer has more than {BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

#[async_trait]
impl Keys for HttpKeys {
    async fn fetch(&self) -> Result<Vec<u8>, KeysError> {
        if let Some(keys) = &self.keys {
            return self.get(keys.clone()).await;
        }
        let about = safe(&format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/')))?;
        let about: Discovery = serde_json::from_slice(&self.get(about).await?)
            .map_err(|_| KeysError("what it says of itself is no OpenID configuration: set control.oidc_jwks_url".to_owned()))?;
        if about.issuer != self.issuer {
            return Err(KeysError(format!("at its address is the issuer `{}`", about.issuer)));
        }
        self.get(safe(&about.jwks_uri)?).await
    }
}

/// An address at which nobody on the way can put other keys.
fn safe(text: &str) -> Result<Url, KeysError> {
    let url = Url::parse(text).map_err(|_| KeysError(format!("`{text}` is no address")))?;
    let own = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if url.scheme() == "https" || (url.scheme() == "http" && own) {
        Ok(url)
    } else {
        Err(KeysError(format!("`{text}` does not begin with https://")))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers by path, until the test ends.
    async fn issuer(answers: impl Fn(&str, &str) -> (u16, String) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let own = base.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let (status, body) = answers(&own, head.split(' ').nth(1).unwrap_or_default());
                let text =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nlocation: /keys\r\nconnection: close\r\n\r\n{body}", body.len());
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
        base
    }

    #[tokio::test]
    async fn keys_are_where_the_issuer_says_or_where_the_setting_does() {
        let base = issuer(|own, path| match path {
            "/.well-known/openid-configuration" => (200, format!(r#"{{"issuer":"{own}","jwks_uri":"{own}/keys"}}"#)),
            "/keys" => (200, r#"{"keys":[]}"#.to_owned()),
            _ => (404, String::new()),
        })
        .await;
        assert_eq!(HttpKeys::new(&base, "").unwrap().fetch().await.unwrap(), br#"{"keys":[]}"#);
        assert_eq!(HttpKeys::new(&base, &format!("{base}/keys")).unwrap().fetch().await.unwrap(), br#"{"keys":[]}"#);
        assert!(HttpKeys::new(&base, &format!("{base}/none")).unwrap().fetch().await.is_err());
        let other = HttpKeys::new(&format!("{base}/"), "").unwrap().fetch().await.unwrap_err();
        assert!(other.to_string().contains("is the issuer"), "{other}");
    }

    #[tokio::test]
    async fn neither_other_places_nor_endless_answers_are_followed() {
        let base = issuer(|_, path| if path == "/long" { (200, "x".repeat(BYTES_MAX + 1)) } else { (302, String::new()) }).await;
        let keys = |path: &str| HttpKeys::new(&base, &format!("{base}{path}")).unwrap();
        assert!(keys("/long").fetch().await.unwrap_err().to_string().contains("more than"));
        assert_eq!(keys("/moved").fetch().await.unwrap(), b"", "a redirect is not followed");
        assert!(HttpKeys::new("http://id.example", "").unwrap_err().to_string().contains("https://"));
        assert!(HttpKeys::new("https://id.example", "ftp://id.example/keys").is_err());
    }
}
