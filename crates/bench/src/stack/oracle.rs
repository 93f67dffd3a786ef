//! Whether every event that was offered passed each stage exactly once: what the logs say, read from their beginning.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use prost::Message as _;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use waypost_codec::{
    frame::{Frame, Record, Section},
    inbox, kind,
};
use waypost_types::{PartitionId, Role};

use crate::{
    generator::fingerprint,
    pipeline::{Pipeline, STAGES},
    say,
};

/// So many that came twice are named.
const EXAMPLES: usize = 3;
/// Without a record for so long a log is not to be had.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events of one stage's inbox.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) role: Role,
    /// Per frame that has any: partition, offset, events.
    pub(crate) frames: Vec<(PartitionId, u64, u64)>,
    /// Fingerprints of their message ids, with partition and offset of each.
    ids: Vec<(u64, u32, u64)>,
}

/// What the oracle has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Records that were offered, copies too.
    pub(crate) offered: usize,
    /// Different message ids among them.
    pub(crate) distinct: usize,
    /// By stage: role, events that came there, of these ones that had come before, and offered ones that never came.
    pub(crate) stages: Vec<(Role, usize, usize, usize)>,
    /// Dead letters.
    pub(crate) dead: u64,
}

// === impl Stage ===

impl Stage {
    /// Fingerprints of all message ids, sorted.
    pub(crate) fn sorted_ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.ids.iter().map(|(id, _, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}

// === impl Verdict ===

impl Verdict {
    /// An error where an event was lost or doubled: such a run has no speed.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let wrong = self.stages.iter().any(|(role, count, doubled, missing)| {
            // what comes in may be there twice, it was sent so
            (*role != Role::Identity && *doubled != 0) || *missing != 0 || *count < self.distinct
        });
        ensure!(!wrong && self.dead == 0, "the oracle finds events lost or doubled, so this run has no speed: {self}");
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offered, {} of them different", self.offered, self.distinct)?;
        for (role, count, doubled, missing) in &self.stages {
            write!(f, "; {role} {count}, {doubled} twice, {missing} missing")?;
        }
        write!(f, "; {} dead letters", self.dead)
    }
}

/// Reads the inbox of every stage and compares.
pub(crate) fn judge(pipeline: &Pipeline) -> anyhow::Result<(Verdict, Vec<Stage>)> {
    let offered = &pipeline.offered.ids;
    let mut wanted = offered.clone();
    wanted.sort_unstable();
    wanted.dedup();
    let mut verdict = Verdict { offered: offered.len(), distinct: wanted.len(), stages: Vec::new(), dead: 0 };
    let mut stages = Vec::new();
    for role in STAGES {
        let mut stage = read(pipeline, role)?;
        stage.ids.sort_unstable();
        let count = stage.ids.len();
        let mut different = stage.ids.clone();
        different.dedup_by_key(|(id, _, _)| *id);
        let again = stage.ids.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        let mut doubled = 0;
        for pair in again {
            doubled += 1;
            if role != Role::Identity && doubled <= EXAMPLES {
                let places = stages.iter().flat_map(|earlier: &Stage| earlier.ids.iter().filter(|(id, _, _)| *id == pair[0].0));
                let earlier: Vec<String> = places.map(|(_, partition, offset)| format!("{partition}@{offset}")).collect();
                let [(_, p, at), (_, q, then)] = [pair[0], pair[1]];
                say(&format!("an event twice in the inbox of the {role}: {p}@{at} and {q}@{then}; before that {}", earlier.join(" ")));
            }
        }
        let missing = wanted.iter().filter(|id| different.binary_search_by_key(*id, |(known, _, _)| *known).is_err()).count();
        verdict.stages.push((role, count, doubled, missing));
        stages.push(stage);
    }
    for partition in 0..8 {
        let (start, end) = pipeline.runtime.block_on(pipeline.log.watermarks(&format!("{}wp1.dead", pipeline.prefix), partition))?;
        verdict.dead += end - start;
    }
    Ok((verdict, stages))
}

/// Reads the inbox of a stage.
pub(crate) fn read(pipeline: &Pipeline, role: Role) -> anyhow::Result<Stage> {
    let topic = format!("{}{}", pipeline.prefix, role.inbox().context("a stage has an inbox")?);
    let mut stage = Stage { role, frames: Vec::new(), ids: Vec::new() };
    for index in 0..pipeline.layout.partitions {
        let end = pipeline.runtime.block_on(pipeline.log.watermarks(&topic, index))?.1;
        let partition = PartitionId { role, index };
        let (mut next, mut taken) = (0, Taken::default());
        each_record(&pipeline.servers.kafka, (&topic, index), end, |offset, payload| {
            ensure!(offset == next, "{topic}/{index} has {offset} where {next} was expected");
            next += 1;
            let before = stage.ids.len();
            let frame = Frame::decode(payload)?;
            for record in frame.sections.iter().flat_map(|section| taken.of(section)) {
                if let Some(event) = event(role, record)? {
                    let id = fingerprint(&event).context("an event has no message id")?;
                    stage.ids.push((id, index, offset));
                }
            }
            if stage.ids.len() > before {
                stage.frames.push((partition, offset, (stage.ids.len() - before) as u64));
            }
            Ok(())
        })?;
    }
    Ok(stage)
}

/// The last number that was taken from each source: a source that begins again repeats itself, and nobody folds that twice.
#[derive(Debug, Default)]
pub(crate) struct Taken(BTreeMap<(Role, u32), u64>);

// === impl Taken ===

impl Taken {
    /// Those records of a section that a receiver takes: behind what it has, and none behind a gap.
    pub(crate) fn of<'a>(&mut self, section: &'a Section) -> &'a [Record] {
        let Some(source) = &section.source else { return &section.records };
        let last = self.0.entry((source.role, source.partition)).or_default();
        if source.first > *last + 1 {
            return &[];
        }
        let had = usize::try_from(*last + 1 - source.first).unwrap_or(usize::MAX);
        let new = section.records.get(had..).unwrap_or_default();
        *last += new.len() as u64;
        new
    }
}

/// The event that a record brings to a stage for the first time; what was passed on from where a person was before came there.
fn event(role: Role, record: &Record) -> anyhow::Result<Option<Bytes>> {
    let item = match (role, record.kind) {
        (Role::Identity, kind::EVENT) => return Ok(Some(inbox::IdentityEvent::decode(record.body.clone())?.event)),
        (Role::Segmenter, kind::ITEM) if record.via == 0 => Some(inbox::SegmentItem::decode(record.body.clone())?),
        (Role::Orchestrator, kind::JOURNEY_ITEM) => inbox::JourneyItem::decode(record.body.clone())?.item,
        _ => None,
    };
    Ok(item.and_then(|item| match item.body {
        Some(inbox::segment_item::Body::Event(event)) => Some(event),
        _ => None,
    }))
}

/// Every record of a partition up to `end`.
pub(crate) fn each_record(
    brokers: &str,
    (topic, partition): (&str, u32),
    end: u64,
    mut see: impl FnMut(u64, Bytes) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if end == 0 {
        return Ok(());
    }
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers).set("group.id", "bench").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = settings.create().context("a consumer")?;
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(topic, i32::try_from(partition)?, Offset::Beginning)?;
    consumer.assign(&places)?;
    let mut heard = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(message) => {
                let message = message.with_context(|| format!("reading {topic}"))?;
                heard = Instant::now();
                let offset = u64::try_from(message.offset())?;
                see(offset, Bytes::copy_from_slice(message.payload().unwrap_or_default()))?;
                if offset + 1 >= end {
                    return Ok(());
                }
            }
            None => ensure!(heard.elapsed() < PATIENCE, "{topic}/{partition} gives nothing more before {end}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use waypost_codec::frame::Source;
    use waypost_types::{Timestamp, WorkspaceId};

    use super::*;

    #[test]
    fn what_a_source_repeats_is_taken_once_and_nothing_behind_a_gap() {
        let record = |n: u8| Record::new(1, WorkspaceId::new(1), [n; 16], Bytes::new(), Timestamp::ZERO, Bytes::new());
        let section = |first: u64, count: u8| Section {
            source: Some(Source { role: Role::Identity, partition: 0, first, chain: 0 }),
            records: (0..count).map(record).collect(),
        };
        let mut taken = Taken::default();
        let mut count = |first, count| taken.of(&section(first, count)).len();
        // from the beginning; again; with a tail that is new; behind a gap; where the gap began; nothing at all
        assert_eq!([count(1, 3), count(1, 3), count(2, 4), count(8, 2), count(6, 4), count(10, 0)], [3, 0, 2, 0, 4, 0]);
        assert_eq!(taken.of(&Section { source: None, records: vec![record(1)] }).len(), 1);
    }

    #[test]
    fn a_lost_or_doubled_event_is_a_run_without_a_speed() {
        let verdict = |segment, journey| Verdict {
            offered: 11,
            distinct: 10,
            stages: vec![(Role::Identity, 11, 1, 0), (Role::Segmenter, 10, 0, segment), (Role::Orchestrator, 10, journey, 0)],
            dead: 0,
        };
        assert!(verdict(0, 0).check().is_ok());
        assert!(verdict(1, 0).check().is_err());
        assert!(verdict(0, 1).check().unwrap_err().to_string().contains("orchestrator 10, 1 twice"));
    }
}
