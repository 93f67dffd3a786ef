//! What Waypost tells on its public topics, each row once, as `ce_sequence` promises.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use waypost_codec::public::{Decision, Message};
use waypost_kafka::KafkaLog;
use waypost_runtime::ports::{Delivery, Log as _};

const PARTITIONS: u32 = 8;

/// A topic, read from its start.
#[derive(Clone, Debug)]
pub struct Topic {
    name: &'static str,
    rows: Arc<Mutex<Vec<Delivery>>>,
}

/// Everything that is told.
#[derive(Clone, Debug)]
pub struct Told {
    decisions: Topic,
    messages: Topic,
    /// Letters set aside.
    pub dead: Topic,
}

// === impl Topic ===

impl Topic {
    fn follow(brokers: &str, name: &'static str) -> Self {
        let rows: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        for partition in 0..PARTITIONS {
            let (rows, brokers) = (Arc::clone(&rows), brokers.to_owned());
            tokio::spawn(async move {
                let mut next = 0;
                loop {
                    let Ok(log) = KafkaLog::new(&brokers, Vec::new()) else { return };
                    if let Ok(mut tail) = log.tail(name, partition, next).await {
                        while let Ok(delivery) = tail.next().await {
                            if let Some(delivery) = delivery {
                                next = delivery.offset + 1;
                                rows.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
                            }
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            });
        }
        Self { name, rows }
    }

    fn sorted(&self) -> Vec<Delivery> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        rows.sort_by_key(|row| (row.partition, row.offset));
        rows
    }

    /// How many records came, repeated ones counted.
    pub fn count(&self) -> usize {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Payloads, each once; and what is missing between them.
    pub fn once(&self) -> (Vec<Delivery>, Vec<String>) {
        let mut last: BTreeMap<(u32, String), u64> = BTreeMap::new();
        let mut highest: BTreeMap<(u32, String), u64> = BTreeMap::new();
        let mut once = Vec::new();
        for row in self.sorted() {
            let source = (row.partition, header(&row, "ce_source"));
            let Ok(number) = header(&row, "ce_sequence").parse::<u64>() else { continue };
            let highest = highest.entry(source.clone()).or_default();
            *highest = number.max(*highest);
            let last = last.entry(source).or_default();
            if number == *last + 1 {
                *last = number;
                once.push(row);
            }
        }
        let missing =
            highest.into_iter().filter(|(source, highest)| last.get(source) != Some(highest)).map(|((partition, source), highest)| {
                let last = last.get(&(partition, source.clone())).copied().unwrap_or(0);
                format!("{} {partition}: of {source} number {} is missing, {highest} is there", self.name, last + 1)
            });
        (once, missing.collect())
    }
}

fn header(row: &Delivery, name: &str) -> String {
    row.headers.iter().find(|(n, _)| n == name).map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
}

// === impl Told ===

impl Told {
    /// Reads along until the runner ends.
    pub fn follow(brokers: &str) -> Self {
        Self {
            decisions: Topic::follow(brokers, Decision::TOPIC),
            messages: Topic::follow(brokers, Message::TOPIC),
            dead: Topic::follow(brokers, "wp1.dead"),
        }
    }

    /// Decisions in order per profile; and what is missing.
    pub fn decisions(&self) -> (Vec<Decision>, Vec<String>) {
        let (rows, missing) = self.decisions.once();
        (rows.iter().filter_map(|row| row.payload.get(5..).and_then(Decision::decode)).collect(), missing)
    }

    /// Outcomes in order per profile; and what is missing.
    pub fn messages(&self) -> (Vec<Message>, Vec<String>) {
        let (rows, missing) = self.messages.once();
        (rows.iter().filter_map(|row| row.payload.get(5..).and_then(Message::decode)).collect(), missing)
    }
}
