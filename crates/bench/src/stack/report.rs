//! Tables for people and one JSON document for machines.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::{
    latency::Latency,
    meter::Kind,
    oracle::Verdict,
    raw::{Baseline, Passage},
    sampler::Usage,
    settings::Settings,
    steady::Step,
};

/// Bars of the design: microseconds of CPU an event.
const OWN_MAX: f64 = 4.0;
const REDIS_MAX: f64 = 2.5;

/// One throughput run whose events were counted.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) partitions: u32,
    /// Events a second.
    pub(crate) rate: f64,
    /// Folded.
    pub(crate) events: u64,
    /// Of the window in which CPU was counted.
    pub(crate) cpu_events: f64,
    pub(crate) seconds: f64,
    /// Seconds from the last fold to the commit of everything, which the CPU of a backlog includes.
    pub(crate) committed_after: Option<f64>,
    pub(crate) usage: Vec<Usage>,
    pub(crate) bytes: Bytes,
    /// None until the events of all steps have been counted together.
    pub(crate) verdict: Option<Verdict>,
}

/// What was written during a run.
#[derive(Clone, Debug)]
pub(crate) struct Bytes {
    pub(crate) kafka: u64,
    pub(crate) redis: u64,
    pub(crate) redis_memory: i64,
    pub(crate) redis_commands: u64,
    pub(crate) topics: Vec<(String, u64)>,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) runs: Vec<Run>,
    pub(crate) steps: Vec<Step>,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) baselines: Vec<Baseline>,
}

// === impl Run ===

impl Run {
    /// Microseconds of CPU an event.
    fn micros(&self, kind: Kind) -> f64 {
        self.usage.iter().filter(|one| one.kind == kind).map(|one| one.cpu_seconds).sum::<f64>() * 1e6 / self.cpu_events
    }

    fn per_event(&self, bytes: u64) -> f64 {
        bytes as f64 / self.events as f64
    }
}

// === impl Report ===

impl Report {
    pub(crate) fn print(&self) {
        for run in &self.runs {
            println!("\n{}, {} partitions: {:.0} events/s", run.name, run.partitions, run.rate);
            let mut table = table(&["", "value", "bar"]);
            let mut row = |name: &str, value: String, bar: &str| {
                table.add_row([name, &value, bar]);
            };
            row("own CPU, µs an event", format!("{:.2}", run.micros(Kind::Own)), &judged(run.micros(Kind::Own), OWN_MAX));
            row("Redis CPU, µs an event", format!("{:.2}", run.micros(Kind::Redis)), &judged(run.micros(Kind::Redis), REDIS_MAX));
            row("broker CPU, µs an event", format!("{:.2}", run.micros(Kind::Broker)), "");
            row("generator and lag reader CPU, µs an event", format!("{:.2}", run.micros(Kind::Generator)), "");
            row(
                "bytes to Kafka's logs an event, without the first inbox of a backlog",
                format!("{:.0}", run.per_event(run.bytes.kafka)),
                "",
            );
            row("bytes to Redis an event", format!("{:.0}", run.per_event(run.bytes.redis)), "");
            row("commands to Redis an event", format!("{:.3}", run.per_event(run.bytes.redis_commands)), "");
            row("growth of Redis' memory, MB", format!("{:.1}", run.bytes.redis_memory as f64 / 1e6), "");
            if let Some(seconds) = run.committed_after {
                row("last fold → everything committed, s", format!("{seconds:.1}"), "");
            }
            if let Some(verdict) = &run.verdict {
                row("oracle", format!("each of {} events once at every stage", verdict.distinct), "");
            }
            println!("{table}");
            let mut table = self::table(&["process", "CPU s", "µs an event", "RSS MB"]);
            for one in &run.usage {
                table.add_row([
                    one.name.clone(),
                    format!("{:.2}", one.cpu_seconds),
                    format!("{:.2}", one.cpu_seconds * 1e6 / run.cpu_events),
                    format!("{:.0}", one.resident_bytes as f64 / 1e6),
                ]);
            }
            println!("{table}");
        }
        for baseline in &self.baselines {
            print_baseline(baseline);
        }
        if !self.latencies.is_empty() {
            println!("\nintended send of `Order Completed` → decision EXITED read back from Kafka, ms (the tail's arrival time)");
            let mut table = table(&["load", "events/s", "orders", "p50", "p99", "p99.9", "max", "lag max, s"]);
            for one in &self.latencies {
                let at = |quantile: f64| format!("{:.1}", one.histogram.value_at_quantile(quantile) as f64 / 1e3);
                table.add_row([
                    format!("{} %", one.share),
                    format!("{:.0}", one.rate),
                    one.orders.to_string(),
                    at(0.5),
                    at(0.99),
                    at(0.999),
                    format!("{:.1}", one.histogram.max() as f64 / 1e3),
                    format!("{:.2}", one.lag_max.as_secs_f64()),
                ]);
            }
            println!("{table}");
        }
        println!("One machine with the generator on it, one broker, replication 1, Redis append-only file synced every second.");
    }

    pub(crate) fn json(&self, settings: &Settings) -> Value {
        let runs = self.runs.iter().map(|run| {
            let process = |one: &Usage| {
                let name = format!("{:?}", one.kind).to_lowercase();
                json!({"name": one.name, "kind": name, "cpu_seconds": one.cpu_seconds, "rss_bytes": one.resident_bytes})
            };
            let stage = |(role, count, doubled, missing): &(waypost_types::Role, usize, usize, usize)| {
                json!({"role": role.as_str(), "events": count, "doubled": doubled, "missing": missing})
            };
            json!({
                "name": run.name, "partitions": run.partitions, "events_per_second": run.rate, "events": run.events,
                "cpu_events": run.cpu_events, "seconds": run.seconds, "committed_after_seconds": run.committed_after,
                "own_us": run.micros(Kind::Own), "redis_us": run.micros(Kind::Redis), "broker_us": run.micros(Kind::Broker),
                "generator_us": run.micros(Kind::Generator),
                "processes": run.usage.iter().map(process).collect::<Vec<_>>(),
                "kafka_bytes": run.bytes.kafka, "redis_bytes": run.bytes.redis, "redis_memory_growth": run.bytes.redis_memory,
                "redis_commands": run.bytes.redis_commands, "topic_bytes": run.bytes.topics,
                "oracle": run.verdict.as_ref().map(|v| json!({
                    "offered": v.offered, "distinct": v.distinct, "dead": v.dead, "stages": v.stages.iter().map(stage).collect::<Vec<_>>(),
                })),
            })
        });
        let steps = self.steps.iter().map(|step| {
            json!({
                "partitions": step.partitions, "events_per_second": step.rate, "held": step.held, "lag_max_seconds": step.lag_max.as_secs_f64(),
                "lag_first_half_seconds": step.lag_first_half.as_secs_f64(), "lag_second_half_seconds": step.lag_second_half.as_secs_f64(),
                "generator_late_seconds": step.generator_late.as_secs_f64(),
            })
        });
        let latencies = self.latencies.iter().map(|one| {
            let at = |quantile: f64| one.histogram.value_at_quantile(quantile);
            json!({
                "partitions": one.partitions, "share_percent": one.share, "events_per_second": one.rate, "orders": one.orders,
                "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": one.histogram.max(),
                "lag_max_seconds": one.lag_max.as_secs_f64(),
                "histogram_us": one.histogram.iter_recorded().map(|v| [v.value_iterated_to(), v.count_at_value()]).collect::<Vec<_>>(),
            })
        });
        let baselines = self.baselines.iter().map(|one| {
            let passage = |p: &Passage| {
                json!({
                    "events_per_second": p.rate, "client_us": p.client, "broker_us": p.broker,
                    "linger_ms": p.knobs.linger_ms, "fetch_bytes": p.knobs.fetch_bytes,
                })
            };
            json!({
                "partitions": one.partitions, "events": one.events, "raw_h_first": passage(&one.first), "raw_h_second": passage(&one.second),
                "raw_f": passage(&one.frames), "void": one.is_void(), "waypost_events_per_second": one.waypost,
            })
        });
        json!({
            "settings": {
                "events": settings.events, "raw_events": settings.raw_events, "size": format!("{:?}", settings.size), "seed": settings.seed,
                "frame": settings.frame, "tick_ms": settings.tick_ms, "window_s": settings.window, "run_in_s": settings.run_in,
                "commit_interval_max_s": settings.commit_interval, "probes": settings.probes,
            },
            "runs": runs.collect::<Vec<_>>(), "steps": steps.collect::<Vec<_>>(),
            "latency": latencies.collect::<Vec<_>>(), "baselines": baselines.collect::<Vec<_>>(),
        })
    }
}

fn print_baseline(baseline: &Baseline) {
    println!("\nbaselines, {} events, {} partitions", baseline.events, baseline.partitions);
    let mut table = table(&["", "events/s", "client µs", "broker µs", "linger ms", "fetch B", "Waypost / this"]);
    for (name, passage) in [("RAW-H first", &baseline.first), ("RAW-H second", &baseline.second), ("RAW-F", &baseline.frames)] {
        let ratio = match baseline.waypost {
            Some(_) if baseline.is_void() => "void".to_owned(),
            Some(rate) => format!("{:.2}", rate / passage.rate),
            None => String::new(),
        };
        table.add_row([
            name.to_owned(),
            format!("{:.0}", passage.rate),
            format!("{:.2}", passage.client),
            format!("{:.2}", passage.broker),
            passage.knobs.linger_ms.to_string(),
            passage.knobs.fetch_bytes.to_string(),
            ratio,
        ]);
    }
    println!("{table}");
    if baseline.is_void() {
        println!(
            "The two RAW-H differ by more than 10 %: the machine did something else meanwhile, and the comparison is void. Run it again."
        );
    } else if let Some(rate) = baseline.waypost {
        println!("Waypost / RAW-H: {:.2}", rate / baseline.rate());
    }
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(head);
    table
}

fn judged(value: f64, bar: f64) -> String {
    format!("≤ {bar}: {}", if value <= bar { "met" } else { "missed" })
}
