//! Who may use the control API and the private reads: the settings become gate, TLS and token.

use std::{path::PathBuf, sync::Arc};

use anyhow::anyhow;
use waypost_control::{
    access::{Authority, AuthoritySettings, Gate, Issuer},
    tls::Tls,
};
use waypost_providers::jwks::HttpKeys;
use waypost_runtime::{host::SystemClock, install::InstallRecord};

use crate::config::{Config, Owner};

/// What stands before the control API.
pub(super) fn gate(config: &Config) -> anyhow::Result<Gate> {
    let control = &config.control;
    if control.access_file.is_empty() && control.oidc_issuer.is_empty() {
        tracing::warn!("the control API asks nobody who they are: control.access_file is not set; it is open to this machine alone");
        return Ok(Gate::open().with_reflection(control.reflection));
    }
    let issuer = (!control.oidc_issuer.is_empty()).then(|| {
        let keys = HttpKeys::new(&control.oidc_issuer, &control.oidc_jwks_url).map_err(|e| anyhow!("control.oidc_issuer: {e}"))?;
        anyhow::Ok(Issuer {
            name: control.oidc_issuer.clone(),
            audience: control.oidc_audience.clone(),
            claim: control.oidc_claim.clone(),
            keys: Arc::new(keys),
            clock: Arc::new(SystemClock),
        })
    });
    let settings = AuthoritySettings { access_file: path(&control.access_file), issuer: issuer.transpose()? };
    let authority = Authority::open(settings).map_err(|why| anyhow!("control.access_file: {why}"))?;
    Ok(Gate::new(authority).with_reflection(control.reflection))
}

/// TLS of the control API; none where it is not set.
pub(super) fn control_tls(config: &Config) -> anyhow::Result<Option<Tls>> {
    let control = &config.control;
    tls("control.tls_cert_file", &control.tls_cert_file, &control.tls_key_file, &control.client_ca_file)
}

/// TLS of the private reads; none where it is not set.
pub(super) fn owner_tls(owner: &Owner) -> anyhow::Result<Option<Tls>> {
    tls("owner.tls_cert_file", &owner.tls_cert_file, &owner.tls_key_file, "")
}

fn tls(what: &'static str, certificate: &str, key: &str, authorities: &str) -> anyhow::Result<Option<Tls>> {
    let Some(certificate) = path(certificate) else { return Ok(None) };
    Tls::open(what, certificate, key.into(), path(authorities)).map(Some).map_err(|why| anyhow!("{what}: {why}"))
}

fn path(setting: &str) -> Option<PathBuf> {
    (!setting.is_empty()).then(|| setting.into())
}

/// What processes of one installation show each other: whoever knows the installation's key is one of them.
#[derive(Clone, Copy)]
pub(super) struct OwnerToken(blake3::Hash);

// === impl OwnerToken ===

impl std::fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnerToken")
    }
}

impl OwnerToken {
    pub(super) fn of(record: &InstallRecord) -> Self {
        Self::from_key(&record.hash_key())
    }

    pub(super) fn from_key(key: &[u8; 32]) -> Self {
        Self(blake3::keyed_hash(key, b"owner reads"))
    }

    /// The value of `authorization`.
    pub(super) fn shown(self) -> String {
        format!("Bearer {}", self.0.to_hex())
    }

    /// Whether this value of `authorization` is it; in a time that does not tell how much of it is.
    pub(super) fn is(self, shown: &str) -> bool {
        // the comparison of hashes takes the same time for all
        shown.strip_prefix("Bearer ").and_then(|hex| blake3::Hash::from_hex(hex).ok()).is_some_and(|hash| hash == self.0)
    }
}
