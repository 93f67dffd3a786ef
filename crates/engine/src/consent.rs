//! Consent (PRODUCT §5.4): whether a message of a topic may go out on a channel, and until when that holds.
//!
//! Suppressions are not looked at here: they belong to the address and are kept in its own log, where
//! gate 10 asks.

use waypost_codec::inbox::{Consent, ConsentState, Person};
use waypost_types::Timestamp;

use crate::{
    address,
    definitions::{Class, ConsentDefault, Topic},
    person::{self, WHOLE_CHANNEL},
};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whose.
    pub person: &'a Person,
    /// `email`, …
    pub channel: &'a str,
    /// Name of the topic; none for a transactional send without one.
    pub topic: Option<&'a str>,
    /// Its definition, where there is one.
    pub definition: Option<&'a Topic>,
    /// Marketing or transactional.
    pub class: Class,
    /// Where it would go, if that is known.
    pub address: Option<&'a str>,
    /// Log time.
    pub now: Timestamp,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody said no.
    Denied,
    /// Nobody said yes, and the topic asks for it.
    Missing,
    /// The double opt-in is not done.
    Pending,
    /// It was yes until a date now past.
    Expired,
    /// Yes, but for another number.
    OtherAddress,
}

/// The answer and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// None: allowed.
    pub refusal: Option<Refusal>,
    /// When time alone may change it.
    pub valid_until: Option<Timestamp>,
    /// `email/cart-reminders granted express`.
    pub because: String,
}

/// An entry of the ledger as of now.
enum Standing<'a> {
    Unset,
    Granted(&'a Consent),
    Denied(&'a Consent),
    Pending,
    Expired,
}

/// Whether this may be sent; the first rule that matches wins.
pub fn resolve(question: &Question<'_>) -> Ruling {
    let Question { person, channel, topic, now, .. } = *question;
    let whole = standing(person, channel, WHOLE_CHANNEL, now);
    let own = topic.map_or(Standing::Unset, |topic| standing(person, channel, topic, now));
    let name = topic.unwrap_or(WHOLE_CHANNEL);

    if let Standing::Denied(denial) = whole {
        let newer = matches!(own, Standing::Granted(grant) if grant.basis == "express" && grant.at > denial.at);
        if !newer {
            return refused(Refusal::Denied, format!("{channel}/{WHOLE_CHANNEL} denied"));
        }
    }
    if question.class == Class::Transactional {
        return allowed(format!("{channel}/{WHOLE_CHANNEL} not denied"), None);
    }
    match own {
        Standing::Denied(_) => return refused(Refusal::Denied, format!("{channel}/{name} denied")),
        Standing::Pending => return refused(Refusal::Pending, format!("{channel}/{name} pending")),
        Standing::Expired => return refused(Refusal::Expired, format!("{channel}/{name} expired")),
        Standing::Granted(grant) => return granted(question, grant, name),
        Standing::Unset => {}
    }
    if let Standing::Granted(grant) = whole
        && question.definition.is_some_and(|t| t.inherit)
    {
        return granted(question, grant, WHOLE_CHANNEL);
    }
    match default_of(question.definition, channel) {
        ConsentDefault::OptOut => allowed(format!("{channel}/{name} unset, opt_out"), None),
        ConsentDefault::OptIn => refused(Refusal::Missing, format!("{channel}/{name} unset, opt_in")),
    }
}

fn granted(question: &Question<'_>, grant: &Consent, name: &str) -> Ruling {
    let channel = question.channel;
    let because = format!("{channel}/{name} granted {}", grant.basis);
    // Consent on phone channels is for the number it names.
    let phone = matches!(channel, "sms" | "whatsapp" | "rcs" | "viber");
    let other = phone
        && !grant.address.is_empty()
        && question.address.is_some_and(|a| address::normalise(channel, a) != address::normalise(channel, &grant.address));
    if other {
        return refused(Refusal::OtherAddress, because);
    }
    allowed(because, (grant.expires_at != 0).then(|| Timestamp::from_millis(grant.expires_at)))
}

fn standing<'a>(person: &'a Person, channel: &str, topic: &str, now: Timestamp) -> Standing<'a> {
    let Some(entry) = person::consent(person, channel, topic) else { return Standing::Unset };
    let lapsed = entry.expires_at != 0 && now.millis() >= entry.expires_at;
    match entry.state() {
        ConsentState::Unspecified => Standing::Unset,
        ConsentState::Denied => Standing::Denied(entry),
        ConsentState::Pending => Standing::Pending,
        ConsentState::Granted if lapsed => Standing::Expired,
        ConsentState::Granted => Standing::Granted(entry),
    }
}

fn default_of(topic: Option<&Topic>, channel: &str) -> ConsentDefault {
    // A push token is itself a permission.
    let unsaid = if matches!(channel, "push" | "onsite") { ConsentDefault::OptOut } else { ConsentDefault::OptIn };
    topic.and_then(|t| t.defaults.get(channel)).copied().unwrap_or(unsaid)
}

fn allowed(because: String, valid_until: Option<Timestamp>) -> Ruling {
    Ruling { refusal: None, valid_until, because }
}

fn refused(refusal: Refusal, because: String) -> Ruling {
    Ruling { refusal: Some(refusal), valid_until: None, because }
}

// === impl Refusal ===

impl Refusal {
    /// Its reason code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Denied => "CONSENT_DENIED",
            Self::Missing => "CONSENT_MISSING",
            Self::Pending => "CONSENT_PENDING",
            Self::Expired => "CONSENT_EXPIRED",
            Self::OtherAddress => "CONSENT_OTHER_ADDRESS",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A ledger as text: `email/news granted express 5; email/* denied - 7; sms/news granted express 5 until 20 for +491`.
    fn ledger(text: &str) -> Person {
        let mut person = Person::default();
        for line in text.split(';').map(str::trim).filter(|l| !l.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (channel, topic) = words[0].split_once('/').unwrap();
            let after = |word: &str| words.iter().position(|w| *w == word).map(|i| words[i + 1]);
            let state = match words[1] {
                "granted" => ConsentState::Granted,
                "denied" => ConsentState::Denied,
                "pending" => ConsentState::Pending,
                other => panic!("{other}"),
            };
            person.consents.push(Consent {
                channel: channel.to_owned(),
                topic: topic.to_owned(),
                state: state.into(),
                basis: words[2].to_owned(),
                at: words[3].parse().unwrap(),
                expires_at: after("until").map_or(0, |t| t.parse().unwrap()),
                address: after("for").unwrap_or_default().to_owned(),
                ..Consent::default()
            });
        }
        person.consents.sort_by(|a, b| (&a.channel, &a.topic).cmp(&(&b.channel, &b.topic)));
        person
    }

    fn topic(inherit: bool, defaults: &[(&str, ConsentDefault)]) -> Topic {
        Topic {
            name: "news".to_owned(),
            title: String::new(),
            class: Class::Marketing,
            defaults: defaults.iter().map(|(c, d)| ((*c).to_owned(), *d)).collect::<BTreeMap<_, _>>(),
            inherit,
        }
    }

    fn ask(person: &Person, channel: &str, topic: &Topic, class: Class) -> &'static str {
        let question = Question {
            person,
            channel,
            topic: Some("news"),
            definition: Some(topic),
            class,
            address: Some(if channel == "sms" { "+49 1" } else { "ana@shop.example" }),
            now: Timestamp::from_millis(10),
        };
        resolve(&question).refusal.map_or("yes", Refusal::code)
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let strict = topic(false, &[]);
        let inherits = topic(true, &[]);
        let open = topic(false, &[("email", ConsentDefault::OptOut)]);
        for (text, topic, expected) in [
            ("", &strict, "CONSENT_MISSING"),
            ("", &open, "yes"),
            ("email/news granted express 5", &strict, "yes"),
            ("email/news denied - 5", &open, "CONSENT_DENIED"),
            ("email/news pending - 5", &open, "CONSENT_PENDING"),
            ("email/news granted implied 1 until 10", &open, "CONSENT_EXPIRED"),
            ("email/news granted implied 1 until 11", &strict, "yes"),
            ("email/* granted express 5", &strict, "CONSENT_MISSING"),
            ("email/* granted express 5", &inherits, "yes"),
            ("email/* granted express 5 until 9", &inherits, "CONSENT_MISSING"),
            ("email/* denied - 5", &open, "CONSENT_DENIED"),
            ("email/* denied - 5; email/news granted express 4", &open, "CONSENT_DENIED"),
            ("email/* denied - 5; email/news granted express 5", &open, "CONSENT_DENIED"),
            ("email/* denied - 5; email/news granted implied 6", &open, "CONSENT_DENIED"),
            ("email/* denied - 5; email/news granted express 6", &strict, "yes"),
            ("email/* granted express 9; email/news denied - 1", &inherits, "CONSENT_DENIED"),
        ] {
            assert_eq!(ask(&ledger(text), "email", topic, Class::Marketing), expected, "{text}");
        }
    }

    #[test]
    fn only_a_denial_of_the_channel_stops_a_transactional_send() {
        let strict = topic(false, &[]);
        for (text, expected) in [("", "yes"), ("email/news denied - 5", "yes"), ("email/* denied - 5", "CONSENT_DENIED")] {
            assert_eq!(ask(&ledger(text), "email", &strict, Class::Transactional), expected, "{text}");
        }
    }

    #[test]
    fn a_phones_consent_is_for_its_number() {
        let strict = topic(false, &[]);
        for (text, expected) in
            [("sms/news granted express 5 for +491", "yes"), ("sms/news granted express 5 for +492", "CONSENT_OTHER_ADDRESS")]
        {
            assert_eq!(ask(&ledger(text), "sms", &strict, Class::Marketing), expected, "{text}");
        }
    }

    #[test]
    fn a_push_token_is_a_permission() {
        assert_eq!(ask(&ledger(""), "push", &topic(false, &[]), Class::Marketing), "yes");
    }
}
