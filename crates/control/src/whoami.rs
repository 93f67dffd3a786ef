//! `AccessService`: who the server takes a caller for.

use tonic::{Request, Response, Status};
use waypost_proto::control::{self as pb, access_service_server::AccessService};

use crate::{access::admit, server::Control};

#[tonic::async_trait]
impl AccessService for Control {
    async fn who_am_i(&self, request: Request<pb::WhoAmIRequest>) -> Result<Response<pb::WhoAmIResponse>, Status> {
        let (caller, pb::WhoAmIRequest {}) = admit(request)?;
        let grants = caller
            .grants()
            .iter()
            .map(|grant| pb::Grant { roles: grant.roles.iter().map(ToString::to_string).collect(), workspaces: grant.workspaces.names() });
        let (name, how) = (caller.name().to_owned(), caller.how().as_str().to_owned());
        Ok(Response::new(pb::WhoAmIResponse { name, how, grants: grants.collect(), release: env!("CARGO_PKG_VERSION").to_owned() }))
    }
}
