//! The context of clients for questions: it keeps why brokers refuse, which no call is told.

use std::{
    error::Error,
    fmt,
    sync::{Mutex, PoisonError},
};

use rdkafka::{ClientContext, client::OAuthToken, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError};

use crate::{
    connection::{Connection, Identity, in_our_words},
    convert::Quiet,
    standing::is_refusal,
    tokens::{Token, token_for},
};

/// The context.
pub(crate) struct Asker {
    identity: Identity,
    refusal: Mutex<Option<String>>,
}

// === impl Asker ===

impl Asker {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, refusal: Mutex::default() }
    }

    /// A question begins: what was refused before may have been put right.
    pub(crate) fn begin(&self) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why a broker has refused since.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// By what it proves who it is was renewed since.
    pub(crate) fn is_outdated(&self) -> bool {
        self.identity.is_outdated()
    }

    pub(crate) fn token(&self) -> Result<Token, String> {
        self.identity.token()
    }

    pub(crate) fn has_tokens(&self) -> bool {
        self.identity.connection().has_tokens()
    }
}

impl ClientContext for Asker {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        token_for(&self.identity)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if is_refusal(&error, reason) {
            let why = explain(self.identity.connection(), reason);
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        }
        Quiet.error(error, reason);
    }
}

impl ConsumerContext for Asker {}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asker")
    }
}

/// What librdkafka says of a refusal, and what to do about it.
fn explain(connection: &Connection, reason: &str) -> String {
    let what = if reason.contains("certificate verify failed") {
        "check kafka.ca_file, and that the brokers' certificates are for the names in kafka.brokers and in advertised.listeners"
    } else if reason.contains("SSL") {
        "check kafka.security, and kafka.cert_file and kafka.key_file: the brokers may ask for a certificate"
    } else {
        connection.advice()
    };
    format!("{}; {what}", in_our_words(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_check() {
        let connection = Connection::new("kafka:9093");
        for (reason, says) in [
            (
                "SSL handshake failed: certificate verify failed: verify that ssl.ca.location is correctly configured",
                "kafka.ca_file is correctly",
            ),
            ("SSL handshake failed: certificate verify failed", "the names in kafka.brokers"),
            ("Receive failed: SSL alert number 116", "kafka.cert_file"),
            ("SASL authentication error: Authentication failed", "kafka.security"),
        ] {
            let said = explain(&connection, reason);
            assert!(said.contains(says), "{reason}: {said}");
        }
    }
}
