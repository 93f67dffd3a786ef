//! SMTP (CONVENTIONS §9, §11): one call, one answer; what is not certain is unknown.
//!
//! Until the server has answered DATA no part of the message has left, so any failure up to there is
//! definite. From then on only an answer is: a lost connection may have lost nothing but the answer.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::time::Instant;
use waypost_codec::inbox::Outcome;
use waypost_sender::{Capabilities, Channel, OutgoingEmail, Provider, ProviderOutcome};
use waypost_types::Span;
use zeroize::Zeroizing;

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all; for a sink on the same machine.
    None,
    /// Required after the greeting.
    Starttls,
    /// From the first byte.
    Tls,
}

/// A mail server and how to speak to it.
#[derive(Clone)]
pub struct SmtpSettings {
    /// Host name; the certificate must be for it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Protection.
    pub tls: Tls,
    /// Who we are to the server.
    pub credentials: Option<Login>,
    /// Name to greet with.
    pub hello: String,
    /// Further root certificates, PEM.
    pub roots: Vec<Vec<u8>>,
    /// For every answer but the last.
    pub timeout: Duration,
    /// For the answer to the message itself; RFC 5321 asks for ten minutes.
    pub final_timeout: Duration,
}

/// A user and where its password is found; each new connection asks for it.
#[derive(Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password as it is now.
    pub password: Arc<dyn Fn() -> Zeroizing<String> + Send + Sync>,
}

/// Why a server cannot be spoken to as it is set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmtpSetupError {
    /// A password would go over the wire for all to read.
    #[error("credentials without TLS")]
    InsecureCredentials,
    /// Certificates or the host name do not serve.
    #[error("TLS: {0}")]
    Tls(String),
}

/// A provider over one SMTP server.
pub struct Smtp {
    settings: SmtpSettings,
    tls: Option<TlsParameters>,
    hello: ClientId,
    // Connections between two messages; the most recent last.
    idle: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
}

const MAX_IDLE: usize = 16;
const IDLE_FOR: Duration = Duration::from_secs(20);
const LONGEST_LINE: usize = 998;

// === impl Tls ===

impl std::str::FromStr for Tls {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "none" => Ok(Self::None),
            "starttls" => Ok(Self::Starttls),
            "tls" => Ok(Self::Tls),
            other => Err(format!("`{other}` is none of none, starttls, tls")),
        }
    }
}

// === impl SmtpSettings ===

impl SmtpSettings {
    /// A server on `port` with the timeouts that RFC 5321 asks for.
    pub fn new(host: impl Into<String>, port: u16, tls: Tls) -> Self {
        Self {
            host: host.into(),
            port,
            tls,
            credentials: None,
            hello: "localhost".to_owned(),
            roots: Vec::new(),
            timeout: Duration::from_secs(30),
            final_timeout: Duration::from_mins(10),
        }
    }
}

// === impl Login ===

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

// === impl Smtp ===

impl Smtp {
    /// A provider over this server; nothing is connected yet.
    pub fn new(settings: SmtpSettings) -> Result<Self, SmtpSetupError> {
        if settings.tls == Tls::None && settings.credentials.is_some() {
            return Err(SmtpSetupError::InsecureCredentials);
        }
        let tls = match settings.tls {
            Tls::None => None,
            Tls::Starttls | Tls::Tls => {
                let wrong = |e: Error| SmtpSetupError::Tls(e.to_string());
                let mut builder = TlsParameters::builder(settings.host.clone());
                for pem in &settings.roots {
                    builder = builder.add_root_certificate(Certificate::from_pem(pem).map_err(wrong)?);
                }
                Some(builder.build().map_err(wrong)?)
            }
        };
        let hello = ClientId::Domain(settings.hello.clone());
        Ok(Self { settings, tls, hello, idle: Mutex::new(Vec::new()) })
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, ProviderOutcome> {
        let Self { settings, tls, hello, .. } = self;
        let implicit = if settings.tls == Tls::Tls { tls.clone() } else { None };
        let target = (settings.host.as_str(), settings.port);
        let connecting = AsyncSmtpConnection::connect_tokio1(target, Some(settings.timeout), hello, implicit, None);
        let mut connection = self.within(connecting).await.map_err(|f| f.before_the_message("connect"))?;
        if let (Tls::Starttls, Some(tls)) = (settings.tls, tls) {
            self.within(connection.starttls(tls.clone(), hello)).await.map_err(|f| f.before_the_message("starttls"))?;
        }
        if let Some(Login { user, password }) = &settings.credentials {
            let credentials = Credentials::new(user.clone(), password().to_string());
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            self.within(connection.auth(&mechanisms, &credentials)).await.map_err(Failure::at_auth)?;
        }
        Ok(connection)
    }

    async fn within<T>(&self, step: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        match tokio::time::timeout(self.settings.timeout, step).await {
            Ok(done) => done.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::Lost("no answer in time".to_owned())),
        }
    }

    // Up to the server's answer to DATA: whatever fails, nothing was handed over.
    async fn announce(&self, connection: &mut AsyncSmtpConnection, from: &Address, to: &Address) -> Result<(), Step> {
        let mut parameters = Vec::new();
        if !(from.as_ref() as &str).is_ascii() || !(to.as_ref() as &str).is_ascii() {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(Step::Answered(ProviderOutcome::other(Outcome::PermanentRecipient, "the server knows no SMTPUTF8")));
            }
            parameters.push(MailParameter::SmtpUtfEight);
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let mail = connection.command(Mail::new(Some(from.clone()), parameters));
        self.within(mail).await.map_err(|f| f.step("MAIL", Outcome::PermanentContent))?;
        let rcpt = connection.command(Rcpt::new(to.clone(), Vec::new()));
        self.within(rcpt).await.map_err(|f| f.step("RCPT", Outcome::PermanentRecipient))?;
        let data = connection.command(Data);
        self.within(data).await.map_err(|f| f.step("DATA", Outcome::PermanentContent))?;
        Ok(())
    }

    async fn deliver(&self, message: &OutgoingEmail, from: &Address, to: &Address) -> ProviderOutcome {
        let mut connection = match self.idle() {
            None => match self.connect().await {
                Ok(connection) => connection,
                Err(outcome) => return outcome,
            },
            Some(mut kept) => match self.announce(&mut kept, from, to).await {
                Ok(()) => return self.hand_over(kept, message).await,
                Err(Step::Answered(outcome)) => return outcome,
                // It had gone away in the meantime; nothing was sent over it.
                Err(Step::Lost(_)) => match self.connect().await {
                    Ok(connection) => connection,
                    Err(outcome) => return outcome,
                },
            },
        };
        match self.announce(&mut connection, from, to).await {
            Ok(()) => self.hand_over(connection, message).await,
            Err(Step::Answered(outcome)) => {
                connection.abort().await;
                outcome
            }
            Err(Step::Lost(reason)) => ProviderOutcome::other(Outcome::Transient, reason),
        }
    }

    async fn hand_over(&self, mut connection: AsyncSmtpConnection, message: &OutgoingEmail) -> ProviderOutcome {
        // The client writes the last line's end before the dot itself.
        let raw = message.raw.strip_suffix(b"\r\n").unwrap_or(&message.raw);
        let answer = tokio::time::timeout(self.settings.final_timeout, connection.message(raw)).await;
        match answer {
            Ok(Ok(response)) => {
                let id = queue_id(response.message().collect::<Vec<_>>().join(" ").as_str());
                self.keep(connection);
                ProviderOutcome::accepted(id)
            }
            Ok(Err(error)) => match Failure::of(&error) {
                Failure::Refused { transient, code, text } => refusal("message", transient, &code, &text, Outcome::PermanentContent),
                Failure::Lost(reason) => ProviderOutcome::other(Outcome::Unknown, format!("after DATA: {reason}")),
            },
            Err(_) => ProviderOutcome::other(Outcome::Unknown, "after DATA: no answer in time"),
        }
    }

    fn idle(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| since.elapsed() < IDLE_FOR);
        idle.pop().map(|(_, connection)| connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !connection.has_broken() {
            idle.push((Instant::now(), connection));
        }
    }
}

#[async_trait]
impl Provider for Smtp {
    fn capabilities(&self, _: &Channel) -> Capabilities {
        Capabilities::NONE
    }

    async fn send(&self, _: &Channel, message: &OutgoingEmail) -> ProviderOutcome {
        if let Err(reason) = sound(&message.raw) {
            return ProviderOutcome::other(Outcome::PermanentContent, reason);
        }
        let address = |text: &str| text.parse::<Address>().ok().filter(|_| !text.chars().any(|c| c.is_control() || c.is_whitespace()));
        let Some(from) = address(&message.from) else {
            return ProviderOutcome::other(Outcome::PermanentContent, "not a sender address");
        };
        let Some(to) = address(&message.to) else {
            return ProviderOutcome::other(Outcome::PermanentRecipient, "not an address");
        };
        self.deliver(message, &from, &to).await
    }
}

/// How a step before the message ended.
enum Step {
    /// With an answer.
    Answered(ProviderOutcome),
    /// Without one; nothing was handed over.
    Lost(String),
}

enum Failure {
    /// The server said no.
    Refused { transient: bool, code: String, text: String },
    /// No answer, or none that can be read.
    Lost(String),
}

// === impl Failure ===

impl Failure {
    fn of(error: &Error) -> Self {
        match error.status() {
            Some(code) => {
                let text = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                Self::Refused { transient: error.is_transient(), code: code.to_string(), text }
            }
            // The kind alone: what stands behind it may name hosts and people.
            None if error.is_timeout() => Self::Lost("no answer in time".to_owned()),
            None if error.is_tls() => Self::Lost("TLS failed".to_owned()),
            None if error.is_response() => Self::Lost("no answer that can be read".to_owned()),
            None if error.is_client() => Self::Lost("the server lacks what is needed".to_owned()),
            None => Self::Lost("connection failed".to_owned()),
        }
    }

    fn before_the_message(self, step: &str) -> ProviderOutcome {
        let reason = match self {
            Self::Refused { code, .. } => format!("{step}: {code}"),
            Self::Lost(reason) => format!("{step}: {reason}"),
        };
        ProviderOutcome::other(Outcome::Transient, reason)
    }

    fn at_auth(self) -> ProviderOutcome {
        match self {
            Self::Refused { transient: false, code, .. } => ProviderOutcome::other(Outcome::Auth, format!("auth: {code}")),
            Self::Refused { .. } | Self::Lost(_) => self.before_the_message("auth"),
        }
    }

    fn step(self, name: &str, permanent: Outcome) -> Step {
        match self {
            Self::Refused { transient, code, text } => Step::Answered(refusal(name, transient, &code, &text, permanent)),
            Self::Lost(reason) => Step::Lost(format!("{name}: {reason}")),
        }
    }
}

fn refusal(step: &str, transient: bool, code: &str, text: &str, permanent: Outcome) -> ProviderOutcome {
    let enhanced = text.split_whitespace().next().filter(|word| is_enhanced(word)).unwrap_or("");
    let reason = format!("{step}: {code} {enhanced}").trim_end().to_owned();
    let class = match (code, enhanced) {
        ("421", _) | (_, "4.7.0" | "4.7.1" | "4.7.28") => Outcome::Throttled,
        _ if transient => Outcome::Transient,
        ("530" | "534" | "535" | "538", _) => Outcome::Auth,
        // Policy and a full mailbox say nothing against the address itself.
        ("552", _) => Outcome::PermanentContent,
        _ if enhanced.starts_with("5.7.") || enhanced.starts_with("5.2.2") => Outcome::PermanentContent,
        _ => permanent,
    };
    ProviderOutcome::other(class, reason)
}

fn is_enhanced(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit()))
}

// What the server calls the message, where its answer says so.
fn queue_id(answer: &str) -> String {
    let id = answer.split_once("queued as ").or_else(|| answer.split_once("id=")).map_or(answer, |(_, id)| id);
    let id = id.split_whitespace().next().unwrap_or("");
    id.chars().filter(char::is_ascii_graphic).take(128).collect()
}

/// Whether `raw` can go over the wire as it is: a bare CR or LF before a dot would end the message
/// early and let the rest speak SMTP (RUSTSEC-2026-0561), so none may be in it.
fn sound(raw: &[u8]) -> Result<(), &'static str> {
    let mut line = 0;
    let mut at = 0;
    while let Some(byte) = raw.get(at) {
        match (byte, raw.get(at + 1)) {
            (b'\r', Some(b'\n')) => {
                line = 0;
                at += 2;
                continue;
            }
            (b'\r' | b'\n', _) => return Err("a bare CR or LF"),
            (0, _) => return Err("a NUL"),
            _ => line += 1,
        }
        if line > LONGEST_LINE {
            return Err("a line that is too long");
        }
        at += 1;
    }
    if raw.ends_with(b"\r\n") { Ok(()) } else { Err("no line end at the end") }
}

impl fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpSettings").field("host", &self.host).field("port", &self.port).field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// How long a call to a server of these settings may take; the engine's `LONGEST_CALL` must cover it.
pub fn call_timeout(settings: &SmtpSettings) -> Span {
    // Greeting, EHLO, TLS, AUTH, MAIL, RCPT, DATA, and the same again after a connection that had gone away.
    let steps = settings.timeout.saturating_mul(8);
    Span::from_millis(i64::try_from((steps + settings.final_timeout).as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
