//! The doors' key ring, kept equal to the control journal, its quotas, and the definitions in force.

use std::sync::Arc;

use waypost_codec::write_key::KeyHash;
use waypost_control::{Catalog, Journal};
use waypost_engine::{definitions::DefinitionSet, library::Library};
use waypost_ingest::{Key, KeyRing};
use waypost_types::ContentHash;

/// The set that a journal names, if all its bodies are here.
pub(crate) fn in_force(journal: &Journal, catalog: &Catalog) -> Option<Arc<DefinitionSet>> {
    let (number, hash) = journal.set.as_ref()?;
    let hash = ContentHash::from_slice(&hex::decode(hash).ok()?).ok()?;
    catalog.library().set(&Library::defv_of(*number, &hash))
}

/// Puts into the ring what the catalog says now, and says whether it could.
///
/// A set whose bodies are still on their way changes nothing: good keys must not be refused meanwhile.
pub(crate) fn refresh(ring: &KeyRing, catalog: &Catalog) -> bool {
    let journal = catalog.journal().borrow().clone();
    let bounds = journal.quotas.iter().filter_map(|(workspace, quota)| Some((*workspace, quota.events_per_second?)));
    ring.bound(bounds.collect());
    let Some(set) = in_force(&journal, catalog) else { return false };
    let keys = journal.keys.iter().filter_map(|(hash, key)| {
        let hash: KeyHash = hex::decode(hash).ok()?.try_into().ok()?;
        Some(Key { hash, workspace: key.workspace, source: key.source.clone(), until: key.until })
    });
    ring.replace(set.workspaces.values().map(|w| &**w), keys.collect());
    true
}

/// Keeps the ring current until the catalog ends; says when it was first filled.
#[cfg(feature = "stack")]
pub(crate) async fn follow(ring: Arc<KeyRing>, catalog: Catalog, filled: tokio::sync::watch::Sender<bool>) {
    let mut arrivals = catalog.arrivals();
    loop {
        arrivals.borrow_and_update();
        if refresh(&ring, &catalog) {
            filled.send_replace(true);
        }
        if arrivals.changed().await.is_err() {
            return;
        }
    }
}
