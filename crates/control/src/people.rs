//! What an operator asks to be done with a person: a record at the identifier, behind everything accepted before,
//! and a line in the audit topic (PROTOCOL §10.7, §14.2).

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

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Erase,
    Detach,
    Expire,
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

    /// Its record. The node has no generation: whoever the identifier is when it is folded.
    fn record(self, workspace: WorkspaceId, place: Place, id: [u8; 16], at: Timestamp) -> Record {
        let hash = Bytes::copy_from_slice(place.hash.as_bytes());
        let node = Some(inbox::NodeRef { class: place.class.number(), hash: hash.clone(), ..inbox::NodeRef::default() });
        let (kind, body) = match self {
            Self::Erase => (kind::ERASE, inbox::Erase { node, suppress: true }.encode_to_vec()),
            Self::Detach => (kind::DETACH, inbox::Detach { node }.encode_to_vec()),
            Self::Expire => (kind::EXPIRE, inbox::Expire { node }.encode_to_vec()),
        };
        Record::new(kind, workspace, id, hash, at, body.into())
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

    /// Asks for it; answers when the record is acknowledged.
    pub(crate) async fn wish(&self, caller: &Caller, wish: Wish, parent: &str, identifier: &str) -> Result<pb::Acknowledged, Refusal> {
        let (workspace, place) = self.someone(parent, identifier).await?;
        let record = |id, at| wish.record(workspace, place, id, at);
        self.tell(Line::of(caller, wish.act(), "").in_workspace(names::workspace(parent)?), place, record).await
    }

    /// The identifier of a person who is there, and is not named by a profile.
    pub(crate) async fn someone(&self, parent: &str, identifier: &str) -> Result<(WorkspaceId, Place), Refusal> {
        let name = names::workspace(parent)?;
        let workspace = self.workspace(name)?;
        if identifier.parse::<ProfileId>().is_ok() {
            let why = "name one of the person's identifiers: a profile id may lead to somebody else by the time it is folded";
            return Err(Refusal::Invalid("INVALID_IDENTIFIER", why.to_owned()));
        }
        let place = self.place(workspace, identifier)?;
        // A typing error should not be answered as done.
        let known: Option<state::IdentifierState> = lookup::identifier(&*self.owners, self.layout, workspace, place.hash).await?;
        match known.as_ref().and_then(|state| state.generations.last()) {
            None => Err(Refusal::NotFound("no event ever carried this identifier".to_owned())),
            Some(node) if node.gone => Err(Refusal::NotFound("whoever had this identifier is forgotten already".to_owned())),
            Some(_) => Ok((workspace, place)),
        }
    }

    /// Puts a record to an identifier behind a line that says so; answers when it is acknowledged.
    pub(crate) async fn tell(
        &self,
        line: Line,
        place: Place,
        record: impl FnOnce([u8; 16], Timestamp) -> Record,
    ) -> Result<pb::Acknowledged, Refusal> {
        let mut id = [0; 16];
        id.copy_from_slice(&(self.secret)()[..16]);
        let line = Line { subject: format!("identifiers/{}", place.hash), ..line.record(&id) };
        let at = self.clock.now();
        let record = record(id, at);
        self.audit.acted(line, async { Ok(self.door.append(vec![(Role::Identity, record)]).await?) }).await?;
        Ok(pb::Acknowledged { identifier_hash: place.hash.to_string(), record: hex::encode(id), at: at.millis() })
    }
}
