//! Who calls, and where that counts.

use std::collections::BTreeSet;

use tonic::Request;

use super::role::{Permission, Role};

/// Who calls: what the gate has found out, or what a process says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    name: String,
    how: How,
    from: String,
    grants: Vec<Grant>,
}

/// How a caller is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Nobody is: the name is what the caller says.
    Open,
    /// By a static token of the access file.
    Token,
    /// By a client certificate.
    Certificate,
    /// By a token of the issuer.
    Oidc,
    /// It is this process itself.
    Process,
}

/// Roles, and where they count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which.
    pub roles: BTreeSet<Role>,
    /// Where.
    pub workspaces: Workspaces,
}

/// Some workspaces or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workspaces {
    /// `*`: also what belongs to none.
    All,
    /// These alone.
    Named(BTreeSet<String>),
}

/// Which workspace a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    /// That of this resource name.
    Of(&'a str),
    /// None: the answer holds only what is of the caller's workspaces.
    Own,
}

/// A request that says which workspace it is about, before anything else of it is looked at.
pub(crate) trait Scoped {
    /// Which.
    fn scope(&self) -> Scope<'_>;
}

// === impl How ===

impl How {
    /// Its word in the audit topic.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Oidc => "oidc",
            Self::Process => "process",
        }
    }
}

// === impl Grant ===

impl Grant {
    /// Everything, everywhere.
    pub fn all() -> Self {
        Self { roles: BTreeSet::from([Role::Admin]), workspaces: Workspaces::All }
    }

    fn holds(&self, permission: Permission) -> bool {
        self.roles.iter().any(|role| role.holds(permission))
    }
}

// === impl Workspaces ===

impl Workspaces {
    fn covers(&self, workspace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(workspace),
        }
    }

    /// Their names; `*` for all.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::All => vec!["*".to_owned()],
            Self::Named(names) => names.iter().cloned().collect(),
        }
    }
}

// === impl Caller ===

impl Caller {
    pub(crate) fn new(name: impl Into<String>, how: How, grants: Vec<Grant>) -> Self {
        Self { name: name.into(), how, from: String::new(), grants }
    }

    /// This process itself, for what it does without being asked over the network.
    pub fn process(name: &str) -> Self {
        Self::new(name, How::Process, vec![Grant::all()])
    }

    /// A request of its own, past the gate.
    pub fn asks<T>(self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self);
        request
    }

    pub(crate) fn at(self, from: impl Into<String>) -> Self {
        Self { from: from.into(), ..self }
    }

    /// Its name, as its credential has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is known.
    pub fn how(&self) -> How {
        self.how
    }

    /// Its address; empty where there is none.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// What it was granted; of a caller that passed the gate, only what allows the method it called.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// With those grants alone that hold a permission; none where no grant does.
    pub(crate) fn narrowed(mut self, permission: Permission) -> Option<Self> {
        self.grants.retain(|grant| grant.holds(permission));
        (!self.grants.is_empty()).then_some(self)
    }

    /// Whether a workspace is one of its own.
    pub(crate) fn covers(&self, workspace: &str) -> bool {
        self.grants.iter().any(|grant| grant.workspaces.covers(workspace))
    }

    /// Whether it may do something more in a workspace. Past the gate that is only known of permissions whose holders all hold that
    /// of the method, too: the other grants are gone by then.
    pub(crate) fn may(&self, permission: Permission, workspace: &str) -> bool {
        self.grants.iter().any(|grant| grant.holds(permission) && grant.workspaces.covers(workspace))
    }

    /// Whether it may also see what belongs to no workspace.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.grants.iter().any(|grant| grant.workspaces == Workspaces::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(roles: &[Role], workspaces: &[&str]) -> Grant {
        let names = workspaces.iter().map(|name| (*name).to_owned()).collect();
        let workspaces = if workspaces == ["*"] { Workspaces::All } else { Workspaces::Named(names) };
        Grant { roles: roles.iter().copied().collect(), workspaces }
    }

    #[test]
    fn a_role_counts_only_where_it_was_granted() {
        let ana = Caller::new("ana", How::Token, vec![grant(&[Role::Viewer], &["shop"]), grant(&[Role::Publisher], &["test"])]);
        let reads = ana.clone().narrowed(Permission::ReadDefinitions).unwrap();
        assert!(reads.covers("shop") && reads.covers("test") && !reads.covers("other"));
        let publishes = ana.clone().narrowed(Permission::Publish).unwrap();
        assert!(publishes.covers("test") && !publishes.covers("shop"), "a publisher in one workspace publishes in no other");
        assert_eq!(ana.narrowed(Permission::Keys), None);
    }

    #[test]
    fn only_all_is_everywhere() {
        assert!(Caller::process("dev").is_everywhere());
        let some = Caller::new("ben", How::Oidc, vec![grant(&[Role::Admin], &["shop", "test"])]);
        assert!(!some.is_everywhere() && !some.covers("") && !some.covers("*"));
    }

    #[test]
    fn who_reads_people_follows_their_events_so_the_gate_loses_nothing_of_it() {
        for role in Role::ALL {
            assert!(role.holds(Permission::ReadEvents) || !role.holds(Permission::ReadPeople), "{role}");
        }
        let ana = Caller::new("ana", How::Token, vec![grant(&[Role::Operator], &["*"]), grant(&[Role::Privacy], &["shop"])]);
        let ana = ana.narrowed(Permission::ReadEvents).unwrap();
        assert!(ana.may(Permission::ReadPeople, "shop") && !ana.may(Permission::ReadPeople, "test") && ana.covers("test"));
    }

    #[test]
    fn who_puts_letters_back_sees_how_far_that_is() {
        for role in Role::ALL {
            assert!(role.holds(Permission::Operate) || !role.holds(Permission::DeadLetters), "{role}");
        }
    }

    #[test]
    fn an_admin_may_everything_and_nobody_else_does() {
        for role in Role::ALL {
            let all = Permission::ALL.iter().all(|permission| role.holds(*permission));
            assert_eq!(all, role == Role::Admin, "{role}");
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        for permission in Permission::ALL.into_iter().filter(|permission| *permission != Permission::Administer) {
            assert!(Role::ALL.iter().any(|role| *role != Role::Admin && role.holds(permission)), "{permission} is nobody's but an admin's");
        }
    }
}
