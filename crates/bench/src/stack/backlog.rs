//! W12: everything lies in `wp1.identity` before anybody runs; how fast it goes through all three folds. Where people are known, they
//! came in before, and the roles were ended in order: it is the backlog of a restarted installation, whose caches are empty and whose
//! people are in the store.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use waypost_types::{PartitionId, Role};

use crate::{
    generator::{Appender, prefill},
    known,
    oracle::{Stage, judge},
    pipeline::Pipeline,
    report::{Beside, Bytes, Run},
    sampler::{Sample, Sampler, usage},
    say,
    settings::Settings,
};

/// Looks in a row at which everybody is at the end of his log before it is believed.
const STILL: u32 = 4;
/// How long a backlog may take.
const PATIENCE: Duration = Duration::from_mins(15);

pub(crate) fn run(pipeline: &mut Pipeline, settings: &Settings) -> anyhow::Result<Run> {
    if settings.known() > 0 {
        known::start(pipeline, settings)?;
        pipeline.stop()?;
    }
    let begins = pipeline.ends()?;
    let sights = pipeline.offered.sights.count();
    say(&format!("backlog: prefilling {} events", settings.events));
    let mut into = Appender::new(&pipeline.servers.kafka, &format!("{}wp1.identity", pipeline.prefix), 20)?;
    let Pipeline { traffic, offered, .. } = pipeline;
    prefill(|now| Some(traffic.next(now)), pipeline.layout, offered, (settings.events, settings.frame), &mut into)?;
    let sights = offered.sights.count().since(sights);
    drop(into);
    let memory = pipeline.servers.redis_info()?;
    let bytes_before: u64 = pipeline.servers.log_bytes(&pipeline.prefix)?.iter().map(|(_, bytes)| bytes).sum();
    say("backlog: starting the roles");
    pipeline.start()?;
    let looking = Sampler::start(pipeline.directory.clone(), pipeline.watched());
    let beside = Beside::start(pipeline);
    let waited = settle(pipeline, "the backlog to be folded and committed");
    let watched = looking.watched.clone();
    let samples = looking.stop()?;
    let beside = beside.stop()?;
    waited?;
    let memory_after = pipeline.servers.redis_info()?;
    let topics = pipeline.servers.log_bytes(&pipeline.prefix)?;
    let bytes_after: u64 = topics.iter().map(|(_, bytes)| bytes).sum();
    let resident = samples.last().map(|last| usage(&watched, last, last)).unwrap_or_default();
    pipeline.stop()?;
    say("backlog: counting events at every stage");
    let (verdict, mut stages) = judge(pipeline)?;
    verdict.check()?;
    say(&format!("backlog: {verdict}"));
    // who was known came before
    for stage in &mut stages {
        stage.frames.retain(|(partition, offset, _)| begins.get(partition).is_none_or(|begin| offset >= begin));
    }
    let folded = Folded::of(&stages, Role::Orchestrator, &samples)?;
    let (from, to) = (&samples[folded.first], &samples[folded.committed]);
    let mut usage = usage(&watched, from, to);
    for (one, last) in usage.iter_mut().zip(resident) {
        one.resident_bytes = last.resident_bytes;
    }
    beside.calls(&watched, &mut usage, (from.at, to.at));
    let events = folded.events;
    Ok(Run {
        name: format!("backlog of {} events, frames of {}", settings.events, settings.frame),
        known: settings.known(),
        sights,
        commits: beside.commits(pipeline, (from.at, to.at))?,
        partitions: pipeline.layout.partitions,
        rate: events as f64 / folded.seconds(&samples),
        events,
        cpu_events: events as f64,
        seconds: folded.seconds(&samples),
        committed_after: Some(to.at.saturating_duration_since(samples[folded.last].at).as_secs_f64()),
        usage,
        bytes: Bytes {
            kafka: bytes_after - bytes_before,
            redis: memory_after.net_input_bytes - memory.net_input_bytes,
            redis_used_memory: memory_after.used_memory,
            redis_memory: i64::try_from(memory_after.used_memory)? - i64::try_from(memory.used_memory)?,
            redis_commands: memory_after.commands - memory.commands,
            topics,
        },
        verdict: Some(verdict),
    })
}

/// Waits until everybody is at the end of his log and has committed what was there.
pub(crate) fn settle(pipeline: &mut Pipeline, what: &str) -> anyhow::Result<()> {
    let until = std::time::Instant::now() + PATIENCE;
    let (mut still, mut told) = (0, std::time::Instant::now());
    while still < STILL {
        std::thread::sleep(Duration::from_millis(500));
        pipeline.check_alive()?;
        still = if pipeline.is_still()? { still + 1 } else { 0 };
        if told.elapsed() > Duration::from_secs(5) {
            told = std::time::Instant::now();
            let behind: u64 = pipeline.places()?.iter().map(|place| place.end.saturating_sub(place.next)).sum();
            say(&format!("waiting for {what}: {behind} frames to go"));
        }
        ensure!(std::time::Instant::now() < until, "waited {} s for {what}; see {}", PATIENCE.as_secs(), pipeline.servers.folder.display());
    }
    let ends: Vec<_> = pipeline.places()?.iter().map(|place| (place.partition, place.end)).collect();
    loop {
        let places = pipeline.places()?;
        let waiting = ends.iter().filter(|(partition, end)| places.iter().all(|p| p.partition != *partition || p.off < *end)).count();
        if waiting == 0 {
            return Ok(());
        }
        pipeline.check_alive()?;
        ensure!(std::time::Instant::now() < until, "waited {} s for {what}: {waiting} partitions have not committed", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// When events were folded, by the samples.
pub(crate) struct Folded {
    /// The last sample before any stage folded the first of them.
    pub(crate) first: usize,
    /// The first sample behind the last of them.
    pub(crate) last: usize,
    /// The first sample at which every stage has committed them.
    pub(crate) committed: usize,
    pub(crate) events: u64,
}

// === impl Folded ===

impl Folded {
    pub(crate) fn of(stages: &[Stage], role: Role, samples: &[Sample]) -> anyhow::Result<Self> {
        let stage = stages.iter().find(|stage| stage.role == role).context("a stage that was read")?;
        let events = stage.frames.iter().map(|(_, _, count)| count).sum();
        let ends = |stages: &mut dyn Iterator<Item = &Stage>| {
            let mut ends: Vec<(PartitionId, u64, u64)> = Vec::new();
            for (partition, offset, _) in stages.flat_map(|stage| &stage.frames) {
                match ends.iter_mut().find(|(known, _, _)| known == partition) {
                    Some((_, _, last)) => *last = *offset,
                    None => ends.push((*partition, *offset, *offset)),
                }
            }
            ends
        };
        let (own, all) = (ends(&mut std::iter::once(stage)), ends(&mut stages.iter()));
        let began = samples.iter().position(|sample| all.iter().any(|(p, first, _)| sample.next(*p) > *first));
        let last = samples.iter().position(|sample| own.iter().all(|(p, _, last)| sample.next(*p) > *last));
        let committed = samples.iter().position(|sample| all.iter().all(|(p, _, last)| sample.off(*p) > *last));
        Ok(Self {
            first: began.context("nobody was seen folding")?.saturating_sub(1),
            last: last.context("the last fold was not seen")?,
            committed: committed.context("the last commit was not seen")?,
            events,
        })
    }

    pub(crate) fn seconds(&self, samples: &[Sample]) -> f64 {
        samples[self.last].at.duration_since(samples[self.first].at).as_secs_f64()
    }
}
