//! `SourceService`: write keys, shown once, stored as hashes.

use tonic::{Request, Response, Status};
use waypost_codec::write_key;
use waypost_engine::manifest::Kind;
use waypost_proto::control::{self as pb, source_service_server::SourceService};

use crate::{
    audit::{self, Act, Line},
    journal::Entry,
    names,
    server::{Control, workspace_in},
    status::Refusal,
};

#[tonic::async_trait]
impl SourceService for Control {
    async fn rotate_key(&self, request: Request<pb::RotateKeyRequest>) -> Result<Response<pb::RotateKeyResponse>, Status> {
        let (by, name) = (audit::asks(&request), request.into_inner().name);
        let (workspace, source) = names::child(&name, "sources")?;
        let set = self.changes.current().map_err(Refusal::from)?;
        let id = workspace_in(&set, workspace)?;
        if !set.definitions.iter().any(|e| e.workspace == id.number() && e.kind == Kind::Source && e.name == source) {
            return Err(Refusal::NotFound(format!("there is no source `{source}` in workspace `{workspace}`: apply one first")).into());
        }
        self.note(Line::new(&by, Act::RotateKey, &name)).await?;
        let write_key = format!("wk_{}", hex::encode((self.secret)()));
        let hash = hex::encode(write_key::hash(&write_key));
        let entry = Entry::Key { workspace: id.number(), source: source.to_owned(), hash };
        self.changes.enter(entry).await.map_err(Refusal::from)?;
        Ok(Response::new(pb::RotateKeyResponse { write_key }))
    }
}
