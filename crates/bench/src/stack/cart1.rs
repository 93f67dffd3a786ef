//! CART-1: the same events to Waypost and to a Kafka Streams application written by hand for nothing but this, by turns. Live at a rate,
//! from the instant at which a timer is due to its send as it can be read; then a backlog at full speed. What each sends must be what the
//! reference says.

mod contender;
mod follow;
mod play;
mod rival;
mod waypost;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use waypost_bench::cart1::{Act, Carts, DELAY, Gaps, MARGIN, Reference, Send};
use waypost_runtime::{host::SystemClock, ports::Clock as _};
use waypost_types::Timestamp;

pub(crate) use self::rival::{Options, check};
use self::{
    contender::Contender,
    follow::{Arrived, Follower},
    rival::Rival,
    waypost::Waypost,
};
use crate::{
    meter::Kind,
    sampler::{Sample, Usage, usage},
    say,
    servers::Servers,
    settings::Settings,
};

/// Of a backlog so much passes before it is counted.
const RUN_IN_OF: u64 = 3;
/// Traffic goes on behind the window, so that its last timers are due under load.
const BEHIND: Duration = Duration::from_secs(2);
/// Before a backlog is folded: every timer of what lies there is due by then.
const PAUSE: Duration = Duration::from_secs(15);
/// Seconds until a cart is touched again: soon and late.
const SOON: u64 = 2;
const LATE: u64 = 15;
/// Events of a backlog until then.
const SOON_EVENTS: u64 = 20_000;
/// More events than anybody makes.
const NEVER: u64 = 1 << 60;
/// Without another send for so long there will be none.
const PATIENCE: Duration = Duration::from_mins(1);
/// Wrong sends that are named.
const EXAMPLES: usize = 3;

/// Who ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    KafkaStreams,
    Waypost,
}

/// What was seen at a rate.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) events: f64,
    pub(crate) usage: Vec<Usage>,
    /// Microseconds from a due instant to its send.
    pub(crate) histogram: Histogram<u64>,
    pub(crate) generator_late: Duration,
}

/// What was seen of a backlog, behind its run-in.
#[derive(Clone, Debug)]
pub(crate) struct CatchUp {
    pub(crate) events: f64,
    /// Events a second, until the last one was folded.
    pub(crate) rate: f64,
    /// Until everything was committed and the last send could be read.
    pub(crate) usage: Vec<Usage>,
}

/// One system, once.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    pub(crate) system: System,
    pub(crate) live: Live,
    pub(crate) catch_up: CatchUp,
    /// All of them what the reference says.
    pub(crate) sends: usize,
}

/// All passages with one number of partitions, in the order in which they were made.
#[derive(Clone, Debug)]
pub(crate) struct Cart1 {
    pub(crate) partitions: u32,
    pub(crate) rate: f64,
    pub(crate) set: &'static str,
    pub(crate) passages: Vec<Passage>,
}

/// The traffic of one passage, and what must come of it.
struct Story {
    carts: Carts,
    reference: Reference,
}

// === impl System ===

impl System {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KafkaStreams => "Kafka Streams",
            Self::Waypost => "Waypost",
        }
    }
}

/// Seconds of CPU of everything but the broker and the generator.
pub(crate) fn core_seconds(usage: &[Usage]) -> f64 {
    usage.iter().filter(|one| matches!(one.kind, Kind::Own | Kind::Redis)).map(|one| one.cpu_seconds).sum()
}

// === impl CatchUp ===

impl CatchUp {
    pub(crate) fn per_core_second(&self) -> f64 {
        self.events / core_seconds(&self.usage)
    }
}

// === impl Story ===

impl Story {
    /// The next event; the reference sees it too.
    fn next(&mut self, at: Timestamp) -> anyhow::Result<Act> {
        let act = self.carts.next(at);
        self.reference.see(&act)?;
        Ok(act)
    }
}

pub(crate) fn run(settings: &Settings, servers: &Servers, partitions: u32) -> anyhow::Result<Cart1> {
    let mut all = Cart1 { partitions, rate: settings.cart.cart_rate as f64, set: settings.cart.set.name(), passages: Vec::new() };
    for number in 1..=settings.cart.repetitions {
        for system in [System::KafkaStreams, System::Waypost] {
            let name = system.name();
            say(&format!("cart-1, {number} of {}: {name}", settings.cart.repetitions));
            let mut contender: Box<dyn Contender> = match system {
                System::KafkaStreams => Box::new(Rival::new(settings, servers, partitions)?),
                System::Waypost => Box::new(Waypost::new(settings, servers, partitions)?),
            };
            let passage = pass(settings, servers, system, &mut *contender);
            let ended = contender.finish();
            let passage = passage.with_context(|| name.to_owned())?;
            ended.with_context(|| name.to_owned())?;
            all.passages.push(passage);
        }
    }
    Ok(all)
}

fn pass(settings: &Settings, servers: &Servers, system: System, contender: &mut dyn Contender) -> anyhow::Result<Passage> {
    let gaps = Gaps { soon: SOON * settings.cart.cart_rate, late: LATE * settings.cart.cart_rate };
    let mut story = Story { carts: Carts::new(settings.seed, settings.size.size(), gaps), reference: Reference::default() };
    let events = settings.events as f64 + settings.cart.cart_rate as f64 * seconds(settings).as_secs_f64();
    ensure!(servers.has_room(events)?, "the disk has no room for {events:.0} events; --events, --window and --cart-warm-up may be smaller");
    let follower = Follower::start(&servers.kafka, &contender.outbox(), contender.reader())?;
    contender.go()?;
    let live = live(settings, contender, &mut story, &follower)?;
    say(&format!(
        "{}, live at {} events/s: p50 {:.1} ms, p99 {:.1} ms, {:.2} µs an event",
        system.name(),
        settings.cart.cart_rate,
        live.histogram.value_at_quantile(0.5) as f64 / 1e3,
        live.histogram.value_at_quantile(0.99) as f64 / 1e3,
        core_seconds(&live.usage) * 1e6 / live.events
    ));
    contender.pause()?;
    let catch_up = catch_up(settings, contender, &mut story, &follower)?;
    say(&format!("{}, backlog: {:.0} events/s, {:.0} events per core second", system.name(), catch_up.rate, catch_up.per_core_second()));
    let sends = compare(&story.reference, &follower.stop()?)?;
    Ok(Passage { system, live, catch_up, sends })
}

/// How long live traffic takes.
fn seconds(settings: &Settings) -> Duration {
    Duration::from_secs(settings.cart.cart_warm_up + settings.window) + BEHIND
}

fn live(settings: &Settings, contender: &mut dyn Contender, story: &mut Story, follower: &Follower) -> anyhow::Result<Live> {
    let (warm_up, window) = (Duration::from_secs(settings.cart.cart_warm_up), Duration::from_secs(settings.window));
    let (rate, tick) = (settings.cart.cart_rate as f64, Duration::from_millis(settings.tick_ms));
    let count = rate * seconds(settings).as_secs_f64();
    say(&format!("building {count:.0} events"));
    let (begin, begins) = play::appointment(count, SystemClock.now());
    let (mut moments, mut made, mut at) = (Vec::new(), 0.0, Duration::ZERO);
    while at < seconds(settings) {
        let now = Timestamp::from_millis(begins.millis() + i64::try_from(at.as_millis())?);
        let mut acts = Vec::new();
        while made < (at + tick).as_secs_f64() * rate {
            acts.push(story.next(now)?);
            made += 1.0;
        }
        moments.push(play::Moment { at, parcels: contender.parcels(&acts, usize::MAX)? });
        at += tick;
    }
    ensure!(Instant::now() < begin, "this machine builds events too slowly: --cart-rate or --cart-warm-up may be smaller");
    let looking = contender.look();
    let watched = looking.watched.clone();
    let played = play::play(&contender.inbox(), &moments, begin, || contender.check_alive());
    let samples = looking.stop()?;
    let generator_late = played?;
    let wanted = story.reference.clone().finish();
    await_sends(contender, follower, &wanted)?;
    contender.settle()?;
    let sample = |at: Instant| samples.iter().find(|sample| sample.at >= at).or_else(|| samples.last()).context("no sample");
    let (from, to) = (sample(begin + warm_up)?, sample(begin + warm_up + window)?);
    let mut histogram = Histogram::<u64>::new(3)?;
    let arrived: BTreeMap<_, _> = follower.arrived().iter().map(|one| ((one.person, one.cart), one.at)).collect();
    for send in wanted {
        let due = Duration::from_millis(u64::try_from(send.due.since(begins).millis())?);
        if due < warm_up || due > warm_up + window {
            continue;
        }
        let came = arrived.get(&(send.person, send.cart));
        let came = came.with_context(|| format!("nothing was sent to {} about cart {}", send.person, send.cart))?;
        histogram.record(u64::try_from(came.saturating_duration_since(begin + due).as_micros())?)?;
    }
    ensure!(!histogram.is_empty(), "no timer was due within the window: --window or --cart-rate may be greater");
    Ok(Live { events: rate * to.at.duration_since(from.at).as_secs_f64(), usage: usage(&watched, from, to), histogram, generator_late })
}

fn catch_up(settings: &Settings, contender: &mut dyn Contender, story: &mut Story, follower: &Follower) -> anyhow::Result<CatchUp> {
    let count = settings.events as u64;
    // what is left of the live carts is touched first, when their timers have long been due
    std::thread::sleep(Duration::from_millis(DELAY.millis().unsigned_abs() + MARGIN.millis().unsigned_abs()));
    // and behind its due instant no cart of the backlog is: who reads both at once may well hold an order against a timer of before
    story.carts.set_gaps(Gaps { soon: SOON_EVENTS.min(count / 10), late: NEVER });
    say(&format!("appending {count} events"));
    play::prefill(&contender.inbox(), count, |events| {
        let now = SystemClock.now();
        let acts = (0..events).map(|_| story.next(now)).collect::<anyhow::Result<Vec<_>>>()?;
        contender.parcels(&acts, settings.frame)
    })?;
    std::thread::sleep(PAUSE);
    contender.go()?;
    let looking = contender.look();
    let watched = looking.watched.clone();
    let settled = await_sends(contender, follower, &story.reference.clone().finish()).and_then(|()| contender.settle());
    // the samples reach beyond everything that is looked for in them
    std::thread::sleep(Duration::from_millis(300));
    let samples = looking.stop()?;
    settled?;
    let (folded, committed) = contender.folded(&samples)?;
    let last_send = follower.arrived().iter().map(|one| one.at).max().context("nothing was sent")?;
    measured(&samples, &folded, count, committed.max(last_send), |from, to| usage(&watched, from, to))
}

/// The rate of what came behind the run-in, and what it used until `done`.
fn measured(
    samples: &[Sample],
    folded: &[u64],
    count: u64,
    done: Instant,
    usage: impl Fn(&Sample, &Sample) -> Vec<Usage>,
) -> anyhow::Result<CatchUp> {
    let all = folded.last().copied().unwrap_or_default();
    let behind = all.checked_sub(count - count / RUN_IN_OF).context("fewer events were folded than lay there")?;
    let at = |events: u64| folded.iter().position(|folded| *folded >= events).context("the fold was not seen");
    let (first, last) = (at(behind)?, at(all)?);
    let end = samples.iter().find(|sample| sample.at >= done).context("the end was not seen")?;
    let events = (all - folded[first]) as f64;
    let seconds = samples[last].at.duration_since(samples[first].at).as_secs_f64();
    ensure!(seconds > 0.0, "the backlog was over within a tenth of a second: --events may be greater");
    Ok(CatchUp { events, rate: events / seconds, usage: usage(&samples[first], end) })
}

/// Waits until as many sends can be read as there must be.
fn await_sends(contender: &mut dyn Contender, follower: &Follower, wanted: &[Send]) -> anyhow::Result<()> {
    let (mut heard, mut known) = (Instant::now(), 0);
    loop {
        follower.check()?;
        contender.check_alive()?;
        let count = follower.arrived().len();
        if count >= wanted.len() {
            return Ok(());
        }
        if count > known {
            (heard, known) = (Instant::now(), count);
        }
        ensure!(heard.elapsed() < PATIENCE, "{count} of {} sends came, and no other for {} s", wanted.len(), PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An error where anything else was sent than the reference says; else how much.
fn compare(reference: &Reference, arrived: &[Arrived]) -> anyhow::Result<usize> {
    let mut wanted: Vec<_> = reference.clone().finish().iter().map(|send| (send.person, send.cart, send.cents)).collect();
    let mut sent: Vec<_> = arrived.iter().map(|one| (one.person, one.cart, one.cents)).collect();
    let mut ids: Vec<_> = arrived.iter().map(|one| one.id).collect();
    wanted.sort_unstable();
    sent.sort_unstable();
    ids.sort_unstable();
    ids.dedup();
    let lost: Vec<_> = wanted.iter().filter(|send| sent.binary_search(send).is_err()).take(EXAMPLES).collect();
    let wrong: Vec<_> = sent.iter().filter(|send| wanted.binary_search(send).is_err()).take(EXAMPLES).collect();
    ensure!(
        wanted == sent && ids.len() == sent.len(),
        "the reference wants {} sends and {} were made, under {} ids, so there are no figures; person, cart and value of what is missing: \
         {lost:?}, of what should not be: {wrong:?}",
        wanted.len(),
        sent.len(),
        ids.len()
    );
    Ok(sent.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_counted_behind_its_first_third() {
        let begin = Instant::now();
        let sample = |second: u64| Sample { at: begin + Duration::from_secs(second), cpu: vec![second as f64], places: Vec::new() };
        let samples: Vec<_> = (0..6).map(sample).collect();
        // 900 events came before this backlog of 300, the first 100 of which nobody counts
        let folded = [900, 950, 1_000, 1_100, 1_200, 1_200];
        let one = measured(&samples, &folded, 300, begin + Duration::from_secs(5), |from, to| {
            vec![Usage {
                name: "x".to_owned(),
                kind: Kind::Own,
                cpu_seconds: to.cpu[0] - from.cpu[0],
                resident_bytes: 0,
                system_calls: None,
            }]
        });
        let one = one.unwrap();
        assert!((one.rate - 100.0).abs() < 1e-9 && (one.events - 200.0).abs() < 1e-9, "{one:?}");
        assert!((one.per_core_second() - 200.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn other_sends_than_those_of_the_reference_are_no_figures() {
        let mut carts = Carts::new(1, waypost_bench::traffic::Size::S, Gaps { soon: 2_000, late: 15_000 });
        let mut reference = Reference::default();
        for at in 0..40_000 {
            reference.see(&carts.next(Timestamp::from_millis(at))).unwrap();
        }
        let at = Instant::now();
        let right: Vec<Arrived> = (0..)
            .zip(reference.clone().finish())
            .map(|(id, send)| Arrived { id: u128::to_be_bytes(id), person: send.person, cart: send.cart, cents: send.cents, at })
            .collect();
        assert!(compare(&reference, &right).unwrap() > 10);
        assert!(compare(&reference, &right[1..]).unwrap_err().to_string().contains("missing: [("));
        let mut twice = right.clone();
        twice.push(right[0]);
        assert!(compare(&reference, &twice).is_err());
        let mut other = right.clone();
        other[0].cents += 1;
        assert!(compare(&reference, &other).is_err());
        let mut same = right;
        same[0].id = same[1].id;
        assert!(compare(&reference, &same).is_err());
    }
}
