//! Settings that may stand together and are seldom meant to: what somebody else could read on its way, in one line each.

use super::Config;

/// Of all sections, in their order.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let Config { kafka, redis, registry, owner, mail, control, .. } = config;
    let mut found = Vec::new();
    let mut warn = |dangerous: bool, text: &str| {
        if dangerous {
            found.push(text.to_owned());
        }
    };
    let far_brokers = kafka.brokers.split(',').any(|broker| !is_local(broker.trim()));
    warn(
        kafka.security == "sasl_plaintext" && matches!(kafka.sasl.as_str(), "plain" | "oauthbearer") && far_brokers,
        "kafka.security is sasl_plaintext: the password or token can be read on its way to kafka.brokers; sasl_ssl hides it",
    );
    let far_redis = [&redis.sentinels, &redis.cluster].iter().any(|list| !list.is_empty()) || !is_local(host_of(&redis.url));
    warn(
        redis.url.starts_with("redis://") && (!redis.password_file.is_empty() || redis.url.contains('@')) && far_redis,
        "redis.url is redis://: the password and everybody's state can be read on their way; rediss:// hides them",
    );
    let known = !registry.username.is_empty() || !registry.token_file.is_empty();
    warn(
        registry.url.starts_with("http://") && known && !is_local(host_of(&registry.url)),
        "registry.url is http://: the registry's password or token can be read on its way; https:// hides it",
    );
    warn(
        !control.plaintext && !is_local(&control.listen) && control.oidc_issuer.starts_with("http://"),
        "control.oidc_issuer is http://: whoever is on the way can put keys of their own in its place; use https://",
    );
    warn(
        owner.tls_cert_file.is_empty() && !is_local(&owner.listen),
        "owner.listen is reached by others, without owner.tls_cert_file: what control asks of people can be read on its way",
    );
    warn(
        mail.smtp_tls == "none" && !mail.smtp_username.is_empty() && !is_local(&mail.smtp_host),
        "mail.smtp_tls is none: mail.smtp_password_file and every message can be read on their way; starttls or tls hides them",
    );
    found
}

/// `redis://HOST:PORT/0` → `HOST:PORT`.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Whether an address, with or without its port, is this machine's own.
fn is_local(address: &str) -> bool {
    let host = match address.rsplit_once(':') {
        // an address of IPv6 has many
        Some((host, _)) if !host.contains(':') || host.ends_with(']') => host,
        Some(_) | None => address,
    };
    matches!(host, "127.0.0.1" | "localhost" | "[::1]" | "::1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> Vec<String> {
        let environment = settings.iter().map(|(name, value)| (format!("WAYPOST_{name}"), (*value).to_owned()));
        Config::load(&[], environment, &[]).unwrap().warnings()
    }

    #[test]
    fn what_can_be_read_on_its_way_is_warned_of() {
        assert_eq!(of(&[]), [""; 0], "the defaults are for one machine");
        let password = [("KAFKA_SASL", "plain"), ("KAFKA_USERNAME", "u"), ("KAFKA_PASSWORD_FILE", "p")];
        let kafka = |security, brokers| [&password[..], &[("KAFKA_SECURITY", security), ("KAFKA_BROKERS", brokers)]].concat();
        let redis = |url| vec![("REDIS_URL", url), ("REDIS_PASSWORD_FILE", "p")];
        let mail = |tls, host| {
            vec![("MAIL_SMTP_TLS", tls), ("MAIL_SMTP_HOST", host), ("MAIL_SMTP_USERNAME", "u"), ("MAIL_SMTP_PASSWORD_FILE", "p")]
        };
        for (settings, says) in [
            (kafka("sasl_plaintext", "127.0.0.1:9092, kafka:9092"), "kafka.security"),
            (redis("redis://r:6379"), "redis.url"),
            (vec![("REDIS_URL", "redis://:secret@r:6379")], "redis.url"),
            (vec![("REGISTRY_URL", "http://schemas:8081"), ("REGISTRY_USERNAME", "u"), ("REGISTRY_PASSWORD_FILE", "p")], "registry.url"),
            (vec![("OWNER_LISTEN", "0.0.0.0:7071")], "owner.listen"),
            (mail("none", "mail.example"), "mail.smtp_tls"),
            (
                vec![
                    ("CONTROL_LISTEN", "0.0.0.0:7070"),
                    ("CONTROL_TLS_CERT_FILE", "c"),
                    ("CONTROL_TLS_KEY_FILE", "k"),
                    ("CONTROL_OIDC_ISSUER", "http://id.example"),
                    ("CONTROL_OIDC_AUDIENCE", "waypost"),
                ],
                "control.oidc_issuer",
            ),
        ] {
            let warnings = of(&settings);
            assert!(warnings.len() == 1 && warnings[0].contains(says), "{settings:?}: {warnings:?}");
        }
        for settings in [
            kafka("sasl_ssl", "kafka:9092"),
            kafka("sasl_plaintext", "127.0.0.1:9092"),
            redis("rediss://r:6379"),
            redis("redis://localhost:6379/0"),
            redis("redis://[::1]:6379"),
            mail("none", "::1"),
            vec![("OWNER_LISTEN", "0.0.0.0:7071"), ("OWNER_TLS_CERT_FILE", "c"), ("OWNER_TLS_KEY_FILE", "k")],
            mail("starttls", "mail.example"),
            mail("none", "127.0.0.1"),
        ] {
            assert_eq!(of(&settings), [""; 0], "{settings:?}");
        }
    }
}
