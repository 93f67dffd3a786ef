//! What Waypost tells on its public topics, each row once, as `ce_sequence` promises.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use waypost_codec::public::{Decision, Message};
use waypost_kafka::{Connection, KafkaLog};
use waypost_runtime::ports::{Delivery, Log as _};

const PARTITIONS: u32 = 8;

/// A topic, read from its start.
#[derive(Clone, Debug)]
pub struct Topic {
    name: &'static str,
    rows: Arc<Mutex<Vec<Delivery>>>,
}

/// What a topic tells, repetitions left out, and what is wrong about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows<R> {
    /// In order per profile.
    pub rows: Vec<R>,
    /// Numbers that never came.
    pub missing: Vec<String>,
    /// Records that contradict an earlier one, or say nothing that can be read.
    pub strange: Vec<String>,
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
                    let Ok(log) = KafkaLog::new(&Connection::new(brokers.as_str())) else { return };
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

    fn once<R>(&self, decode: impl Fn(&[u8]) -> Option<R>) -> Rows<R> {
        once(self.name, &self.sorted(), decode)
    }
}

/// Each record once, by the number that its source gave it. A repeated one must say what the first did.
fn once<R>(topic: &str, records: &[Delivery], decode: impl Fn(&[u8]) -> Option<R>) -> Rows<R> {
    let mut told: BTreeMap<(u32, String), BTreeMap<u64, &Bytes>> = BTreeMap::new();
    let mut last: BTreeMap<(u32, String), u64> = BTreeMap::new();
    let (mut rows, mut strange) = (Vec::new(), Vec::new());
    for record in records {
        let place = format!("{topic} {} offset {}", record.partition, record.offset);
        let source = (record.partition, header(record, "ce_source"));
        let Ok(number) = header(record, "ce_sequence").parse::<u64>() else {
            strange.push(format!("{place}: it has no number"));
            continue;
        };
        let first = told.entry(source.clone()).or_default().entry(number).or_insert(&record.payload);
        if **first != record.payload {
            strange.push(format!("{place}: number {number} of {} says something else than before", source.1));
        }
        let last = last.entry(source).or_default();
        if number == *last + 1 {
            *last = number;
            // behind the id of its schema
            match record.payload.get(5..).and_then(&decode) {
                Some(row) => rows.push(row),
                None => strange.push(format!("{place}: it cannot be read")),
            }
        }
    }
    let missing = told.into_iter().filter_map(|((partition, source), numbers)| {
        let highest = numbers.into_keys().next_back().unwrap_or_default();
        let last = last.get(&(partition, source.clone())).copied().unwrap_or_default();
        (last != highest).then(|| format!("{topic} {partition}: of {source} number {} is missing, {highest} is there", last + 1))
    });
    let missing = missing.collect();
    Rows { rows, missing, strange }
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

    /// Decisions.
    pub fn decisions(&self) -> Rows<Decision> {
        self.decisions.once(Decision::decode)
    }

    /// Outcomes.
    pub fn messages(&self) -> Rows<Message> {
        self.messages.once(Message::decode)
    }
}

#[cfg(test)]
mod tests {
    use waypost_types::Timestamp;

    use super::*;

    /// Of one source, at offsets that go up: number and text.
    fn records(told: &[(&str, &str)]) -> Vec<Delivery> {
        let record = |(offset, (number, text)): (u64, &(&str, &str))| Delivery {
            partition: 3,
            offset,
            appended: Timestamp::from_millis(0),
            key: None,
            headers: [("ce_source", "s"), ("ce_sequence", *number)].map(|(n, v)| (n.to_owned(), Bytes::from(v.to_owned()))).into(),
            payload: format!("\0\0\0\0\x01{text}").into(),
        };
        (0..).zip(told).map(record).collect()
    }

    /// Texts; `?` cannot be read.
    fn read(told: &[(&str, &str)]) -> (Vec<String>, usize, Vec<String>) {
        let decode = |bytes: &[u8]| (bytes != b"?").then(|| String::from_utf8_lossy(bytes).into_owned());
        let Rows { rows, missing, strange } = once("t", &records(told), decode);
        (rows, missing.len(), strange)
    }

    #[test]
    fn what_is_told_again_is_told_once() {
        let (rows, missing, strange) = read(&[("1", "a"), ("2", "b"), ("1", "a"), ("2", "b"), ("3", "c")]);
        assert_eq!((rows, missing, strange), (vec!["a".into(), "b".into(), "c".into()], 0, vec![]));
        let (rows, missing, strange) = read(&[("1", "a"), ("3", "c"), ("2", "b"), ("3", "c")]);
        assert_eq!((rows, missing, strange), (vec!["a".into(), "b".into(), "c".into()], 0, vec![]), "a tail that came out of order");
        let (rows, missing, strange) = read(&[("1", "a"), ("3", "c")]);
        assert_eq!((rows, missing, strange), (vec!["a".into()], 1, vec![]));
    }

    #[test]
    fn a_number_that_says_something_else_is_strange() {
        for told in [&[("1", "a"), ("2", "b"), ("1", "x")][..], &[("1", "a"), ("3", "x"), ("2", "b"), ("3", "c")]] {
            let (_, missing, strange) = read(told);
            assert!(missing == 0 && strange.len() == 1 && strange[0].contains("something else"), "{strange:?}");
        }
    }

    #[test]
    fn a_record_that_says_nothing_is_strange() {
        let (rows, missing, strange) = read(&[("1", "?"), ("", "a"), ("2", "b")]);
        assert_eq!((rows, missing), (vec!["b".into()], 0));
        assert!(strange.len() == 2 && strange[0].contains("cannot be read") && strange[1].contains("no number"), "{strange:?}");
    }
}
