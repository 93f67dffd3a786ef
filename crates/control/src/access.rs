//! Who may do what on the control API: deny by default.
//!
//! What decides is pure (`caller`, `claims`, `file`, `role`, `table`); `gate` stands before all services, finds out who calls and
//! leaves a [`Caller`] in the request; [`admit`] gives a service its message and checks the workspace before it reads on.

mod authority;
mod caller;
#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod claims;
mod file;
mod gate;
mod kept;
#[cfg(feature = "tls")]
mod keys;
mod role;
mod scope;
mod table;
mod token;

use tonic::Request;

use self::caller::{Scope, Scoped};
#[cfg(feature = "tls")]
pub use self::{
    authority::Issuer,
    keys::{Keys, KeysError},
};
pub use self::{
    authority::{Authority, AuthoritySettings},
    caller::{Caller, Grant, How, Workspaces},
    gate::{Gate, Guarded, Observe},
    role::{Permission, Role},
    table::table,
    token::{Hash as TokenHash, hash as token_hash, token},
};
use crate::{names, status::Refusal};

/// The caller and the message of a request that has passed the gate, if the caller may speak of that workspace. A name that
/// names no workspace at all is refused to whoever is not everywhere: nothing of it is looked at before.
pub(crate) fn admit<T: Scoped>(mut request: Request<T>) -> Result<(Caller, T), Refusal> {
    let Some(caller) = request.extensions_mut().remove::<Caller>() else {
        tracing::error!("a request came to a service past the gate");
        return Err(Refusal::Unauthenticated("nobody has said who calls".to_owned()));
    };
    let message = request.into_inner();
    match message.scope() {
        Scope::Of(name) if !caller.covers(names::workspace_of(name)) => Err(Refusal::foreign()),
        Scope::Of(_) | Scope::Own => Ok((caller, message)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use waypost_proto::control as pb;

    use super::*;

    #[test]
    fn a_request_past_the_gate_is_refused() {
        let refused = admit(Request::new(pb::WhoAmIRequest {})).unwrap_err();
        assert!(matches!(refused, Refusal::Unauthenticated(_)));
    }

    #[test]
    fn a_name_outside_of_the_caller_s_workspaces_is_refused_whatever_it_looks_like() {
        let shop = Workspaces::Named(BTreeSet::from(["shop".to_owned()]));
        let caller = Caller::new("ana", How::Token, vec![Grant { roles: BTreeSet::from([Role::Admin]), workspaces: shop }]);
        let get = |name: &str| admit(caller.clone().asks(pb::GetDefinitionRequest { name: name.to_owned(), read_mask: None }));
        assert!(get("workspaces/shop/definitions/Journey/j").is_ok());
        for foreign in ["", "shop", "workspaces/", "workspaces/shopp", "workspaces//shop", "workspaces/other/shop", "/workspaces/shop"] {
            assert!(matches!(get(foreign), Err(Refusal::Denied(_))), "{foreign}");
        }
        assert!(
            admit(Caller::process("dev").asks(pb::GetDefinitionRequest { name: "wrong".to_owned(), read_mask: None })).is_ok(),
            "told what is wrong later"
        );
    }
}
