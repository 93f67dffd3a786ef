//! Alarms that stop nothing: another history of a source, and a gap that stays (PROTOCOL §7.3, §7.4).

use std::collections::BTreeMap;

use waypost_codec::frame::Source;
use waypost_types::{PartitionId, Role, Span, Timestamp};

use super::{Turn, Worker};
use crate::{
    machine::{Alarm, Command},
    processor::Processor,
};

/// A gap that heals is healed by then.
const GAP: Span = Span::from_secs(5);

/// A gap in a partition channel, seen and not closed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    since: Timestamp,
    expected: u64,
    /// The highest number that was dropped.
    sent: u64,
    told: bool,
}

// === impl Gap ===

impl Gap {
    pub(super) fn since(&self) -> Timestamp {
        self.since
    }
}

/// Gaps by source.
pub(super) type Gaps = BTreeMap<(Role, u32), Gap>;

fn partition((role, index): (Role, u32)) -> PartitionId {
    PartitionId { role, index }
}

impl<P: Processor> Worker<P> {
    /// A section's chain is not the one that was expected. The source's history is the authority: it is folded.
    pub(super) fn diverged(&mut self, turn: &mut Turn<'_>, source: Source, records: usize) {
        turn.counters.divergences += 1;
        let from = partition((source.role, source.partition));
        self.diverged.insert(from);
        let end = source.first.saturating_add(records as u64).saturating_sub(1);
        turn.commands.push(Command::Alarm(self.id.index, Alarm::Diverged { from, first: source.first, end }));
    }

    /// A section of so many records stands behind a gap.
    pub(super) fn gapped(&mut self, turn: &mut Turn<'_>, source: Source, records: usize) {
        turn.counters.gaps += 1;
        let expected = self.received.last(source.role, source.partition).seq + 1;
        let sent = source.first.saturating_add(records as u64).saturating_sub(1);
        let gap = self.gaps.entry((source.role, source.partition)).or_insert(Gap { since: turn.now, expected, sent, told: false });
        gap.sent = gap.sent.max(sent);
    }

    /// What comes next in this channel has come. What was dropped behind it has to come once more.
    pub(super) fn continued(&mut self, turn: &Turn<'_>, source: Source) {
        let key = (source.role, source.partition);
        let Some(gap) = self.gaps.get_mut(&key) else { return };
        let last = self.received.last(source.role, source.partition).seq;
        if gap.sent <= last {
            self.gaps.remove(&key);
        } else {
            *gap = Gap { since: turn.now, expected: last + 1, sent: gap.sent, told: false };
        }
    }

    /// Gaps that have stayed for too long are told once.
    pub(super) fn watch_gaps(&mut self, turn: &mut Turn<'_>) {
        if !self.is_folding() {
            return;
        }
        for (source, gap) in &mut self.gaps {
            let age = turn.now.since(gap.since);
            if !gap.told && age >= GAP {
                gap.told = true;
                let alarm = Alarm::Gap { from: partition(*source), expected: gap.expected, sent: gap.sent, age };
                turn.commands.push(Command::Alarm(self.id.index, alarm));
            }
        }
    }

    pub(super) fn gaps_wake(&self) -> Option<Timestamp> {
        self.gaps.values().filter(|gap| !gap.told).map(|gap| gap.since.plus(GAP)).min()
    }
}
