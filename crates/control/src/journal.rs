//! The control journal, `wp1.control`: install, definition sets in force, write keys.
//!
//! Each entry names the offset of the valid entry it follows; one that does not is void, so two control
//! processes cannot both win (PROTOCOL §3.2). Folding the topic from its start gives the same answer everywhere.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use waypost_types::WorkspaceId;

/// What stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A numbered set of definitions, by the content hash of its manifest (hex).
    Activate {
        /// Rises by one.
        set: u64,
        /// 32 hex digits.
        hash: String,
    },
    /// A write key for a source; an older one of the same source is revoked.
    Key {
        /// Workspace.
        workspace: u32,
        /// Name of the source.
        source: String,
        /// BLAKE3 of the key, hex.
        hash: String,
    },
}

/// An entry with the offset of the valid one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Offset of the valid entry before this one; none for the first.
    pub(crate) follows: Option<u64>,
    /// What it says.
    #[serde(flatten)]
    pub(crate) entry: Entry,
}

/// The journal, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The set in force: number and content hash of its manifest.
    pub set: Option<(u64, String)>,
    /// Write keys: hash of the key → workspace and source.
    pub keys: BTreeMap<String, (WorkspaceId, String)>,
    /// Offset of the last valid entry.
    pub last: Option<u64>,
    /// Offsets of all valid entries.
    pub valid: BTreeSet<u64>,
    /// First offset not folded.
    pub next: u64,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    /// It holds.
    Valid,
    /// It followed something else, or is not of this journal's kinds.
    Void,
}

// === impl Journal ===

impl Journal {
    /// Folds the line at `offset`. Lines of other kinds (the install record) are passed over.
    pub fn fold(&mut self, offset: u64, bytes: &[u8]) -> Folded {
        self.next = offset + 1;
        let Ok(line) = serde_json::from_slice::<Line>(bytes) else { return Folded::Void };
        if line.follows != self.last {
            return Folded::Void;
        }
        match line.entry {
            Entry::Activate { set, hash } => {
                if self.set.as_ref().is_some_and(|(current, _)| set <= *current) {
                    return Folded::Void;
                }
                self.set = Some((set, hash));
            }
            Entry::Key { workspace, source, hash } => {
                let owner = (WorkspaceId::new(workspace), source);
                self.keys.retain(|_, o| *o != owner);
                self.keys.insert(hash, owner);
            }
        }
        self.last = Some(offset);
        self.valid.insert(offset);
        Folded::Valid
    }

    /// The bytes of a line that follows the present end.
    pub fn line(&self, entry: Entry) -> Vec<u8> {
        serde_json::to_vec(&Line { follows: self.last, entry }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_lines_that_follow_the_same_only_the_first_holds() {
        let mut journal = Journal::default();
        let first = journal.line(Entry::Activate { set: 1, hash: "a".into() });
        let second = journal.line(Entry::Activate { set: 1, hash: "b".into() });
        assert_eq!(journal.fold(3, &first), Folded::Valid);
        assert_eq!(journal.fold(4, &second), Folded::Void);
        assert_eq!(journal.set, Some((1, "a".into())));
        assert_eq!((journal.last, journal.next), (Some(3), 5));
    }

    #[test]
    fn a_new_key_revokes_the_source_s_old_one() {
        let mut journal = Journal::default();
        for (offset, hash) in [(0, "old"), (1, "new")] {
            let line = journal.line(Entry::Key { workspace: 1, source: "web".into(), hash: hash.into() });
            assert_eq!(journal.fold(offset, &line), Folded::Valid);
        }
        assert_eq!(journal.keys.keys().collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn garbage_is_void() {
        let mut journal = Journal::default();
        assert_eq!(journal.fold(0, b"{\"kind\":\"install\",\"id\":\"x\"}"), Folded::Void);
        assert_eq!(journal.fold(1, b"\xff"), Folded::Void);
        assert_eq!(journal.last, None);
    }
}
