//! Settings of librdkafka (PROTOCOL §6.6), and the recipe of each kind of client.

use std::sync::Arc;

use rdkafka::{ClientConfig, ClientContext, config::FromClientConfigAndContext, error::KafkaError};

use crate::{
    connection::{Connection, ConnectionError, Identity, in_our_words},
    standing::ACCOUNT_EVERY,
};

/// Settings of a member of a role's group, and why they are as they are.
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

/// What all clients of a cluster have in common.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    connection: Arc<Connection>,
}

/// What a kind of client is made of, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// All but what lies in files.
    pub(crate) config: ClientConfig,
    connection: Arc<Connection>,
}

// === impl Settings ===

impl Settings {
    pub(crate) fn new(connection: &Connection) -> Self {
        Self { connection: Arc::new(connection.clone()) }
    }

    fn base(&self, ours: &[(&str, &str)]) -> Recipe {
        let mut config = ClientConfig::new();
        config.set("client.id", "waypost").set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        self.connection.describe(&mut config);
        for (name, value) in ours {
            config.set(*name, *value);
        }
        Recipe { config, connection: Arc::clone(&self.connection) }
    }

    /// For administration and questions about topics.
    pub(crate) fn client(&self) -> Recipe {
        self.base(&[("allow.auto.create.topics", "false")])
    }

    /// For a member of a role's group.
    pub(crate) fn member(&self, group: &str) -> Recipe {
        let mut recipe = self.base(CONSUMER);
        recipe.config.set("group.id", group).set("statistics.interval.ms", ACCOUNT_EVERY.to_string());
        recipe
    }

    /// For a reader without a group. librdkafka wants a name all the same; it commits nothing under it.
    pub(crate) fn tail(&self) -> Recipe {
        let mut recipe = self.member("waypost.tail");
        recipe.config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "500").set("queued.max.messages.kbytes", "8192");
        recipe
    }

    /// For a group whose offsets live in Kafka.
    pub(crate) fn subscription(&self, group: &str) -> Recipe {
        let mut recipe = self.member(group);
        recipe.config.set("auto.offset.reset", "earliest").set("queued.max.messages.kbytes", "8192");
        recipe
    }

    /// For a producer's life.
    pub(crate) fn producer(&self) -> Recipe {
        let mut recipe = self.base(PRODUCER);
        let local = |broker: &str| ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| broker.trim().starts_with(host));
        let loopback = self.connection.brokers().split(',').all(local);
        recipe.config.set("compression.type", if loopback { "none" } else { "lz4" });
        recipe.config.set("statistics.interval.ms", ACCOUNT_EVERY.to_string());
        recipe
    }
}

// === impl Recipe ===

impl Recipe {
    /// Makes a client, by what lies in the files now.
    pub(crate) fn make<C, T>(&self, context: impl FnOnce(Identity) -> C) -> Result<T, ConnectionError>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C>,
    {
        let (password, identity) = self.connection.identity()?;
        let mut config = self.config.clone();
        if let Some(password) = password {
            config.set("sasl.password", password.as_str());
        }
        config.create_with_context(context(identity)).map_err(|error| {
            // not its value, which may be a password
            let said = if let KafkaError::ClientConfig(_, what, name, _) = &error { format!("{what} {name}") } else { error.to_string() };
            ConnectionError::Refused(in_our_words(&said))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_not_compressed() {
        let compression = |brokers: &str| {
            let recipe = Settings::new(&Connection::new(brokers)).producer();
            recipe.config.get("compression.type").map(ToOwned::to_owned)
        };
        assert_eq!(compression("127.0.0.1:9092").as_deref(), Some("none"));
        assert_eq!(compression("127.0.0.1:9092,kafka-1:9092").as_deref(), Some("lz4"));
    }
}
