//! W3: timers that become due all the time, and W4: as many at one instant, beside traffic at half of the rate; from the due instant
//! to the send as it is read back from `wp1.send`. Their people come in beforehand, and nobody takes the sends: no sender runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use waypost_bench::{
    reminders::{DELAY, Reminders},
    traffic::frames,
};
use waypost_codec::frame::Record;
use waypost_runtime::{host::SystemClock, ports::Clock as _};
use waypost_types::{Span, Timestamp};

use crate::{
    backlog::settle,
    generator::{Appender, CHUNK, build_from},
    known,
    latency::{Exits, Probes, histogram},
    oracle::judge,
    pipeline::Pipeline,
    say,
    sends::{Count, Watch},
    settings::Settings,
    steady::with_traffic_from,
};

/// Of the highest rate.
const SHARE: f64 = 0.5;
/// Of the highest rate: how fast people come in who have never been seen and begin a run each, with time to spare.
const LOAD_SHARE: f64 = 0.2;
/// And before that and behind it: until the last of them is committed, which may take the longest time between two commits.
const LOAD_MORE: Duration = Duration::from_secs(45);
/// What a person, the run and the send take of the disk, in events.
const EVENTS_A_SEND: f64 = 2.0;
/// Orders of so long behind the due instant are the burst's, however fast it is over.
const BURST_LEAST: Duration = Duration::from_secs(1);
/// Timers a second: their due instants are reckoned in microseconds.
const RATE_MAX: u64 = 1_000_000;
/// Timers of a burst.
const BURST_MAX: usize = 100_000_000;
/// Seconds: an order comes two behind its cart.
const WINDOW_MIN: u64 = 3;
/// As early as the two clocks here may make a send look that is in time.
const CLOCKS: Duration = Duration::from_millis(1);

/// W3.
#[derive(Clone, Debug)]
pub(crate) struct Timers {
    pub(crate) partitions: u32,
    /// Events a second meanwhile.
    pub(crate) rate: f64,
    /// Timers a second, and for how many seconds.
    pub(crate) per_second: u64,
    pub(crate) seconds: u64,
    /// Due instant → send, in microseconds.
    pub(crate) histogram: Histogram<u64>,
    /// Sends that were there before the last timer was due.
    pub(crate) in_time: usize,
    pub(crate) lag_max: Duration,
}

/// W4.
#[derive(Clone, Debug)]
pub(crate) struct Burst {
    pub(crate) partitions: u32,
    /// Events a second meanwhile.
    pub(crate) rate: f64,
    /// Due instant → send, in microseconds.
    pub(crate) histogram: Histogram<u64>,
    /// Due instant → the last send.
    pub(crate) took: Duration,
    /// For how long there was traffic behind the due instant.
    pub(crate) traffic: Duration,
    /// Order → run exited, in microseconds, of orders before the due instant, and of orders until the last send.
    pub(crate) before: Histogram<u64>,
    pub(crate) during: Histogram<u64>,
    pub(crate) lag_max: Duration,
}

/// When whose timer ends, since the traffic began.
#[derive(Clone, Copy, Debug)]
struct Plan {
    people: usize,
    first: Duration,
    apart: Duration,
    /// How long there is traffic.
    traffic: Duration,
}

/// What was seen.
struct Seen {
    /// By number: when the timer was due, and how long after that the send was there.
    sends: Vec<(Duration, Duration)>,
    /// When each order was to be sent, and how long it took until its run had exited.
    orders: Vec<(Duration, Duration)>,
    lag_max: Duration,
}

/// Refuses what could not be measured.
pub(crate) fn check(settings: &Settings) -> anyhow::Result<()> {
    let folder = &settings.timer_journeys;
    ensure!(folder.is_dir(), "--timer-journeys {}: there is no such folder; run it from the root of the repository", folder.display());
    ensure!((1..=RATE_MAX).contains(&settings.timers_rate), "--timers-rate is from 1 to {RATE_MAX}");
    ensure!((1..=BURST_MAX).contains(&settings.burst), "--burst is from 1 to {BURST_MAX}");
    ensure!([settings.rate, settings.load_rate].iter().flatten().all(|rate| *rate >= 1.0), "--rate and --load-rate are 1 at least");
    ensure!(settings.window >= WINDOW_MIN && settings.probes > 0, "timers take --window {WINDOW_MIN} and --probes 1 at least");
    Ok(())
}

/// W3, beside half of the rate.
pub(crate) fn run(pipeline: &mut Pipeline, settings: &Settings, rate: f64) -> anyhow::Result<Timers> {
    let (run_in, window) = (Duration::from_secs(settings.run_in), Duration::from_secs(settings.window));
    let people = usize::try_from(settings.timers_rate * settings.window)?;
    let apart = Duration::from_secs(1) / u32::try_from(settings.timers_rate)?;
    let plan = Plan { people, first: run_in, apart, traffic: run_in + window };
    let seen = measure(pipeline, settings, ("timers", rate), plan, None)?;
    let end = run_in + window;
    let timers = Timers {
        partitions: pipeline.layout.partitions,
        rate: rate * SHARE,
        per_second: settings.timers_rate,
        seconds: settings.window,
        histogram: histogram(seen.sends.iter().map(|(_, took)| *took))?,
        in_time: seen.sends.iter().filter(|(due, took)| *due + *took <= end).count(),
        lag_max: seen.lag_max,
    };
    say(&format!(
        "timers: {} a second for {} s, {:.1} % of their sends within it, p50 {:.1} ms, p99 {:.1} ms",
        timers.per_second,
        timers.seconds,
        timers.in_time as f64 * 100.0 / people as f64,
        timers.histogram.value_at_quantile(0.5) as f64 / 1e3,
        timers.histogram.value_at_quantile(0.99) as f64 / 1e3,
    ));
    Ok(timers)
}

/// W4, beside half of the rate.
pub(crate) fn burst(pipeline: &mut Pipeline, settings: &Settings, rate: f64) -> anyhow::Result<Burst> {
    let (run_in, window) = (Duration::from_secs(settings.run_in), Duration::from_secs(settings.window));
    let due = run_in + window;
    let plan = Plan { people: settings.burst, first: due, apart: Duration::ZERO, traffic: due + window };
    let probes = Probes::new(pipeline, settings, "burst");
    let seen = measure(pipeline, settings, ("burst", rate), plan, Some(probes))?;
    let took = seen.sends.iter().map(|(_, took)| *took).max().context("nobody was sent anything")?;
    let end = due + took.max(BURST_LEAST);
    let of = |from, to| histogram(seen.orders.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, took)| *took));
    let burst = Burst {
        partitions: pipeline.layout.partitions,
        rate: rate * SHARE,
        histogram: histogram(seen.sends.iter().map(|(_, took)| *took))?,
        took,
        traffic: window,
        before: of(run_in, due)?,
        during: of(due, end)?,
        lag_max: seen.lag_max,
    };
    let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99) as f64 / 1e3;
    say(&format!(
        "burst: the last of {} sends was there after {:.2} s; p99 of orders {:.1} ms before, {:.1} ms meanwhile",
        settings.burst,
        took.as_secs_f64(),
        p99(&burst.before),
        p99(&burst.during),
    ));
    Ok(burst)
}

fn measure(
    pipeline: &mut Pipeline,
    settings: &Settings,
    (name, rate): (&str, f64),
    plan: Plan,
    mut probes: Option<Probes>,
) -> anyhow::Result<Seen> {
    let lead = LOAD_MORE + Duration::from_secs_f64(plan.people as f64 / settings.load_rate.unwrap_or(rate * LOAD_SHARE));
    plan.check(lead)?;
    let events = plan.people as f64 * EVENTS_A_SEND + rate * SHARE * plan.traffic.as_secs_f64();
    ensure!(pipeline.servers.has_room(events)?, "the disk has no room for {name}; --burst, --timers-rate or --window may be smaller");
    let reminders = Reminders::new(pipeline.installation, name);
    known::start(pipeline, settings)?;

    let begin_at = SystemClock.now().plus(millis(lead));
    say(&format!("{name}: {} people come in; traffic begins in {} s", plan.people, lead.as_secs()));
    let loading = Instant::now();
    load(pipeline, settings, &reminders, plan, begin_at)?;
    settle(pipeline, "people to come in")?;
    say(&format!("{name}: they came in {:.0} s", loading.elapsed().as_secs_f64()));
    let pace = (rate * SHARE, plan.traffic, Duration::from_millis(settings.tick_ms));
    let ticks = build_from(begin_at, &mut pipeline.traffic, pipeline.layout, &mut pipeline.offered, pace, |at, now| {
        probes.as_mut().map(|probes| probes.at(at, now)).unwrap_or_default()
    })?;
    let sends = Watch::follow(pipeline, &reminders, plan.people)?;
    let exits = probes.is_some().then(|| Exits::follow(pipeline)).transpose()?;
    let begin = instant_of(begin_at).with_context(|| {
        format!(
            "people came in too slowly for a first timer {} s later: --load-rate, --burst or --timers-rate may be smaller",
            lead.as_secs()
        )
    })?;

    let mut lag_max = Duration::ZERO;
    with_traffic_from(pipeline, &ticks, begin, |at, lag| {
        if at >= Duration::from_secs(settings.run_in) {
            lag_max = lag_max.max(lag);
        }
    })?;
    let there = sends.all(pipeline)?;
    let orders = exits.zip(probes).map(|(exits, probes)| exits.after(&probes, begin)).transpose()?.unwrap_or_default();
    settle(pipeline, "everything to be folded")?;
    pipeline.stop()?;

    say(&format!("{name}: counting events at every stage, and sends"));
    let (verdict, _) = judge(pipeline)?;
    verdict.check()?;
    say(&format!("{name}: {verdict}"));
    Count::of(pipeline, &reminders, plan.people)?.check()?;
    let took = there.into_iter().enumerate().map(|(number, at)| {
        let due = plan.due(number);
        ensure!(at + CLOCKS >= begin + due, "person {number} was written to before the timer was due, so there is no figure");
        Ok((due, at.saturating_duration_since(begin + due)))
    });
    Ok(Seen { sends: took.collect::<anyhow::Result<_>>()?, orders, lag_max })
}

/// Everybody's event, as a backlog.
fn load(pipeline: &mut Pipeline, settings: &Settings, reminders: &Reminders, plan: Plan, begin: Timestamp) -> anyhow::Result<()> {
    let mut into = Appender::new(&pipeline.servers.kafka, &format!("{}wp1.identity", pipeline.prefix), 20)?;
    for first in (0..plan.people).step_by(CHUNK) {
        let now = SystemClock.now();
        let numbers = first..plan.people.min(first + CHUNK);
        let records: Vec<Record> = numbers.map(|number| reminders.asked(number, begin.plus(millis(plan.due(number))), now)).collect();
        pipeline.offered.add(&records)?;
        for (partition, bytes, _) in frames(records, pipeline.layout, settings.frame) {
            into.append(partition, &bytes)?;
        }
    }
    into.finish()
}

/// When the wall clock will show this; none where it has.
fn instant_of(at: Timestamp) -> Option<Instant> {
    let begun = SystemClock.now();
    // the millisecond's own beginning, as near as it can be had
    let now = loop {
        let now = SystemClock.now();
        if now > begun {
            break now;
        }
    };
    Some(Instant::now() + Duration::from_millis(u64::try_from(at.since(now).millis()).ok()?))
}

fn millis(duration: Duration) -> Span {
    Span::from_millis(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

// === impl Plan ===

impl Plan {
    /// Of the person of a number; whole milliseconds, as timers have them.
    fn due(&self, number: usize) -> Duration {
        let since = self.first + self.apart * u32::try_from(number).unwrap_or(u32::MAX);
        Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether everybody may come in so long before the traffic begins: no event says a time that is yet to come.
    fn check(&self, lead: Duration) -> anyhow::Result<()> {
        let last = lead + self.due(self.people.saturating_sub(1));
        ensure!(
            millis(last) < DELAY,
            "the last timer would be due in {} s and the journey waits for {DELAY}: --load-rate may be larger, or --burst, --timers-rate or \
             --window smaller",
            last.as_secs()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_end_one_after_the_other_or_all_at_once_and_at_a_whole_millisecond() {
        let plan = |apart| Plan { people: 10, first: Duration::from_secs(5), apart, traffic: Duration::from_secs(9) };
        let due = |plan: Plan| [0, 1, 5, 9].map(|number| plan.due(number).as_micros());
        assert_eq!(due(plan(Duration::from_micros(700))), [5_000_000, 5_000_000, 5_003_000, 5_006_000]);
        assert_eq!(due(plan(Duration::ZERO)), [5_000_000; 4]);
    }

    #[test]
    fn a_timer_that_lies_beyond_the_journeys_delay_is_refused_before_anybody_comes_in() {
        let plan = Plan { people: 2, first: Duration::from_mins(50), apart: Duration::from_secs(1), traffic: Duration::from_secs(3_010) };
        assert!(plan.check(Duration::from_secs(598)).is_ok());
        assert!(plan.check(Duration::from_secs(599)).unwrap_err().to_string().contains("due in 3600 s"));
    }

    #[test]
    fn an_instant_is_had_of_what_is_yet_to_come_only() {
        let now = SystemClock.now();
        let there = instant_of(now.plus(Span::from_secs(60))).unwrap();
        let before = there.saturating_duration_since(Instant::now());
        assert!(before > Duration::from_secs(50) && before <= Duration::from_mins(1));
        assert_eq!(instant_of(now.minus(Span::from_secs(1))), None);
    }
}
