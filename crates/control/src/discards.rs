//! Letters that somebody is done with. The mark is a line in the audit topic; the letter stays where it lies.

use waypost_proto::control as pb;
use waypost_types::WorkspaceId;

use crate::{
    access::Caller,
    audit::{Act, Line},
    letters::Letter,
    redrives::subject,
    server::Control,
    status::Refusal,
};

/// Lines that are written together.
const AT_ONCE: usize = 1_000;
/// Characters of a reason.
const NOTE_MAX: usize = 200;

// === impl Control ===

impl Control {
    /// Marks letters, unless it is only checked; the ids of those that were not marked before, oldest first.
    pub(crate) async fn discard(&self, caller: &Caller, request: &pb::DiscardDeadLettersRequest) -> Result<Vec<String>, Refusal> {
        let one = !request.id.is_empty();
        if !one && request.reason.is_empty() && request.source.is_empty() {
            return Err(Refusal::Invalid("NOTHING_NAMED", "name a letter by its id, or a reason or source".to_owned()));
        }
        let note = note(&request.note, request.validate_only)?;
        let mut letters = if one {
            vec![self.letter(caller, &request.id).await?]
        } else {
            self.letters_for(caller, &request.reason, &request.source).await?
        };
        let marks = self.redrives().await?;
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
        let names = self.changes.current()?;
        for some in letters.chunks(AT_ONCE) {
            let line = |letter: &Letter| {
                let workspace = names.workspace_name(WorkspaceId::new(letter.workspace));
                Line::of(caller, Act::Discard, subject(letter)).in_workspace(workspace).note(note)
            };
            self.audit.write_all(some.iter().map(line).collect()).await?;
        }
        Ok(())
    }
}

pub(crate) fn note(text: &str, is_optional: bool) -> Result<String, Refusal> {
    let text = text.trim();
    let wrong = |message: &str| Err(Refusal::Invalid("INVALID_NOTE", message.to_owned()));
    if text.is_empty() && !is_optional {
        return wrong("say why: it is all that is left to know of it later");
    }
    if is_short(text) { Ok(text.to_owned()) } else { wrong("`note` is one line of at most 200 characters") }
}

/// Whether it is one short line.
pub(crate) fn is_short(text: &str) -> bool {
    text.chars().count() <= NOTE_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(note(" test data ", false).ok().as_deref(), Some("test data"));
        assert!(note("", true).is_ok());
        for bad in ["", " ", "two\nlines", &"x".repeat(201)] {
            assert!(note(bad, false).is_err(), "{bad}");
        }
    }
}
