//! Whether what somebody was about to append is in the log. Whoever it was is gone, so what is not there by now never will be.

use std::collections::{BTreeMap, BTreeSet};

use waypost_codec::frame::{Frame, Record};
use waypost_runtime::ports::{Append, Delivery, Log, LogError, Offset};
use waypost_types::{Layout, Role, Span, Timestamp};

/// How far the clock that stamped the intention may be ahead of the broker's.
const CLOCKS: Span = Span::from_secs(60);

/// Appends that may have been made.
#[derive(Default)]
pub(crate) struct Doubt {
    /// By topic and partition: since when, and what.
    places: BTreeMap<(String, u32), (Timestamp, Vec<Intention>)>,
}

/// The caller's number of an append, and how it is known again.
type Intention = (usize, Trace);

/// How an append is known again.
enum Trace {
    /// By the id of a record, which nothing else has.
    Record([u8; 16]),
    /// As it was, from an offset on: whoever writes the same to the public topic meanwhile says the same event. Below lies what was
    /// there before, the original of the letter above all.
    Same(Append, Offset),
}

// === impl Doubt ===

impl Doubt {
    /// A record of an inbox; `number` is the caller's name for it.
    pub(crate) fn record(&mut self, number: usize, prefix: &str, layout: Layout, role: Role, record: &Record, since: i64) {
        let topic = format!("{prefix}{}", role.inbox().unwrap_or_default());
        self.add((topic, layout.partition(record.workspace, &record.key)), since, (number, Trace::Record(record.id)));
    }

    /// Any other append, which lies at `from` or behind it.
    pub(crate) fn append(&mut self, number: usize, append: &Append, since: i64, from: Offset) {
        self.add((append.topic.clone(), append.partition), since, (number, Trace::Same(append.clone(), from)));
    }

    fn add(&mut self, place: (String, u32), since: i64, one: Intention) {
        let since = Timestamp::from_millis(since).minus(CLOCKS);
        let (first, all) = self.places.entry(place).or_insert_with(|| (since, Vec::new()));
        *first = since.min(*first);
        all.push(one);
    }

    /// Those that are there. Reads each place from its time to its present end, and calls `moved` on the way.
    pub(crate) async fn settle(self, log: &dyn Log, moved: impl Fn()) -> Result<BTreeSet<usize>, LogError> {
        let mut there = BTreeSet::new();
        for ((topic, partition), (since, mut wanted)) in self.places {
            moved();
            let (start, end) = match log.watermarks(&topic, partition).await {
                // A partition that there is no more has nothing.
                Err(LogError::Unknown) => continue,
                bounds @ (Ok(_) | Err(LogError::OutOfRange | LogError::Unavailable(_))) => bounds?,
            };
            let from = log.offset_at(&topic, partition, since).await?.max(start);
            if from >= end {
                continue;
            }
            let mut tail = log.tail(&topic, partition, from).await?;
            while let Some(delivery) = tail.next().await? {
                moved();
                let ids = ids(&delivery, &wanted);
                wanted.retain(|(number, trace)| {
                    let found = trace.is(&delivery, &ids);
                    if found {
                        there.insert(*number);
                    }
                    !found
                });
                if wanted.is_empty() || delivery.offset + 1 >= end {
                    break;
                }
            }
        }
        Ok(there)
    }
}

/// Ids of a frame's records, where any of them is looked for.
fn ids(delivery: &Delivery, wanted: &[Intention]) -> BTreeSet<[u8; 16]> {
    if !wanted.iter().any(|(_, trace)| matches!(trace, Trace::Record(_))) {
        return BTreeSet::new();
    }
    let sections = Frame::decode(delivery.payload.clone()).map(|frame| frame.sections).unwrap_or_default();
    sections.iter().flat_map(|section| section.records.iter().map(|record| record.id)).collect()
}

// === impl Trace ===

impl Trace {
    fn is(&self, delivery: &Delivery, ids: &BTreeSet<[u8; 16]>) -> bool {
        match self {
            Self::Record(id) => ids.contains(id),
            Self::Same(append, from) => delivery.offset >= *from && append.payload == delivery.payload && append.key == delivery.key,
        }
    }
}
