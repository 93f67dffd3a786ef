//! The recent events that an exit, a goal or a wait could turn on, kept for a merge (PROTOCOL §10.4):
//! when two halves of a person meet, what stopped one must stop the other.

use std::collections::BTreeSet;

use prost::Message as _;
use waypost_codec::{
    inbox::{Event, Object},
    state::Fact,
};
use waypost_types::Timestamp;

use super::{MAX_FACT_BYTES, MAX_FACTS, entry};
use crate::definitions::Workspace;

/// Keeps an event if some version that may have runs looks for it; the oldest beyond 64, or 16 KiB, falls.
/// With `all` every event is kept, and whole: some run's version is not known here yet.
pub(crate) fn remember(facts: &mut Vec<Fact>, ws: &Workspace, event: &Event, now: Timestamp, all: bool) {
    let watched = ws.journeys.concern(&event.name).and_then(|concern| concern.watched.as_ref());
    if !(watched.is_some() || all) || facts.iter().any(|f| f.message_id == event.message_id) {
        return;
    }
    let read = |properties: &Object| match watched {
        Some(paths) if !all => entry::prune(properties, paths, ""),
        Some(_) | None => properties.clone(),
    };
    facts.push(Fact {
        name: event.name.clone(),
        at: now.millis(),
        event_time: event.event_time,
        message_id: event.message_id.clone(),
        properties: event.properties.as_ref().map(read),
        historical: event.historical,
    });
    limit(facts);
}

/// The event, as far as it was kept.
pub(crate) fn event(fact: &Fact) -> Event {
    Event {
        name: fact.name.clone(),
        message_id: fact.message_id.clone(),
        event_time: fact.event_time,
        received_at: fact.at,
        properties: fact.properties.clone(),
        historical: fact.historical,
        ..Event::default()
    }
}

/// At a merge: both halves' facts in the order of log time, as many as are kept.
pub(crate) fn unite(a: &[Fact], b: &[Fact]) -> Vec<Fact> {
    let mut all = both(a, b);
    limit(&mut all);
    all
}

/// All of them: runs are judged by what either half knows, before anything falls for the limit.
pub(crate) fn both(a: &[Fact], b: &[Fact]) -> Vec<Fact> {
    let mut all: Vec<Fact> = a.iter().chain(b).cloned().collect();
    all.sort_by(|x, y| (x.at, &x.message_id).cmp(&(y.at, &y.message_id)));
    let mut seen = BTreeSet::new();
    all.retain(|f| is_gap(f) || seen.insert(f.message_id.clone()));
    all
}

/// Whether this stands for facts that fell: it has no name, and the time of the newest of them.
pub(crate) fn is_gap(fact: &Fact) -> bool {
    fact.name.is_empty()
}

/// Up to when facts have fallen; none if all are there.
pub(crate) fn forgotten_until(facts: &[Fact]) -> Option<i64> {
    facts.iter().filter(|f| is_gap(f)).map(|f| f.at.saturating_add(1)).max()
}

fn limit(facts: &mut Vec<Fact>) {
    let mut gap = facts.iter().filter(|f| is_gap(f)).map(|f| f.at).max();
    facts.retain(|f| !is_gap(f));
    // The mark of the gap takes a place too.
    let room = if gap.is_some() || facts.len() > MAX_FACTS { MAX_FACTS - 1 } else { MAX_FACTS };
    let (mut count, mut bytes) = (facts.len(), facts.iter().map(Fact::encoded_len).sum::<usize>());
    facts.retain(|fact| {
        let falls = count > room || bytes > MAX_FACT_BYTES;
        if falls {
            (count, bytes) = (count - 1, bytes - fact.encoded_len());
            // Many may have one log time, and a passed record has an earlier one: what is left does not tell.
            gap = gap.max(Some(fact.at));
        }
        !falls
    });
    if let Some(at) = gap {
        facts.insert(0, Fact { at, ..Fact::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(at: i64, bytes: usize) -> Fact {
        Fact { name: "x".repeat(bytes), at, message_id: format!("m{at}"), ..Fact::default() }
    }

    #[test]
    fn facts_stay_in_16_kib_and_say_from_when_they_are_whole() {
        let mut few: Vec<Fact> = (0..10).map(|at| fact(at, 10)).collect();
        limit(&mut few);
        assert_eq!((few.len(), forgotten_until(&few)), (10, None));
        let mut long: Vec<Fact> = (0..10).map(|at| fact(at, 4_000)).collect();
        limit(&mut long);
        assert!(long.iter().map(Fact::encoded_len).sum::<usize>() <= MAX_FACT_BYTES + 8);
        assert_eq!((long.iter().map(|f| f.at).collect::<Vec<_>>(), forgotten_until(&long)), (vec![5, 6, 7, 8, 9], Some(6)));
        assert!(is_gap(&long[0]));
        let mut one = vec![fact(3, 40_000)];
        limit(&mut one);
        assert_eq!((one.len(), forgotten_until(&one)), (1, Some(4)), "nothing is too large to fall");
        assert_eq!(forgotten_until(&unite(&long, &one)), Some(6), "a union knows the later of both gaps");
        assert_eq!(unite(&long, &one), unite(&one, &long));
    }
}
