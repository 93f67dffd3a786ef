//! What the doors need besides the log: who a key belongs to, and where rejected events are set aside.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use waypost_codec::write_key::{self, KeyHash};
use waypost_engine::definitions::{Policy, Source, Workspace};

use waypost_runtime::{door::DoorError, ports::Offset};
use waypost_types::{IdentifierClass, Timestamp, WorkspaceId};

use crate::Reason;

/// The kind of a source whose key stands in pages and apps.
const BROWSER: &str = "browser";

/// What a source may do, and the settings of its workspace that normalisation reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Whose shop.
    pub workspace: WorkspaceId,
    /// Name of the `Source`; empty: none.
    pub source: String,
    /// `browser server kafka`.
    pub kind: String,
    /// Whether it may grant consent.
    pub may_grant: bool,
    /// Identifier classes it may assert, as `email` or `custom:crm`; empty: all, of a browser `device` and `anonymous`.
    pub may_assert: Vec<String>,
    /// Base currency, time zone, names of custom identifiers.
    pub policy: Arc<Policy>,
}

/// Whose key, whose name.
pub trait Keys: Send + Sync + 'static {
    /// The rights of a write key that is good at this time. Keys are compared by hash, in constant time.
    fn by_key(&self, key: &str, now: Timestamp) -> Option<Arc<Rights>>;
    /// The rights of a source by name, for the Kafka door; an empty name is "no source".
    fn by_source(&self, workspace: WorkspaceId, source: &str) -> Option<Arc<Rights>>;
    /// Events a second that all keys of a workspace may send together; none: as many as their rates allow.
    fn quota(&self, _workspace: WorkspaceId) -> Option<u32> {
        None
    }
}

/// A write key by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Of the key.
    pub hash: KeyHash,
    /// Whose.
    pub workspace: WorkspaceId,
    /// Name of its source.
    pub source: String,
    /// From when on it is as good as unknown; none: it stays.
    pub until: Option<Timestamp>,
}

/// The keys and sources in force; replaced whole when definitions or keys change.
#[derive(Debug, Default)]
pub struct KeyRing {
    in_force: RwLock<Arc<InForce>>,
    quotas: RwLock<BTreeMap<WorkspaceId, u32>>,
}

#[derive(Debug, Default)]
struct InForce {
    keys: Vec<(Key, Arc<Rights>)>,
    sources: BTreeMap<(WorkspaceId, String), Arc<Rights>>,
}

/// Something that was not let in, or could not be folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why.
    pub reason: Reason,
    /// `http` or `kafka`.
    pub door: &'static str,
    /// When.
    pub at: Timestamp,
    /// Whose, where it is known.
    pub workspace: WorkspaceId,
    /// Name of the source, where it is known.
    pub source: String,
    /// Dotted path of the offending field.
    pub path: String,
    /// What was expected there.
    pub expected: String,
    /// Partition and offset that it has in the door's topic, for the Kafka door. Its key and its headers are looked up
    /// there: they are the sender's words and stay out of a letter's headers.
    pub position: Option<(u32, Offset)>,
    /// As it came in.
    pub original: Bytes,
}

/// Where they are set aside.
#[async_trait]
pub trait DeadLetters: Send + Sync + 'static {
    /// Answers when the letter is stored.
    async fn set_aside(&self, letter: DeadLetter) -> Result<(), DoorError>;
}

// === impl Rights ===

impl Rights {
    /// Those of a source in a workspace. A browser never grants, whatever its definition says.
    pub fn of(workspace: &Workspace, source: &Source) -> Self {
        Self {
            workspace: workspace.id,
            source: source.name.clone(),
            kind: source.kind.clone(),
            may_grant: source.may_grant && source.kind != BROWSER,
            may_assert: source.may_assert.clone(),
            policy: Arc::new(workspace.policy.clone()),
        }
    }

    /// Whether its key stands where anybody can read it.
    pub(crate) fn is_browser(&self) -> bool {
        self.kind == BROWSER
    }

    /// Whether it may say that somebody has an identifier of this class; `custom` is the name of a custom one.
    ///
    /// A browser says what its visitor likes: a customer number or an address there leads to somebody else's profile, so
    /// it must be listed.
    pub(crate) fn asserts(&self, class: IdentifierClass, custom: &str) -> bool {
        if self.may_assert.is_empty() {
            return !self.is_browser() || matches!(class, IdentifierClass::Device | IdentifierClass::Anonymous);
        }
        self.may_assert.iter().any(|listed| match listed.strip_prefix("custom:") {
            Some(name) => class == IdentifierClass::Custom && name == custom,
            None => listed == class.as_str(),
        })
    }

    /// Those of an event on Kafka that names no source: anything but granting consent.
    pub fn unnamed(workspace: &Workspace) -> Self {
        Self {
            workspace: workspace.id,
            source: String::new(),
            kind: "kafka".to_owned(),
            may_grant: false,
            may_assert: Vec::new(),
            policy: Arc::new(workspace.policy.clone()),
        }
    }
}

// === impl Key ===

impl Key {
    /// Whether it is taken at this time.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

// === impl KeyRing ===

impl KeyRing {
    /// One without any key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts other workspaces and keys in force. A key whose source is absent has no rights.
    pub fn replace<'a>(&self, workspaces: impl IntoIterator<Item = &'a Workspace>, keys: Vec<Key>) {
        let mut next = InForce::default();
        for workspace in workspaces {
            next.sources.insert((workspace.id, String::new()), Arc::new(Rights::unnamed(workspace)));
            for source in workspace.sources.values() {
                next.sources.insert((workspace.id, source.name.clone()), Arc::new(Rights::of(workspace, source)));
            }
        }
        for key in keys {
            if let Some(rights) = next.sources.get(&(key.workspace, key.source.clone())) {
                let rights = Arc::clone(rights);
                next.keys.push((key, rights));
            }
        }
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    /// Puts other quotas in force: events a second of whole workspaces.
    pub fn bound(&self, quotas: BTreeMap<WorkspaceId, u32>) {
        *self.quotas.write().unwrap_or_else(PoisonError::into_inner) = quotas;
    }

    fn now(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Keys for KeyRing {
    fn by_key(&self, key: &str, now: Timestamp) -> Option<Arc<Rights>> {
        let hash = write_key::hash(key);
        // All are compared, also those whose end has come, so that the time does not tell which one it was.
        self.now().keys.iter().fold(None, |found, (known, rights)| {
            if write_key::same(&known.hash, &hash) && known.is_good(now) { Some(Arc::clone(rights)) } else { found }
        })
    }

    fn by_source(&self, workspace: WorkspaceId, source: &str) -> Option<Arc<Rights>> {
        self.now().sources.get(&(workspace, source.to_owned())).cloned()
    }

    fn quota(&self, workspace: WorkspaceId) -> Option<u32> {
        self.quotas.read().unwrap_or_else(PoisonError::into_inner).get(&workspace).copied()
    }
}
