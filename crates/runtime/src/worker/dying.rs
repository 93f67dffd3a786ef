//! Records that kill the process: the next life hears of it, goes frame by frame, and halts at last (PROTOCOL §12.1).
//!
//! A stack that overflows, memory that ends or an abort cannot be caught and leaves no letter. So a life notes
//! that it is about to fold before it folds its first record, and forgets the note behind its first commit; one
//! that has nothing to fold but leaders notes nothing. From the third death on each record is named before it
//! is folded, until the life has passed all that an earlier one can have folded: its own leader record.
//! A life that gave its partition back has not died, and neither has one whose process comes again: two that
//! take the partition from each other count once each.

use waypost_codec::{frame::Record, kind};
use waypost_types::{Position, Timestamp};

use super::{Phase, Turn, Worker, folding::Step, loading::pause};
use crate::{
    machine::Command,
    ports::{Claimed, Deaths, StoreError, Token},
    processor::Processor,
};

/// After so many deaths at one offset every frame is published, acknowledged and committed before the next.
const BISECT: u32 = 3;
/// After so many deaths at one record the partition halts.
const HALT: u32 = 6;

/// What is known of the lives before this one, and what the store is to know of this one.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// The claim that waits for what is noted.
    claimed: Option<Box<Claimed>>,
    /// Deaths at the claimed offset, and at which record if it was named.
    before: u32,
    named: Option<Position>,
    /// Other processes that died there, as far as anybody knows.
    others: Vec<u64>,
    /// Frame by frame.
    bisecting: bool,
    /// A commit of this life went through.
    passed: bool,
    stored: Option<Deaths>,
    wanted: Option<Deaths>,
    under_way: Option<Note>,
    attempts: u32,
    /// When to ask, or to note, again.
    again: Option<Timestamp>,
}

/// What the store is being told.
#[derive(Debug)]
struct Note(Option<Deaths>);

// === impl Lives ===

impl Lives {
    /// Another life of the same process.
    pub(super) fn reborn(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_bisecting(&self) -> bool {
        self.bisecting
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.again
    }

    /// The own leader record is folded: no life before this one has folded anything behind it.
    pub(super) fn caught_up(&mut self) {
        self.bisecting = false;
        self.before = 0;
    }

    fn begin(&mut self, process: u64, offset: u64, deaths: Option<Deaths>) {
        (self.stored, self.wanted) = (deaths.clone(), deaths.clone());
        let Some(here) = deaths.filter(|deaths| deaths.offset == offset) else { return };
        let survived = here.processes.contains(&process);
        self.before = here.count.saturating_sub(u32::from(survived));
        self.named = here.index.map(|index| Position { offset, index });
        self.others = here.processes.into_iter().filter(|other| *other != process).collect();
        self.bisecting = self.before >= BISECT;
    }

    /// What is to be noted before the record at `position` is folded, with `offset` the first uncommitted frame.
    fn about_to_fold(&self, process: u64, offset: u64, position: Position) -> Option<Deaths> {
        let with_others = || self.others.iter().copied().chain([process]).collect();
        if self.bisecting {
            // Everything before its frame is committed: it stands at `offset`. What stands before the named one in
            // the frame has been folded as often, and survived.
            if self.named.is_some_and(|named| named.offset == position.offset && position.index < named.index) {
                return None;
            }
            let again = self.named.is_none_or(|named| named == position);
            let (before, processes) = if again { (self.before.max(BISECT), with_others()) } else { (BISECT, vec![process]) };
            return Some(Deaths { offset: position.offset, count: before.saturating_add(1), processes, index: Some(position.index) });
        }
        (!self.passed).then(|| Deaths { offset, count: self.before.saturating_add(1), processes: with_others(), index: None })
    }

    /// Frame by frame, and between two of them: a death now is no record's.
    fn between(offset: u64) -> Deaths {
        Deaths { offset, count: BISECT, processes: Vec::new(), index: None }
    }
}

impl<P: Processor> Worker<P> {
    /// The partition is claimed; what has happened to those who had it before comes first.
    pub(super) fn ask_deaths(&mut self, turn: &mut Turn<'_>, claimed: Box<Claimed>) {
        self.lives.claimed = Some(claimed);
        self.has_claimed();
        turn.commands.push(Command::Deaths(self.id.index, self.token));
    }

    /// The store says what is noted.
    pub(crate) fn deaths(&mut self, turn: &mut Turn<'_>, token: Token, reply: Result<Option<Deaths>, StoreError>) {
        if token == self.token && matches!(self.phase, Phase::Halted(_)) {
            return self.looked_at_deaths(turn, &reply);
        }
        if token != self.token || self.phase != Phase::NotReady(None) {
            return;
        }
        match reply {
            Ok(deaths) => {
                let Some(claimed) = self.lives.claimed.take() else { return };
                self.lives.attempts = 0;
                self.lives.begin(turn.process, claimed.off, deaths);
                self.replay(turn, *claimed);
            }
            Err(StoreError::Refused(_) | StoreError::Unknown(_)) => self.note_later(turn),
        }
    }

    /// The store has noted it.
    pub(crate) fn deaths_noted(&mut self, turn: &mut Turn<'_>, token: Token, reply: &Result<(), StoreError>) {
        if token != self.token {
            return;
        }
        let Some(Note(noted)) = self.lives.under_way.take() else { return };
        match reply {
            Ok(()) => {
                self.lives.stored = noted;
                self.lives.attempts = 0;
            }
            Err(StoreError::Refused(_) | StoreError::Unknown(_)) => self.note_later(turn),
        }
    }

    fn note_later(&mut self, turn: &Turn<'_>) {
        self.lives.again = Some(turn.now.plus(pause(self.lives.attempts)));
        self.lives.attempts += 1;
    }

    /// Asks and notes what has not been.
    pub(super) fn note_due(&mut self, turn: &mut Turn<'_>) {
        if self.lives.again.is_some_and(|at| at > turn.now) {
            return;
        }
        let again = self.lives.again.take().is_some();
        if self.lives.claimed.is_some() {
            if again && self.phase == Phase::NotReady(None) {
                turn.commands.push(Command::Deaths(self.id.index, self.token));
            }
        } else if self.is_folding() && self.lives.under_way.is_none() && self.lives.wanted != self.lives.stored {
            let wanted = self.lives.wanted.clone();
            self.lives.under_way = Some(Note(wanted.clone()));
            turn.commands.push(Command::NoteDeaths(self.id.index, self.token, wanted));
        }
    }

    /// Whether the record may be folded: it is noted that it is about to be, or need not be.
    pub(super) fn may_fold(&mut self, turn: &mut Turn<'_>, record: &Record, position: Position) -> Step {
        if record.kind == kind::LEADER {
            return Step::Done;
        }
        let lives = &self.lives;
        if lives.before >= HALT && position.offset == self.off && lives.named.is_none_or(|named| named == position) {
            let why = format!(
                "record {position} (offset {}, index {}) was being folded when the process died, {} times: see what it is and why; \
                 with more memory or a newer binary let it try again with `waypost skip retry --role {} --partition {}`, else set it \
                 aside with `waypost skip propose --role {} --partition {} --offset {} --index {} --reason …`, which a second \
                 person approves",
                position.offset,
                position.index,
                lives.before,
                self.id.role,
                self.id.index,
                self.id.role,
                self.id.index,
                position.offset,
                position.index
            );
            self.halt_at(turn, position, why);
            self.looks_at_deaths();
            return Step::Done;
        }
        let Some(deaths) = self.lives.about_to_fold(turn.process, self.off, position) else { return Step::Done };
        self.lives.wanted = Some(deaths);
        if self.lives.stored == self.lives.wanted && self.lives.under_way.is_none() {
            return Step::Done;
        }
        self.note_due(turn);
        Step::Blocked
    }

    /// Frame by frame, a frame is committed before the next is begun.
    pub(super) fn waits_for_commit(&self) -> bool {
        self.lives.bisecting && !self.is_committed()
    }

    /// A frame is folded whole.
    pub(super) fn survived_frame(&mut self, offset: u64) {
        if self.lives.bisecting {
            self.lives.wanted = Some(Lives::between(offset));
        }
    }

    /// A commit went through.
    pub(super) fn survived_commit(&mut self) {
        self.lives.passed = true;
        self.lives.wanted = self.lives.bisecting.then(|| Lives::between(self.off));
    }

    /// The partition is given back: whoever takes it next has not come after a death.
    pub(super) fn note_release(&mut self, turn: &mut Turn<'_>) {
        let last = self.lives.bisecting.then(|| Lives::between(self.off));
        if self.lives.under_way.is_some() || self.lives.stored != last {
            turn.commands.push(Command::NoteDeaths(self.id.index, self.token, last));
        }
    }
}
