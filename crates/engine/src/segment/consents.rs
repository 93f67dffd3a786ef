//! The consent ledger (PRODUCT §5.4): the newest entry of each channel and topic, by event time.

use waypost_codec::inbox::{Consent, ConsentState, Event, Person};
use waypost_types::{Span, Timestamp};

use super::properties::Properties;
use crate::person::{self, WHOLE_CHANNEL};

/// Terms of implied consent: from a purchase, and from an inquiry.
const FROM_PURCHASE: Span = Span::from_days(730);
const FROM_INQUIRY: Span = Span::from_days(183);

/// Folds an event into the ledger. Returns why it was not taken, where it was not.
pub(super) fn fold(person: &mut Person, event: &Event, properties: Properties<'_>) -> Option<&'static str> {
    let state = match event.name.as_str() {
        "Subscribed" => ConsentState::Granted,
        "Unsubscribed" => ConsentState::Denied,
        "Consent Changed" => match properties.text("state").as_deref() {
            Some("granted") => ConsentState::Granted,
            Some("denied") => ConsentState::Denied,
            Some("pending") => ConsentState::Pending,
            Some(_) | None => return Some("TYPE_MISMATCH"),
        },
        _ => return None,
    };
    let Some(channel) = properties.text("channel") else { return Some("REQUIRED_MISSING") };
    // A browser may deny, never grant.
    if state == ConsentState::Granted && !event.may_grant {
        return Some("MAY_NOT_GRANT");
    }
    let at = event.event_time;
    let basis = properties.text("basis").unwrap_or_else(|| "express".to_owned());
    let expires_at = match properties.time("expires_at") {
        Some(instant) => instant,
        None if state == ConsentState::Granted && basis == "implied" => lapse(person, Timestamp::from_millis(at)),
        None => Timestamp::ZERO,
    };
    let entry = Consent {
        channel,
        topic: properties.text("topic").unwrap_or_else(|| WHOLE_CHANNEL.to_owned()),
        state: state.into(),
        basis,
        source: properties.text("source").unwrap_or_else(|| event.source.clone()),
        at,
        expires_at: expires_at.millis(),
        address: properties.text("address").unwrap_or_default(),
    };
    let known = person::consent(person, &entry.channel, &entry.topic);
    if known.is_none_or(|k| (k.at, restriction(k.state())) <= (entry.at, restriction(entry.state()))) {
        person::upsert(&mut person.consents, &entry);
    }
    None
}

/// How restrictive a state is; at equal time the more restrictive counts.
pub(crate) fn restriction(state: ConsentState) -> u32 {
    match state {
        ConsentState::Unspecified => 0,
        ConsentState::Granted => 1,
        ConsentState::Pending => 2,
        ConsentState::Denied => 3,
    }
}

/// When implied consent given at `at` lapses: two years after the last purchase before it, else half a year.
fn lapse(person: &Person, at: Timestamp) -> Timestamp {
    let purchases = person.orders.iter().filter(|o| !o.stub && o.placed_at <= at.millis()).map(|o| o.placed_at);
    let purchase = purchases.max().map(|placed| Timestamp::from_millis(placed).plus(FROM_PURCHASE));
    purchase.into_iter().chain([at.plus(FROM_INQUIRY)]).max().unwrap_or(at)
}
