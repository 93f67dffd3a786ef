//! Packing outputs of several local workers into frames of one destination (PROTOCOL §7.1).
//!
//! A frame is sent when none is in flight there, or 64 KiB wait, or 2 ms have passed: an idle pipeline
//! sends at once and a busy one sends large frames. What was read late waits a little longer for company,
//! because a frame costs the broker and both clients much the same whatever it holds. How records fall into
//! frames is chance, and nothing may depend on it.

use std::{collections::BTreeMap, sync::Arc};

use waypost_codec::frame::{Record, Source};
use waypost_types::{Role, Span, Timestamp};

use crate::{
    channel_out::{Content, Item, Run, Window},
    config::Config,
    late::lateness,
    publisher::Part,
};

/// Everything on its way to one destination.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    windows: BTreeMap<u32, (u64, Window)>,
    /// How long something waits.
    waits: Option<Waits>,
    in_flight: usize,
    /// Worker to begin the next frame with, so that none is starved.
    turn: u32,
}

/// How long an output waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    since: Timestamp,
    /// For company, where nothing is in flight either; no longer than this.
    until: Timestamp,
}

// === impl Waits ===

impl Waits {
    /// What is put out now and rests on something that was `appended` then, by the broker's clock: of what is late a tenth
    /// as long again is hardly noticed.
    pub(crate) fn new(now: Timestamp, appended: Timestamp, config: &Config) -> Self {
        let tenth = Span::from_millis(lateness(now, appended).millis() / 10);
        Self { since: now, until: now.plus(tenth.min(config.linger_late)) }
    }

    /// Not for company.
    pub(crate) fn none(now: Timestamp) -> Self {
        Self { since: now, until: now }
    }
}

// === impl Lane ===

impl Lane {
    /// Adds an output; returns the bytes of those that this forgets, of a life before.
    pub(crate) fn put(&mut self, waits: Waits, worker: u32, life: u64, before: u64, item: Item) -> usize {
        let (of, window) = self.windows.entry(worker).or_insert_with(|| (life, Window::new(before)));
        let forgotten = if *of == life { 0 } else { window.bytes() };
        if *of != life {
            *of = life;
            *window = Window::new(before);
        }
        window.put(item);
        let first = self.waits.get_or_insert(waits);
        first.until = first.until.min(waits.until);
        forgotten
    }

    /// What waits of this worker waits for no company any more.
    pub(crate) fn hurry(&mut self, worker: u32) {
        if self.window(worker).is_some_and(Window::has_unsent)
            && let Some(waits) = &mut self.waits
        {
            waits.until = waits.since;
        }
    }

    /// Forgets a worker's outputs.
    pub(crate) fn close(&mut self, worker: u32) {
        self.windows.remove(&worker);
        self.settle();
    }

    /// A worker's window.
    pub(crate) fn window(&self, worker: u32) -> Option<&Window> {
        self.windows.get(&worker).map(|(_, window)| window)
    }

    /// Whether nothing waits for acknowledgement.
    pub(crate) fn is_empty(&self) -> bool {
        self.windows.values().all(|(_, window)| window.is_empty())
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.windows.values().any(|(_, window)| window.has_unsent())
    }

    /// A frame in flight has landed.
    pub(crate) fn landed(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Counts an acknowledgement, unless its worker has started anew since; returns the bytes that wait no more.
    pub(crate) fn acknowledge(&mut self, part: Part) -> usize {
        match self.windows.get_mut(&part.worker) {
            Some((life, window)) if *life == part.life => {
                let before = window.bytes();
                window.acknowledge(part.run);
                before - window.bytes()
            }
            Some(_) | None => 0,
        }
    }

    /// After a failure: nothing is in flight, and everything unacknowledged waits again.
    pub(crate) fn rewind(&mut self, now: Timestamp, contiguous: bool) {
        self.in_flight = 0;
        for (_, window) in self.windows.values_mut() {
            window.rewind(contiguous);
        }
        self.waits = Some(Waits::none(now));
        self.settle();
    }

    /// When a frame is to be sent for having waited long enough.
    pub(crate) fn due(&self, config: &Config) -> Option<Timestamp> {
        if self.in_flight >= config.frames_in_flight {
            return None;
        }
        self.waits.map(|Waits { since, until }| if self.in_flight == 0 { until } else { until.max(since.plus(config.linger)) })
    }

    fn is_due(&self, now: Timestamp, config: &Config) -> bool {
        self.due(config).is_some_and(|due| due <= now || self.unsent_bytes() >= config.frame_eager_bytes)
    }

    fn unsent_bytes(&self) -> usize {
        self.windows.values().map(|(_, window)| window.unsent_bytes()).sum()
    }

    fn settle(&mut self) {
        if !self.has_unsent() {
            self.waits = None;
        }
    }

    /// All unsent outputs, once they are due, each to be sent as a Kafka record of its own.
    pub(crate) fn singles(&mut self, now: Timestamp, config: &Config) -> Vec<(Part, Item)> {
        let mut singles = Vec::new();
        if !self.is_due(now, config) {
            return singles;
        }
        for (worker, (life, window)) in &mut self.windows {
            loop {
                let items = window.send(|_| true);
                if items.is_empty() {
                    break;
                }
                let part = |item: &Item| Part { worker: *worker, life: *life, run: Run { first: item.seq, end: item.seq } };
                singles.extend(items.into_iter().map(|item| (part(&item), item)));
            }
        }
        self.waits = None;
        singles
    }
}

/// The sections of a frame: whose they are, and their records.
pub(crate) type Sections = Vec<(Option<Source>, Vec<Arc<Record>>)>;

/// The next frame of a lane that is due, with what it holds.
pub(crate) fn pack(lane: &mut Lane, role: Role, now: Timestamp, config: &Config) -> Option<(Sections, Vec<Part>)> {
    if !lane.is_due(now, config) {
        return None;
    }
    let (mut records, mut bytes) = (0, 0);
    let mut fits = |item: &Item| {
        let fits = records == 0 || records < config.frame_records && bytes + item.size <= config.frame_bytes;
        if fits {
            records += 1;
            bytes += item.size;
        }
        fits
    };
    let (mut sections, mut parts) = (Sections::new(), Vec::new());
    let order: Vec<u32> = lane.windows.range(lane.turn..).chain(lane.windows.range(..lane.turn)).map(|(worker, _)| *worker).collect();
    for worker in order {
        let Some((life, window)) = lane.windows.get_mut(&worker) else { continue };
        loop {
            let items = window.send(&mut fits);
            let (Some(first), Some(last)) = (items.first(), items.last()) else { break };
            let source = Source { role, partition: worker, first: first.seq, chain: last.chain };
            parts.push(Part { worker, life: *life, run: Run { first: first.seq, end: last.seq } });
            let records = items.into_iter().filter_map(|item| match item.content {
                Content::Record(record) => Some(record),
                Content::Public { .. } | Content::Dead { .. } => None,
            });
            sections.push((Some(source), records.collect()));
        }
        if window.has_unsent() {
            lane.turn = worker.wrapping_add(1);
            break;
        }
    }
    lane.settle();
    if parts.is_empty() {
        return None;
    }
    lane.in_flight += 1;
    Some((sections, parts))
}
