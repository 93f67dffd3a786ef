//! A person's timers and records are decided in the order of their times, however late (PROTOCOL §8.4): a reminder
//! that was due, and might have gone, does not let a later record of the same person go first.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{inbox, kind};
use waypost_types::{Position, Role, Timestamp};

use super::{
    Partitions, Wrong,
    commanded::start_of,
    stops::{event_of, send_of, text_of},
};
use crate::{
    naive::{Accepted, Folded},
    world::World,
};

/// A record of a profile, and up to which due its absent timers might fire before it.
struct Met {
    position: Position,
    at: Timestamp,
    might: Timestamp,
}

/// Told of pledges, whose reminders are set once and never again. Profiles that were joined are left out: there,
/// timers arrive.
///
/// # Errors
/// A reminder behind a later record.
pub(super) fn timers_before_what_came_later(world: &World, folded: &Partitions) -> Result<(), Wrong> {
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Orchestrator) {
        for (cause, due, dispatch) in meaning.put_out.values().flatten().filter_map(send_of).filter(|(.., d)| d.journey == "pledge") {
            let met = met(world, meaning, &dispatch.profile);
            let made = made(meaning, &dispatch.run_key, cause);
            let late = met.iter().find(|met| made < Some(met.position) && met.position < cause && due < met.at && due <= met.might);
            if let Some(Met { position, at, .. }) = late {
                return Err(format!("{id}: a reminder due at {due} fired behind a later record, {position} of {at}"));
            }
        }
    }
    Ok(())
}

/// All records of a profile that was never joined.
fn met(world: &World, meaning: &Folded, profile: &Bytes) -> Vec<Met> {
    let (mut clk, mut wm, mut met) = (Timestamp::ZERO, Timestamp::ZERO, Vec::new());
    // What is set aside is decided by nobody.
    for accepted in meaning.accepted.iter().filter(|accepted| !accepted.aside) {
        let record = &accepted.record;
        match record.kind {
            kind::TICK => {
                let now = inbox::Tick::decode(record.body.clone()).map_or(0, |tick| tick.now);
                clk = clk.max(accepted.appended.min(Timestamp::from_millis(now)));
            }
            kind::MARK => wm = wm.max(Timestamp::from_millis(inbox::Mark::decode(record.body.clone()).map_or(0, |mark| mark.wm))),
            kind::JOURNEY_MERGE_BEGIN | kind::JOURNEY_MERGE_STATE if record.key == *profile => return Vec::new(),
            kind::JOURNEY_ITEM if record.key == *profile => {
                let at = record.at.unwrap_or(accepted.appended);
                met.push(Met { position: accepted.position, at, might: clk.min(wm.plus(world.config.slack)) });
            }
            _ => {}
        }
    }
    met
}

/// Where a pledge was made, the last time before `cause`: where identity has forgotten a message id, a copy makes it again; and
/// an operator may.
fn made(meaning: &Folded, pledge: &str, cause: Position) -> Option<Position> {
    let made = |event: &inbox::Event| event.name == "Pledge Made" && text_of(event, "subscription_id") == pledge;
    let begun = |accepted: &&Accepted| start_of(accepted).is_some_and(|(start, _)| start.journey == "pledge" && start.key == pledge);
    let before = meaning.accepted.iter().filter(|accepted| accepted.position < cause);
    before.filter(|accepted| event_of(accepted).as_ref().is_some_and(made) || begun(accepted)).map(|accepted| accepted.position).last()
}
