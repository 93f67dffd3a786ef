//! W9: events over HTTP, one and twenty a request, on 64 connections; beside HYPER, a server that only reads them and answers.
//!
//! Closed loop. Every event that was acknowledged is looked for in `wp1.identity` before there is a figure.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use waypost_bench::calls::{Call, message_id};
use waypost_codec::frame::Record;
use waypost_runtime::{host::SystemClock, ports::Clock as _};
use waypost_types::Role;

use crate::{
    generator::fingerprint_of,
    load::{self, Load, Window},
    meter::cpu_seconds,
    oracle::read,
    pipeline::Pipeline,
    raw::differ,
    say,
    settings::Settings,
};

/// Different requests; their events' message ids are new each time.
const CALLS: usize = 256;

/// One server under load.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// Events a second.
    pub(crate) rate: f64,
    /// Microseconds of CPU an event: of the server, of the broker, and of the load.
    pub(crate) server: f64,
    pub(crate) broker: f64,
    pub(crate) load: f64,
    /// Microseconds from a request to its answer.
    pub(crate) histogram: Histogram<u64>,
}

/// One number of events a request.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) batch: usize,
    pub(crate) connections: usize,
    /// HYPER before and after.
    pub(crate) first: Served,
    pub(crate) second: Served,
    pub(crate) waypost: Served,
    /// Events that were acknowledged, each found once.
    pub(crate) acknowledged: usize,
}

/// What had been used at a border of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    server: f64,
    broker: f64,
    load: f64,
}

// === impl Door ===

impl Door {
    /// The mean of both.
    pub(crate) fn hyper(&self) -> f64 {
        f64::midpoint(self.first.rate, self.second.rate)
    }

    /// Whether the two differ by more than they may.
    pub(crate) fn is_void(&self) -> bool {
        differ(self.first.rate, self.second.rate)
    }
}

pub(crate) fn run(pipeline: &mut Pipeline, settings: &Settings) -> anyhow::Result<Vec<Door>> {
    let key = pipeline.write_key(&settings.source)?;
    let door: SocketAddr = pipeline.start_door(&key)?;
    let waypost = pipeline.pid(Role::Ingest)?;
    let mut hyper = Command::new(&settings.hyper)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} is not built: run make bench", settings.hyper.display()))?;
    let measured = measure(pipeline, settings, &key, (door, waypost), &mut hyper);
    drop(hyper.kill());
    drop(hyper.wait());
    let (doors, acknowledged) = measured?;
    pipeline.stop()?;
    say("http: looking for every acknowledged event");
    judge(pipeline, acknowledged)?;
    Ok(doors)
}

/// Numbers of acknowledged events, from the first to before the last.
type Acknowledged = Vec<(u64, u64)>;

fn measure(
    pipeline: &mut Pipeline,
    settings: &Settings,
    key: &str,
    waypost: (SocketAddr, u32),
    hyper: &mut std::process::Child,
) -> anyhow::Result<(Vec<Door>, Acknowledged)> {
    let mut address = String::new();
    BufReader::new(hyper.stdout.take().context("its output")?).read_line(&mut address)?;
    let hyper = (address.trim().parse().context("HYPER says where it listens")?, hyper.id());
    let (mut doors, mut all, mut connections) = (Vec::new(), Acknowledged::new(), 1);
    for batch in &settings.http_batches {
        let mut calls = Vec::new();
        for _ in 0..CALLS {
            let records: Vec<Record> = (0..*batch).map(|_| pipeline.traffic.next(SystemClock.now())).collect();
            calls.push(Call::new(&waypost.0.to_string(), key, &records)?);
        }
        let mut serve = |name: &str, (address, pid): (SocketAddr, u32)| -> anyhow::Result<(Served, Load)> {
            let (served, load) = one(pipeline, settings, (address, pid), &calls, connections, *batch)?;
            connections += settings.http_connections as u64;
            say(&format!(
                "http, {batch} a request, {name}: {:.0} events/s, server {:.2} µs, load {:.2} µs an event",
                served.rate, served.server, served.load
            ));
            Ok((served, load))
        };
        let (first, _) = serve("HYPER first", hyper)?;
        let (waypost, load) = serve("Waypost", waypost)?;
        let (second, _) = serve("HYPER second", hyper)?;
        let acknowledged = usize::try_from(load.acknowledged.iter().map(|(first, end)| end - first).sum::<u64>())?;
        all.extend(load.acknowledged);
        doors.push(Door { batch: *batch, connections: settings.http_connections, first, second, waypost, acknowledged });
    }
    Ok((doors, all))
}

fn one(
    pipeline: &Pipeline,
    settings: &Settings,
    (address, pid): (SocketAddr, u32),
    calls: &[Call],
    first: u64,
    batch: usize,
) -> anyhow::Result<(Served, Load)> {
    let broker = pipeline.servers.broker_pid;
    let mut marks = Vec::new();
    let window = Window { run_in: Duration::from_secs(settings.run_in.min(2)), length: Duration::from_secs(settings.http_seconds) };
    let load = load::run(address, settings.http_connections, calls, window, first, || {
        marks.push(Mark { server: cpu_seconds(pid), broker: cpu_seconds(broker), load: cpu_seconds(std::process::id()) });
    })?;
    let [from, to] = marks.as_slice() else { anyhow::bail!("a window has two borders") };
    ensure!(load.requests > 0, "no request was answered within {} s", settings.http_seconds);
    let events = load.requests as f64 * batch as f64;
    let each = |from: f64, to: f64| (to - from) * 1e6 / events;
    let served = Served {
        rate: events / load.seconds,
        server: each(from.server, to.server),
        broker: each(from.broker, to.broker),
        load: each(from.load, to.load),
        histogram: load.histogram.clone(),
    };
    Ok((served, load))
}

/// Every acknowledged event lies in the first inbox, once.
fn judge(pipeline: &Pipeline, acknowledged: Acknowledged) -> anyhow::Result<()> {
    let numbers = acknowledged.into_iter().flat_map(|(first, end)| first..end);
    let mut wanted: Vec<u64> = numbers.map(|number| fingerprint_of(&message_id(number))).collect();
    wanted.sort_unstable();
    let stored = read(pipeline, Role::Identity)?.sorted_ids();
    let missing = wanted.iter().filter(|id| stored.binary_search(id).is_err()).count();
    let doubled = stored.windows(2).filter(|pair| pair[0] == pair[1] && wanted.binary_search(&pair[0]).is_ok()).count();
    ensure!(
        missing == 0 && doubled == 0,
        "of {} acknowledged events {missing} are missing and {doubled} are there twice, so there are no figures",
        wanted.len()
    );
    say(&format!("http: each of {} acknowledged events is there once", wanted.len()));
    Ok(())
}
