//! What a profile becomes by an event, by time, by a merge at the segmenter: records, fields, consents,
//! traits and memberships, and the delta that tells the orchestrator.
//!
//! Everything goes by event time, so history (PRODUCT §4.4) and late events need no road of their own;
//! only memberships go by `now`, which is log time.

mod carts;
mod consents;
mod draft;
mod erase;
mod fields;
mod memberships;
mod orders;
mod plan;
mod properties;
mod size;
mod traits;

use bytes::Bytes;
use waypost_codec::{
    inbox::{self, Person, Property, Value, value::Kind},
    state::SegmentProfile,
    view::Event,
};
use waypost_types::Timestamp;

use self::memberships::Evaluated;
use self::properties::Properties;
pub(crate) use self::{
    carts::settle,
    consents::{limit as limit_consents, restriction},
    draft::Draft,
    orders::{rank, trim},
    traits::{CARRIED, derive, is_order_trait},
};
pub use crate::membership::fingerprint;

pub use self::{
    erase::{MARK, Wiped, erase, erase_late},
    memberships::Change,
    plan::{Judged, Plan},
    traits::{FIRST_SEEN_AT, LAST_SEEN_AT},
};
use crate::{drain, merge, person};

/// What became of a profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What changed of the person; all of it after a merge.
    pub delta: Person,
    /// Memberships that are not what they were.
    pub changes: Vec<Change>,
    /// The cart that the event is about, where it does not name it: it goes on with it, as [`with_cart`] writes it.
    pub cart_id: Option<String>,
    /// Reasons of what the event said and was not taken; counted.
    pub refused: Vec<&'static str>,
}

/// Folds an event that came by way of `node`.
pub fn event(profile: &mut SegmentProfile, judged: &mut Judged, node: &Bytes, event: &Event<'_>, now: Timestamp, plan: &Plan) -> Outcome {
    let mut draft = Draft::new(profile.person.take().unwrap_or_default());
    let currency = plan.workspace.policy.currency;
    let properties = Properties::new(event.properties.as_ref(), currency);
    let context = Properties::new(event.context.as_ref(), currency);
    let at = event.event_time;

    touch(profile, now);
    profile.last_event_at = profile.last_event_at.max(at);
    profile.events = profile.events.saturating_add(1);
    add_sorted(&mut profile.ids, node);

    let mut refused = fields::fold(&mut draft, event, properties, context);
    if by_the_person(event.name) {
        traits::seen(&mut draft, at, now.millis());
    }
    let mut cart_id = None;
    if properties.has_long_id() {
        refused.push("ID_TOO_LONG");
    } else {
        if orders::fold(&mut draft, event.name, properties, at) {
            refused.push("ORDER_UNKNOWN");
        }
        cart_id = carts::fold(&mut draft, event.name, properties, at);
    }
    settle(&mut draft);
    if draft.has_touched_orders() {
        let fallen = trim(&mut draft);
        traits::carry(&mut draft, &fallen);
        derive(&mut draft);
    }
    refused.extend(consents::fold(&mut draft, event, properties));
    if size::limit(&mut draft, judged.size_under(plan, now)) {
        refused.push("PROFILE_TOO_LARGE");
    }
    let Evaluated { changes, delta } = evaluate(profile, &mut draft, judged, now, plan);
    let delta = draft.delta(delta);
    profile.person = Some(draft.into_person());
    Outcome { delta, changes, cart_id, refused }
}

/// Notes the node of an item that says nothing of the person.
pub fn seen(profile: &mut SegmentProfile, node: &Bytes, now: Timestamp) {
    touch(profile, now);
    add_sorted(&mut profile.ids, node);
}

/// Evaluates again because time alone may have changed an answer.
pub fn wake(profile: &mut SegmentProfile, judged: &mut Judged, now: Timestamp, plan: &Plan) -> Outcome {
    let mut draft = Draft::new(profile.person.take().unwrap_or_default());
    let Evaluated { changes, delta } = evaluate(profile, &mut draft, judged, now, plan);
    let delta = draft.delta(delta);
    touch(profile, now);
    profile.person = Some(draft.into_person());
    Outcome { delta, changes, ..Outcome::default() }
}

/// What time does to a profile next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The mark of its erase goes; a plain timer.
    MarkGoes(Timestamp),
    /// It waits no longer for what moved identifiers had sent; a plain timer.
    DrainEnds(Timestamp),
    /// A membership may change. That rests on something not having happened: an absent timer.
    Flips(Timestamp),
}

/// The next of them. What has not happened is not judged while the profile drains.
pub fn next_timer(profile: &SegmentProfile) -> Option<Timer> {
    if !profile.moved_to.is_empty() {
        return None;
    }
    let flips = || profile.person.as_ref().and_then(memberships::next_flip).map(Timer::Flips);
    erase::mark_goes(profile).map(Timer::MarkGoes).or_else(|| drain::ends(profile).map(Timer::DrainEnds)).or_else(flips)
}

/// Takes in the state of a profile that moved here; the delta is the whole person.
pub fn import(
    profile: &mut SegmentProfile,
    judged: &mut Judged,
    moved: SegmentProfile,
    loser: &Bytes,
    now: Timestamp,
    plan: &Plan,
) -> Outcome {
    let own = profile.person.take().unwrap_or_default();
    let other = moved.person.unwrap_or_default();
    let (mut draft, fallen) = merge::united(&own, &other);
    // A state moves once, so what fell out of either list, and what falls out of both together, is added up.
    traits::carry_both(&mut draft, &own, &other);
    traits::carry(&mut draft, &fallen);
    derive(&mut draft);
    // What the survivor's memberships were is what changes are told against.
    draft.memberships_mut().clone_from(&own.memberships);
    draft.not_in_mut().clone_from(&own.not_in);
    let too_large = size::limit(&mut draft, None);
    profile.created_at = earlier(profile.created_at, moved.created_at);
    profile.last_event_at = profile.last_event_at.max(moved.last_event_at);
    profile.events = profile.events.saturating_add(moved.events);
    for id in &moved.ids {
        add_sorted(&mut profile.ids, id);
    }
    for id in moved.losers.iter().chain([loser]) {
        add_sorted(&mut profile.losers, id);
    }
    touch(profile, now);
    // Another person, of whom nothing was judged yet.
    judged.forget();
    let changes = evaluate(profile, &mut draft, judged, now, plan).changes;
    let person = draft.into_person();
    let delta = person::whole(&own, &person);
    profile.person = Some(person);
    Outcome { delta, changes, cart_id: None, refused: if too_large { vec!["PROFILE_TOO_LARGE"] } else { Vec::new() } }
}

fn evaluate(profile: &SegmentProfile, draft: &mut Draft, judged: &mut Judged, now: Timestamp, plan: &Plan) -> Evaluated {
    memberships::evaluate(draft, judged, Timestamp::from_millis(profile.created_at), now, plan)
}

fn touch(profile: &mut SegmentProfile, now: Timestamp) {
    profile.now = profile.now.max(now.millis());
    profile.created_at = earlier(profile.created_at, now.millis());
}

/// The earlier of two instants of which zero stands for none.
fn earlier(a: i64, b: i64) -> i64 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}

fn add_sorted(list: &mut Vec<Bytes>, id: &Bytes) {
    if let Err(place) = list.binary_search(id) {
        list.insert(place, id.clone());
    }
}

/// Whether the person did it, rather than Waypost.
fn by_the_person(name: &str) -> bool {
    !name.starts_with("Message ") && name != "Offer Granted"
}

/// The event, naming its cart.
pub fn with_cart(mut event: inbox::Event, cart_id: String) -> inbox::Event {
    let entries = &mut event.properties.get_or_insert_default().entries;
    let value = Some(Value { kind: Some(Kind::Text(cart_id)) });
    match entries.binary_search_by(|p| p.name.as_str().cmp("cart_id")) {
        Ok(at) => entries[at].value = value,
        Err(at) => entries.insert(at, Property { name: "cart_id".to_owned(), value }),
    }
    event
}

#[cfg(test)]
mod tests;
