//! Runs that operators begin and end (docs/guide/runs.md), told from the logs.
//!
//! However often a command is asked for under one id, it comes to its person once, is behind all that came by its identifier before,
//! and is answered by one decision. What it ends sends nothing behind it, and what that had queued is taken back.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::{CancelRuns, JourneyItem, Recall, RunCommand, StartRun, run_command::What, segment_item::Body},
    kind,
    public::Decision,
};
use waypost_types::{PartitionId, Position, Role, RunId, Timestamp};

use super::{
    Partitions, Wrong,
    decided::{Decided, decided},
    folds::Ghosts,
    stops::send_of,
};
use crate::{
    naive::{Accepted, Out},
    world::World,
};

/// By which name decisions say that an operator is their cause.
const OPERATOR: &str = "operator";

/// A command as it came to a profile.
struct Came<'a> {
    at: Position,
    profile: &'a Bytes,
    record: [u8; 16],
    what: What,
}

/// What operators have done that makes a closed form unsure.
#[derive(Debug, Default)]
pub(super) struct Meddled {
    journeys: BTreeSet<String>,
    /// Runs, by journey and key, that were begun by hand.
    started: BTreeSet<(String, String)>,
}

// === impl Meddled ===

impl Meddled {
    pub(super) fn of(world: &World, folded: &Partitions) -> Result<Self, Wrong> {
        let mut meddled = Self::default();
        let Some(held) = world.held else { return Ok(meddled) };
        let journeys = crate::shop::held::JOURNEYS.into_iter();
        meddled.journeys.extend(journeys.filter(|journey| held.holds(journey)).map(str::to_owned));
        let mut of_runs: BTreeMap<String, String> = BTreeMap::new();
        for (id, meaning) in orchestrators(folded) {
            of_runs.extend(decided(*id, meaning)?.into_iter().map(|decided| (decided.row.run, decided.row.journey)));
        }
        for (_, meaning) in orchestrators(folded) {
            for what in meaning.accepted.iter().filter_map(command_of).filter_map(|command| command.what) {
                match what {
                    What::Start(StartRun { journey, key }) => drop(meddled.started.insert((journey, key))),
                    What::Cancel(CancelRuns { run, journey }) if run.is_empty() => drop(meddled.journeys.insert(journey)),
                    What::Cancel(CancelRuns { run, .. }) => meddled.journeys.extend(of_runs.get(&name(&run)).cloned()),
                }
            }
        }
        Ok(meddled)
    }

    /// Whether a run of the journey may have been held up, or ended.
    pub(super) fn with(&self, journey: &str) -> bool {
        self.journeys.contains(journey)
    }

    /// Whether this run may have begun without its event.
    pub(super) fn started(&self, journey: &str, key: &str) -> bool {
        self.started.contains(&(journey.to_owned(), key.to_owned()))
    }
}

fn orchestrators(folded: &Partitions) -> impl Iterator<Item = (&PartitionId, &crate::naive::Folded)> {
    folded.iter().filter(|(id, _)| id.role == Role::Orchestrator)
}

fn name(run: &[u8]) -> String {
    RunId::from_slice(run).map_or_else(|_| String::new(), |run| run.to_string())
}

/// The command in an item, at an orchestrator.
pub(super) fn command_of(accepted: &Accepted) -> Option<RunCommand> {
    if accepted.record.kind != kind::JOURNEY_RUN_ITEM {
        return None;
    }
    match JourneyItem::decode(accepted.record.body.clone()).ok()?.item?.body? {
        Body::Command(command) => Some(command),
        Body::Event(_) | Body::Receipt(_) | Body::Settled(_) | Body::Erase(_) => None,
    }
}

/// The run that is to begin: of which journey, under which key, and the latest moment at which it may have.
pub(super) fn start_of(accepted: &Accepted) -> Option<(StartRun, Timestamp)> {
    match command_of(accepted)?.what? {
        What::Start(start) => Some((start, accepted.appended)),
        What::Cancel(_) => None,
    }
}

/// All of it.
pub(super) fn commanded(world: &mut World, folded: &Partitions, ghosts: &Ghosts) -> Result<(), Wrong> {
    if world.held.is_none() {
        return Ok(());
    }
    let mut times: BTreeMap<[u8; 16], u64> = BTreeMap::new();
    let mut entered: BTreeSet<[u8; 16]> = BTreeSet::new();
    for (id, meaning) in orchestrators(folded) {
        let decisions = decided(*id, meaning)?;
        for accepted in meaning.accepted.iter().filter(|accepted| !accepted.aside) {
            let Some(what) = command_of(accepted).and_then(|command| command.what) else { continue };
            let came = Came { at: accepted.position, profile: &accepted.record.key, record: accepted.record.id, what };
            let count = times.entry(came.record).or_default();
            *count += 1;
            if *count > 1 {
                return Err(format!("a command comes twice: {id} at {}", came.at));
            }
            world.tally.did("commands");
            match &came.what {
                What::Start(start) => {
                    let began = is_answered(*id, &came, start, &decisions)?;
                    if began && !entered.insert(came.record) {
                        return Err(format!("a run is begun twice under one id: {id} at {}", came.at));
                    }
                    world.tally.did(if began { "runs begun" } else { "starts refused" });
                }
                What::Cancel(cancel) => {
                    let ended = are_over(folded, *id, &came, cancel, &decisions)?;
                    (0..ended).for_each(|_| world.tally.did("runs cancelled"));
                }
            }
        }
        if let Some(stray) = decisions.iter().find(|decided| decided.row.what == "ENTERED" && decided.row.cause == OPERATOR) {
            let commanded = meaning.accepted.iter().any(|a| a.position == stray.at && start_of(a).is_some());
            if !commanded {
                return Err(format!("a run is begun by hand, and nobody asked: {id} at {}", stray.at));
            }
        }
    }
    all_came(folded, ghosts, &times)
}

/// One decision answers a start: it is its own run that begins, or is refused with a reason.
fn is_answered(id: PartitionId, came: &Came<'_>, start: &StartRun, decisions: &[Decided]) -> Result<bool, Wrong> {
    let is_answer = |decided: &&Decided| {
        let row = &decided.row;
        decided.at == came.at
            && decided.profile == *came.profile
            && row.cause == OPERATOR
            && (&row.journey, &row.key) == (&start.journey, &start.key)
            && (row.what == "ENTERED" || row.what == "REFUSED" && !row.reason.is_empty())
    };
    let answers: Vec<&Decided> = decisions.iter().filter(is_answer).collect();
    match answers[..] {
        [answer] => Ok(answer.row.what == "ENTERED"),
        _ => Err(format!("a start has {} answers: {id} at {}: {} {}", answers.len(), came.at, start.journey, start.key)),
    }
}

/// The runs that a cancel names are over behind it, wherever their person goes. Returns how many it ended.
fn are_over(folded: &Partitions, id: PartitionId, came: &Came<'_>, cancel: &CancelRuns, all: &[Decided]) -> Result<u64, Wrong> {
    let wanted = name(&cancel.run);
    let is_meant = |row: &Decision| if cancel.run.is_empty() { row.journey == cancel.journey } else { row.run == wanted };
    let here = all.iter().filter(|decided| decided.profile == *came.profile && decided.at <= came.at);
    // Runs that something was decided of here, and whether they had begun here. A cancel begins none.
    let mut runs: BTreeMap<&str, bool> = BTreeMap::new();
    for Decided { row, .. } in here.clone().filter(|d| d.at < came.at && !d.row.run.is_empty() && is_meant(&d.row)) {
        *runs.entry(&row.run).or_default() |= row.what == "ENTERED";
    }
    let mut ended = 0;
    for (run, begun_here) in runs {
        let exit = here.clone().find(|decided| decided.row.what == "EXITED" && decided.row.run == run);
        match exit {
            Some(Decided { at, row, .. }) if (*at, row.reason.as_str(), row.cause.as_str()) == (came.at, "CANCELLED", OPERATOR) => {
                ended += 1;
                is_taken_back(folded, id, came, run)?;
            }
            None if begun_here => return Err(format!("a cancelled run goes on: {id} at {}: {run}", came.at)),
            // It had ended before; or it came here when it had ended elsewhere.
            Some(_) | None => {}
        }
        for (other, meaning) in orchestrators(folded) {
            for (place, _, dispatch) in meaning.put_out.values().flatten().filter_map(send_of).filter(|(.., d)| name(&d.run) == run) {
                let is_here = (*other, &dispatch.profile) == (id, came.profile);
                if is_here && place > came.at || !is_here && begun_here {
                    return Err(format!("a send behind a cancel: {other} at {place}: {} {} of {run}", dispatch.journey, dispatch.step));
                }
            }
        }
    }
    Ok(ended)
}

/// What it had sent off, and nobody had answered for, is taken back by the same record.
fn is_taken_back(folded: &Partitions, id: PartitionId, came: &Came<'_>, run: &str) -> Result<(), Wrong> {
    let Some(meaning) = folded.get(&id) else { return Ok(()) };
    let answered = |accepted: &Accepted| -> Option<Bytes> {
        if accepted.record.kind != kind::JOURNEY_ITEM || accepted.position >= came.at {
            return None;
        }
        match JourneyItem::decode(accepted.record.body.clone()).ok()?.item?.body? {
            Body::Receipt(receipt) => Some(receipt.dispatch),
            Body::Event(_) | Body::Settled(_) | Body::Erase(_) | Body::Command(_) => None,
        }
    };
    let answered: BTreeSet<Bytes> = meaning.accepted.iter().filter_map(answered).collect();
    let recalled = |out: &Out| match out {
        Out::Record(record) if record.kind == kind::RECALL && record.cause <= came.at => {
            Recall::decode(record.body.clone()).ok().map(|recall| recall.dispatch)
        }
        Out::Record(_) | Out::Public(..) | Out::Dead(..) => None,
    };
    let recalled: BTreeSet<Bytes> = meaning.put_out.values().flatten().filter_map(recalled).collect();
    let sent = meaning.put_out.values().flatten().filter_map(send_of).filter(|(place, _, d)| *place <= came.at && name(&d.run) == run);
    for (_, _, dispatch) in sent {
        if !answered.contains(&dispatch.dispatch) && !recalled.contains(&dispatch.dispatch) {
            return Err(format!(
                "what a cancelled run had queued is not taken back: {id} at {}: {} {}",
                came.at, dispatch.journey, dispatch.step
            ));
        }
    }
    Ok(())
}

/// Where nobody was forgotten, every command of an identifier that somebody had come by has come.
fn all_came(folded: &Partitions, ghosts: &Ghosts, times: &BTreeMap<[u8; 16], u64>) -> Result<(), Wrong> {
    if ghosts.erases + ghosts.expires > 0 {
        return Ok(());
    }
    for (id, meaning) in folded.iter().filter(|(id, _)| id.role == Role::Identity) {
        let mut known: BTreeSet<&Bytes> = BTreeSet::new();
        for accepted in meaning.accepted.iter().filter(|accepted| !accepted.aside) {
            match accepted.record.kind {
                kind::EVENT => drop(known.insert(&accepted.record.key)),
                kind::RUN_COMMAND if known.contains(&accepted.record.key) && !times.contains_key(&accepted.record.id) => {
                    return Err(format!("a command came in and has come to nobody: {id} at {}", accepted.position));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
