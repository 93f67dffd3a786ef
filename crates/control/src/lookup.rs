//! Finding a person: from an identifier through the identity graph and past joined profiles to the live one.
//!
//! Every step asks the owner of one partition for the stored bytes of one entity; nothing enters a fold.

use waypost_codec::{state, stored};
use waypost_runtime::ports::{Owners, OwnersError};
use waypost_types::{EntityId, IdentifierHash, Layout, Node, PartitionId, ProfileId, Role, Timestamp, WorkspaceId};

/// Joined profiles to follow at most; chains end because parents only rise, and they are short.
const HOPS_MAX: usize = 16;

/// A person as the two roles that keep her know her.
#[derive(Clone, Debug)]
pub struct Found {
    /// The live profile.
    pub profile: ProfileId,
    /// Profiles on the way that were joined into it.
    pub joined_from: Vec<ProfileId>,
    /// The segmenter's state.
    pub segment: Option<state::SegmentProfile>,
    /// Offset it is as of.
    pub segment_offset: u64,
    /// The orchestrator's state.
    pub journey: Option<state::JourneyProfile>,
    /// Offset it is as of.
    pub journey_offset: u64,
}

/// Why nobody was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No event ever carried that identifier.
    #[error("no profile has this identifier")]
    Unknown,
    /// Somebody was, and was erased or let expire.
    #[error("the person with this identifier was forgotten at {0}; whoever brings it again is somebody new")]
    Forgotten(Timestamp),
    /// The person has been wiped, and the identifier does not know it yet: what comes under it now still goes to her, and falls.
    #[error("the person with this identifier is being forgotten since {0}, and what comes under it still falls: ask again in a moment")]
    BeingForgotten(Timestamp),
    /// Its owner does not answer.
    #[error(transparent)]
    Owners(#[from] OwnersError),
    /// Stored bytes that cannot be read.
    #[error("stored state cannot be read: {0}")]
    Stored(String),
}

/// What is kept of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nobody ever came under this identifier.
    Nothing,
    /// Something.
    Something(ProfileId),
    /// The mark that somebody was erased, with every stage, and nothing else.
    Mark(ProfileId),
}

/// What identity, segmenter and orchestrator keep of whoever came last under an identifier that was never joined to another.
///
/// # Errors
/// [`LookupError`].
pub async fn kept(owners: &dyn Owners, layout: Layout, workspace: WorkspaceId, hash: IdentifierHash) -> Result<Kept, LookupError> {
    let state = identifier(owners, layout, workspace, hash).await?;
    let Some(node) = state.as_ref().and_then(|state| state.generations.last()) else { return Ok(Kept::Nothing) };
    let profile = Node::from_slice(&node.route).map_err(|e| LookupError::Stored(e.to_string()))?.profile();
    if !node.gone {
        return Ok(Kept::Something(profile));
    }
    let (segment, _) = read::<state::SegmentProfile>(owners, layout, workspace, Role::Segmenter, profile).await?;
    let (journey, _) = read::<state::JourneyProfile>(owners, layout, workspace, Role::Orchestrator, profile).await?;
    let is_erased = segment.is_none_or(|state| state.erased) && journey.is_none_or(|state| state.erased);
    Ok(if is_erased { Kept::Mark(profile) } else { Kept::Something(profile) })
}

/// The profile an identifier leads to.
///
/// # Errors
/// [`LookupError`].
pub(crate) async fn by_identifier(
    owners: &dyn Owners,
    layout: Layout,
    workspace: WorkspaceId,
    hash: IdentifierHash,
) -> Result<Found, LookupError> {
    let state = identifier(owners, layout, workspace, hash).await?.ok_or(LookupError::Unknown)?;
    let node = state.generations.last().ok_or(LookupError::Unknown)?;
    let route = Node::from_slice(&node.route).map_err(|e| LookupError::Stored(e.to_string()))?;
    match by_profile(owners, layout, workspace, route.profile()).await {
        Err(LookupError::Forgotten(since)) if !node.gone => Err(LookupError::BeingForgotten(since)),
        found => found,
    }
}

/// What identity keeps of an identifier.
///
/// # Errors
/// [`LookupError`].
pub(crate) async fn identifier(
    owners: &dyn Owners,
    layout: Layout,
    workspace: WorkspaceId,
    hash: IdentifierHash,
) -> Result<Option<state::IdentifierState>, LookupError> {
    let entity = EntityId::new(workspace, b'i', hash.as_bytes());
    let partition = PartitionId { role: Role::Identity, index: layout.partition(workspace, hash.as_bytes()) };
    let (bytes, _) = owners.read(partition, entity).await?;
    bytes.as_ref().map(decode).transpose()
}

/// The live profile that a profile id leads to.
///
/// # Errors
/// [`LookupError`].
pub(crate) async fn by_profile(
    owners: &dyn Owners,
    layout: Layout,
    workspace: WorkspaceId,
    start: ProfileId,
) -> Result<Found, LookupError> {
    let mut profile = start;
    let mut joined_from = Vec::new();
    for _ in 0..HOPS_MAX {
        let (segment, segment_offset) = read::<state::SegmentProfile>(owners, layout, workspace, Role::Segmenter, profile).await?;
        if let Some(moved) = segment.as_ref().filter(|s| !s.moved_to.is_empty()) {
            joined_from.push(profile);
            profile = ProfileId::from_slice(&moved.moved_to).map_err(|e| LookupError::Stored(e.to_string()))?;
            continue;
        }
        if let Some(mark) = segment.as_ref().filter(|s| s.erased) {
            return Err(LookupError::Forgotten(Timestamp::from_millis(mark.erased_at)));
        }
        let (journey, journey_offset) = read::<state::JourneyProfile>(owners, layout, workspace, Role::Orchestrator, profile).await?;
        if segment.is_none() && journey.is_none() {
            return Err(LookupError::Unknown);
        }
        return Ok(Found { profile, joined_from, segment, segment_offset, journey, journey_offset });
    }
    Err(LookupError::Stored(format!("more than {HOPS_MAX} joined profiles in a chain")))
}

/// What the sender keeps of an address (`a`) or of a message to it (`d`); it stands where the address's key says.
///
/// # Errors
/// [`LookupError`].
pub(crate) async fn at_sender<S: prost::Message + Default>(
    owners: &dyn Owners,
    layout: Layout,
    workspace: WorkspaceId,
    kind: u8,
    id: &[u8],
    key: &[u8; 16],
) -> Result<Option<S>, LookupError> {
    let partition = PartitionId { role: Role::Sender, index: layout.partition(workspace, key) };
    let (bytes, _) = owners.read(partition, EntityId::new(workspace, kind, id)).await?;
    bytes.as_ref().map(decode).transpose()
}

async fn read<S: prost::Message + Default>(
    owners: &dyn Owners,
    layout: Layout,
    workspace: WorkspaceId,
    role: Role,
    profile: ProfileId,
) -> Result<(Option<S>, u64), LookupError> {
    let entity = EntityId::new(workspace, b'p', profile.as_bytes());
    let partition = PartitionId { role, index: layout.partition(workspace, profile.as_bytes()) };
    let (bytes, offset) = owners.read(partition, entity).await?;
    Ok((bytes.as_ref().map(decode).transpose()?, offset))
}

fn decode<S: prost::Message + Default>(bytes: &bytes::Bytes) -> Result<S, LookupError> {
    let (_, body) = stored::open(bytes).map_err(|e| LookupError::Stored(e.to_string()))?;
    S::decode(body).map_err(|e| LookupError::Stored(e.to_string()))
}
