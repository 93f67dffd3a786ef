//! What may be done about a record that kills every process which folds it: two people set it aside in every life, or its deaths are
//! forgotten and it is tried again (PROTOCOL §12.1). What `waypost skip` does beside the API, with people whom the API knows.

use std::sync::Arc;

use waypost_proto::control as pb;
use waypost_runtime::{ports::StoreError, upkeep::Upkeep};
use waypost_types::{PartitionId, Position, Role};

use crate::{
    access::Caller,
    audit::{Act, Line},
    changes::ChangeError,
    journal::{Entry, Skip, SkipPlace},
    names,
    server::Control,
    status::Refusal,
    traces::{NoSkip, Search},
};

/// The store in which partitions stand.
#[derive(Clone)]
pub(crate) struct Heads {
    pub(crate) store: Arc<dyn Upkeep>,
    pub(crate) public_partitions: u32,
}

// === impl Control ===

impl Control {
    pub(crate) fn skips(&self, caller: &Caller) -> Result<Vec<pb::Skip>, Refusal> {
        everywhere(caller)?;
        Ok(self.catalog.journal().borrow().skips.iter().map(|(place, skip)| shown(place, skip)).collect())
    }

    pub(crate) async fn propose(&self, caller: &Caller, request: pb::ProposeSkipRequest) -> Result<pb::Skip, Refusal> {
        let pb::ProposeSkipRequest { name, offset, index, reason, validate_only } = request;
        everywhere(caller)?;
        let (partition, reason) = (self.partition(&name)?, names::line("reason", "INVALID_REASON", &reason, validate_only)?);
        let position = Position { offset, index };
        let place = SkipPlace::of(partition, position);
        if let Some(there) = self.proposed(&place) {
            return Err(Refusal::Precondition("ALREADY_PROPOSED", format!("{place} is proposed already, by {}", there.proposed_by)));
        }
        self.nobody_has_folded(partition, position).await?;
        let skip = Skip { proposed_by: caller.name().to_owned(), approved_by: None, reason: reason.clone() };
        if !validate_only {
            let line = Line::of(caller, Act::SkipPropose, &name).note(&reason);
            let entry = Entry::SkipProposed { place: place.clone(), reason, by: caller.name().to_owned() };
            self.enter(line, entry).await?;
        }
        Ok(shown(&place, &skip))
    }

    pub(crate) async fn approve(&self, caller: &Caller, request: pb::ApproveSkipRequest) -> Result<pb::Skip, Refusal> {
        let pb::ApproveSkipRequest { name, offset, index, validate_only } = request;
        everywhere(caller)?;
        let (partition, position) = (self.partition(&name)?, Position { offset, index });
        let place = SkipPlace::of(partition, position);
        let no = |reason, why: String| Err(Refusal::Precondition(reason, why));
        let Some(proposed) = self.proposed(&place) else {
            return no("NOT_PROPOSED", format!("nobody has proposed to skip {place}"));
        };
        if let Some(before) = &proposed.approved_by {
            return no("ALREADY_SKIPPED", format!("{place} is skipped already, approved by {before}"));
        }
        if proposed.proposed_by == caller.name() {
            return no("SAME_PERSON", format!("{} has proposed this one: somebody else has to approve it", caller.name()));
        }
        self.nobody_has_folded(partition, position).await?;
        let skip = Skip { approved_by: Some(caller.name().to_owned()), ..proposed };
        if !validate_only {
            let line = Line::of(caller, Act::SkipApprove, &name).note(&skip.reason);
            let (proposed_by, approved_by, reason) = (skip.proposed_by.clone(), caller.name().to_owned(), skip.reason.clone());
            self.enter(line, Entry::Skip { place: place.clone(), proposed_by, approved_by, reason }).await?;
        }
        Ok(shown(&place, &skip))
    }

    pub(crate) async fn retry(&self, caller: &Caller, request: pb::RetryPartitionRequest) -> Result<pb::RetryPartitionResponse, Refusal> {
        let pb::RetryPartitionRequest { name, validate_only } = request;
        everywhere(caller)?;
        let (partition, store) = (self.partition(&name)?, Arc::clone(&self.heads()?.store));
        let deaths = store.deaths(partition).await?;
        let deaths = deaths.ok_or_else(|| Refusal::Precondition("NO_DEATHS", format!("no life of {partition} has ended at a record")))?;
        if !validate_only {
            let line = Line::of(caller, Act::SkipRetry, &name).note(format!("offset {}, {} deaths", deaths.offset, deaths.count));
            self.to_its_end(line, async move { Ok(store.note_deaths(partition, None).await?) }).await?;
        }
        Ok(pb::RetryPartitionResponse { offset: deaths.offset, deaths: deaths.count })
    }

    fn heads(&self) -> Result<&Heads, Refusal> {
        self.heads
            .as_ref()
            .ok_or_else(|| Refusal::Precondition("ONE_PROCESS", "here nothing is folded by more than one process".to_owned()))
    }

    fn proposed(&self, place: &SkipPlace) -> Option<Skip> {
        self.catalog.journal().borrow().skips.get(place).cloned()
    }

    fn partition(&self, name: &str) -> Result<PartitionId, Refusal> {
        let wrong = || {
            let last = self.layout.partitions - 1;
            Refusal::Invalid(
                "INVALID_NAME",
                format!("`{name}` is no partition: they are partitions/{{role}}/{{0 to {last}}} of a keyed role"),
            )
        };
        let (role, index) = name.strip_prefix("partitions/").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        let role = Role::KEYED.into_iter().find(|known| known.as_str() == role).ok_or_else(wrong)?;
        let index = index.parse().ok().filter(|index| *index < self.layout.partitions).ok_or_else(wrong)?;
        Ok(PartitionId { role, index })
    }

    /// Refuses unless the record stands at the partition's offset and nobody has folded it.
    async fn nobody_has_folded(&self, partition: PartitionId, position: Position) -> Result<(), Refusal> {
        let heads = self.heads()?;
        let absent = || Refusal::Precondition("NO_STATE", format!("{partition} has no state in the store"));
        let head = heads.store.head(partition).await?.ok_or_else(absent)?;
        let log = self.changes.log();
        let public_partitions = heads.public_partitions;
        let search = Search { log: &*log, prefix: self.changes.prefix(), layout: self.layout, public_partitions };
        Ok(search.nothing_of(partition, &head, position).await?)
    }

    /// A line of the journal behind its line of the audit topic.
    async fn enter(&self, line: Line, entry: Entry) -> Result<(), Refusal> {
        let changes = self.changes.clone();
        self.to_its_end(line, async move { Ok(changes.enter(entry).await?) }).await
    }

    /// Done to its end even if whoever asked goes away.
    async fn to_its_end(&self, line: Line, act: impl Future<Output = Result<(), Refusal>> + Send + 'static) -> Result<(), Refusal> {
        let audit = self.audit.clone();
        let done = tokio::spawn(async move { audit.acted(line, act).await }).await;
        done.map_err(|_| ChangeError::Unavailable("stopping".to_owned()))?
    }
}

/// A partition holds what is everybody's.
fn everywhere(caller: &Caller) -> Result<(), Refusal> {
    if caller.is_everywhere() {
        return Ok(());
    }
    let why = "a partition belongs to no workspace: this is for operators of the whole installation (workspaces = [\"*\"])";
    Err(Refusal::Denied(why.to_owned()))
}

fn shown(place: &SkipPlace, skip: &Skip) -> pb::Skip {
    pb::Skip {
        partition: format!("partitions/{}/{}", place.role, place.partition),
        offset: place.offset,
        index: place.index,
        reason: skip.reason.clone(),
        proposed_by: skip.proposed_by.clone(),
        approved_by: skip.approved_by.clone().unwrap_or_default(),
    }
}

impl From<NoSkip> for Refusal {
    fn from(why: NoSkip) -> Self {
        let message = why.to_string();
        match why {
            NoSkip::Elsewhere { .. } => Self::Precondition("NOT_AT_RECORD", message),
            NoSkip::Absent(_) => Self::Precondition("NO_SUCH_RECORD", message),
            NoSkip::Folded(_) => Self::Precondition("FOLDED_ALREADY", message),
            NoSkip::Log(_) => Self::Unavailable(message),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
