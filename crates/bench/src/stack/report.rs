//! Everything that was measured, as tables for people; `json` has it for machines.

mod beside;
mod cart1;
mod json;
mod timers;

use std::{fs, path::Path, time::Duration};

use comfy_table::{Table, presets};
use waypost_bench::sights::Count;

pub(crate) use self::beside::{Beside, Commits};
use crate::{
    cart1::Cart1,
    door::{Door, Served},
    kill::Kill,
    latency::Latency,
    machine::Machine,
    meter::Kind,
    oracle::Verdict,
    raw::{Baseline, Passage},
    red_b::RedB,
    sampler::Usage,
    settings::Settings,
    steady::Step,
    timers::{Burst, Timers},
};

/// Bars of the design: microseconds of CPU an event.
const OWN_MAX: f64 = 4.0;
const REDIS_MAX: f64 = 2.5;
/// And dollars a million events.
const DOLLARS_MAX: f64 = 0.0005;
/// What a virtual core is assumed to cost an hour.
const DOLLARS_AN_HOUR: f64 = 0.0445;

/// One throughput run whose events were counted.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    /// People who had been there before.
    pub(crate) known: u64,
    /// Whom its events found, as reckoned when they were made.
    pub(crate) sights: Count,
    /// Of the window in which CPU was counted, where that was to be seen.
    pub(crate) commits: Option<Commits>,
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
    pub(crate) redis_used_memory: u64,
    /// By how much that grew.
    pub(crate) redis_memory: i64,
    pub(crate) redis_commands: u64,
    pub(crate) topics: Vec<(String, u64)>,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) runs: Vec<Run>,
    pub(crate) steps: Vec<Step>,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) hot: Vec<Latency>,
    pub(crate) timers: Vec<Timers>,
    pub(crate) bursts: Vec<Burst>,
    pub(crate) kills: Vec<Kill>,
    pub(crate) baselines: Vec<Baseline>,
    pub(crate) red_b: Vec<RedB>,
    pub(crate) doors: Vec<Door>,
    pub(crate) cart1: Vec<Cart1>,
}

/// One table, with what is to be said of it.
#[derive(Debug)]
struct Section {
    title: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

/// From a kill to the first new commit elsewhere.
const RECOVERY_MAX: Duration = Duration::from_secs(12);
const LATENCY: &str = "intended send of `Order Completed` → decision EXITED read back from Kafka, ms (the tail's arrival time)";
/// Beside every figure.
const FOOT: &str = "One machine with the generator on it, one broker, replication 1, Redis append-only file synced every second.";

// === impl Run ===

impl Run {
    /// Microseconds of CPU an event.
    fn micros(&self, kind: Kind) -> f64 {
        self.usage.iter().filter(|one| one.kind == kind).map(|one| one.cpu_seconds).sum::<f64>() * 1e6 / self.cpu_events
    }

    /// Dollars a million events: our processes, Redis and the broker.
    fn dollars(&self) -> f64 {
        [Kind::Own, Kind::Redis, Kind::Broker].into_iter().map(|kind| self.micros(kind)).sum::<f64>() / 3_600.0 * DOLLARS_AN_HOUR
    }

    /// System calls a thousand events of all our processes, where all of them were counted.
    fn own_system_calls(&self) -> Option<f64> {
        let own = self.usage.iter().filter(|one| one.kind == Kind::Own);
        let calls: Option<u64> = own.map(|one| one.system_calls).sum();
        Some(calls? as f64 * 1e3 / self.cpu_events)
    }

    fn per_event(&self, bytes: u64) -> f64 {
        bytes as f64 / self.events as f64
    }

    fn sections(&self) -> [Section; 2] {
        let mut rows = Vec::new();
        let mut row = |name: &str, value: String, bar: String| rows.push(vec![name.to_owned(), value, bar]);
        row("own CPU, µs an event", format!("{:.2}", self.micros(Kind::Own)), judged(self.micros(Kind::Own), OWN_MAX));
        row("Redis CPU, µs an event", format!("{:.2}", self.micros(Kind::Redis)), judged(self.micros(Kind::Redis), REDIS_MAX));
        row("broker CPU, µs an event", format!("{:.2}", self.micros(Kind::Broker)), String::new());
        row("generator and lag reader CPU, µs an event", format!("{:.2}", self.micros(Kind::Generator)), String::new());
        let cost = format!("$ a million events (own, Redis and broker CPU), at an assumed ${DOLLARS_AN_HOUR} a core hour");
        row(&cost, format!("{:.5}", self.dollars()), judged(self.dollars(), DOLLARS_MAX));
        let calls = self.own_system_calls().map_or_else(|| "not counted: that takes perf".to_owned(), |calls| format!("{calls:.0}"));
        row("own system calls, a thousand events", calls, String::new());
        let [first, links, merges] = self.sights.per_thousand();
        row("of a thousand events: first sights", format!("{first:.1}"), String::new());
        row("of a thousand events: another identifier of somebody known", format!("{links:.1}"), String::new());
        row("of a thousand events: merges of two who were known", format!("{merges:.1}"), String::new());
        let kafka = "bytes to Kafka's logs an event, without the first inbox of a backlog";
        row(kafka, format!("{:.0}", self.per_event(self.bytes.kafka)), String::new());
        row("bytes to Redis an event", format!("{:.0}", self.per_event(self.bytes.redis)), String::new());
        row("commands to Redis an event", format!("{:.3}", self.per_event(self.bytes.redis_commands)), String::new());
        for (role, entities, seconds) in self.commits.iter().flat_map(Commits::each) {
            let entities = entities as f64 / self.cpu_events;
            row(
                &format!("{role}: entities to Redis an event; seconds between commits"),
                format!("{entities:.3}; {seconds:.2}"),
                String::new(),
            );
        }
        if let Some(commits) = &self.commits {
            row("entities to Redis an event", format!("{:.3}", commits.entities() as f64 / self.cpu_events), String::new());
        }
        row("Redis' memory, MB", format!("{:.1}", self.bytes.redis_used_memory as f64 / 1e6), String::new());
        row("growth of Redis' memory, MB", format!("{:.1}", self.bytes.redis_memory as f64 / 1e6), String::new());
        if let Some(seconds) = self.committed_after {
            row("last fold → everything committed, s", format!("{seconds:.1}"), String::new());
        }
        if let Some(verdict) = &self.verdict {
            row("oracle", format!("each of {} events once at every stage", verdict.distinct), String::new());
        }
        let commits = self.commits.as_ref().map_or_else(String::new, |commits| format!(", committed every {:.1} s", commits.interval()));
        let title =
            format!("{}, {} people known, {} partitions: {:.0} events/s{commits}", self.name, self.known, self.partitions, self.rate);
        let processes = self.usage.iter().map(|one| {
            vec![
                one.name.clone(),
                format!("{:.2}", one.cpu_seconds),
                format!("{:.2}", one.cpu_seconds * 1e6 / self.cpu_events),
                format!("{:.0}", one.resident_bytes as f64 / 1e6),
                one.system_calls.map_or_else(String::new, |calls| format!("{:.0}", calls as f64 * 1e3 / self.cpu_events)),
            ]
        });
        let head = ["process", "CPU s", "µs an event", "RSS MB", "system calls a thousand events"];
        let by_process = Section::new("by process", &head, processes.collect());
        [Section::new(title, &["", "value", "bar"], rows), by_process]
    }
}

// === impl Report ===

impl Report {
    pub(crate) fn print(&self) {
        for section in self.sections() {
            println!("\n{section}");
        }
        println!("{FOOT}");
    }

    /// `report.json` and `report.md` in a folder.
    pub(crate) fn write(&self, settings: &Settings, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        let json = self.json(settings);
        fs::write(folder.join("report.json"), serde_json::to_string_pretty(&json)?)?;
        let rows = |facts: &mut dyn Iterator<Item = (String, String)>| facts.map(|(name, value)| vec![name, value]).collect();
        let machine = rows(&mut self.machine.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let asked = json["settings"].as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.to_string()));
        let mut sections =
            vec![Section::new("machine", &["", ""], machine), Section::new("settings", &["", ""], rows(&mut asked.into_iter()))];
        sections.extend(self.sections());
        let sections: Vec<String> = sections.iter().map(Section::markdown).collect();
        fs::write(folder.join("report.md"), format!("# Waypost, measured\n\n{FOOT}\n\n{}", sections.join("\n")))?;
        Ok(())
    }

    fn sections(&self) -> Vec<Section> {
        let mut sections: Vec<Section> = self.runs.iter().flat_map(Run::sections).collect();
        if !self.steps.is_empty() {
            sections.push(self.steps());
        }
        sections.extend(self.baselines.iter().map(Baseline::section));
        if !self.red_b.is_empty() {
            sections.push(self.red_b());
        }
        sections.extend(self.doors.iter().map(Door::section));
        sections.extend(self.cart1.iter().flat_map(Cart1::sections));
        if !self.latencies.is_empty() {
            sections.push(latency(LATENCY, &self.latencies));
        }
        if let Some(calm) = self.hot.first() {
            let p99 = |one: &Latency| one.histogram.value_at_quantile(0.99) as f64;
            let mut section = latency(&format!("{LATENCY}: of people who are no bot"), &self.hot);
            let ratio = |one: &Latency| format!("p99 with a bot of {} %: {:.2} of that with {} %", one.bot, p99(one) / p99(calm), calm.bot);
            section.notes.extend(self.hot.iter().skip(1).map(ratio));
            sections.push(section);
        }
        if !self.timers.is_empty() {
            sections.push(timers::timers(&self.timers));
        }
        if !self.bursts.is_empty() {
            sections.push(timers::bursts(&self.bursts));
        }
        if !self.kills.is_empty() {
            sections.push(self.kills());
        }
        let limits = self.limits();
        if !limits.is_empty() {
            let head = ["limit", "its figure", "Waypost", "Waypost / limit"];
            sections.push(Section::new("Waypost beside what the machine allows", &head, limits));
        }
        sections
    }

    fn steps(&self) -> Section {
        let rows = self.steps.iter().map(|one| {
            let seconds = |lag: Duration| format!("{:.2}", lag.as_secs_f64());
            vec![
                one.partitions.to_string(),
                format!("{:.0}", one.rate),
                if one.held { "held" } else { "not held" }.to_owned(),
                seconds(one.lag_max),
                seconds(one.lag_first_half),
                seconds(one.lag_second_half),
                seconds(one.generator_late),
            ]
        });
        let head = ["partitions", "events/s", "", "lag max, s", "first half", "second half", "generator late"];
        Section::new("rates that were tried, open loop", &head, rows.collect())
    }

    fn kills(&self) -> Section {
        let rows = self.kills.iter().map(|one| {
            let at = |place: usize| one.commits.get(place).map_or(String::new(), |after| format!("{:.1}", after.as_secs_f64()));
            vec![
                one.role.to_string(),
                format!("{:.0}", one.rate),
                one.commits.len().to_string(),
                at(0),
                at(one.commits.len() / 2),
                judged_seconds(one.commits.last().copied().unwrap_or_default(), RECOVERY_MAX),
                one.caught_up.map_or_else(|| "not within the run".to_owned(), |after| format!("{:.1}", after.as_secs_f64())),
            ]
        });
        let head = ["killed", "events/s", "its partitions", "first", "median", "last", "lag under 1 s again"];
        let title = "kill -9 of one of two processes → first new commit of its partitions by the other, s";
        let mut section = Section::new(title, &head, rows.collect());
        section.notes.push("Lost 0, doubled 0, by the events at every stage.".to_owned());
        section
    }

    fn red_b(&self) -> Section {
        let rows = self.red_b.iter().map(|one| {
            let each = |count: f64| count / one.events as f64;
            vec![
                one.interval_ms.to_string(),
                format!("{:.0}", one.rate),
                format!("{:.2}", one.redis),
                format!("{:.2}", one.client),
                format!("{:.0}", each(one.carried as f64)),
                format!("{:.0}", each(one.wire as f64)),
                format!("{:.2}", each(one.commits as f64) * 1e3),
                format!("{:.2}", each(one.entities as f64)),
            ]
        });
        let head = [
            "ms between commits",
            "events/s",
            "Redis µs",
            "client µs",
            "bytes carried",
            "bytes sent",
            "commits a thousand events",
            "entities an event",
        ];
        let title = "RED-B: the commits of the three roles alone, as their machines made them in memory";
        Section::new(title, &head, rows.collect())
    }

    /// The backlog of so many partitions, which is Waypost at full load.
    fn full_load(&self, partitions: u32) -> Option<&Run> {
        self.runs.iter().find(|run| run.partitions == partitions && run.committed_after.is_some())
    }

    /// Waypost beside each baseline: name, the baseline's figure, Waypost's, and their ratio.
    fn limits(&self) -> Vec<Vec<String>> {
        let row = |name: String, unit: &str, limit: f64, own: f64, is_void: bool| {
            let ratio = if is_void { "void".to_owned() } else { format!("{:.2}", own / limit) };
            vec![name, format!("{limit:.2} {unit}"), format!("{own:.2} {unit}"), ratio]
        };
        let mut rows = Vec::new();
        for one in &self.baselines {
            let Some(own) = one.waypost else { continue };
            for (name, limit) in [("RAW-H", one.rate()), ("RAW-F", one.frames.rate), ("RAW-1", one.single.rate)] {
                rows.push(row(format!("{name}, {} partitions", one.partitions), "events/s", limit, own, one.is_void()));
            }
        }
        for one in &self.red_b {
            let Some(run) = self.full_load(one.partitions) else { continue };
            let name = format!("RED-B, {} partitions, {} ms", one.partitions, one.interval_ms);
            rows.push(row(name.clone(), "events/s", one.rate, run.rate, false));
            rows.push(row(name, "µs of Redis", one.redis, run.micros(Kind::Redis), false));
        }
        for one in &self.doors {
            rows.push(row(format!("HYPER, {} a request", one.batch), "events/s", one.hyper(), one.waypost.rate, one.is_void()));
        }
        rows
    }
}

fn latency(title: &str, latencies: &[Latency]) -> Section {
    let rows = latencies.iter().map(|one| {
        let at = |quantile: f64| format!("{:.1}", one.histogram.value_at_quantile(quantile) as f64 / 1e3);
        vec![
            format!("{} %", one.share),
            format!("{} %", one.bot),
            format!("{:.0}", one.rate),
            one.orders.to_string(),
            at(0.5),
            at(0.99),
            at(0.999),
            format!("{:.1}", one.histogram.max() as f64 / 1e3),
            format!("{:.2}", one.lag_max.as_secs_f64()),
        ]
    });
    let head = ["load", "one bot", "events/s", "orders", "p50", "p99", "p99.9", "max", "lag max, s"];
    Section::new(title, &head, rows.collect())
}

// === impl Baseline ===

impl Baseline {
    fn section(&self) -> Section {
        let passages = [("RAW-H first", &self.first), ("RAW-H second", &self.second), ("RAW-F", &self.frames), ("RAW-1", &self.single)];
        let rows = passages.map(|(name, passage): (&str, &Passage)| {
            let ratio = match self.waypost {
                Some(_) if self.is_void() => "void".to_owned(),
                Some(rate) => format!("{:.2}", rate / passage.rate),
                None => String::new(),
            };
            vec![
                name.to_owned(),
                format!("{:.0}", passage.rate),
                format!("{:.2}", passage.client),
                format!("{:.2}", passage.broker),
                passage.knobs.linger_ms.to_string(),
                passage.knobs.fetch_bytes.to_string(),
                ratio,
            ]
        });
        let title = format!("baselines, {} events, {} partitions", self.events, self.partitions);
        let head = ["", "events/s", "client µs", "broker µs", "linger ms", "fetch B", "Waypost / this"];
        let mut section = Section::new(title, &head, rows.to_vec());
        if self.is_void() {
            section.notes.push(
                "The two RAW-H differ by more than 10 %: the machine did something else meanwhile, and the comparison is void. Run it again."
                    .to_owned(),
            );
        } else if let Some(rate) = self.waypost {
            section.notes.push(format!("Waypost / RAW-H: {:.2}", rate / self.rate()));
        }
        section
    }
}

// === impl Door ===

impl Door {
    fn section(&self) -> Section {
        let rows = [("HYPER first", &self.first), ("Waypost", &self.waypost), ("HYPER second", &self.second)];
        let rows = rows.map(|(name, served): (&str, &Served)| {
            let at = |quantile: f64| format!("{:.2}", served.histogram.value_at_quantile(quantile) as f64 / 1e3);
            vec![
                name.to_owned(),
                format!("{:.0}", served.rate),
                format!("{:.2}", served.server),
                format!("{:.2}", served.broker),
                format!("{:.2}", served.load),
                at(0.5),
                at(0.99),
                at(0.999),
            ]
        });
        let title = format!("HTTP, events a request: {}, {} connections, closed loop", self.batch, self.connections);
        let head = ["", "events/s", "server µs an event", "broker µs", "load µs", "p50 ms", "p99 ms", "p99.9 ms"];
        let mut section = Section::new(title, &head, rows.to_vec());
        section.notes.push(format!("Each of {} events that Waypost acknowledged lay in its inbox, once.", self.acknowledged));
        if [&self.first, &self.second].iter().any(|hyper| hyper.load >= hyper.server) {
            section.notes.push("The load took as much CPU as HYPER: on a machine this small HYPER could be faster.".to_owned());
        }
        if self.is_void() {
            section.notes.push("The two HYPER differ by more than 10 %: the comparison is void. Run it again.".to_owned());
        } else {
            section.notes.push(format!("Waypost / HYPER: {:.2}", self.waypost.rate / self.hyper()));
        }
        section
    }
}

// === impl Section ===

impl Section {
    fn new(title: impl Into<String>, head: &[&'static str], rows: Vec<Vec<String>>) -> Self {
        Self { title: title.into(), head: head.to_vec(), rows, notes: Vec::new() }
    }

    fn markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        let mut text = format!("## {}\n\n", self.title);
        text += &line(&mut self.head.iter().copied());
        text += &line(&mut self.head.iter().map(|_| "---"));
        for row in &self.rows {
            text += &line(&mut row.iter().map(String::as_str));
        }
        for note in &self.notes {
            text = text + "\n" + note + "\n";
        }
        text
    }
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(&self.head);
        for row in &self.rows {
            table.add_row(row);
        }
        write!(f, "{}\n{table}", self.title)?;
        self.notes.iter().try_for_each(|note| write!(f, "\n{note}"))
    }
}

fn judged_seconds(value: Duration, bar: Duration) -> String {
    let verdict = if value <= bar { "met" } else { "missed" };
    format!("{:.1} (≤ {}: {verdict})", value.as_secs_f64(), bar.as_secs())
}

fn judged(value: f64, bar: f64) -> String {
    format!("≤ {bar}: {}", if value <= bar { "met" } else { "missed" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_a_table_in_markdown_and_in_a_terminal() {
        let mut section = Section::new("rates", &["", "events/s"], vec![vec!["RAW-H".to_owned(), "100".to_owned()]]);
        section.notes.push("void".to_owned());
        assert_eq!(section.markdown(), "## rates\n\n|  | events/s |\n| --- | --- |\n| RAW-H | 100 |\n\nvoid\n");
        assert!(section.to_string().starts_with("rates\n") && section.to_string().contains("RAW-H"));
    }
}
