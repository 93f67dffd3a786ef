//! What the senders' partitions have accepted, in the order of the log: all that the fence and the doubts are judged by.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use waypost_codec::frame::{Frame, Record};
use waypost_kafka::KafkaLog;
use waypost_runtime::ports::{Log as _, Offset};
use waypost_types::{Role, Timestamp};

use crate::chaos::settings::PARTITIONS;

/// One record that counts.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Offset of its frame.
    pub offset: Offset,
    /// When its frame was appended.
    pub appended: Timestamp,
    /// Itself.
    pub record: Record,
}

/// Last accepted number of each source.
#[derive(Debug, Default)]
struct Numbers(BTreeMap<(Role, u32), u64>);

// === impl Numbers ===

impl Numbers {
    fn accept(&mut self, frame: Frame) -> Vec<Record> {
        let mut accepted = Vec::new();
        for section in frame.sections {
            let mut number = section.source.map(|source| source.first);
            for record in section.records {
                if let (Some(source), Some(number)) = (section.source, &mut number) {
                    let last = self.0.entry((source.role, source.partition)).or_default();
                    let next = *number == *last + 1;
                    *number += 1;
                    if !next {
                        continue;
                    }
                    *last += 1;
                }
                accepted.push(record);
            }
        }
        accepted
    }
}

/// Reads all senders' inboxes, one list a partition.
///
/// # Errors
/// If a broker does not answer, or a frame cannot be read.
pub async fn read(log: &Arc<KafkaLog>) -> anyhow::Result<Vec<Vec<Accepted>>> {
    let topic = Role::Sender.inbox().context("an inbox")?;
    let mut partitions = Vec::new();
    for index in 0..PARTITIONS {
        let (start, end) = log.watermarks(topic, index).await?;
        let mut all = Vec::new();
        if start < end {
            let mut tail = log.tail(topic, index, start).await?;
            let mut numbers = Numbers::default();
            loop {
                let Some(delivery) = tail.next().await? else { continue };
                let frame = Frame::decode(delivery.payload.clone()).context("a frame of a sender's inbox")?;
                let (offset, appended) = (delivery.offset, delivery.appended);
                all.extend(numbers.accept(frame).into_iter().map(|record| Accepted { offset, appended, record }));
                if offset + 1 >= end {
                    break;
                }
            }
        }
        partitions.push(all);
    }
    Ok(partitions)
}
