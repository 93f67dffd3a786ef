//! W7: one of two processes of a role is killed under load; how long nobody commits for its partitions.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{anyhow, ensure};
use waypost_runtime::{
    host::SystemClock,
    ports::{Clock as _, Offset},
    progress::Owner,
};
use waypost_types::{PartitionId, Role};

use crate::{
    backlog::settle,
    generator::{Appender, build, play},
    known,
    oracle::judge,
    pipeline::{Pipeline, STAGES},
    say,
    settings::Settings,
    steady::{LAG_MAX, Lag},
};

/// Of the highest rate.
const SHARE: f64 = 0.5;
/// Traffic behind the kill: the group needs ten seconds to notice it.
const BEHIND: Duration = Duration::from_secs(30);
/// Whoever has not committed by then will not.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often it is looked who has committed what; roles tell every tenth of a second.
const EVERY: Duration = Duration::from_millis(25);
/// How often lag is looked at, which asks the broker.
const LAG_EVERY: Duration = Duration::from_millis(250);

/// What became of one kill.
#[derive(Clone, Debug)]
pub(crate) struct Kill {
    pub(crate) partitions: u32,
    pub(crate) role: Role,
    pub(crate) rate: f64,
    /// From the kill to the first new commit of each partition by somebody else, sorted.
    pub(crate) commits: Vec<Duration>,
    /// From the kill until no inbox was behind any more, if that was seen.
    pub(crate) caught_up: Option<Duration>,
}

/// The partitions of a process that is no more.
struct Orphans {
    /// Its address.
    dead: String,
    at: Instant,
    /// With the offset as of which the next owner began, once it has said so.
    waiting: BTreeMap<PartitionId, Option<Offset>>,
    commits: Vec<Duration>,
}

pub(crate) fn run(pipeline: &mut Pipeline, settings: &Settings, rate: f64) -> anyhow::Result<Vec<Kill>> {
    let mut all = Vec::new();
    for role in STAGES {
        known::start(pipeline, settings)?;
        let victim = pipeline.start_second(role)?;
        let kill = one(pipeline, settings, (role, &victim), rate * SHARE)?;
        settle(pipeline, "everything to be folded")?;
        pipeline.stop()?;
        let last = kill.commits.last().copied().unwrap_or_default();
        say(&format!(
            "kill of {role}: the last of {} partitions was committed elsewhere after {:.1} s",
            kill.commits.len(),
            last.as_secs_f64()
        ));
        all.push(kill);
    }
    say("kill: counting events at every stage");
    let (verdict, _) = judge(pipeline)?;
    verdict.check()?;
    say(&format!("kill: {verdict}"));
    Ok(all)
}

fn one(pipeline: &mut Pipeline, settings: &Settings, (role, victim): (Role, &str), rate: f64) -> anyhow::Result<Kill> {
    let run_in = Duration::from_secs(settings.run_in);
    let tick = Duration::from_millis(settings.tick_ms);
    let ticks = build(&mut pipeline.traffic, pipeline.layout, &mut pipeline.offered, (rate, run_in + BEHIND, tick), |_, _| Vec::new())?;
    let mut into = Appender::new(&pipeline.servers.kafka, &format!("{}wp1.identity", pipeline.prefix), 0)?;
    let begin = Instant::now() + Duration::from_millis(200);
    let (mut orphans, mut lag, mut looked, mut behind) = (None::<Orphans>, Lag::default(), begin, None);
    std::thread::scope(|scope| {
        let playing = scope.spawn(move || play(&ticks, begin, &mut into));
        loop {
            std::thread::sleep(EVERY);
            pipeline.check_alive()?;
            let now = Instant::now();
            if orphans.is_none() && now >= begin + run_in {
                let waiting: BTreeMap<_, _> = pipeline.owned_by(victim).into_iter().map(|partition| (partition, None)).collect();
                ensure!(!waiting.is_empty(), "the second process of {role} has no partitions");
                pipeline.kill_last()?;
                orphans = Some(Orphans { dead: victim.to_owned(), at: Instant::now(), waiting, commits: Vec::new() });
            }
            if let Some(orphans) = &mut orphans {
                orphans.look(Instant::now(), pipeline.directory.owners(SystemClock.now()));
            }
            if now >= looked + LAG_EVERY {
                looked = now;
                if lag.look(now, &pipeline.places()?) > LAG_MAX {
                    behind = Some(now);
                }
            }
            match &orphans {
                Some(orphans) if playing.is_finished() && orphans.waiting.is_empty() => break,
                Some(orphans) => ensure!(
                    orphans.at.elapsed() < PATIENCE,
                    "{} partitions of {role} were not committed again within {} s",
                    orphans.waiting.len(),
                    PATIENCE.as_secs()
                ),
                None => {}
            }
        }
        playing.join().map_err(|_| anyhow!("the generator ended early"))??;
        anyhow::Ok(())
    })?;
    let Orphans { at, mut commits, .. } = orphans.ok_or_else(|| anyhow!("nobody was killed"))?;
    commits.sort_unstable();
    // the last look that found somebody behind, unless that was the last look of all
    let caught_up = behind.map_or(Some(Duration::ZERO), |last| (last < looked).then(|| (last + LAG_EVERY).saturating_duration_since(at)));
    Ok(Kill { partitions: pipeline.layout.partitions, role, rate, commits, caught_up })
}

// === impl Orphans ===

impl Orphans {
    /// Takes note of whose partitions have been committed by somebody else, beyond where he began.
    fn look(&mut self, now: Instant, owners: Vec<Owner>) {
        for owner in owners.into_iter().filter(|owner| owner.address != self.dead) {
            let Some(began) = self.waiting.get_mut(&owner.progress.partition) else { continue };
            let off = owner.progress.off;
            if off > *began.get_or_insert(off) {
                self.waiting.remove(&owner.progress.partition);
                self.commits.push(now.saturating_duration_since(self.at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use waypost_runtime::machine::Progress;
    use waypost_types::Timestamp;

    use super::*;

    #[test]
    fn a_commit_counts_where_somebody_else_has_gone_on() {
        let partition = PartitionId { role: Role::Segmenter, index: 3 };
        let at = Instant::now();
        let mut orphans = Orphans { dead: "a".to_owned(), at, waiting: BTreeMap::from([(partition, None)]), commits: Vec::new() };
        let mut look = |s: u64, address: &str, off| {
            let progress = Progress {
                partition,
                through: Timestamp::ZERO,
                off,
                next: off,
                eng: 1,
                defv: String::new(),
                leading: true,
                halted: None,
                diverged: Vec::new(),
                gap: None,
            };
            orphans.look(at + Duration::from_secs(s), vec![Owner { address: address.to_owned(), progress, heard: Timestamp::ZERO }]);
            orphans.commits.len()
        };
        // its own last words; where the other begins; the other's first commit
        assert_eq!([look(1, "a", 9), look(2, "b", 10), look(3, "b", 10), look(4, "b", 11)], [0, 0, 0, 1]);
        assert_eq!(orphans.commits, [Duration::from_secs(4)]);
    }
}
