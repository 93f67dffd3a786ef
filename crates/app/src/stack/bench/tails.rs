//! Decisions as they are read back from `waypost.decisions.v1`, each once, with the moment when they came.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use tokio::{task::JoinSet, time::Instant};
use waypost_codec::public::Decision;
use waypost_runtime::ports::{Delivery, Log};

use super::answers::Answers;

/// The registry's prefix of a row.
const FRAMING: usize = 5;

/// What is heard while it is heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Answers>>);

/// The readers; dropping them ends them.
#[derive(Debug)]
pub(super) struct Tails(JoinSet<anyhow::Result<()>>);

/// What of each source has been read.
#[derive(Debug, Default)]
struct Once(BTreeMap<String, u64>);

// === impl Heard ===

impl Heard {
    pub(super) fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Tails ===

impl Tails {
    /// Reads everything that is decided from now on.
    pub(super) async fn follow(log: &Arc<dyn Log>, prefix: &str, heard: &Heard) -> anyhow::Result<Self> {
        let topic = format!("{prefix}{}", Decision::TOPIC);
        let partitions =
            log.describe(&topic).await?.with_context(|| format!("there is no topic {topic}: has `waypost init` run?"))?.partitions;
        let mut tails = JoinSet::new();
        for partition in 0..partitions {
            let (_, end) = log.watermarks(&topic, partition).await?;
            let mut tail = log.tail(&topic, partition, end).await?;
            let heard = heard.clone();
            tails.spawn(async move {
                let mut once = Once::default();
                loop {
                    let delivery = tail.next().await.context("reading decisions")?;
                    let now = Instant::now();
                    let Some(delivery) = delivery.filter(|delivery| once.is_new(delivery)) else { continue };
                    if let Some(row) = delivery.payload.get(FRAMING..).and_then(Decision::decode) {
                        heard.lock().hear(&row, now);
                    }
                }
            });
        }
        Ok(Self(tails))
    }

    /// Why one of them has ended; none while all read.
    pub(super) fn trouble(&mut self) -> anyhow::Result<()> {
        self.0.try_join_next().map_or(Ok(()), |ended| ended.context("a reader of decisions ended")?)
    }
}

// === impl Once ===

impl Once {
    /// Of one source the next number only, as `ce_sequence` promises; whatever its first one is.
    fn is_new(&mut self, delivery: &Delivery) -> bool {
        let header =
            |name: &str| delivery.headers.iter().find(|(n, _)| n == name).map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        let (Some(source), Some(number)) = (header("ce_source"), header("ce_sequence").and_then(|n| n.parse::<u64>().ok())) else {
            return false;
        };
        let last = self.0.entry(source).or_insert_with(|| number.saturating_sub(1));
        let is_next = number == *last + 1;
        if is_next {
            *last = number;
        }
        is_next
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_types::Timestamp;

    use super::*;

    #[test]
    fn what_a_source_repeats_is_read_once() {
        let mut once = Once::default();
        let mut is_new = |source: &str, number: u64| {
            let headers = [("ce_source", source.to_owned()), ("ce_sequence", number.to_string())];
            let headers = headers.map(|(name, value)| (name.to_owned(), Bytes::from(value))).to_vec();
            once.is_new(&Delivery { partition: 0, offset: 0, appended: Timestamp::ZERO, key: None, headers, payload: Bytes::new() })
        };
        let read: Vec<bool> = [("a", 7), ("a", 8), ("a", 7), ("b", 1), ("a", 10), ("a", 9), ("a", 10)].map(|(s, n)| is_new(s, n)).to_vec();
        assert_eq!(read, [true, true, false, true, false, true, true]);
    }
}
