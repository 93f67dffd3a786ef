//! What about the log would lose or falsify data (PROTOCOL §13.2). The store has its own `doctor`.
//!
//! Whether anybody may write to an inbox by a transaction cannot be asked through the client: [`NOT_ASKED`] says so, and
//! brokers without any authorizer are found.

use waypost_types::{Role, Span, Timestamp};

use super::{
    InitSettings, topics,
    topics::{LATER, RECORD_BYTES},
};
use crate::{
    finding::Finding,
    ports::{Append, Clock, Log, LogError, TopicSpec},
    progress,
};

/// What is found of a topic that is not there.
const ABSENT: &str = "absent";
/// How far this computer's clock may be from a broker's.
const CLOCKS: Span = Span::from_secs(1);

/// What is left to the operator, with the command that shows it.
pub const NOT_ASKED: &str = "not asked: who may write to the inboxes, and who by transactions, whose markers leave holes in \
    them; only Waypost may have Write on <prefix>wp1.*, and nobody who has it Write on a transactional id: \
    kafka-acls.sh --list --topic '<prefix>wp1.send' --resource-pattern-type match, \
    kafka-acls.sh --list --transactional-id '*' --resource-pattern-type any";

/// Compares every topic, the brokers and their clocks with how they have to be. Fewer than three replicas are a
/// warning where the settings ask for fewer, because development has one broker.
///
/// # Errors
/// If the log does not answer.
pub async fn doctor(log: &dyn Log, clock: &dyn Clock, settings: &InitSettings) -> Result<Vec<Finding>, LogError> {
    let mut findings = Vec::new();
    for wanted in topics(settings) {
        match log.describe(&wanted.name).await? {
            Some(found) => judge(&found, &wanted, &settings.prefix, &mut findings),
            None => findings.push(absent(&wanted.name, &settings.prefix)),
        }
    }
    match log.brokers().await {
        Ok(brokers) => {
            findings.extend(brokers.iter().filter_map(|(name, settings)| judge_broker(name, settings)));
            findings.extend(judge_authorizer(&brokers));
        }
        Err(error) => {
            let change = "allow DescribeConfigs on the cluster; auto.create.topics.enable has to be false there";
            findings.push(Finding::refuse("kafka brokers' settings", error.to_string(), "readable", change).warning());
        }
    }
    if findings.iter().all(|f| f.found != ABSENT || !f.refuses()) {
        findings.extend(clocks(log, clock, &settings.prefix).await?);
    }
    Ok(together(findings))
}

/// A topic that is not there. One that came later than the installation is made by the next `init`, which a rolling upgrade need not
/// wait for.
fn absent(name: &str, prefix: &str) -> Finding {
    let finding = Finding::refuse(format!("topic {name}"), ABSENT, "there", "run `waypost init`");
    let is_later = name.strip_prefix(prefix).is_some_and(|own| LATER.contains(&own));
    if is_later { finding.warning() } else { finding }
}

/// Asks a broker for the time: it stamps an empty statement on the progress topic, which says nothing of anybody.
async fn clocks(log: &dyn Log, clock: &dyn Clock, prefix: &str) -> Result<Option<Finding>, LogError> {
    let topic = format!("{prefix}{}", progress::TOPIC);
    let append = Append { topic: topic.clone(), partition: 0, key: None, headers: Vec::new(), payload: bytes::Bytes::new() };
    let producer = log.producer()?;
    // the first one also waits for the connection
    producer.append(append.clone()).await.map_err(|e| LogError::Unavailable(e.to_string()))?;
    let before = clock.now();
    let offset = producer.append(append).await.map_err(|e| LogError::Unavailable(e.to_string()))?;
    let after = clock.now();
    let mut tail = log.tail(&topic, 0, offset).await?;
    let stamped = tail.next().await?.filter(|delivery| delivery.offset == offset).map(|delivery| delivery.appended);
    Ok(stamped.and_then(|stamped| judge_clock(before, stamped, after)))
}

/// A stamp that was set between two looks at our own clock.
fn judge_clock(before: Timestamp, stamped: Timestamp, after: Timestamp) -> Option<Finding> {
    let (ahead, behind) = (before.since(stamped), stamped.since(after));
    let apart = ahead.max(behind);
    (apart > CLOCKS).then(|| {
        let word = if ahead > behind { "ahead of" } else { "behind" };
        let change = "let both follow the same NTP servers (chronyc tracking): timers fire by the slower of the two clocks";
        Finding::refuse("clock", format!("{apart} {word} the broker's"), format!("within {CLOCKS}"), change)
    })
}

fn judge_broker(name: &str, settings: &[(String, String)]) -> Option<Finding> {
    const AUTO: &str = "auto.create.topics.enable";
    let on = settings.iter().any(|(setting, value)| setting == AUTO && value != "false");
    on.then(|| {
        let change = format!("set {AUTO}=false in the broker's server.properties and restart it: a mistyped prefix must not become topics");
        Finding::refuse(format!("kafka broker {name} {AUTO}"), "true", "false", change)
    })
}

/// Where nothing is authorized everybody may forge ticks, attempts and leaders, and write by transactions. A broker that
/// does not show the setting is taken for one that authorizes.
fn judge_authorizer(brokers: &[(String, Vec<(String, String)>)]) -> Option<Finding> {
    const AUTHORIZER: &str = "authorizer.class.name";
    let open = |settings: &[(String, String)]| settings.iter().any(|(setting, value)| setting == AUTHORIZER && value.is_empty());
    let open: Vec<&str> = brokers.iter().filter(|(_, settings)| open(settings)).map(|(name, _)| name.as_str()).collect();
    (!open.is_empty()).then(|| {
        let change =
            "set an authorizer and give Write on Waypost's inboxes to Waypost alone, and no transactional id to anybody who has it";
        let found = format!("none at {}: anybody may write to the inboxes", open.join(", "));
        Finding::refuse(format!("kafka {AUTHORIZER}"), found, "an authorizer", change).warning()
    })
}

/// Warnings that many topics share become one: a start prints what to do, not how often.
fn together(findings: Vec<Finding>) -> Vec<Finding> {
    let (warnings, mut all): (Vec<_>, Vec<_>) = findings.into_iter().partition(|f| !f.refuses());
    let mut shared: Vec<(usize, Finding)> = Vec::new();
    for warning in warnings {
        let setting = warning.check.rsplit(' ').next().unwrap_or_default().to_owned();
        let same = |f: &Finding| f.check.ends_with(&setting) && f.found == warning.found && f.wanted == warning.wanted;
        match shared.iter_mut().find(|(_, f)| same(f)) {
            Some((count, _)) => *count += 1,
            None => shared.push((1, warning)),
        }
    }
    all.extend(
        shared
            .into_iter()
            .map(|(count, f)| if count == 1 { f } else { Finding { check: format!("{} and {} other topics", f.check, count - 1), ..f } }),
    );
    all
}

fn judge(found: &TopicSpec, wanted: &TopicSpec, prefix: &str, findings: &mut Vec<Finding>) {
    let own = wanted.name.strip_prefix(prefix).unwrap_or_default();
    let inbox = Role::KEYED.into_iter().any(|role| role.inbox() == Some(own));
    let value = |spec: &TopicSpec, name: &str| spec.settings.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let name = &wanted.name;
    let alter =
        |setting: &str, to: &str| format!("kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {setting}={to}");
    // who asks for fewer replicas knows; who asked for three must get them
    let less = |finding: Finding| if wanted.replication < 3 { finding.warning() } else { finding };
    let mut push = |finding: Finding| findings.push(finding);
    if found.partitions != wanted.partitions {
        let change = "partitions never change in place; restore the topic, or start a new installation under another prefix";
        push(Finding::refuse(format!("{name} partitions"), found.partitions.to_string(), wanted.partitions.to_string(), change));
    }
    if found.replication < 3 {
        let change = "kafka-reassign-partitions.sh with three replicas each; fewer are fit for development only: a lost disk loses events";
        push(less(Finding::refuse(format!("{name} replicas"), found.replication.to_string(), "3 or more", change)));
    }
    for (setting, want) in &wanted.settings {
        let have = value(found, setting).unwrap_or_default();
        let number = |text: &str| text.parse::<i64>().unwrap_or(0);
        let fits = match setting.as_str() {
            "min.insync.replicas" => {
                if number(&have) < 2 {
                    let change = alter(setting, "2");
                    push(less(Finding::refuse(format!("{name} {setting}"), have.clone(), "2 or more", change)));
                }
                true
            }
            "max.message.bytes" => number(&have) >= i64::try_from(RECORD_BYTES).unwrap_or(i64::MAX),
            // less would lose what a rewound store has to read again; more is somebody's wish
            "retention.ms" => have == "-1" || (want != "-1" && (number(&have) >= number(want) || !inbox)),
            // only how soon it is compacted
            "segment.bytes" => true,
            // inboxes are folded by the broker's stamp, and clocks are compared by that of the progress topic
            "message.timestamp.type" => have == *want || !(inbox || own == progress::TOPIC),
            _ => have == *want,
        };
        if !fits {
            push(Finding::refuse(format!("{name} {setting}"), have, want.clone(), alter(setting, want)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::topics::{CONTROL, DEFINITIONS, OPERATIONS, REPORTS};

    /// Of which topics something is refused.
    type Refused<'a> = &'a dyn Fn(&str) -> bool;

    #[test]
    fn a_warning_that_topics_share_is_said_once() {
        let warn = |topic: &str| Finding::refuse(format!("{topic} replicas"), "1", "3 or more", "add brokers").warning();
        let found = together(vec![warn("a"), Finding::refuse("a partitions", "1", "2", "restore"), warn("b"), warn("c")]);
        let checks: Vec<_> = found.iter().map(|f| f.check.as_str()).collect();
        assert_eq!(checks, ["a partitions", "a replicas and 2 other topics"]);
    }

    #[test]
    fn what_loses_data_is_found_and_what_is_only_more_is_not() {
        let settings = InitSettings::new("x.", 4, 3);
        let inboxes: Vec<_> = Role::KEYED.into_iter().filter_map(Role::inbox).collect();
        let inbox = |topic: &str| inboxes.contains(&topic);
        let judged: [(&str, &str, Refused<'_>); 12] = [
            ("message.timestamp.type", "CreateTime", &|topic| inbox(topic) || topic == progress::TOPIC),
            ("cleanup.policy", "compact", &|topic| topic != DEFINITIONS),
            ("cleanup.policy", "delete", &|topic| [DEFINITIONS, OPERATIONS, REPORTS].contains(&topic)),
            ("retention.bytes", "1073741824", &|topic| inbox(topic) || topic == CONTROL),
            ("retention.ms", "86400000", &|topic| inbox(topic) || topic == CONTROL),
            ("retention.ms", "999999999999", &|topic| topic == CONTROL),
            ("retention.ms", "-1", &|_| false),
            ("max.message.bytes", "1048588", &|topic| ![CONTROL, "wp1.audit", OPERATIONS, progress::TOPIC, REPORTS].contains(&topic)),
            ("max.message.bytes", "9999999", &|_| false),
            ("segment.ms", "1", &|_| false),
            ("unclean.leader.election.enable", "true", &|_| true),
            ("min.insync.replicas", "1", &|_| true),
        ];
        for wanted in topics(&settings) {
            let mut findings = Vec::new();
            judge(&wanted, &wanted, "x.", &mut findings);
            assert_eq!(findings, [], "as `init` makes it");
            for (name, value, refused) in &judged {
                let mut found = wanted.clone();
                found.settings.retain(|(n, _)| n != name);
                found.settings.push(((*name).to_owned(), (*value).to_owned()));
                judge(&found, &wanted, "x.", &mut findings);
                let told: Vec<_> = findings.drain(..).map(|f| (f.check.clone(), f.refuses())).collect();
                let topic = &wanted.name;
                let expected = refused(topic.trim_start_matches("x.")).then(|| (format!("{topic} {name}"), true));
                assert_eq!(told, expected.into_iter().collect::<Vec<_>>(), "{topic} with {name}={value}");
            }
        }
    }

    #[test]
    fn a_topic_that_came_later_stops_no_start() {
        assert!(absent("x.wp1.dead", "x.").refuses());
        assert!(!absent("x.wp1.operations", "x.").refuses());
    }

    #[test]
    fn one_broker_is_a_warning_where_nobody_asked_for_more() {
        for (asked, there, refused, warned) in [(1, 1, 0, 2), (3, 3, 0, 0), (3, 1, 2, 0), (1, 3, 0, 1)] {
            let settings = InitSettings::new("x.", 4, asked);
            let wanted = topics(&settings).remove(0);
            let mut found = TopicSpec { replication: there, ..wanted.clone() };
            let acks = if there == asked { settings.min_isr } else { 1 };
            found.settings.iter_mut().filter(|(n, _)| n == "min.insync.replicas").for_each(|(_, v)| *v = acks.to_string());
            let mut findings = Vec::new();
            judge(&found, &wanted, "x.", &mut findings);
            let count = findings.iter().filter(|f| f.refuses()).count();
            assert_eq!((count, findings.len() - count), (refused, warned), "{asked} asked for, {there} there: {findings:?}");
        }
    }

    #[test]
    fn a_clock_is_right_where_the_stamp_may_have_been_set_between_two_looks() {
        let at = Timestamp::from_millis;
        for (before, stamped, after, says) in [
            (1_000, 1_000, 1_000, ""),
            (1_000, 1_500, 9_000, ""),
            (5_000, 4_000, 5_010, ""),
            (5_000, 3_900, 5_010, "ahead of"),
            (5_000, 6_010, 5_010, ""),
            (5_000, 6_111, 5_110, "behind"),
        ] {
            let found = judge_clock(at(before), at(stamped), at(after)).map(|f| f.found).unwrap_or_default();
            assert!(if says.is_empty() { found.is_empty() } else { found.contains(says) }, "{before} {stamped} {after}: {found}");
        }
    }

    #[test]
    fn brokers_that_ask_nobody_who_he_is_are_a_warning() {
        let broker = |name: &str, settings: &[(&str, &str)]| {
            (name.to_owned(), settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>())
        };
        let asks = broker("k1:9092", &[("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")]);
        let open = broker("k2:9092", &[("authorizer.class.name", "")]);
        assert_eq!(judge_authorizer(&[]), None);
        assert_eq!(judge_authorizer(&[asks.clone(), broker("k3:9092", &[])]), None);
        let found = judge_authorizer(&[asks, open]).expect("a warning");
        assert!(!found.refuses() && found.found.starts_with("none at k2:9092:"), "{found}");
    }

    #[test]
    fn brokers_make_no_topics_by_themselves() {
        let judged = |value: &str| judge_broker("k1:9092", &[("auto.create.topics.enable".to_owned(), value.to_owned())]);
        assert_eq!(judged("false"), None);
        assert!(judged("true").is_some_and(|f| f.refuses() && f.check.contains("k1:9092")));
        assert_eq!(judge_broker("k1:9092", &[]), None);
    }
}
