//! `waypost bench`: what an installation does with its own journeys, measured by made-up people who are erased afterwards.
//!
//! Events go to `wp1.identity` by the door that ingest uses, not over HTTP: whoever may run `waypost init` here needs no write key for
//! it, the people are the same after a crash, and the figures are the pipeline's alone. HTTP is measured by any HTTP client.
//!
//! Nothing is sent to anybody: these people have one random user id each and no address, consent or trait, so every send of
//! every journey stops at the gates (`CONSENT_MISSING`, `ADDRESS_MISSING`), before a sender hears of it.

mod answers;
mod clean;
mod events;
mod lag;
mod plan;
mod report;
mod site;
mod tails;
mod traffic;

use std::{fs::File, io::Write as _, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use waypost_runtime::host::OsEntropy;
use waypost_types::ProfileId;

use self::{
    lag::{Lag, places},
    plan::{Plan, Run},
    report::Report,
    site::Site,
    tails::{Heard, Tails},
    traffic::{Sent, Traffic, joined},
};
use super::block_on;
use crate::{
    cli::{self, BenchCommand},
    config::Config,
    screen,
};

/// As often as everybody's lag is looked at, and something is said.
const LOOK: Duration = Duration::from_millis(250);
const SAY: Duration = Duration::from_secs(5);
/// So much lag is none.
const CALM: Duration = Duration::from_secs(1);
/// So long it is calm before what has come is all there is, where something is missing; where nothing is, sooner.
const SILENCE: Duration = Duration::from_secs(10);
const COMPLETE: Duration = Duration::from_secs(2);
/// How long it may take to catch up.
const CATCH_UP: Duration = Duration::from_mins(5);
/// Behind a failed append, until nothing of it is still on its way.
const UNDER_WAY: Duration = Duration::from_secs(5);
/// Visitors think for a fraction of a second: so many of them for each event a second.
const VISITORS: u64 = 4;

/// `waypost bench`.
pub(crate) fn bench(config: &Config, args: &cli::Bench) -> anyhow::Result<ExitCode> {
    block_on(async {
        match &args.what {
            Some(BenchCommand::Clean { run, who }) => {
                let (site, run): (Site, Run) = (Site::open(config).await?, run.parse()?);
                site.is_served().await?;
                let marks = cleaned(&site, &run, &cli::who(who.as_deref()), &mut signals()?, 0).await?;
                screen(&left(marks.len()), false);
                Ok(ExitCode::SUCCESS)
            }
            None => measure(config, args).await,
        }
    })
}

async fn measure(config: &Config, args: &cli::Bench) -> anyhow::Result<ExitCode> {
    let plan = plan(args)?;
    let site = Site::open(config).await?;
    let workspace = site.workspace(&args.workspace)?;
    let people = plan.people();
    ensure!(
        args.yes,
        "this would send {} events of about {people} made-up people through workspace `{}` at {} a second, beside whoever else is there, \
         and erase them afterwards; their decisions stay in the public topics: say --yes",
        plan.events,
        args.workspace,
        args.rate
    );
    site.is_served().await?;
    // before anything is sent: whoever asked for a file wants to know now
    let mut json = args.json.as_deref().map(create).transpose()?;
    let run = Run::draw(&mut OsEntropy, workspace.id, people);
    let by = cli::who(args.who.as_deref());
    let mut stop = signals()?;
    screen(&format!("run {run}: if this process is killed, `waypost bench clean --run {run}` erases its people"), true);
    let measured = figures(&site, args, plan, &run, &stop).await;
    if measured.is_err() {
        tokio::time::sleep(UNDER_WAY).await;
    }
    let before = *stop.borrow();
    let marks = cleaned(&site, &run, &by, &mut stop, before).await;
    let report = match measured {
        Ok(report) => report,
        Err(error) => {
            let marks = marks.with_context(|| format!("behind another failure ({error:#})"))?;
            screen(&left(marks.len()), true);
            return Err(error);
        }
    };
    screen(&report.text(), false);
    if let Some((file, path)) = &mut json {
        let text = serde_json::to_string_pretty(&report.json(marks.as_deref().ok()))?;
        writeln!(file, "{text}").with_context(|| format!("writing {}", path.display()))?;
    }
    let faults = report.faults();
    for fault in &faults {
        screen(&format!("wrong: {fault}"), true);
    }
    screen(&left(marks?.len()), false);
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the flags ask for.
fn plan(args: &cli::Bench) -> anyhow::Result<Plan> {
    let events = u64::from(args.rate) * u64::from(args.seconds);
    let at_a_time = args.people.unwrap_or_else(|| u64::from(args.rate) / VISITORS).clamp(1, events);
    let plan = Plan { events, at_a_time };
    let people = events / plan::VISIT + at_a_time;
    let most = plan::PEOPLE_MAX;
    ensure!(people <= most, "that would be about {people} people, and {most} is the limit: a lower --rate, --seconds or --people");
    Ok(plan)
}

/// Sends, looks and listens until everything has come.
async fn figures(site: &Site, args: &cli::Bench, plan: Plan, run: &Run, stop: &watch::Receiver<u32>) -> anyhow::Result<Report> {
    let before = site.in_force()?.number;
    let journeys =
        site.workspace(&args.workspace)?.journeys.values().filter_map(|versions| versions.entered()).map(|j| j.name.clone()).collect();
    let heard = Heard::default();
    let mut listening = Listening {
        site,
        tails: Tails::follow(&site.log, &site.prefix, &heard).await?,
        heard,
        lag: Lag::default(),
        said: Instant::now(),
        begin: Instant::now() + Duration::from_millis(200),
    };
    let traffic = Traffic {
        run: run.clone(),
        plan,
        rate: args.rate,
        key: site.record.hash_key(),
        door: site.door.clone(),
        heard: listening.heard.clone(),
    };
    let sent = listening.while_sent(traffic, stop.clone()).await?;
    let lags = listening.lag.roles.clone();
    let interrupted = *stop.borrow() > 0;
    let caught_up = if interrupted { None } else { listening.until_calm(stop).await? };
    let answers = std::mem::take(&mut *listening.heard.lock());
    let after = site.in_force()?.number;
    Ok(Report {
        run: run.to_string(),
        workspace: args.workspace.clone(),
        definitions: (before, after),
        journeys,
        rate: args.rate,
        sent,
        lags,
        caught_up,
        answers,
        interrupted: interrupted || *stop.borrow() > 0,
    })
}

/// Whoever looks and listens meanwhile.
struct Listening<'a> {
    site: &'a Site,
    tails: Tails,
    heard: Heard,
    lag: Lag,
    said: Instant,
    begin: Instant,
}

// === impl Listening ===

impl Listening<'_> {
    async fn while_sent(&mut self, traffic: Traffic, stop: watch::Receiver<u32>) -> anyhow::Result<Sent> {
        // a set, so that a failure here ends the traffic too
        let mut playing = JoinSet::new();
        playing.spawn(traffic.play(self.begin, stop));
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(ended) = playing.join_next() => {
                    let sent = joined(ended)?;
                    self.look().await?;
                    return Ok(sent);
                }
                _ = looks.tick() => self.look().await?,
            }
        }
    }

    /// Waits until nothing waits and everything has come, or for long enough; how long it was until nothing waited.
    async fn until_calm(&mut self, stop: &watch::Receiver<u32>) -> anyhow::Result<Option<Duration>> {
        let ended = Instant::now();
        let mut calm: Option<Instant> = None;
        while *stop.borrow() == 0 && (calm.is_some() || ended.elapsed() < CATCH_UP) {
            tokio::time::sleep(LOOK).await;
            self.look().await?;
            calm = if self.lag.worst() < CALM { calm.or_else(|| Some(Instant::now())) } else { None };
            let is_complete = {
                let heard = self.heard.lock();
                heard.lost() == 0 && !heard.answers().is_empty()
            };
            if calm.is_some_and(|since| since.elapsed() > if is_complete { COMPLETE } else { SILENCE }) {
                break;
            }
        }
        Ok(calm.map(|since| since.duration_since(ended)))
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        self.tails.trouble()?;
        let places = places(&self.site.log, &self.site.directory, &self.site.prefix, self.site.record.partitions).await?;
        let now = Instant::now();
        self.lag.look(now, &places);
        if now.duration_since(self.said) >= SAY {
            self.said = now;
            let (decisions, lost) = {
                let heard = self.heard.lock();
                (heard.decisions, heard.lost())
            };
            let (at, lag) = (now.saturating_duration_since(self.begin).as_secs(), self.lag.worst().as_secs_f64());
            screen(&format!("{at} s: lag {lag:.1} s, {decisions} decisions, {lost} to come"), true);
        }
        Ok(())
    }
}

/// Erases everybody of a run; gives up at the next signal beyond those of before.
async fn cleaned(site: &Site, run: &Run, by: &str, stop: &mut watch::Receiver<u32>, before: u32) -> anyhow::Result<Vec<ProfileId>> {
    screen("erasing its people", true);
    let again = || format!("people of run {run} may still be there; `waypost bench clean --run {run}` erases them");
    tokio::select! {
        erased = clean::erase(site, run, by) => erased.with_context(again),
        _ = stop.wait_for(|signals| *signals > before) => bail!("interrupted: {}", again()),
    }
}

/// What there still is.
fn left(marks: usize) -> String {
    if marks == 0 {
        return "nobody of it is here, and nothing is known of anybody who was".to_owned();
    }
    format!(
        "all of its people are erased: {marks} marks of erased profiles are left of them, and what they did, in inboxes and backups until \
         their retention has passed and in the public topics (with the run in the keys of carts)"
    )
}

/// Counts SIGINT and SIGTERM.
fn signals() -> anyhow::Result<watch::Receiver<u32>> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let (count, counted) = watch::channel(0);
    drop(tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = terminate.recv() => {}
                Some(()) = interrupt.recv() => {}
                else => return,
            }
            count.send_modify(|n| *n += 1);
        }
    }));
    Ok(counted)
}

fn create(path: &Path) -> anyhow::Result<(File, &Path)> {
    Ok((File::create(path).with_context(|| format!("--json {}", path.display()))?, path))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(arguments: &[&str]) -> cli::Bench {
        let Command::Bench(args) = Cli::try_parse_from([&["waypost", "bench"], arguments].concat()).unwrap().command else {
            panic!("{arguments:?} is another command")
        };
        args
    }

    #[test]
    fn flags_make_a_plan() {
        assert_eq!(plan(&asked(&[])).unwrap(), Plan { events: 6_000, at_a_time: 25 });
        assert_eq!(plan(&asked(&["--rate", "1", "--seconds", "3"])).unwrap(), Plan { events: 3, at_a_time: 1 });
        assert_eq!(plan(&asked(&["--rate", "10", "--people", "700"])).unwrap(), Plan { events: 600, at_a_time: 600 });
        let refused = plan(&asked(&["--rate", "100000", "--seconds", "3600"])).unwrap_err().to_string();
        assert!(refused.contains("is the limit"), "{refused}");
    }

    #[test]
    fn a_run_is_cleaned_by_its_name_alone() {
        assert!(matches!(asked(&["clean", "--run", "x-1-2"]).what, Some(BenchCommand::Clean { run, .. }) if run == "x-1-2"));
        assert!(Cli::try_parse_from(["waypost", "bench", "--rate", "0"]).is_err());
        assert!(Cli::try_parse_from(["waypost", "bench", "--rate", "5", "clean", "--run", "x"]).is_err());
    }
}
