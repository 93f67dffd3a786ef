//! Journeys: who enters, who leaves, who gets a message, and why (PRODUCT §7).
//!
//! A profile's journey state is folded one record at a time, in the order of §7.5: what came with the
//! record becomes visible, then each live run, oldest first, looks at its exit rules, its goal and its
//! wait, then entries are considered by priority and name, then the sends that became ready pass the
//! gates together. Timers are folded the same way, one at a time, by due, priority and run.
//!
//! Every step of a run goes through one function, `steps::advance`, and everything that is decided goes
//! through `trail`, so that what explain shows is what happened.

mod asleep;
mod bounced;
mod commands;
mod concern;
mod entries;
mod entry;
mod exits;
mod facts;
mod feedback;
mod gates;
mod goal;
mod ids;
mod import;
mod recall;
mod receipts;
mod sends;
mod steps;
mod timers;
mod trail;
mod turn;
mod waits;

use std::sync::Arc;

use waypost_codec::{
    inbox::{self, Person},
    public::Decision,
    state::{JourneyProfile, Run},
};
use waypost_types::{Position, ProfileId, Timestamp, WorkspaceId};

use self::turn::Turn;
pub use self::{
    concern::concerns,
    feedback::CALLBACKS,
    ids::{dispatch_id, run_id, send_id},
    import::unite,
    timers::{Limit, wakeups},
};
use crate::{
    definitions::{Journey, Workspace},
    drain, person,
    version::Version,
};

/// Live runs of a profile; over it `RUN_LIMIT`. Chosen so that its state stays below 64 KiB.
pub const MAX_RUNS: usize = 32;
/// Live runs of one journey.
pub const MAX_RUNS_PER_JOURNEY: usize = 10;
/// Steps without time passing, then `LOOP_GUARD`.
pub const MAX_STEPS: u32 = 64;
/// Longest run key, bytes.
pub const MAX_KEY: usize = 128;
/// Stored live runs of a profile, bytes; with the trail, facts and send log below 64 KiB.
pub const MAX_RUN_BYTES: usize = 32_768;
/// Largest entry a run keeps, bytes.
pub const MAX_ENTRY: usize = 4_096;
/// Events kept for a merge (PROTOCOL §10.4).
pub const MAX_FACTS: usize = 64;
/// Bytes of these.
pub const MAX_FACT_BYTES: usize = 16_384;
/// Ended runs kept for re-entry rules.
pub const MAX_PAST: usize = 64;
/// Ended runs kept until their goal window closes; the one that ended first falls.
pub const MAX_ENDED: usize = 32;
/// Bytes of these.
pub const MAX_ENDED_BYTES: usize = 16_384;
/// Entries of the trail.
pub const MAX_TRAIL: usize = 64;
/// Bytes of the trail.
pub const MAX_TRAIL_BYTES: usize = 8_192;
/// Entries of the send log.
pub const MAX_SENDS: usize = 200;

/// Whose record it is, and when and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Log time of the record.
    pub now: Timestamp,
    /// Its position in the orchestrator's inbox.
    pub position: Position,
    /// The profile.
    pub profile: ProfileId,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The engine in force.
    pub engine: Version,
}

/// What is folded.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// An event, with what the segmenter made of it.
    Event {
        /// The event.
        event: &'a inbox::Event,
        /// Changes of the person.
        delta: Option<&'a Person>,
    },
    /// An event that does not concern the profile, as [`concerns`] says; it is only counted.
    Passing {
        /// Name of the event.
        name: &'a str,
        /// Changes of the person.
        delta: Option<&'a Person>,
    },
    /// What became of a send.
    Receipt {
        /// The receipt.
        receipt: &'a inbox::Receipt,
        /// Changes of the person.
        delta: Option<&'a Person>,
    },
    /// What an operator wants done with runs.
    Command {
        /// What.
        command: &'a inbox::RunCommand,
        /// Id of its record, which stands for the event of a run that begins.
        record: &'a [u8; 16],
        /// Changes of the person.
        delta: Option<&'a Person>,
    },
    /// A change that time alone made, or that an item of no meaning here brought along.
    Delta(&'a Person),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A message to an address.
    Dispatch {
        /// The address, as the sender routes it.
        key: [u8; 16],
        /// What to send.
        dispatch: Box<inbox::Dispatch>,
    },
    /// Take a dispatch back.
    Recall {
        /// The address, as the sender routes it.
        key: [u8; 16],
        /// Which, and why.
        recall: inbox::Recall,
    },
    /// Never use an address for this.
    Suppress {
        /// The address, as the sender routes it.
        key: [u8; 16],
        /// What for.
        suppress: inbox::Suppress,
    },
    /// The person has said yes again.
    Unsuppress {
        /// The address, as the sender routes it.
        key: [u8; 16],
        /// What for.
        unsuppress: inbox::Unsuppress,
    },
    /// A provider told something about a message.
    Feedback {
        /// The address, as the sender routes it.
        key: [u8; 16],
        /// What it told.
        feedback: inbox::Feedback,
    },
    /// For `waypost.decisions.v1`.
    Decision(Box<Decision>),
}

/// Folds one record into a profile.
pub fn fold(state: &mut JourneyProfile, ws: &Workspace, cx: &Context, input: Input<'_>) -> Vec<Effect> {
    if is_gone(state) {
        return Vec::new();
    }
    let (event, receipt, delta) = match input {
        Input::Event { event, delta } => (Some(event), None, delta),
        Input::Passing { delta, .. } | Input::Command { delta, .. } => (None, None, delta),
        Input::Receipt { receipt, delta } => (None, Some(receipt), delta),
        Input::Delta(delta) => (None, None, Some(delta)),
    };
    let cause = match input {
        Input::Event { event, .. } => event.name.as_str(),
        Input::Passing { name, .. } => name,
        Input::Receipt { .. } => "receipt",
        Input::Command { .. } => "operator",
        Input::Delta(_) => "time",
    };
    if let Some(delta) = delta {
        person::apply(state.person.get_or_insert_default(), delta);
    }
    let zone_changed = delta.is_some_and(|d| d.fields.iter().any(|f| f.path == "timezone"));
    let effects = turn(state, ws, cx, cause, event, |turn, runs| {
        turn.is_passing = matches!(input, Input::Passing { .. });
        recall::permissions(turn, runs);
        for run in runs.iter_mut() {
            if zone_changed {
                timers::follow_zone(turn, run);
            }
            if !turn.is_passing {
                turn.settle(run);
            }
        }
        if let Some(receipt) = receipt {
            receipts::take(turn, runs, receipt);
        }
        feedback::hand_on(turn, runs);
        if event.is_some() {
            entries::consider(turn, runs);
        }
        if let Input::Command { command, record, .. } = input {
            commands::follow(turn, runs, command, record);
        }
    });
    if matches!(input, Input::Event { .. } | Input::Passing { .. }) {
        state.events += 1;
    }
    if let Some(event) = event {
        let all = state.runs.iter().any(asleep::sleeps);
        facts::remember(&mut state.facts, ws, event, cx.now, all);
    }
    effects
}

/// Whether `limit` allows some timer to fire: whether [`fire`] would do anything.
pub fn may_fire(state: &JourneyProfile, ws: &Workspace, limit: &Limit) -> bool {
    !is_gone(state) && (timers::drain_ends(state, limit).is_some() || timers::earliest(state, ws, limit).is_some())
}

/// Fires the earliest timer that `limit` allows; none if there is no such timer.
pub fn fire(state: &mut JourneyProfile, ws: &Workspace, cx: &Context, limit: &Limit) -> Option<Vec<Effect>> {
    if is_gone(state) {
        return None;
    }
    let drained = timers::drain_ends(state, limit);
    let due = timers::earliest(state, ws, limit).filter(|due| drained.is_none_or(|drained| due.at <= drained));
    let Some(due) = due else { return drained.map(|at| give_up(state, ws, &Context { now: cx.now.max(at), ..*cx })) };
    let cx = Context { now: cx.now.max(due.at), ..*cx };
    let behind = if due.unproven { ", upstream was behind" } else { "" };
    Some(turn(state, ws, &cx, &format!("timer {}{behind}", due.what), None, |turn, runs| timers::fire(turn, runs, &due)))
}

/// Takes in the state of a profile that was joined into this one (PROTOCOL §10.4), before anything else
/// is decided. `recheck`: with another look at every run of both halves.
pub fn import(
    state: &mut JourneyProfile,
    incoming: &JourneyProfile,
    delta: Option<&Person>,
    ws: &Workspace,
    cx: &Context,
    recheck: bool,
) -> Vec<Effect> {
    if let Some(delta) = delta {
        person::apply(state.person.get_or_insert_default(), delta);
    }
    if is_gone(state) {
        return Vec::new();
    }
    let horizon = import::Horizon::of(state, incoming);
    // All that either half knows: what stops a run may find no room among what both keep.
    let facts = facts::both(&state.facts, &incoming.facts);
    *state = unite(state, incoming);
    turn(state, ws, cx, "merge", None, |turn, runs| {
        if recheck {
            import::reconsider(turn, runs, &facts, &horizon);
        }
        import::settle(turn, runs);
    })
}

/// Forgets the person (PROTOCOL §10.7): runs end, what is queued is taken back, and nothing stays but the mark.
/// Of a profile that has moved, or was erased before, there is nothing to end.
pub fn erase(state: &mut JourneyProfile, ws: &Workspace, cx: &Context) -> Vec<Effect> {
    if state.erased {
        return Vec::new();
    }
    let effects = if is_gone(state) { Vec::new() } else { turn(state, ws, cx, "erase", None, |turn, runs| exits::erase(turn, runs)) };
    let now = state.now.max(cx.now.millis());
    *state = JourneyProfile { erased: true, erased_at: now, now, ..JourneyProfile::default() };
    effects
}

/// The version of its journey that a run is pinned to; none if it is no longer among the definitions.
pub(crate) fn version_of<'a>(ws: &'a Workspace, run: &Run) -> Option<&'a Arc<Journey>> {
    ws.journeys.get(&run.journey)?.versions.get(&run.version)
}

/// Whether a run has not ended.
pub(crate) fn is_live(run: &Run) -> bool {
    run.exit_reason.is_empty()
}

/// Some identifier has not said within 15 minutes that nothing of it is left on its old road; timers go on.
fn give_up(state: &mut JourneyProfile, ws: &Workspace, cx: &Context) -> Vec<Effect> {
    let silent = drain::give_up(state);
    turn(state, ws, cx, "timer drain", None, |turn, _| {
        let note = format!("timers waited for what {silent} joined identifiers had sent; they have not answered");
        trail::record(turn, trail::What::Drained, trail::Entry::default().reason("TIMED_OUT").note(note));
    })
}

fn is_gone(state: &JourneyProfile) -> bool {
    state.erased || !state.moved_to.is_empty()
}

/// One record's or timer's turn: `decide`, then the sends that became ready, then tidying up.
fn turn(
    state: &mut JourneyProfile,
    ws: &Workspace,
    cx: &Context,
    cause: &str,
    event: Option<&inbox::Event>,
    decide: impl FnOnce(&mut Turn<'_>, &mut Vec<Run>),
) -> Vec<Effect> {
    let now = cx.now.max(Timestamp::from_millis(state.now));
    state.now = now.millis();
    let mut runs = std::mem::take(&mut state.runs);
    let person = state.person.take().unwrap_or_default();
    // Before anything else is decided, what happened while a run slept.
    let woken = runs.iter().any(|run| asleep::sleeps(run) && version_of(ws, run).is_some());
    let facts = if woken { state.facts.clone() } else { Vec::new() };
    let mut turn = Turn::new(state, ws, &person, &Context { now, ..*cx }, cause, event);
    if woken {
        asleep::wake(&mut turn, &mut runs, &facts);
    }
    exits::kill(&mut turn, &mut runs);
    decide(&mut turn, &mut runs);
    if !turn.is_passing {
        sends::decide(&mut turn, &mut runs);
        for run in &mut runs {
            timers::set_recheck(&turn, run);
        }
    }
    let effects = turn.effects;
    exits::forget(&mut runs);
    runs.sort_by(|a, b| (a.entered_at, &a.id).cmp(&(b.entered_at, &b.id)));
    state.runs = runs;
    state.person = Some(person);
    effects
}

#[cfg(test)]
mod tests;
