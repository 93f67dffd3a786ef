//! What the services share, and the server that carries them.

use std::{sync::Arc, time::Duration};

use tonic::{server::NamedService as _, transport::server::Router};
use tonic_health::ServingStatus;
use tower::layer::util::{Identity, Stack};
use waypost_codec::schemas::{MemorySchemas, Schemas};
use waypost_engine::{apply::SetManifest, definitions::DefinitionSet, library::Library};
use waypost_proto::control::{
    access_service_server::AccessServiceServer, audit_service_server::AuditServiceServer,
    dead_letter_service_server::DeadLetterServiceServer, decision_service_server::DecisionServiceServer,
    definition_service_server::DefinitionServiceServer, event_service_server::EventServiceServer,
    journey_service_server::JourneyServiceServer, message_service_server::MessageServiceServer,
    operation_service_server::OperationServiceServer, partition_service_server::PartitionServiceServer,
    profile_service_server::ProfileServiceServer, revision_service_server::RevisionServiceServer, run_service_server::RunServiceServer,
    source_service_server::SourceServiceServer, workspace_service_server::WorkspaceServiceServer,
};
use waypost_runtime::{
    door::Door,
    ports::{Clock, Owners},
    upkeep::Upkeep,
};
use waypost_types::{IdentifierClass, Layout, WorkspaceId};

use crate::{
    access::Gate, audit::Audit, catalog::Catalog, changes::Changes, letters::Letters, operations::Operations, reports::Reports,
    skips::Heads, status::Refusal, tail::Tails,
};

/// Largest request: manifests with their bodies; a whole shop's folder is well below it.
const REQUEST_MAX: usize = 16 << 20;

/// Calls of one connection at once.
const STREAMS: u32 = 64;
/// A client that says nothing is asked whether it is there,
const PING: Duration = Duration::from_secs(30);
/// and is gone if it does not answer within this time.
const PONG: Duration = Duration::from_secs(20);
/// Bytes of a request's headers: a token of 16 KiB fits.
const HEADERS_MAX: u32 = 32 << 10;

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
    pub(crate) tails: Tails,
    pub(crate) operations: Operations,
    /// Heads of the partitions' states; none where nobody is to be skipped.
    pub(crate) heads: Option<Heads>,
    /// Where the schemas are of those who write to the public topics.
    pub(crate) schemas: Arc<dyn Schemas>,
    /// What journeys have done; none where this process does not count it.
    pub(crate) reports: Option<Reports>,
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
        let operations = Operations::new(changes.log(), Arc::clone(&clock), changes.prefix(), &secret()[..8]);
        let (tails, schemas) = (Tails::default(), Arc::new(MemorySchemas::with_committed()));
        Self {
            changes,
            catalog,
            owners,
            clock,
            layout,
            install_key,
            normalise,
            secret,
            audit,
            letters,
            door,
            tails,
            operations,
            heads: None,
            schemas,
            reports: None,
        }
    }

    /// With this registry; without one only events of the committed schemas can be read, under the ids they have without one.
    #[must_use]
    pub fn with_schemas(self, schemas: Arc<dyn Schemas>) -> Self {
        Self { schemas, ..self }
    }

    /// With what this process counts; somebody has to run it.
    #[must_use]
    pub fn with_reports(self, reports: Reports) -> Self {
        Self { reports: Some(reports), ..self }
    }

    /// With the store in which partitions stand: without it no record is skipped and none tried again.
    #[must_use]
    pub fn with_store(self, store: Arc<dyn Upkeep>, public_partitions: u32) -> Self {
        Self { heads: Some(Heads { store, public_partitions }), ..self }
    }

    /// What health speaks of: the server itself, whose name is empty, and each service.
    const SERVICES: [&'static str; 16] = [
        "",
        DefinitionServiceServer::<Self>::NAME,
        JourneyServiceServer::<Self>::NAME,
        ProfileServiceServer::<Self>::NAME,
        SourceServiceServer::<Self>::NAME,
        DeadLetterServiceServer::<Self>::NAME,
        AuditServiceServer::<Self>::NAME,
        PartitionServiceServer::<Self>::NAME,
        AccessServiceServer::<Self>::NAME,
        RevisionServiceServer::<Self>::NAME,
        RunServiceServer::<Self>::NAME,
        DecisionServiceServer::<Self>::NAME,
        MessageServiceServer::<Self>::NAME,
        EventServiceServer::<Self>::NAME,
        WorkspaceServiceServer::<Self>::NAME,
        OperationServiceServer::<Self>::NAME,
    ];

    /// A server with all services behind the gate, with health and, if the gate says so, reflection; give it a listener.
    ///
    /// # Errors
    /// When the embedded descriptors cannot be read.
    pub async fn router(&self, gate: Gate) -> Result<Router<Stack<Gate, Identity>>, tonic_reflection::server::Error> {
        let (health, health_service) = tonic_health::server::health_reporter();
        for service in Self::SERVICES {
            health.set_service_status(service, ServingStatus::Serving).await;
        }
        let leaving = self.tails.closing();
        tokio::spawn(async move {
            leaving.await;
            // Whoever watches goes elsewhere before the connection ends.
            for service in Self::SERVICES {
                health.set_service_status(service, ServingStatus::NotServing).await;
            }
        });
        let describe =
            || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(waypost_proto::DESCRIPTORS).build_v1();
        let reflection = gate.reflects().then(describe).transpose()?;
        Ok(bounded(tonic::transport::Server::builder())
            .layer(gate)
            .add_service(health_service)
            .add_optional_service(reflection)
            .add_service(DefinitionServiceServer::new(self.clone()).max_decoding_message_size(REQUEST_MAX))
            .add_service(JourneyServiceServer::new(self.clone()))
            .add_service(ProfileServiceServer::new(self.clone()))
            .add_service(SourceServiceServer::new(self.clone()))
            .add_service(DeadLetterServiceServer::new(self.clone()))
            .add_service(AuditServiceServer::new(self.clone()))
            .add_service(PartitionServiceServer::new(self.clone()))
            .add_service(AccessServiceServer::new(self.clone()))
            .add_service(RevisionServiceServer::new(self.clone()))
            .add_service(RunServiceServer::new(self.clone()))
            .add_service(DecisionServiceServer::new(self.clone()))
            .add_service(MessageServiceServer::new(self.clone()))
            .add_service(EventServiceServer::new(self.clone()))
            .add_service(WorkspaceServiceServer::new(self.clone()))
            .add_service(OperationServiceServer::new(self.clone())))
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

/// A server that bounds what one connection may hold, and notices clients that are gone.
pub fn bounded(server: tonic::transport::Server) -> tonic::transport::Server {
    server
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PONG))
        .http2_max_header_list_size(HEADERS_MAX)
}

/// The number of a workspace by its name.
pub(crate) fn workspace_in(set: &SetManifest, name: &str) -> Result<WorkspaceId, Refusal> {
    let entry = set.workspaces.iter().find(|w| w.name == name);
    // Which there are is not everybody's to know.
    entry.map(|w| WorkspaceId::new(w.id)).ok_or_else(|| Refusal::NotFound(format!("there is no workspace `{name}`")))
}
