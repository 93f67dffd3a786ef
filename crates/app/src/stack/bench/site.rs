//! The installation that is measured: everything is reached as ingest and control reach it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::time::Instant;
use waypost_control::{Audit, Catalog, Following};
use waypost_engine::{
    definitions::{DefinitionSet, Workspace},
    library::Library,
};
use waypost_runtime::{
    door::LogDoor,
    host::SystemClock,
    install::{self, InstallRecord},
    ports::{Clock as _, Log, Owners as _},
    progress::Directory,
};
use waypost_types::{ContentHash, EntityId, PartitionId, Role, WorkspaceId};

use super::super::{access::OwnerToken, log, owners::Asking};
use crate::config::Config;

/// Who folds what a bench sends; nothing of it reaches the sender.
const FOLDING: [Role; 3] = [Role::Identity, Role::Segmenter, Role::Orchestrator];
/// How long the owners of all partitions may take to be heard.
const HEARD: Duration = Duration::from_secs(15);

pub(super) struct Site {
    pub(super) log: Arc<dyn Log>,
    pub(super) prefix: String,
    pub(super) record: InstallRecord,
    pub(super) door: LogDoor,
    pub(super) directory: Arc<Directory>,
    pub(super) owners: Asking,
    pub(super) audit: Audit,
    catalog: Catalog,
    _following: Following,
}

// === impl Site ===

impl Site {
    pub(super) async fn open(config: &Config) -> anyhow::Result<Self> {
        let prefix = config.install.prefix.clone();
        let log = log(config)?;
        let record = install::load_install(&*log, &prefix).await?;
        let (catalog, following) = Catalog::follow(&log, &prefix).await.context("reading definitions")?;
        let directory = Directory::follow(Arc::clone(&log), &prefix);
        Ok(Self {
            door: LogDoor::new(Arc::clone(&log), prefix.clone(), record.layout()),
            owners: Asking::new(Arc::clone(&directory), OwnerToken::of(&record), &config.owner)?,
            audit: Audit::new(Arc::clone(&log), Arc::new(SystemClock), &prefix),
            directory,
            record,
            catalog,
            prefix,
            log,
            _following: following,
        })
    }

    /// Waits until the owner of every partition is heard, and asks each for something.
    pub(super) async fn is_served(&self) -> anyhow::Result<()> {
        let until = Instant::now() + HEARD;
        for role in FOLDING {
            for index in 0..self.record.partitions {
                let partition = PartitionId { role, index };
                while self.directory.owner(partition, SystemClock.now()).is_none() {
                    if Instant::now() > until {
                        bail!("nobody has {partition}: start `waypost serve` with the roles identity, segmenter and orchestrator");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                let nobody = EntityId::new(WorkspaceId::new(0), b'i', &[0; 16]);
                let asked = self.owners.read(partition, nobody).await;
                asked.context("run it where the private addresses of the processes (owner.advertise) can be reached: they are asked whether everybody is erased")?;
            }
        }
        Ok(())
    }

    /// Number and definitions of what is in force.
    pub(super) fn in_force(&self) -> anyhow::Result<Arc<DefinitionSet>> {
        let Some((number, hash)) = self.catalog.journal().borrow().set.clone() else {
            bail!("no definitions are in force: `waypostctl apply -f DIR`, then `waypostctl publish JOURNEY`");
        };
        let hash = hex::decode(hash).ok().and_then(|bytes| ContentHash::from_slice(&bytes).ok());
        let set = hash.and_then(|hash| self.catalog.library().set(&Library::defv_of(number, &hash)));
        set.with_context(|| format!("definition set {number} has not arrived here yet; try again"))
    }

    /// A workspace of those definitions.
    pub(super) fn workspace(&self, name: &str) -> anyhow::Result<Arc<Workspace>> {
        let set = self.in_force()?;
        let found = set.workspaces.values().find(|workspace| workspace.name == name).cloned();
        found.with_context(|| {
            let known: BTreeSet<&str> = set.workspaces.values().map(|workspace| workspace.name.as_str()).collect();
            format!("--workspace {name}: there is only {}", known.into_iter().collect::<Vec<_>>().join(", "))
        })
    }
}
