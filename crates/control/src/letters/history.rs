//! What the audit topic remembers of letters: which were put back, by whom, and which were discarded.

use std::collections::BTreeMap;

use waypost_runtime::ports::Offset;

use super::{Letter, LetterId};
use crate::{
    audit::{Act, Line, Lines},
    server::Control,
    status::Refusal,
};

/// Before the id of a letter.
const PREFIX: &str = "deadletters/";

/// Redrives by letter, in the order of the audit topic, and which letters were discarded since.
#[derive(Default)]
pub(crate) struct History {
    lines: BTreeMap<String, Vec<(Offset, Line)>>,
    discards: BTreeMap<String, Line>,
    /// Up to where the topic was read.
    next: Offset,
    /// The first letter that there still is, by partition: lines are kept for longer than letters.
    first: Vec<Offset>,
}

/// Which letters an operation puts back, by what stands in the audit topic.
pub(crate) struct Choice<'a> {
    pub(crate) before: &'a History,
    pub(crate) again: bool,
    /// Its name, which its lines have as their note.
    pub(crate) operation: &'a str,
}

// === impl Control ===

impl Control {
    pub(crate) async fn history(&self) -> Result<History, Refusal> {
        Ok(self.history_open(|| ()).await?.0)
    }

    /// With the lines that come behind; calls `moved` at each.
    pub(crate) async fn history_open(&self, moved: impl Fn()) -> Result<(History, Lines), Refusal> {
        let first = self.letters.bounds_of_all().await?.into_iter().map(|(first, _)| first).collect();
        let (mut history, mut lines) = (History { first, ..History::default() }, self.audit.lines(0).await?);
        while let Some((offset, line)) = lines.next().await? {
            history.take(offset, line);
            moved();
        }
        Ok((history, lines))
    }
}

// === impl History ===

impl History {
    /// Takes in what has been written since, up to a line of which it is known that it stands there.
    pub(crate) async fn read_to(&mut self, lines: &mut Lines, last: Offset) -> Result<(), Refusal> {
        while self.next <= last {
            // Where the present end comes first, the next call waits for more.
            if let Some((offset, line)) = lines.next().await? {
                self.take(offset, line);
            }
        }
        Ok(())
    }

    fn take(&mut self, offset: Offset, line: Line) {
        self.next = offset + 1;
        // A line that says that another came to nothing is no redrive.
        if !line.outcome.is_empty() || !self.is_kept(&line.subject) {
            return;
        }
        if line.act == Act::Redrive {
            self.discards.remove(&line.subject);
            self.lines.entry(line.subject.clone()).or_default().push((offset, line));
        } else if line.act == Act::Discard {
            self.discards.insert(line.subject.clone(), line);
        }
    }

    /// Whether it is a letter that there still is.
    fn is_kept(&self, subject: &str) -> bool {
        let letter = subject.strip_prefix(PREFIX).and_then(|id| id.parse::<LetterId>().ok());
        letter.is_some_and(|id| self.first.get(id.partition as usize).is_none_or(|first| id.offset >= *first))
    }

    /// The line that discarded it, unless it was put back since.
    pub(crate) fn discard(&self, subject: &str) -> Option<&Line> {
        self.discards.get(subject)
    }

    /// Lines that put a letter back, with their offsets.
    pub(crate) fn of(&self, subject: &str) -> &[(Offset, Line)] {
        self.lines.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Where among a letter's lines that of an operation is.
    pub(crate) fn place_of(&self, subject: &str, operation: &str) -> Option<usize> {
        if operation.is_empty() { None } else { self.of(subject).iter().position(|(_, line)| line.note == operation) }
    }

    /// Whether an operation is to put a letter back: nobody has done so or discarded it before, or its own attempt has to be settled.
    fn is_open(&self, subject: &str, operation: &str) -> bool {
        self.place_of(subject, operation).is_some() || (self.of(subject).is_empty() && self.discard(subject).is_none())
    }
}

// === impl Choice ===

impl Choice<'_> {
    /// Whether a letter is one of those that are to be put back.
    pub(crate) fn is_wanted(&self, letter: &Letter) -> bool {
        self.again || self.before.is_open(&subject(letter), self.operation)
    }

    /// Whether an attempt at the same operation has written down that it puts a letter back.
    pub(crate) fn is_begun(&self, letter: &Letter) -> bool {
        self.before.place_of(&subject(letter), self.operation).is_some()
    }
}

/// What lines call a letter.
pub(crate) fn subject(letter: &Letter) -> String {
    format!("{PREFIX}{}", letter.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_letters_that_are_still_there_is_kept() {
        let mut history = History { first: vec![0, 7], ..History::default() };
        let subjects = ["deadletters/1-6", "deadletters/1-7", "deadletters/0-0", "operations/12ab"];
        for (offset, subject) in (10..).zip(subjects) {
            history.take(offset, Line::new("ana", Act::Discard, subject));
            history.take(offset, Line::new("ana", Act::Redrive, subject));
        }
        assert_eq!(history.lines.keys().collect::<Vec<_>>(), ["deadletters/0-0", "deadletters/1-7"]);
        assert!(history.discards.is_empty(), "put back since");
        assert_eq!(history.next, 14);
        history.take(14, Line::new("ana", Act::Discard, "deadletters/1-6"));
        assert!(history.discards.is_empty());
    }
}
