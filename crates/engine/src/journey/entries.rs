//! Entries: the decision to start a run, and what a trigger does to a run that is live already.

use std::collections::BTreeSet;

use waypost_codec::{
    inbox::{Event, StartRun},
    state::{Check, Run, TimerKind},
};
use waypost_types::{ProfileId, RunId, Timestamp, Value};

use super::{
    MAX_ENTRY, MAX_KEY, MAX_RUN_BYTES, MAX_RUNS, MAX_RUNS_PER_JOURNEY, commands, entry, exits, facts, gates, goal, ids, is_live, sends,
    steps, timers,
    trail::{self, Entry as Recorded, What},
    turn::{Sight, Turn, check},
    version_of,
};
use crate::{
    condition::{Facts as _, Root, Truth},
    definitions::{Entry, Journey, JourneyVersions, Match, Standing, StepKind, WhileLive},
};

/// A run that may come to be.
struct Candidate<'j> {
    journey: &'j Journey,
    entry: &'j Entry,
    /// As it would be stored.
    run: Run,
}

/// Why not.
struct Refusal {
    code: &'static str,
    checks: Vec<Check>,
    /// The run that stands in its way, where it is named.
    earlier: Option<RunId>,
}

/// Considers every entry of every active journey that names this event, by priority, then name.
pub(crate) fn consider(turn: &mut Turn<'_>, runs: &mut Vec<Run>) {
    let Some(event) = turn.event else { return };
    let Some(concern) = turn.ws.journeys.concern(&event.name) else { return };
    for journey in &concern.entered {
        // One event does one thing to one key, whichever entries name it.
        let mut done = BTreeSet::new();
        for entry in journey.entries.iter().filter(|e| e.names.contains(&event.name)) {
            one(turn, runs, journey, entry, event, &mut done);
        }
    }
}

fn one(turn: &mut Turn<'_>, runs: &mut Vec<Run>, journey: &Journey, entry: &Entry, event: &Event, done: &mut BTreeSet<String>) {
    let candidate = Candidate { journey, entry, run: Run { journey: journey.name.clone(), version: journey.version, ..Run::default() } };
    let key = match admitted(turn, &candidate, event).and_then(|()| key(turn, &candidate, event)) {
        Ok(key) => key,
        Err(refusal) => return refuse(turn, &candidate, refusal),
    };
    if !done.insert(key.clone()) {
        return;
    }
    let candidate = candidate.begun(turn, key, event);
    if let Some(live) = runs.iter_mut().find(|r| is_live(r) && (&r.journey, &r.key) == (&journey.name, &candidate.run.key)) {
        return match entry.while_live {
            WhileLive::Skip => refuse(turn, &candidate, Refusal::of("ALREADY_LIVE")),
            WhileLive::Rearm => rearm(turn, live, &candidate, event),
        };
    }
    match allowed(turn, runs, &candidate, event) {
        Ok(()) => enter(turn, runs, candidate),
        Err(refusal) => refuse(turn, &candidate, refusal),
    }
}

/// Begins a run that an operator asked for. Its entry's event and filter are not asked, everything else is.
pub(crate) fn start(turn: &mut Turn<'_>, runs: &mut Vec<Run>, asked: &StartRun, record: &[u8; 16]) {
    let ws = turn.ws;
    // The entry that is keyed as the run is to be; a journey has one at least.
    let entered = ws.journeys.get(&asked.journey).and_then(JourneyVersions::entered);
    let run = Run { journey: asked.journey.clone(), key: asked.key.clone(), ..Run::default() };
    let Some(journey) = entered else {
        let recorded = Recorded::of(&run).reason("NOT_IN_FORCE").note("no version of it takes entries");
        return trail::record(turn, What::Refused, recorded);
    };
    let run = Run { version: journey.version, ..run };
    let Some(entry) = journey.entry_keyed_as(&asked.key).filter(|_| asked.key.len() <= MAX_KEY) else {
        let note = if asked.key.is_empty() { "its entries have a key" } else { "no entry of it has such a key" };
        return trail::record(turn, What::Refused, Recorded::of(&run).reason("KEY_INVALID").note(note));
    };
    let event = &commands::event(turn, asked, entry.key.as_deref(), record);
    let candidate = Candidate { journey, entry, run }.begun(turn, asked.key.clone(), event);
    let is_live = runs.iter().any(|r| is_live(r) && (&r.journey, &r.key) == (&asked.journey, &asked.key));
    let judged = if is_live { Err(Refusal::of("ALREADY_LIVE")) } else { allowed(turn, runs, &candidate, event) };
    match judged {
        Ok(()) => enter(turn, runs, candidate),
        Err(refusal) => refuse(turn, &candidate, refusal),
    }
}

/// What is asked before the key: the filter, and whether the event may start anything.
fn admitted(turn: &Turn<'_>, candidate: &Candidate<'_>, event: &Event) -> Result<(), Refusal> {
    if let Some(filter) = &candidate.entry.filter {
        let sight = Sight { run: &candidate.run, entry: event, event: Some(event) };
        match filter.truth(&turn.facts(sight)).0 {
            Truth::Yes => {}
            truth @ (Truth::No | Truth::Unknown) => {
                let code = if truth == Truth::No { "ENTRY_FILTER" } else { "ENTRY_UNKNOWN" };
                let seen = turn.check(format!("entry.{}.where", candidate.entry.id), filter, sight);
                return Err(Refusal::seen(code, seen));
            }
        }
    }
    if event.historical {
        return Err(Refusal::of("HISTORICAL"));
    }
    let age = turn.now().since(Timestamp::from_millis(event.event_time));
    if age > candidate.journey.late_allow {
        let operand = format!("{age} old, {} allowed", candidate.journey.late_allow);
        return Err(Refusal::seen("ENTRY_LATE", check("late".to_owned(), Truth::No, vec![operand], None)));
    }
    Ok(())
}

fn key(turn: &Turn<'_>, candidate: &Candidate<'_>, event: &Event) -> Result<String, Refusal> {
    let Some(program) = &candidate.entry.key else { return Ok(String::new()) };
    let sight = Sight { run: &candidate.run, entry: event, event: Some(event) };
    match program.evaluate(&turn.facts(sight)).value {
        Some(Value::Text(key)) if key.len() <= MAX_KEY => Ok(key),
        Some(_) | None => {
            let seen = turn.check(format!("entry.{}.key", candidate.entry.id), program, sight);
            Err(Refusal::seen("KEY_INVALID", seen))
        }
    }
}

/// What is asked of a new run.
fn allowed(turn: &Turn<'_>, runs: &[Run], candidate: &Candidate<'_>, event: &Event) -> Result<(), Refusal> {
    let journey = candidate.journey;
    if journey.standing == Standing::Paused {
        return Err(Refusal::of(gates::PAUSED));
    }
    let sight = Sight { run: &candidate.run, entry: event, event: Some(event) };
    if let Some(path) = missing(turn, journey, sight) {
        return Err(Refusal::seen("FIELD_MISSING", check("requires".to_owned(), Truth::No, vec![format!("{path} is missing")], None)));
    }
    // Only states: the entry event itself never exits.
    let states = journey.exit_on.iter().filter(|rule| !matches!(rule.on, Match::Event { .. }));
    for rule in states {
        if turn.matches(&rule.on, sight, false).truth.is_yes() {
            return Err(Refusal::seen("ENTRY_EXITS", turn.explain(format!("exit_on.{}", rule.id), &rule.on, sight)));
        }
    }
    let live = || runs.iter().filter(|r| is_live(r));
    if let Some(other) = journey.yields_to.iter().find(|name| live().any(|r| r.journey == **name)) {
        return Err(Refusal::seen("YIELDS", check("yields_to".to_owned(), Truth::No, vec![format!("a run of {other} is live")], None)));
    }
    reentry(turn, candidate, event)?;
    if let Some(stopped) = stopped_before(turn, candidate, event) {
        return Err(stopped);
    }
    let of_journey = live().filter(|r| r.journey == journey.name).count();
    let which = if live().count() >= MAX_RUNS {
        format!("{MAX_RUNS} live runs")
    } else if of_journey >= MAX_RUNS_PER_JOURNEY {
        format!("{MAX_RUNS_PER_JOURNEY} live runs of {}", journey.name)
    } else if live().map(prost::Message::encoded_len).sum::<usize>() > MAX_RUN_BYTES {
        format!("live runs over {MAX_RUN_BYTES} bytes")
    } else if candidate.run.entry.len() > MAX_ENTRY {
        format!("entry over {MAX_ENTRY} bytes")
    } else {
        return Ok(());
    };
    Err(Refusal::seen("RUN_LIMIT", check("limit".to_owned(), Truth::No, vec![which], None)))
}

/// A stop that happened after this event and came before it: the run would have ended, had they come in order
/// (PROTOCOL §1.3).
fn stopped_before(turn: &Turn<'_>, candidate: &Candidate<'_>, event: &Event) -> Option<Refusal> {
    let Candidate { journey, run, .. } = candidate;
    for fact in turn.facts.iter().filter(|f| !facts::is_gap(f)).map(facts::event) {
        if !exits::counts(run, event, Some(&fact)) {
            continue;
        }
        let sight = Sight { run, entry: event, event: Some(&fact) };
        let mut rules = journey.exit_on.iter().filter(|rule| matches!(rule.on, Match::Event { .. }));
        if let Some(rule) = rules.find(|rule| turn.matches(&rule.on, sight, true).truth.is_yes()) {
            return Some(Refusal::seen("ENTRY_EXITS", turn.explain(format!("exit_on.{}", rule.id), &rule.on, sight)));
        }
        if let Some(goal) = journey.goal.as_ref().filter(|_| goal::ends(turn, journey, run, event, &fact)) {
            return Some(Refusal::seen("ENTRY_EXITS", turn.explain("goal".to_owned(), &goal.on, sight)));
        }
    }
    None
}

/// `after_exit`, by event time, and never twice on one event and key.
fn reentry(turn: &Turn<'_>, candidate: &Candidate<'_>, event: &Event) -> Result<(), Refusal> {
    let run = &candidate.run;
    let Some(past) = turn.past.iter().find(|p| (&p.journey, &p.key) == (&run.journey, &run.key)) else { return Ok(()) };
    let losers = turn.losers.iter().filter_map(|l| ProfileId::from_slice(l).ok());
    let mut ids = std::iter::once(turn.cx.profile)
        .chain(losers)
        .map(|p| ids::run_id(turn.cx.workspace, &run.journey, &p, &run.key, &event.message_id));
    let twice = RunId::from_slice(&past.id).is_ok_and(|past| ids.any(|id| id == past));
    let before = event.event_time < past.exited_at;
    if !twice && !before {
        return Ok(());
    }
    let why = if twice { "this event has started a run before" } else { "it happened before the last run ended" };
    let operands = vec![why.to_owned(), format!("last run ended {} at {}", past.reason, Timestamp::from_millis(past.exited_at))];
    let earlier = RunId::from_slice(&past.id).ok().filter(|_| turn.cx.engine.names_the_earlier_run());
    Err(Refusal { earlier, ..Refusal::seen("REENTRY", check("reentry".to_owned(), Truth::No, operands, None)) })
}

fn missing<'j>(turn: &Turn<'_>, journey: &'j Journey, sight: Sight<'_>) -> Option<&'j str> {
    let facts = turn.facts(sight);
    let known = |path: &str| {
        let (root, rest) = path.split_once('.')?;
        facts.path(Root::named(root)?, rest)
    };
    journey.requires.iter().map(String::as_str).find(|path| known(path).is_none())
}

fn enter(turn: &mut Turn<'_>, runs: &mut Vec<Run>, candidate: Candidate<'_>) {
    let Candidate { journey, entry, mut run } = candidate;
    let recorded = Recorded::of(&run).note(format!("entry {}", entry.id));
    trail::record(turn, What::Entered, recorded);
    begin(turn, &mut run, journey, entry.start);
    runs.push(run);
}

fn begin(turn: &mut Turn<'_>, run: &mut Run, journey: &Journey, start: usize) {
    timers::set(run, timers::MAX_AGE, turn.now().plus(journey.max_age), TimerKind::Absent);
    steps::advance(turn, run, journey, Some(start));
}

/// Until the run has contacted its person it starts over on the new event, under the same id;
/// afterwards only its entry is replaced. A touch older than the entry changes neither.
fn rearm(turn: &mut Turn<'_>, run: &mut Run, candidate: &Candidate<'_>, event: &Event) {
    let ws = turn.ws;
    // A run is pinned to its version, and so is what it keeps of its entry.
    let Some(journey) = version_of(ws, run) else { return };
    if event.event_time < entry::of(run).event_time {
        return refuse(turn, candidate, Refusal::of("ALREADY_LIVE"));
    }
    let kept = entry::keep(event, journey);
    if kept.len() > MAX_ENTRY {
        return refuse(turn, candidate, Refusal::of("RUN_LIMIT"));
    }
    run.entry = kept;
    if sends::has_contacted(run) {
        return trail::record(turn, What::Rearmed, Recorded::of(run).reason("UPDATED"));
    }
    run.entry_time = event.event_time;
    run.previous_at = event.event_time;
    run.since = turn.now().millis();
    run.satisfied.clear();
    run.timers.clear();
    // Visits of send steps stay: they number the sends.
    let is_send = |id: &str| journey.steps.iter().any(|s| s.id == id && matches!(s.kind, StepKind::Send(_)));
    run.visits.retain(|v| is_send(&v.step));
    trail::record(turn, What::Rearmed, Recorded { step: String::new(), ..Recorded::of(run) });
    let start = journey.entries.iter().find(|e| e.id == run.entry_id).map_or(0, |e| e.start);
    begin(turn, run, journey, start);
}

fn refuse(turn: &mut Turn<'_>, candidate: &Candidate<'_>, refusal: Refusal) {
    let entry = Recorded { run: bytes::Bytes::new(), ..Recorded::of(&candidate.run) };
    let earlier = refusal.earlier.map(|run| format!(", earlier run {run}")).unwrap_or_default();
    let note = format!("entry {}{earlier}", candidate.entry.id);
    trail::record(turn, What::Refused, entry.reason(refusal.code).checks(refusal.checks).note(note));
}

// === impl Candidate ===

impl Candidate<'_> {
    /// With the run as it would be stored.
    fn begun(self, turn: &Turn<'_>, key: String, event: &Event) -> Self {
        let Self { journey, entry, run } = self;
        let id = ids::run_id(turn.cx.workspace, &journey.name, &turn.cx.profile, &key, &event.message_id);
        let run = Run {
            id: bytes::Bytes::copy_from_slice(id.as_bytes()),
            key,
            entry_id: entry.id.clone(),
            entry: entry::keep(event, journey),
            entered_at: turn.now().millis(),
            entry_time: event.event_time,
            since: turn.now().millis(),
            previous_at: event.event_time,
            ..run
        };
        Self { journey, entry, run }
    }
}

// === impl Refusal ===

impl Refusal {
    fn of(code: &'static str) -> Self {
        Self { code, checks: Vec::new(), earlier: None }
    }

    fn seen(code: &'static str, check: Check) -> Self {
        Self { code, checks: vec![check], earlier: None }
    }
}
