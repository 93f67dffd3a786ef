//! The bodies a process has seen, and the sets compiled of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use waypost_types::{ContentHash, WorkspaceId};

use crate::{
    apply::{self, Bodies, DefinitionEntry, SetManifest},
    definitions::DefinitionSet,
    manifest::{Kind, Manifest, Problem, link},
};

/// Compiled sets that are kept: the one in force, and those that partitions still stand at.
const SETS_MAX: usize = 16;

/// Bodies by content, and compiled sets by name; shared by every partition of a process.
#[derive(Debug, Default)]
pub struct Library {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    bodies: BTreeMap<ContentHash, Bytes>,
    /// By number, then `defv`.
    sets: BTreeMap<(u64, String), Arc<DefinitionSet>>,
}

/// What can be said of a set.
#[derive(Clone, Debug)]
pub enum Shelf {
    /// Here it is.
    Ready(Arc<DefinitionSet>),
    /// These bodies have not been seen yet.
    Missing(Vec<ContentHash>),
    /// It cannot be compiled; it was refused, or is of a newer release.
    Broken(Vec<Problem>),
}

// === impl Library ===

impl Library {
    /// Keeps a body, of a definition or of a set, and says its hash.
    pub fn insert(&self, body: Bytes) -> ContentHash {
        let hash = ContentHash::of(&body);
        self.lock().bodies.insert(hash, body);
        hash
    }

    /// The body with this hash.
    pub fn body(&self, hash: &ContentHash) -> Option<Bytes> {
        self.lock().bodies.get(hash).cloned()
    }

    /// The name by which records and stored partitions call a set: `<number>:<hash of its bytes>`.
    pub fn defv(set: &SetManifest) -> String {
        Self::defv_of(set.number, &ContentHash::of(&set.to_bytes()))
    }

    /// The same, from what an activation carries.
    pub fn defv_of(number: u64, hash: &ContentHash) -> String {
        format!("{number}:{}", hex::encode(hash.as_bytes()))
    }

    /// The number and hash in a `defv`.
    pub fn parse_defv(defv: &str) -> Option<(u64, ContentHash)> {
        let (number, hash) = defv.split_once(':')?;
        Some((number.parse().ok()?, apply::hash_of(hash)?))
    }

    /// The manifest of a set.
    pub fn manifest(&self, defv: &str) -> Option<SetManifest> {
        let (_, hash) = Self::parse_defv(defv)?;
        SetManifest::from_bytes(&self.body(&hash)?)
    }

    /// The compiled set; none while a body is missing. The empty name is the set before all sets.
    pub fn set(&self, defv: &str) -> Option<Arc<DefinitionSet>> {
        match self.look_up(defv) {
            Shelf::Ready(set) => Some(set),
            Shelf::Missing(_) | Shelf::Broken(_) => None,
        }
    }

    /// The compiled set, or why there is none.
    pub fn look_up(&self, defv: &str) -> Shelf {
        if defv.is_empty() {
            let hash = ContentHash::new([0; 16]);
            return Shelf::Ready(Arc::new(DefinitionSet::new(0, hash, BTreeMap::new())));
        }
        let Some((number, hash)) = Self::parse_defv(defv) else { return Shelf::Broken(vec![broken(defv, "is not the name of a set")]) };
        let key = (number, defv.to_owned());
        if let Some(set) = self.lock().sets.get(&key) {
            return Shelf::Ready(set.clone());
        }
        let Some(stored) = self.body(&hash) else { return Shelf::Missing(vec![hash]) };
        let Some(manifest) = SetManifest::from_bytes(&stored) else { return Shelf::Broken(vec![broken(defv, "is not a set")]) };
        // Compiled outside the lock: other partitions go on meanwhile, and two that compile get the same.
        let found = compile(&manifest, hash, self);
        if let Shelf::Ready(set) = &found {
            let mut inner = self.lock();
            inner.sets.insert(key, set.clone());
            while inner.sets.len() > SETS_MAX {
                inner.sets.pop_first();
            }
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing is half done under this lock, so a panic elsewhere leaves it whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bodies for Library {
    fn body(&self, hash: &ContentHash) -> Option<Bytes> {
        Self::body(self, hash)
    }
}

fn broken(defv: &str, what: &str) -> Problem {
    Problem { file: defv.to_owned(), message: format!("`{defv}` {what}"), ..Problem::nowhere() }
}

/// Compiles what is in force or pinned in a set.
pub fn compile(set: &SetManifest, hash: ContentHash, bodies: &dyn Bodies) -> Shelf {
    let live: Vec<&DefinitionEntry> = set.definitions.iter().filter(|e| e.state.is_live()).collect();
    let missing: Vec<ContentHash> = live.iter().map(|e| e.hash).filter(|h| bodies.body(h).is_none()).collect();
    if !missing.is_empty() {
        return Shelf::Missing(missing);
    }
    let mut workspaces = BTreeMap::new();
    let mut problems = Vec::new();
    for entry in &set.workspaces {
        let id = WorkspaceId::new(entry.id);
        let mut parts = Vec::new();
        for entry in live.iter().filter(|e| e.workspace == id.number()) {
            let body = bodies.body(&entry.hash).unwrap_or_default();
            match Manifest::from_body(&body, &apply::label(entry)) {
                Ok(manifest) => parts.push(apply::part(set, entry, manifest, false, apply::pinned(entry))),
                Err(wrong) => problems.extend(wrong),
            }
        }
        let journeys: BTreeSet<String> = set.of_kind(id, Kind::Journey).map(|e| e.name.clone()).collect();
        let assembled = link::assemble(id, &entry.name, &parts, &journeys);
        problems.extend(assembled.problems.into_iter().map(|(_, p)| p));
        workspaces.insert(id, Arc::new(assembled.workspace));
    }
    if problems.is_empty() { Shelf::Ready(Arc::new(DefinitionSet::new(set.number, hash, workspaces))) } else { Shelf::Broken(problems) }
}

#[cfg(test)]
mod tests;
