//! What every partition holds, read from the store past the product, and whether everything has come to rest.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use prost::Message;
use waypost_codec::{
    state::{DispatchPhase, DispatchState, IdentifierState, JourneyProfile, SegmentProfile},
    stored,
};
use waypost_kafka::KafkaLog;
use waypost_redis::Keys;
use waypost_runtime::{install::InstallRecord, ports::Log as _};
use waypost_types::{EntityId, IdentifierHash, Layout, Node, PartitionId, ProfileId, Role, WorkspaceId};

use super::{people::Name, resp, settings::PARTITIONS};

/// The only workspace.
pub const WORKSPACE: WorkspaceId = WorkspaceId::new(1);

/// Everything that lies in the store at one moment.
#[derive(Debug)]
pub struct Holdings {
    install: InstallRecord,
    off: BTreeMap<PartitionId, u64>,
    entities: BTreeMap<(Role, EntityId), Bytes>,
    /// Sent and accepted, `x:` and `i:` fields by partition: number and chain.
    sequences: BTreeMap<(PartitionId, String), (u64, u64)>,
}

/// A person's live profile.
#[derive(Debug)]
pub struct Found {
    /// Its id.
    pub profile: ProfileId,
    /// At the segmenter.
    pub segment: SegmentProfile,
    /// At the orchestrator.
    pub journey: JourneyProfile,
}

/// All partitions of all keyed roles.
pub fn partitions() -> impl Iterator<Item = PartitionId> {
    Role::KEYED.into_iter().flat_map(|role| (0..PARTITIONS).map(move |index| PartitionId { role, index }))
}

// === impl Holdings ===

impl Holdings {
    /// Reads all of it from the Redis on a port.
    ///
    /// # Errors
    /// If the server does not answer, or what it holds cannot be read.
    pub async fn read(port: u16, install: &InstallRecord) -> anyhow::Result<Self> {
        let keys = Keys::new("", &install.tags);
        let mut all = Self { install: install.clone(), off: BTreeMap::new(), entities: BTreeMap::new(), sequences: BTreeMap::new() };
        for partition in partitions() {
            let off = resp::ask(port, &["HGET", &keys.meta(partition), "off"]).await?.text();
            all.off.insert(partition, off.parse().with_context(|| format!("{partition} has no offset"))?);
            for (field, value) in pairs(port, &keys.sequences(partition)).await? {
                let value: [u8; 16] = value.as_slice().try_into().with_context(|| format!("a sequence of {partition}"))?;
                let (seq, chain) = value.split_at(8);
                let number = |b: &[u8]| b.try_into().map_or(0, u64::from_be_bytes);
                all.sequences.insert((partition, String::from_utf8_lossy(&field).into_owned()), (number(seq), number(chain)));
            }
            for bucket in 0..16 {
                for (entity, value) in pairs(port, &keys.bucket(partition, bucket)).await? {
                    let (_, body) = stored::open(&value.into()).with_context(|| format!("an entity of {partition}"))?;
                    all.entities.insert((partition.role, EntityId::from_bytes(&entity)), body);
                }
            }
        }
        Ok(all)
    }

    fn layout(&self) -> Layout {
        self.install.layout()
    }

    fn get<S: Message + Default>(&self, role: Role, kind: u8, key: &[u8]) -> anyhow::Result<Option<S>> {
        let body = self.entities.get(&(role, EntityId::new(WORKSPACE, kind, key)));
        Ok(body.map(|body| S::decode(body.clone())).transpose()?)
    }

    fn every<S: Message + Default>(&self, role: Role, kind: u8) -> anyhow::Result<Vec<(EntityId, S)>> {
        let of_kind = self.entities.iter().filter(|((r, id), _)| *r == role && id.kind() == kind);
        of_kind.map(|((_, id), body)| Ok((id.clone(), S::decode(body.clone())?))).collect()
    }

    /// The live profile that a name leads to; none where nobody has that name.
    ///
    /// # Errors
    /// If the road ends nowhere, with where.
    pub fn find(&self, name: &Name) -> anyhow::Result<Option<Found>> {
        let hash = IdentifierHash::of(&self.install.hash_key(), WORKSPACE, name.0, "", &name.1);
        let Some(state) = self.get::<IdentifierState>(Role::Identity, b'i', hash.as_bytes())? else { return Ok(None) };
        let node = state.generations.last().context("an identifier without a node")?;
        let mut profile = Node::from_slice(&node.route)?.profile();
        for _ in 0..32 {
            let segment: SegmentProfile =
                self.get(Role::Segmenter, b'p', profile.as_bytes())?.with_context(|| format!("{profile} is not at the segmenter"))?;
            let journey: JourneyProfile =
                self.get(Role::Orchestrator, b'p', profile.as_bytes())?.with_context(|| format!("{profile} is not at the orchestrator"))?;
            ensure!(segment.moved_to == journey.moved_to, "{profile} has moved at one stage and not at the other");
            if segment.moved_to.is_empty() {
                return Ok(Some(Found { profile, segment, journey }));
            }
            profile = ProfileId::from_slice(&segment.moved_to)?;
        }
        anyhow::bail!("profiles that moved in a circle")
    }

    /// Channels whose source has sent what their destination has not accepted, or something else.
    pub fn open_channels(&self) -> Vec<String> {
        let mut open = Vec::new();
        for ((source, field), sent) in &self.sequences {
            let Some((role, index)) = field.strip_prefix("x:").and_then(|rest| rest.split_once(':')) else { continue };
            // public topics have no receiver that remembers
            let (Ok(role), Ok(index)) = (role.parse::<Role>(), index.parse()) else { continue };
            let to = PartitionId { role, index };
            let accepted = self.sequences.get(&(to, format!("i:{}:{}", source.role, source.index))).copied().unwrap_or_default();
            // A destination may be ahead: what is published is committed later, and marks go on while this is read.
            if accepted.0 < sent.0 || (accepted.0 == sent.0 && accepted.1 != sent.1) {
                open.push(format!(
                    "{source} has sent {} to {to}, which has accepted {}{}",
                    sent.0,
                    accepted.0,
                    if accepted.0 == sent.0 { " of another chain" } else { "" }
                ));
            }
        }
        open
    }

    /// What has not come to rest: identifiers that hold, profiles that drain, runs that live, messages without an outcome.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn unsettled(&self) -> anyhow::Result<Vec<String>> {
        let mut open = Vec::new();
        for (id, state) in self.every::<IdentifierState>(Role::Identity, b'i')? {
            let holding = state.generations.iter().filter(|node| node.holding).count();
            if holding > 0 || !state.held.is_empty() {
                open.push(format!("identifier {} holds {} items at {holding} nodes", hex(id.key()), state.held.len()));
            }
        }
        for (id, profile) in self.every::<SegmentProfile>(Role::Segmenter, b'p')? {
            open.extend(drains(Role::Segmenter, &id, profile.draining.len(), profile.draining_since));
        }
        for (id, profile) in self.every::<JourneyProfile>(Role::Orchestrator, b'p')? {
            open.extend(drains(Role::Orchestrator, &id, profile.draining.len(), profile.draining_since));
            let live = profile.runs.iter().filter(|run| run.exit_reason.is_empty());
            open.extend(live.map(|run| format!("run {} {} at {}", run.journey, run.key, run.step)));
        }
        for (_, dispatch) in self.every::<DispatchState>(Role::Sender, b'd')? {
            let phase = dispatch.phase();
            if matches!(phase, DispatchPhase::Ready | DispatchPhase::Inflight | DispatchPhase::InDoubt | DispatchPhase::Retry) {
                let what = dispatch.dispatch.as_ref().map_or_else(String::new, |d| format!("{} {}", d.step, d.run_key));
                open.push(format!("message {what} is {}", phase.as_str_name()));
            }
        }
        Ok(open)
    }

    /// The live profile at the segmenter that has been left alone longest.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn oldest(&self) -> anyhow::Result<Option<(PartitionId, EntityId)>> {
        let live = self.every::<SegmentProfile>(Role::Segmenter, b'p')?.into_iter().filter(|(_, profile)| profile.moved_to.is_empty());
        let oldest = live.min_by_key(|(_, profile)| profile.now).map(|(id, _)| id);
        Ok(oldest.map(|id| (PartitionId { role: Role::Segmenter, index: self.layout().partition(WORKSPACE, id.key()) }, id)))
    }

    /// Offsets of the first frame not folded.
    pub const fn offsets(&self) -> &BTreeMap<PartitionId, u64> {
        &self.off
    }

    /// How many entities of a role there are.
    pub fn count(&self, role: Role) -> usize {
        self.entities.keys().filter(|(r, _)| *r == role).count()
    }

    /// V, as the installation has it.
    pub fn partitions(&self) -> u32 {
        self.layout().partitions
    }
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Bytes::copy_from_slice(bytes))
}

fn drains(role: Role, id: &EntityId, nodes: usize, since: i64) -> Option<String> {
    (nodes > 0).then(|| format!("profile {} drains at the {role}, of {nodes} nodes, since {since}", hex(id.key())))
}

async fn pairs(port: u16, key: &str) -> anyhow::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut items = resp::ask(port, &["HGETALL", key]).await?.list().into_iter();
    let mut pairs = Vec::new();
    while let (Some(field), Some(value)) = (items.next(), items.next()) {
        pairs.push((field.bytes(), value.bytes()));
    }
    Ok(pairs)
}

/// Ends of all inboxes.
///
/// # Errors
/// If a broker does not answer.
pub async fn ends(log: &Arc<KafkaLog>) -> anyhow::Result<BTreeMap<PartitionId, u64>> {
    let mut ends = BTreeMap::new();
    for partition in partitions() {
        let topic = partition.role.inbox().context("an inbox")?;
        ends.insert(partition, log.watermarks(topic, partition.index).await?.1);
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use waypost_codec::{
        inbox::Dispatch,
        state::{self, HeldItem},
    };

    use super::*;

    fn holding<S: Message>(role: Role, kind: u8, state: &S) -> Vec<String> {
        let install =
            br#"{"kind":"install","id":"00112233445566778899aabbccddeeff","layout":1,"format":1,"partitions":4,"public_partitions":8}"#;
        let entities = BTreeMap::from([((role, EntityId::new(WORKSPACE, kind, &[7; 16])), state.encode_to_vec().into())]);
        let install = InstallRecord::from_bytes(install).expect("an install record");
        let holdings = Holdings { install, off: BTreeMap::new(), entities, sequences: BTreeMap::new() };
        holdings.unsettled().expect("readable")
    }

    #[test]
    fn whoever_holds_or_drains_is_not_at_rest() {
        let node = |holding| state::Node { holding, ..state::Node::default() };
        let identifier = |earlier, last, held| IdentifierState {
            generations: vec![node(earlier), node(last)],
            held: vec![HeldItem::default(); held],
            ..IdentifierState::default()
        };
        for (earlier, last, held, open) in [(false, false, 0, 0), (true, false, 0, 1), (false, true, 0, 1), (false, false, 2, 1)] {
            let found = holding(Role::Identity, b'i', &identifier(earlier, last, held));
            assert_eq!(found.len(), open, "{earlier} {last} {held}: {found:?}");
        }
        for (draining, open) in [(vec![], 0), (vec![Bytes::from_static(b"node")], 1)] {
            let segment = SegmentProfile { draining: draining.clone(), ..SegmentProfile::default() };
            assert_eq!(holding(Role::Segmenter, b'p', &segment).len(), open);
            let journey = JourneyProfile { draining, ..JourneyProfile::default() };
            assert_eq!(holding(Role::Orchestrator, b'p', &journey).len(), open);
        }
    }

    #[test]
    fn runs_that_live_and_messages_on_their_way_are_not_at_rest() {
        let run = |exit: &str| state::Run { exit_reason: exit.into(), ..state::Run::default() };
        let journey = JourneyProfile { runs: vec![run("DONE"), run("")], ..JourneyProfile::default() };
        assert_eq!(holding(Role::Orchestrator, b'p', &journey).len(), 1);
        for (phase, open) in [(DispatchPhase::Retry, 1), (DispatchPhase::InDoubt, 1), (DispatchPhase::Done, 0)] {
            let dispatch = DispatchState { phase: phase.into(), dispatch: Some(Dispatch::default()), ..DispatchState::default() };
            assert_eq!(holding(Role::Sender, b'd', &dispatch).len(), open, "{phase:?}");
        }
    }
}
