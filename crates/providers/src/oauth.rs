//! Access tokens by client credentials (RFC 6749 §4.4): for brokers that know their users by tokens.

use std::{fmt, fs, path::PathBuf, time::Duration};

use reqwest::{Client, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

/// For the whole of an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// No token is longer.
const BYTES_MAX: usize = 64 << 10;
/// Where the answer does not say how long a token is good.
const LIFETIME: u64 = 300;

/// A client of an authorization server. Its secret is read for each token.
#[derive(Clone)]
pub struct ClientCredentials {
    url: Url,
    client_id: String,
    secret_file: PathBuf,
    scope: String,
}

/// A token as it was granted.
#[derive(Clone, PartialEq, Eq)]
pub struct Granted {
    /// The token.
    pub token: String,
    /// How long it is good from now on.
    pub lifetime: Duration,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

// === impl ClientCredentials ===

impl ClientCredentials {
    /// Tokens from `url`, for `client_id` with the secret in a file, and for what `scope` says; empty: the server's default.
    ///
    /// # Errors
    /// An address that is none, or where the secret could be seen on its way.
    pub fn new(url: &str, client_id: &str, secret_file: PathBuf, scope: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|_| "kafka.token_url is no address".to_owned())?;
        let is_here = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && is_here) {
            return Err("kafka.token_url must begin with https://".to_owned());
        }
        Ok(Self { url, client_id: client_id.to_owned(), secret_file, scope: scope.to_owned() })
    }

    /// Asks for a token.
    ///
    /// # Errors
    /// Why there is none, without a secret.
    pub async fn fetch(&self) -> Result<Granted, String> {
        let path = self.secret_file.display();
        let secret = fs::read_to_string(&self.secret_file).map(Zeroizing::new);
        let secret = secret.map_err(|error| format!("kafka.client_secret_file: cannot read {path}: {error}"))?;
        let mut body = "grant_type=client_credentials".to_owned();
        if !self.scope.is_empty() {
            body = format!("{body}&scope={}", encoded(&self.scope));
        }
        // without its address, which may hold a secret
        let failed = |error: reqwest::Error| format!("kafka.token_url: {}", error.without_url());
        let redirects = reqwest::redirect::Policy::none();
        let client = Client::builder().connect_timeout(ANSWER).timeout(ANSWER).redirect(redirects).build().map_err(failed)?;
        let request = client
            .post(self.url.clone())
            .basic_auth(encoded(&self.client_id), Some(encoded(secret.trim_end())))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json");
        let mut answer = request.body(body).send().await.map_err(failed)?;
        let mut json = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if json.len() + chunk.len() > BYTES_MAX {
                return Err(format!("kafka.token_url: its answer has more than {BYTES_MAX} bytes"));
            }
            json.extend_from_slice(&chunk);
        }
        if !answer.status().is_success() {
            let word = serde_json::from_slice::<Refusal>(&json).map(|refusal| refusal.error).unwrap_or_default();
            // one of RFC 6749 §5.2; anything else could repeat what was sent
            let known =
                ["invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"];
            let word = known.into_iter().find(|known| *known == word).unwrap_or("no reason that is known");
            let status = answer.status().as_u16();
            return Err(format!(
                "kafka.token_url answers {status}, {word}: check kafka.client_id, kafka.client_secret_file and kafka.scope"
            ));
        }
        let Answer { access_token, expires_in } =
            serde_json::from_slice(&json).map_err(|_| "kafka.token_url: its answer holds no access_token".to_owned())?;
        Ok(Granted { token: access_token, lifetime: Duration::from_secs(expires_in.unwrap_or(LIFETIME)) })
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// As a form has it.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// What is fetched from a server that answers so, and what was sent to it.
    async fn fetched(status: u16, json: &'static str) -> (Result<Granted, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            while !request.contains("client_credentials&scope=kafka%3Aall") {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).await.unwrap();
                request += std::str::from_utf8(&bytes[..count]).unwrap();
            }
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{json}", json.len());
            stream.write_all(text.as_bytes()).await.unwrap();
            request
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "canary:1\n").unwrap();
        let granted = ClientCredentials::new(&url, "way post", file, "kafka:all").unwrap().fetch().await;
        (granted, served.await.unwrap())
    }

    #[tokio::test]
    async fn a_token_is_granted_for_the_secret_in_the_file() {
        let (granted, request) = fetched(200, r#"{"access_token": "t1", "token_type": "Bearer", "expires_in": 60}"#).await;
        assert_eq!(granted, Ok(Granted { token: "t1".into(), lifetime: Duration::from_mins(1) }));
        // base64 of `way%20post:canary%3A1`
        assert!(request.to_ascii_lowercase().contains("authorization: basic d2f5jtiwcg9zddpjyw5hcnklm0ex"), "{request}");
        let (granted, _) = fetched(200, r#"{"access_token": "t1"}"#).await;
        assert_eq!(granted.unwrap().lifetime, Duration::from_secs(LIFETIME));
    }

    #[tokio::test]
    async fn a_refusal_says_what_to_check_and_no_secret() {
        for (status, json, says) in [
            (401, r#"{"error": "invalid_client", "error_description": "canary"}"#, "401, invalid_client: check kafka.client_id"),
            (400, r#"{"error": "canary"}"#, "400, no reason that is known"),
            (200, r#"{"token": "canary"}"#, "holds no access_token"),
        ] {
            let refusal = fetched(status, json).await.0.unwrap_err();
            assert!(refusal.contains(says) && !refusal.contains("canary"), "{refusal}");
        }
    }

    #[test]
    fn a_secret_does_not_travel_in_plain_text() {
        let new = |url: &str| ClientCredentials::new(url, "c", PathBuf::new(), "").map(drop);
        assert!(new("http://id.example/token").unwrap_err().contains("https://"));
        assert!(new("token").is_err());
        assert_eq!(new("https://id.example/token"), Ok(()));
    }
}
