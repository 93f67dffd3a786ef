//! What the services share, and the server that carries them.

use std::sync::Arc;

use tonic::transport::server::Router;
use waypost_engine::{apply::SetManifest, definitions::DefinitionSet, library::Library};
use waypost_proto::control::{
    dead_letter_service_server::DeadLetterServiceServer, definition_service_server::DefinitionServiceServer,
    journey_service_server::JourneyServiceServer, profile_service_server::ProfileServiceServer, source_service_server::SourceServiceServer,
};
use waypost_runtime::{
    door::Door,
    ports::{Clock, Owners},
};
use waypost_types::{IdentifierClass, Layout, WorkspaceId};

use crate::{
    audit::{Audit, Line},
    catalog::Catalog,
    changes::Changes,
    letters::Letters,
    status::Refusal,
};

/// Largest request: manifests with their bodies; a whole shop's folder is well below it.
const REQUEST_MAX: usize = 16 << 20;

/// The one normalised form of an identifier's value, as the doors make it; none if it is no identifier of that class.
pub type Normalise = fn(IdentifierClass, &str) -> Option<String>;

/// The control plane of one installation.
#[derive(Clone)]
pub struct Control {
    pub(crate) changes: Changes,
    pub(crate) catalog: Catalog,
    pub(crate) owners: Arc<dyn Owners>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) layout: Layout,
    pub(crate) install_key: [u8; 32],
    pub(crate) normalise: Normalise,
    pub(crate) secret: Arc<dyn Fn() -> [u8; 24] + Send + Sync>,
    pub(crate) audit: Audit,
    pub(crate) letters: Letters,
    pub(crate) door: Arc<dyn Door>,
}

// === impl Control ===

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Control {
    /// `secret` draws the random part of a write key.
    #[expect(clippy::too_many_arguments, reason = "one argument a collaborator, called once by the wiring")]
    pub fn new(
        changes: Changes,
        catalog: Catalog,
        owners: Arc<dyn Owners>,
        clock: Arc<dyn Clock>,
        layout: Layout,
        install_key: [u8; 32],
        normalise: Normalise,
        secret: Arc<dyn Fn() -> [u8; 24] + Send + Sync>,
        door: Arc<dyn Door>,
    ) -> Self {
        let audit = Audit::new(changes.log(), Arc::clone(&clock), changes.prefix());
        let letters = Letters::new(changes.log(), changes.prefix());
        Self { changes, catalog, owners, clock, layout, install_key, normalise, secret, audit, letters, door }
    }

    /// A server with all services, health and reflection; give it a listener.
    ///
    /// # Errors
    /// When the embedded descriptors cannot be read.
    pub async fn router(&self) -> Result<Router, tonic_reflection::server::Error> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<DefinitionServiceServer<Self>>().await;
        health.set_serving::<JourneyServiceServer<Self>>().await;
        health.set_serving::<ProfileServiceServer<Self>>().await;
        health.set_serving::<SourceServiceServer<Self>>().await;
        health.set_serving::<DeadLetterServiceServer<Self>>().await;
        let reflection =
            tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(waypost_proto::DESCRIPTORS).build_v1()?;
        Ok(tonic::transport::Server::builder()
            .add_service(health_service)
            .add_service(reflection)
            .add_service(DefinitionServiceServer::new(self.clone()).max_decoding_message_size(REQUEST_MAX))
            .add_service(JourneyServiceServer::new(self.clone()))
            .add_service(ProfileServiceServer::new(self.clone()))
            .add_service(SourceServiceServer::new(self.clone()))
            .add_service(DeadLetterServiceServer::new(self.clone())))
    }

    /// Notes who changes what, before it is done.
    pub(crate) async fn note(&self, line: Line) -> Result<(), Refusal> {
        self.audit.write(line).await?;
        Ok(())
    }

    /// Writes and journal, for the wiring.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    pub(crate) fn workspace(&self, name: &str) -> Result<WorkspaceId, Refusal> {
        workspace_in(&self.changes.current()?, name)
    }

    /// The compiled set in force; none before the first.
    pub(crate) fn in_force(&self) -> Option<Arc<DefinitionSet>> {
        let current = self.changes.current().ok()?;
        if current.number == 0 { None } else { self.catalog.library().set(&Library::defv(&current)) }
    }
}

/// The number of a workspace by its name.
pub(crate) fn workspace_in(set: &SetManifest, name: &str) -> Result<WorkspaceId, Refusal> {
    let entry = set.workspaces.iter().find(|w| w.name == name);
    entry.map(|w| WorkspaceId::new(w.id)).ok_or_else(|| {
        let known: Vec<_> = set.workspaces.iter().map(|w| w.name.as_str()).collect();
        Refusal::NotFound(format!("there is no workspace `{name}`; there is {}", known.join(", ")))
    })
}
