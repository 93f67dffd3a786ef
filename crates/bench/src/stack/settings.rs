//! The command line.

use std::path::PathBuf;

use anyhow::ensure;
use clap::{ArgAction, Parser, ValueEnum};
use waypost_bench::traffic::Size;

use crate::{cart1, red_b, timers};

/// Measures Waypost on a real Kafka and a real Redis. `make bench` builds everything and starts them.
///
/// Every throughput run ends with a count of its events at every stage; one that lost or doubled an event fails without a
/// speed. One machine, one broker, replication 1: ratios inside a run are to be trusted, wall rates are not.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench", max_term_width = 120, args_override_self = true)]
pub(crate) struct Settings {
    /// What to measure, in this order
    #[arg(long, value_enum, value_delimiter = ',', num_args = 1, action = ArgAction::Set, default_value = "backlog,steady,latency")]
    pub(crate) workload: Vec<Workload>,
    /// Partitions of each inbox; several to sweep
    #[arg(long, value_delimiter = ',', num_args = 1, action = ArgAction::Set, default_value = "8")]
    pub(crate) partitions: Vec<u32>,
    /// Events of the backlog
    #[arg(long, default_value_t = 1_500_000)]
    pub(crate) events: usize,
    /// Events of each repetition of the baseline
    #[arg(long, default_value_t = 500_000)]
    pub(crate) raw_events: usize,
    /// How many people the shop has
    #[arg(long, value_enum, default_value_t = Shop::S)]
    pub(crate) size: Shop,
    /// So many of them, the most frequent, have been there before: they come in, uncounted, before anything is measured; all unless
    /// given, 0 for an empty installation
    #[arg(long)]
    pub(crate) known: Option<u64>,
    /// Of the traffic
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// Events a frame of the backlog
    #[arg(long, default_value_t = 200)]
    pub(crate) frame: usize,
    /// Milliseconds whose events go out together in open-loop traffic
    #[arg(long, default_value_t = 5)]
    pub(crate) tick_ms: u64,
    /// Seconds for which a rate has to be held
    #[arg(long, default_value_t = 20)]
    pub(crate) window: u64,
    /// Seconds before that
    #[arg(long, default_value_t = 5)]
    pub(crate) run_in: u64,
    /// Steps of the search for the highest rate
    #[arg(long, default_value_t = 5)]
    pub(crate) steps: usize,
    /// Events a second from which the search starts, and of which latency takes its shares; without it, what was found before
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Percent of the rate at which latency is measured
    #[arg(long, value_delimiter = ',', num_args = 1, action = ArgAction::Set, default_value = "20,50,80")]
    pub(crate) shares: Vec<u32>,
    /// Orders a second whose latency is measured
    #[arg(long, default_value_t = 100)]
    pub(crate) probes: u64,
    /// Leave out the baselines
    #[arg(long)]
    pub(crate) no_raw: bool,
    /// Percent of all events that one bot makes, in the hot-key workload
    #[arg(long, value_delimiter = ',', num_args = 1, action = ArgAction::Set, default_value = "2,5,10")]
    pub(crate) bots: Vec<u32>,
    /// Timers that become due a second, for --window seconds
    #[arg(long, default_value_t = 10_000)]
    pub(crate) timers_rate: u64,
    /// Timers that become due at one instant, --window seconds behind the run-in and before the end of the traffic
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) burst: usize,
    /// People of these two a second who come in beforehand, by which the first due instant is reckoned; without it a fifth of the rate
    #[arg(long)]
    pub(crate) load_rate: Option<f64>,
    /// Definitions of the journey whose timers these are, applied beside --journeys
    #[arg(long, default_value = "crates/bench/journeys")]
    pub(crate) timer_journeys: PathBuf,
    /// Events of each RED-B
    #[arg(long, default_value_t = 100_000)]
    pub(crate) red_events: usize,
    /// Milliseconds between two commits of a partition in RED-B; several to sweep
    #[arg(long, value_delimiter = ',', num_args = 1, action = ArgAction::Set, default_value = "100,1000")]
    pub(crate) red_intervals: Vec<u64>,
    /// Seconds of each HTTP run
    #[arg(long, default_value_t = 10)]
    pub(crate) http_seconds: u64,
    /// Connections of an HTTP run, each with one request at a time
    #[arg(long, default_value_t = 64)]
    pub(crate) http_connections: usize,
    /// Events a request of the HTTP runs
    #[arg(long, value_delimiter = ',', num_args = 1, action = ArgAction::Set, default_value = "1,20")]
    pub(crate) http_batches: Vec<usize>,
    /// The source as which events come over HTTP
    #[arg(long, default_value = "shop-backend")]
    pub(crate) source: String,
    #[command(flatten)]
    pub(crate) cart: cart1::Options,
    /// Longest time between commits of a partition in seconds, as `WAYPOST_STORE_COMMIT_INTERVAL_MAX_S`; without it the default
    #[arg(long)]
    pub(crate) commit_interval: Option<u32>,
    /// Write all figures there
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report there, `report.json` and `report.md`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) report: Option<PathBuf>,
    /// Definitions to apply and publish
    #[arg(long, default_value = "journeys")]
    pub(crate) journeys: PathBuf,
    /// Folder of the servers that were started with `STACK_DIR=FOLDER deploy/local/stack.sh up`
    #[arg(long, default_value = ".stack/bench")]
    pub(crate) stack: PathBuf,
    /// Kafka, as that said
    #[arg(long, env = "WAYPOST_KAFKA", hide_env_values = true)]
    pub(crate) kafka: String,
    /// Redis, as that said. It is emptied!
    #[arg(long, env = "WAYPOST_REDIS", hide_env_values = true)]
    pub(crate) redis: String,
    /// The binary that is measured
    #[arg(long, env = "WAYPOST_BIN", default_value = "target/release/waypost")]
    pub(crate) waypost: PathBuf,
    /// Its client
    #[arg(long, env = "WAYPOSTCTL_BIN", default_value = "target/release/waypostctl")]
    pub(crate) waypostctl: PathBuf,
    /// The HTTP server that only answers
    #[arg(long, default_value = "target/release/hyper")]
    pub(crate) hyper: PathBuf,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// W12: everything lies there, full speed
    Backlog,
    /// W1: the highest rate that is held, open loop
    Steady,
    /// W2: from an order to the end of a run, at shares of the rate
    Latency,
    /// W13: the same at half of the rate, while a bot makes 2, 5, 10 % of all events
    HotKey,
    /// W3: from due timers to their sends, at half of the rate
    Timers,
    /// W4: the same of a million timers that are due at once, and orders meanwhile
    Burst,
    /// W7: kill -9 of one of two processes of each role, at half of the rate
    Kill,
    /// RED-B: our commits alone, on the real Redis
    RedB,
    /// CART-1: one journey, beside the same as a Kafka Streams application
    #[value(name = "cart-1")]
    Cart1,
    /// W9: events over HTTP, beside a server that only answers
    Http,
}

/// How many people the shop has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shop {
    /// 100,000
    S,
    /// 1,000,000
    M,
    /// 5,000,000
    L,
}

// === impl Settings ===

impl Settings {
    /// How many people have been there before.
    pub(crate) fn known(&self) -> u64 {
        let people = self.size.size().people();
        self.known.unwrap_or(people).min(people)
    }

    /// Refuses at once what would fail after an hour.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let has = |workload| self.workload.contains(&workload);
        if has(Workload::RedB) {
            red_b::check(self)?;
        }
        ensure!(!has(Workload::Kill) || self.partitions.iter().all(|count| *count > 1), "--workload kill needs --partitions above 1");
        if has(Workload::Timers) || has(Workload::Burst) {
            timers::check(self)?;
        }
        cart1::check(self)?;
        ensure!(!has(Workload::Http) || self.hyper.exists(), "{} is not built: run make bench", self.hyper.display());
        Ok(())
    }
}

// === impl Shop ===

impl Shop {
    pub(crate) const fn size(self) -> Size {
        match self {
            Self::S => Size::S,
            Self::M => Size::M,
            Self::L => Size::L,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_option_that_comes_twice_the_later_one_counts() {
        let words =
            ["bench", "--kafka=k", "--redis=r", "--partitions=8", "--workload=backlog,red-b", "--partitions=4,16", "--workload=steady"];
        let settings = Settings::try_parse_from(words).unwrap();
        assert_eq!((settings.workload, settings.partitions), (vec![Workload::Steady], vec![4, 16]));
        assert_eq!(settings.shares, [20, 50, 80]);
    }

    #[test]
    fn commits_too_far_apart_are_refused_before_anything_runs() {
        let with = |events: &str| {
            let words = ["bench", "--kafka=k", "--redis=r", "--workload=red-b", "--red-intervals=1000", "--red-events", events];
            Settings::try_parse_from(words).unwrap().check()
        };
        assert!(with("60000").is_ok() && with("59999").is_err());
    }
}
