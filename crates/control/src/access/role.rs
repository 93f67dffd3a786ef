//! Roles, and what each may do.

use std::fmt;

use serde::Deserialize;

/// A set of permissions by a name, given to callers by the access file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads definitions.
    Viewer,
    /// Writes definitions: drafts, and what is in force when applied.
    Editor,
    /// Also puts journeys in force, holds them up, archives and kills them.
    Publisher,
    /// Keeps the installation running.
    Operator,
    /// Answers people's questions about their data.
    Privacy,
    /// May do everything.
    Admin,
}

/// What a method needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Read definitions of every kind, and compare with them.
    ReadDefinitions,
    /// Apply definitions.
    WriteDefinitions,
    /// Put journeys in force, archive and kill them.
    Publish,
    /// Pause journeys, and let them go on.
    Hold,
    /// Follow events, their values masked.
    ReadEvents,
    /// Read a person's profile and trail.
    ReadPeople,
    /// Export, erase, detach or let expire a person.
    Privacy,
    /// Begin and end runs of a person.
    Runs,
    /// Read dead letters, masked, and put them back.
    DeadLetters,
    /// Make write keys.
    Keys,
    /// Read the audit topic.
    Audit,
    /// See where the pipeline and operations stand, and end these.
    Operate,
    /// Set a record aside that kills every process, one of two people, or have it tried again; counts only for the whole installation.
    Repair,
    /// Say what each workspace may have; counts only for the whole installation.
    Administer,
}

// === impl Role ===

impl Role {
    /// All of them, from the least to the most.
    pub const ALL: [Self; 6] = [Self::Viewer, Self::Editor, Self::Publisher, Self::Operator, Self::Privacy, Self::Admin];

    /// Its word in the access file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Publisher => "publisher",
            Self::Operator => "operator",
            Self::Privacy => "privacy",
            Self::Admin => "admin",
        }
    }

    /// Whether it may. The one place that says so.
    pub fn holds(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Self::Viewer => matches!(permission, P::ReadDefinitions),
            Self::Editor => matches!(permission, P::ReadDefinitions | P::WriteDefinitions),
            Self::Publisher => matches!(permission, P::ReadDefinitions | P::WriteDefinitions | P::Publish | P::Hold | P::ReadEvents),
            Self::Operator => {
                matches!(
                    permission,
                    P::ReadDefinitions | P::Hold | P::ReadEvents | P::Runs | P::DeadLetters | P::Keys | P::Audit | P::Operate | P::Repair
                )
            }
            Self::Privacy => matches!(permission, P::ReadDefinitions | P::ReadEvents | P::ReadPeople | P::Privacy),
            Self::Admin => true,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL.into_iter().find(|role| role.as_str() == word).ok_or_else(|| format!("`{word}` is no role; the roles are {}", all()))
    }
}

// === impl Permission ===

impl Permission {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ReadDefinitions,
        Self::WriteDefinitions,
        Self::Publish,
        Self::Hold,
        Self::ReadEvents,
        Self::ReadPeople,
        Self::Privacy,
        Self::Runs,
        Self::DeadLetters,
        Self::Keys,
        Self::Audit,
        Self::Operate,
        Self::Repair,
        Self::Administer,
    ];

    /// Its word in refusals and in `docs/access.md`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadDefinitions => "read-definitions",
            Self::WriteDefinitions => "write-definitions",
            Self::Publish => "publish",
            Self::Hold => "hold",
            Self::ReadEvents => "read-events",
            Self::ReadPeople => "read-people",
            Self::Privacy => "privacy",
            Self::Runs => "runs",
            Self::DeadLetters => "dead-letters",
            Self::Keys => "keys",
            Self::Audit => "audit",
            Self::Operate => "operate",
            Self::Repair => "repair",
            Self::Administer => "administer",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
