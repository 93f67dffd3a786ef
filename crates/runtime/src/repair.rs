//! Gaps that stay, and filling them (PROTOCOL §7.3): acknowledged records are gone from a receiver's log, and nobody
//! keeps their bytes. The source's log is folded again, and what it put out on that partition channel is appended
//! from the gap on; the receiver dropped all that followed. Nothing is committed, so it may run beside the owner,
//! and twice.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use waypost_codec::frame::Frame;
use waypost_types::PartitionId;

use crate::{
    machine::{Destination, Produced},
    ports::{Append, AppendError, LogError, Offset},
    refold::{Refold, RefoldError},
    tip::{Tip, accepted_field, sent_field},
    upkeep::Head,
};

/// A partition channel whose receiver has read its log to the end and is missing records that its source has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Whose records.
    pub source: PartitionId,
    /// Whose log.
    pub receiver: PartitionId,
    /// Last number accepted there.
    pub accepted: u64,
    /// Last number the source has committed.
    pub committed: u64,
}

/// Why a partition channel was not repaired, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// The source could not be folded again.
    #[error(transparent)]
    Refold(#[from] RefoldError),
    /// The receiver's log does not take the records.
    #[error("the log of {receiver} does not take the records: {why}; run it again")]
    Append {
        /// Whose log.
        receiver: PartitionId,
        /// Why.
        why: String,
    },
    /// The fold begins behind the gap.
    #[error(
        "the backup has sent up to {sent} on this partition channel, and {accepted} is the last that was accepted: take an older backup"
    )]
    TooNew {
        /// Last number sent as of the backup.
        sent: u64,
        /// Last number accepted.
        accepted: u64,
    },
}

impl From<LogError> for RepairError {
    fn from(error: LogError) -> Self {
        Self::Refold(error.into())
    }
}

// === impl Gap ===

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { source, receiver, accepted, committed } = self;
        write!(f, "{source} to {receiver}: {accepted} accepted, {committed} committed by the source, {} missing", committed - accepted)
    }
}

/// Gaps that stay, between partitions whose heads are known. `sources` must have been read before `ends` (the logs'
/// ends), and those before `receivers`: then what a source had committed stood in the log that the receiver has read.
/// A receiver that has not come to that end is passed over.
pub fn gaps(
    sources: &BTreeMap<PartitionId, Head>,
    ends: &BTreeMap<PartitionId, Offset>,
    receivers: &BTreeMap<PartitionId, Head>,
) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for (receiver, head) in receivers {
        if ends.get(receiver).is_none_or(|end| head.off < *end) {
            continue;
        }
        for (source, sent) in sources {
            let committed = number(sent, &sent_field(&Destination::Inbox(*receiver)));
            let accepted = number(head, &accepted_field(source.role, source.index));
            if committed > accepted {
                gaps.push(Gap { source: *source, receiver: *receiver, accepted, committed });
            }
        }
    }
    gaps
}

/// Last number of a sequence field.
fn number(head: &Head, field: &str) -> u64 {
    head.sequences.get(field).map_or(0, |bytes| Tip::from_bytes(*bytes).seq)
}

/// Folds the source and appends what is missing; says how many frames were appended.
///
/// # Errors
/// [`RepairError`]; what was appended until then stays, and does no harm.
pub async fn repair(refold: Refold<'_>, gap: Gap, watch: &mut (dyn FnMut(Offset) + Send)) -> Result<usize, RepairError> {
    let sent = refold.from.sequences.get(&sent_field(&Destination::Inbox(gap.receiver))).map_or(0, |bytes| Tip::from_bytes(*bytes).seq);
    if sent > gap.accepted {
        return Err(RepairError::TooNew { sent, accepted: gap.accepted });
    }
    let topic = format!("{}{}", refold.prefix, gap.receiver.role.inbox().unwrap_or_default());
    let producer = refold.log.producer()?;
    let mut appended: Vec<BoxFuture<'static, Result<Offset, AppendError>>> = Vec::new();
    let mut sink = |destination: &Destination, produced: &Produced| {
        if let Some(payload) = missing(gap, destination, produced) {
            let append = Append { topic: topic.clone(), partition: gap.receiver.index, key: None, headers: Vec::new(), payload };
            appended.push(producer.append(append));
        }
    };
    refold.run(&mut sink, watch).await?;
    let count = appended.len();
    for acknowledged in appended {
        acknowledged.await.map_err(|e| RepairError::Append { receiver: gap.receiver, why: e.to_string() })?;
    }
    Ok(count)
}

/// The frame to append, if any of its sections is behind the gap. What the machine says to itself is left out.
fn missing(gap: Gap, destination: &Destination, produced: &Produced) -> Option<bytes::Bytes> {
    let Produced::Frame(payload) = produced else { return None };
    if *destination != Destination::Inbox(gap.receiver) {
        return None;
    }
    let frame = Frame::decode(payload.clone()).ok()?;
    let wanted = |section: &waypost_codec::frame::Section| {
        section.source.is_some_and(|source| source.first + section.records.len() as u64 > gap.accepted + 1)
    };
    let sections: Vec<_> = frame.sections.into_iter().filter(wanted).collect();
    (!sections.is_empty()).then(|| Frame { sections }.encode())
}

#[cfg(test)]
mod tests {
    use waypost_types::Role;

    use super::*;
    use crate::ports::{Install, Meta};

    fn head(off: Offset, sequences: &[(&str, u64)]) -> Head {
        let tip = |seq| Tip { seq, chain: 0 }.to_bytes();
        let sequences = sequences.iter().map(|(field, seq)| ((*field).to_owned(), tip(*seq))).collect();
        Head { install: Install { id: "00".repeat(16), layout: 1, format: 1 }, frozen: None, off, meta: Meta::default(), sequences }
    }

    #[test]
    fn a_gap_is_one_only_where_the_receiver_has_read_all_there_is() {
        let source = PartitionId { role: Role::Identity, index: 0 };
        let receiver = PartitionId { role: Role::Segmenter, index: 1 };
        let found = |off, end, accepted| {
            let sources = BTreeMap::from([(source, head(9, &[("x:segmenter:1", 7)]))]);
            let receivers = BTreeMap::from([(receiver, head(off, &[("i:identity:0", accepted)]))]);
            gaps(&sources, &BTreeMap::from([(receiver, end)]), &receivers)
        };
        assert_eq!(found(5, 5, 7), []);
        assert_eq!(found(4, 5, 3), [], "it has not read all of it");
        assert_eq!(found(5, 5, 3), [Gap { source, receiver, accepted: 3, committed: 7 }]);
        assert_eq!(found(6, 5, 9), [], "the source's owner has gone on meanwhile");
    }
}
