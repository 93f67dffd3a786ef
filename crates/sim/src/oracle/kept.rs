//! What must have been decided: the reminders of a cart that nobody came back to, in closed form.
//!
//! Told for people whose records all came by one identifier, and only where nothing that happened later could have
//! raced with the timer: so the answer is a function of the records alone, whatever broke meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    kind,
    state::{JourneyProfile, Trail},
    stored,
};
use waypost_types::{Role, Span, Timestamp};

use super::{
    Partitions, Wrong,
    commanded::Meddled,
    stops::{acknowledged, event_of, send_of, text_of},
};
use crate::{naive::Folded, world::START};

/// The first step of the journey `cart`, and how long after the last touch it is decided. When the second is
/// depends on the first one's receipt.
const REMINDER: (&str, Span) = ("remind", Span::from_secs(4));
/// Touches closer than this belong to one visit: less than the first delay by more than any slack, within which
/// a timer may beat what arrives.
const VISIT: Span = Span::from_millis(3_400);
/// By now every partition has its definitions.
const OPEN: Span = Span::from_secs(2);

/// What came in of one person.
#[derive(Debug, Default)]
struct Person {
    /// By cart: when, and when the log of its identifier had it, by the broker's clock.
    touches: BTreeMap<String, Vec<(Timestamp, Timestamp)>>,
    address: Option<Timestamp>,
    order: Option<Timestamp>,
    unsubscribed: bool,
    merged: bool,
    /// Before its time or behind it: what was due just before may or may not have been decided.
    erased: bool,
}

type Sent = BTreeSet<(Bytes, String, String, Timestamp)>;

/// Every reminder that was due went out to the sender.
pub(super) fn reminders(folded: &Partitions, meddled: &Meddled) -> Result<u64, Wrong> {
    let mut expected = 0;
    if meddled.with("cart") {
        return Ok(expected);
    }
    let acknowledged = acknowledged(folded);
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Orchestrator) {
        let mut people: BTreeMap<Bytes, Person> = BTreeMap::new();
        for accepted in &meaning.accepted {
            let person = people.entry(accepted.record.key.clone()).or_default();
            person.merged |= matches!(accepted.record.kind, kind::JOURNEY_MERGE_BEGIN | kind::JOURNEY_MERGE_STATE);
            person.erased |= accepted.record.kind == kind::ERASED;
            let Some(event) = event_of(accepted) else { continue };
            let at = Timestamp::from_millis(event.event_time);
            if event.traits.is_some() || event.identifiers.iter().any(|i| i.value.contains('@')) {
                person.address.get_or_insert(at);
            }
            match event.name.as_str() {
                "Product Added" => {
                    let heard = acknowledged.get(&accepted.record.id).copied().unwrap_or(accepted.appended);
                    person.touches.entry(text_of(&event, "cart_id")).or_default().push((at, heard));
                }
                "Order Completed" => person.order = person.order.max(Some(at)),
                "Unsubscribed" => person.unsubscribed = true,
                _ => {}
            }
        }
        let sends = meaning.put_out.iter().filter(|(field, _)| field.starts_with("x:sender:")).flat_map(|(_, outs)| outs);
        let sent: Sent = sends.filter_map(send_of).map(|(_, at, d)| (d.profile, d.run_key, d.step, at)).collect();
        for (profile, person) in people.iter().filter(|(_, person)| !person.merged && !person.unsubscribed && !person.erased) {
            for (cart, touches) in person.touches.iter().filter(|(cart, _)| !meddled.started("cart", cart)) {
                let Some(last) = one_visit(person, touches) else { continue };
                let (step, after) = REMINDER;
                expected += 1;
                if !sent.contains(&(profile.clone(), cart.clone(), step.to_owned(), last.plus(after))) {
                    let trail = trail(meaning, profile);
                    return Err(format!("{id}: {step} of cart {cart}, left alone at {last}, was not decided; trail:\n{trail}"));
                }
            }
        }
    }
    Ok(expected)
}

/// What was decided for a profile, for people.
fn trail(meaning: &Folded, profile: &[u8]) -> String {
    let bytes = meaning.entities.iter().find(|(entity, _)| entity.key() == profile).map(|(_, bytes)| bytes);
    let body = bytes.and_then(|bytes| stored::open(bytes).ok()).map(|(_, body)| body);
    let trail = body.and_then(|body| JourneyProfile::decode(body).ok()).map_or_else(Vec::new, |profile| profile.trail);
    let line = |t: &Trail| format!("{} {} {} {} {} {}", Timestamp::from_millis(t.at), t.what, t.journey, t.key, t.step, t.reason);
    trail.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The last touch of a cart, if all belong to one visit and nothing came in between or after. One whose id was
/// forgotten may come again, behind later ones. Where the broker's clock is ahead of the door's, a timer need not wait
/// for a touch that it was early enough for by the door's.
fn one_visit(person: &Person, touches: &[(Timestamp, Timestamp)]) -> Option<Timestamp> {
    let mut touches = touches.to_vec();
    touches.sort_unstable();
    let (first, last) = (touches.first()?.0, touches.last()?.0);
    let together = touches.windows(2).all(|pair| pair[1].0.max(pair[1].1).since(pair[0].0) < VISIT);
    let ordered = person.order.is_some_and(|order| order >= first);
    let known = person.address.is_some_and(|address| address <= last);
    (together && !ordered && known && first > START.plus(OPEN)).then_some(last)
}
