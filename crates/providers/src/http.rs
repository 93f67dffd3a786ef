//! Mail over HTTP: one POST, one answer; what is not certain is unknown (PROTOCOL §11.3, §11.4).
//!
//! The way out for relays and gateways that take a whole message as JSON. What a channel promises stands in its
//! definition; which hosts may be reached, and the secrets, are this process's:
//!
//! ```yaml
//! apiVersion: waypost.dev/v1
//! kind: Channel
//! metadata: {name: relay}
//! spec:
//!   type: email
//!   provider: http
//!   from: Shop <hello@news.shop.example>
//!   default: true
//!   url: https://relay.example/v1/send   # must lie under an entry of `mail.http_allow`
//!   secret: relay                        # bearer token: the file `relay` in `secrets.dir`, of another workspace than
//!                                        # the first `<workspace>.relay`; may be left out
//!   idempotency: {window: 24h, on_repeat: replay}   # or `error`; left out: no key is honoured
//!   lookup: true                         # default: false
//! ```
//!
//! The request, the same on every attempt of a dispatch:
//!
//! ```text
//! POST {url}
//! Idempotency-Key: dsp_…            Message-ID: <…@news.shop.example>            Authorization: Bearer …
//! {"dispatch": "dsp_…", "message_id": "…@news.shop.example", "from": "hello@news.shop.example", "to": "ann@shop.example",
//!  "subject": "…", "html": "…", "text": "…", "mime": "From: …\r\n…"}
//! ```
//!
//! | answer | outcome |
//! |---|---|
//! | 2xx | accepted; the id is the body's `id` |
//! | 409 | `on_repeat: error`: accepted, it is the repeat of a key; else transient, the first is still at work |
//! | 408, 425, 429 | throttled, not before `Retry-After` (seconds, an hour at most) |
//! | 401, 403, 407 | auth |
//! | 404, 405, 410, 3xx | transient: the address is wrong, not the message |
//! | other 4xx | permanent: the recipient where the body's `error` is `recipient`, else the content |
//! | 500, 501, 503, 505 | transient: the server says that it did nothing |
//! | 502, 504, other 5xx, no answer, an answer cut off before its status | **unknown** |
//! | no name, no connection, no TLS | transient: no byte of the request has left |
//!
//! A look-up is `GET {url}/{dispatch}`: 200 with `{"status": "accepted", "id": "…"}` or `{"status": "none"}`. Only these
//! two are definite; a 404 of a proxy on the way is no "none".

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use reqwest::{Client, RequestBuilder, Response, StatusCode, header::RETRY_AFTER, redirect};
use serde::Deserialize;
use serde_json::json;
use waypost_codec::inbox::Outcome;
use waypost_sender::{Capabilities, Channel, HttpChannel, OnRepeat, OutgoingEmail, Provider, ProviderOutcome};
use waypost_types::Span;
use zeroize::Zeroizing;

/// What this process allows.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// What the URL of a channel must begin with: `https://relay.example/`. Empty: no channel is served.
    pub allow: Vec<String>,
    /// Folder with one file for each secret.
    pub secrets: Option<PathBuf>,
    /// For name, connection and TLS.
    pub connect: Duration,
    /// For the whole call.
    pub timeout: Duration,
}

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpSetupError {
    /// An entry of the allow list is no `http(s)://host/…`.
    #[error("`{0}` does not begin with http:// or https://, or has no `/` behind its host")]
    Allow(String),
    /// The TLS stack could not be set up.
    #[error("TLS: {0}")]
    Tls(String),
}

/// A provider over HTTP.
pub struct Http {
    settings: HttpSettings,
    client: Client,
}

// Servers close idle connections after five seconds and more; a request on one that closes is an unknown.
const IDLE_FOR: Duration = Duration::from_secs(3);
const LONGEST_PAUSE: Span = Span::from_hours(1);
const MAX_BODY: usize = 64 << 10;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    id: String,
    error: String,
    status: String,
}

// === impl HttpSettings ===

impl HttpSettings {
    /// With the timeouts of PROTOCOL §12.2.
    pub fn new(allow: Vec<String>, secrets: Option<PathBuf>) -> Self {
        Self { allow, secrets, connect: Duration::from_secs(10), timeout: Duration::from_secs(30) }
    }
}

// === impl Http ===

impl Http {
    /// A provider within these bounds; nothing is connected yet.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpSetupError> {
        for entry in &settings.allow {
            let rest = entry.strip_prefix("https://").or_else(|| entry.strip_prefix("http://"));
            // Without the slash `https://relay.example` would allow `https://relay.example.evil.example` too.
            let host = rest.and_then(|rest| rest.split_once('/')).map_or("", |(host, _)| host);
            if host.is_empty() {
                return Err(HttpSetupError::Allow(entry.clone()));
            }
        }
        let client = Client::builder()
            .connect_timeout(settings.connect)
            .timeout(settings.timeout)
            .pool_idle_timeout(IDLE_FOR)
            .redirect(redirect::Policy::none())
            // One call, one attempt.
            .retry(reqwest::retry::never())
            .build()
            .map_err(|e| HttpSetupError::Tls(e.to_string()))?;
        Ok(Self { settings, client })
    }

    // What the channel asks for, if this process can and may do it.
    fn allowed<'a>(&self, channel: &'a Channel) -> Result<&'a HttpChannel, String> {
        let http = channel.http.as_ref().ok_or("the channel's definition has no url")?;
        if !self.settings.allow.iter().any(|entry| format!("{}/", http.url).starts_with(entry)) {
            return Err("the channel's url lies under no entry of mail.http_allow".to_owned());
        }
        if let Some(name) = &channel.secret {
            let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if !name.split('.').all(is_word) || self.settings.secrets.is_none() {
                return Err("the channel names a secret, and secrets.dir is not set".to_owned());
            }
            if !http.url.starts_with("https://") && !is_loopback(&http.url) {
                return Err("the channel's secret would go over the wire for all to read: its url must be https".to_owned());
            }
        }
        Ok(http)
    }

    async fn authorized(&self, channel: &Channel, request: RequestBuilder) -> Result<RequestBuilder, ProviderOutcome> {
        let (Some(name), Some(folder)) = (&channel.secret, &self.settings.secrets) else { return Ok(request) };
        // Each time: a secret is changed by replacing its file.
        let token =
            token(folder, name).await.ok_or_else(|| ProviderOutcome::other(Outcome::Auth, "the channel's secret cannot be read"))?;
        Ok(request.bearer_auth(token.as_str()))
    }

    async fn post(&self, channel: &Channel, http: &HttpChannel, message: &OutgoingEmail) -> Result<ProviderOutcome, ProviderOutcome> {
        let mime = std::str::from_utf8(&message.raw).map_err(|_| ProviderOutcome::other(Outcome::PermanentContent, "not text"))?;
        let body = json!({
            "dispatch": message.dispatch,
            "message_id": message.message_id,
            "from": message.from,
            "to": message.to,
            "subject": message.subject,
            "html": message.html,
            "text": message.text,
            "mime": mime,
        });
        let request = self
            .client
            .post(&http.url)
            .header("idempotency-key", &message.dispatch)
            .header("message-id", format!("<{}>", message.message_id))
            .json(&body);
        let answer = self.authorized(channel, request).await?.send().await.map_err(|e| lost(&e))?;
        let (status, pause) = (answer.status(), pause(&answer));
        // With its status the answer is there, whatever becomes of the body.
        Ok(outcome(status, pause, &read(answer).await, http.key.map(|key| key.on_repeat)))
    }
}

#[async_trait]
impl Provider for Http {
    fn capabilities(&self, channel: &Channel) -> Capabilities {
        let longest_call = Span::from_millis(i64::try_from(self.settings.timeout.as_millis()).unwrap_or(i64::MAX));
        let http = channel.http.as_ref();
        Capabilities { key: http.and_then(|http| http.key), lookup: http.is_some_and(|http| http.lookup), longest_call }
    }

    fn serves(&self, channel: &Channel) -> Result<(), String> {
        self.allowed(channel).map(drop)
    }

    async fn send(&self, channel: &Channel, message: &OutgoingEmail) -> ProviderOutcome {
        match self.allowed(channel) {
            Ok(http) => self.post(channel, http, message).await.unwrap_or_else(|outcome| outcome),
            Err(why) => ProviderOutcome::other(Outcome::Transient, why),
        }
    }

    async fn look_up(&self, channel: &Channel, dispatch: &str) -> ProviderOutcome {
        let nobody_knows = |why: &str| ProviderOutcome::other(Outcome::Unknown, why);
        let Ok(http) = self.allowed(channel) else { return nobody_knows("not allowed") };
        let request = self.client.get(format!("{}/{dispatch}", http.url));
        let Ok(request) = self.authorized(channel, request).await else { return nobody_knows("no secret") };
        let Ok(answer) = request.send().await else { return nobody_knows("no answer") };
        let status = answer.status();
        let said = read(answer).await;
        match said.status.as_str() {
            "accepted" if status == StatusCode::OK => ProviderOutcome::accepted(id(&said)),
            "none" if status == StatusCode::OK => ProviderOutcome::other(Outcome::Transient, "not taken"),
            _ => nobody_knows("no answer that says so"),
        }
    }
}

/// What an answer to a message means.
fn outcome(status: StatusCode, pause: Option<Span>, said: &Answer, on_repeat: Option<OnRepeat>) -> ProviderOutcome {
    let class = match status.as_u16() {
        200..=299 => return ProviderOutcome::accepted(id(said)),
        409 if on_repeat == Some(OnRepeat::Error) => return ProviderOutcome::accepted(id(said)),
        409 if on_repeat == Some(OnRepeat::Replay) => Outcome::Transient,
        408 | 425 | 429 => Outcome::Throttled,
        401 | 403 | 407 => Outcome::Auth,
        404 | 405 | 410 | 500 | 501 | 503 | 505 => Outcome::Transient,
        400..=499 if said.error == "recipient" => Outcome::PermanentRecipient,
        400..=499 => Outcome::PermanentContent,
        500..=599 => Outcome::Unknown,
        _ => Outcome::Transient,
    };
    ProviderOutcome { retry_after: pause, ..ProviderOutcome::other(class, format!("HTTP {}", status.as_u16())) }
}

/// What a call without an answer means. Only a failure to connect leaves no doubt.
fn lost(error: &reqwest::Error) -> ProviderOutcome {
    // The kind alone: what stands behind it may name hosts and people.
    if error.is_connect() {
        ProviderOutcome::other(Outcome::Transient, "no connection")
    } else if error.is_builder() {
        ProviderOutcome::other(Outcome::Transient, "not a request")
    } else if error.is_timeout() {
        ProviderOutcome::other(Outcome::Unknown, "no answer in time")
    } else {
        ProviderOutcome::other(Outcome::Unknown, "no answer that can be read")
    }
}

fn pause(answer: &Response) -> Option<Span> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u32>().ok()?;
    Some(Span::from_secs(i64::from(seconds)).min(LONGEST_PAUSE))
}

// As far as it goes, and no further than a mail needs.
async fn read(mut answer: Response) -> Answer {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY {
            return Answer::default();
        }
    }
    serde_json::from_slice(&body).unwrap_or_default()
}

fn id(said: &Answer) -> String {
    said.id.chars().filter(char::is_ascii_graphic).take(128).collect()
}

async fn token(folder: &Path, name: &str) -> Option<Zeroizing<String>> {
    let text = Zeroizing::new(tokio::fs::read_to_string(folder.join(name)).await.ok()?);
    Some(Zeroizing::new(text.trim().to_owned())).filter(|token| !token.is_empty())
}

fn is_loopback(url: &str) -> bool {
    let rest = url.strip_prefix("http://").unwrap_or("");
    ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .any(|host| rest.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/'])))
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("allow", &self.settings.allow).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
