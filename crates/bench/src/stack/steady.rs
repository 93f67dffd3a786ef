//! W1: the highest rate of open-loop traffic that is held, found by bisection.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use waypost_types::PartitionId;

use crate::{
    backlog::settle,
    generator::{Appender, Sent, Tick, build, play},
    known,
    oracle::judge,
    pipeline::{Pipeline, Place},
    report::{Beside, Bytes, Run},
    sampler::{Sampler, usage},
    say,
    settings::Settings,
};

/// No inbox may be further behind than a second, and as much as a place may look older than it is: roles tell theirs every
/// tenth of a second, and it is looked at every quarter.
pub(crate) const LAG_MAX: Duration = Duration::from_millis(1_000 + 100 + 250);
/// By so much the lag of the second half may be above that of the first: what two looks may differ by.
const SLOPE: Duration = Duration::from_millis(150);
/// As far as the generator itself may be late.
const LATE_MAX: Duration = Duration::from_millis(500);
/// Where no rate is known.
const BEGIN: f64 = 20_000.0;

/// What became of one rate.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) partitions: u32,
    pub(crate) rate: f64,
    pub(crate) lag_max: Duration,
    pub(crate) lag_first_half: Duration,
    pub(crate) lag_second_half: Duration,
    pub(crate) generator_late: Duration,
    pub(crate) held: bool,
}

/// How long ago the end of each log was where the fold is now.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    ends: Vec<(PartitionId, VecDeque<(Instant, u64)>)>,
}

/// The highest rate that was held, unless none was, and every step on the way.
pub(crate) fn run(pipeline: &mut Pipeline, settings: &Settings, rate: Option<f64>) -> anyhow::Result<(Option<Run>, Vec<Step>)> {
    known::start(pipeline, settings)?;
    let (mut steps, mut best): (Vec<Step>, Option<Run>) = (Vec::new(), None);
    let (mut low, mut high) = (0.0, None);
    let mut next = settings.rate.or_else(|| rate.map(|backlog| backlog * 0.8)).unwrap_or(BEGIN);
    for number in 1..=settings.steps {
        if !pipeline.servers.has_room(next * (settings.run_in + settings.window) as f64)? {
            say(&format!("steady: the disk has no room for a step of {next:.0} events/s; --window, --rate or --steps may be smaller"));
            break;
        }
        let (step, run) = one(pipeline, settings, next)?;
        say(&format!(
            "steady {number}/{}: {next:.0} events/s {}, lag at most {:.2} s ({:.2} s, then {:.2} s)",
            settings.steps,
            if step.held { "held" } else { "not held" },
            step.lag_max.as_secs_f64(),
            step.lag_first_half.as_secs_f64(),
            step.lag_second_half.as_secs_f64(),
        ));
        if step.held {
            (low, best) = (next, Some(run));
        } else {
            high = Some(next);
        }
        steps.push(step);
        next = match high {
            None => next * 1.25,
            Some(high) if low > 0.0 => f64::midpoint(low, high),
            Some(high) => high * 0.6,
        };
        if high.is_some_and(|high| high - low < 0.05 * high) {
            break;
        }
        settle(pipeline, "the step to be folded")?;
    }
    settle(pipeline, "everything to be folded")?;
    pipeline.stop()?;
    say("steady: counting events at every stage");
    let (verdict, _) = judge(pipeline)?;
    verdict.check()?;
    say(&format!("steady: {verdict}"));
    if let Some(best) = &mut best {
        best.verdict = Some(verdict);
    }
    Ok((best, steps))
}

/// Open-loop traffic beside a look at everybody's lag; the look's results are handed over with the begin of the traffic.
pub(crate) fn with_traffic(
    pipeline: &mut Pipeline,
    ticks: &[Tick],
    look: impl FnMut(Duration, Duration),
) -> anyhow::Result<(Instant, Sent)> {
    let begin = Instant::now() + Duration::from_millis(200);
    Ok((begin, with_traffic_from(pipeline, ticks, begin, look)?))
}

/// The same from `begin` on.
pub(crate) fn with_traffic_from(
    pipeline: &mut Pipeline,
    ticks: &[Tick],
    begin: Instant,
    mut look: impl FnMut(Duration, Duration),
) -> anyhow::Result<Sent> {
    let mut into = Appender::new(&pipeline.servers.kafka, &format!("{}wp1.identity", pipeline.prefix), 0)?;
    std::thread::scope(|scope| {
        let playing = scope.spawn(move || play(ticks, begin, &mut into));
        let mut lag = Lag::default();
        while !playing.is_finished() {
            std::thread::sleep(Duration::from_millis(250));
            pipeline.check_alive()?;
            let places = pipeline.places()?;
            let now = Instant::now();
            look(now.saturating_duration_since(begin), lag.look(now, &places));
        }
        playing.join().map_err(|_| anyhow!("the generator ended early"))?
    })
}

fn one(pipeline: &mut Pipeline, settings: &Settings, rate: f64) -> anyhow::Result<(Step, Run)> {
    let (run_in, window) = (Duration::from_secs(settings.run_in), Duration::from_secs(settings.window));
    say(&format!("steady: building {:.0} events", rate * (run_in + window).as_secs_f64()));
    let tick = Duration::from_millis(settings.tick_ms);
    let sights = pipeline.offered.sights.count();
    let ticks = build(&mut pipeline.traffic, pipeline.layout, &mut pipeline.offered, (rate, run_in + window, tick), |_, _| Vec::new())?;
    let sights = pipeline.offered.sights.count().since(sights);
    let redis = pipeline.servers.redis_info()?;
    let kafka: u64 = pipeline.servers.log_bytes(&pipeline.prefix)?.iter().map(|(_, bytes)| bytes).sum();
    let looking = Sampler::start(pipeline.directory.clone(), pipeline.watched());
    let watched = looking.watched.clone();
    let beside = Beside::start(pipeline);
    let mut lags = Vec::new();
    let ran = with_traffic(pipeline, &ticks, |at, lag| lags.push((at, lag)));
    let samples = looking.stop()?;
    let beside = beside.stop()?;
    let (begin, sent) = ran?;
    let redis_after = pipeline.servers.redis_info()?;
    let topics = pipeline.servers.log_bytes(&pipeline.prefix)?;
    let kafka_after: u64 = topics.iter().map(|(_, bytes)| bytes).sum();

    let within: Vec<_> = lags.iter().filter(|(at, _)| *at >= run_in && *at <= run_in + window).collect();
    let mean = |part: &[&(Duration, Duration)]| {
        part.iter().map(|(_, lag)| *lag).sum::<Duration>() / u32::try_from(part.len().max(1)).unwrap_or(u32::MAX)
    };
    let (first, second) = within.split_at(within.len() / 2);
    let (lag_first_half, lag_second_half) = (mean(first), mean(second));
    let lag_max = within.iter().map(|(_, lag)| *lag).max().context("no look within the window")?;
    let held = lag_max <= LAG_MAX && lag_second_half <= lag_first_half + SLOPE && sent.latest <= LATE_MAX;
    let step =
        Step { partitions: pipeline.layout.partitions, rate, lag_max, lag_first_half, lag_second_half, generator_late: sent.latest, held };

    let at = |instant: Instant| samples.iter().find(|sample| sample.at >= instant).or_else(|| samples.last()).context("no sample");
    let (from, to) = (at(begin + run_in)?, at(begin + run_in + window)?);
    let seconds = to.at.duration_since(from.at).as_secs_f64();
    let mut usage = usage(&watched, from, to);
    beside.calls(&watched, &mut usage, (from.at, to.at));
    let run = Run {
        name: format!("steady at {rate:.0} events/s for {} s", settings.window),
        known: settings.known(),
        sights,
        commits: beside.commits(pipeline, (from.at, to.at))?,
        partitions: pipeline.layout.partitions,
        rate,
        events: sent.events,
        cpu_events: rate * seconds,
        seconds,
        committed_after: None,
        usage,
        bytes: Bytes {
            kafka: kafka_after - kafka,
            redis: redis_after.net_input_bytes - redis.net_input_bytes,
            redis_used_memory: redis_after.used_memory,
            redis_memory: i64::try_from(redis_after.used_memory)? - i64::try_from(redis.used_memory)?,
            redis_commands: redis_after.commands - redis.commands,
            topics,
        },
        verdict: None,
    };
    Ok((step, run))
}

// === impl Lag ===

impl Lag {
    /// The greatest lag of any inbox.
    pub(crate) fn look(&mut self, now: Instant, places: &[Place]) -> Duration {
        let mut worst = Duration::ZERO;
        for place in places {
            let known = self.ends.iter().position(|(partition, _)| *partition == place.partition);
            let index = known.unwrap_or_else(|| {
                self.ends.push((place.partition, VecDeque::new()));
                self.ends.len() - 1
            });
            let ends = &mut self.ends[index].1;
            ends.push_back((now, place.end));
            // of the ends that have been reached only the last is of interest
            while ends.len() > 1 && ends[1].1 <= place.next {
                ends.pop_front();
            }
            if ends[0].1 <= place.next || ends.len() > 1 {
                worst = worst.max(now.saturating_duration_since(ends[0].0));
            }
        }
        worst
    }
}

#[cfg(test)]
mod tests {
    use waypost_types::Role;

    use super::*;

    #[test]
    fn lag_is_the_time_since_the_end_was_where_the_fold_is() {
        let mut lag = Lag::default();
        let begin = Instant::now();
        let partition = PartitionId { role: Role::Identity, index: 0 };
        let mut at = |s: u64, next, end| lag.look(begin + Duration::from_secs(s), &[Place { partition, next, off: 0, end }]).as_secs();
        assert_eq!(at(0, 10, 10), 0);
        assert_eq!(at(1, 10, 20), 1);
        assert_eq!(at(2, 15, 30), 2);
        assert_eq!(at(3, 20, 40), 2);
        assert_eq!(at(4, 40, 40), 0);
    }
}
