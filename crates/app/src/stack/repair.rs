//! `waypost repair`: gaps in partition channels that stay, and filling them from the source's own log.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use waypost_control::{Act, Audit, Catalog, Line};
use waypost_runtime::{
    host::SystemClock,
    install::{self, InstallRecord},
    ports::{Log, Offset},
    refold::Refold,
    repair::{Gap, gaps, repair as append_missing},
    upkeep::{Head, Upkeep},
};
use waypost_types::{PartitionId, Role};

use super::{block_on, log, machines, refold, store};
use crate::{cli, config::Config, screen};

/// How long receivers may take to read what stands in their logs.
const CATCH_UP: Duration = Duration::from_secs(30);
/// How often they are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(500);

/// `waypost repair`.
pub(crate) fn repair(config: &Config, args: &cli::Repair) -> anyhow::Result<ExitCode> {
    block_on(async {
        let prefix = &config.install.prefix;
        let (log, store) = (log(config)?, store(config)?);
        let record = install::load_install(&*log, prefix).await?;
        let named = named(args, &record)?;
        let survey = survey(&*log, &store, prefix, &record).await?;
        for partition in &survey.behind {
            screen(&format!("{partition} has not read its log to the end within {} s: not judged", CATCH_UP.as_secs()), false);
        }
        let Some((source, receiver)) = named else {
            for gap in &survey.gaps {
                screen(&gap.to_string(), false);
            }
            screen(&format!("{} gaps that stay", survey.gaps.len()), false);
            return Ok(ExitCode::from(u8::from(!survey.gaps.is_empty())));
        };
        let Some(gap) = survey.gaps.iter().find(|gap| gap.source == source && gap.receiver == receiver) else {
            ensure!(
                !survey.behind.contains(&receiver),
                "{receiver} has not read its log to the end: nobody can say yet what it is missing"
            );
            screen(&format!("{source} to {receiver}: nothing is missing"), false);
            return Ok(ExitCode::SUCCESS);
        };
        screen(&gap.to_string(), false);
        let (catalog, _following) = Catalog::follow(&log, prefix).await.context("reading definitions")?;
        let machine = machines::machine(&record, &catalog, source.role, waypost_runtime::Config::default())?;
        let from = refold::begin(args.from.as_deref(), source, &record)?;
        let to = survey.heads.get(&source).map_or(0, |head| head.off);
        let line = Line::new(&cli::who(args.who.as_deref()), Act::Repair, format!("channels/{source}/{receiver}"));
        Audit::new(Arc::clone(&log), Arc::new(SystemClock), prefix).write(line.note(format!("behind {}", gap.accepted))).await?;
        let mut watch = |off: Offset| screen(&format!("  {off} of {to}"), false);
        let frames = append_missing(Refold { log: &*log, prefix, partition: source, machine, from, to }, *gap, &mut watch).await?;
        screen(&format!("{frames} frames appended to {receiver}; `waypost repair --list` shows whether the gap has closed"), false);
        Ok(ExitCode::SUCCESS)
    })
}

/// What is missing where, as of one moment.
struct Survey {
    heads: BTreeMap<PartitionId, Head>,
    gaps: Vec<Gap>,
    behind: Vec<PartitionId>,
}

/// Sources first, then the logs' ends, then receivers as they come to those ends.
async fn survey(log: &dyn Log, store: &dyn Upkeep, prefix: &str, record: &InstallRecord) -> anyhow::Result<Survey> {
    let all: Vec<PartitionId> =
        Role::KEYED.into_iter().flat_map(|role| (0..record.partitions).map(move |index| PartitionId { role, index })).collect();
    let sources = heads(store, &all).await?;
    let mut ends = BTreeMap::new();
    for partition in &all {
        let topic = format!("{prefix}{}", partition.role.inbox().unwrap_or_default());
        ends.insert(*partition, log.watermarks(&topic, partition.index).await?.1);
    }
    let mut receivers = heads(store, &all).await?;
    let is_behind = |partition: &PartitionId, head: &Head| ends.get(partition).is_some_and(|end| head.off < *end);
    let mut waited = Duration::ZERO;
    loop {
        let behind: Vec<PartitionId> = receivers.iter().filter(|(p, head)| is_behind(p, head)).map(|(p, _)| *p).collect();
        if behind.is_empty() || waited >= CATCH_UP {
            return Ok(Survey { gaps: gaps(&sources, &ends, &receivers), heads: sources, behind });
        }
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
        receivers.extend(heads(store, &behind).await?);
    }
}

async fn heads(store: &dyn Upkeep, partitions: &[PartitionId]) -> anyhow::Result<BTreeMap<PartitionId, Head>> {
    let mut heads = BTreeMap::new();
    for partition in partitions {
        let head = store.head(*partition).await.with_context(|| format!("reading {partition}"))?;
        heads.insert(*partition, head.with_context(|| format!("{partition} has no state in Redis; `waypost doctor` says more"))?);
    }
    Ok(heads)
}

/// Source and receiver of the partition channel that the arguments name; none where they name none.
fn named(args: &cli::Repair, record: &InstallRecord) -> anyhow::Result<Option<(PartitionId, PartitionId)>> {
    let (Some(role), Some(index), Some(channel)) = (args.role, args.partition, &args.channel) else { return Ok(None) };
    let source = machines::existing(record, "--partition", PartitionId { role, index })?;
    let receiver = machines::existing(record, "--channel", partition_of(channel)?)?;
    Ok(Some((source, receiver)))
}

fn partition_of(text: &str) -> anyhow::Result<PartitionId> {
    let parsed = text.split_once('/').and_then(|(role, index)| Some(PartitionId { role: role.parse().ok()?, index: index.parse().ok()? }));
    match parsed {
        Some(partition) if Role::KEYED.contains(&partition.role) => Ok(partition),
        Some(_) | None => bail!("--channel {text}: write role/partition of the receiver, as segmenter/3"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_named_by_its_receiver() {
        assert_eq!(partition_of("segmenter/3").unwrap(), PartitionId { role: Role::Segmenter, index: 3 });
        for bad in ["segmenter", "control/1", "3", "segmenter/x"] {
            assert!(partition_of(bad).unwrap_err().to_string().contains("segmenter/3"), "{bad}");
        }
    }
}
