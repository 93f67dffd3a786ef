//! The fence of an opt-out (PROTOCOL §11): in the log of an address, nothing is called for an attempt that stands behind
//! its suppression.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{Attempt, Dispatch, EraseAddress, Suppress, Unsuppress},
    kind,
};
use waypost_types::{DispatchId, Role};

use super::{Partitions, Wrong};
use crate::{naive::Accepted, world::World};

/// One marketing message: whether it was attempted ahead of the fence, and behind it.
#[derive(Default)]
struct Attempted {
    topic: String,
    ahead: bool,
    behind: bool,
}

/// What went out has an attempt ahead of every suppression of its address and topic.
pub(super) fn fence(world: &mut World, folded: &Partitions) -> Result<(), Wrong> {
    let done = world.provider.done();
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Sender) {
        for (dispatch, attempted) in attempted(&meaning.accepted).map_err(|e| format!("{id}: {e}"))? {
            let name = DispatchId::from_slice(&dispatch).map_err(|e| e.to_string())?.to_string();
            world.tally.fenced += u64::from(attempted.behind);
            if !attempted.ahead && done.get(&name).is_some_and(|done| done.sent > 0) {
                return Err(format!("a send behind the fence: {id}: dispatch {name} was attempted behind an opt-out alone"));
            }
        }
    }
    Ok(())
}

fn attempted(accepted: &[Accepted]) -> Result<BTreeMap<Bytes, Attempted>, prost::DecodeError> {
    // Reason and topic of what an address is suppressed for; the empty topic is all of them.
    let mut suppressed: BTreeMap<Bytes, BTreeSet<(String, String)>> = BTreeMap::new();
    let mut messages: BTreeMap<Bytes, Attempted> = BTreeMap::new();
    for Accepted { record, .. } in accepted {
        let (key, body) = (&record.key, record.body.clone());
        match record.kind {
            kind::DISPATCH => {
                let dispatch = Dispatch::decode(body)?;
                if dispatch.class != "transactional" {
                    messages.entry(dispatch.dispatch).or_default().topic = dispatch.topic;
                }
            }
            kind::SUPPRESS => {
                let Suppress { reason, topic, .. } = Suppress::decode(body)?;
                suppressed.entry(key.clone()).or_default().insert((reason, topic));
            }
            kind::ERASE_ADDRESS if EraseAddress::decode(body.clone())?.suppress => {
                suppressed.entry(key.clone()).or_default().insert(("ERASED".to_owned(), String::new()));
            }
            kind::UNSUPPRESS => {
                let lifted = Unsuppress::decode(body)?;
                let reason = |of: &str| lifted.reason.is_empty() || of == lifted.reason;
                let topic = |of: &str| lifted.topic.is_empty() || of.is_empty() || of == lifted.topic;
                suppressed.entry(key.clone()).or_default().retain(|(r, t)| !(reason(r) && topic(t)));
            }
            kind::ATTEMPT => {
                let Some(message) = messages.get_mut(&Attempt::decode(body)?.dispatch) else { continue };
                let fenced = |(_, topic): &(String, String)| topic.is_empty() || *topic == message.topic;
                let behind = suppressed.get(key).is_some_and(|all| all.iter().any(fenced));
                (message.ahead, message.behind) = (message.ahead || !behind, message.behind || behind);
            }
            _ => {}
        }
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use waypost_codec::frame::Record;
    use waypost_types::{Timestamp, WorkspaceId};

    use super::*;

    fn said(kind: u32, body: &impl prost::Message) -> Accepted {
        let key = Bytes::from_static(b"address");
        let record = Record::new(kind, WorkspaceId::new(1), [0; 16], key, Timestamp::ZERO, body.encode_to_vec().into());
        Accepted { record, position: waypost_types::Position::default(), appended: Timestamp::ZERO, source: None, aside: false }
    }

    #[test]
    fn an_attempt_is_ahead_of_the_fence_or_behind_it() {
        let dispatch = said(kind::DISPATCH, &Dispatch { dispatch: "d".into(), topic: "carts".to_owned(), ..Dispatch::default() });
        let attempt = said(kind::ATTEMPT, &Attempt { dispatch: "d".into(), ..Attempt::default() });
        let stops = |topic: &str| {
            said(kind::SUPPRESS, &Suppress { reason: "UNSUBSCRIBED".to_owned(), topic: topic.to_owned(), ..Suppress::default() })
        };
        let lifts = |topic: &str| said(kind::UNSUPPRESS, &Unsuppress { reason: "UNSUBSCRIBED".to_owned(), topic: topic.to_owned() });
        let erased = |suppress| said(kind::ERASE_ADDRESS, &EraseAddress { suppress, ..EraseAddress::default() });
        for (before, ahead) in [
            (vec![], true),
            (vec![stops("carts")], false),
            (vec![stops("")], false),
            (vec![stops("news")], true),
            (vec![stops("carts"), lifts("carts")], true),
            (vec![stops(""), lifts("carts")], true),
            (vec![stops("carts"), lifts("news")], false),
            (vec![erased(true)], false),
            (vec![erased(false)], true),
        ] {
            let log: Vec<Accepted> = [vec![dispatch.clone()], before, vec![attempt.clone()]].concat();
            let found = attempted(&log).unwrap();
            let found = found.values().next().unwrap();
            assert_eq!((found.ahead, found.behind), (ahead, !ahead));
        }
    }
}
