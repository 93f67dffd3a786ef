//! Journeys that are paused and killed (PRODUCT §7.9, 14), told from the logs and from what was said beside each set.
//!
//! Behind the place where a partition's log pauses a journey nobody enters it there and nothing of it is sent, until the log says
//! otherwise; behind one that kills it the same for good, and every run of it ends with the next thing that comes to its person.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{Attempt, DefActivate, Dispatch},
    kind,
    state::JourneyProfile,
};
use waypost_types::{DispatchId, PartitionId, Position, Role};

use super::{
    Partitions, Wrong,
    decided::{Decided, decided},
    rest::open,
    stops::send_of,
};
use crate::{
    naive::{Accepted, Folded},
    shop::held::{Held, Says},
    world::World,
};

/// Why a paused journey refuses, and lets wait.
const PAUSED: &str = "JOURNEY_PAUSED";
/// How a run ends whose journey was killed.
const KILLED: &str = "KILLED";

/// Which set is in force where, in one log.
struct Sets<'a> {
    held: &'a Held,
    /// From behind this place on, this set.
    changes: Vec<(Position, u64)>,
}

// === impl Sets ===

impl<'a> Sets<'a> {
    fn of(held: &'a Held, accepted: &[Accepted]) -> Result<Self, Wrong> {
        let mut changes: Vec<(Position, u64)> = Vec::new();
        for accepted in accepted.iter().filter(|a| a.record.kind == kind::DEF_ACTIVATE && !a.aside) {
            let set = DefActivate::decode(accepted.record.body.clone()).map_err(|e| e.to_string())?.set;
            // One that comes late changes nothing.
            if changes.last().is_none_or(|(_, present)| set > *present) {
                changes.push((accepted.position, set));
            }
        }
        Ok(Self { held, changes })
    }

    /// What is in force for a record at this place.
    fn at(&self, place: Position, journey: &str) -> Says {
        let set = self.changes.iter().take_while(|(since, _)| *since < place).last();
        set.map_or_else(Says::default, |(_, set)| self.held.says(*set, journey))
    }

    /// From where on a version is killed.
    fn killed_from(&self, journey: &str, version: u32) -> Option<Position> {
        let change = self.changes.iter().find(|(_, set)| self.held.says(*set, journey).has_killed(version));
        change.map(|(since, _)| *since)
    }
}

/// Nothing is decided, or called for, that a pause or a kill stands in the way of; and nothing is held that is not.
pub(super) fn held(world: &mut World, folded: &Partitions) -> Result<(), Wrong> {
    let Some(held) = world.held else { return Ok(()) };
    for (id, meaning) in folded {
        let sets = Sets::of(held, &meaning.accepted)?;
        match id.role {
            Role::Orchestrator => {
                nothing_is_sent(*id, meaning, &sets)?;
                let decisions = decided(*id, meaning)?;
                nobody_enters(world, *id, &decisions, &sets)?;
                runs_end(*id, meaning, &decisions, &sets)?;
            }
            Role::Sender => nothing_is_called_for(world, *id, meaning, &sets)?,
            Role::Ingest | Role::Identity | Role::Segmenter | Role::Control => {}
        }
    }
    Ok(())
}

fn nothing_is_sent(id: PartitionId, meaning: &Folded, sets: &Sets<'_>) -> Result<(), Wrong> {
    for (place, at, dispatch) in meaning.put_out.values().flatten().filter_map(send_of) {
        let says = sets.at(place, &dispatch.journey);
        let what =
            || format!("{id}: {} {} at {at}, version {}, decided at {place}", dispatch.journey, dispatch.step, dispatch.journey_version);
        if says.paused {
            return Err(format!("a send of a paused journey: {}", what()));
        }
        if says.has_killed(dispatch.journey_version) {
            return Err(format!("a send of a killed journey: {}", what()));
        }
    }
    Ok(())
}

fn nobody_enters(world: &mut World, id: PartitionId, decisions: &[Decided], sets: &Sets<'_>) -> Result<(), Wrong> {
    for decided in decisions {
        let row = &decided.row;
        let says = sets.at(decided.at, &row.journey);
        let what = || format!("{id}: {} {} at {}, decided at {}", row.journey, row.key, row.at, decided.at);
        let killed = says.has_killed(row.version);
        match (row.what.as_str(), row.reason.as_str()) {
            ("ENTERED", _) if says.paused => return Err(format!("an entry of a paused journey: {}", what())),
            ("ENTERED", _) if killed => return Err(format!("an entry of a killed journey: {}", what())),
            ("REFUSED" | "DEFERRED" | "STOPPED", PAUSED) if !says.paused => return Err(format!("held as if paused: {}", what())),
            ("EXITED", KILLED) if !killed => return Err(format!("ended as if killed: {}", what())),
            ("REFUSED", PAUSED) => world.tally.did("entries refused"),
            ("DEFERRED", PAUSED) => world.tally.did("sends that waited"),
            ("STOPPED", PAUSED) => world.tally.did("sends stopped"),
            ("EXITED", KILLED) => world.tally.did("runs killed"),
            _ => {}
        }
    }
    Ok(())
}

/// With the first that comes to somebody behind the kill, the runs of it are over; at rest none is left of whom anything came to.
fn runs_end(id: PartitionId, meaning: &Folded, decisions: &[Decided], sets: &Sets<'_>) -> Result<(), Wrong> {
    let mut came: BTreeMap<&Bytes, Vec<Position>> = BTreeMap::new();
    for accepted in meaning.accepted.iter().filter(|accepted| !accepted.aside) {
        if matches!(accepted.record.kind, kind::JOURNEY_ITEM | kind::JOURNEY_RUN_ITEM | kind::JOURNEY_MERGE_STATE) {
            came.entry(&accepted.record.key).or_default().push(accepted.position);
        }
    }
    let behind = |profile: &Bytes, since: Position| came.get(profile)?.iter().copied().find(|at| *at > since);
    for entered in decisions.iter().filter(|decided| decided.row.what == "ENTERED") {
        let row = &entered.row;
        let Some(next) = sets.killed_from(&row.journey, row.version).and_then(|since| behind(&entered.profile, since)) else { continue };
        let is_end = |d: &&Decided| d.row.what == "EXITED" && d.row.run == row.run && d.at <= next;
        if !decisions.iter().any(|decided| is_end(&decided)) {
            return Err(format!("a run of a killed journey goes on: {id} at {next}: {} {}", row.journey, row.key));
        }
    }
    for (entity, bytes) in meaning.entities.iter().filter(|(entity, _)| entity.kind() == b'p') {
        let profile: JourneyProfile = open(id, bytes)?;
        for run in profile.runs.iter().filter(|run| run.exit_reason.is_empty()) {
            let since = sets.killed_from(&run.journey, run.version);
            if since.is_some_and(|since| behind(&Bytes::copy_from_slice(entity.key()), since).is_some()) {
                let who = hex::encode(&entity.key()[..4]);
                return Err(format!("a run of a killed journey is left: {id}: {} {} of {who}", run.journey, run.key));
            }
        }
    }
    Ok(())
}

/// What was queued when its journey was killed is stopped at the address: whatever went out was attempted before.
fn nothing_is_called_for(world: &mut World, id: PartitionId, meaning: &Folded, sets: &Sets<'_>) -> Result<(), Wrong> {
    let unreadable = |e: prost::DecodeError| format!("{id}: {e}");
    let mut messages: BTreeMap<Bytes, (Dispatch, bool, bool)> = BTreeMap::new();
    for accepted in meaning.accepted.iter().filter(|accepted| !accepted.aside) {
        let body = accepted.record.body.clone();
        if accepted.record.kind == kind::DISPATCH {
            let dispatch = Dispatch::decode(body).map_err(unreadable)?;
            messages.entry(dispatch.dispatch.clone()).or_insert((dispatch, false, false));
        } else if accepted.record.kind == kind::ATTEMPT
            && let Some((dispatch, ahead, behind)) = messages.get_mut(&Attempt::decode(body).map_err(unreadable)?.dispatch)
        {
            let killed = sets.at(accepted.position, &dispatch.journey).has_killed(dispatch.journey_version);
            *(if killed { behind } else { ahead }) = true;
        }
    }
    let done = world.provider.done();
    for (dispatch, (message, ahead, behind)) in messages {
        let name = DispatchId::from_slice(&dispatch).map_err(|e| e.to_string())?.to_string();
        if !ahead && behind {
            world.tally.did("messages behind a kill");
        }
        if !ahead && done.get(&name).is_some_and(|done| done.sent > 0) {
            return Err(format!("a message of a killed journey went out: {id}: {} {}, dispatch {name}", message.journey, message.step));
        }
    }
    Ok(())
}
