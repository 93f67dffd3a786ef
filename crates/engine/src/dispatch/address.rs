//! What an address has to say to a send: suppressions, and what was sent to it lately (gate 10).

use waypost_codec::{
    inbox::{Dispatch, EraseAddress, Suppress, Unsuppress},
    state::{AddressState, Erasure, LastSend, Suppression},
};
use waypost_types::{Span, Timestamp};

/// Within which the same step of the same journey for the same key is not sent again to this address
/// for another profile.
pub const DUPLICATE_WINDOW: Span = Span::from_hours(12);
/// For so long a dispatch to an erased profile is stopped here: longer than any is valid, and than what was in the log
/// before the erasure can take to come by.
pub const ERASURE_LASTS: Span = Span::from_days(10);
/// Erased profiles an address remembers.
const MAX_ERASURES: usize = 16;
const MAX_LAST_SENDS: usize = 64;
/// Suppressions of an address; of more, those of one reason become one for all topics.
const MAX_SUPPRESSIONS: usize = 64;
/// Longest topic that definitions can name, bytes; what says another is meant for all.
const MAX_TOPIC: usize = 63;
const REASONS: [&str; 7] = ["HARD_BOUNCE", "SOFT_BOUNCE", "COMPLAINT", "UNSUBSCRIBED", "STOP", "MANUAL", "ERASED"];
const MARKETING_ONLY: [&str; 2] = ["COMPLAINT", "UNSUBSCRIBED"];
const SOFT_BOUNCE_LASTS: Span = Span::from_days(14);

/// The address is not to be used: for everything, or for one topic.
pub fn suppress(address: &mut AddressState, suppress: &Suppress, now: Timestamp) {
    address.now = now.millis();
    let reason = reason(&suppress.reason).to_owned();
    let whole = suppress.topic == "*" || suppress.topic.len() > MAX_TOPIC;
    let topic = if whole { String::new() } else { suppress.topic.clone() };
    if !address.suppressions.iter().any(|s| s.reason == reason && s.topic == topic) {
        let until = if reason == "SOFT_BOUNCE" { now.plus(SOFT_BOUNCE_LASTS).millis() } else { 0 };
        address.suppressions.push(Suppression { reason, topic, at: now.millis(), until });
        limit(&mut address.suppressions);
        address.suppressions.sort_by(|a, b| (&a.reason, &a.topic).cmp(&(&b.reason, &b.topic)));
    }
}

/// Too many topics of one reason become all topics: rather one message too few than a word forgotten.
fn limit(suppressions: &mut Vec<Suppression>) {
    while suppressions.len() > MAX_SUPPRESSIONS {
        let count = |reason: &str| suppressions.iter().filter(|s| s.reason == reason).count();
        let Some(most) = REASONS.into_iter().max_by_key(|reason| count(reason)) else { return };
        let (all, others): (Vec<_>, Vec<_>) = suppressions.drain(..).partition(|s| s.reason == most);
        let at = all.iter().map(|s| s.at).max().unwrap_or(0);
        // Zero is for ever.
        let until = if all.iter().any(|s| s.until == 0) { 0 } else { all.iter().map(|s| s.until).max().unwrap_or(0) };
        *suppressions = others;
        suppressions.push(Suppression { reason: most.to_owned(), topic: String::new(), at, until });
    }
}

/// It may be used again, as far as this reason and this topic go; without a reason, altogether.
pub fn unsuppress(address: &mut AddressState, unsuppress: &Unsuppress, now: Timestamp) {
    address.now = now.millis();
    if unsuppress.reason.is_empty() {
        address.suppressions.clear();
    } else {
        let reason = reason(&unsuppress.reason);
        let topic = &unsuppress.topic;
        address.suppressions.retain(|s| s.reason != reason || !(topic.is_empty() || s.topic.is_empty() || s.topic == *topic));
    }
}

/// A profile that had this address is erased: what it was sent is forgotten, and what is still to go here for it is
/// stopped. What the address is suppressed for outlasts everybody who has it: it names nobody.
pub fn erase(address: &mut AddressState, erase: &EraseAddress, now: Timestamp) {
    address.now = now.millis();
    address.last_sends.retain(|sent| sent.profile != erase.profile);
    if erase.suppress {
        suppress(address, &Suppress { reason: "ERASED".to_owned(), ..Suppress::default() }, now);
    }
    address.erasures.retain(|known| known.profile != erase.profile);
    address.erasures.push(Erasure { profile: erase.profile.clone(), at: now.millis() });
    let surplus = address.erasures.len().saturating_sub(MAX_ERASURES);
    address.erasures.drain(..surplus);
}

/// Gate 10 as far as the address knows; the reason code of the stop.
pub fn refusal(address: &AddressState, dispatch: &Dispatch, now: Timestamp) -> Option<String> {
    if address.erasures.iter().any(|erased| erased.profile == dispatch.profile) {
        return Some("ERASED".to_owned());
    }
    let transactional = dispatch.class == "transactional";
    let stops = |s: &&Suppression| {
        let class = !transactional || !MARKETING_ONLY.contains(&s.reason.as_str());
        class && (s.topic.is_empty() || s.topic == dispatch.topic) && (s.until == 0 || s.until > now.millis())
    };
    if let Some(suppression) = address.suppressions.iter().find(stops) {
        return Some(if suppression.reason == "ERASED" { "ERASED".to_owned() } else { format!("SUPPRESSED_{}", suppression.reason) });
    }
    let since = now.minus(DUPLICATE_WINDOW).millis();
    let same = |s: &LastSend| {
        s.at > since
            && s.profile != dispatch.profile
            && (s.journey.as_str(), s.step.as_str(), s.run_key.as_str())
                == (dispatch.journey.as_str(), dispatch.step.as_str(), dispatch.run_key.as_str())
    };
    address.last_sends.iter().any(same).then(|| "DUPLICATE_ADDRESS".to_owned())
}

/// A call to this address is about to be made.
pub fn sent(address: &mut AddressState, dispatch: &Dispatch, now: Timestamp) {
    prune(address, now);
    address.last_sends.retain(|s| s.dispatch != dispatch.dispatch);
    address.last_sends.push(LastSend {
        journey: dispatch.journey.clone(),
        step: dispatch.step.clone(),
        run_key: dispatch.run_key.clone(),
        profile: dispatch.profile.clone(),
        at: now.millis(),
        dispatch: dispatch.dispatch.clone(),
    });
    let surplus = address.last_sends.len().saturating_sub(MAX_LAST_SENDS);
    address.last_sends.drain(..surplus);
}

/// The call came to nothing for certain.
pub fn not_sent(address: &mut AddressState, dispatch: &[u8]) {
    address.last_sends.retain(|s| s.dispatch != dispatch);
}

/// Forgets what no gate asks for any more.
pub fn prune(address: &mut AddressState, now: Timestamp) {
    address.now = now.millis();
    let since = now.minus(DUPLICATE_WINDOW).millis();
    address.last_sends.retain(|s| s.at > since);
    address.suppressions.retain(|s| s.until == 0 || s.until > now.millis());
    let since = now.minus(ERASURE_LASTS).millis();
    address.erasures.retain(|erased| erased.at > since);
}

/// When [`prune`] will next have something to forget.
pub fn prunes_at(address: &AddressState) -> Option<Timestamp> {
    let sends = address.last_sends.iter().map(|s| Timestamp::from_millis(s.at).plus(DUPLICATE_WINDOW));
    let ends = address.suppressions.iter().filter(|s| s.until != 0).map(|s| Timestamp::from_millis(s.until));
    let erasures = address.erasures.iter().map(|erased| Timestamp::from_millis(erased.at).plus(ERASURE_LASTS));
    // One waking for all that has gathered, not one for each send.
    sends.max().into_iter().chain(ends).chain(erasures).min()
}

/// Whether there is nothing to keep.
pub fn is_empty(address: &AddressState) -> bool {
    address.last_sends.is_empty() && address.suppressions.is_empty() && address.erasures.is_empty()
}

fn reason(word: &str) -> &'static str {
    let word = word.to_ascii_uppercase();
    let word = word.strip_prefix("SUPPRESSED_").unwrap_or(&word);
    REASONS.into_iter().find(|reason| *reason == word).unwrap_or("MANUAL")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn dispatch(profile: u8, class: &str, topic: &str) -> Dispatch {
        Dispatch {
            dispatch: Bytes::copy_from_slice(&[profile; 16]),
            profile: Bytes::copy_from_slice(&[profile; 31]),
            journey: "cart".to_owned(),
            step: "remind".to_owned(),
            run_key: "k1".to_owned(),
            class: class.to_owned(),
            topic: topic.to_owned(),
            ..Dispatch::default()
        }
    }

    #[test]
    fn suppressions_stop_what_they_name() {
        for (reason, topic, class, expected) in [
            ("unsubscribed", "news", "marketing", Some("SUPPRESSED_UNSUBSCRIBED")),
            ("UNSUBSCRIBED", "other", "marketing", None),
            ("UNSUBSCRIBED", "news", "transactional", None),
            ("SUPPRESSED_HARD_BOUNCE", "", "transactional", Some("SUPPRESSED_HARD_BOUNCE")),
            ("COMPLAINT", "*", "marketing", Some("SUPPRESSED_COMPLAINT")),
            ("COMPLAINT", "", "transactional", None),
            ("STOP", "", "transactional", Some("SUPPRESSED_STOP")),
            ("whatever", "", "marketing", Some("SUPPRESSED_MANUAL")),
        ] {
            let mut address = AddressState::default();
            let word = Suppress { reason: reason.to_owned(), topic: topic.to_owned(), ..Suppress::default() };
            suppress(&mut address, &word, Timestamp::from_millis(1));
            suppress(&mut address, &word, Timestamp::from_millis(2));
            assert_eq!(address.suppressions.len(), 1);
            let found = refusal(&address, &dispatch(1, class, "news"), Timestamp::from_millis(3));
            assert_eq!(found.as_deref(), expected, "{reason} {topic} {class}");
            unsuppress(&mut address, &Unsuppress { reason: reason.to_owned(), ..Unsuppress::default() }, Timestamp::from_millis(4));
            assert!(is_empty(&address));
        }
    }

    #[test]
    fn too_many_topics_become_all_topics_and_no_suppression_is_lost() {
        let mut address = AddressState::default();
        let word = |reason: &str, topic: String| Suppress { reason: reason.to_owned(), topic, ..Suppress::default() };
        suppress(&mut address, &word("MANUAL", "news".to_owned()), Timestamp::from_millis(1));
        for n in 0..200 {
            suppress(&mut address, &word("UNSUBSCRIBED", format!("t{n}")), Timestamp::from_millis(2));
            assert!(address.suppressions.len() <= MAX_SUPPRESSIONS);
        }
        for (topic, expected) in [("news", "SUPPRESSED_MANUAL"), ("t0", "SUPPRESSED_UNSUBSCRIBED"), ("t199", "SUPPRESSED_UNSUBSCRIBED")] {
            let found = refusal(&address, &dispatch(1, "marketing", topic), Timestamp::from_millis(3));
            assert_eq!(found.as_deref(), Some(expected), "{topic}");
        }
        let mut long = AddressState::default();
        suppress(&mut long, &word("STOP", "x".repeat(64)), Timestamp::from_millis(1));
        assert_eq!(long.suppressions[0].topic, "", "a topic that nothing can have is all of them");
    }

    #[test]
    fn an_erased_person_leaves_nothing_or_a_word_that_stays() {
        for suppressed in [false, true] {
            let mut address = AddressState::default();
            let at = Timestamp::from_millis(1_000);
            let stop = Suppress { reason: "STOP".to_owned(), ..Suppress::default() };
            suppress(&mut address, &stop, at);
            sent(&mut address, &dispatch(1, "marketing", "t"), at);
            sent(&mut address, &dispatch(2, "marketing", "t"), at);
            let word = EraseAddress { suppress: suppressed, profile: dispatch(1, "", "").profile, channel: "email".to_owned() };
            erase(&mut address, &word, at);
            erase(&mut address, &word, at);
            assert!(address.last_sends.iter().all(|sent| sent.profile == dispatch(2, "", "").profile), "others keep theirs");
            for class in ["marketing", "transactional"] {
                assert_eq!(refusal(&address, &dispatch(1, class, "t"), at).as_deref(), Some("ERASED"));
            }
            let other = refusal(&address, &dispatch(2, "transactional", "t"), at);
            assert_eq!(other.as_deref(), Some(if suppressed { "ERASED" } else { "SUPPRESSED_STOP" }));
            let over = at.plus(ERASURE_LASTS);
            prune(&mut address, over);
            assert_eq!(prunes_at(&address), None);
            assert_eq!(address.suppressions.len(), if suppressed { 2 } else { 1 }, "a stop is for the address, whoever has it");
        }
    }

    #[test]
    fn a_grant_lifts_what_stopped_its_topic_and_no_other() {
        let mut address = AddressState::default();
        let at = Timestamp::from_millis(1_000);
        let word = |topic: &str| Suppress { reason: "UNSUBSCRIBED".to_owned(), topic: topic.to_owned(), ..Suppress::default() };
        for topic in ["news", "carts", ""] {
            suppress(&mut address, &word(topic), at);
        }
        unsuppress(&mut address, &Unsuppress { reason: "UNSUBSCRIBED".to_owned(), topic: "news".to_owned() }, at);
        assert_eq!(refusal(&address, &dispatch(1, "marketing", "news"), at), None);
        assert_eq!(refusal(&address, &dispatch(1, "marketing", "carts"), at).as_deref(), Some("SUPPRESSED_UNSUBSCRIBED"));
    }

    #[test]
    fn who_expires_does_not_give_free_what_another_left_suppressed() {
        let mut address = AddressState::default();
        let at = Timestamp::from_millis(1_000);
        let word = |n, suppress| EraseAddress { suppress, profile: dispatch(n, "", "").profile, channel: "email".to_owned() };
        erase(&mut address, &word(1, true), at);
        erase(&mut address, &word(2, false), at);
        assert_eq!(refusal(&address, &dispatch(3, "transactional", "t"), at).as_deref(), Some("ERASED"));
    }

    #[test]
    fn another_profile_gets_the_same_step_once_in_twelve_hours() {
        let mut address = AddressState::default();
        let at = Timestamp::from_millis(1_000);
        sent(&mut address, &dispatch(1, "marketing", "t"), at);
        let later = |span| refusal(&address, &dispatch(2, "marketing", "t"), at.plus(span));
        assert_eq!(later(Span::ZERO).as_deref(), Some("DUPLICATE_ADDRESS"));
        assert_eq!(later(Span::from_millis(DUPLICATE_WINDOW.millis() - 1)).as_deref(), Some("DUPLICATE_ADDRESS"));
        assert_eq!(later(DUPLICATE_WINDOW), None);
        assert_eq!(refusal(&address, &dispatch(1, "marketing", "t"), at), None, "the same profile may");
        assert_eq!(refusal(&address, &Dispatch { run_key: "k2".to_owned(), ..dispatch(2, "", "") }, at), None);
        assert_eq!(prunes_at(&address), Some(at.plus(DUPLICATE_WINDOW)));
        not_sent(&mut address, &[1; 16]);
        assert!(is_empty(&address));
    }
}
