//! An operator looks before a run is cancelled: which is live then, of whom the identifier is (`waypostctl run list`).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use waypost_codec::{
    frame::Record,
    inbox::{CancelRuns, RunCommand, run_command::What},
    kind,
    state::{IdentifierState, JourneyProfile},
    stored,
};
use waypost_types::{PartitionId, Role};

use super::World;
use crate::workload::operators::is_unaimed;

/// What was cancelled where nobody was named: whoever asks again asks for the same.
pub(super) type Aimed = BTreeMap<[u8; 16], Bytes>;

/// Where nothing is live, it is what one might have meant.
const OTHERWISE: &str = "cart";

impl World {
    /// The record as it is appended.
    pub(super) fn aim(&mut self, record: Record) -> Record {
        if record.kind != kind::RUN_COMMAND {
            return record;
        }
        let body = match self.aimed.get(&record.id) {
            Some(body) => body.clone(),
            None => self.aimed_at(&record),
        };
        self.aimed.insert(record.id, body.clone());
        Record { body, ..record }
    }

    fn aimed_at(&self, record: &Record) -> Bytes {
        let Ok(command) = RunCommand::decode(record.body.clone()) else { return record.body.clone() };
        if !is_unaimed(&command) {
            return record.body.clone();
        }
        let cancel = match self.live_run(&record.key) {
            Some(run) => CancelRuns { run, journey: String::new() },
            None => CancelRuns { journey: OTHERWISE.to_owned(), ..CancelRuns::default() },
        };
        RunCommand { what: Some(What::Cancel(cancel)), ..command }.encode_to_vec().into()
    }

    /// The first live run of the person behind an identifier, as the store has it.
    fn live_run(&self, identifier: &Bytes) -> Option<Bytes> {
        let identity: IdentifierState = self.stored(Role::Identity, b'i', identifier)?;
        let node = identity.generations.iter().rev().find(|node| !node.gone)?;
        let profile: JourneyProfile = self.stored(Role::Orchestrator, b'p', &node.route)?;
        profile.runs.iter().find(|run| run.exit_reason.is_empty()).map(|run| run.id.clone())
    }

    fn stored<M: Message + Default>(&self, role: Role, kind: u8, key: &Bytes) -> Option<M> {
        let index = self.layout.partition(crate::shop::WORKSPACE, key);
        let dump = self.store.dump(PartitionId { role, index })?;
        let (_, bytes) = dump.entities.iter().find(|(entity, _)| entity.kind() == kind && entity.key() == &key[..])?;
        let (_, body) = stored::open(bytes).ok()?;
        M::decode(body).ok()
    }
}
