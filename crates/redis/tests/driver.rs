//! The driver over a real Redis; its log is in memory.

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
use waypost_redis::RedisStore;
use waypost_runtime::{host::SystemClock, ports::Clock as _};

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_redis() {
    let prefix = fresh_prefix();
    let store = RedisStore::connect(&server("WAYPOST_TEST_REDIS"), &prefix, &[]).unwrap();
    let log = LogPort::new(MemoryLog::with_time(|| SystemClock.now()));
    story::story(Arc::new(log), Arc::new(store), prefix).await;
}
