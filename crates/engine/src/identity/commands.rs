//! What is said about an identifier as a whole (PROTOCOL §10.7): erase, expire, detach, shared; and about its person's runs.

use waypost_codec::{
    inbox::{Detach, Erase, Expire, NodeRef, RunCommand, Shared, segment_item::Body},
    state::IdentifierState,
};

use super::{Effect, Here, IdentityError, Refusal, nodes, road, window};

/// Forgets the person behind the identifier: an item like its events, so it stands behind them all.
/// An identifier that nobody has seen has no person; nothing happens.
pub fn erase(state: &mut IdentifierState, here: &Here, erase: &Erase) -> Result<Vec<Effect>, IdentityError> {
    forget(state, here, erase.node.as_ref(), erase.suppress)
}

/// The same without suppression of the addresses.
pub fn expire(state: &mut IdentifierState, here: &Here, expire: &Expire) -> Result<Vec<Effect>, IdentityError> {
    forget(state, here, expire.node.as_ref(), false)
}

fn forget(state: &mut IdentifierState, here: &Here, node: Option<&NodeRef>, suppress: bool) -> Result<Vec<Effect>, IdentityError> {
    let Some(at) = named(state, node)? else { return Ok(Vec::new()) };
    let node = nodes::reference(&nodes::stored(&state.generations[at].id)?);
    Ok(road::route(state, here, at, Body::Erase(Erase { node: Some(node), suppress })))
}

/// Begins or ends runs of the person behind the identifier: an item like its events, so it stands behind them all. Who asked may
/// ask again with the same record, not knowing whether the first arrived: as of an event it counts once in the window.
pub fn run_command(state: &mut IdentifierState, here: &Here, command: &RunCommand) -> Result<Vec<Effect>, IdentityError> {
    let Some(at) = named(state, command.node.as_ref())? else { return Ok(Vec::new()) };
    if here.rules.window && !window::admit(state, here.now, &here.record, here.limits.seen) {
        return Ok(Vec::new());
    }
    let node = nodes::reference(&nodes::stored(&state.generations[at].id)?);
    Ok(road::route(state, here, at, Body::Command(RunCommand { node: Some(node), what: command.what.clone() })))
}

/// A new, empty life from now on; the old node stays as a road for what still comes to it.
pub fn detach(state: &mut IdentifierState, here: &Here, detach: &Detach) -> Result<Vec<Effect>, IdentityError> {
    renew(state, here, detach.node.as_ref(), false)
}

/// Two user ids claim it: from now on it is nobody's and links to nobody.
pub fn shared(state: &mut IdentifierState, here: &Here, shared: &Shared) -> Result<Vec<Effect>, IdentityError> {
    renew(state, here, shared.node.as_ref(), true)
}

fn renew(state: &mut IdentifierState, here: &Here, node: Option<&NodeRef>, share: bool) -> Result<Vec<Effect>, IdentityError> {
    let Some(at) = named(state, node)? else { return Ok(Vec::new()) };
    let is_current = at + 1 == state.generations.len();
    let old = &mut state.generations[at];
    if !is_current || share && old.shared {
        return Ok(Vec::new());
    }
    if nodes::is_fresh(old) {
        old.shared |= share;
        return Ok(Vec::new());
    }
    let (was, id) = (old.shared, nodes::stored(&old.id)?);
    if state.generations.len() >= here.limits.generations && !nodes::forget_oldest_gone(state) {
        return Ok(vec![Effect::Refused(Refusal::IdentityLimit)]);
    }
    let new = nodes::begin(state, here, id.class, id.hash);
    state.generations[new].shared = share || was;
    Ok(Vec::new())
}

/// The live node that a command means: the current one where no generation is named.
fn named(state: &IdentifierState, node: Option<&NodeRef>) -> Result<Option<usize>, IdentityError> {
    let node = node.ok_or(IdentityError::Malformed("a command without identifier"))?;
    let (_, _, generation) = nodes::parts(node)?;
    if generation.is_none() {
        return Ok(nodes::last_live(state));
    }
    Ok(nodes::known(state, node).ok().filter(|at| !state.generations[*at].gone))
}
