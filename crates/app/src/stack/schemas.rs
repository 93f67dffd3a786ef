//! Ids of the public topics' schemas, from the registry that the settings name.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::sync::Mutex;
use waypost_codec::schemas::{Level, MemorySchemas, Schemas, committed};
use waypost_providers::registry::{Auth, Registry};
use waypost_runtime::driver::SchemaIds;

use crate::config::Config;

/// The registry of the settings; without one the committed schemas under the ids they get in this order.
pub(super) fn registry(config: &Config) -> anyhow::Result<Arc<dyn Schemas>> {
    if config.registry.url.is_empty() {
        tracing::warn!("no schema registry is set: schemas have fixed ids, for development only");
        return Ok(Arc::new(MemorySchemas::with_committed()));
    }
    let settings = &config.registry;
    let auth = if !settings.token_file.is_empty() {
        Auth::Bearer(settings.token_file.clone().into())
    } else if settings.username.is_empty() {
        Auth::None
    } else {
        Auth::Basic(settings.username.clone(), settings.password_file.clone().into())
    };
    let ca_file = Some(&settings.ca_file).filter(|file| !file.is_empty()).map(Into::into);
    Ok(Arc::new(Registry::new(&settings.url, auth, ca_file).context("registry.url")?))
}

/// Registers the committed schemas, in their order, at the level others may rely on.
pub(super) async fn register(config: &Config) -> anyhow::Result<()> {
    let registry = registry(config)?;
    for schema in committed() {
        let subject = format!("{}{}", config.install.prefix, schema.subject);
        registry.register(&subject, schema.text).await.with_context(|| format!("registering {subject}"))?;
        registry.set_level(&subject, Level::FullTransitive).await.with_context(|| format!("setting the level of {subject}"))?;
    }
    Ok(())
}

/// Asks once for each subject and version, and keeps the answer: an id never changes.
pub(super) struct Ids {
    registry: Arc<dyn Schemas>,
    prefix: String,
    known: Mutex<BTreeMap<(String, u32), u32>>,
}

// === impl Ids ===

impl Ids {
    pub(super) fn new(registry: Arc<dyn Schemas>, prefix: String) -> Self {
        Self { registry, prefix, known: Mutex::default() }
    }
}

#[async_trait]
impl SchemaIds for Ids {
    async fn prefix(&self, topic: &str, version: u32) -> Result<[u8; 5], String> {
        let mut known = self.known.lock().await;
        let key = (topic.to_owned(), version);
        let id = if let Some(id) = known.get(&key) {
            *id
        } else {
            let plain = format!("{topic}-value");
            let schema = committed().iter().find(|c| c.subject == plain && c.version == version);
            let schema = schema.ok_or_else(|| format!("no committed version {version} of {plain}"))?;
            let subject = format!("{}{plain}", self.prefix);
            // Finding a version and registering it again are the same call: it answers with the id.
            let id = self.registry.register(&subject, schema.text).await.map_err(|e| e.to_string())?;
            known.insert(key, id);
            id
        };
        let mut bytes = [0; 5];
        bytes[1..].copy_from_slice(&id.to_be_bytes());
        Ok(bytes)
    }
}
