//! The driver over a real Kafka; what it stores lies in memory.

#[path = "../../runtime/tests/driver/story.rs"]
mod story;
#[path = "../../runtime/tests/machine/toy.rs"]
#[allow(unreachable_pub, dead_code, clippy::pedantic, reason = "shared with the tests of the machine")]
mod toy;

use std::sync::Arc;

use waypost_kafka::{Connection, KafkaLog};
use waypost_memory::{
    MemoryStore,
    contract::{fresh_prefix, server},
};

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_kafka() {
    let log = KafkaLog::new(&Connection::new(server("WAYPOST_TEST_KAFKA"))).unwrap();
    story::story(Arc::new(log), Arc::new(MemoryStore::new()), fresh_prefix()).await;
}
