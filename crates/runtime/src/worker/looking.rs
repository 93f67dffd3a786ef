//! A halted partition looks again, at a bounded pace, whether what it halted over is gone (PROTOCOL §12.1, §13.3).
//!
//! It only looks: nothing is claimed, folded or written before the store shows that somebody did something about it. That is another
//! state in the place of the one it halted over (a restore), a part that adds up again, or a note of deaths that was taken away
//! (`waypost skip retry`). Then it begins anew, as after an addition to the skip list, and may halt again. What stands in the log, a
//! binary or the settings of a server changes only for another process.

use bytes::Bytes;
use tracing::info;
use waypost_types::{Span, Timestamp};

use super::{Phase, Turn, Worker};
use crate::{
    digest::{Digest, Part},
    machine::Command,
    ports::{Audit, AuditReply, Deaths, Offset, StoreError, Token},
    processor::Processor,
};

/// How often: one small question to the store.
const PACE: Span = Span::from_secs(15);

/// What the store shows of a partition without its entities.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    NoState,
    /// Whose it is, where it stands, its digest.
    State(Option<Token>, Offset, Bytes),
}

/// What is known of the state that the partition halted over.
#[derive(Debug, Default)]
pub(super) struct Looking {
    /// When it looks next; none while it looks.
    at: Option<Timestamp>,
    /// It had the partition when it halted, or at least its claim was taken.
    had: bool,
    /// What was not whole.
    part: Option<Part>,
    /// It halted over what is noted of deaths.
    deaths: bool,
    /// As it was at the first look.
    first: Option<Shown>,
    /// At the latest look, and since when it has looked so.
    last: Option<(Shown, Timestamp)>,
    /// When it last began anew.
    anew: Option<Timestamp>,
}

// === impl Looking ===

impl Looking {
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.at
    }

    /// What outlasts the beginning of a life.
    pub(super) fn over(&self) -> Self {
        Self { anew: self.anew, ..Self::default() }
    }
}

impl<P: Processor> Worker<P> {
    /// Halts, and will look again; `part` was not whole.
    pub(super) fn halt_over(&mut self, turn: &mut Turn<'_>, part: Part, why: String) {
        if !matches!(self.phase, Phase::Halted(_)) {
            self.halt(turn, why);
            self.looking.part = Some(part);
        }
    }

    /// Halts where the store has nothing, and will look again: whatever is there then is another state.
    pub(super) fn halt_without_state(&mut self, turn: &mut Turn<'_>, why: &'static str) {
        if !matches!(self.phase, Phase::Halted(_)) {
            self.halt(turn, why);
            self.looking.first = Some(Shown::NoState);
        }
    }

    /// The store has taken its claim.
    pub(super) fn has_claimed(&mut self) {
        self.looking.had = true;
    }

    /// Halts over what is noted of deaths.
    pub(super) fn looks_at_deaths(&mut self) {
        self.looking.deaths = true;
    }

    pub(super) fn begin_looking(&mut self, turn: &Turn<'_>) {
        let had = self.looking.had;
        // At once, to know what there is; but no life follows another faster than it may look.
        let at = self.looking.anew.map_or(turn.now, |anew| anew.plus(PACE).max(turn.now));
        self.looking = Looking { at: Some(at), had, ..self.looking.over() };
    }

    pub(super) fn look_due(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.phase, Phase::Halted(_)) || self.looking.at.is_none_or(|at| at > turn.now) {
            return;
        }
        self.looking.at = None;
        turn.commands.push(Command::Audit(self.id.index, self.token, self.looking.part.unwrap_or(Part::Sequences)));
        if self.looking.deaths {
            turn.commands.push(Command::Deaths(self.id.index, self.token));
        }
    }

    /// The store has shown what there is.
    pub(super) fn looked(&mut self, turn: &mut Turn<'_>, part: Part, reply: Result<AuditReply, StoreError>) {
        let shown = match reply {
            Ok(AuditReply::Ok(audit)) => {
                let is_free = audit.own.is_none_or(|own| own == self.token);
                if is_free && self.looking.part == Some(part) && adds_up(part, &audit) {
                    return self.begin_anew(turn, "a part of the state that was not whole is whole");
                }
                Shown::State(audit.own, audit.off, audit.digest)
            }
            Ok(AuditReply::Uninit) => Shown::NoState,
            Err(StoreError::Refused(_) | StoreError::Unknown(_)) => {
                self.looking.at = Some(turn.now.plus(PACE));
                return;
            }
        };
        let quiet = turn.now.minus(turn.config.quiet_tick).minus(PACE);
        let since = self.looking.last.as_ref().filter(|(last, _)| *last == shown).map_or(turn.now, |(_, since)| *since);
        if self.is_another(&shown, since < quiet) {
            return self.begin_anew(turn, "another state is in the place of the one that it halted over");
        }
        self.looking.first.get_or_insert_with(|| shown.clone());
        self.looking.last = Some((shown, since));
        self.looking.at = Some(turn.now.plus(PACE));
    }

    /// What is noted of deaths was asked for by a halted partition.
    pub(super) fn looked_at_deaths(&mut self, turn: &mut Turn<'_>, reply: &Result<Option<Deaths>, StoreError>) {
        if *reply == Ok(None) && self.looking.deaths {
            self.begin_anew(turn, "nothing is noted of deaths any more");
        }
    }

    /// Whether somebody has put another state there. One that another worker has is that one's to fold, as long as it gets on:
    /// whoever leads commits a tick where nothing else comes, so what `stands` for longer than such a silence is nobody's.
    fn is_another(&self, shown: &Shown, stands: bool) -> bool {
        let Looking { had, first, .. } = &self.looking;
        let changed = first.as_ref().is_some_and(|first| first != shown);
        match shown {
            Shown::State(Some(own), off, _) if *own == self.token => !self.expected().contains(off) || *first == Some(Shown::NoState),
            Shown::State(Some(_), ..) => (*had || changed) && stands,
            Shown::State(None, ..) => *had || changed,
            Shown::NoState => changed,
        }
    }

    /// A new life, as of a partition that was just given to this process.
    pub(super) fn begin_anew(&mut self, turn: &Turn<'_>, why: &'static str) {
        info!(partition = %self.id, why, "a halted partition begins anew");
        self.looking.anew = Some(turn.now);
        self.phase = Phase::NotReady(Some(turn.now));
        self.life = 0;
    }
}

fn adds_up(part: Part, audit: &Audit) -> bool {
    Digest::stored(&audit.digest, audit.off).is_some_and(|digest| digest.sum(part) == audit.sum)
}
