//! Comparing what is stored with its digest, part by part, in the background (PROTOCOL §13.4).

use waypost_types::Timestamp;

use super::{Phase, Turn, Worker, loading::pause};
use crate::{
    digest::{self, Digest, Part},
    machine::Command,
    ports::{AuditReply, StoreError, Token},
    processor::Processor,
};

/// One round over all parts, and the next.
#[derive(Debug, Default)]
pub(super) struct Audits {
    /// Parts that are left of this round.
    left: Vec<Part>,
    /// When the next one is due; none while one is under way.
    due: Option<Timestamp>,
    /// When this round began.
    began: Timestamp,
    /// Answers in a row that did not come.
    failed: u32,
}

// === impl Audits ===

impl Audits {
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.due
    }
}

impl<P: Processor> Worker<P> {
    /// A round begins with the claim.
    pub(super) fn begin_audits(&mut self, turn: &Turn<'_>) {
        if turn.config.rules.digest_check {
            self.audits = Audits { due: Some(turn.now.plus(turn.config.digest_pace)), began: turn.now, ..Audits::default() };
            self.audits.left = Part::all().collect();
        }
    }

    pub(super) fn audit_due(&mut self, turn: &mut Turn<'_>) {
        if !self.is_folding() || self.audits.due.is_none_or(|due| due > turn.now) {
            return;
        }
        if self.audits.left.is_empty() {
            (self.audits.left, self.audits.began) = (Part::all().collect(), turn.now);
        }
        if let Some(part) = self.audits.left.last() {
            self.audits.due = None;
            turn.commands.push(Command::Audit(self.id.index, self.token, *part));
        }
    }

    /// The store has added up a part.
    pub(crate) fn audited(&mut self, turn: &mut Turn<'_>, token: Token, part: Part, reply: Result<AuditReply, StoreError>) {
        if token == self.token && matches!(self.phase, Phase::Halted(_)) {
            return self.looked(turn, part, reply);
        }
        if token != self.token || !self.is_folding() || self.audits.due.is_some() {
            return;
        }
        match reply {
            // Whose the state is by now does not matter: every state that was ever committed has its digest.
            Ok(AuditReply::Ok(audit)) => {
                turn.counters.audits += 1;
                let sum = Digest::stored(&audit.digest, audit.off).map(|digest| digest.sum(part));
                if sum != Some(audit.sum) {
                    turn.counters.digest_mismatches += 1;
                    let sum = sum.map_or_else(|| "no digest".to_owned(), |sum| format!("digest {sum:032x}"));
                    let found = format!("{part} of the store adds up to {:032x}, and was committed with {sum}", audit.sum);
                    return self.halt_over(turn, part, format!("{found}, at offset {}: {}", audit.off, digest::RESTORE));
                }
                self.audits.left.retain(|left| *left != part);
                self.audits.failed = 0;
                let next = if self.audits.left.is_empty() { self.audits.began.plus(turn.config.digest_every) } else { turn.now };
                self.audits.due = Some(next.max(turn.now).plus(turn.config.digest_pace));
            }
            Ok(AuditReply::Uninit) => self.halt_without_state(turn, "the store has lost the state of this partition"),
            Err(StoreError::Refused(_) | StoreError::Unknown(_)) => {
                self.audits.due = Some(turn.now.plus(turn.config.digest_pace).plus(pause(self.audits.failed)));
                self.audits.failed += 1;
            }
        }
    }
}
