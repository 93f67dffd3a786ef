//! `SourceService`: write keys, shown once, stored as hashes.

use tonic::{Request, Response, Status};
use waypost_codec::write_key;
use waypost_engine::manifest::Kind;
use waypost_proto::control::{self as pb, source_service_server::SourceService};

use crate::{
    access::admit,
    audit::{Act, Line},
    journal::Entry,
    names,
    server::{Control, workspace_in},
    status::Refusal,
};

#[tonic::async_trait]
impl SourceService for Control {
    async fn rotate_key(&self, request: Request<pb::RotateKeyRequest>) -> Result<Response<pb::RotateKeyResponse>, Status> {
        let (caller, pb::RotateKeyRequest { name }) = admit(request)?;
        let (workspace, source) = names::child(&name, "sources")?;
        let set = self.changes.current().map_err(Refusal::from)?;
        let id = workspace_in(&set, workspace)?;
        if !set.definitions.iter().any(|e| e.workspace == id.number() && e.kind == Kind::Source && e.name == source) {
            return Err(Refusal::NotFound(format!("there is no source `{source}` in workspace `{workspace}`: apply one first")).into());
        }
        let write_key = format!("wk_{}", hex::encode((self.secret)()));
        let hash = hex::encode(write_key::hash(&write_key));
        let journal = self.catalog.journal().borrow().clone();
        let before = journal.keys.iter().find(|(_, owner)| **owner == (id, source.to_owned())).map(|(hash, _)| hash.clone());
        let line = Line::of(&caller, Act::RotateKey, &name).changes(before.unwrap_or_default(), &hash);
        let entry = Entry::Key { workspace: id.number(), source: source.to_owned(), hash };
        self.audit.acted(line, async { Ok(self.changes.enter(entry).await?) }).await?;
        Ok(Response::new(pb::RotateKeyResponse { write_key }))
    }
}
