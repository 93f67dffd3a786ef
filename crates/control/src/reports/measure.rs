//! What a row of a public topic counts: whose, when, and which figures.

use serde::Deserialize;
use waypost_codec::{
    avro,
    public::{Decision, Message},
};
use waypost_runtime::ports::Delivery;
use waypost_types::{Currency, Timestamp};

/// A topic that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Public {
    Decisions,
    Messages,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Entered,
    Refused,
    Rearmed,
    Sent,
    Stopped,
    Recalled,
    Accepted,
    Delivered,
    Opened,
    Complained,
    Bounced,
    Failed,
    Expired,
    Unknown,
    Exited,
    Goals,
    /// Minor units; the reason is the currency.
    Value,
}

/// Whose figures: a journey's, of one version and step. Version 0 where the row names none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) workspace: u32,
    pub(crate) journey: String,
    pub(crate) version: u32,
    pub(crate) step: String,
}

/// One figure of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Figure {
    pub(crate) what: What,
    /// Empty where it has none.
    pub(crate) reason: String,
    pub(crate) amount: i64,
}

/// What a row counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) series: Series,
    pub(crate) at: Timestamp,
    pub(crate) figures: Vec<Figure>,
}

/// What is read of `detail`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    note: String,
    outcome: String,
}

// === impl Public ===

impl Public {
    pub(crate) const ALL: [Self; 2] = [Self::Decisions, Self::Messages];

    /// Without prefix.
    pub(crate) fn topic(self) -> &'static str {
        match self {
            Self::Decisions => Decision::TOPIC,
            Self::Messages => Message::TOPIC,
        }
    }

    pub(crate) fn parse(topic: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|public| public.topic() == topic)
    }

    /// What the row of a record counts, maybe nothing.
    ///
    /// # Errors
    /// A row of a schema that this release does not know.
    pub(crate) fn read(self, delivery: &Delivery) -> Result<Option<Counted>, Unreadable> {
        let (_, body) = avro::read(&delivery.headers, &delivery.payload).map_err(|_| Unreadable)?;
        match self {
            Self::Decisions => Decision::decode(&body).map(decision),
            Self::Messages => Message::decode(&body).map(message),
        }
        .ok_or(Unreadable)
    }
}

/// A row of a schema that this release does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

// === impl What ===

impl What {
    pub(crate) const ALL: [Self; 17] = [
        Self::Entered,
        Self::Refused,
        Self::Rearmed,
        Self::Sent,
        Self::Stopped,
        Self::Recalled,
        Self::Accepted,
        Self::Delivered,
        Self::Opened,
        Self::Complained,
        Self::Bounced,
        Self::Failed,
        Self::Expired,
        Self::Unknown,
        Self::Exited,
        Self::Goals,
        Self::Value,
    ];

    /// Its word, in the answer and in what is stored.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Entered => "entered",
            Self::Refused => "refused",
            Self::Rearmed => "rearmed",
            Self::Sent => "sent",
            Self::Stopped => "stopped",
            Self::Recalled => "recalled",
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Opened => "opened",
            Self::Complained => "complained",
            Self::Bounced => "bounced",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Exited => "exited",
            Self::Goals => "goals",
            Self::Value => "value",
        }
    }

    /// What a stored word counts, and its reason; none of a word of a later release, which is kept all the same.
    pub(crate) fn parse(word: &str) -> Option<(Self, &str)> {
        let (what, reason) = word.split_once(' ').unwrap_or((word, ""));
        Self::ALL.into_iter().find(|known| known.as_str() == what).map(|what| (what, reason))
    }
}

// === impl Figure ===

impl Figure {
    fn one(what: What, reason: &str) -> Self {
        Self { what, reason: reason.to_owned(), amount: 1 }
    }

    /// As it is stored.
    pub(crate) fn word(&self) -> String {
        let what = self.what.as_str();
        if self.reason.is_empty() { what.to_owned() } else { format!("{what} {}", self.reason) }
    }
}

fn decision(row: Decision) -> Option<Counted> {
    let figures = match row.what.as_str() {
        "ENTERED" => vec![Figure::one(What::Entered, "")],
        "REFUSED" => vec![Figure::one(What::Refused, &row.reason)],
        "REARMED" => vec![Figure::one(What::Rearmed, "")],
        "SENT" => vec![Figure::one(What::Sent, "")],
        "STOPPED" => vec![Figure::one(What::Stopped, &row.reason)],
        "RECALLED" => vec![Figure::one(What::Recalled, &row.reason)],
        "EXITED" => vec![Figure::one(What::Exited, &row.reason)],
        "GOAL" => std::iter::once(Figure::one(What::Goals, "")).chain(value(&detail(&row.detail).note)).collect(),
        // Receipts stand on the other topic; waits and branches are no figures of ours; words to come pass.
        _ => return None,
    };
    let series = Series { workspace: row.workspace, journey: row.journey, version: row.version, step: row.step };
    Some(Counted { series, at: row.at, figures })
}

fn message(row: Message) -> Option<Counted> {
    let figure = match row.name.as_str() {
        "Message Accepted" => Figure::one(What::Accepted, &row.reason),
        "Message Delivered" => Figure::one(What::Delivered, ""),
        "Message Opened" => Figure::one(What::Opened, ""),
        "Message Complained" => Figure::one(What::Complained, ""),
        "Message Bounced" => Figure::one(What::Bounced, &row.reason),
        "Message Unknown" => Figure::one(What::Unknown, ""),
        "Message Expired" => Figure::one(What::Expired, ""),
        // What our own gates stopped at the address has the name of what a provider would not take.
        "Message Failed" if detail(&row.detail).outcome == "stopped" => Figure::one(What::Stopped, &row.reason),
        "Message Failed" => Figure::one(What::Failed, &row.reason),
        _ => return None,
    };
    let series = Series { workspace: row.workspace, journey: row.journey, version: 0, step: row.step };
    Some(Counted { series, at: row.at, figures: vec![figure] })
}

fn detail(json: &str) -> Detail {
    serde_json::from_str(json).unwrap_or_default()
}

/// What a goal was worth, of the note `value 89.00 EUR`; none of a value that is no money.
fn value(note: &str) -> Option<Figure> {
    let (amount, code) = note.strip_prefix("value ")?.rsplit_once(' ')?;
    let (minor, was_rounded) = Currency::parse(code)?.minor_units(amount)?;
    (!was_rounded).then(|| Figure { what: What::Value, reason: code.to_owned(), amount: minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(counted: Option<Counted>) -> String {
        let figures = counted.map(|counted| counted.figures).unwrap_or_default();
        figures.iter().map(|figure| format!("{}={}", figure.word(), figure.amount)).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn decisions_count_what_they_say() {
        let cases = [
            ("ENTERED", "", "", "entered=1"),
            ("REFUSED", "NO_CONSENT", "", "refused NO_CONSENT=1"),
            ("REARMED", "UPDATED", "", "rearmed=1"),
            ("EXITED", "GOAL", "", "exited GOAL=1"),
            ("GOAL", "", r#"{"checks":[],"note":"value 89.00 EUR"}"#, "goals=1, value EUR=8900"),
            ("GOAL", "", r#"{"note":"value 1250 JPY"}"#, "goals=1, value JPY=1250"),
            ("GOAL", "", r#"{"note":"value 7"}"#, "goals=1"),
            ("GOAL", "", r#"{"note":"value 7 apples"}"#, "goals=1"),
            ("GOAL", "", "no JSON", "goals=1"),
            ("SENT", "", "", "sent=1"),
            ("STOPPED", "QUIET_HOURS", "", "stopped QUIET_HOURS=1"),
            ("RECALLED", "GOAL", "", "recalled GOAL=1"),
            ("RECEIPT", "accepted", "", ""),
            ("WAITING", "", "", ""),
            ("SOMETHING_NEW", "", "", ""),
        ];
        for (what, reason, detail, expected) in cases {
            let row = Decision { what: what.into(), reason: reason.into(), detail: detail.into(), ..Decision::default() };
            assert_eq!(figures(decision(row)), expected, "{what} {detail}");
        }
    }

    #[test]
    fn messages_count_what_became_of_them() {
        let cases = [
            ("Message Accepted", "", "accepted", "accepted=1"),
            ("Message Accepted", "RACED", "accepted", "accepted RACED=1"),
            ("Message Bounced", "PROVIDER_RECIPIENT", "permanent_recipient", "bounced PROVIDER_RECIPIENT=1"),
            ("Message Unknown", "OUTCOME_UNKNOWN", "unknown", "unknown=1"),
            ("Message Expired", "EXPIRED", "stopped", "expired=1"),
            ("Message Failed", "SUPPRESSED", "stopped", "stopped SUPPRESSED=1"),
            ("Message Failed", "PROVIDER_CONTENT", "permanent_content", "failed PROVIDER_CONTENT=1"),
            ("Message Delivered", "", "", "delivered=1"),
            ("Message Opened", "", "", "opened=1"),
            ("Message Complained", "", "", "complained=1"),
            ("Message Clicked", "", "", ""),
        ];
        for (name, reason, outcome, expected) in cases {
            let detail = format!(r#"{{"outcome":"{outcome}"}}"#);
            let row = Message { name: name.into(), reason: reason.into(), detail, ..Message::default() };
            assert_eq!(figures(message(row)), expected, "{name} {reason}");
        }
    }

    #[test]
    fn every_word_is_read_as_it_is_written() {
        for what in What::ALL {
            let figure = Figure { what, reason: "A_B".to_owned(), amount: 1 };
            assert_eq!(What::parse(&figure.word()), Some((what, "A_B")));
            assert_eq!(What::parse(what.as_str()), Some((what, "")));
        }
        assert_eq!(What::parse("clicked X"), None);
    }
}
