//! What went out, and what is said of it (PROTOCOL §11).

use prost::Message as _;
use waypost_codec::{state, stored};
use waypost_types::{DispatchId, Role};

use super::{Partitions, Wrong};
use crate::world::World;

/// Marketing goes out once at most, and nobody knows nothing without a reason.
pub(super) fn calls(world: &mut World, folded: &Partitions) -> Result<(), Wrong> {
    let sent = world.provider.sent();
    let (calls, _) = world.provider.calls();
    world.tally.calls += calls;
    if let Some((dispatch, count)) = sent.iter().find(|(_, count)| **count > 1) {
        return Err(format!("provider count: dispatch {dispatch} went out {count} times"));
    }
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Sender) {
        for (entity, bytes) in meaning.entities.iter().filter(|(entity, _)| entity.kind() == b'd') {
            let (_, body) = stored::open(bytes).map_err(|e| format!("{id}: {e}"))?;
            let dispatch = state::DispatchState::decode(body).map_err(|e| e.to_string())?;
            let name = DispatchId::from_slice(entity.key()).map_err(|e| e.to_string())?.to_string();
            let count = sent.get(&name).copied().unwrap_or(0);
            world.tally.raced += u64::from(dispatch.raced && count > 0);
            let phase = dispatch.phase();
            let fits = match phase {
                state::DispatchPhase::Done => count == 1,
                state::DispatchPhase::Stopped | state::DispatchPhase::Failed => count == 0,
                state::DispatchPhase::Unknown => true,
                state::DispatchPhase::Unspecified
                | state::DispatchPhase::Ready
                | state::DispatchPhase::Inflight
                | state::DispatchPhase::InDoubt
                | state::DispatchPhase::Retry => return Err(format!("dispatch {name} is {} at rest", phase.as_str_name())),
            };
            if !fits {
                return Err(format!("dispatch {name} is {} and went out {count} times", phase.as_str_name()));
            }
            if phase == state::DispatchPhase::Unknown {
                world.tally.unknowns += 1;
                if !world.something_hid_an_answer() {
                    return Err(format!("dispatch {name} is unknown, and nothing was broken"));
                }
            }
        }
    }
    Ok(())
}
