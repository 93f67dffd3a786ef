//! A numbered set: which body is in which state. Stored as JSON under its content hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use waypost_types::{ContentHash, WorkspaceId};

use crate::{definitions::Standing, manifest::Kind};

/// Everything that is defined at one number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetManifest {
    /// Rises by one with each change.
    pub number: u64,
    /// By id.
    pub workspaces: Vec<WorkspaceEntry>,
    /// By workspace, kind, name and version.
    pub definitions: Vec<DefinitionEntry>,
}

/// A workspace that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceEntry {
    /// Number.
    pub id: u32,
    /// Name in resource names.
    pub name: String,
}

/// One version of one definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionEntry {
    /// Whose it is.
    pub workspace: u32,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Counted up by content.
    pub version: u32,
    /// Of its body.
    #[serde(with = "hash_text")]
    pub hash: ContentHash,
    /// Whether it is in force.
    pub state: State,
    /// Changes with everything that a client can see of it.
    pub etag: String,
    /// Of published journeys: each template as the journey names it, and the hash of the body it means.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub templates: BTreeMap<String, String>,
    /// Of pinned and killed journeys: since when nobody enters, ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_at: Option<i64>,
}

/// Whether a version is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Applied, not published.
    Draft,
    /// In force.
    Active,
    /// In force, and held: nobody enters, and the sends of every version of the journey wait.
    ///
    /// This and [`State::Killed`] are states and no flag beside them, so that a binary that does not know
    /// them cannot read the set and waits, instead of going on as if nobody had said anything.
    Paused,
    /// Nobody enters; runs may still be on it.
    Pinned,
    /// Nobody enters, and runs that are still on it end.
    Killed,
    /// Nothing reads it any more.
    Archived,
}

mod hash_text {
    //! A hash as 32 hex digits.

    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use waypost_types::ContentHash;

    pub(super) fn serialize<S: Serializer>(hash: &ContentHash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex_of(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ContentHash, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::hash_of(&text).ok_or_else(|| D::Error::custom("not a hash"))
    }
}

/// A hash as 32 hex digits.
pub(super) fn hex_of(hash: &ContentHash) -> String {
    hex::encode(hash.as_bytes())
}

/// The hash behind 32 hex digits.
pub(crate) fn hash_of(text: &str) -> Option<ContentHash> {
    hex::decode(text).ok().and_then(|bytes| ContentHash::from_slice(&bytes).ok())
}

/// Hashes as they stand in an entry.
pub(super) fn names_of(templates: &BTreeMap<String, ContentHash>) -> BTreeMap<String, String> {
    templates.iter().map(|(name, hash)| (name.clone(), hex_of(hash))).collect()
}

// === impl SetManifest ===

impl SetManifest {
    /// A set in which this workspace exists and nothing else does.
    pub fn empty(workspace: WorkspaceId, name: &str) -> Self {
        Self { number: 0, workspaces: vec![WorkspaceEntry { id: workspace.number(), name: name.to_owned() }], definitions: Vec::new() }
    }

    /// Its stored bytes.
    pub fn to_bytes(&self) -> bytes::Bytes {
        // Only maps with keys that are not texts, and failing writers, make this fail.
        serde_json::to_vec(self).map(Into::into).unwrap_or_default()
    }

    /// From stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Changes with the set.
    pub fn etag(&self) -> String {
        hex_of(&ContentHash::of(&self.to_bytes()))
    }

    /// The workspace of that name.
    pub fn workspace(&self, name: &str) -> Option<WorkspaceId> {
        self.workspaces.iter().find(|w| w.name == name).map(|w| WorkspaceId::new(w.id))
    }

    /// The name of a workspace; empty if there is none.
    pub fn workspace_name(&self, id: WorkspaceId) -> &str {
        self.workspaces.iter().find(|w| w.id == id.number()).map_or("", |w| &w.name)
    }

    /// Entries of one kind, all versions.
    pub fn of_kind(&self, workspace: WorkspaceId, kind: Kind) -> impl Iterator<Item = &DefinitionEntry> {
        self.definitions.iter().filter(move |e| e.workspace == workspace.number() && e.kind == kind)
    }

    /// All versions of one definition.
    pub fn named<'a>(&'a self, workspace: WorkspaceId, kind: Kind, name: &'a str) -> impl Iterator<Item = &'a DefinitionEntry> {
        self.of_kind(workspace, kind).filter(move |e| e.name == name)
    }

    /// The version to show for a name: in force, else the draft, else the newest there was.
    pub fn shown(&self, workspace: WorkspaceId, kind: Kind, name: &str) -> Option<&DefinitionEntry> {
        let rank = |e: &&DefinitionEntry| match e.state {
            State::Active | State::Paused => (3, e.version),
            State::Draft => (2, e.version),
            State::Pinned | State::Killed | State::Archived => (1, e.version),
        };
        self.of_kind(workspace, kind).filter(|e| e.name == name).max_by_key(rank)
    }

    /// The state of a definition as a whole: a journey that nobody enters any more is archived.
    pub fn state(&self, workspace: WorkspaceId, kind: Kind, name: &str) -> Option<State> {
        let shown = self.shown(workspace, kind, name)?;
        Some(if shown.state == State::Pinned { State::Archived } else { shown.state })
    }

    /// Whether the runs of this version of a journey go on.
    pub(crate) fn standing(&self, entry: &DefinitionEntry) -> Standing {
        let paused = |other: &DefinitionEntry| {
            other.state == State::Paused && (other.workspace, other.kind, &other.name) == (entry.workspace, entry.kind, &entry.name)
        };
        match entry.state {
            State::Killed => Standing::Killed,
            _ if self.definitions.iter().any(paused) => Standing::Paused,
            State::Draft | State::Active | State::Paused | State::Pinned | State::Archived => Standing::Running,
        }
    }

    pub(super) fn named_mut<'a>(
        &'a mut self,
        workspace: WorkspaceId,
        kind: Kind,
        name: &'a str,
    ) -> impl Iterator<Item = &'a mut DefinitionEntry> {
        self.definitions.iter_mut().filter(move |e| e.is(workspace, kind, name))
    }

    /// The highest version of a definition; 0 if there is none.
    pub(super) fn newest(&self, workspace: WorkspaceId, kind: Kind, name: &str) -> u32 {
        self.named(workspace, kind, name).map(|e| e.version).max().unwrap_or(0)
    }

    /// Puts entries in order and their etags up to date.
    pub(super) fn settle(&mut self) {
        let key = |e: &DefinitionEntry| (e.workspace, e.kind, e.name.clone(), e.version);
        self.definitions.sort_by_key(key);
        for entry in &mut self.definitions {
            entry.etag = entry.fresh_etag();
        }
    }
}

// === impl DefinitionEntry ===

impl DefinitionEntry {
    pub(super) fn new(workspace: WorkspaceId, kind: Kind, name: &str, version: u32, hash: ContentHash, state: State) -> Self {
        let (workspace, name) = (workspace.number(), name.to_owned());
        let etag = String::new();
        Self { workspace, kind, name, version, hash, state, etag, templates: BTreeMap::new(), superseded_at: None }
    }

    pub(super) fn is(&self, workspace: WorkspaceId, kind: Kind, name: &str) -> bool {
        self.workspace == workspace.number() && self.kind == kind && self.name == name
    }

    fn fresh_etag(&self) -> String {
        let bare = Self { etag: String::new(), ..self.clone() };
        let bytes = serde_json::to_vec(&bare).unwrap_or_default();
        hex_of(&ContentHash::of(&bytes)).chars().take(16).collect()
    }
}

// === impl State ===

impl State {
    /// Whether folds see it.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Active | Self::Paused | Self::Pinned | Self::Killed)
    }

    /// Whether it is the version that entries use, or would use if it were not paused.
    pub const fn is_in_force(self) -> bool {
        matches!(self, Self::Active | Self::Paused)
    }

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "DRAFT",
            Self::Active => "ACTIVE",
            Self::Paused => "PAUSED",
            Self::Pinned => "PINNED",
            Self::Killed => "KILLED",
            Self::Archived => "ARCHIVED",
        }
    }
}
