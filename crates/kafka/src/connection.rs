//! How a cluster is reached: its brokers, TLS, and by what a client proves who it is.

use std::{
    fmt, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rdkafka::ClientConfig;
use waypost_runtime::ports::LogError;
use zeroize::Zeroizing;

use crate::tokens::{Token, Tokens};

/// A cluster. Its files are read whenever a client is made, so that nothing has to start anew for what was renewed in them.
#[derive(Clone)]
pub struct Connection {
    brokers: String,
    tls: Option<Tls>,
    sasl: Option<Sasl>,
}

/// TLS to the brokers. Their names must stand in their certificates; nothing turns that off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities (PEM) by which the brokers' certificates are judged; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key (PEM) for brokers that ask for one.
    pub certificate: Option<Certificate>,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// It, and whoever vouches for it (PEM).
    pub cert_file: PathBuf,
    /// Its key (PEM), without a password.
    pub key_file: PathBuf,
}

/// By what brokers know a user.
#[derive(Clone)]
pub enum Sasl {
    /// A password, which lies in a file.
    Password {
        /// How it is shown.
        mechanism: Mechanism,
        /// Whose it is.
        username: String,
        /// Where it lies; white space at its end is none of it.
        password_file: PathBuf,
    },
    /// A token (OAUTHBEARER).
    Token(Arc<dyn Tokens>),
}

/// How a password is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// As it is.
    Plain,
    /// Salted, SHA-256.
    ScramSha256,
    /// Salted, SHA-512.
    ScramSha512,
}

/// Why a cluster cannot be reached as the settings say. It names the setting, and never what lies in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// A file cannot be read.
    #[error("{setting}: cannot read {}: {why}", path.display())]
    Unreadable {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// A file holds nothing.
    #[error("{setting}: {} is empty", path.display())]
    Empty {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// librdkafka does not take the settings.
    #[error("{0}")]
    Refused(String),
}

impl From<ConnectionError> for LogError {
    fn from(error: ConnectionError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

// === impl Connection ===

impl Connection {
    /// The cluster behind `brokers` (`host:port,…`), in plain text and to anybody.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), tls: None, sasl: None }
    }

    /// The same over TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The same as a user.
    #[must_use]
    pub fn sasl(mut self, sasl: Sasl) -> Self {
        self.sasl = Some(sasl);
        self
    }

    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Whether clients show tokens.
    pub(crate) fn has_tokens(&self) -> bool {
        matches!(self.sasl, Some(Sasl::Token(_)))
    }

    /// What librdkafka has to know of it but for what lies in files.
    pub(crate) fn describe(&self, config: &mut ClientConfig) {
        let protocol = match (self.tls.is_some(), self.sasl.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        config.set("bootstrap.servers", &self.brokers).set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            // librdkafka's default, said here so that no other default comes in its place
            config.set("enable.ssl.certificate.verification", "true").set("ssl.endpoint.identification.algorithm", "https");
            // an OpenSSL that was built along does not know where the system has its authorities
            let ca = tls.ca_file.as_ref().map_or_else(|| "probe".to_owned(), |path| path.display().to_string());
            config.set("ssl.ca.location", ca);
            if let Some(Certificate { cert_file, key_file }) = &tls.certificate {
                config.set("ssl.certificate.location", cert_file.display().to_string());
                config.set("ssl.key.location", key_file.display().to_string());
            }
        }
        match &self.sasl {
            Some(Sasl::Password { mechanism, username, .. }) => {
                config.set("sasl.mechanism", mechanism.name()).set("sasl.username", username);
            }
            Some(Sasl::Token(_)) => {
                config.set("sasl.mechanism", "OAUTHBEARER");
            }
            None => {}
        }
    }

    /// Reads the files for a client that is to be made now.
    pub(crate) fn identity(self: &Arc<Self>) -> Result<(Option<Zeroizing<String>>, Identity), ConnectionError> {
        let (password, print) = self.read()?;
        Ok((password, Identity { connection: Arc::clone(self), print }))
    }

    /// The password, if there is one, and the fingerprint of all files.
    fn read(&self) -> Result<(Option<Zeroizing<String>>, u64), ConnectionError> {
        let mut print = DefaultHasher::new();
        if let Some(tls) = &self.tls {
            let certificate = tls.certificate.as_ref();
            let files = [
                ("kafka.ca_file", tls.ca_file.as_ref()),
                ("kafka.cert_file", certificate.map(|c| &c.cert_file)),
                ("kafka.key_file", certificate.map(|c| &c.key_file)),
            ];
            for (setting, path) in files {
                if let Some(path) = path {
                    Zeroizing::new(read(setting, path)?).hash(&mut print);
                }
            }
        }
        let password = match &self.sasl {
            Some(Sasl::Password { password_file, .. }) => {
                let bytes = Zeroizing::new(read("kafka.password_file", password_file)?);
                bytes.hash(&mut print);
                let unreadable = |_| unreadable("kafka.password_file", password_file, "it is no text");
                Some(Zeroizing::new(str::from_utf8(&bytes).map_err(unreadable)?.trim_end().to_owned()))
            }
            // whoever has tokens asks for the next one by himself
            Some(Sasl::Token(_)) | None => None,
        };
        Ok((password, print.finish()))
    }

    /// What to look at where brokers do not know a client.
    pub(crate) fn advice(&self) -> &'static str {
        match &self.sasl {
            Some(Sasl::Password { .. }) => "check kafka.username, what lies in kafka.password_file, and kafka.sasl",
            Some(Sasl::Token(_)) => "check kafka.token_file, or kafka.token_url with kafka.client_id and kafka.client_secret_file",
            None => "check kafka.security: the brokers want to know who asks",
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("brokers", &self.brokers).field("tls", &self.tls).field("sasl", &self.sasl).finish()
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { mechanism, username, password_file } => {
                f.debug_struct("Password").field("mechanism", mechanism).field("username", username).field("file", password_file).finish()
            }
            Self::Token(_) => f.write_str("Token(…)"),
        }
    }
}

// === impl Mechanism ===

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// By what one client proves who it is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    connection: Arc<Connection>,
    /// Fingerprint of the files as they were read for it.
    print: u64,
}

// === impl Identity ===

impl Identity {
    /// Something was renewed in the files since. What cannot be read now may be on its way.
    pub(crate) fn is_outdated(&self) -> bool {
        self.connection.read().is_ok_and(|(_, print)| print != self.print)
    }

    /// A token, where clients show some.
    pub(crate) fn token(&self) -> Result<Token, String> {
        match &self.connection.sasl {
            Some(Sasl::Token(tokens)) => tokens.token(),
            Some(Sasl::Password { .. }) | None => Err("no tokens are shown to these brokers".to_owned()),
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// The settings of ours behind the words of librdkafka's.
pub(crate) fn in_our_words(text: &str) -> String {
    let names = [
        ("ssl.ca.location", "kafka.ca_file"),
        ("ssl.certificate.location", "kafka.cert_file"),
        ("ssl.key.location", "kafka.key_file"),
        ("security.protocol", "kafka.security"),
        ("bootstrap.servers", "kafka.brokers"),
    ];
    names.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, ConnectionError> {
    let bytes = fs::read(path).map_err(|error| unreadable(setting, path, &error.to_string()))?;
    if bytes.trim_ascii().is_empty() {
        return Err(ConnectionError::Empty { setting, path: path.to_owned() });
    }
    Ok(bytes)
}

fn unreadable(setting: &'static str, path: &Path, why: &str) -> ConnectionError {
    ConnectionError::Unreadable { setting, path: path.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_user(password_file: &Path) -> Arc<Connection> {
        let sasl = Sasl::Password { mechanism: Mechanism::ScramSha512, username: "ana".into(), password_file: password_file.to_owned() };
        Arc::new(Connection::new("kafka:9093").tls(Tls::default()).sasl(sasl))
    }

    #[test]
    fn a_password_is_read_for_each_client_and_its_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "one\n").unwrap();
        let connection = as_user(&file);
        let (password, identity) = connection.identity().unwrap();
        assert_eq!(password.as_ref().map(|password| password.as_str()), Some("one"));
        assert!(!identity.is_outdated());
        fs::write(&file, "two\n").unwrap();
        assert!(identity.is_outdated());
        assert_eq!(connection.identity().unwrap().0.map(|password| password.to_string()).as_deref(), Some("two"));
        fs::remove_file(&file).unwrap();
        assert!(!identity.is_outdated(), "it may be on its way");
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let refusal = || as_user(&file).identity().unwrap_err().to_string();
        assert!(refusal().starts_with("kafka.password_file: cannot read "), "{}", refusal());
        fs::write(&file, " \n").unwrap();
        assert!(refusal().ends_with("is empty"), "{}", refusal());
        fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(refusal().ends_with("it is no text"), "{}", refusal());
        let tls = Tls { ca_file: Some(folder.path().join("ca")), certificate: None };
        let refusal = Arc::new(Connection::new("kafka:9093").tls(tls)).identity().unwrap_err().to_string();
        assert!(refusal.starts_with("kafka.ca_file: cannot read "), "{refusal}");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "canary-4711").unwrap();
        let connection = as_user(&file);
        let (_, identity) = connection.identity().unwrap();
        assert!(!format!("{connection:?} {identity:?}").contains("canary"));
    }

    #[test]
    fn hosts_are_always_checked() {
        let mut config = ClientConfig::new();
        Connection::new("kafka:9093").tls(Tls::default()).describe(&mut config);
        assert_eq!(config.get("ssl.endpoint.identification.algorithm"), Some("https"));
        assert_eq!(config.get("enable.ssl.certificate.verification"), Some("true"));
        assert_eq!(config.get("security.protocol"), Some("ssl"));
    }
}
