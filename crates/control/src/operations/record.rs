//! What stands in `wp1.operations`: one JSON document a record.

use std::{cmp::Ordering, collections::BTreeSet};

use serde::{Deserialize, Serialize};
use waypost_runtime::ports::Offset;

use crate::{
    access::Caller,
    audit::{Act, Line},
};

/// Letters of which it is kept why they were not put back.
pub(super) const REFUSALS: usize = 20;
/// Characters that are kept of what stopped an attempt.
const TROUBLE_MAX: usize = 300;

/// One record. One of another kind is a later release's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Record {
    /// How far an operation is.
    State(Box<State>),
    /// Somebody has asked for its end.
    Cancel {
        /// Of which.
        id: String,
        /// Who.
        by: String,
    },
}

/// An operation, as one process knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) id: String,
    pub(super) work: Work,
    pub(super) asked: Asked,
    /// When it was asked for, ms.
    pub(super) started: i64,
    /// How many processes have worked on it; 0: none yet.
    #[serde(default)]
    pub(super) attempt: u32,
    /// Random name of the life that wrote this.
    pub(super) worker: String,
    /// Nobody works on it, and whoever comes may.
    #[serde(default)]
    pub(super) free: bool,
    #[serde(default)]
    pub(super) progress: Progress,
    /// What the last attempt was given up for, until another gets further; no personal data.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) trouble: String,
    #[serde(default)]
    pub(super) end: Option<End>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Work {
    /// Put letters back.
    Redrive { reason: String, source: String, again: bool },
}

/// Who has asked, and what of it is theirs to touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) by: String,
    pub(super) how: String,
    #[serde(default)]
    pub(super) from: String,
    /// Numbers of workspaces; none: all, also what belongs to none.
    pub(super) workspaces: Option<BTreeSet<u32>>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// How many there are; none: not counted yet.
    pub(super) total: Option<u64>,
    pub(super) done: u64,
    pub(super) failed: u64,
    /// By partition of the dead letters: from where on nothing is done yet, and where they ended when it was asked for.
    pub(super) next: Vec<Offset>,
    pub(super) until: Vec<Offset>,
    /// Letters that were not put back, and why; the first of them.
    #[serde(default)]
    pub(super) refusals: Vec<(String, String)>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) at: i64,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum Outcome {
    Succeeded,
    Cancelled,
    /// It cannot be done, by whomever.
    Failed {
        code: i32,
        reason: String,
        message: String,
    },
}

// === impl Record ===

impl Record {
    /// The key: one of each writer for each operation.
    pub(super) fn key(&self) -> String {
        match self {
            Self::State(state) => format!("{}/{}", state.id, state.worker),
            Self::Cancel { id, .. } => format!("{id}/cancel"),
        }
    }
}

// === impl State ===

impl State {
    /// Which of two words about an operation counts.
    pub(super) fn rank(&self, other: &Self) -> Ordering {
        let of = |state: &Self| (state.end.is_some(), state.attempt);
        of(self).cmp(&of(other)).then_with(|| self.worker.cmp(&other.worker))
    }

    /// As another life begins to work on it.
    pub(super) fn taken_by(&self, life: &str) -> Self {
        Self { attempt: self.attempt + 1, worker: life.to_owned(), free: false, ..self.clone() }
    }

    /// Keeps what an attempt was given up for.
    pub(super) fn stopped_by(&mut self, why: &str) {
        self.trouble = why.chars().filter(|c| !c.is_control()).take(TROUBLE_MAX).collect();
    }

    /// Whether it is this life that works on it in this attempt.
    pub(super) fn is_of(&self, life: &str, attempt: u32) -> bool {
        self.worker == life && self.attempt == attempt
    }
}

// === impl Work ===

impl Work {
    pub(super) fn act(&self) -> Act {
        match self {
            Self::Redrive { .. } => Act::Redrive,
        }
    }

    /// To what, for people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Redrive { reason, source, again } => {
                let named = [("reason", reason), ("source", source)].into_iter().filter(|(_, value)| !value.is_empty());
                let mut words: Vec<String> = named.map(|(name, value)| format!("{name} {value}")).collect();
                words.extend(again.then(|| "again".to_owned()));
                words.join(", ")
            }
        }
    }
}

// === impl Asked ===

impl Asked {
    pub(super) fn of(caller: &Caller, workspaces: Option<BTreeSet<u32>>) -> Self {
        let (by, how, from) = (caller.name().to_owned(), caller.how().as_str().to_owned(), caller.from().to_owned());
        Self { by, how, from, workspaces }
    }

    /// Whether a workspace's things are touched.
    pub(super) fn covers(&self, workspace: u32) -> bool {
        self.workspaces.as_ref().is_none_or(|workspaces| workspaces.contains(&workspace))
    }

    /// A line of the audit topic in their name.
    pub(super) fn line(&self, act: Act) -> Line {
        Line { how: self.how.clone(), from: self.from.clone(), ..Line::new(&self.by, act, "") }
    }
}
