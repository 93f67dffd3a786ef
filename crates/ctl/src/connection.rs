//! The connection to the control API: where, how it is protected, and who says that they call.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::contexts::Context;

/// Where the control API of this computer listens.
const LOCAL: &str = "http://127.0.0.1:7070";
/// How long a connection may take to come about.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection whose every request says who asks.
pub(crate) type Asking = InterceptedService<Channel, Credentials>;

/// Says who asks.
#[derive(Clone)]
pub(crate) struct Credentials {
    name: MetadataValue<Ascii>,
    token: Option<MetadataValue<Ascii>>,
}

// === impl Credentials ===

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("waypost-as", self.name.clone());
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Connects.
///
/// # Errors
/// Settings that do not go together, files that cannot be read, or a server that is not there.
pub(crate) async fn connect(context: &Context, who: Option<String>) -> anyhow::Result<Asking> {
    let server = context.server.as_deref().unwrap_or(LOCAL);
    let endpoint = endpoint(server, context)?.connect_timeout(PATIENCE);
    let credentials = Credentials { name: name(who)?, token: token(context)? };
    if credentials.token.is_some() && is_seen(server) {
        tell(&format!("warning: the token goes to {server} unprotected; https:// protects it"));
    }
    let channel = endpoint.connect().await.with_context(|| {
        format!(
            "no control API at {server}: is `waypost serve --role control` or `waypost dev` running there, and with the same TLS settings?"
        )
    })?;
    Ok(InterceptedService::new(channel, credentials))
}

fn endpoint(server: &str, context: &Context) -> anyhow::Result<Endpoint> {
    let endpoint = Channel::from_shared(server.to_owned()).with_context(|| format!("`{server}` is not an address"))?;
    if !server.starts_with("https://") {
        let files = [("--ca-file", &context.ca_file), ("--cert-file", &context.cert_file), ("--key-file", &context.key_file)];
        if let Some((flag, _)) = files.into_iter().find(|(_, file)| file.is_some()) {
            bail!("{flag} is for TLS, but the server's address is `{server}`: https:// is wanted");
        }
        return Ok(endpoint);
    }
    let tls = match &context.ca_file {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    let tls = match (&context.cert_file, &context.key_file) {
        (Some(certificate), Some(key)) => tls.identity(Identity::from_pem(read(certificate)?, read(key)?)),
        (None, None) => tls,
        (Some(_), None) => bail!("--cert-file is given, but not its --key-file"),
        (None, Some(_)) => bail!("--key-file is given, but not its --cert-file"),
    };
    endpoint.tls_config(tls).context("the files for TLS cannot be used")
}

/// The token of a file, or of a variable.
fn token(context: &Context) -> anyhow::Result<Option<MetadataValue<Ascii>>> {
    let token = match &context.token_file {
        Some(path) => Some(String::from_utf8(read(path)?).ok().with_context(|| format!("{} holds no token", path.display()))?),
        None => context.token.clone(),
    };
    let Some(token) = token else { return Ok(None) };
    let token = token.trim();
    ensure!(!token.is_empty(), "the token is empty");
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().ok().context("the token has characters that no token has")?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The name that goes to the audit topic of a server that asks nobody: as asked for, else the user of this computer.
fn name(name: Option<String>) -> anyhow::Result<MetadataValue<Ascii>> {
    let user = || std::env::vars().find(|(variable, _)| variable == "USER").map(|(_, user)| user);
    let name = name.or_else(user).unwrap_or_default();
    name.parse().with_context(|| format!("--as `{name}`: a name in plain letters is wanted"))
}

/// Whether others could read what goes there.
fn is_seen(server: &str) -> bool {
    let own = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    server.starts_with("http://")
        && !own.iter().any(|own| server.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/'])))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn tell(text: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_computer_s_own_address_is_not_seen() {
        for (server, seen) in [
            ("https://waypost.example", false),
            ("http://127.0.0.1:7070", false),
            ("http://localhost", false),
            ("http://[::1]:7070", false),
            ("http://localhost.example:7070", true),
            ("http://127.0.0.10:7070", true),
            ("http://waypost.example:7070", true),
        ] {
            assert_eq!(is_seen(server), seen, "{server}");
        }
    }

    #[test]
    fn files_for_tls_want_tls_and_each_other() {
        let with = |context: Context, server: &str| endpoint(server, &context).map(drop).map_err(|e| e.to_string());
        let certificate = Context { cert_file: Some("/none.pem".into()), ..Context::default() };
        assert!(with(certificate.clone(), "http://localhost:1").unwrap_err().contains("https:// is wanted"));
        assert!(with(certificate, "https://localhost:1").unwrap_err().contains("--key-file"));
        let authority = Context { ca_file: Some("/none.pem".into()), ..Context::default() };
        assert!(with(authority, "https://localhost:1").unwrap_err().contains("/none.pem"));
        assert!(with(Context::default(), "http://localhost:1").is_ok());
        assert!(with(Context::default(), "not an address").is_err());
    }
}
