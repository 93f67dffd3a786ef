//! The memory adapters keep the ports' promises.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use waypost_memory::{
    LogPort, MemoryLog, MemoryStore, VirtualClock,
    contract::{LogFixture, Meddle, StoreFixture, clock_suite, log_suite, store_suite},
    store::Dump,
};
use waypost_runtime::{
    digest::Part,
    ports::{Log, Offset, Store},
    upkeep::Upkeep,
};
use waypost_types::{EntityId, PartitionId, Timestamp};

#[derive(Default)]
struct InMemory {
    store: MemoryStore,
    saved: Mutex<Option<Dump>>,
}

#[async_trait]
impl StoreFixture for InMemory {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn upkeep(&self) -> Arc<dyn Upkeep> {
        Arc::new(self.store.clone())
    }

    async fn dump(&self, partition: PartitionId) -> Vec<u8> {
        format!("{:?}", self.store.dump(partition)).into_bytes()
    }

    async fn lose(&self, partition: PartitionId, part: Part, entity: &EntityId, sequence: &str) {
        let lost = match part {
            Part::Bucket(_) => self.store.delete_field(partition, entity),
            Part::Timers => self.store.delete_timer(partition, entity),
            Part::Sequences => self.store.delete_sequence(partition, sequence),
        };
        assert!(lost, "nothing to lose");
    }

    async fn meddle(&self, partition: PartitionId, meddle: Meddle) {
        match meddle {
            Meddle::Freeze(operation) => self.store.freeze(partition, operation),
            Meddle::Thaw => self.store.thaw(partition),
            Meddle::Corrupt => self.store.corrupt(partition, Some("t")),
            Meddle::Save => *self.saved.lock().unwrap() = self.store.dump(partition),
            Meddle::Restore => self.store.restore(partition, self.saved.lock().unwrap().clone().unwrap()),
            Meddle::Full => self.store.refuse(Some("OOM")),
            Meddle::Free => self.store.refuse(None),
        }
    }
}

struct LogInMemory {
    port: LogPort,
    names: AtomicU32,
}

#[async_trait]
impl LogFixture for LogInMemory {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.port.clone())
    }

    fn name(&self, what: &str) -> String {
        format!("{what}{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    async fn trim(&self, topic: &str, partition: u32, start: Offset) {
        self.port.core().trim(topic, partition, start);
    }
}

fn clock() -> VirtualClock {
    VirtualClock::new(Timestamp::from_millis(1_700_000_000_000))
}

#[tokio::test]
async fn store_keeps_its_promises() {
    store_suite(&InMemory::default(), 20_000).await;
}

#[tokio::test]
async fn log_keeps_its_promises() {
    log_suite(&LogInMemory { port: LogPort::new(MemoryLog::new(&clock())), names: AtomicU32::new(0) }).await;
}

#[tokio::test]
async fn clock_keeps_its_promises() {
    clock_suite(clock()).await;
}
