//! Settings of librdkafka (PROTOCOL §6.6). Ours win; an override that contradicts one refuses to start.

use rdkafka::ClientConfig;

use crate::standing::ACCOUNT_EVERY;

/// Settings that are ours on a member of a role's group, and why they are not to be touched.
const CONSUMER: &[(&str, &str)] = &[
    ("group.protocol", "classic"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "10000"),
    // with its answer a member hears that others have come or gone
    ("heartbeat.interval.ms", "1000"),
    ("max.poll.interval.ms", "300000"),
    // the store has the offset
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // the default, `largest`, skips to the end in silence
    ("auto.offset.reset", "error"),
    // a flipped bit would be folded for ever
    ("check.crcs", "true"),
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
    // a byte answers the fetch at once; the wait only paces idle requests
    ("fetch.min.bytes", "1"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.message.max.bytes", "1048576"),
    // with split queues this counts per partition
    ("queued.max.messages.kbytes", "2048"),
    ("queued.min.messages", "2000"),
    // the default of a second turns back-pressure into stalls
    ("fetch.queue.backoff.ms", "20"),
];

/// The same for the producer.
const PRODUCER: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("max.in.flight.requests.per.connection", "5"),
    // what is not acknowledged in time ends the producer's life like any error, and another one sends it again
    ("message.timeout.ms", "30000"),
    // the packer has lingered already
    ("linger.ms", "0"),
    ("message.max.bytes", "1000000"),
    ("batch.size", "1000000"),
    // above the sum of the workers' limits: a full queue is back-pressure
    ("queue.buffering.max.messages", "1000000"),
    ("queue.buffering.max.kbytes", "1048576"),
];

/// Set per client by this crate.
const RESERVED: &[&str] = &[
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "group.instance.id",
    "transactional.id",
    "enable.partition.eof",
    "statistics.interval.ms",
];

/// A setting that is ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Kafka setting `{name}` is fixed{}; remove it from the configuration", wanted.as_ref().map(|w| format!(" to `{w}`")).unwrap_or_default())]
pub struct SettingsError {
    /// Which.
    pub name: String,
    /// The value it has; none where it is chosen per client.
    pub wanted: Option<String>,
}

/// Brokers and the operator's own settings, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    brokers: String,
    overrides: Vec<(String, String)>,
}

// === impl Settings ===

impl Settings {
    pub(crate) fn new(brokers: &str, overrides: Vec<(String, String)>) -> Result<Self, SettingsError> {
        for (name, value) in &overrides {
            let wanted = CONSUMER.iter().chain(PRODUCER).find(|(ours, _)| ours == name);
            if wanted.is_some_and(|(_, wanted)| wanted != value) || RESERVED.contains(&name.as_str()) {
                return Err(SettingsError { name: name.clone(), wanted: wanted.map(|(_, value)| (*value).to_owned()) });
            }
        }
        Ok(Self { brokers: brokers.to_owned(), overrides })
    }

    fn base(&self, ours: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "waypost");
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        for (name, value) in &self.overrides {
            config.set(name, value);
        }
        for (name, value) in ours {
            config.set(*name, *value);
        }
        config
    }

    /// For administration and questions about topics.
    pub(crate) fn client(&self) -> ClientConfig {
        self.base(&[("allow.auto.create.topics", "false")])
    }

    /// For a member of a role's group.
    pub(crate) fn member(&self, group: &str) -> ClientConfig {
        let mut config = self.base(CONSUMER);
        config.set("group.id", group).set("statistics.interval.ms", ACCOUNT_EVERY.to_string());
        config
    }

    /// For a reader without a group. librdkafka wants a name all the same; it commits nothing under it.
    pub(crate) fn tail(&self) -> ClientConfig {
        let mut config = self.member("waypost.tail");
        config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "500").set("queued.max.messages.kbytes", "8192");
        config
    }

    /// For a group whose offsets live in Kafka.
    pub(crate) fn subscription(&self, group: &str) -> ClientConfig {
        let mut config = self.member(group);
        config.set("auto.offset.reset", "earliest").set("queued.max.messages.kbytes", "8192");
        config
    }

    /// For a producer's life.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut config = self.base(PRODUCER);
        let loopback = self.brokers.split(',').all(|b| ["127.0.0.1", "localhost", "[::1]"].iter().any(|l| b.trim().starts_with(l)));
        if !self.overrides.iter().any(|(name, _)| name == "compression.type") {
            config.set("compression.type", if loopback { "none" } else { "lz4" });
        }
        config.set("statistics.interval.ms", ACCOUNT_EVERY.to_string());
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Result<Settings, SettingsError> {
        Settings::new("localhost:9092", vec![(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn an_override_that_contradicts_ours_is_refused() {
        for (name, value) in [
            ("enable.auto.commit", "true"),
            ("auto.offset.reset", "earliest"),
            ("acks", "1"),
            ("group.id", "mine"),
            ("transactional.id", "t"),
            ("bootstrap.servers", "elsewhere:9092"),
        ] {
            assert!(of(name, value).is_err(), "{name}");
        }
        assert!(of("acks", "all").is_ok());
        assert!(of("security.protocol", "SASL_SSL").is_ok());
    }

    #[test]
    fn loopback_is_not_compressed() {
        let compression = |brokers: &str| {
            let settings = Settings::new(brokers, Vec::new()).unwrap();
            settings.producer().get("compression.type").map(ToOwned::to_owned)
        };
        assert_eq!(compression("127.0.0.1:9092").as_deref(), Some("none"));
        assert_eq!(compression("127.0.0.1:9092,kafka-1:9092").as_deref(), Some("lz4"));
    }
}
