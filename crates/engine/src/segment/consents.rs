//! The consent ledger (PRODUCT §5.4): the newest entry of each channel and topic, by event time.

use waypost_codec::{
    inbox::{Consent, ConsentState, Person},
    view::Event,
};
use waypost_types::{Span, Timestamp};

use super::{Draft, properties::Properties};
use crate::person::{self, WHOLE_CHANNEL};

/// Channels on which consent is kept; those without a sender yet included.
const CHANNELS: [&str; 8] = ["ads", "email", "push", "rcs", "sms", "viber", "webhook", "whatsapp"];
/// Entries of a profile. Each channel has one for all topics, so there is always one that can make room.
const MAX_CONSENTS: usize = 64;
/// Longest topic and other word of an entry, and longest address, bytes.
const MAX_WORD: usize = 63;
const MAX_ADDRESS: usize = 254;

/// Terms of implied consent: from a purchase, and from an inquiry.
const FROM_PURCHASE: Span = Span::from_days(730);
const FROM_INQUIRY: Span = Span::from_days(183);

/// Folds an event into the ledger. Returns why it was not taken, where it was not.
pub(super) fn fold(person: &mut Draft, event: &Event<'_>, properties: Properties<'_>) -> Option<&'static str> {
    let state = match event.name {
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
    if !CHANNELS.contains(&channel.as_str()) {
        return Some("CHANNEL_UNKNOWN");
    }
    let topic = properties.text("topic").unwrap_or_else(|| WHOLE_CHANNEL.to_owned());
    if !is_topic(&topic) {
        return Some("TOPIC_INVALID");
    }
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
    let mut entry = Consent {
        channel,
        topic,
        state: state.into(),
        basis: short(basis),
        source: short(properties.text("source").unwrap_or_else(|| event.source.to_owned())),
        at,
        expires_at: expires_at.millis(),
        address: properties.text("address").unwrap_or_default(),
    };
    if entry.address.len() > MAX_ADDRESS {
        // A denial is for the whole channel whatever address it names; a grant for this one cannot be kept.
        if state != ConsentState::Denied {
            return Some("TYPE_MISMATCH");
        }
        entry.address.clear();
    }
    let known = person::consent(person, &entry.channel, &entry.topic);
    if known.is_none() && state != ConsentState::Denied && person.consents.len() >= MAX_CONSENTS {
        return Some("PROFILE_TOO_LARGE");
    }
    if known.is_none_or(|k| (k.at, restriction(k.state())) <= (entry.at, restriction(entry.state()))) {
        let consents = person.consents_mut();
        person::upsert(consents, &entry);
        limit(consents);
    }
    None
}

/// Makes room: the oldest grant falls, then the oldest that is pending. A denial never does: where all are
/// denials, those of the channel that has most become one denial of the channel.
pub(crate) fn limit(consents: &mut Vec<Consent>) {
    while consents.len() > MAX_CONSENTS {
        let weakest = consents.iter().enumerate().filter(|(_, c)| c.state() != ConsentState::Denied);
        let weakest = weakest.min_by_key(|(_, c)| (restriction(c.state()), c.at, c.channel.clone(), c.topic.clone()));
        if let Some((at, _)) = weakest {
            consents.remove(at);
            continue;
        }
        let count = |channel: &str| consents.iter().filter(|c| c.channel == channel).count();
        let Some(most) = consents.iter().map(|c| c.channel.clone()).max_by_key(|channel| count(channel)) else { return };
        if count(&most) < 2 {
            return;
        }
        let newest = consents.iter().filter(|c| c.channel == most).max_by_key(|c| (c.at, c.topic.clone())).cloned();
        consents.retain(|c| c.channel != most);
        let whole = Consent { topic: WHOLE_CHANNEL.to_owned(), expires_at: 0, address: String::new(), ..newest.unwrap_or_default() };
        person::upsert(consents, &whole);
    }
}

/// `*`, or a name that definitions can give a topic.
fn is_topic(topic: &str) -> bool {
    let name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    topic == WHOLE_CHANNEL || (topic.len() <= MAX_WORD && topic.starts_with(|c: char| c.is_ascii_lowercase()) && topic.bytes().all(name))
}

/// A word for people, cut where it is long.
fn short(mut word: String) -> String {
    word.truncate(word.floor_char_boundary(MAX_WORD));
    word
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
