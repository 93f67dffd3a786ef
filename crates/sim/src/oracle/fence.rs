//! The fence of an opt-out (PROTOCOL §11): in the log of an address, nothing is called for an attempt that stands behind
//! its suppression.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{Attempt, Dispatch, EraseAddress, Suppress, Unsuppress},
    kind,
};
use waypost_types::{DispatchId, Role};

use super::{Partitions, Wrong};
use crate::{naive::Accepted, world::World};

/// Reason of an address whose profile was erased with it.
const ERASED: &str = "ERASED";

/// One marketing message: whether it was attempted ahead of the fence, and behind it.
#[derive(Default)]
struct Attempted {
    topic: String,
    ahead: bool,
    behind: bool,
}

/// What the addresses of a partition are suppressed for, so far in its log.
#[derive(Default)]
pub(super) struct Suppressed {
    /// Reason and topic, by address; the empty topic is all of them.
    by_address: BTreeMap<Bytes, BTreeSet<(String, String)>>,
}

impl Suppressed {
    pub(super) fn hear(&mut self, record: &Record) -> Result<(), prost::DecodeError> {
        let (address, body) = (|| record.key.clone(), record.body.clone());
        match record.kind {
            kind::SUPPRESS => {
                let Suppress { reason, topic, .. } = Suppress::decode(body)?;
                self.by_address.entry(address()).or_default().insert((reason, topic));
            }
            kind::ERASE_ADDRESS => {
                let erased = EraseAddress::decode(body)?.suppress.then(|| (ERASED.to_owned(), String::new()));
                self.by_address.entry(address()).or_default().extend(erased);
            }
            kind::UNSUPPRESS => {
                let lifted = Unsuppress::decode(body)?;
                let reason = |of: &str| lifted.reason.is_empty() || of == lifted.reason;
                let topic = |of: &str| lifted.topic.is_empty() || of.is_empty() || of == lifted.topic;
                self.by_address.entry(address()).or_default().retain(|(r, t)| !(reason(r) && topic(t)));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether one of its suppressions, by reason and topic, is such.
    fn any(&self, address: &Bytes, such: impl Fn(&str, &str) -> bool) -> bool {
        self.by_address.get(address).is_some_and(|all| all.iter().any(|(reason, topic)| such(reason, topic)))
    }

    pub(super) fn erased(&self, address: &Bytes) -> bool {
        self.any(address, |reason, _| reason == ERASED)
    }
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
    let mut suppressed = Suppressed::default();
    let mut messages: BTreeMap<Bytes, Attempted> = BTreeMap::new();
    for Accepted { record, .. } in accepted {
        suppressed.hear(record)?;
        match record.kind {
            kind::DISPATCH => {
                let dispatch = Dispatch::decode(record.body.clone())?;
                if dispatch.class != "transactional" {
                    messages.entry(dispatch.dispatch).or_default().topic = dispatch.topic;
                }
            }
            kind::ATTEMPT => {
                let Some(message) = messages.get_mut(&Attempt::decode(record.body.clone())?.dispatch) else { continue };
                let behind = suppressed.any(&record.key, |_, topic| topic.is_empty() || topic == message.topic);
                (message.ahead, message.behind) = (message.ahead || !behind, message.behind || behind);
            }
            _ => {}
        }
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
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
