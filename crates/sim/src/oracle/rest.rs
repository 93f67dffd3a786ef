//! What a world at rest looks like, whatever it has been through (PROTOCOL §16.3, 4).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use waypost_codec::{
    inbox::IdentityEvent,
    kind,
    state::{IdentifierState, JourneyProfile, Node, SegmentProfile},
    stored,
};
use waypost_engine::identity::Limits;
use waypost_types::{IdentifierClass, PartitionId, Role};

use super::{Partitions, Wrong};
use crate::world::World;

/// The identity graph and the profiles, as all partitions together have them.
///
/// # Errors
/// A cycle, strangers in one person, one person in two, two user ids, or a tombstone with something in it.
pub(super) fn rests(world: &mut World, folded: &Partitions) -> Result<(), Wrong> {
    let mut nodes: BTreeMap<Bytes, Node> = BTreeMap::new();
    for (id, meaning) in folded {
        for (entity, bytes) in &meaning.entities {
            match (id.role, entity.kind()) {
                (Role::Identity, b'i') => {
                    let state: IdentifierState = open(*id, bytes)?;
                    nodes.extend(state.generations.into_iter().map(|node| (node.id.clone(), node)));
                }
                (Role::Segmenter, b'p') => empty_tombstone(*id, &open(*id, bytes)?)?,
                (Role::Orchestrator, b'p') => empty_journeys(*id, &open(*id, bytes)?)?,
                _ => {}
            }
        }
    }
    let (together, names) = seen_together(folded)?;
    components(world, &nodes, &together, &names)
}

pub(super) fn open<M: Message + Default>(id: PartitionId, bytes: &Bytes) -> Result<M, Wrong> {
    let (_, body) = stored::open(bytes).map_err(|e| format!("{id}: {e}"))?;
    M::decode(body).map_err(|e| format!("{id}: {e}"))
}

fn empty_tombstone(id: PartitionId, profile: &SegmentProfile) -> Result<(), Wrong> {
    let left = profile.person.is_some() || profile.events > 0;
    if !profile.moved_to.is_empty() && left { Err(format!("{id}: a tombstone is not empty")) } else { Ok(()) }
}

fn empty_journeys(id: PartitionId, profile: &JourneyProfile) -> Result<(), Wrong> {
    let left = profile.person.is_some() || !profile.runs.is_empty() || !profile.sends.is_empty();
    if !profile.moved_to.is_empty() && left { Err(format!("{id}: a tombstone is not empty")) } else { Ok(()) }
}

/// Identifiers (hash) that an event named together, and the names of custom ones.
#[expect(clippy::type_complexity, reason = "two collections of one reading; a struct of these would be made for this call only")]
fn seen_together(folded: &Partitions) -> Result<(Vec<(Bytes, Bytes)>, BTreeMap<Bytes, String>), Wrong> {
    let (mut pairs, mut names) = (Vec::new(), BTreeMap::new());
    for (_, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Identity) {
        for accepted in meaning.accepted.iter().filter(|a| a.record.kind == kind::EVENT && !a.aside) {
            let event = IdentityEvent::decode(accepted.record.body.clone()).map_err(|e| e.to_string())?;
            let first = event.identifiers.first().map(|node| node.hash.clone()).unwrap_or_default();
            names.extend(event.identifiers.iter().map(|node| (node.hash.clone(), node.custom.clone())));
            pairs.extend(event.identifiers.into_iter().skip(1).map(|node| (first.clone(), node.hash)));
        }
    }
    Ok((pairs, names))
}

/// Whose root each is, following parents.
fn root_of(nodes: &BTreeMap<Bytes, Node>, node: &Node) -> Result<Bytes, Wrong> {
    let mut at = node;
    for _ in 0..=nodes.len() {
        if at.parent == at.id {
            return Ok(at.id.clone());
        }
        at = nodes.get(&at.parent).ok_or("a node's parent does not exist")?;
    }
    Err(format!("a cycle of nodes, from {}", hex::encode(&node.id)))
}

/// Identifiers as linked by the events alone: each leads on to another of its component.
#[derive(Debug, Default)]
struct Linked(BTreeMap<Bytes, Bytes>);

impl Linked {
    fn new(together: &[(Bytes, Bytes)]) -> Self {
        let mut linked = Self::default();
        for (a, b) in together {
            let (a, b) = (linked.component(a), linked.component(b));
            linked.0.insert(a, b.clone());
            linked.0.entry(b.clone()).or_insert(b);
        }
        linked
    }

    fn component(&self, hash: &Bytes) -> Bytes {
        let mut at = hash;
        while let Some(above) = self.0.get(at).filter(|above| *above != at) {
            at = above;
        }
        at.clone()
    }
}

/// What the nodes of one component, as linked by events, have come to.
#[derive(Debug, Default)]
struct Component {
    roots: BTreeSet<Bytes>,
    users: BTreeSet<Bytes>,
    /// Class, name of a custom one, and hash.
    identifiers: BTreeSet<(u8, String, Bytes)>,
    /// Some node of it is gone, shared or detached, so that halves may be apart for good.
    apart: bool,
    nodes: usize,
}

// === impl Component ===

impl Component {
    /// Whether all of it may be one person, so that nothing was refused.
    fn fits(&self, limits: Limits) -> bool {
        let most = |class: u8| limits.by_class.get(usize::from(class) - 1).copied().unwrap_or_default() as usize;
        let alike = |(class, name, _): &(u8, String, Bytes)| {
            let same = |other: &&(u8, String, Bytes)| other.0 == *class && other.1 == *name;
            self.identifiers.iter().filter(same).count() <= most(*class)
        };
        self.identifiers.iter().all(alike) && self.identifiers.len() <= limits.identifiers as usize
    }
}

fn components(
    world: &mut World,
    nodes: &BTreeMap<Bytes, Node>,
    together: &[(Bytes, Bytes)],
    names: &BTreeMap<Bytes, String>,
) -> Result<(), Wrong> {
    let linked = Linked::new(together);
    let mut people: BTreeMap<Bytes, (BTreeSet<Bytes>, BTreeSet<Bytes>)> = BTreeMap::new();
    let mut components: BTreeMap<Bytes, Component> = BTreeMap::new();
    for node in nodes.values() {
        let root = root_of(nodes, node)?;
        let hash = Bytes::copy_from_slice(node.id.get(1..17).ok_or("a short node id")?);
        let name = linked.component(&hash);
        let (of, users) = people.entry(root.clone()).or_default();
        of.insert(name.clone());
        let component = components.entry(name).or_default();
        component.apart |= node.gone || node.shared;
        component.nodes += 1;
        component.identifiers.insert((node.id[0], names.get(&hash).cloned().unwrap_or_default(), hash.clone()));
        component.roots.insert(root);
        if node.id.first() == Some(&(IdentifierClass::UserId as u8)) {
            component.users.insert(hash.clone());
            users.insert(hash);
        }
    }
    for (root, (of, users)) in &people {
        let person = hex::encode(&root[..4]);
        if of.len() > 1 {
            return Err(format!("person {person} has identifiers that were never seen together"));
        }
        if users.len() > 1 {
            return Err(format!("person {person} has two user ids"));
        }
    }
    // With two user ids the halves stay apart, and which half an identifier is in depends on who came first.
    let is_apart = |component: &Component| component.apart || component.nodes > component.identifiers.len();
    let limits = world.roles.limits;
    let in_parts = components.values().filter(|component| component.roots.len() > 1 && !is_apart(component));
    let (two_users, others): (Vec<_>, Vec<_>) = in_parts.partition(|component| component.users.len() > 1);
    world.tally.two_users += two_users.len() as u64;
    world.tally.limited += others.iter().filter(|component| !component.fits(limits)).count() as u64;
    match others.into_iter().find(|component| component.fits(limits)) {
        Some(component) => Err(format!("identifiers that were seen together are {} people", component.roots.len())),
        None => Ok(()),
    }
}
