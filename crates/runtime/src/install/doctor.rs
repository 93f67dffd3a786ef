//! What about the log would lose or falsify data (PROTOCOL §13.2). The store has its own `doctor`.

use waypost_types::Role;

use super::{InitSettings, topics, topics::RECORD_BYTES};
use crate::{
    finding::Finding,
    ports::{Log, LogError, TopicSpec},
};

/// Compares every topic with how it has to be. Fewer than three replicas are a warning, because
/// development has one broker.
///
/// # Errors
/// If the log does not answer.
pub async fn doctor(log: &dyn Log, settings: &InitSettings) -> Result<Vec<Finding>, LogError> {
    let mut findings = Vec::new();
    for wanted in topics(settings) {
        match log.describe(&wanted.name).await? {
            Some(found) => judge(&found, &wanted, inbox(&wanted.name, &settings.prefix), &mut findings),
            None => findings.push(Finding::refuse(format!("topic {}", wanted.name), "absent", "there", "run `waypost init`")),
        }
    }
    Ok(together(findings))
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

fn inbox(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|name| Role::KEYED.into_iter().any(|role| role.inbox() == Some(name)))
}

fn judge(found: &TopicSpec, wanted: &TopicSpec, inbox: bool, findings: &mut Vec<Finding>) {
    let value = |spec: &TopicSpec, name: &str| spec.settings.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let name = &wanted.name;
    let alter =
        |setting: &str, to: &str| format!("kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {setting}={to}");
    let mut push = |finding: Finding| findings.push(finding);
    if found.partitions != wanted.partitions {
        let change = "partitions never change in place; restore the topic, or start a new installation under another prefix";
        push(Finding::refuse(format!("{name} partitions"), found.partitions.to_string(), wanted.partitions.to_string(), change));
    }
    if found.replication < 3 {
        let change = "fit for development only: a lost disk loses acknowledged events";
        push(Finding::refuse(format!("{name} replicas"), found.replication.to_string(), "3 or more", change).warning());
    }
    for (setting, want) in &wanted.settings {
        let have = value(found, setting).unwrap_or_default();
        let number = |text: &str| text.parse::<i64>().unwrap_or(0);
        let fits = match setting.as_str() {
            "min.insync.replicas" => {
                if number(&have) < 2 {
                    let change = alter(setting, "2");
                    push(Finding::refuse(format!("{name} {setting}"), have.clone(), "2 or more", change).warning());
                }
                true
            }
            "max.message.bytes" => number(&have) >= i64::try_from(RECORD_BYTES).unwrap_or(i64::MAX),
            // less would lose what a rewound store has to read again; more is somebody's wish
            "retention.ms" => have == "-1" || (want != "-1" && number(&have) >= number(want)) || !inbox,
            "message.timestamp.type" => have == *want || !inbox,
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
        let wanted = topics(&settings).remove(0);
        let judged = |name: &str, value: &str| {
            let mut found = wanted.clone();
            found.settings.retain(|(n, _)| n != name);
            found.settings.push((name.to_owned(), value.to_owned()));
            let mut findings = Vec::new();
            judge(&found, &wanted, inbox(&wanted.name, "x."), &mut findings);
            findings
        };
        for (name, bad) in [
            ("message.timestamp.type", "CreateTime"),
            ("cleanup.policy", "compact"),
            ("retention.bytes", "1073741824"),
            ("retention.ms", "86400000"),
            ("max.message.bytes", "1048588"),
            ("unclean.leader.election.enable", "true"),
        ] {
            let findings = judged(name, bad);
            assert!(findings.len() == 1 && findings[0].refuses() && findings[0].check.ends_with(name), "{name}: {findings:?}");
        }
        for (name, good) in
            [("retention.ms", "-1"), ("retention.ms", "999999999999"), ("max.message.bytes", "9999999"), ("segment.ms", "1")]
        {
            assert_eq!(judged(name, good), [], "{name}");
        }
        assert!(judged("min.insync.replicas", "1").iter().all(|f| !f.refuses()));
    }
}
