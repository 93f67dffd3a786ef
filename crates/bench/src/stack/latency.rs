//! W2: from the intended send time of `Order Completed` to the decision record that says that the run has exited, as it is
//! read back from the log: Kafka's own time of the append has only milliseconds. W13: the same for people who are no bot, while a
//! bot makes more and more of all events.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use waypost_bench::traffic::Installation;
use waypost_codec::{frame::Record, inbox, public::Decision};
use waypost_ingest::normalise::record;
use waypost_types::{IdentifierClass, Timestamp};

use crate::{
    backlog::settle, generator::build, known, oracle::judge, pipeline::Pipeline, say, settings::Settings, steady::with_traffic, tail::Tail,
};

/// Between somebody's cart and the order that ends it.
const SHOPPING: Duration = Duration::from_secs(2);
/// A decision that has not come by then will not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was measured at one load.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    pub(crate) partitions: u32,
    pub(crate) share: u32,
    /// Percent of all events that one bot made.
    pub(crate) bot: u32,
    pub(crate) rate: f64,
    /// Microseconds.
    pub(crate) histogram: Histogram<u64>,
    pub(crate) orders: usize,
    pub(crate) lag_max: Duration,
}

/// What the traffic of a shop has, where nothing else is said.
pub(crate) const BOT: u32 = 2;
/// Of the highest rate, for W13.
const HOT_SHARE: u32 = 50;

/// People who fill a cart and order.
struct Shoppers {
    installation: Installation,
    /// Tells them from those of other runs.
    name: String,
}

/// Orders at a steady pace, each of somebody who has filled a cart before.
pub(crate) struct Probes {
    shoppers: Shoppers,
    every: Duration,
    /// Orders before that are not measured.
    run_in: Duration,
    carts: u32,
    orders: u32,
    /// By cart: when the order is to be sent, since the beginning.
    due: BTreeMap<String, Duration>,
}

/// Reads when the exit of each cart's run can first be read back.
pub(crate) struct Exits {
    seen: Arc<Mutex<HashMap<String, Instant>>>,
    tail: Tail,
}

/// W2, at each share of the rate.
pub(crate) fn run(pipeline: &mut Pipeline, settings: &Settings, rate: f64) -> anyhow::Result<Vec<Latency>> {
    let loads: Vec<(u32, u32)> = settings.shares.iter().map(|share| (*share, BOT)).collect();
    at_each(pipeline, settings, rate, &loads)
}

/// W13, with each bot.
pub(crate) fn hot_key(pipeline: &mut Pipeline, settings: &Settings, rate: f64) -> anyhow::Result<Vec<Latency>> {
    let loads: Vec<(u32, u32)> = settings.bots.iter().map(|bot| (HOT_SHARE, *bot)).collect();
    let all = at_each(pipeline, settings, rate, &loads);
    pipeline.traffic.set_bot(BOT);
    all
}

/// At each load: percent of the rate, and of one bot.
fn at_each(pipeline: &mut Pipeline, settings: &Settings, rate: f64, loads: &[(u32, u32)]) -> anyhow::Result<Vec<Latency>> {
    known::start(pipeline, settings)?;
    let mut all: Vec<Latency> = Vec::new();
    for (share, bot) in loads {
        pipeline.traffic.set_bot(*bot);
        let latency = one(pipeline, settings, (*share, *bot), rate * f64::from(*share) / 100.0)?;
        let at = |quantile| latency.histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        say(&format!("latency at {share} %, a bot with {bot} %: p50 {:.1} ms, p99 {:.1} ms, {} orders", at(0.5), at(0.99), latency.orders));
        all.push(latency);
        settle(pipeline, "the step to be folded")?;
    }
    pipeline.stop()?;
    say("latency: counting events at every stage");
    let (verdict, _) = judge(pipeline)?;
    verdict.check()?;
    say(&format!("latency: {verdict}"));
    Ok(all)
}

fn one(pipeline: &mut Pipeline, settings: &Settings, (share, bot): (u32, u32), rate: f64) -> anyhow::Result<Latency> {
    let (run_in, window) = (Duration::from_secs(settings.run_in), Duration::from_secs(settings.window));
    let (tick, length) = (Duration::from_millis(settings.tick_ms), run_in + window);
    let mut probes = Probes::new(pipeline, settings, &format!("{share}-{bot}"));
    let ticks = build(&mut pipeline.traffic, pipeline.layout, &mut pipeline.offered, (rate, length, tick), |at, now| probes.at(at, now))?;
    let exits = Exits::follow(pipeline)?;
    let mut lag_max = Duration::ZERO;
    let (begin, _) = with_traffic(pipeline, &ticks, |at, lag| {
        if at >= run_in {
            lag_max = lag_max.max(lag);
        }
    })?;
    let took = exits.after(&probes, begin)?;
    let histogram = histogram(took.iter().map(|(_, took)| *took))?;
    Ok(Latency { partitions: pipeline.layout.partitions, share, bot, rate, orders: took.len(), histogram, lag_max })
}

/// In microseconds.
pub(crate) fn histogram(all: impl Iterator<Item = Duration>) -> anyhow::Result<Histogram<u64>> {
    let mut histogram = Histogram::new(3)?;
    for took in all {
        histogram.record(u64::try_from(took.as_micros())?)?;
    }
    Ok(histogram)
}

// === impl Probes ===

impl Probes {
    pub(crate) fn new(pipeline: &Pipeline, settings: &Settings, name: &str) -> Self {
        // what has been offered so far tells this run from others
        let name = format!("{name}-{}", pipeline.offered.ids.len());
        Self {
            shoppers: Shoppers { installation: pipeline.installation, name },
            every: Duration::from_nanos(1_000_000_000 / settings.probes.max(1)),
            run_in: Duration::from_secs(settings.run_in),
            carts: 0,
            orders: 0,
            due: BTreeMap::new(),
        }
    }

    /// What goes with the traffic of an instant.
    pub(crate) fn at(&mut self, at: Duration, now: Timestamp) -> Vec<Record> {
        let mut records = Vec::new();
        while self.every * self.carts < at {
            records.push(self.shoppers.cart(self.carts, now));
            self.carts += 1;
        }
        while self.every * self.orders + SHOPPING < at {
            records.push(self.shoppers.order(self.orders, now));
            if at > self.run_in {
                self.due.insert(self.shoppers.key(self.orders), at);
            }
            self.orders += 1;
        }
        records
    }
}

// === impl Exits ===

impl Exits {
    /// From now on.
    pub(crate) fn follow(pipeline: &Pipeline) -> anyhow::Result<Self> {
        let seen: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
        let exits = Arc::clone(&seen);
        let tail = Tail::follow(pipeline, Decision::TOPIC, move |now, payload| {
            let row = payload.get(5..).and_then(Decision::decode);
            if let Some(row) = row.filter(|row| row.what == "EXITED") {
                exits.lock().unwrap_or_else(PoisonError::into_inner).entry(row.key).or_insert(now);
            }
        })?;
        Ok(Self { seen, tail })
    }

    /// Waits for the exit behind every measured order: when each was to be sent since `begin`, and how long it took.
    pub(crate) fn after(self, probes: &Probes, begin: Instant) -> anyhow::Result<Vec<(Duration, Duration)>> {
        let due = &probes.due;
        ensure!(!due.is_empty(), "no order was sent: --probes must be above 0 and --window above 2");
        let until = Instant::now() + PATIENCE;
        let there = || due.keys().filter(|key| self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains_key(*key)).count();
        while there() < due.len() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(self.tail);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let took = due.iter().map(|(key, at)| {
            let exited =
                seen.get(key).with_context(|| format!("the run of cart {key} never exited, {} of {} did", seen.len(), due.len()))?;
            Ok((*at, exited.saturating_duration_since(begin + *at)))
        });
        took.collect()
    }
}

// === impl Shoppers ===

impl Shoppers {
    /// The cart of a number, which is its run's key.
    fn key(&self, number: u32) -> String {
        format!("probe-{}-{number}", self.name)
    }

    fn cart(&self, number: u32, now: Timestamp) -> Record {
        let text = |text: &str| inbox::value::Kind::Text(text.to_owned());
        let properties = [
            ("cart_id", text(&self.key(number))),
            ("price", inbox::value::Kind::Money(5_000)),
            ("product_id", text("p-1")),
            ("quantity", inbox::value::Kind::Int(1)),
        ];
        self.event("Product Added", "cart", number, properties.to_vec(), now)
    }

    fn order(&self, number: u32, now: Timestamp) -> Record {
        let text = |text: &str| inbox::value::Kind::Text(text.to_owned());
        let key = self.key(number);
        let properties = [("cart_id", text(&key)), ("order_id", text(&format!("o-{key}"))), ("total", inbox::value::Kind::Money(5_000))];
        self.event("Order Completed", "order", number, properties.to_vec(), now)
    }

    fn event(&self, name: &str, what: &str, number: u32, properties: Vec<(&str, inbox::value::Kind)>, now: Timestamp) -> Record {
        let installation = self.installation;
        let user = format!("shopper-{}", self.key(number));
        let identifier = installation.identifier(IdentifierClass::UserId, user);
        let entry = |(name, kind): (&str, inbox::value::Kind)| inbox::Property {
            name: name.to_owned(),
            value: Some(inbox::Value { kind: Some(kind) }),
        };
        let event = inbox::Event {
            message_id: format!("{what}-{}", self.key(number)),
            name: name.to_owned(),
            identifiers: vec![identifier],
            event_time: now.millis(),
            received_at: now.millis(),
            properties: Some(inbox::Object { entries: properties.into_iter().map(entry).collect() }),
            source: "web".to_owned(),
            may_grant: true,
            ..inbox::Event::default()
        };
        record(&event, installation.workspace, now)
    }
}
