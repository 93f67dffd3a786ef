//! Settings: the embedded default file, then files in their order, then the environment, then flags.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

mod check;
mod warnings;

/// The reference of all settings.
pub(crate) const DEFAULT: &str = include_str!("default.toml");

/// All settings, checked.
#[derive(Clone, Debug, Deserialize, PartialEq)]
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
    pub(crate) telemetry: Telemetry,
    pub(crate) log: Log,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, PartialEq)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name { $(pub(crate) $field: $kind),* }
    };
}

section!(/** `[install]` */ Install { prefix: String, partitions: u32, replication: u32 });
section!(/** `[kafka]` */ Kafka {
    brokers: String, security: String, ca_file: String, cert_file: String, key_file: String, sasl: String, username: String,
    password_file: String, token_file: String, token_url: String, client_id: String, client_secret_file: String, scope: String,
});
section!(/** `[redis]` */ Redis {
    url: String, username: String, password_file: String, ca_file: String, cert_file: String, key_file: String, sentinels: String,
    master: String, cluster: String, rdb_only: bool, settings_asserted_by: String,
});
section!(/** `[store]` */ Store { commit_share: u32, commit_interval_max_s: i64 });
section!(/** `[process]` */ Process { grace_s: i64 });
section!(/** `[registry]` */ Registry { url: String, username: String, password_file: String, token_file: String, ca_file: String });
section!(/** `[ingest]` */ Ingest {
    listen: String, public_url: String, cors_origins: String, key_rate: u32, address_rate: u32, trusted_proxies: String,
});
section!(/** `[control]` */ Control {
    listen: String, tls_cert_file: String, tls_key_file: String, client_ca_file: String, access_file: String, oidc_issuer: String,
    oidc_audience: String, oidc_jwks_url: String, oidc_claim: String, plaintext: bool, reflection: bool, reports_days: u32,
});
section!(/** `[owner]` */ Owner {
    listen: String, advertise: String, tls_cert_file: String, tls_key_file: String, ca_file: String, tls_name: String,
});
section!(/** `[admin]` */ Admin { listen: String });
section!(/** `[mail]` */ Mail {
    catcher_dir: String, smtp_host: String, smtp_port: u16, smtp_tls: String, smtp_username: String, smtp_password_file: String,
    http_allow: String,
});
section!(/** `[secrets]` */ Secrets { link_key_file: String, dir: String });
section!(/** `[telemetry]` */ Telemetry { otlp_endpoint: String, sample: f64, otlp_metrics_s: i64, service: String, attributes: String });
section!(/** `[log]` */ Log { filter: String, format: String });

// === impl Config ===

impl Config {
    /// Reads all layers, of which the later one wins: the defaults, files, variables, and flags as `kafka.brokers=k:9092`. Checks the whole.
    ///
    /// # Errors
    /// An unreadable file, an unknown key, a value of the wrong type, or values that do not go together; each
    /// says which setting, what it is and what it may be.
    pub(crate) fn load(
        files: &[PathBuf],
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[String],
    ) -> anyhow::Result<Self> {
        let mut table: toml::Table = DEFAULT.parse().context("the embedded default file")?;
        for path in files {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let layer: toml::Table = text.parse().with_context(|| format!("{} is not TOML", path.display()))?;
            merge(&mut table, layer);
        }
        for (name, value) in environment {
            set_from_environment(&mut table, &name, &value)?;
        }
        for flag in flags {
            set_from_flag(&mut table, flag)?;
        }
        let config: Self = table.try_into().context("settings")?;
        check::check(&config)?;
        Ok(config)
    }

    /// What goes together and is seldom meant to, in a line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        warnings::warnings(self)
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
        *old = read_as(old, name, value)?;
    }
    Ok(())
}

/// `kafka.brokers=k:9092`; what is no setting is refused.
fn set_from_flag(table: &mut toml::Table, flag: &str) -> anyhow::Result<()> {
    let (name, value) = flag.split_once('=').with_context(|| format!("--set {flag}: it must be SECTION.KEY=VALUE"))?;
    let (section, key) = name.split_once('.').with_context(|| format!("--set {name}: it must be SECTION.KEY=VALUE"))?;
    let old = table.get_mut(section).and_then(toml::Value::as_table_mut).and_then(|settings| settings.get_mut(key));
    let old = old.with_context(|| format!("--set {name}: there is no such setting; `waypost config print` lists them"))?;
    *old = read_as(old, &format!("--set {name}"), value)?;
    Ok(())
}

/// A value of the type that the setting has.
fn read_as(old: &toml::Value, name: &str, value: &str) -> anyhow::Result<toml::Value> {
    Ok(match old {
        toml::Value::Integer(_) => toml::Value::Integer(value.parse().with_context(|| format!("{name} must be a number"))?),
        toml::Value::Boolean(_) => toml::Value::Boolean(value.parse().with_context(|| format!("{name} must be true or false"))?),
        toml::Value::Float(_) => toml::Value::Float(value.parse().with_context(|| format!("{name} must be a number"))?),
        toml::Value::String(_) | toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            toml::Value::String(value.to_owned())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> anyhow::Result<Config> {
        Config::load(&[], environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())), &[])
    }

    #[test]
    fn environment_beats_default_file() {
        let config = load(&[("WAYPOST_KAFKA_BROKERS", "k:1"), ("WAYPOST_INSTALL_PARTITIONS", "8"), ("WAYPOST_BIN", "x")]).unwrap();
        assert_eq!(config.kafka.brokers, "k:1");
        assert_eq!(config.install.partitions, 8);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[kafka]\nbroker = \"x\"\n").unwrap();
        let error = format!("{:#}", Config::load(&[file.path().to_owned()], [], &[]).unwrap_err());
        assert!(error.contains("broker"), "{error}");
    }

    #[test]
    fn a_flag_beats_the_environment_and_has_to_be_a_setting() {
        let flags = |flags: &[&str]| {
            let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            Config::load(&[], [("WAYPOST_INSTALL_PREFIX".to_owned(), "one.".to_owned())], &flags)
        };
        let config = flags(&["install.prefix=two.", "install.partitions=8", "kafka.brokers=k:9092"]).unwrap();
        assert_eq!((config.install.prefix.as_str(), config.install.partitions, config.kafka.brokers.as_str()), ("two.", 8, "k:9092"));
        for (flag, says) in [
            ("kafka.broker=k", "no such setting"),
            ("brokers=k", "SECTION.KEY"),
            ("kafka.brokers", "VALUE"),
            ("install.partitions=many", "number"),
        ] {
            let refused = format!("{:#}", flags(&[flag]).unwrap_err());
            assert!(refused.contains(says), "{flag}: {refused}");
        }
    }

    #[test]
    fn of_two_files_the_later_one_wins() {
        let (shop, stage) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(shop.path(), "[install]\nprefix = \"shop.\"\nreplication = 3\n").unwrap();
        std::fs::write(stage.path(), "[install]\nprefix = \"stage.\"\n").unwrap();
        let config = Config::load(&[shop.path().to_owned(), stage.path().to_owned()], [], &[]).unwrap();
        assert_eq!((config.install.prefix.as_str(), config.install.replication), ("stage.", 3));
    }
}
