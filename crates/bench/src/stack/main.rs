//! `make bench`: what one event costs on a real Kafka and a real Redis, beside what a chain of consumers costs that
//! decides nothing. The events are counted before a speed is printed; a run that lost or doubled one has none.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints figures, and how far it has come")]
#![expect(clippy::disallowed_methods, reason = "wall time is what is measured")]
#![expect(clippy::cast_precision_loss, reason = "figures are ratios of counts far below 2^52")]

mod backlog;
mod cart1;
mod door;
mod generator;
mod kill;
mod known;
mod latency;
mod load;
mod machine;
mod meter;
mod oracle;
mod pipeline;
mod raw;
mod red_b;
mod report;
mod sampler;
mod sends;
mod servers;
mod settings;
mod steady;
mod store_log;
mod system_calls;
mod tail;
mod timers;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::{
    machine::Machine,
    pipeline::Pipeline,
    report::Report,
    servers::Servers,
    settings::{Settings, Workload},
};

fn main() -> ExitCode {
    match run(&Settings::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> anyhow::Result<()> {
    settings.check()?;
    let servers = Servers::find(settings)?;
    let mut report = Report { machine: Machine::look(&servers, settings)?, ..Report::default() };
    let measured = settings.partitions.iter().try_for_each(|partitions| measure(settings, &servers, *partitions, &mut report));
    // also what was measured before something went wrong
    report.print();
    if let Some(file) = &settings.json {
        std::fs::write(file, report.json(settings).to_string()).with_context(|| format!("--json {}", file.display()))?;
    }
    if let Some(folder) = &settings.report {
        report.write(settings, folder).with_context(|| format!("--report {}", folder.display()))?;
        say(&format!("the report is {}", folder.join("report.md").display()));
    }
    measured
}

/// Everything that was asked for with one number of partitions: RAW, Waypost, RAW.
fn measure(settings: &Settings, servers: &Servers, partitions: u32, report: &mut Report) -> anyhow::Result<()> {
    say(&format!("{partitions} partitions"));
    let mut raw = if settings.no_raw { None } else { Some(raw::Bench::new(settings, servers, partitions)?) };
    let first = raw.as_mut().map(raw::Bench::first).transpose()?;
    let (mut rate, mut fast) = (settings.rate, None);
    let mut pipeline = None;
    for workload in &settings.workload {
        match workload {
            Workload::Backlog => {
                // what follows goes on with its people
                drop(pipeline.take());
                let run = backlog::run(pipeline.insert(Pipeline::new(settings, servers, partitions)?), settings)?;
                rate = rate.or(Some(run.rate));
                fast = Some(run.rate);
                report.runs.push(run);
            }
            Workload::Steady => {
                let mut open = pipeline.take().map_or_else(|| Pipeline::new(settings, servers, partitions), Ok)?;
                let (run, steps) = steady::run(&mut open, settings, rate)?;
                pipeline = Some(open);
                report.steps.extend(steps);
                rate = settings.rate.or_else(|| run.as_ref().map(|run| run.rate)).or(rate);
                report.runs.extend(run);
            }
            Workload::Latency => {
                let rate = rate.context("--workload latency needs --rate N, or another workload before it that finds the rate")?;
                let mut open = pipeline.take().map_or_else(|| Pipeline::new(settings, servers, partitions), Ok)?;
                report.latencies.extend(latency::run(&mut open, settings, rate)?);
                pipeline = Some(open);
            }
            Workload::HotKey => {
                let rate = rate.context("--workload hot-key needs --rate N, or another workload before it that finds the rate")?;
                let mut open = pipeline.take().map_or_else(|| Pipeline::new(settings, servers, partitions), Ok)?;
                report.hot.extend(latency::hot_key(&mut open, settings, rate)?);
                pipeline = Some(open);
            }
            Workload::Timers | Workload::Burst => {
                let rate =
                    rate.context("--workload timers and burst need --rate N, or another workload before them that finds the rate")?;
                // its people are strangers to the others, and so is its journey
                drop(pipeline.take());
                let mut own = Pipeline::with_timers(settings, servers, partitions)?;
                if *workload == Workload::Timers {
                    report.timers.push(timers::run(&mut own, settings, rate)?);
                } else {
                    report.bursts.push(timers::burst(&mut own, settings, rate)?);
                }
            }
            Workload::Kill => {
                let rate = rate.context("--workload kill needs --rate N, or another workload before it that finds the rate")?;
                let mut open = pipeline.take().map_or_else(|| Pipeline::new(settings, servers, partitions), Ok)?;
                report.kills.extend(kill::run(&mut open, settings, rate)?);
                pipeline = Some(open);
            }
            Workload::RedB => {
                drop(pipeline.take());
                report.red_b.extend(red_b::run(settings, servers, partitions)?);
            }
            Workload::Cart1 => {
                // an installation of its own each time, of which nothing is left
                drop(pipeline.take());
                report.cart1.push(cart1::run(settings, servers, partitions)?);
            }
            Workload::Http => {
                // its people are strangers to the others
                drop(pipeline.take());
                report.doors.extend(door::run(&mut Pipeline::new(settings, servers, partitions)?, settings)?);
            }
        }
    }
    drop(pipeline);
    if let (Some(mut raw), Some(first)) = (raw, first) {
        report.baselines.push(raw.second(first, fast)?);
    }
    Ok(())
}

/// A line of progress.
fn say(text: &str) {
    eprintln!("bench: {text}");
}
