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
use waypost_engine::apply::SetManifest;
use waypost_runtime::ports::{Append, AppendError, Clock, Log, LogError, Producer};
use waypost_types::{ContentHash, Layout, Role, WorkspaceId};

use crate::{
    catalog::{Catalog, DEFINITION_PARTITIONS, control_topic, definitions_topic},
    journal::{Entry, Journal},
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

    /// The set in force; an empty one at first.
    pub fn current(&self) -> SetManifest {
        let journal = self.catalog.journal().borrow().clone();
        self.manifest(&journal)
    }

    fn manifest(&self, journal: &Journal) -> SetManifest {
        let hash = journal.set.as_ref().and_then(|(_, hash)| hex::decode(hash).ok()).and_then(|b| ContentHash::from_slice(&b).ok());
        let body = hash.and_then(|h| self.catalog.library().body(&h));
        body.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
    }

    /// Plans under the lock, against what is in force, and carries the plan out.
    ///
    /// `plan` answers the next set and the bodies it names that are new; `None` for no change.
    ///
    /// # Errors
    /// What `plan` says, or [`ChangeError`].
    pub async fn change<T, E: From<ChangeError>>(
        &self, plan: impl FnOnce(&SetManifest) -> Result<(Option<(SetManifest, Vec<Bytes>)>, T), E> + Send,
    ) -> Result<T, E> {
        let mut turn = self.turn.lock().await;
        let current = self.current();
        let (next, answer) = plan(&current)?;
        if let Some((mut set, bodies)) = next {
            set.number = current.number + 1;
            let body = Bytes::from(serde_json::to_vec(&set).unwrap_or_default());
            let hash = ContentHash::of(&body);
            let producer = self.producer(&mut turn)?;
            let outcome = self.carry_out(&producer, &set, hash, bodies.into_iter().chain([body])).await;
            if outcome.is_err() {
                *turn = None;
            }
            outcome?;
        }
        Ok(answer)
    }

    /// Writes one journal entry that is not a set: a write key.
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

    /// Appends the activation of the set in force again; folds that have it already drop it.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn announce(&self) -> Result<(), ChangeError> {
        let mut turn = self.turn.lock().await;
        let journal = self.catalog.journal().borrow().clone();
        let Some((number, hash)) = journal.set else { return Ok(()) };
        let hash = hex::decode(&hash).ok().and_then(|b| ContentHash::from_slice(&b).ok());
        let hash = hash.ok_or_else(|| ChangeError::Unavailable("the journal names a set without a hash".to_owned()))?;
        let producer = self.producer(&mut turn)?;
        self.activate(&producer, number, hash).await
    }

    fn producer(&self, turn: &mut Option<Arc<dyn Producer>>) -> Result<Arc<dyn Producer>, ChangeError> {
        if let Some(producer) = turn {
            return Ok(producer.clone());
        }
        let producer = self.log.producer().map_err(away)?;
        Ok(turn.insert(producer).clone())
    }

    async fn carry_out(
        &self, producer: &Arc<dyn Producer>, set: &SetManifest, hash: ContentHash, bodies: impl Iterator<Item = Bytes> + Send,
    ) -> Result<(), ChangeError> {
        let mut appended = Vec::new();
        for body in bodies {
            let key = ContentHash::of(&body);
            let partition = u32::from(key.as_bytes()[0]) % DEFINITION_PARTITIONS;
            // Known here before it is needed, whatever the tail's lag.
            self.catalog.library().insert(body.clone());
            appended.push(producer.append(Append {
                topic: definitions_topic(&self.prefix),
                partition,
                key: Some(Bytes::copy_from_slice(key.as_bytes())),
                headers: Vec::new(),
                payload: body,
            }));
        }
        for acknowledged in appended {
            acknowledged.await.map_err(refused)?;
        }
        self.write_line(producer, Entry::Activate { set: set.number, hash: hex::encode(hash.as_bytes()) }).await?;
        self.activate(producer, set.number, hash).await
    }

    async fn write_line(&self, producer: &Arc<dyn Producer>, entry: Entry) -> Result<(), ChangeError> {
        let mut journal = self.catalog.journal();
        let line = journal.borrow().line(entry);
        let append = Append { topic: control_topic(&self.prefix), partition: 0, key: None, headers: Vec::new(), payload: line.into() };
        let offset = producer.append(append).await.map_err(refused)?;
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
            acknowledged.await.map_err(refused)?;
        }
        Ok(())
    }
}

fn away(error: LogError) -> ChangeError {
    ChangeError::Unavailable(error.to_string())
}

fn refused(error: AppendError) -> ChangeError {
    ChangeError::Unavailable(error.to_string())
}
