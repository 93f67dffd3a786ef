//! Settings: the embedded default file, then a file, then the environment, then flags.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// The reference of all settings.
pub(crate) const DEFAULT: &str = include_str!("default.toml");

/// All settings, checked.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) install: Install,
    pub(crate) kafka: Kafka,
    pub(crate) redis: Redis,
    pub(crate) store: Store,
    pub(crate) process: Process,
    pub(crate) registry: Registry,
    pub(crate) ingest: Ingest,
    pub(crate) control: Control,
    pub(crate) owner: Owner,
    pub(crate) admin: Admin,
    pub(crate) mail: Mail,
    pub(crate) secrets: Secrets,
    pub(crate) log: Log,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name { $(pub(crate) $field: $kind),* }
    };
}

section!(/** `[install]` */ Install { prefix: String, partitions: u32, replication: u32 });
section!(/** `[kafka]` */ Kafka { brokers: String });
section!(/** `[redis]` */ Redis { url: String, rdb_only: bool, settings_asserted_by: String });
section!(/** `[store]` */ Store { commit_share: u32, commit_interval_max_s: i64 });
section!(/** `[process]` */ Process { grace_s: i64 });
section!(/** `[registry]` */ Registry { url: String, username: String, password_file: String });
section!(/** `[ingest]` */ Ingest { listen: String, public_url: String });
section!(/** `[control]` */ Control { listen: String, allow_remote: bool });
section!(/** `[owner]` */ Owner { listen: String, allow_remote: bool, advertise: String });
section!(/** `[admin]` */ Admin { listen: String });
section!(/** `[mail]` */ Mail {
    catcher_dir: String, smtp_host: String, smtp_port: u16, smtp_tls: String, smtp_username: String, smtp_password_file: String,
    http_allow: String,
});
section!(/** `[secrets]` */ Secrets { link_key_file: String, dir: String });
section!(/** `[log]` */ Log { filter: String, format: String });

// === impl Config ===

impl Config {
    /// Reads all layers and checks the whole.
    ///
    /// # Errors
    /// An unreadable file, an unknown key, a value of the wrong type, or values that do not go together; each
    /// says which setting, what it is and what it may be.
    pub(crate) fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<Self> {
        let mut table: toml::Table = DEFAULT.parse().context("the embedded default file")?;
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let layer: toml::Table = text.parse().with_context(|| format!("{} is not TOML", path.display()))?;
            merge(&mut table, layer);
        }
        for (name, value) in environment {
            set_from_environment(&mut table, &name, &value)?;
        }
        let config: Self = table.try_into().context("settings")?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let v = self.install.partitions;
        if v == 0 || v > 256 || !v.is_multiple_of(4) {
            bail!("install.partitions is {v}; it must be a multiple of 4 up to 256");
        }
        let Store { commit_share, commit_interval_max_s: longest } = self.store;
        if !(1..=100).contains(&commit_share) {
            bail!("store.commit_share is {commit_share}; it must be a percentage from 1 to 100");
        }
        if !(1..=120).contains(&longest) {
            bail!("store.commit_interval_max_s is {longest}; it must be from 1 to 120, because a crash folds as much again");
        }
        if !(5..=600).contains(&self.process.grace_s) {
            bail!("process.grace_s is {}; it must be from 5 to 600", self.process.grace_s);
        }
        for (section, listen, allowed) in
            [("control", &self.control.listen, self.control.allow_remote), ("owner", &self.owner.listen, self.owner.allow_remote)]
        {
            let Some((host, _)) = listen.rsplit_once(':') else { bail!("{section}.listen is `{listen}`; it must be HOST:PORT") };
            if !matches!(host, "127.0.0.1" | "localhost" | "[::1]") && !allowed {
                bail!(
                    "{section}.listen is `{listen}`, but nothing authenticates its callers yet: listen on loopback, or set {section}.allow_remote = true"
                );
            }
        }
        if !matches!(self.mail.smtp_tls.as_str(), "none" | "starttls" | "tls") {
            bail!("mail.smtp_tls is `{}`; it must be none, starttls or tls", self.mail.smtp_tls);
        }
        if !matches!(self.log.format.as_str(), "text" | "json") {
            bail!("log.format is `{}`; it must be text or json", self.log.format);
        }
        Ok(())
    }
}

fn merge(into: &mut toml::Table, layer: toml::Table) {
    for (name, value) in layer {
        match (into.get_mut(&name), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

/// `WAYPOST_KAFKA_BROKERS` sets `kafka.brokers`; a `WAYPOST_` name that is no setting is left to other tools.
fn set_from_environment(table: &mut toml::Table, name: &str, value: &str) -> anyhow::Result<()> {
    let Some(rest) = name.strip_prefix("WAYPOST_") else { return Ok(()) };
    let rest = rest.to_ascii_lowercase();
    for (section, settings) in table.iter_mut() {
        let Some(settings) = settings.as_table_mut() else { continue };
        let Some(old) = rest.strip_prefix(&format!("{section}_")).and_then(|key| settings.get_mut(key)) else { continue };
        *old = match old {
            toml::Value::Integer(_) => toml::Value::Integer(value.parse().with_context(|| format!("{name} must be a number"))?),
            toml::Value::Boolean(_) => toml::Value::Boolean(value.parse().with_context(|| format!("{name} must be true or false"))?),
            toml::Value::String(_) | toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
                toml::Value::String(value.to_owned())
            }
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> anyhow::Result<Config> {
        Config::load(None, environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn environment_beats_default_file() {
        let config = load(&[("WAYPOST_KAFKA_BROKERS", "k:1"), ("WAYPOST_INSTALL_PARTITIONS", "8"), ("WAYPOST_BIN", "x")]).unwrap();
        assert_eq!(config.kafka.brokers, "k:1");
        assert_eq!(config.install.partitions, 8);
    }

    #[test]
    fn dangerous_settings_are_refused_with_what_to_change() {
        for (name, value, says) in [
            ("WAYPOST_INSTALL_PARTITIONS", "6", "multiple of 4"),
            ("WAYPOST_CONTROL_LISTEN", "0.0.0.0:7070", "control.allow_remote"),
            ("WAYPOST_OWNER_LISTEN", "0.0.0.0:7071", "owner.allow_remote"),
            ("WAYPOST_MAIL_SMTP_TLS", "maybe", "starttls"),
            ("WAYPOST_INSTALL_PARTITIONS", "many", "number"),
            ("WAYPOST_STORE_COMMIT_SHARE", "0", "percentage"),
            ("WAYPOST_STORE_COMMIT_INTERVAL_MAX_S", "300", "120"),
            ("WAYPOST_PROCESS_GRACE_S", "1", "5 to 600"),
        ] {
            let error = format!("{:#}", load(&[(name, value)]).unwrap_err());
            assert!(error.contains(says), "{name}={value}: {error}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[kafka]\nbroker = \"x\"\n").unwrap();
        let error = format!("{:#}", Config::load(Some(file.path()), []).unwrap_err());
        assert!(error.contains("broker"), "{error}");
    }
}
