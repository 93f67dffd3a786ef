//! The driver over the adapters in memory.

#[path = "../machine/toy.rs"]
#[allow(unreachable_pub, dead_code, clippy::pedantic, reason = "shared with the tests of the machine")]
mod toy;

mod story;

use std::sync::Arc;

use waypost_memory::{LogPort, MemoryLog, MemoryStore};
use waypost_runtime::{host::SystemClock, ports::Clock as _};

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_memory() {
    let log = LogPort::new(MemoryLog::with_time(|| SystemClock.now()));
    story::story(Arc::new(log), Arc::new(MemoryStore::new()), "t.".into()).await;
}

#[tokio::test]
async fn what_jobs_bring_together_is_one_frame() {
    let log = LogPort::new(MemoryLog::with_time(|| SystemClock.now()));
    story::together(Arc::new(log), Arc::new(MemoryStore::new()), "t.".into()).await;
}
