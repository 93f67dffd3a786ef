//! One world, from its first instant to the verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    oracle,
    scenario::{Part, Scenario},
    story::{Story, Tally},
    switches::Switches,
    world::World,
};

/// What became of a world.
#[derive(Clone, Debug)]
pub struct Report {
    /// What happened.
    pub story: Story,
    /// What was counted.
    pub tally: Tally,
    /// What could be left out of it.
    pub parts: Vec<Part>,
    /// What is wrong, if anything is.
    pub wrong: Option<String>,
}

/// Plays and judges a world; its milestones are kept if it is to be `told`.
pub fn run(scenario: &Scenario, switches: Switches, told: bool) -> Report {
    let mut world = World::new(scenario, switches, told);
    // A panic in a machine is a finding like any other; the world is not used again.
    let played = catch_unwind(AssertUnwindSafe(|| world.play().and_then(|()| verdict(&mut world))));
    let wrong = played.unwrap_or_else(|panic| Err(format!("panic: {}", said(&*panic)))).err();
    let parts = world.parts();
    Report { story: std::mem::take(&mut world.story), tally: std::mem::take(&mut world.tally), parts, wrong }
}

/// Where something was lost, it was noticed, or it has done no harm.
fn verdict(world: &mut World) -> Result<(), String> {
    if world.noticed.is_some() {
        world.tally.halts += 1;
        return Ok(());
    }
    let Some((fault, partition)) = world.damage else { return oracle::judge(world) };
    oracle::judge(world).map_err(|wrong| format!("unnoticed {} of {partition}: {wrong}", fault.name()))
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without words").to_owned()
}
