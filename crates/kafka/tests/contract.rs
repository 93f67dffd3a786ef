//! Kafka keeps the promises of a log.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use rdkafka::{
    ClientConfig, Offset as At, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use waypost_kafka::{Connection, KafkaLog};
use waypost_memory::contract::{LogFixture, fresh_prefix, log_suite, server};
use waypost_runtime::ports::{Log, Offset};

struct OnKafka {
    log: Arc<KafkaLog>,
    admin: AdminClient<DefaultClientContext>,
    prefix: String,
    names: AtomicU32,
}

#[async_trait]
impl LogFixture for OnKafka {
    fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log) as Arc<dyn Log>
    }

    fn name(&self, what: &str) -> String {
        format!("{}{what}{}", self.prefix, self.names.fetch_add(1, Ordering::Relaxed))
    }

    async fn trim(&self, topic: &str, partition: u32, start: Offset) {
        let mut list = TopicPartitionList::new();
        let (partition, start) = (i32::try_from(partition).unwrap(), i64::try_from(start).unwrap());
        list.add_partition_offset(topic, partition, At::Offset(start)).unwrap();
        let done = self.admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
        done.elements().iter().for_each(|e| e.error().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_its_promises() {
    let brokers = server("WAYPOST_TEST_KAFKA");
    let admin = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let log = Arc::new(KafkaLog::new(&Connection::new(brokers.as_str())).unwrap());
    log_suite(&OnKafka { log, admin, prefix: fresh_prefix(), names: AtomicU32::new(0) }).await;
}
