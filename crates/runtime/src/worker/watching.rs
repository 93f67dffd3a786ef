//! Is it the same log, and does the work get on? The frame before the committed offset must be the one that
//! the store has noted down, the log must hold what is to be folded, and a worker that stands still is
//! helped, at last by giving the process up (PROTOCOL §6.3–6.5).

use bytes::Bytes;
use tracing::warn;
use waypost_types::{Span, Timestamp};

use super::{Turn, Worker};
use crate::{
    config::Config,
    machine::Command,
    ports::{Delivery, LogError, Offset},
    processor::Processor,
};

/// A seek that has not brought anything after this is repeated.
const SEEK_AGAIN: Span = Span::from_secs(1);
/// So many gaps in a row, and the consumer has lost its position for good.
const GAPS: u32 = 3;
/// So many silences in a row, likewise.
const SILENCES: u32 = 2;
/// So many fruitless lives of a worker in a row, and others are to take over.
const STALLS: u32 = 3;
/// So many bad answers in a row are believed: one may be older than what is known, or of a leader that has just been elected.
const BAD_ANSWERS: u32 = 3;
/// How long after a bad answer it is asked for again.
const ASK_AGAIN: Span = Span::from_millis(500);

/// What one life of a worker has seen of the log and of its own progress.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// `lastrec` of the store, until the frame that it describes has come.
    expected: Option<String>,
    /// The log has said since the claim that it holds what is to be folded.
    whole: bool,
    /// The watermarks are asked for; the log stood at least here when they were.
    asked: Option<Offset>,
    /// When they are asked for again.
    ask_at: Option<Timestamp>,
    /// Bad answers in a row.
    bad: u32,
    /// The consumer's position is out of range: it stands still until it is sought.
    out_of_range: bool,
    gaps: u32,
    silences: u32,
    /// Since when there is work and no commit.
    stuck: Option<Timestamp>,
    /// The store's last answer was none, or a refusal: no other process would fare better.
    store_away: bool,
}

/// What `lastrec` says of a frame: the store keeps it with the offset behind it.
pub(super) fn lastrec(offset: Offset, payload: &Bytes, appended: Timestamp) -> String {
    format!("{offset}:{:08x}:{}", crc32c::crc32c(payload), appended.millis())
}

/// When the log took the frame that a `lastrec` describes.
pub(super) fn appended_at(lastrec: &str) -> Option<Timestamp> {
    lastrec.rsplit(':').next()?.parse().ok().map(Timestamp::from_millis)
}

// === impl Watch ===

impl Watch {
    /// When the worker has to look at it.
    pub(super) fn next_wake(&self, config: &Config, interval: Span) -> Option<Timestamp> {
        let stalls = self.stuck.map(|since| stalls_at(since, interval, config));
        [self.ask_at, stalls].into_iter().flatten().min()
    }

    /// The store has answered, or not.
    pub(super) fn store_answered(&mut self, answered: bool) {
        self.store_away = !answered;
    }
}

fn stalls_at(since: Timestamp, interval: Span, config: &Config) -> Timestamp {
    since.plus(interval).plus(config.stall)
}

impl<P: Processor> Worker<P> {
    /// Begins to look at the log from the frame before the committed offset on, which is compared and not folded.
    pub(super) fn begin_watch(&mut self, turn: &mut Turn<'_>) {
        if turn.config.rules.lastrec_check && self.off > 0 {
            if self.meta.lastrec.is_empty() {
                return self.halt(turn, format!("the store is at offset {} and does not say which frame stands before it", self.off));
            }
            self.watch.expected = Some(self.meta.lastrec.clone());
            self.next = self.off - 1;
        }
        self.ask_watermarks(turn);
        turn.commands.push(Command::Seek(self.id.index, self.next));
    }

    /// Whether it may lead: the log holds what is to be folded.
    pub(super) fn is_log_whole(&self) -> bool {
        self.watch.whole
    }

    /// Takes the frame at `next` for what vouches for the log, if that is what it is.
    pub(super) fn vouches(&mut self, turn: &mut Turn<'_>, delivery: &Delivery) -> bool {
        let Some(expected) = self.watch.expected.take() else { return false };
        let found = lastrec(delivery.offset, &delivery.payload, delivery.appended);
        if found != expected {
            self.halt(
                turn,
                format!("another log: the frame before the committed offset was {expected} (offset:crc32c:time), now it is {found}"),
            );
        }
        true
    }

    /// A frame came that is not the next one: everything between is missing.
    pub(super) fn gap(&mut self, turn: &mut Turn<'_>, offset: Offset) {
        self.queue.knows_of(offset + 1);
        if self.queue.is_sought_since(turn.now.minus(SEEK_AGAIN)) {
            return;
        }
        self.watch.gaps += 1;
        if self.watch.gaps >= GAPS {
            self.rejoin(turn, "a partition skips records after every seek");
        } else {
            self.seek(turn);
        }
    }

    /// The next frame came: the consumer stands where it should.
    pub(super) fn in_step(&mut self) {
        (self.watch.gaps, self.watch.silences) = (0, 0);
    }

    fn seek(&mut self, turn: &mut Turn<'_>) {
        turn.counters.seeks += 1;
        self.queue.sought(turn.now, self.next);
        turn.commands.push(Command::Seek(self.id.index, self.next));
    }

    fn rejoin(&mut self, turn: &mut Turn<'_>, why: &str) {
        warn!(partition = %self.id, off = self.off, next = self.next, why, "the consumer is to be made anew");
        self.in_step();
        self.queue.sought(turn.now, self.next);
        turn.counters.rejoins += 1;
        turn.commands.push(Command::Rejoin(format!("{}: {why}", self.id)));
    }

    /// Somebody else keeps taking this partition, so one of us is not its owner.
    pub(super) fn leave_group(&mut self, turn: &mut Turn<'_>) {
        self.rejoin(turn, "others keep claiming a partition of this process");
    }

    /// More is known to stand in the log, it is wanted, and nothing comes: the client has lost its position.
    pub(super) fn watch_silence(&mut self, turn: &mut Turn<'_>) {
        if !self.is_folding() || !self.queue.is_silent_since(turn.now.minus(turn.config.silence)) {
            return;
        }
        if !self.queue.is_empty() || !self.wants(turn.config, turn.publisher) {
            // Not silence: this worker takes no more for the time being.
            self.queue.listen(turn.now, self.next);
            return;
        }
        self.watch.silences += 1;
        if self.watch.silences >= SILENCES {
            self.rejoin(turn, "nothing comes of a partition that has more");
        } else {
            warn!(partition = %self.id, off = self.off, next = self.next, "silence, seeking");
            self.seek(turn);
        }
    }

    /// The consumer cannot go on with this partition.
    pub(crate) fn log_failed(&mut self, turn: &mut Turn<'_>, error: &LogError) {
        if !self.is_folding() {
            return;
        }
        match error {
            LogError::OutOfRange => {
                self.watch.out_of_range = true;
                self.ask_watermarks(turn);
            }
            LogError::Unknown => self.halt(turn, "the inbox has no such partition"),
            LogError::Unavailable(_) => {
                self.watch.asked = None;
                self.queue.fails(turn.now);
            }
        }
    }

    /// Asks where the log begins and ends, if that is not asked already.
    fn ask_watermarks(&mut self, turn: &mut Turn<'_>) {
        self.watch.ask_at = Some(turn.now.plus(turn.config.watermarks_every));
        if self.watch.asked.is_none() {
            self.watch.asked = Some(self.off.max(self.next).max(self.queue.known_end()));
            turn.commands.push(Command::Watermarks(self.id.index));
        }
    }

    /// Asks again when it is time.
    pub(super) fn watch_log(&mut self, turn: &mut Turn<'_>) {
        if self.is_folding() && self.watch.ask_at.is_some_and(|at| at <= turn.now) {
            self.ask_watermarks(turn);
        }
    }

    /// Where the log begins and ends.
    pub(crate) fn watermarks(&mut self, turn: &mut Turn<'_>, start: Offset, end: Offset) {
        if !self.is_folding() {
            return;
        }
        let Some(stood) = self.watch.asked.take() else { return };
        if start == self.off && self.watch.expected.is_some() && self.next < start {
            // Trimmed right up to what is to be folded: nothing is missing, and nothing vouches.
            self.watch.expected = None;
            self.next = self.off;
            turn.counters.unvouched += 1;
            warn!(partition = %self.id, off = self.off, "the log begins at the committed offset; nothing vouches for it");
            self.watch.out_of_range = true;
        }
        let wrong = if self.next < start {
            format!("the log starts at {start}, behind the offset {} to be folded: its records are gone", self.off.max(self.next))
        } else if end < stood {
            format!("the log ends at {end}, before the offset {stood} that it had reached: it lost its tail")
        } else {
            self.watch.bad = 0;
            self.watch.whole = true;
            self.queue.knows_of(end);
            if std::mem::take(&mut self.watch.out_of_range) {
                self.seek(turn);
            } else {
                self.queue.listens(turn.now, self.next);
            }
            return;
        };
        self.watch.bad += 1;
        if self.watch.bad >= BAD_ANSWERS {
            self.halt(turn, wrong);
        } else {
            self.watch.ask_at = Some(turn.now.plus(ASK_AGAIN));
        }
    }

    /// Whether there is work that ought to lead to a commit.
    fn has_work(&self) -> bool {
        self.missing.is_none()
            && (self.queue.known_end() > self.next
                || !self.queue.is_empty()
                || self.work.is_some()
                || !self.open.is_empty()
                || !self.is_committed())
    }

    /// Work is there and nothing was committed for too long.
    pub(super) fn watch_progress(&mut self, turn: &mut Turn<'_>) {
        if !self.is_folding() || !self.has_work() {
            self.watch.stuck = None;
            return;
        }
        let since = *self.watch.stuck.get_or_insert(turn.now);
        if stalls_at(since, self.tempo.interval, turn.config) > turn.now {
            return;
        }
        self.watch.stuck = Some(turn.now);
        if !self.frozen.is_empty() && self.acknowledged == 0 && !turn.publisher.was_acknowledged_since(since) {
            // Nobody's appends get through: the log is away, and outputs wait for it.
            warn!(partition = %self.id, off = self.off, next = self.next, "outputs are not acknowledged");
            return;
        }
        turn.counters.stalls += 1;
        self.stalls += u32::from(!self.watch.store_away);
        warn!(partition = %self.id, off = self.off, next = self.next, stalls = self.stalls, "nothing was committed, starting anew");
        if self.stalls >= STALLS {
            turn.commands.push(Command::Exit(format!("{} does not get on: nothing is committed behind {}", self.id, self.off)));
        }
        self.lose(turn, turn.now);
    }

    /// A commit went through.
    pub(super) fn got_on(&mut self) {
        self.watch.stuck = None;
        self.stalls = 0;
    }
}
