//! What an operator asks to be done with a person: a record at the identifier, behind everything accepted before,
//! and a line in the audit topic (PROTOCOL §10.7, §14.2).

use std::future::ready;

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{frame::Record, inbox, kind, state};
use waypost_proto::control as pb;
use waypost_types::{IdentifierClass, IdentifierHash, ProfileId, Role, Timestamp, WorkspaceId};

use crate::{
    access::Caller,
    audit::{Act, Line},
    lookup, names,
    profiles::class_of,
    server::Control,
    status::Refusal,
};

/// An identifier as the log knows it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its class.
    pub class: IdentifierClass,
    /// Its keyed hash.
    pub hash: IdentifierHash,
}

/// Whom a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whom<'a> {
    /// Name of the workspace.
    pub(crate) name: &'a str,
    /// Its number.
    pub(crate) workspace: WorkspaceId,
    /// Her identifier.
    pub(crate) place: Place,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Erase,
    Detach,
    Expire,
}

// === impl Place ===

impl Place {
    /// A node without a generation: whoever the identifier is when a record with it is folded.
    pub(crate) fn node(self) -> inbox::NodeRef {
        inbox::NodeRef { class: self.class.number(), hash: self.key(), ..inbox::NodeRef::default() }
    }

    /// Under which its records go.
    pub(crate) fn key(self) -> Bytes {
        Bytes::copy_from_slice(self.hash.as_bytes())
    }
}

// === impl Wish ===

impl Wish {
    fn act(self) -> Act {
        match self {
            Self::Erase => Act::Erase,
            Self::Detach => Act::Detach,
            Self::Expire => Act::Expire,
        }
    }

    /// Its record.
    fn record(self, workspace: WorkspaceId, place: Place, id: [u8; 16], at: Timestamp) -> Record {
        let node = Some(place.node());
        let (kind, body) = match self {
            Self::Erase => (kind::ERASE, inbox::Erase { node, suppress: true }.encode_to_vec()),
            Self::Detach => (kind::DETACH, inbox::Detach { node }.encode_to_vec()),
            Self::Expire => (kind::EXPIRE, inbox::Expire { node }.encode_to_vec()),
        };
        Record::new(kind, workspace, id, place.key(), at, body.into())
    }
}

/// The record in `wp1.identity` that erases whoever an identifier is when it is folded; nobody, where none has come under it.
pub fn erase_record(workspace: WorkspaceId, place: Place, id: [u8; 16], at: Timestamp) -> Record {
    Wish::Erase.record(workspace, place, id, at)
}

// === impl Control ===

impl Control {
    /// The identifier that a request names.
    pub(crate) fn place(&self, workspace: WorkspaceId, identifier: &str) -> Result<Place, Refusal> {
        let (class, custom, value) = class_of(identifier)?;
        let normal = (self.normalise)(class, value)
            .ok_or_else(|| Refusal::Invalid("INVALID_IDENTIFIER", format!("this is no {} that a door would take", class.as_str())))?;
        Ok(Place { class, hash: IdentifierHash::of(&self.install_key, workspace, class, custom, &normal) })
    }

    /// Asks for it; answers when the record is acknowledged, or, where it is only checked, whether it could be asked for.
    pub(crate) async fn wish(
        &self,
        caller: &Caller,
        wish: Wish,
        parent: &str,
        identifier: &str,
        only_check: bool,
    ) -> Result<Option<pb::Acknowledged>, Refusal> {
        let whom = self.whom(parent, identifier)?;
        let record = (!only_check).then(|| wish.record(whom.workspace, whom.place, self.drawn(), self.clock.now()));
        self.tell(Line::of(caller, wish.act(), ""), &whom, ready(Ok(())), record).await
    }

    /// Whom a request names. Nothing that is stored is read for it.
    pub(crate) fn whom<'a>(&self, parent: &'a str, identifier: &str) -> Result<Whom<'a>, Refusal> {
        let name = names::workspace(parent)?;
        let workspace = self.workspace(name)?;
        if identifier.parse::<ProfileId>().is_ok() {
            let why = "name one of the person's identifiers: a profile id may lead to somebody else by the time it is folded";
            return Err(Refusal::Invalid("INVALID_IDENTIFIER", why.to_owned()));
        }
        Ok(Whom { name, workspace, place: self.place(workspace, identifier)? })
    }

    /// An id that nothing else has.
    pub(crate) fn drawn(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&(self.secret)()[..16]);
        id
    }

    /// Puts a record to an identifier, and answers when it is acknowledged; without one all is only checked. The line stands before
    /// anything of the person is read: who asks in vain learns whether she is known, and stands there too.
    pub(crate) async fn tell(
        &self,
        line: Line,
        whom: &Whom<'_>,
        checked: impl Future<Output = Result<(), Refusal>> + Send,
        record: Option<Record>,
    ) -> Result<Option<pb::Acknowledged>, Refusal> {
        let hash = whom.place.hash.to_string();
        let line = Line { subject: format!("identifiers/{hash}"), ..line.in_workspace(whom.name) };
        let line = match &record {
            Some(record) => line.record(&record.id),
            None => Line { note: format!("{}, only checked", line.note), ..line },
        };
        let done = async {
            self.is_there(whom).await?;
            checked.await?;
            let Some(record) = record else { return Ok(None) };
            let (id, at) = (hex::encode(record.id), record.said.millis());
            self.door.append(vec![(Role::Identity, record)]).await?;
            Ok(Some(pb::Acknowledged { identifier_hash: hash, record: id, at }))
        };
        self.audit.acted(line, done).await
    }

    /// A typing error should not be answered as done.
    async fn is_there(&self, whom: &Whom<'_>) -> Result<(), Refusal> {
        let known: Option<state::IdentifierState> = lookup::identifier(&*self.owners, self.layout, whom.workspace, whom.place.hash).await?;
        match known.as_ref().and_then(|state| state.generations.last()) {
            None => Err(Refusal::NotFound("no event ever carried this identifier".to_owned())),
            Some(node) if node.gone => Err(Refusal::NotFound("whoever had this identifier is forgotten already".to_owned())),
            Some(_) => Ok(()),
        }
    }
}
