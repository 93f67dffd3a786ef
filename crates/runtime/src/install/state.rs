//! What about the stored state would stop or endanger its partitions (PROTOCOL §13.1, §13.2), as far as a look at
//! meta and log shows it.

use std::{collections::BTreeMap, ops::RangeInclusive};

use waypost_types::{PartitionId, Span, Timestamp};

use crate::{
    finding::Finding,
    ports::{Install, Log, LogError, Offset},
    upkeep::Head,
};

/// Below this there may be no time left to do anything about it.
const LAST_MOMENT: Span = Span::from_days(1);

/// Compares what every partition says of itself with the installation, and with the engines of this binary. None: the
/// partition has no state.
pub fn judge_state(heads: &BTreeMap<PartitionId, Option<Head>>, install: &Install, engines: &RangeInclusive<u32>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let wanted = install.to_string();
    let strange = "restore it from a backup (`waypost restore`), or point redis.url at the installation's own Redis";
    for (partition, head) in heads {
        let check = |what: &str| format!("redis {what} of {partition}");
        let Some(head) = head else {
            findings.push(Finding::refuse(check("state"), "none", wanted.clone(), strange));
            continue;
        };
        if head.install != *install {
            findings.push(Finding::refuse(check("state"), head.install.to_string(), wanted.clone(), strange));
        }
        // 0: nothing has been folded yet
        if head.meta.eng != 0 && !engines.contains(&head.meta.eng) {
            let change = "start the release that folded it, or a later one: an engine never goes back";
            let has = format!("{} to {}", engines.start(), engines.end());
            findings.push(Finding::refuse(check("engine"), head.meta.eng.to_string(), has, change));
        }
        if let Some(operation) = &head.frozen {
            let change = format!("let `{operation}` end; one that was cut short is completed by running it again");
            findings.push(Finding::refuse(check("owner"), format!("frozen by `{operation}`"), "a worker", change).warning());
        }
    }
    findings
}

/// How far each partition could be rewound before its log would be missing (`rewind_headroom`). Only logs that have been
/// trimmed are looked into.
///
/// # Errors
/// If the log does not answer.
pub async fn headroom(
    log: &dyn Log,
    prefix: &str,
    heads: &BTreeMap<PartitionId, Option<Head>>,
    retention: Span,
) -> Result<Vec<Finding>, LogError> {
    let mut findings = Vec::new();
    for (partition, head) in heads.iter().filter_map(|(p, head)| Some((p, head.as_ref()?))) {
        let topic = format!("{prefix}{}", partition.role.inbox().unwrap_or_default());
        let (start, end) = log.watermarks(&topic, partition.index).await?;
        if start == 0 {
            continue;
        }
        let mut first = None;
        if start < end {
            first = log.tail(&topic, partition.index, start).await?.next().await?.map(|delivery| delivery.appended);
        }
        findings.extend(judge_headroom(*partition, head, start, first, retention));
    }
    Ok(findings)
}

/// `first` is when the first record still there was appended.
fn judge_headroom(partition: PartitionId, head: &Head, start: Offset, first: Option<Timestamp>, retention: Span) -> Option<Finding> {
    let check = format!("rewind headroom of {partition}");
    let half = Span::from_millis(retention.millis() / 2);
    if head.off < start {
        let change = "its partition halts, the others run: restore a backup that ends behind the log's beginning";
        let found = format!("none: it is at offset {} and the log begins at {start}", head.off);
        return Some(Finding::refuse(check, found, half.to_string(), change).warning());
    }
    let last = head.meta.lastrec.rsplit(':').next().and_then(|ms| ms.parse().ok()).map(Timestamp::from_millis)?;
    let room = last.since(first?);
    if room >= half {
        return None;
    }
    let change = if room < LAST_MOMENT {
        "less than a day: let the partition catch up now, or raise retention.ms of its inbox before records fall out that it still needs"
    } else {
        "let the partition catch up, or raise retention.ms of its inbox"
    };
    Some(Finding::refuse(check, format!("{} h", room.millis() / 3_600_000), format!("{half} or more"), change).warning())
}

#[cfg(test)]
mod tests {
    use waypost_types::Role;

    use super::*;
    use crate::ports::Meta;

    const P: PartitionId = PartitionId { role: Role::Segmenter, index: 3 };

    fn install() -> Install {
        Install { id: "ab".repeat(16), layout: 1, format: 1 }
    }

    fn head() -> Head {
        let meta = Meta { eng: 1, lastrec: format!("9:00000000:{}", 20 * 86_400_000_i64), ..Meta::default() };
        Head { install: install(), frozen: None, off: 10, meta, sequences: BTreeMap::new() }
    }

    #[test]
    fn state_must_be_of_this_installation_and_of_an_engine_at_hand() {
        let found = |head: Option<Head>| {
            let all = judge_state(&BTreeMap::from([(P, head)]), &install(), &(1..=2));
            all.into_iter().map(|f| (f.check.clone(), f.refuses())).collect::<Vec<_>>()
        };
        let one = |what: &str, refuses| vec![(format!("redis {what} of segmenter/3"), refuses)];
        assert_eq!(found(Some(head())), []);
        assert_eq!(found(Some(Head { meta: Meta::default(), ..head() })), [], "nothing is folded yet");
        assert_eq!(found(None), one("state", true), "an empty Redis is not a new installation");
        assert_eq!(found(Some(Head { install: Install { layout: 2, ..install() }, ..head() })), one("state", true));
        assert_eq!(found(Some(Head { meta: Meta { eng: 3, ..Meta::default() }, ..head() })), one("engine", true));
        assert_eq!(found(Some(Head { frozen: Some("restore".into()), ..head() })), one("owner", false));
    }

    #[test]
    fn headroom_is_told_before_it_is_gone() {
        let days = |n: i64| Timestamp::from_millis(n * 86_400_000);
        let found = |off, first: Option<Timestamp>| {
            let finding = judge_headroom(P, &Head { off, ..head() }, 5, first, Span::from_days(10));
            finding.inspect(|f| assert!(!f.refuses(), "a stop would only make it later")).map(|f| f.change).unwrap_or_default()
        };
        assert_eq!(found(10, Some(days(15))), "", "half of it is left");
        assert!(found(10, Some(days(16))).contains("catch up, or"));
        assert!(found(10, Some(days(20).minus(Span::from_hours(23)))).contains("less than a day"));
        assert!(found(4, Some(days(1))).contains("restore"));
        assert_eq!(found(10, None), "", "nothing there to be rewound to");
    }
}
