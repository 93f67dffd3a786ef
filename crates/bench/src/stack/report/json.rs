//! The report as one JSON document.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{Commits, Report};
use crate::{cart1::Cart1, door::Served, latency::Latency, meter::Kind, raw::Passage, sampler::Usage, settings::Settings};

const PERCENTILES: [(&str, f64); 7] =
    [("p50", 50.0), ("p75", 75.0), ("p90", 90.0), ("p95", 95.0), ("p99", 99.0), ("p999", 99.9), ("p9999", 99.99)];

// === impl Report ===

impl Report {
    pub(crate) fn json(&self, settings: &Settings) -> Value {
        let runs = self.runs.iter().map(|run| {
            let process = |one: &Usage| {
                let name = format!("{:?}", one.kind).to_lowercase();
                json!({"name": one.name, "kind": name, "cpu_seconds": one.cpu_seconds, "rss_bytes": one.resident_bytes, "system_calls": one.system_calls})
            };
            let stage = |(role, count, doubled, missing): &(waypost_types::Role, usize, usize, usize)| {
                json!({"role": role.as_str(), "events": count, "doubled": doubled, "missing": missing})
            };
            json!({
                "name": run.name, "known": run.known, "partitions": run.partitions, "events_per_second": run.rate, "events": run.events,
                "cpu_events": run.cpu_events, "seconds": run.seconds, "committed_after_seconds": run.committed_after,
                "own_us": run.micros(Kind::Own), "redis_us": run.micros(Kind::Redis), "broker_us": run.micros(Kind::Broker),
                "generator_us": run.micros(Kind::Generator), "dollars_a_million": run.dollars(),
                "first_sights": run.sights.first, "new_identifiers": run.sights.links, "merges": run.sights.merges,
                "commit_interval_seconds": run.commits.as_ref().map(Commits::interval),
                "commits": run.commits.iter().flat_map(|commits| &commits.by_role).map(|(role, written)| {
                    json!({"role": role.as_str(), "commits": written.commits, "entities": written.entities})
                }).collect::<Vec<_>>(),
                "processes": run.usage.iter().map(process).collect::<Vec<_>>(),
                "kafka_bytes": run.bytes.kafka, "redis_bytes": run.bytes.redis, "redis_used_memory": run.bytes.redis_used_memory, "redis_memory_growth": run.bytes.redis_memory,
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
        let latency = |one: &Latency| {
            json!({
                "partitions": one.partitions, "share_percent": one.share, "bot_percent": one.bot, "events_per_second": one.rate, "orders": one.orders,
                "lag_max_seconds": one.lag_max.as_secs_f64(), "latency_us": percentiles(&one.histogram),
                "histogram_us": one.histogram.iter_recorded().map(|v| [v.value_iterated_to(), v.count_at_value()]).collect::<Vec<_>>(),
            })
        };
        let timers = self.timers.iter().map(|one| {
            json!({
                "partitions": one.partitions, "events_per_second": one.rate, "timers_per_second": one.per_second, "seconds": one.seconds,
                "sends": one.histogram.len(), "sends_in_time": one.in_time, "lag_max_seconds": one.lag_max.as_secs_f64(),
                "latency_us": percentiles(&one.histogram),
            })
        });
        let bursts = self.bursts.iter().map(|one| {
            json!({
                "partitions": one.partitions, "events_per_second": one.rate, "sends": one.histogram.len(),
                "last_send_seconds": one.took.as_secs_f64(), "traffic_behind_seconds": one.traffic.as_secs_f64(),
                "lag_max_seconds": one.lag_max.as_secs_f64(), "latency_us": percentiles(&one.histogram),
                "orders_before": one.before.len(), "orders_meanwhile": one.during.len(),
                "orders_before_us": percentiles(&one.before), "orders_meanwhile_us": percentiles(&one.during),
            })
        });
        let kills = self.kills.iter().map(|one| {
            json!({
                "role": one.role.as_str(), "partitions": one.partitions, "events_per_second": one.rate,
                "first_commits_seconds": one.commits.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
                "caught_up_seconds": one.caught_up.map(|after| after.as_secs_f64()),
            })
        });
        let baselines = self.baselines.iter().map(|one| {
            json!({
                "partitions": one.partitions, "events": one.events, "raw_h_first": passage(&one.first), "raw_h_second": passage(&one.second),
                "raw_f": passage(&one.frames), "raw_1": passage(&one.single), "void": one.is_void(),
                "waypost_events_per_second": one.waypost,
            })
        });
        let red_b = self.red_b.iter().map(|one| {
            json!({
                "partitions": one.partitions, "interval_ms": one.interval_ms, "events": one.events, "events_per_second": one.rate,
                "redis_us": one.redis, "client_us": one.client, "commits": one.commits, "entities": one.entities,
                "carried_bytes": one.carried, "sent_bytes": one.wire,
            })
        });
        let doors = self.doors.iter().map(|one| {
            json!({
                "events_a_request": one.batch, "connections": one.connections, "hyper_first": served(&one.first),
                "hyper_second": served(&one.second), "waypost": served(&one.waypost), "void": one.is_void(),
                "acknowledged_and_found_once": one.acknowledged,
            })
        });
        let limits = self.limits().into_iter().map(|row| json!({"limit": row[0], "figure": row[1], "waypost": row[2], "ratio": row[3]}));
        json!({
            "machine": self.machine.json(),
            "settings": {
                "workloads": settings.workload.iter().map(|one| format!("{one:?}").to_lowercase()).collect::<Vec<_>>(),
                "partitions": settings.partitions, "events": settings.events, "raw_events": settings.raw_events,
                "size": format!("{:?}", settings.size), "people": settings.size.size().people(), "known": settings.known(), "seed": settings.seed,
                "frame": settings.frame, "tick_ms": settings.tick_ms, "window_s": settings.window, "run_in_s": settings.run_in,
                "timers_rate": settings.timers_rate, "burst": settings.burst, "load_rate": settings.load_rate,
                "commit_interval_max_s": settings.commit_interval, "probes": settings.probes, "red_events": settings.red_events,
                "red_intervals_ms": settings.red_intervals, "http_seconds": settings.http_seconds,
                "http_connections": settings.http_connections, "http_batches": settings.http_batches,
            },
            "runs": runs.collect::<Vec<_>>(), "steps": steps.collect::<Vec<_>>(),
            "latency": self.latencies.iter().map(latency).collect::<Vec<_>>(), "hot_key": self.hot.iter().map(latency).collect::<Vec<_>>(),
            "timers": timers.collect::<Vec<_>>(), "burst": bursts.collect::<Vec<_>>(),
            "kill": kills.collect::<Vec<_>>(), "baselines": baselines.collect::<Vec<_>>(),
            "cart_1": self.cart1.iter().map(Cart1::json).collect::<Vec<_>>(), "red_b": red_b.collect::<Vec<_>>(), "http": doors.collect::<Vec<_>>(), "limits": limits.collect::<Vec<_>>(),
        })
    }
}

fn passage(passage: &Passage) -> Value {
    json!({
        "events_per_second": passage.rate, "client_us": passage.client, "broker_us": passage.broker,
        "linger_ms": passage.knobs.linger_ms, "fetch_bytes": passage.knobs.fetch_bytes,
    })
}

fn served(served: &Served) -> Value {
    json!({
        "events_per_second": served.rate, "server_us": served.server, "broker_us": served.broker, "load_us": served.load,
        "request_us": percentiles(&served.histogram),
    })
}

pub(super) fn percentiles(histogram: &Histogram<u64>) -> Value {
    let at = PERCENTILES.into_iter().map(|(name, percentile)| (name.to_owned(), json!(histogram.value_at_percentile(percentile))));
    at.chain([("max".to_owned(), json!(histogram.max()))]).collect::<serde_json::Map<_, _>>().into()
}
