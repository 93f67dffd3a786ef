//! The fence of an opt-out, read from the senders' inboxes: no attempt that stands behind a suppression of its address
//! has an outcome, because nothing was called for it; and what a provider received has an attempt that stands before.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{Attempt, AttemptOutcome, Dispatch, Leader, Outcome, Suppress, Unsuppress},
    kind,
};
use waypost_runtime::ports::Offset;

use super::senders::Accepted;
use crate::chaos::sink::Mail;

/// What one sender partition accepted, folded as far as the fence needs it.
#[derive(Debug, Default)]
struct Folded {
    // Suppressed (reason, topic) by address; the empty topic is all of them.
    fences: BTreeMap<Vec<u8>, BTreeSet<(String, String)>>,
    dispatches: BTreeMap<Vec<u8>, Dispatch>,
    leader: u64,
    // Attempts by dispatch, then by number and leader: whether they stand behind a suppression. An attempt may be written
    // twice; the first is the one that is called.
    behind: BTreeMap<Vec<u8>, BTreeMap<(u32, u64), bool>>,
}

/// Attempts that were called although the address had been suppressed before, by their outcomes and by what arrived.
///
/// # Errors
/// If a record cannot be read.
pub fn broken(partitions: &[Vec<Accepted>], mails: &[Mail]) -> anyhow::Result<Vec<String>> {
    let mut broken = Vec::new();
    let arrived: BTreeSet<&str> = mails.iter().map(|mail| mail.subject.as_str()).collect();
    for (index, accepted) in partitions.iter().enumerate() {
        let mut folded = Folded::default();
        for Accepted { offset, record, .. } in accepted {
            broken.extend(folded.fold(*offset, record)?.map(|what| format!("sender/{index} offset {offset}: {what}")));
        }
        broken.extend(folded.received(&arrived).map(|what| format!("sender/{index}: {what}")));
    }
    Ok(broken)
}

// === impl Folded ===

impl Folded {
    fn fold(&mut self, offset: Offset, record: &Record) -> anyhow::Result<Option<String>> {
        let key = record.key.to_vec();
        match record.kind {
            kind::LEADER => {
                Leader::decode(record.body.clone())?;
                self.leader = offset + 1;
            }
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
                // Of an earlier leader: nobody calls for it.
                if attempt.leader == self.leader {
                    let attempts = self.behind.entry(attempt.dispatch.to_vec()).or_default();
                    attempts.entry((attempt.number, attempt.leader)).or_insert(behind);
                }
            }
            kind::OUTCOME => {
                let outcome = AttemptOutcome::decode(record.body.clone())?;
                // A partition that is given back says of which attempts it has made no call; a look-up, which speaks for no
                // leader, says of some that none arrived.
                let called = match outcome.leader {
                    0 => outcome.outcome() == Outcome::Accepted,
                    _ => !matches!(outcome.outcome(), Outcome::Stopped | Outcome::Unspecified) && outcome.reason != "NOT_BEGUN",
                };
                let of = |(number, leader): &(u32, u64)| *number == outcome.number && (outcome.leader == 0 || *leader == outcome.leader);
                let attempts = self.behind.get(outcome.dispatch.as_ref()).into_iter().flatten();
                let behind: Vec<bool> = attempts.filter(|(attempt, _)| of(attempt)).map(|(_, behind)| *behind).collect();
                if called && !behind.is_empty() && behind.iter().all(|behind| *behind) {
                    let name = self.dispatches.get(outcome.dispatch.as_ref()).map_or_else(String::new, name);
                    return Ok(Some(format!("{name} was attempted behind an opt-out")));
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// What a provider received although no attempt of it stands before the suppression: whoever called may have been killed
    /// before it could tell.
    fn received(&self, arrived: &BTreeSet<&str>) -> impl Iterator<Item = String> {
        let behind = |id: &Vec<u8>| self.behind.get(id).into_iter().flatten().all(|(_, behind)| *behind);
        let unfenced = self.dispatches.iter().filter(move |(id, _)| behind(id)).map(|(_, dispatch)| name(dispatch));
        unfenced
            .filter(|name| arrived.contains(name.as_str()))
            .map(|name| format!("{name} arrived, attempted behind an opt-out alone or never"))
    }

    fn fenced(&self, address: &[u8], dispatch: &Dispatch) -> bool {
        let fences = self.fences.get(address).into_iter().flatten();
        dispatch.class != "transactional" && fences.into_iter().any(|(_, topic)| topic.is_empty() || *topic == dispatch.topic)
    }
}

/// As its mail has it for a subject.
fn name(dispatch: &Dispatch) -> String {
    format!("{} {}", dispatch.step, dispatch.run_key)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_types::{Timestamp, WorkspaceId};

    use super::*;
    use crate::chaos::sink::Told;

    fn record(kind: u32, body: Vec<u8>) -> Record {
        Record::new(kind, WorkspaceId::new(1), [0; 16], Bytes::from_static(b"address"), Timestamp::ZERO, body.into())
    }

    #[test]
    fn a_call_behind_a_suppression_is_found_and_one_before_it_is_not() {
        let suppress =
            record(kind::SUPPRESS, Suppress { reason: "UNSUBSCRIBED".into(), topic: "t".into(), ..Suppress::default() }.encode_to_vec());
        let id = Bytes::from_static(b"d");
        let dispatch = Dispatch {
            dispatch: id.clone(),
            topic: "t".into(),
            class: "marketing".into(),
            step: "remind".into(),
            run_key: "k0".into(),
            ..Dispatch::default()
        };
        // The leader's record is the first of each story.
        let attempt = Attempt { dispatch: id.clone(), number: 1, leader: 1, ..Attempt::default() };
        let of_another = Attempt { leader: 9, ..attempt.clone() };
        let outcome = AttemptOutcome { dispatch: id, number: 1, leader: 1, outcome: Outcome::Accepted.into(), ..AttemptOutcome::default() };
        let given_back = AttemptOutcome { outcome: Outcome::Transient.into(), reason: "NOT_BEGUN".into(), ..outcome.clone() };
        let looked_up = AttemptOutcome { leader: 0, ..outcome.clone() };
        let never_came = AttemptOutcome { leader: 0, outcome: Outcome::Transient.into(), ..outcome.clone() };
        let [outcome, given_back, looked_up, never_came] =
            [outcome, given_back, looked_up, never_came].map(|outcome| record(kind::OUTCOME, outcome.encode_to_vec()));
        let [attempt, of_another] = [attempt, of_another].map(|attempt| record(kind::ATTEMPT, attempt.encode_to_vec()));
        let dispatch = record(kind::DISPATCH, dispatch.encode_to_vec());
        let leader = record(kind::LEADER, Leader::default().encode_to_vec());
        let told = |order: &[&Record], mails: &[Mail]| {
            let records = (0_u64..).zip([&leader].into_iter().chain(order.iter().copied()));
            let accepted = records.map(|(offset, record)| Accepted { offset, appended: Timestamp::ZERO, record: record.clone() });
            broken(&[accepted.collect()], mails).unwrap().len()
        };
        let found = |order: &[&Record]| told(order, &[]);
        assert_eq!(found(&[&dispatch, &attempt, &suppress, &outcome]), 0);
        assert_eq!(found(&[&dispatch, &attempt, &suppress, &attempt, &outcome]), 0, "the second is the first again");
        assert_eq!(found(&[&dispatch, &suppress, &attempt, &outcome]), 1);
        assert_eq!(found(&[&dispatch, &suppress, &attempt, &given_back]), 0);
        assert_eq!(found(&[&dispatch, &suppress, &attempt, &looked_up]), 1, "a look-up speaks of whoever called");
        assert_eq!(found(&[&dispatch, &attempt, &suppress, &looked_up]), 0);
        assert_eq!(found(&[&dispatch, &suppress, &attempt, &never_came]), 0);
        // Whoever called was killed before it could tell.
        let mail =
            |subject: &str| Mail { at: 0, to: "address".into(), subject: subject.into(), unsubscribe: String::new(), told: Told::Nothing };
        let arrived = |order: &[&Record]| told(order, &[mail("remind k0")]);
        assert_eq!(arrived(&[&dispatch, &attempt, &suppress]), 0);
        assert_eq!(arrived(&[&dispatch, &suppress, &attempt]), 1);
        assert_eq!(arrived(&[&dispatch, &of_another, &suppress, &attempt]), 1, "for an earlier leader nobody calls");
        assert_eq!(arrived(&[&dispatch]), 1, "without an attempt");
        assert_eq!(told(&[&dispatch, &suppress, &attempt], &[mail("again k0")]), 0, "another message");
    }
}
