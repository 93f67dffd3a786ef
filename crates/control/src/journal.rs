//! The control journal, `wp1.control`: install, definition sets in force, write keys, quotas.
//!
//! Each entry names the offset of the valid entry it follows; one that does not is void, so two control
//! processes cannot both win (PROTOCOL §3.2). Folding the topic from its start gives the same answer everywhere.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use waypost_engine::apply::Quota;
use waypost_types::{PartitionId, Position, Role, WorkspaceId};

use crate::keys::{KeyLine, WriteKeys};

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
    /// A new write key for a source, and what becomes of those of before; or the end of one.
    Key(KeyLine),
    /// What a workspace may have from now on, as a whole. It stands in a chain of its own, so that a binary that does not know this
    /// kind passes it over and reads on: in the one chain everything behind it would be void there.
    Quota {
        /// Whose.
        workspace: u32,
        /// Offset of the quota before it, whosever; none for the first.
        after: Option<u64>,
        /// What it may have.
        quota: Quota,
    },
    /// Somebody wants a record skipped (PROTOCOL §12.1); another one has to approve.
    SkipProposed {
        /// Which record.
        #[serde(flatten)]
        place: SkipPlace,
        /// Why, for people; no personal data.
        reason: String,
        /// Who.
        by: String,
    },
    /// The record folds to a dead letter, in every life from now on. Holds only behind a proposal of somebody else.
    Skip {
        /// Which record.
        #[serde(flatten)]
        place: SkipPlace,
        /// Who proposed it.
        proposed_by: String,
        /// Who approved it.
        approved_by: String,
        /// As proposed.
        reason: String,
    },
}

/// One record of one partition's inbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SkipPlace {
    /// A role's word.
    pub role: String,
    /// Its partition.
    pub partition: u32,
    /// Offset of the frame.
    pub offset: u64,
    /// Index of the record in it.
    pub index: u32,
}

/// What the journal says of a record that is to be skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Who proposed it.
    pub proposed_by: String,
    /// Who approved it; none yet.
    pub approved_by: Option<String>,
    /// Why.
    pub reason: String,
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
    /// All sets that ever were in force, the present one too.
    pub sets: BTreeMap<u64, String>,
    /// Write keys.
    pub keys: WriteKeys,
    /// What workspaces may have; none: what the product allows.
    pub quotas: BTreeMap<WorkspaceId, Quota>,
    /// Offset of the last valid quota.
    pub last_quota: Option<u64>,
    /// Records proposed to be skipped, and those that are.
    pub skips: BTreeMap<SkipPlace, Skip>,
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

// === impl SkipPlace ===

impl SkipPlace {
    /// The record at `position` of `partition`.
    pub fn of(partition: PartitionId, position: Position) -> Self {
        let PartitionId { role, index } = partition;
        Self { role: role.to_string(), partition: index, offset: position.offset, index: position.index }
    }

    /// Its partition; none if the role is none of this release's.
    pub fn partition(&self) -> Option<PartitionId> {
        let role = self.role.parse().ok().filter(|role| Role::KEYED.contains(role))?;
        Some(PartitionId { role, index: self.partition })
    }

    /// Where in its inbox.
    pub fn position(&self) -> Position {
        Position { offset: self.offset, index: self.index }
    }
}

impl std::fmt::Display for SkipPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {}", self.role, self.partition, self.position())
    }
}

// === impl Journal ===

impl Journal {
    /// Folds the line at `offset`. Lines of other kinds (the install record) are passed over.
    pub fn fold(&mut self, offset: u64, bytes: &[u8]) -> Folded {
        self.next = offset + 1;
        let Ok(line) = serde_json::from_slice::<Line>(bytes) else { return Folded::Void };
        if let Entry::Quota { workspace, after, quota } = line.entry {
            if after != self.last_quota {
                return Folded::Void;
            }
            self.quotas.insert(WorkspaceId::new(workspace), quota);
            self.last_quota = Some(offset);
            self.valid.insert(offset);
            return Folded::Valid;
        }
        if line.follows != self.last {
            return Folded::Void;
        }
        match line.entry {
            Entry::Activate { set, hash } => {
                if self.set.as_ref().is_some_and(|(current, _)| set <= *current) {
                    return Folded::Void;
                }
                self.sets.insert(set, hash.clone());
                self.set = Some((set, hash));
            }
            Entry::Key(line) => self.keys.fold(line),
            // done above
            Entry::Quota { .. } => {}
            Entry::SkipProposed { place, reason, by } => {
                if by.is_empty() || self.skips.contains_key(&place) {
                    return Folded::Void;
                }
                self.skips.insert(place, Skip { proposed_by: by, approved_by: None, reason });
            }
            Entry::Skip { place, proposed_by, approved_by, .. } => match self.skips.get_mut(&place) {
                Some(skip)
                    if skip.approved_by.is_none()
                        && skip.proposed_by == proposed_by
                        && !approved_by.is_empty()
                        && approved_by != proposed_by =>
                {
                    skip.approved_by = Some(approved_by);
                }
                Some(_) | None => return Folded::Void,
            },
        }
        self.last = Some(offset);
        self.valid.insert(offset);
        Folded::Valid
    }

    /// The records that are skipped: proposed by one, approved by another.
    pub fn skipped(&self) -> impl Iterator<Item = (PartitionId, Position)> {
        let approved = self.skips.iter().filter(|(_, skip)| skip.approved_by.is_some());
        approved.filter_map(|(place, _)| Some((place.partition()?, place.position())))
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
        assert_eq!(journal.sets, BTreeMap::from([(1, "a".to_owned())]));
        assert_eq!((journal.last, journal.next), (Some(3), 5));
    }

    #[test]
    fn a_skip_takes_two_people_and_is_never_edited() {
        let place = SkipPlace { role: "sender".into(), partition: 2, offset: 9, index: 1 };
        let proposed = |by: &str| Entry::SkipProposed { place: place.clone(), reason: "kills the process".into(), by: by.into() };
        let skip = |proposed_by: &str, approved_by: &str| Entry::Skip {
            place: place.clone(),
            proposed_by: proposed_by.into(),
            approved_by: approved_by.into(),
            reason: String::new(),
        };
        let mut journal = Journal::default();
        let mut offset = 0;
        let mut enter = |journal: &mut Journal, entry: Entry| {
            offset += 1;
            let line = journal.line(entry);
            journal.fold(offset, &line)
        };
        assert_eq!(enter(&mut journal, skip("ana", "ben")), Folded::Void, "nothing was proposed");
        assert_eq!(enter(&mut journal, proposed("ana")), Folded::Valid);
        assert_eq!(enter(&mut journal, proposed("ben")), Folded::Void, "it is proposed already");
        assert_eq!(journal.skipped().count(), 0);
        for (by, approved) in [("ana", "ana"), ("ana", ""), ("ben", "cleo")] {
            assert_eq!(enter(&mut journal, skip(by, approved)), Folded::Void, "{by} {approved}");
        }
        assert_eq!(enter(&mut journal, skip("ana", "ben")), Folded::Valid);
        let skipped: Vec<_> = journal.skipped().collect();
        assert_eq!(skipped, [(PartitionId { role: Role::Sender, index: 2 }, Position { offset: 9, index: 1 })]);
        assert_eq!(enter(&mut journal, skip("ana", "cleo")), Folded::Void);
    }

    #[test]
    fn quotas_have_a_chain_of_their_own_and_break_no_other() {
        let mut journal = Journal::default();
        let quota =
            |after, journeys| Entry::Quota { workspace: 1, after, quota: Quota { live_journeys: Some(journeys), ..Quota::default() } };
        let key = journal.line(Entry::Key(KeyLine::new(WorkspaceId::new(1), "web", "h")));
        let first = journal.line(quota(None, 5));
        let rival = journal.line(quota(None, 6));
        assert_eq!(journal.fold(0, &first), Folded::Valid);
        assert_eq!(journal.fold(1, &rival), Folded::Void, "somebody else was first");
        assert_eq!(journal.fold(2, &key), Folded::Valid, "an older binary has passed over the quota and says the same");
        let next = journal.line(quota(Some(0), 7));
        assert_eq!(journal.fold(3, &next), Folded::Valid);
        assert_eq!(journal.quotas[&WorkspaceId::new(1)].live_journeys, Some(7));
        assert_eq!((journal.last, journal.last_quota), (Some(2), Some(3)));
    }

    #[test]
    fn garbage_is_void() {
        let mut journal = Journal::default();
        assert_eq!(journal.fold(0, b"{\"kind\":\"install\",\"id\":\"x\"}"), Folded::Void);
        assert_eq!(journal.fold(1, b"\xff"), Folded::Void);
        assert_eq!(journal.last, None);
    }
}
