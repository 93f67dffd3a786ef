//! Messages that are a function of what came in (PROTOCOL §16.3, 2), whatever broke, and whoever merged.
//!
//! A ticket is answered at once, a pledge is reminded of after a while unless it was kept. Each has a token of its
//! own, and both events of a pledge come by one identifier: so what must be sent, and what must not, can be read
//! off the doors' records by their log time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use waypost_codec::kind;
use waypost_types::{Role, Span, Timestamp};

use super::{
    Partitions, Wrong,
    stops::{acknowledged, event_of, send_of, text_of},
};
use crate::world::World;

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
    /// Its profile was reached by an old road, or joined meanwhile.
    travelled: bool,
    /// Its profile, or the one that moved into, is erased: a reminder may have been decided before.
    erased: bool,
}

impl Token {
    /// Its events stayed with one profile: neither was it joined, nor did its identifier, a cookie that two user
    /// ids claimed, become somebody else's in between.
    fn stayed(&self) -> bool {
        !self.travelled && self.profiles.len() == 1
    }
}

/// Every token has the messages it must have. Returns how many were foreseen.
pub(super) fn tokens(world: &World, folded: &Partitions) -> Result<u64, Wrong> {
    let mut tokens: BTreeMap<(&str, String), Token> = BTreeMap::new();
    let times = acknowledged(folded);
    let mut sent: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (_, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Orchestrator) {
        let mut open = false;
        let joined: BTreeSet<_> =
            meaning.accepted.iter().filter(|a| a.record.kind == kind::JOURNEY_MERGE_STATE).map(|a| &a.record.key).collect();
        for accepted in &meaning.accepted {
            open |= accepted.record.kind == kind::DEF_ACTIVATE;
            let Some(event) = event_of(accepted) else { continue };
            let at = accepted.record.at.unwrap_or(accepted.appended);
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
            }
        }
        for (_, _, dispatch) in
            meaning.put_out.iter().filter(|(field, _)| field.starts_with("x:sender:")).flat_map(|(_, outs)| outs).filter_map(send_of)
        {
            *sent.entry((dispatch.journey, dispatch.run_key)).or_default() += 1;
        }
    }
    // A tombstone goes with the profile that it leads to.
    let accepted = folded.values().flat_map(|meaning| &meaning.accepted);
    let erased: BTreeSet<&Bytes> = accepted.filter(|a| a.record.kind == kind::ERASED).map(|a| &a.record.key).collect();
    for token in tokens.values_mut() {
        token.erased = token.profiles.iter().any(|profile| erased.contains(profile));
    }
    let mut foreseen = 0;
    let deaf = folded
        .values()
        .flat_map(|meaning| &meaning.accepted)
        .filter_map(event_of)
        .any(|event| event.name == "Unsubscribed" && text_of(&event, "topic").is_empty());
    for ((journey, name), token) in &tokens {
        let sent = sent.get(&((*journey).to_owned(), name.clone())).copied().unwrap_or(0);
        let Some(asked) = token.asked else { continue };
        let due = asked.plus(PATIENCE);
        let (must, may) = match (*journey, token.kept) {
            ("ticket", _) => (!deaf, true),
            (_, None) => (!deaf && !token.erased, true),
            (_, Some(kept)) => (false, !token.stayed() || kept.plus(world.config.slack) >= due),
        };
        foreseen += u64::from(must || !may);
        if sent > 1 || (must && sent == 0) || (!may && sent > 0) {
            return Err(format!("closed form: {journey} {name}, asked {asked}, kept {:?}: {sent} sends", token.kept));
        }
    }
    Ok(foreseen)
}
