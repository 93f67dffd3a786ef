//! Receiving a partition channel: its records are taken 1, 2, 3, … and never otherwise (PROTOCOL §7.3).
//!
//! Sections of a frame are judged one by one, in order, each on what those before it left. Accepting any
//! higher number would lose for ever what a gap skipped; taking a section only if it begins at last + 1
//! would lose the tail of one that overlaps.

use std::collections::BTreeMap;

use waypost_codec::frame::{Record, Source, chain};
use waypost_types::Role;

use crate::{config::Rules, tip::Tip};

/// What was last accepted from each source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receivers {
    last: BTreeMap<(Role, u32), Tip>,
}

/// What becomes of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it was here before.
    Repeat {
        /// It ends where the last one did, with another chain.
        diverged: bool,
    },
    /// Something before it is missing: dropped, its source will repeat it.
    Gap,
    /// Folded, but for the first `skip` records.
    Accept {
        /// Records that were here before.
        skip: usize,
        /// The chain is not the one that our records make.
        diverged: bool,
    },
}

// === impl Receivers ===

impl Receivers {
    /// As stored.
    pub fn new(last: impl IntoIterator<Item = ((Role, u32), Tip)>) -> Self {
        Self { last: last.into_iter().collect() }
    }

    /// What was last accepted from this source.
    pub fn last(&self, role: Role, partition: u32) -> Tip {
        self.last.get(&(role, partition)).copied().unwrap_or_default()
    }

    /// Judges a section, and moves on if it is accepted.
    pub fn judge(&mut self, source: Source, records: &[Record], rules: &Rules) -> Verdict {
        let last = self.last(source.role, source.partition);
        let Some(further) = (records.len() as u64).checked_sub(1) else { return Verdict::Repeat { diverged: false } };
        let end = source.first.saturating_add(further);
        if end <= last.seq {
            return Verdict::Repeat { diverged: end == last.seq && source.chain != last.chain };
        }
        let expected = last.seq + 1;
        if source.first > expected && rules.go_back_n || source.first < expected && !rules.overlapping_tail {
            return Verdict::Gap;
        }
        let skip = usize::try_from(expected.saturating_sub(source.first)).unwrap_or(usize::MAX);
        let made = records.iter().skip(skip).fold(last.chain, |c, r| chain(c, r.kind, &r.key, &r.body));
        // The source's history is the authority: its chain stands, ours was the one that differs.
        self.last.insert((source.role, source.partition), Tip { seq: end, chain: source.chain });
        Verdict::Accept { skip, diverged: made != source.chain }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_types::{Timestamp, WorkspaceId};

    use super::*;

    fn record(n: u64) -> Record {
        Record::new(1, WorkspaceId::new(1), [0; 16], Bytes::from_static(b"k"), Timestamp::ZERO, Bytes::copy_from_slice(&n.to_be_bytes()))
    }

    fn section(first: u64, end: u64) -> (Source, Vec<Record>) {
        let chain_at = |n: u64| (1..=n).fold(0, |c, i| chain(c, 1, b"k", &i.to_be_bytes()));
        (Source { role: Role::Identity, partition: 2, first, chain: chain_at(end) }, (first..=end).map(record).collect())
    }

    fn after(seq: u64) -> Receivers {
        let mut receivers = Receivers::default();
        if seq > 0 {
            let (source, records) = section(1, seq);
            receivers.judge(source, &records, &Rules::default());
        }
        receivers
    }

    #[test]
    fn a_section_is_taken_from_last_plus_one_on() {
        let cases = [
            (0, 1, 3, Verdict::Accept { skip: 0, diverged: false }, 3),
            (3, 4, 4, Verdict::Accept { skip: 0, diverged: false }, 4),
            (3, 2, 5, Verdict::Accept { skip: 2, diverged: false }, 5),
            (3, 1, 3, Verdict::Repeat { diverged: false }, 3),
            (3, 1, 2, Verdict::Repeat { diverged: false }, 3),
            (3, 5, 6, Verdict::Gap, 3),
            (0, 2, 2, Verdict::Gap, 0),
        ];
        for (last, first, end, verdict, then) in cases {
            let mut receivers = after(last);
            let (source, records) = section(first, end);
            assert_eq!(receivers.judge(source, &records, &Rules::default()), verdict, "last {last}, {first}..{end}");
            assert_eq!(receivers.last(Role::Identity, 2).seq, then);
        }
    }

    #[test]
    fn another_history_is_a_divergence_and_still_taken() {
        let mut receivers = after(2);
        let (source, mut records) = section(3, 3);
        records[0].body = Bytes::from_static(b"other");
        assert_eq!(receivers.judge(source, &records, &Rules::default()), Verdict::Accept { skip: 0, diverged: true });
        assert_eq!(
            receivers.judge(Source { chain: 1, ..source }, &records, &Rules::default()),
            Verdict::Repeat { diverged: true },
            "same end, other chain"
        );
    }

    #[test]
    fn channels_do_not_disturb_each_other() {
        let mut receivers = after(3);
        let (source, records) = section(1, 1);
        let other = Source { partition: 9, ..source };
        assert_eq!(receivers.judge(other, &records, &Rules::default()), Verdict::Accept { skip: 0, diverged: false });
        assert_eq!(receivers.last(Role::Identity, 2).seq, 3);
    }

    #[test]
    fn strange_sections_do_no_harm() {
        let mut receivers = after(3);
        let (source, records) = section(1, 1);
        assert_eq!(receivers.judge(source, &[], &Rules::default()), Verdict::Repeat { diverged: false });
        for first in [0, u64::MAX] {
            receivers.judge(Source { first, ..source }, &records, &Rules::default());
            assert_eq!(receivers.last(Role::Identity, 2).seq, 3);
        }
    }
}
