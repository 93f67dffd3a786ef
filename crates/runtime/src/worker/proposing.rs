//! When a leading worker appends a tick to its own partition (PROTOCOL §8.5). At most one is unread;
//! one of a zombie does no harm, since clocks only rise.

use prost::Message as _;
use waypost_codec::{frame::Record, inbox, kind};
use waypost_types::{Span, Timestamp, WorkspaceId};

use super::{Phase, Turn, Worker, claiming::draw};
use crate::{config::Config, processor::Processor, publisher::Own};

/// Ticks of this life.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    /// Id of the one that has not come back, and when it was appended.
    unread: Option<([u8; 16], Timestamp)>,
    /// When the last one was appended.
    last: Option<Timestamp>,
    /// By how much the partition clock stayed behind the last one: the broker's clock is slower.
    behind: Span,
}

// === impl Ticks ===

impl Ticks {
    pub(super) fn is_unread(&self) -> bool {
        self.unread.is_some()
    }

    /// The log brought back a tick; the partition clock stands at `clk` since.
    pub(super) fn folded(&mut self, id: &[u8; 16], clk: Timestamp) {
        if let Some((unread, told)) = self.unread
            && unread == *id
        {
            self.behind = told.since(clk).max(Span::ZERO);
            self.unread = None;
        }
    }

    /// A life begins to wait for the log.
    pub(super) fn begin(&mut self, now: Timestamp) {
        *self = Self { unread: None, last: Some(now), behind: Span::ZERO };
    }
}

impl<P: Processor> Worker<P> {
    /// When the next tick is due, as things are.
    pub(super) fn tick_due(&self, config: &Config, upstream: Option<Timestamp>) -> Option<Timestamp> {
        if self.phase != Phase::Leading {
            return None;
        }
        if let Some((_, appended)) = self.ticks.unread {
            return Some(appended.plus(config.tick_lost));
        }
        let last = self.ticks.last.unwrap_or(Timestamp::ZERO);
        // The partition clock follows the slower of two clocks; a tick before it can get there is for nothing.
        let reached = |due: Timestamp| if due <= self.meta.clk { Timestamp::ZERO } else { due.plus(self.ticks.behind) };
        let free = self.meta.wm.plus(config.slack);
        let silence = if P::REPORTS_THROUGH { config.idle_tick } else { config.quiet_tick };
        let reasons = [
            self.timers.alarm().map(reached),
            self.timers.asleep().map(|due| reached(if due <= free { due } else { due.plus(config.patience) })),
            upstream.filter(|wm| P::WATERMARKED && *wm > self.meta.wm).map(|_| last.plus(config.watermark_tick)),
            Some(self.queue.received().max(last).plus(silence)),
        ];
        reasons.into_iter().flatten().min()
    }

    pub(super) fn propose(&mut self, turn: &mut Turn<'_>) {
        if !turn.publisher.ready() || self.tick_due(turn.config, turn.upstream).is_none_or(|due| due > turn.now) {
            return;
        }
        // What is unread and this late is lost.
        let id = draw(turn.entropy);
        let wm = if P::WATERMARKED { turn.upstream.unwrap_or(Timestamp::ZERO).max(self.meta.wm) } else { Timestamp::ZERO };
        let body = inbox::Tick { now: turn.now.millis(), wm: wm.millis() }.encode_to_vec().into();
        let record = Record::new(kind::TICK, WorkspaceId::new(0), id, bytes::Bytes::new(), turn.now, body);
        self.ticks.unread = Some((id, turn.now));
        self.ticks.last = Some(turn.now);
        turn.publisher.append_own(self.id.index, Own::Tick(self.life), vec![record]);
    }

    /// A tick of that life will not come back.
    pub(crate) fn tick_lost(&mut self, life: u64) {
        if life == self.life {
            self.ticks.unread = None;
        }
    }
}
