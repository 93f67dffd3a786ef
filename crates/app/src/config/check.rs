//! Values that may not be, and values that may not stand together: each refusal says which, what it is, and what it may be.

use anyhow::{Context as _, bail, ensure};
use waypost_ingest::{Origins, TrustedProxies};

use super::{Config, Control, Kafka, Redis, Store};

/// Looks at all sections.
///
/// # Errors
/// The first that is wrong.
pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    let v = config.install.partitions;
    if v == 0 || v > 256 || !v.is_multiple_of(4) {
        bail!("install.partitions is {v}; it must be a multiple of 4 up to 256");
    }
    let Store { commit_share, commit_interval_max_s: longest } = config.store;
    if !(1..=100).contains(&commit_share) {
        bail!("store.commit_share is {commit_share}; it must be a percentage from 1 to 100");
    }
    if !(1..=120).contains(&longest) {
        bail!("store.commit_interval_max_s is {longest}; it must be from 1 to 120, because a crash folds as much again");
    }
    if !(5..=600).contains(&config.process.grace_s) {
        bail!("process.grace_s is {}; it must be from 5 to 600", config.process.grace_s);
    }
    kafka(&config.kafka)?;
    redis(&config.redis)?;
    let registry = &config.registry;
    if !registry.username.is_empty() && !registry.token_file.is_empty() {
        bail!("registry.username and registry.token_file are both set; the registry knows us by one of them");
    }
    if !registry.url.starts_with("https://") {
        none_of("registry", "registry.url", &[("ca_file", &registry.ca_file)])?;
    }
    Origins::parse(&config.ingest.cors_origins).context("ingest.cors_origins")?;
    TrustedProxies::parse(&config.ingest.trusted_proxies).context("ingest.trusted_proxies")?;
    control(&config.control)?;
    let days = config.control.reports_days;
    ensure!(
        days == 0 || (40..=760).contains(&days),
        "control.reports_days is {days}; it must be 0 or from 40 to 760: public topics keep 30, and late rows are a few days late"
    );
    let sample = config.telemetry.sample;
    ensure!((0.0..=1.0).contains(&sample), "telemetry.sample is {sample}; it must be from 0 to 1");
    let every = config.telemetry.otlp_metrics_s;
    ensure!(every >= 0, "telemetry.otlp_metrics_s is {every}; it must be 0 or more");
    ensure!(every == 0 || !config.telemetry.otlp_endpoint.is_empty(), "telemetry.otlp_metrics_s needs telemetry.otlp_endpoint: where to");
    remote("owner", &config.owner.listen)?;
    both("owner", ("tls_cert_file", &config.owner.tls_cert_file), ("tls_key_file", &config.owner.tls_key_file))?;
    one_of("mail.smtp_tls", &config.mail.smtp_tls, &["none", "starttls", "tls"])?;
    one_of("log.format", &config.log.format, &["text", "json"])
}

fn kafka(kafka: &Kafka) -> anyhow::Result<()> {
    one_of("kafka.security", &kafka.security, &["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"])?;
    let (tls, sasl) = (kafka.security.ends_with("ssl"), kafka.security.starts_with("sasl"));
    if !tls {
        none_of("kafka", &kafka.security, &[("ca_file", &kafka.ca_file), ("cert_file", &kafka.cert_file), ("key_file", &kafka.key_file)])?;
    }
    both("kafka", ("cert_file", &kafka.cert_file), ("key_file", &kafka.key_file))?;
    if !sasl {
        ensure!(kafka.sasl.is_empty(), "kafka.sasl is `{}`, but kafka.security is {}; set sasl_ssl", kafka.sasl, kafka.security);
        return Ok(());
    }
    one_of("kafka.sasl", &kafka.sasl, &["plain", "scram-sha-256", "scram-sha-512", "oauthbearer"])?;
    let passwords = [("username", &kafka.username), ("password_file", &kafka.password_file)];
    let tokens = [
        ("token_file", &kafka.token_file),
        ("token_url", &kafka.token_url),
        ("client_id", &kafka.client_id),
        ("client_secret_file", &kafka.client_secret_file),
        ("scope", &kafka.scope),
    ];
    let unused: &[(&str, &String)] = if kafka.sasl == "oauthbearer" { &passwords } else { &tokens };
    for (name, value) in unused {
        ensure!(value.is_empty(), "kafka.{name} is set, but with kafka.sasl = {} nothing uses it", kafka.sasl);
    }
    if kafka.sasl == "oauthbearer" {
        match (kafka.token_file.is_empty(), kafka.token_url.is_empty()) {
            (true, true) => bail!("kafka.sasl is oauthbearer; it needs kafka.token_file or kafka.token_url"),
            (false, false) => bail!("kafka.token_file and kafka.token_url are both set; tokens come from one of them"),
            (false, true) => {}
            (true, false) => {
                ensure!(!kafka.client_id.is_empty(), "kafka.token_url needs kafka.client_id and kafka.client_secret_file");
                both("kafka", ("client_id", &kafka.client_id), ("client_secret_file", &kafka.client_secret_file))?;
            }
        }
    } else {
        ensure!(!kafka.username.is_empty(), "kafka.sasl is {}; it needs kafka.username and kafka.password_file", kafka.sasl);
        both("kafka", ("username", &kafka.username), ("password_file", &kafka.password_file))?;
    }
    Ok(())
}

fn redis(redis: &Redis) -> anyhow::Result<()> {
    if !redis.url.starts_with("rediss://") {
        none_of("redis", "redis://", &[("ca_file", &redis.ca_file), ("cert_file", &redis.cert_file), ("key_file", &redis.key_file)])?;
    }
    both("redis", ("cert_file", &redis.cert_file), ("key_file", &redis.key_file))?;
    ensure!(redis.username.is_empty() || !redis.password_file.is_empty(), "redis.username is set; it needs redis.password_file");
    if !redis.cluster.is_empty() {
        let has_nodes = redis.cluster.split(',').any(|address| !address.trim().is_empty());
        ensure!(has_nodes, "redis.cluster is `{}`; it must name a node, HOST:PORT", redis.cluster);
        ensure!(redis.sentinels.is_empty(), "redis.cluster and redis.sentinels are both set; keep the one that fits the servers");
        let database = redis.url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, database)| database);
        ensure!(
            matches!(database, "" | "0"),
            "redis.url names database {database}, and redis.cluster is set: a Redis Cluster has none but 0"
        );
    }
    both("redis", ("sentinels", &redis.sentinels), ("master", &redis.master))
}

fn control(control: &Control) -> anyhow::Result<()> {
    both("control", ("tls_cert_file", &control.tls_cert_file), ("tls_key_file", &control.tls_key_file))?;
    both("control", ("oidc_issuer", &control.oidc_issuer), ("oidc_audience", &control.oidc_audience))?;
    let tls = !control.tls_cert_file.is_empty();
    if !tls && !control.client_ca_file.is_empty() {
        bail!(
            "control.client_ca_file is set, but certificates of callers come with TLS: set control.tls_cert_file and control.tls_key_file"
        );
    }
    if !remote("control", &control.listen)? {
        return Ok(());
    }
    if control.access_file.is_empty() && control.oidc_issuer.is_empty() {
        bail!(
            "control.listen is `{}`, where others reach it: say who may do what in control.access_file, or listen on loopback",
            control.listen
        );
    }
    ensure!(
        tls || control.plaintext,
        "control.listen is `{}`, where tokens could be seen on their way: set control.tls_cert_file and control.tls_key_file, or \
         control.plaintext = true behind something that ends TLS",
        control.listen
    );
    Ok(())
}

/// Whether an address is more than this machine's own.
fn remote(section: &str, listen: &str) -> anyhow::Result<bool> {
    let Some((host, _)) = listen.rsplit_once(':') else { bail!("{section}.listen is `{listen}`; it must be HOST:PORT") };
    Ok(!matches!(host, "127.0.0.1" | "localhost" | "[::1]"))
}

fn one_of(name: &str, value: &str, allowed: &[&str]) -> anyhow::Result<()> {
    ensure!(allowed.contains(&value), "{name} is `{value}`; it must be one of {}", allowed.join(", "));
    Ok(())
}

fn both(section: &str, one: (&str, &str), other: (&str, &str)) -> anyhow::Result<()> {
    for (given, missing) in [(one, other), (other, one)] {
        ensure!(
            given.1.is_empty() || !missing.1.is_empty(),
            "{section}.{} is set, but {section}.{} is not: they go together",
            given.0,
            missing.0
        );
    }
    Ok(())
}

fn none_of(section: &str, mode: &str, settings: &[(&str, &str)]) -> anyhow::Result<()> {
    for (name, value) in settings {
        ensure!(value.is_empty(), "{section}.{name} is set, but {mode} has no TLS in which it would be used");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(settings: &[(&str, &str)]) -> String {
        let environment = settings.iter().map(|(name, value)| (format!("WAYPOST_{name}"), (*value).to_owned()));
        Config::load(&[], environment, &[]).map_or_else(|error| format!("{error:#}"), |_| "accepted".to_owned())
    }

    #[test]
    fn dangerous_settings_are_refused_with_what_to_change() {
        for (settings, says) in [
            (&[("INSTALL_PARTITIONS", "6")][..], "multiple of 4"),
            (&[("INSTALL_PARTITIONS", "many")], "number"),
            (&[("STORE_COMMIT_SHARE", "0")], "percentage"),
            (&[("STORE_COMMIT_INTERVAL_MAX_S", "300")], "120"),
            (&[("PROCESS_GRACE_S", "1")], "5 to 600"),
            (&[("MAIL_SMTP_TLS", "maybe")], "starttls"),
            (&[("OWNER_LISTEN", "7071")], "HOST:PORT"),
            (&[("OWNER_TLS_CERT_FILE", "c")], "owner.tls_key_file"),
            (&[("CONTROL_LISTEN", "0.0.0.0:7070")], "control.access_file"),
            (&[("CONTROL_LISTEN", "0.0.0.0:7070"), ("CONTROL_ACCESS_FILE", "a")], "control.plaintext"),
            (&[("CONTROL_CLIENT_CA_FILE", "ca")], "control.tls_cert_file"),
            (&[("CONTROL_OIDC_ISSUER", "https://id.example")], "control.oidc_audience"),
            (&[("KAFKA_SECURITY", "tls")], "sasl_ssl"),
            (&[("KAFKA_CA_FILE", "ca")], "plaintext has no TLS"),
            (&[("KAFKA_SASL", "plain")], "kafka.security is plaintext"),
            (&[("KAFKA_SECURITY", "sasl_ssl")], "scram-sha-512"),
            (&[("KAFKA_SECURITY", "sasl_ssl"), ("KAFKA_SASL", "scram-sha-512")], "kafka.username"),
            (&[("KAFKA_SECURITY", "sasl_ssl"), ("KAFKA_SASL", "plain"), ("KAFKA_USERNAME", "u")], "kafka.password_file"),
            (&[("KAFKA_SECURITY", "sasl_ssl"), ("KAFKA_SASL", "oauthbearer")], "kafka.token_file"),
            (&[("KAFKA_SECURITY", "sasl_ssl"), ("KAFKA_SASL", "oauthbearer"), ("KAFKA_TOKEN_URL", "u")], "kafka.client_id"),
            (&[("REDIS_CA_FILE", "ca")], "redis:// has no TLS"),
            (
                &[("KAFKA_SECURITY", "sasl_ssl"), ("KAFKA_SASL", "oauthbearer"), ("KAFKA_TOKEN_FILE", "t"), ("KAFKA_USERNAME", "u")],
                "kafka.username is set, but with kafka.sasl = oauthbearer",
            ),
            (
                &[("KAFKA_SECURITY", "sasl_ssl"), ("KAFKA_SASL", "plain"), ("KAFKA_TOKEN_FILE", "t")],
                "kafka.token_file is set, but with kafka.sasl = plain",
            ),
            (&[("REDIS_USERNAME", "u")], "redis.password_file"),
            (&[("REGISTRY_CA_FILE", "ca")], "registry.ca_file"),
            (&[("REDIS_SENTINELS", "s:26379")], "redis.master"),
            (&[("REDIS_SENTINELS", "s:26379"), ("REDIS_MASTER", "m"), ("REDIS_CLUSTER", "n:6379")], "redis.cluster and redis.sentinels"),
            (&[("REDIS_CLUSTER", ",")], "must name a node"),
            (&[("REDIS_URL", "redis://r:6379/3"), ("REDIS_CLUSTER", "n:6379")], "none but 0"),
            (&[("TELEMETRY_SAMPLE", "1.5")], "from 0 to 1"),
            (&[("TELEMETRY_OTLP_METRICS_S", "60")], "needs telemetry.otlp_endpoint"),
            (&[("INGEST_CORS_ORIGINS", "https://shop.example/")], "ingest.cors_origins: `https://shop.example/` is no origin"),
            (&[("INGEST_TRUSTED_PROXIES", "10.0.0.0/8, 0.0.0.0/0")], "ingest.trusted_proxies: `0.0.0.0/0` is no network"),
            (&[("INGEST_KEY_RATE", "-1")], "key_rate"),
            (&[("REGISTRY_USERNAME", "u"), ("REGISTRY_TOKEN_FILE", "t")], "one of them"),
        ] {
            let refusal = refusal(settings);
            assert!(refusal.contains(says), "{settings:?}: {refusal}");
        }
    }

    #[test]
    fn what_goes_together_is_accepted() {
        for settings in [
            &[("OWNER_LISTEN", "0.0.0.0:7071")][..],
            &[("CONTROL_LISTEN", "0.0.0.0:7070"), ("CONTROL_ACCESS_FILE", "a"), ("CONTROL_PLAINTEXT", "true")],
            &[
                ("CONTROL_LISTEN", "0.0.0.0:7070"),
                ("CONTROL_ACCESS_FILE", "a"),
                ("CONTROL_TLS_CERT_FILE", "c"),
                ("CONTROL_TLS_KEY_FILE", "k"),
            ],
            &[("KAFKA_SECURITY", "sasl_ssl"), ("KAFKA_SASL", "plain"), ("KAFKA_USERNAME", "u"), ("KAFKA_PASSWORD_FILE", "p")],
            &[("KAFKA_SECURITY", "ssl"), ("KAFKA_CERT_FILE", "c"), ("KAFKA_KEY_FILE", "k")],
            &[("REDIS_URL", "rediss://r:6379"), ("REDIS_CA_FILE", "ca"), ("REDIS_SENTINELS", "s:1"), ("REDIS_MASTER", "m")],
            &[("REDIS_URL", "redis://r:6379/0"), ("REDIS_CLUSTER", "n1:6379,n2:6379")],
            &[("REDIS_CLUSTER", "n1:6379")],
        ] {
            assert_eq!(refusal(settings), "accepted", "{settings:?}");
        }
    }
}
