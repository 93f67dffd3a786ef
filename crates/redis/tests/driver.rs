//! The driver over a real Redis, as a user who may do what Waypost needs and nothing else; its log is in memory.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "user/guest.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared with other tests")]
mod guest;

#[path = "user/nodes.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared with other tests")]
mod nodes;

#[path = "../../runtime/tests/driver/story.rs"]
mod story;
#[path = "../../runtime/tests/machine/toy.rs"]
#[allow(unreachable_pub, dead_code, clippy::pedantic, reason = "shared with the tests of the machine")]
mod toy;

use std::sync::Arc;

use waypost_memory::{
    LogPort, MemoryLog,
    contract::{fresh_prefix, server},
};
use waypost_redis::{RedisStore, Rights};
use waypost_runtime::{host::SystemClock, ports::Clock as _};

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_redis() {
    let prefix = fresh_prefix();
    let guest = guest::Guest::invite(&server("WAYPOST_TEST_REDIS"), &prefix, Rights::Services).await;
    let store = RedisStore::connect(&guest.server(), &prefix, &[]).unwrap();
    let log = LogPort::new(MemoryLog::with_time(|| SystemClock.now()));
    story::story(Arc::new(log), Arc::new(store), prefix).await;
    guest.see_off().await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_a_cluster() {
    let (prefix, cluster) = (fresh_prefix(), nodes::OwnCluster::start(&server("WAYPOST_TEST_REDIS_SERVER")).await);
    let guest = cluster.guest("guest", &prefix, Rights::Services).await;
    let store = RedisStore::connect(&guest, &prefix, &[]).unwrap();
    let log = LogPort::new(MemoryLog::with_time(|| SystemClock.now()));
    story::story(Arc::new(log), Arc::new(store), prefix).await;
}
