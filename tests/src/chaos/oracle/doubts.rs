//! Attempts of which nobody knew what had come when the next one was made, read from the senders' inboxes alone: so
//! many times more may a message that must arrive have gone out.

use std::collections::BTreeMap;

use prost::Message as _;
use waypost_codec::{
    inbox::{Attempt, AttemptOutcome, Dispatch, Leader, Outcome},
    kind,
};
use waypost_types::Timestamp;

use super::senders::Accepted;

/// A message's attempts, as far as somebody doubts them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Attempts that another one followed although they were not answered.
    pub followed: usize,
    /// When the last attempt that nobody answered for was made.
    pub since: Option<Timestamp>,
}

// By number and by the leader that proposed it.
type Attempts = BTreeMap<(u32, u64), Said>;

#[derive(Debug)]
struct Said {
    at: Timestamp,
    answered: bool,
    followed: bool,
}

/// All messages, by step and key of their runs.
///
/// # Errors
/// If a record cannot be read.
pub fn of(partitions: &[Vec<Accepted>]) -> anyhow::Result<BTreeMap<String, Doubts>> {
    let mut all = BTreeMap::new();
    for accepted in partitions {
        let mut messages: BTreeMap<Vec<u8>, (String, Attempts)> = BTreeMap::new();
        let mut leader = 0;
        for Accepted { offset, appended, record } in accepted {
            match record.kind {
                kind::LEADER => {
                    Leader::decode(record.body.clone())?;
                    leader = offset + 1;
                }
                kind::DISPATCH => {
                    let dispatch = Dispatch::decode(record.body.clone())?;
                    messages.entry(dispatch.dispatch.to_vec()).or_default().0 = format!("{} {}", dispatch.step, dispatch.run_key);
                }
                kind::ATTEMPT => {
                    let attempt = Attempt::decode(record.body.clone())?;
                    // Of an earlier leader: nobody calls for it.
                    if attempt.leader != leader {
                        continue;
                    }
                    let Some((_, attempts)) = messages.get_mut(attempt.dispatch.as_ref()) else { continue };
                    attempts.values_mut().filter(|said| !said.answered).for_each(|said| said.followed = true);
                    let said = Said { at: *appended, answered: false, followed: false };
                    attempts.entry((attempt.number, attempt.leader)).or_insert(said);
                }
                kind::OUTCOME => {
                    let outcome = AttemptOutcome::decode(record.body.clone())?;
                    let Some((_, attempts)) = messages.get_mut(outcome.dispatch.as_ref()) else { continue };
                    let known = !matches!(outcome.outcome(), Outcome::Unknown | Outcome::Unspecified);
                    let of =
                        |(number, leader): &(u32, u64)| *number == outcome.number && (outcome.leader == 0 || *leader == outcome.leader);
                    attempts.iter_mut().filter(|(key, _)| known && of(key)).for_each(|(_, said)| said.answered = true);
                }
                _ => {}
            }
        }
        for (name, attempts) in messages.into_values() {
            let followed = attempts.values().filter(|said| said.followed).count();
            let since = attempts.values().filter(|said| !said.answered).map(|said| said.at).max();
            all.insert(name, Doubts { followed, since });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_codec::frame::Record;
    use waypost_types::WorkspaceId;

    use super::*;

    const ID: Bytes = Bytes::from_static(b"d");

    /// `L` a leader, `1@1` attempt 1 under the leader record at offset 0, `1!1` its answer, `1?1` its silence.
    fn told(story: &str) -> Doubts {
        let record = |kind, body: Vec<u8>| Record::new(kind, WorkspaceId::new(1), [0; 16], ID, Timestamp::ZERO, body.into());
        let dispatch = Dispatch { dispatch: ID, step: "answer".into(), run_key: "t1".into(), ..Dispatch::default() };
        let mut records = vec![record(kind::DISPATCH, dispatch.encode_to_vec())];
        for word in story.split(' ') {
            let number = |at: usize| word[at..=at].parse().unwrap();
            let leader = || u64::from(number(2));
            let outcome = |outcome: Outcome| {
                let outcome = AttemptOutcome {
                    dispatch: ID,
                    number: number(0),
                    leader: leader(),
                    outcome: outcome.into(),
                    ..AttemptOutcome::default()
                };
                record(kind::OUTCOME, outcome.encode_to_vec())
            };
            records.push(match word.as_bytes().get(1) {
                None => record(kind::LEADER, Leader::default().encode_to_vec()),
                Some(b'@') => {
                    let attempt = Attempt { dispatch: ID, number: number(0), leader: leader(), ..Attempt::default() };
                    record(kind::ATTEMPT, attempt.encode_to_vec())
                }
                Some(b'!') => outcome(Outcome::Accepted),
                Some(_) => outcome(Outcome::Unknown),
            });
        }
        let at = |(n, record)| Accepted { offset: n, appended: Timestamp::from_millis(i64::try_from(n).unwrap()), record };
        let all = of(&[(0_u64..).zip(records).map(at).collect()]).unwrap();
        all["answer t1"].clone()
    }

    #[test]
    fn a_doubt_is_an_attempt_that_another_one_followed_unanswered() {
        let doubts = |followed, since: Option<i64>| Doubts { followed, since: since.map(Timestamp::from_millis) };
        assert_eq!(told("L 1@2 1!2"), doubts(0, None));
        assert_eq!(told("L 1@2 1?2"), doubts(0, Some(2)));
        assert_eq!(told("L 1@2 1?2 2@2 2!2"), doubts(1, Some(2)));
        assert_eq!(told("L 1@2 1!2 2@2 2!2"), doubts(0, None), "answered for: it was told to come again");
        assert_eq!(told("L 1@2 L 1!2 2@4 2!4"), doubts(0, None), "an answer under a later leader");
        assert_eq!(told("L 1@2 2@2 1!2 2!2"), doubts(1, None), "an answer that comes too late");
        assert_eq!(told("L L 1@2 1@3 1!3"), doubts(0, None), "an attempt of an earlier leader calls nobody");
    }
}
