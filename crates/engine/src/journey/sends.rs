//! Sends: the runs that rest in a send step pass the gates together, at the end of a record's turn.

use std::{cmp::Reverse, collections::BTreeSet};

use bytes::Bytes;
use waypost_codec::{
    inbox,
    state::{Run, RunSend, SendLogEntry, SendState, TimerKind},
};
use waypost_types::{SendId, Span, Timestamp};

use super::{
    Effect, MAX_SENDS,
    gates::{self, Passed, Request, Verdict},
    ids, is_live, steps, timers,
    trail::{self, Entry, What},
    turn::Turn,
    version_of,
};
use crate::{
    address,
    definitions::{Journey, Send, Step, StepKind, Workspace},
};

/// How long the send log goes back.
const LOG: Span = Span::from_days(90);
/// Sends kept of one run; of more, those that were stopped first fall.
const MAX_RUN_SENDS: usize = 200;

/// What another half of the person has done about the step that a run is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Decided; its receipt is on the way.
    Open,
    /// Answered for, with this outcome.
    Final(&'static str),
}

/// Decides every send that is ready, by priority, sooner end of validity, run; a send that is stopped
/// may take its run on to the next one.
pub(crate) fn decide(turn: &mut Turn<'_>, runs: &mut [Run]) {
    loop {
        let mut ready: Vec<_> = runs.iter().enumerate().filter_map(|(i, run)| Some((rank(turn.ws, run)?, i))).collect();
        if ready.is_empty() {
            return;
        }
        ready.sort();
        for (_, at) in ready {
            let others = runs.iter().enumerate().filter(|(i, r)| *i != at && is_live(r));
            let live: BTreeSet<String> = others.map(|(_, r)| r.journey.clone()).collect();
            if let Some(run) = runs.get_mut(at) {
                one(turn, run, &live);
            }
        }
    }
}

/// The send whose receipt the run waits for in its current step.
pub(crate) fn waited_for(run: &Run) -> Option<&RunSend> {
    let own = own_id(run);
    let here = || run.sends.iter().filter(|s| s.step == run.step);
    here().find(|s| s.id.as_ref() == own.as_bytes()).or_else(|| here().find(|s| s.state() == SendState::Decided))
}

/// What stands about the current step by another id than this visit's own: decided by the other half of
/// a merged person. A step is sent once.
pub(crate) fn standing(run: &Run) -> Option<Standing> {
    let own = own_id(run);
    let others = run.sends.iter().filter(|s| s.step == run.step && s.id.as_ref() != own.as_bytes());
    others.rev().find_map(|send| match send.state() {
        SendState::Decided => Some(Standing::Open),
        SendState::Accepted => Some(Standing::Final("accepted")),
        SendState::Unknown => Some(Standing::Final("unknown")),
        SendState::Unspecified | SendState::Stopped | SendState::Failed | SendState::Recalling => None,
    })
}

/// Whether the run has reached its person, or may have: unknown counts as contacted.
pub(crate) fn has_contacted(run: &Run) -> bool {
    run.sends.iter().any(|s| match s.state() {
        SendState::Decided | SendState::Accepted | SendState::Unknown | SendState::Recalling => true,
        SendState::Unspecified | SendState::Stopped | SendState::Failed => false,
    })
}

/// At a merge: both halves' send logs as one.
pub(crate) fn unite_logs(a: &[SendLogEntry], b: &[SendLogEntry]) -> Vec<SendLogEntry> {
    let mut all: Vec<SendLogEntry> = a.iter().chain(b).cloned().collect();
    let rank = |l: &SendLogEntry| (l.at, l.id.clone(), Reverse(known(l.state())));
    all.sort_by_cached_key(rank);
    all.dedup_by(|later, kept| later.id == kept.id);
    let surplus = all.len().saturating_sub(MAX_SENDS);
    all.drain(..surplus);
    all
}

/// How much a state says of a send; of one send as two halves know it, the one that says more holds.
pub(crate) fn known(state: SendState) -> u8 {
    match state {
        SendState::Unspecified => 0,
        SendState::Decided => 1,
        SendState::Recalling => 2,
        SendState::Unknown => 3,
        SendState::Stopped => 4,
        SendState::Failed => 5,
        SendState::Accepted => 6,
    }
}

fn own_id(run: &Run) -> SendId {
    ids::send_id(&run.id, &run.step, steps::visits(run, &run.step))
}

fn send_step<'j>(journey: &'j Journey, run: &Run) -> Option<(&'j Step, &'j Send)> {
    let step = steps::current(journey, run)?;
    if let StepKind::Send(send) = &step.kind { Some((step, send)) } else { None }
}

/// Where a ready run stands among the others; none if it is not ready.
fn rank(ws: &Workspace, run: &Run) -> Option<(Reverse<u32>, i64, Bytes)> {
    if !is_live(run) || run.timers.iter().any(|t| t.what == timers::DEFER) {
        return None;
    }
    let journey = version_of(ws, run)?;
    let (_, send) = send_step(journey, run)?;
    let own = own_id(run);
    if standing(run).is_some() || run.sends.iter().any(|s| s.id.as_ref() == own.as_bytes()) {
        return None;
    }
    Some((Reverse(journey.priority), valid_until(run, send).millis(), run.id.clone()))
}

/// Until when a send may go out: from the arrival at its step.
pub(crate) fn valid_until(run: &Run, send: &Send) -> Timestamp {
    Timestamp::from_millis(run.arrived_at).plus(send.valid_for)
}

fn one(turn: &mut Turn<'_>, run: &mut Run, live: &BTreeSet<String>) {
    let ws = turn.ws;
    let Some(journey) = version_of(ws, run) else { return };
    let Some((_, send)) = send_step(journey, run) else { return };
    let entry = super::entry::of(run);
    let (verdict, checks) = gates::pass(turn, &Request { run, journey, send, entry: &entry, live });
    let id = Bytes::copy_from_slice(own_id(run).as_bytes());
    let note = Entry::of(run).checks(checks).send(id.clone());
    match verdict {
        Verdict::Pass(passed) => {
            dispatch(turn, run, journey, send, *passed);
            trail::record(turn, What::Sent, note);
        }
        Verdict::Defer { until, code } => {
            timers::set(run, timers::DEFER, until, TimerKind::Plain);
            trail::record(turn, What::Deferred, note.reason(code).note(format!("until {until}")));
        }
        Verdict::Stop { code } => {
            let stopped = RunSend { reason: code.to_owned(), ..decided(turn, run, send, id, SendState::Stopped) };
            keep(run, stopped);
            trail::record(turn, What::Stopped, note.reason(code));
            steps::leave_by(turn, run, journey, "stopped");
        }
    }
}

fn decided(turn: &Turn<'_>, run: &Run, send: &Send, id: Bytes, state: SendState) -> RunSend {
    RunSend {
        id,
        step: run.step.clone(),
        visit: steps::visits(run, &run.step),
        state: state.into(),
        decided_at: turn.now().millis(),
        channel: send.channel_kind.clone(),
        ..RunSend::default()
    }
}

fn dispatch(turn: &mut Turn<'_>, run: &mut Run, journey: &Journey, send: &Send, passed: Passed) {
    let id = own_id(run);
    let key = address::key(&send.channel_kind, &passed.address);
    let dispatch = ids::dispatch_id(&id, 0, &key);
    let bytes = |b: &[u8]| Bytes::copy_from_slice(b);
    let body = inbox::Dispatch {
        dispatch: bytes(dispatch.as_bytes()),
        send: bytes(id.as_bytes()),
        run: run.id.clone(),
        profile: bytes(turn.cx.profile.as_bytes()),
        journey: journey.name.clone(),
        journey_version: journey.version,
        step: run.step.clone(),
        run_key: run.key.clone(),
        channel: send.channel_kind.clone(),
        provider: send.channel.clone(),
        address: passed.address,
        template: send.template_name.clone(),
        template_hash: bytes(send.template.as_bytes()),
        variables: Some(passed.variables),
        decided_at: turn.now().millis(),
        valid_until: valid_until(run, send).millis(),
        class: send.class.as_str().to_owned(),
        topic: send.topic.clone().unwrap_or_default(),
        channel_hash: turn.ws.channels.get(&send.channel).map_or_else(Bytes::new, |c| bytes(c.hash.as_bytes())),
    };
    let standing = RunSend {
        dispatch: body.dispatch.clone(),
        address_key: bytes(&key),
        ..decided(turn, run, send, body.send.clone(), SendState::Decided)
    };
    keep(run, standing);
    turn.log.push(SendLogEntry {
        id: body.send.clone(),
        journey: journey.name.clone(),
        step: run.step.clone(),
        channel: send.channel_kind.clone(),
        at: turn.now().millis(),
        state: SendState::Decided.into(),
        class: send.class.as_str().to_owned(),
        run: run.id.clone(),
    });
    let since = turn.now().minus(LOG).millis();
    turn.log.retain(|logged| logged.at > since);
    let surplus = turn.log.len().saturating_sub(MAX_SENDS);
    turn.log.drain(..surplus);
    turn.effects.push(Effect::Dispatch { key, dispatch: Box::new(body) });
}

fn keep(run: &mut Run, send: RunSend) {
    if run.sends.len() >= MAX_RUN_SENDS {
        let stopped = run.sends.iter().position(|s| s.state() == SendState::Stopped);
        run.sends.remove(stopped.unwrap_or(0));
    }
    run.sends.push(send);
}
