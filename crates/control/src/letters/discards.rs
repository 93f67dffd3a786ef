//! Letters that somebody is done with. The mark is a line in the audit topic; the letter stays where it lies.

use waypost_proto::control as pb;
use waypost_types::WorkspaceId;

use super::{Letter, history::subject};
use crate::{
    access::Caller,
    audit::{Act, Line},
    names,
    server::Control,
    status::Refusal,
};

/// Lines that are written together.
const AT_ONCE: usize = 1_000;

// === impl Control ===

impl Control {
    /// Marks letters, unless it is only checked; the ids of those that were not marked before, oldest first.
    pub(crate) async fn discard(&self, caller: &Caller, request: &pb::DiscardDeadLettersRequest) -> Result<Vec<String>, Refusal> {
        let one = !request.id.is_empty();
        if !one && request.reason.is_empty() && request.source.is_empty() {
            return Err(Refusal::Invalid("NOTHING_NAMED", "name a letter by its id, or a reason or source".to_owned()));
        }
        let note = names::line("note", "INVALID_NOTE", &request.note, request.validate_only)?;
        let mut letters = if one {
            vec![self.letter(caller, &request.id).await?]
        } else {
            self.letters_for(caller, &request.reason, &request.source).await?
        };
        let marks = self.history().await?;
        letters.retain(|letter| marks.discard(&subject(letter)).is_none());
        letters.reverse();
        if !request.validate_only {
            if !one && request.expected != letters.len() as u64 {
                let message =
                    format!("{} letters fit by now, and {} were expected: check again what they are", letters.len(), request.expected);
                return Err(Refusal::Precondition("OTHER_LETTERS", message));
            }
            self.mark(caller, &letters, &note).await?;
        }
        Ok(letters.iter().map(|letter| letter.id.to_string()).collect())
    }

    async fn mark(&self, caller: &Caller, letters: &[Letter], note: &str) -> Result<(), Refusal> {
        let manifest = self.changes.current()?;
        for some in letters.chunks(AT_ONCE) {
            let line = |letter: &Letter| {
                let workspace = manifest.workspace_name(WorkspaceId::new(letter.workspace));
                Line::of(caller, Act::Discard, subject(letter)).in_workspace(workspace).note(note)
            };
            self.audit.write_all(some.iter().map(line).collect()).await?;
        }
        Ok(())
    }
}
