//! Messages that are a function of what came in (PROTOCOL §16.3, 2), whatever broke, and whoever merged.
//!
//! A ticket is answered at once, a pledge is reminded of after a while unless it was kept. Each has a token of its
//! own, and both events of a pledge come by one identifier: so what must be sent, and what must not, can be read
//! off the doors' records by their log time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{Event, JourneyMergeBegin, JourneyMergeState},
    kind,
};
use waypost_types::{Role, Span, Timestamp};

use super::{
    Partitions, Wrong,
    commanded::Meddled,
    stops::{acknowledged, event_of, send_of, text_of},
};
use crate::{naive::Accepted, world::World};

/// From a pledge to its reminder.
const PATIENCE: Span = Span::from_secs(3);

#[derive(Debug, Default)]
struct Token {
    /// Log time of the ticket, or the pledge; none while no definitions were in force where it was folded.
    asked: Option<Timestamp>,
    /// When its keeping was acknowledged.
    kept: Option<Timestamp>,
    /// Where its events were folded.
    profiles: BTreeSet<Bytes>,
    /// Who asked: more than one where an id was forgotten, and said again by a cookie that is somebody else's by now.
    askers: BTreeSet<Bytes>,
    /// Its profile was reached by an old road, or joined meanwhile.
    travelled: bool,
    /// Its profile, or the one that moved into, is erased: a reminder may have been decided before.
    erased: bool,
    /// Who asked had said no to the whole channel, or did so before the reminder.
    denied: bool,
}

impl Token {
    /// Its events stayed with one profile: neither was it joined, nor did its identifier, a cookie that two user
    /// ids claimed, become somebody else's in between.
    fn stayed(&self) -> bool {
        !self.travelled && self.profiles.len() == 1
    }
}

/// Who has said no to the whole channel.
#[derive(Debug, Default)]
struct Denials {
    /// By profile: the newest word by event time, a denial before a grant of the same instant.
    newest: BTreeMap<Bytes, (i64, bool)>,
    ever: BTreeSet<Bytes>,
    /// Of a profile that was joined with others: one of them that stands for all.
    person: BTreeMap<Bytes, Bytes>,
    /// Of these, the people of whom any half ever did.
    joined: BTreeSet<Bytes>,
}

impl Denials {
    /// Who was joined with whom: when one half heard what the other was told is not told here.
    fn of(folded: &Partitions) -> Self {
        let mut denials = Self::default();
        let orchestrators = folded.iter().filter(|(id, _)| id.role == Role::Orchestrator);
        let accepted: Vec<&Accepted> = orchestrators.flat_map(|(_, meaning)| &meaning.accepted).collect();
        for accepted in &accepted {
            let body = accepted.record.body.clone();
            match accepted.record.kind {
                kind::JOURNEY_MERGE_BEGIN => {
                    let begin = JourneyMergeBegin::decode(body).ok().and_then(|moved| moved.begin).unwrap_or_default();
                    denials.join(&begin.loser, &begin.winner);
                }
                kind::JOURNEY_MERGE_STATE => {
                    let loser = JourneyMergeState::decode(body).map(|state| state.loser).unwrap_or_default();
                    denials.join(&loser, &accepted.record.key);
                }
                _ => {}
            }
        }
        for accepted in accepted {
            if event_of(accepted).is_some_and(|event| denies(&event) == Some(true)) {
                denials.will_deny(&accepted.record.key);
            }
        }
        denials
    }

    fn will_deny(&mut self, profile: &Bytes) {
        self.ever.insert(profile.clone());
        if self.person.contains_key(profile) {
            self.joined.insert(self.person_of(profile));
        }
    }

    fn join(&mut self, one: &Bytes, other: &Bytes) {
        let (from, to) = (self.person_of(one), self.person_of(other));
        self.person.entry(one.clone()).or_insert_with(|| from.clone());
        self.person.entry(other.clone()).or_insert_with(|| to.clone());
        self.person.values_mut().filter(|person| **person == from).for_each(|person| person.clone_from(&to));
    }

    fn person_of(&self, profile: &Bytes) -> Bytes {
        self.person.get(profile).unwrap_or(profile).clone()
    }

    /// Its records come in order.
    fn hear(&mut self, profile: &Bytes, event: &Event) {
        if let Some(denied) = denies(event) {
            let newest = self.newest.entry(profile.clone()).or_default();
            *newest = (event.event_time, denied).max(*newest);
        }
    }

    /// Whether a denial stands of what was heard so far; of people who were joined, whether there was any.
    fn stand(&self, profile: &Bytes) -> bool {
        self.joined.contains(&self.person_of(profile)) || self.newest.get(profile).is_some_and(|(_, denied)| *denied)
    }

    /// Whether there ever was one.
    fn ever(&self, profile: &Bytes) -> bool {
        self.joined.contains(&self.person_of(profile)) || self.ever.contains(profile)
    }
}

/// Whether an event denies the whole channel, or grants it.
fn denies(event: &Event) -> Option<bool> {
    let denied = match event.name.as_str() {
        "Unsubscribed" => true,
        "Subscribed" => false,
        _ => return None,
    };
    text_of(event, "topic").is_empty().then_some(denied)
}

/// Every token has the messages it must have. Returns how many were foreseen.
pub(super) fn tokens(world: &World, folded: &Partitions, meddled: &Meddled) -> Result<u64, Wrong> {
    let mut tokens: BTreeMap<(&str, String), Token> = BTreeMap::new();
    let times = acknowledged(folded);
    let mut sent: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut denials = Denials::of(folded);
    for (_, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Orchestrator) {
        let mut open = false;
        let joined: BTreeSet<_> =
            meaning.accepted.iter().filter(|a| a.record.kind == kind::JOURNEY_MERGE_STATE).map(|a| &a.record.key).collect();
        for accepted in &meaning.accepted {
            open |= accepted.record.kind == kind::DEF_ACTIVATE;
            let Some(event) = event_of(accepted) else { continue };
            let at = accepted.record.at.unwrap_or(accepted.appended);
            denials.hear(&accepted.record.key, &event);
            let travelled = accepted.record.via > 0 || joined.contains(&accepted.record.key);
            let (journey, token) = match event.name.as_str() {
                "Ticket Asked" => ("ticket", text_of(&event, "ticket_id")),
                "Pledge Made" | "Pledge Kept" => ("pledge", text_of(&event, "subscription_id")),
                _ => continue,
            };
            let token = tokens.entry((journey, token)).or_default();
            token.travelled |= travelled;
            token.profiles.insert(accepted.record.key.clone());
            if event.name == "Pledge Kept" {
                token.kept = Some(times.get(&accepted.record.id).copied().unwrap_or(accepted.appended));
            } else {
                token.asked = open.then_some(at);
                token.askers.insert(denials.person_of(&accepted.record.key));
                token.denied |= denials.stand(&accepted.record.key);
            }
        }
        for (_, _, dispatch) in
            meaning.put_out.iter().filter(|(field, _)| field.starts_with("x:sender:")).flat_map(|(_, outs)| outs).filter_map(send_of)
        {
            *sent.entry((dispatch.journey, dispatch.run_key)).or_default() += 1;
        }
    }
    for ((journey, _), token) in &mut tokens {
        // A reminder is decided later, at a log time that a denial may come before.
        token.denied |= *journey == "pledge" && token.profiles.iter().any(|profile| denials.ever(profile));
    }
    // A tombstone goes with the profile that it leads to.
    let accepted = folded.values().flat_map(|meaning| &meaning.accepted);
    let erased: BTreeSet<&Bytes> = accepted.filter(|a| a.record.kind == kind::ERASED).map(|a| &a.record.key).collect();
    for token in tokens.values_mut() {
        token.erased = token.profiles.iter().any(|profile| erased.contains(profile));
    }
    let mut foreseen = 0;
    for ((journey, name), token) in tokens.iter().filter(|((journey, name), _)| !meddled.started(journey, name)) {
        let sent = sent.get(&((*journey).to_owned(), name.clone())).copied().unwrap_or(0);
        let Some(asked) = token.asked else { continue };
        let due = asked.plus(PATIENCE);
        let (must, may) = match (*journey, token.kept) {
            ("ticket", _) => (!token.denied, true),
            (_, None) => (!token.denied && !token.erased, true),
            (_, Some(kept)) => (false, !token.stayed() || kept.plus(world.config.slack) >= due),
        };
        let must = must && !meddled.with(journey);
        foreseen += u64::from(must || !may);
        let askers = token.askers.len() as u64;
        if sent > askers || (must && sent == 0) || (!may && sent > 0) {
            return Err(format!("closed form: {journey} {name}, asked {asked}, kept {:?}: {sent} sends", token.kept));
        }
    }
    Ok(foreseen)
}

#[cfg(test)]
mod tests {
    use waypost_codec::value::object_to_proto;
    use waypost_types::Value;

    use super::*;

    fn said(name: &str, topic: Option<&str>, at: i64) -> Event {
        let Value::Object(properties) = Value::object(topic.map(|topic| ("topic".to_owned(), Value::text(topic.to_owned())))) else {
            unreachable!()
        };
        Event { name: name.to_owned(), event_time: at, properties: Some(object_to_proto(&properties)), ..Event::default() }
    }

    #[test]
    fn a_denial_excuses_whose_it_is_while_it_stands() {
        let (one, other) = (Bytes::from_static(b"one"), Bytes::from_static(b"other"));
        let mut denials = Denials::default();
        for (word, stands) in [
            (said("Unsubscribed", Some("carts"), 1), false),
            (said("Unsubscribed", None, 3), true),
            (said("Subscribed", None, 2), true),
            (said("Subscribed", Some("carts"), 4), true),
            (said("Subscribed", None, 5), false),
        ] {
            denials.hear(&one, &word);
            assert_eq!((denials.stand(&one), denials.stand(&other)), (stands, false), "{word:?}");
        }
    }

    #[test]
    fn of_people_who_were_joined_any_half_excuses_all() {
        let names: Vec<Bytes> = ["a", "b", "c", "d", "alone"].map(Bytes::from).to_vec();
        let mut denials = Denials::default();
        denials.join(&names[0], &names[1]);
        denials.join(&names[2], &names[3]);
        denials.join(&names[1], &names[2]);
        denials.will_deny(&names[3]);
        denials.will_deny(&names[4]);
        assert_eq!(names.iter().map(|name| denials.stand(name)).collect::<Vec<_>>(), [true, true, true, true, false]);
        assert!(names.iter().all(|name| denials.ever(name)));
    }
}
