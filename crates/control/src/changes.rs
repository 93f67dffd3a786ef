//! Changing what is in force: bodies first, then one line in the journal, then an activation in every inbox.
//!
//! The journal line decides: of two processes that change at once one finds its line void and nothing is changed.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::Mutex;
use waypost_codec::{
    frame::{Frame, Record},
    inbox, kind,
};
use waypost_engine::{
    apply::{Plan, SetManifest, Usage},
    library::Library,
};
use waypost_runtime::ports::{Append, AppendError, Clock, Log, LogError, Producer};
use waypost_types::{ContentHash, Layout, Role, WorkspaceId};

use crate::{
    audit::{Audit, Line},
    catalog::{Catalog, DEFINITION_PARTITIONS, control_topic, definitions_topic},
    journal::{Entry, Journal},
    status::Refusal,
};

/// The one way to change the installation's definitions and keys.
#[derive(Clone)]
pub struct Changes {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    catalog: Catalog,
    prefix: String,
    layout: Layout,
    turn: Arc<Mutex<Option<Arc<dyn Producer>>>>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another change came first.
    #[error("another change came first; nothing was changed, try again")]
    Raced,
    /// The log does not take or give records.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
}

// === impl Changes ===

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Changes {
    /// Over this log, following this catalog.
    pub fn new(log: Arc<dyn Log>, clock: Arc<dyn Clock>, catalog: Catalog, prefix: String, layout: Layout) -> Self {
        Self { log, clock, catalog, prefix, layout, turn: Arc::new(Mutex::new(None)) }
    }

    pub(crate) fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log)
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The set in force; at first one in which only the default workspace exists.
    ///
    /// # Errors
    /// [`ChangeError::Unavailable`] while its manifest is still on its way here.
    pub fn current(&self) -> Result<SetManifest, ChangeError> {
        let Some((number, hash)) = self.catalog.journal().borrow().set.clone() else {
            return Ok(SetManifest::empty(WorkspaceId::new(1), "default"));
        };
        let body = hash_of(&hash).and_then(|h| self.catalog.library().body(&h));
        let manifest = body.and_then(|b| SetManifest::from_bytes(&b));
        manifest.ok_or_else(|| ChangeError::Unavailable(format!("definition set {number} has not arrived here yet; try again")))
    }

    /// A set that was or is in force; the one before all is empty.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a number that no set has; [`ChangeError::Unavailable`] while it is on its way here.
    pub(crate) fn set(&self, number: u64) -> Result<SetManifest, Refusal> {
        if number == 0 {
            let current = self.current()?;
            return Ok(SetManifest { number, definitions: Vec::new(), ..current });
        }
        let hash = self.catalog.journal().borrow().sets.get(&number).cloned();
        let hash = hash.ok_or_else(|| Refusal::NotFound(format!("there is no set {number}")))?;
        let body = hash_of(&hash).and_then(|h| self.catalog.library().body(&h));
        let unavailable = || ChangeError::Unavailable(format!("definition set {number} has not arrived here yet; try again"));
        Ok(body.and_then(|b| SetManifest::from_bytes(&b)).ok_or_else(unavailable)?)
    }

    /// Plans under the lock, against what is in force, writes the line that speaks of it, and carries the plan out.
    ///
    /// It is carried out to its end even if whoever asked goes away. Where nothing changes, the activation is
    /// appended again, because an earlier attempt may have ended half-way; folds that have it drop it.
    ///
    /// # Errors
    /// What `plan` says, or a [`ChangeError`].
    pub(crate) async fn change(
        &self,
        audit: &Audit,
        plan: impl FnOnce(&SetManifest, &Library) -> Result<Plan, Refusal> + Send,
        line: impl FnOnce(&SetManifest, &Plan) -> Line + Send,
    ) -> Result<Plan, Refusal> {
        let mut turn = Arc::clone(&self.turn).lock_owned().await;
        let current = self.current()?;
        let plan = plan(&current, self.catalog.library())?;
        self.within_quota(&current, &plan)?;
        let line = line(&current, &plan);
        let (this, carried) = (self.clone(), plan.clone());
        let carry_out = async move {
            let task = tokio::spawn(async move {
                let producer = this.producer(&mut turn)?;
                let outcome = if carried.is_change(&current) {
                    this.carry_out(&producer, &carried).await
                } else if current.number > 0 {
                    this.activate(&producer, current.number, ContentHash::of(&current.to_bytes())).await
                } else {
                    Ok(())
                };
                if outcome.is_err() {
                    *turn = None;
                }
                outcome
            });
            Ok(task.await.map_err(|_| ChangeError::Unavailable("stopping".to_owned()))??)
        };
        audit.acted(line, carry_out).await?;
        Ok(plan)
    }

    /// Whether every workspace has what it may have, or no more than before.
    ///
    /// # Errors
    /// [`Refusal::Quota`].
    pub(crate) fn within_quota(&self, current: &SetManifest, plan: &Plan) -> Result<(), Refusal> {
        let journal = self.catalog.journal();
        let journal = journal.borrow();
        for (workspace, quota) in &journal.quotas {
            let excess = quota.exceeded(Usage::of(current, *workspace), Usage::of(&plan.next, *workspace));
            if !excess.is_empty() {
                return Err(Refusal::Quota(format!("workspaces/{}", current.workspace_name(*workspace)), excess));
            }
        }
        Ok(())
    }

    /// Writes one journal entry that is not a set: a write key, a quota.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn enter(&self, entry: Entry) -> Result<(), ChangeError> {
        let mut turn = self.turn.lock().await;
        let producer = self.producer(&mut turn)?;
        let outcome = self.write_line(&producer, entry).await;
        if outcome.is_err() {
            *turn = None;
        }
        outcome
    }

    /// Writes one journal entry that was decided upon a journal as it was seen, if nothing has come behind that.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) async fn enter_behind(&self, seen: &Journal, entry: Entry) -> Result<(), ChangeError> {
        let mut turn = self.turn.lock().await;
        let producer = self.producer(&mut turn)?;
        let outcome = self.append_line(&producer, seen.line(entry)).await;
        if outcome.is_err() {
            *turn = None;
        }
        outcome
    }

    /// Appends the activation of the set in force again; folds that have it already drop it.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn announce(&self) -> Result<(), ChangeError> {
        let mut turn = self.turn.lock().await;
        let journal = self.catalog.journal().borrow().clone();
        let Some((number, hash)) = journal.set else { return Ok(()) };
        let hash = hash_of(&hash).ok_or_else(|| ChangeError::Unavailable("the journal names a set without a hash".to_owned()))?;
        let producer = self.producer(&mut turn)?;
        self.activate(&producer, number, hash).await
    }

    fn producer(&self, turn: &mut Option<Arc<dyn Producer>>) -> Result<Arc<dyn Producer>, ChangeError> {
        if let Some(producer) = turn {
            return Ok(producer.clone());
        }
        let producer = self.log.producer().map_err(|e| away(&e))?;
        Ok(turn.insert(producer).clone())
    }

    async fn carry_out(&self, producer: &Arc<dyn Producer>, plan: &Plan) -> Result<(), ChangeError> {
        let set = plan.next.to_bytes();
        let hash = ContentHash::of(&set);
        let mut appended = Vec::new();
        for body in plan.bodies.iter().map(|(_, body)| body.clone()).chain([set]) {
            // Known here before it is needed, whatever the tail's lag.
            let key = self.catalog.library().insert(body.clone());
            appended.push(producer.append(Append {
                topic: definitions_topic(&self.prefix),
                partition: u32::from(key.as_bytes()[0]) % DEFINITION_PARTITIONS,
                key: Some(Bytes::copy_from_slice(key.as_bytes())),
                headers: Vec::new(),
                payload: body,
            }));
        }
        for acknowledged in appended {
            acknowledged.await.map_err(|e| refused(&e))?;
        }
        let number = plan.next.number;
        self.write_line(producer, Entry::Activate { set: number, hash: hex::encode(hash.as_bytes()) }).await?;
        self.activate(producer, number, hash).await
    }

    async fn write_line(&self, producer: &Arc<dyn Producer>, entry: Entry) -> Result<(), ChangeError> {
        let line = self.catalog.journal().borrow().line(entry);
        self.append_line(producer, line).await
    }

    async fn append_line(&self, producer: &Arc<dyn Producer>, line: Vec<u8>) -> Result<(), ChangeError> {
        let mut journal = self.catalog.journal();
        let append = Append { topic: control_topic(&self.prefix), partition: 0, key: None, headers: Vec::new(), payload: line.into() };
        let offset = producer.append(append).await.map_err(|e| refused(&e))?;
        // Its own record read back is what makes it true.
        let folded = journal.wait_for(|j| j.next > offset).await.map_err(|_| ChangeError::Unavailable("stopping".to_owned()))?;
        if folded.valid.contains(&offset) { Ok(()) } else { Err(ChangeError::Raced) }
    }

    async fn activate(&self, producer: &Arc<dyn Producer>, number: u64, hash: ContentHash) -> Result<(), ChangeError> {
        let body = inbox::DefActivate { set: number, hash: Bytes::copy_from_slice(hash.as_bytes()) }.encode_to_vec();
        let record = Record::new(kind::DEF_ACTIVATE, WorkspaceId::new(0), *hash.as_bytes(), Bytes::new(), self.clock.now(), body.into());
        let payload = Frame::unsourced(vec![record]).encode();
        let mut appended = Vec::new();
        for role in [Role::Identity, Role::Segmenter, Role::Sender] {
            let Some(inbox) = role.inbox() else { continue };
            for partition in 0..self.layout.partitions {
                let topic = format!("{}{inbox}", self.prefix);
                appended.push(producer.append(Append { topic, partition, key: None, headers: Vec::new(), payload: payload.clone() }));
            }
        }
        for acknowledged in appended {
            acknowledged.await.map_err(|e| refused(&e))?;
        }
        Ok(())
    }
}

fn hash_of(text: &str) -> Option<ContentHash> {
    hex::decode(text).ok().and_then(|bytes| ContentHash::from_slice(&bytes).ok())
}

fn away(error: &LogError) -> ChangeError {
    ChangeError::Unavailable(error.to_string())
}

fn refused(error: &AppendError) -> ChangeError {
    ChangeError::Unavailable(error.to_string())
}
