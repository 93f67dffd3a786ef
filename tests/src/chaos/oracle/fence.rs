//! The fence of an opt-out, read from the senders' inboxes alone: no attempt that stands behind a suppression of its
//! address has an outcome, because nothing was called for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::Context as _;
use prost::Message as _;
use waypost_codec::{
    frame::{Frame, Record},
    inbox::{Attempt, AttemptOutcome, Dispatch, Outcome, Suppress, Unsuppress},
    kind,
};
use waypost_kafka::KafkaLog;
use waypost_runtime::ports::Log as _;
use waypost_types::{PartitionId, Role};

use crate::chaos::settings::PARTITIONS;

/// What one sender partition accepted, folded as far as the fence needs it.
#[derive(Debug, Default)]
struct Folded {
    // Suppressed (reason, topic) by address; the empty topic is all of them.
    fences: BTreeMap<Vec<u8>, BTreeSet<(String, String)>>,
    dispatches: BTreeMap<Vec<u8>, Dispatch>,
    behind: BTreeSet<(Vec<u8>, u32)>,
    // Last accepted number of each source.
    last: BTreeMap<(Role, u32), u64>,
}

/// Reads all senders' inboxes; attempts that were called although the address had been suppressed before.
///
/// # Errors
/// If a broker does not answer, or a record cannot be read.
pub async fn broken(log: &Arc<KafkaLog>) -> anyhow::Result<Vec<String>> {
    let mut broken = Vec::new();
    for index in 0..PARTITIONS {
        let topic = Role::Sender.inbox().context("an inbox")?;
        let (start, end) = log.watermarks(topic, index).await?;
        if start == end {
            continue;
        }
        let mut tail = log.tail(topic, index, start).await?;
        let mut folded = Folded::default();
        loop {
            let Some(delivery) = tail.next().await? else { continue };
            let frame = Frame::decode(delivery.payload.clone()).context("a frame of a sender's inbox")?;
            for what in folded.take(frame)? {
                broken.push(format!("{} offset {}: {what}", PartitionId { role: Role::Sender, index }, delivery.offset));
            }
            if delivery.offset + 1 >= end {
                break;
            }
        }
    }
    Ok(broken)
}

// === impl Folded ===

impl Folded {
    fn take(&mut self, frame: Frame) -> anyhow::Result<Vec<String>> {
        let mut broken = Vec::new();
        for section in frame.sections {
            let mut number = section.source.map(|source| source.first);
            for record in section.records {
                let accepted = match (section.source, &mut number) {
                    (Some(source), Some(number)) => {
                        let last = self.last.entry((source.role, source.partition)).or_default();
                        let next = *number == *last + 1;
                        *last = if next { *number } else { *last };
                        *number += 1;
                        next
                    }
                    _ => true,
                };
                if accepted {
                    broken.extend(self.fold(&record)?);
                }
            }
        }
        Ok(broken)
    }

    fn fold(&mut self, record: &Record) -> anyhow::Result<Option<String>> {
        let key = record.key.to_vec();
        match record.kind {
            kind::DISPATCH => {
                let dispatch = Dispatch::decode(record.body.clone())?;
                self.dispatches.insert(dispatch.dispatch.to_vec(), dispatch);
            }
            kind::SUPPRESS => {
                let suppress = Suppress::decode(record.body.clone())?;
                self.fences.entry(key).or_default().insert((suppress.reason, suppress.topic));
            }
            kind::UNSUPPRESS => {
                let lifted = Unsuppress::decode(record.body.clone())?;
                self.fences.entry(key).or_default().retain(|(reason, _)| *reason != lifted.reason);
            }
            kind::ATTEMPT => {
                let attempt = Attempt::decode(record.body.clone())?;
                if self.dispatches.get(attempt.dispatch.as_ref()).is_some_and(|dispatch| self.fenced(&key, dispatch)) {
                    self.behind.insert((attempt.dispatch.to_vec(), attempt.number));
                }
            }
            kind::OUTCOME => {
                let outcome = AttemptOutcome::decode(record.body.clone())?;
                let called = !matches!(outcome.outcome(), Outcome::Stopped | Outcome::Unspecified);
                if called && self.behind.contains(&(outcome.dispatch.to_vec(), outcome.number)) {
                    let of = self.dispatches.get(outcome.dispatch.as_ref());
                    return Ok(Some(of.map_or_else(String::new, |d| format!("{} {} was attempted behind an opt-out", d.step, d.run_key))));
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn fenced(&self, address: &[u8], dispatch: &Dispatch) -> bool {
        let fences = self.fences.get(address).into_iter().flatten();
        dispatch.class != "transactional" && fences.into_iter().any(|(_, topic)| topic.is_empty() || *topic == dispatch.topic)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_types::{Timestamp, WorkspaceId};

    use super::*;

    fn record(kind: u32, body: Vec<u8>) -> Record {
        Record::new(kind, WorkspaceId::new(1), [0; 16], Bytes::from_static(b"address"), Timestamp::ZERO, body.into())
    }

    #[test]
    fn a_call_behind_a_suppression_is_found_and_one_before_it_is_not() {
        let suppress =
            record(kind::SUPPRESS, Suppress { reason: "UNSUBSCRIBED".into(), topic: "t".into(), ..Suppress::default() }.encode_to_vec());
        let id = Bytes::from_static(b"d");
        let dispatch = Dispatch { dispatch: id.clone(), topic: "t".into(), class: "marketing".into(), ..Dispatch::default() };
        let attempt = Attempt { dispatch: id.clone(), number: 1, ..Attempt::default() };
        let outcome = AttemptOutcome { dispatch: id, number: 1, outcome: Outcome::Accepted.into(), ..AttemptOutcome::default() };
        let dispatch = record(kind::DISPATCH, dispatch.encode_to_vec());
        let (attempt, outcome) = (record(kind::ATTEMPT, attempt.encode_to_vec()), record(kind::OUTCOME, outcome.encode_to_vec()));
        let found = |order: [&Record; 4]| {
            let mut folded = Folded::default();
            order.into_iter().filter_map(|r| folded.fold(r).unwrap()).count()
        };
        assert_eq!(found([&dispatch, &attempt, &suppress, &outcome]), 0);
        assert_eq!(found([&dispatch, &suppress, &attempt, &outcome]), 1);
    }
}
