//! The fence of an opt-out, read from the senders' inboxes alone: no attempt that stands behind a suppression of its
//! address has an outcome, because nothing was called for it.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{Attempt, AttemptOutcome, Dispatch, Outcome, Suppress, Unsuppress},
    kind,
};

use super::senders::Accepted;

/// What one sender partition accepted, folded as far as the fence needs it.
#[derive(Debug, Default)]
struct Folded {
    // Suppressed (reason, topic) by address; the empty topic is all of them.
    fences: BTreeMap<Vec<u8>, BTreeSet<(String, String)>>,
    dispatches: BTreeMap<Vec<u8>, Dispatch>,
    // Attempts by dispatch, number and leader: whether they stand behind a suppression. An attempt may be written twice; the
    // first is the one that is called.
    behind: BTreeMap<(Vec<u8>, u32, u64), bool>,
}

/// Attempts that were called although the address had been suppressed before.
///
/// # Errors
/// If a record cannot be read.
pub fn broken(partitions: &[Vec<Accepted>]) -> anyhow::Result<Vec<String>> {
    let mut broken = Vec::new();
    for (index, accepted) in partitions.iter().enumerate() {
        let mut folded = Folded::default();
        for Accepted { offset, record, .. } in accepted {
            broken.extend(folded.fold(record)?.map(|what| format!("sender/{index} offset {offset}: {what}")));
        }
    }
    Ok(broken)
}

// === impl Folded ===

impl Folded {
    fn fold(&mut self, record: &Record) -> anyhow::Result<Option<String>> {
        let key = record.key.to_vec();
        match record.kind {
            kind::DISPATCH => {
                let dispatch = Dispatch::decode(record.body.clone())?;
                self.dispatches.insert(dispatch.dispatch.to_vec(), dispatch);
            }
            kind::SUPPRESS => {
                let suppress = Suppress::decode(record.body.clone())?;
                self.fences.entry(key).or_default().insert((suppress.reason, suppress.topic));
            }
            kind::UNSUPPRESS => {
                let lifted = Unsuppress::decode(record.body.clone())?;
                self.fences.entry(key).or_default().retain(|(reason, _)| *reason != lifted.reason);
            }
            kind::ATTEMPT => {
                let attempt = Attempt::decode(record.body.clone())?;
                let behind = self.dispatches.get(attempt.dispatch.as_ref()).is_some_and(|dispatch| self.fenced(&key, dispatch));
                self.behind.entry((attempt.dispatch.to_vec(), attempt.number, attempt.leader)).or_insert(behind);
            }
            kind::OUTCOME => {
                let outcome = AttemptOutcome::decode(record.body.clone())?;
                // A partition that is given back says of which attempts it has made no call.
                let called = !matches!(outcome.outcome(), Outcome::Stopped | Outcome::Unspecified) && outcome.reason != "NOT_BEGUN";
                let attempt = (outcome.dispatch.to_vec(), outcome.number, outcome.leader);
                if called && self.behind.get(&attempt) == Some(&true) {
                    let of = self.dispatches.get(outcome.dispatch.as_ref());
                    return Ok(Some(of.map_or_else(String::new, |d| format!("{} {} was attempted behind an opt-out", d.step, d.run_key))));
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn fenced(&self, address: &[u8], dispatch: &Dispatch) -> bool {
        let fences = self.fences.get(address).into_iter().flatten();
        dispatch.class != "transactional" && fences.into_iter().any(|(_, topic)| topic.is_empty() || *topic == dispatch.topic)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_types::{Timestamp, WorkspaceId};

    use super::*;

    fn record(kind: u32, body: Vec<u8>) -> Record {
        Record::new(kind, WorkspaceId::new(1), [0; 16], Bytes::from_static(b"address"), Timestamp::ZERO, body.into())
    }

    #[test]
    fn a_call_behind_a_suppression_is_found_and_one_before_it_is_not() {
        let suppress =
            record(kind::SUPPRESS, Suppress { reason: "UNSUBSCRIBED".into(), topic: "t".into(), ..Suppress::default() }.encode_to_vec());
        let id = Bytes::from_static(b"d");
        let dispatch = Dispatch { dispatch: id.clone(), topic: "t".into(), class: "marketing".into(), ..Dispatch::default() };
        let attempt = Attempt { dispatch: id.clone(), number: 1, ..Attempt::default() };
        let outcome = AttemptOutcome { dispatch: id, number: 1, outcome: Outcome::Accepted.into(), ..AttemptOutcome::default() };
        let given_back = AttemptOutcome { outcome: Outcome::Transient.into(), reason: "NOT_BEGUN".into(), ..outcome.clone() };
        let given_back = record(kind::OUTCOME, given_back.encode_to_vec());
        let dispatch = record(kind::DISPATCH, dispatch.encode_to_vec());
        let (attempt, outcome) = (record(kind::ATTEMPT, attempt.encode_to_vec()), record(kind::OUTCOME, outcome.encode_to_vec()));
        let found = |order: &[&Record]| {
            let mut folded = Folded::default();
            order.iter().filter_map(|r| folded.fold(r).unwrap()).count()
        };
        assert_eq!(found(&[&dispatch, &attempt, &suppress, &outcome]), 0);
        assert_eq!(found(&[&dispatch, &attempt, &suppress, &attempt, &outcome]), 0, "the second is the first again");
        assert_eq!(found(&[&dispatch, &suppress, &attempt, &outcome]), 1);
        assert_eq!(found(&[&dispatch, &suppress, &attempt, &given_back]), 0);
    }
}
