//! Who has been there before: they come in while all roles run, and all that they bring is folded and committed before anything is
//! measured. The oracle counts their events with all others; speeds do not.

use anyhow::ensure;

use crate::{
    backlog::settle,
    generator::{Appender, prefill},
    pipeline::Pipeline,
    say,
    settings::Settings,
};

/// Starts the roles, and lets those who are known come in where they have not.
pub(crate) fn start(pipeline: &mut Pipeline, settings: &Settings) -> anyhow::Result<()> {
    pipeline.start()?;
    settle(pipeline, "the roles to take their partitions")?;
    let mut population = pipeline.traffic.population(settings.known());
    let people = population.left();
    if pipeline.is_populated || people == 0 {
        return Ok(());
    }
    ensure!(pipeline.servers.has_room(people as f64)?, "the disk has no room for {people} people; --known or --size may be smaller");
    say(&format!("{people} people who have been there before come in"));
    let mut into = Appender::new(&pipeline.servers.kafka, &format!("{}wp1.identity", pipeline.prefix), 20)?;
    prefill(|now| population.next(now), pipeline.layout, &mut pipeline.offered, (people, settings.frame), &mut into)?;
    settle(pipeline, "them to be folded and committed")?;
    pipeline.is_populated = true;
    Ok(())
}
