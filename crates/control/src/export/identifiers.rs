//! What identity holds: the identifiers that lead to a person, each with its lives that are this person's.
//!
//! Identity knows hashes, not values: those stand among addresses and fields, and in what waits here.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use serde_json::{Value as Json, json};
use waypost_codec::{inbox, state};
use waypost_runtime::ports::Owners;
use waypost_types::{Currency, IdentifierClass, IdentifierHash, Layout, Node, ProfileId, WorkspaceId};

use super::{event, instant};
use crate::lookup::{self, Found, LookupError};

/// Identifiers that are looked at; a person has 100 at most, and some more where people were joined.
const IDENTIFIERS_MAX: usize = 1_000;

/// The identifiers of a person.
#[derive(Debug, Default)]
pub(crate) struct Identified {
    states: BTreeMap<IdentifierHash, state::IdentifierState>,
    profiles: BTreeSet<Vec<u8>>,
}

/// Asks identity for every identifier that the stored states name, and for those that these are linked to.
///
/// # Errors
/// [`LookupError`]; a document that lacks an identifier is none.
pub(crate) async fn identified(
    owners: &dyn Owners,
    layout: Layout,
    workspace: WorkspaceId,
    found: &Found,
) -> Result<Identified, LookupError> {
    let mut identified = Identified { profiles: profiles(found), ..Identified::default() };
    let mut waiting: BTreeSet<IdentifierHash> = nodes(found).filter_map(|node| hash_of(&node)).collect();
    let mut looked_at = BTreeSet::new();
    while let Some(hash) = waiting.pop_first() {
        if !looked_at.insert(hash) {
            continue;
        }
        if looked_at.len() > IDENTIFIERS_MAX {
            return Err(LookupError::Stored(format!("more than {IDENTIFIERS_MAX} identifiers lead to this person")));
        }
        let Some(state) = lookup::identifier(owners, layout, workspace, hash).await? else { continue };
        let known = state.generations.iter().filter(|node| identified.is_of(node)).flat_map(|node| &node.known);
        let known: Vec<_> = known.filter_map(linked).collect();
        waiting.extend(known.into_iter().filter(|hash| !looked_at.contains(hash)));
        identified.states.insert(hash, state);
    }
    Ok(identified)
}

// === impl Identified ===

impl Identified {
    /// Whether a life of an identifier is this person's: after a detach an identifier has lives of several.
    fn is_of(&self, node: &state::Node) -> bool {
        self.is_called(&node.route) || self.is_called(&node.id)
    }

    /// Whether a profile is this person, or was joined into her.
    pub(super) fn is_called(&self, profile: &[u8]) -> bool {
        self.profiles.contains(profile)
    }

    /// Its part of the document.
    pub(super) fn document(&self, currency: Currency) -> Json {
        let all = self.states.iter().filter_map(|(hash, state)| {
            // Times and hashes of message ids say nothing of what was in them, and may be of another life.
            let state::IdentifierState { class, generations, seen: _, now, held, custom, seen_at: _, seen_hash: _ } = state;
            let lives: Vec<_> = generations.iter().filter(|node| self.is_of(node)).collect();
            let is_of = |item: &&state::HeldItem| lives.iter().any(|node| node.id == item.node);
            let waiting: Vec<_> = held.iter().filter(is_of).map(|item| held_item(item, currency)).collect();
            let lives: Vec<_> = lives.iter().map(|node| life(node)).collect();
            (!lives.is_empty()).then(|| {
                json!({
                    "class": class_name(*class), "custom": custom, "hash": hash.to_string(), "updatedAt": instant(*now), "lives": lives,
                    "waiting": waiting,
                })
            })
        });
        all.collect()
    }
}

/// Profiles that were this person, and the nodes that sent something to them.
fn profiles(found: &Found) -> BTreeSet<Vec<u8>> {
    nodes(found).collect()
}

fn nodes(found: &Found) -> impl Iterator<Item = Vec<u8>> {
    let own = std::iter::once(found.profile.as_bytes().to_vec()).chain(found.joined_from.iter().map(|p| p.as_bytes().to_vec()));
    let segment = found.segment.iter().flat_map(|s| s.ids.iter().chain(&s.losers).chain(&s.draining));
    let journey = found.journey.iter().flat_map(|j| j.ids.iter().chain(&j.losers).chain(&j.draining));
    let stored: Vec<_> = segment.chain(journey).map(|bytes| bytes.to_vec()).collect();
    own.chain(stored)
}

/// A profile's id is a node's, and begins with its identifier's class and hash.
fn hash_of(node: &[u8]) -> Option<IdentifierHash> {
    ProfileId::from_slice(node).ok().and_then(|id| IdentifierHash::from_slice(&id.as_bytes()[1..17]).ok())
}

fn linked(bytes: &bytes::Bytes) -> Option<IdentifierHash> {
    let node = inbox::NodeRef::decode(bytes.clone()).ok()?;
    IdentifierHash::from_slice(&node.hash).ok()
}

fn life(node: &state::Node) -> Json {
    // What it counts of its component, and whether it has sent something, is how identity works and nothing of the person.
    let state::Node { id, parent, route, known, flush_no: _, holding, gone, shared, size, user, counts: _, sent: _, custom_counts: _ } =
        node;
    let name = |bytes: &[u8]| Node::from_slice(bytes).map_or(Json::Null, |node| json!(node.profile().to_string()));
    let linked: Vec<_> = known.iter().filter_map(linked).map(|hash| hash.to_string()).collect();
    json!({
        "node": name(id), "parent": name(parent), "profile": name(route), "linkedTo": linked, "isJoining": holding, "isGone": gone,
        "isShared": shared, "identifiers": size, "userId": super::id(user),
    })
}

/// What waits until its person's joining is done.
fn held_item(held: &state::HeldItem, currency: Currency) -> Json {
    let state::HeldItem { item, id, at, node: _ } = held;
    let sent = item.as_ref().and_then(|item| match item.body.as_ref()? {
        inbox::segment_item::Body::Event(bytes) => inbox::Event::decode(bytes.clone()).ok().map(|sent| event(&sent, currency)),
        inbox::segment_item::Body::Receipt(receipt) => Some(json!({
            "receiptOf": super::id(&receipt.dispatch), "journey": receipt.journey, "step": receipt.step, "channel": receipt.channel,
            "outcome": super::word(receipt.outcome().as_str_name(), "OUTCOME_"), "reason": receipt.reason,
        })),
        inbox::segment_item::Body::Command(command) => Some(json!({
            "command": match &command.what {
                Some(inbox::run_command::What::Start(start)) => json!({"start": start.journey, "key": start.key}),
                Some(inbox::run_command::What::Cancel(cancel)) => json!({"cancel": cancel.journey, "run": super::id(&cancel.run)}),
                None => Json::Null,
            },
        })),
        inbox::segment_item::Body::Settled(_) | inbox::segment_item::Body::Erase(_) => None,
    });
    json!({"record": super::id(id), "at": instant(*at), "content": sent})
}

/// An identifier with its value, as an event carried it.
pub(super) fn named(identifier: &inbox::Identifier) -> Json {
    let inbox::Identifier { class, custom, value, hash } = identifier;
    json!({"class": class_name(*class), "custom": custom, "value": value, "hash": super::id(hash)})
}

fn class_name(number: u32) -> Json {
    let class = IdentifierClass::ALL.into_iter().find(|class| class.number() == number);
    class.map_or(Json::Null, |class| json!(class.as_str()))
}
