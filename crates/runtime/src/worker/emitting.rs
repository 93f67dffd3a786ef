//! What a fold puts out: numbered in its partition channel as it is folded, handed on when its frame is
//! folded whole (PROTOCOL §7.1).

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    frame::{Record, chain},
    kind,
};
use waypost_types::{EntityId, Layout, PartitionId, Position, Timestamp, WorkspaceId, hash::hash64, trace::TraceContext};

use super::{Turn, Worker, folding::Done};
use crate::{
    channel_out::{Content, Item},
    machine::Destination,
    processor::{DeadLetter, Job, Output, Poison, Processor},
    tip::{Tip, sent_field},
};

/// The record under way, for what it puts out.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// Log time of what is put out now: that of the record, or the due of a timer.
    pub(super) at: Timestamp,
    pub(super) position: Position,
    /// Where in a trace that is kept what is put out comes from, as records carry it; empty: in none.
    pub(super) trace: Bytes,
    /// Outputs so far; numbers the next one.
    pub(super) outputs: u32,
    /// Whose partition channel brought it.
    pub(super) source: Option<PartitionId>,
}

// === impl Scene ===

impl Scene {
    pub(super) fn new(at: Timestamp, position: Position, trace: Bytes) -> Self {
        Self { at, position, trace, outputs: 0, source: None }
    }
}

/// Kinds that the runtime folds itself.
pub(super) fn is_runtime_kind(kind: u32) -> bool {
    matches!(kind, kind::TICK | kind::LEADER | kind::ENGINE_ACTIVATE | kind::DEF_ACTIVATE | kind::MARK)
}

/// The end of a partition channel, by the field that keeps it.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) field: String,
    pub(super) tip: Tip,
}

impl<P: Processor> Worker<P> {
    /// The running hash passes a record.
    pub(super) fn begin_chain(&mut self, position: Position) {
        self.meta.ochain = hash64(&[&self.meta.ochain.to_be_bytes(), &position.offset.to_be_bytes(), &position.index.to_be_bytes()]);
    }

    /// What would block its partition channel for ever must not enter it.
    pub(super) fn check_outputs(turn: &Turn<'_>, outputs: &[Output]) -> Result<(), Poison> {
        if outputs.len() > turn.config.record_outputs {
            return Err(Poison { reason: "TOO_MANY_OUTPUTS", detail: format!("{} outputs of one record", outputs.len()) });
        }
        for output in outputs {
            let bytes = match output {
                Output::Inbox { role, .. } if role.inbox().is_none() => {
                    return Err(Poison { reason: "NO_INBOX", detail: format!("{role} has no inbox") });
                }
                Output::Inbox { key, body, .. } | Output::Public { key, body, .. } => key.len() + body.len(),
                Output::Dead(_) => 0,
            };
            if bytes > turn.config.record_bytes {
                return Err(Poison { reason: "OUTPUT_TOO_LARGE", detail: format!("an output of {bytes} bytes") });
            }
        }
        Ok(())
    }

    /// Puts out everything an act left behind, and notes its jobs if this worker leads.
    pub(super) fn publish(&mut self, turn: &mut Turn<'_>, scene: &mut Scene, done: Done) {
        turn.counters.refusals += done.refusals;
        self.open.tallies(done.tallies);
        for output in done.outputs {
            self.emit(turn, scene, output);
        }
        if self.leads() || !turn.config.rules.leader_check {
            self.open.jobs(done.jobs.into_iter().map(|job| Job { trace: scene.trace.clone(), ..job }).collect());
        }
    }

    /// Passes a mark or an activation on in band, to the partition of the same number.
    pub(super) fn relay(&mut self, turn: &mut Turn<'_>, scene: &mut Scene, kind: u32, body: Bytes) {
        let Some(role) = P::RELAYS_TO else { return };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&scene.position.offset.to_be_bytes());
        id[8..12].copy_from_slice(&scene.position.index.to_be_bytes());
        id[12..].copy_from_slice(&kind.to_be_bytes());
        let destination = Destination::Inbox(PartitionId { role, index: self.id.index });
        let record = Record { at: Some(scene.at), ..Record::new(kind, WorkspaceId::new(0), id, Bytes::new(), scene.at, body) };
        self.emit_record(turn, scene, &destination, record);
    }

    fn emit(&mut self, turn: &mut Turn<'_>, scene: &mut Scene, output: Output) {
        match output {
            Output::Inbox { role, workspace, key, kind, body, id, via, at } => {
                let index = turn.layout.partition(workspace, &key);
                let at = at.unwrap_or(scene.at);
                let record = Record { at: Some(at), via, ..Record::new(kind, workspace, id, key, at, body) };
                self.emit_record(turn, scene, &Destination::Inbox(PartitionId { role, index }), record);
            }
            Output::Public { topic, key, kind, version, body } => {
                let partition = spread(turn.config.public_partitions, WorkspaceId::new(0), &key);
                let destination = Destination::Public { topic, partition };
                let mut headers = vec![
                    ("ce_specversion".to_owned(), "1.0".to_owned()),
                    ("ce_id".to_owned(), self.output_name(scene)),
                    ("ce_source".to_owned(), format!("/waypost/{}/{}", self.id.role, self.id.index)),
                    ("ce_type".to_owned(), kind.to_owned()),
                    ("ce_time".to_owned(), scene.at.to_string()),
                    ("ce_subject".to_owned(), hex::encode(&key)),
                    ("content-type".to_owned(), "application/avro".to_owned()),
                ];
                headers.extend(TraceContext::from_bytes(&scene.trace).map(|at| ("traceparent".to_owned(), at.to_header())));
                let size = key.len() + body.len() + 256;
                self.number(scene, &destination, size, Content::Public { key, headers, version, body });
            }
            Output::Dead(letter) => {
                turn.counters.dead_letters += 1;
                self.open.set_aside(letter.workspace, &letter.reason);
                let partition = spread(turn.config.dead_partitions, letter.workspace, letter.reason.as_bytes());
                self.emit_letter(scene, partition, letter);
            }
        }
    }

    fn emit_record(&mut self, turn: &Turn<'_>, scene: &mut Scene, destination: &Destination, record: Record) {
        let record = Record { cause: scene.position, eng_min: kind::engine(record.kind), trace: scene.trace.clone(), ..record };
        debug_assert!(record.body.len() <= turn.config.record_bytes, "checked before it was put out");
        let size = record.key.len() + record.body.len() + record.trace.len() + 64;
        self.number(scene, destination, size, Content::Record(Arc::new(record)));
    }

    fn emit_letter(&mut self, scene: &mut Scene, partition: u32, letter: DeadLetter) {
        let (size, origin) = (letter.bytes.len() + 256, self.output_name(scene));
        self.number(scene, &Destination::Dead(partition), size, Content::Dead { letter, origin });
    }

    /// Role, partition, position and number within the record: the same in every life.
    fn output_name(&self, scene: &Scene) -> String {
        format!("{}/{}/{}.{}", self.id.role, self.id.index, scene.position, scene.outputs)
    }

    /// Gives an output its number and chain.
    fn number(&mut self, scene: &mut Scene, destination: &Destination, size: usize, mut content: Content) {
        let Sent { field, tip } = if let Some(sent) = self.tips.get_mut(destination) {
            sent
        } else {
            let field = sent_field(destination);
            let tip = self.stored_tips.get(&field).copied().unwrap_or_default();
            self.tips.entry(destination.clone()).or_insert(Sent { field, tip })
        };
        let before = tip.seq;
        tip.seq += 1;
        tip.chain = match &content {
            Content::Record(record) => chain(tip.chain, record.kind, &record.key, &record.body),
            Content::Public { key, version, body, .. } => chain(tip.chain, *version, key, body),
            Content::Dead { letter, .. } => chain(tip.chain, 0, letter.reason.as_bytes(), &letter.bytes),
        };
        let tip = *tip;
        if let Content::Public { headers, .. } = &mut content {
            headers.push(("ce_sequence".to_owned(), tip.seq.to_string()));
        }
        self.meta.ochain = hash64(&[&self.meta.ochain.to_be_bytes(), field.as_bytes(), &tip.to_bytes()]);
        self.open.output(destination, before, Item { seq: tip.seq, chain: tip.chain, size, content });
        scene.outputs += 1;
    }

    /// The record of this scene is set aside, or halts the partition where the role says so.
    pub(super) fn poisoned(&mut self, turn: &mut Turn<'_>, scene: &mut Scene, record: &Record, poison: &Poison) {
        if P::HALTS.contains(&poison.reason) {
            self.halt_at(turn, scene.position, format!("record {}: {poison}", scene.position));
            return;
        }
        let bytes = record.to_proto().encode_to_vec().into();
        self.dead_letter(turn, scene, poison.reason, &poison.detail, bytes, record.workspace, &record.key);
    }

    /// The record of this scene is on the skip list.
    pub(super) fn skip(&mut self, turn: &mut Turn<'_>, record: &Record, scene: &mut Scene) {
        turn.counters.skipped += 1;
        self.begin_chain(scene.position);
        let bytes = record.to_proto().encode_to_vec().into();
        self.dead_letter(turn, scene, "SKIPPED", "the skip list names it", bytes, record.workspace, &record.key);
    }

    /// The timer of this scene is set aside, and not tried again. The letter names it and its entity, and has no bytes: there is no record to send again.
    pub(super) fn timer_poisoned(&mut self, turn: &mut Turn<'_>, scene: &mut Scene, id: &EntityId, poison: &Poison) {
        if P::HALTS.contains(&poison.reason) {
            self.halt(turn, format!("timer at {}: {poison}", scene.position));
            return;
        }
        self.set_aside(id, scene.at);
        let detail = format!("timer due {} of entity {}: {}", scene.at, hex::encode(id.as_bytes()), poison.detail);
        self.dead_letter(turn, scene, poison.reason, &detail, Bytes::new(), id.workspace(), id.key());
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a letter, from a record or from bytes that are none")]
    pub(super) fn dead_letter(
        &mut self,
        turn: &mut Turn<'_>,
        scene: &mut Scene,
        reason: &str,
        detail: &str,
        bytes: Bytes,
        workspace: WorkspaceId,
        key: &[u8],
    ) {
        turn.counters.dead_letters += 1;
        self.open.set_aside(workspace, reason);
        let letter = DeadLetter {
            reason: reason.to_owned(),
            door: self.id.role.to_string(),
            detail: detail.to_owned(),
            bytes,
            workspace,
            source: scene.source,
        };
        self.emit_letter(scene, spread(turn.config.dead_partitions, workspace, key), letter);
    }
}

/// The same function that spreads keys over inboxes.
fn spread(partitions: u32, workspace: WorkspaceId, key: &[u8]) -> u32 {
    Layout { number: 0, partitions }.partition(workspace, key)
}
