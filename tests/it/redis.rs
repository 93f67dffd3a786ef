//! What lies in Redis, seen past the product.

use waypost_redis::Keys;
use waypost_runtime::ports::Offset;
use waypost_tests::chaos::resp::{self, Reply};
use waypost_types::PartitionId;

use crate::{public::RUNTIME, stack};

/// The keys of one installation.
pub(crate) struct Held {
    port: u16,
    database: String,
    prefix: String,
    pub(crate) keys: Keys,
}

// === impl Held ===

impl Held {
    /// What is kept under a prefix.
    pub(crate) fn under(prefix: &str) -> Self {
        let url = stack::variable("WAYPOST_TEST_REDIS");
        let place = url.strip_prefix("redis://127.0.0.1:").and_then(|rest| rest.split_once('/'));
        let (port, database) = place.unwrap_or_else(|| panic!("{url} is no Redis of this machine with a database"));
        Self { port: port.parse().unwrap(), database: database.to_owned(), prefix: prefix.to_owned(), keys: Keys::new(prefix, &[]) }
    }

    /// Asks once.
    pub(crate) fn ask<A: AsRef<[u8]>>(&self, words: &[A]) -> Reply {
        let reply = RUNTIME.block_on(resp::ask_in(self.port, &self.database, words)).unwrap();
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        reply
    }

    /// First offset that a partition has not committed.
    pub(crate) fn off(&self, partition: PartitionId) -> Offset {
        self.ask(&["HGET", &self.keys.meta(partition), "off"]).text().parse().unwrap()
    }

    /// The engine in force at a partition.
    pub(crate) fn engine(&self, partition: PartitionId) -> String {
        self.ask(&["HGET", &self.keys.meta(partition), "eng"]).text()
    }

    /// An entity of a partition: bucket, field and value.
    pub(crate) fn entity(&self, partition: PartitionId) -> Option<(String, Vec<u8>, Vec<u8>)> {
        (0..16).find_map(|bucket| {
            let key = self.keys.bucket(partition, bucket);
            let mut reply = self.ask(&["HGETALL", &key]).list().into_iter().map(Reply::bytes);
            Some((key, reply.next()?, reply.next()?))
        })
    }

    /// Keys in which a text stands: in a field, a member or a value.
    pub(crate) fn where_is(&self, text: &str) -> Vec<String> {
        let keys = self.ask(&["KEYS", &format!("{{{}wp1:*", self.prefix)]).list();
        assert!(keys.len() > 16, "keys of {}: {keys:?}", self.prefix);
        let all = keys.into_iter().map(|key| key.text());
        all.filter(|key| {
            let held = match self.ask(&["TYPE", key]).text().as_str() {
                "hash" => self.ask(&["HGETALL", key]),
                "zset" => self.ask(&["ZRANGE", key, "0", "-1"]),
                _ => self.ask(&["GET", key]),
            };
            let parts = if let Reply::List(parts) = held { parts } else { vec![held] };
            parts.into_iter().any(|part| part.bytes().windows(text.len()).any(|window| window == text.as_bytes()))
        })
        .collect()
    }
}
