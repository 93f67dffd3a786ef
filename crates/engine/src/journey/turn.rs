//! What one record's turn sees and writes: the person, the definitions, and the ledgers of a profile.

use std::collections::BTreeMap;

use waypost_codec::{
    inbox::{self, Event, Person},
    state::{Bounced, Check, Fact, JourneyProfile, PastRun, Run, SendLogEntry, Trail},
};
use waypost_types::{RunId, Timestamp};

use super::{Context, Effect, entry, exits, goal, is_live, version_of, waits};
use crate::{
    condition::{Program, Truth},
    definitions::{Match, Workspace},
    facts::{PersonFacts, RunFacts},
    membership,
};

/// One record's turn.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) ws: &'a Workspace,
    pub(crate) cx: Context,
    pub(crate) person: &'a Person,
    /// The event being folded.
    pub(crate) event: Option<&'a Event>,
    /// Event name, timer, `receipt`, …
    pub(crate) cause: &'a str,
    /// Event time of what is being looked at, where it is an event.
    pub(crate) looked_at: Option<i64>,
    pub(crate) losers: &'a [bytes::Bytes],
    /// Events folded before that an exit, a goal or a wait could turn on.
    pub(crate) facts: &'a [Fact],
    pub(crate) past: &'a mut Vec<PastRun>,
    pub(crate) log: &'a mut Vec<SendLogEntry>,
    pub(crate) trail: &'a mut Vec<Trail>,
    /// Bytes of it, once that is known; only `trail` writes there.
    pub(crate) trail_bytes: Option<usize>,
    /// Addresses that nothing goes to any more.
    pub(crate) bounced: &'a mut Vec<Bounced>,
    pub(crate) effects: Vec<Effect>,
    /// No run looks at anything that came: none exits, gets on or is to be looked at at another time than before.
    pub(crate) is_passing: bool,
    /// Steps taken by each run in this turn; no time passes in it.
    pub(crate) steps: BTreeMap<bytes::Bytes, u32>,
}

/// What one run sees of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) run: &'a Run,
    pub(crate) entry: &'a Event,
    /// The event being looked at: the one being folded, or one of the past at a merge.
    pub(crate) event: Option<&'a Event>,
}

/// Whether a [`Match`] matches, and when time alone may change that.
#[derive(Clone, Debug)]
pub(crate) struct Matched {
    pub(crate) truth: Truth,
    pub(crate) valid_until: Option<Timestamp>,
}

// === impl Turn ===

impl<'a> Turn<'a> {
    pub(crate) fn new(
        state: &'a mut JourneyProfile,
        ws: &'a Workspace,
        person: &'a Person,
        cx: &Context,
        cause: &'a str,
        event: Option<&'a Event>,
    ) -> Self {
        Self {
            ws,
            cx: *cx,
            person,
            event,
            cause,
            looked_at: None,
            losers: &state.losers,
            facts: &state.facts,
            past: &mut state.past,
            log: &mut state.sends,
            trail: &mut state.trail,
            trail_bytes: None,
            bounced: &mut state.bounced,
            effects: Vec::new(),
            is_passing: false,
            steps: BTreeMap::new(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.cx.now
    }

    /// Exit rules, goal and wait of one run, in this order, on the event being folded or on none.
    pub(crate) fn settle(&mut self, run: &mut Run) {
        self.settle_on(run, self.event, true);
    }

    /// The same on a given event; `waits` says whether waits may see it.
    pub(crate) fn settle_on(&mut self, run: &mut Run, event: Option<&Event>, waits: bool) {
        self.looked_at = event.map(|e| e.event_time);
        let ws = self.ws;
        let Some(journey) = version_of(ws, run) else { return };
        let looked_for = event.is_some_and(|e| journey.event_names.binary_search(&e.name).is_ok());
        if !looked_for && !journey.looks_at_states && run.satisfied.is_empty() {
            // Nothing that this run rests on can have changed.
            return;
        }
        let entry = entry::of(run);
        let exit = if is_live(run) { exits::matching(self, journey, Sight { run, entry: &entry, event }) } else { None };
        let reached = goal::reached(self, journey, run, &entry, event);
        if reached && is_live(run) && journey.goal.as_ref().is_some_and(|g| g.exit) {
            let note = exit.map_or_else(String::new, |(rule, _)| format!("exit rule {rule} matched too"));
            exits::end(self, run, journey, "GOAL", Vec::new(), &note);
        } else if let Some((rule, check)) = exit {
            exits::end(self, run, journey, &rule, vec![check], "");
        } else if is_live(run) && waits {
            waits::look(self, run, journey, &entry, event);
        }
    }

    /// The facts that a run's conditions are evaluated over.
    pub(crate) fn facts<'s>(&'s self, sight: Sight<'s>) -> PersonFacts<'s> {
        let facts = PersonFacts::new(self.cx.now, self.person, self.ws).with_entry(sight.entry).with_run(RunFacts {
            id: RunId::from_slice(&sight.run.id).unwrap_or(RunId::new([0; 16])),
            key: sight.run.key.clone(),
            entered_at: Timestamp::from_millis(sight.run.entered_at),
            version: sight.run.version,
        });
        match sight.event {
            Some(event) => facts.with_event(event),
            None => facts,
        }
    }

    /// Whether an exit rule, a goal or an arm matches what a run sees now.
    ///
    /// Of events only those count that `counts` lets through; states are looked at whatever came.
    pub(crate) fn matches(&self, on: &Match, sight: Sight<'_>, counts: bool) -> Matched {
        match on {
            Match::Event { names, filter } => {
                let named = counts && sight.event.is_some_and(|e| names.contains(&e.name));
                let truth = match filter {
                    _ if !named => Truth::No,
                    None => Truth::Yes,
                    Some(filter) => filter.truth(&self.facts(sight)).0,
                };
                Matched { truth, valid_until: None }
            }
            Match::Segment { name, is_in } => {
                let truth = match membership::of(self.person, name).0 {
                    inbox::Truth::Yes if *is_in => Truth::Yes,
                    inbox::Truth::No if !*is_in => Truth::Yes,
                    inbox::Truth::Yes | inbox::Truth::No => Truth::No,
                    inbox::Truth::Unknown | inbox::Truth::Unspecified => Truth::Unknown,
                };
                Matched { truth, valid_until: None }
            }
            Match::When(program) => {
                let (truth, valid_until) = program.truth(&self.facts(sight));
                Matched { truth, valid_until }
            }
        }
    }

    /// The same in words, for the trail.
    pub(crate) fn explain(&self, what: String, on: &Match, sight: Sight<'_>) -> Check {
        match on {
            Match::Event { filter: Some(program), .. } | Match::When(program) => self.check(what, program, sight),
            Match::Event { names, filter: None } => {
                let name = sight.event.map_or_else(|| names.join(" or "), |e| e.name.clone());
                check(what, Truth::Yes, vec![format!("event {name}")], None)
            }
            Match::Segment { name, is_in } => {
                let truth = self.matches(on, sight, false).truth;
                check(what, truth, vec![format!("in_segment(\"{name}\") is {}", if truth.is_yes() == *is_in { "yes" } else { "no" })], None)
            }
        }
    }

    /// Evaluates a condition with everything it looked at.
    pub(crate) fn check(&self, what: String, program: &Program, sight: Sight<'_>) -> Check {
        let (truth, until, operands) = program.explain(&self.facts(sight));
        let operands = operands.into_iter().map(|o| format!("{} = {}", o.what, o.value)).collect();
        check(what, truth, operands, until)
    }

    /// Counts a step of a run; false when it has taken too many without time passing.
    pub(crate) fn may_step(&mut self, run: &Run) -> bool {
        let taken = self.steps.entry(run.id.clone()).or_default();
        *taken += 1;
        *taken <= super::MAX_STEPS
    }
}

/// One predicate or gate with its operands.
pub(crate) fn check(what: String, truth: Truth, operands: Vec<String>, valid_until: Option<Timestamp>) -> Check {
    let stored = match truth {
        Truth::Yes => inbox::Truth::Yes,
        Truth::No => inbox::Truth::No,
        Truth::Unknown => inbox::Truth::Unknown,
    };
    Check { what, truth: stored.into(), operands, valid_until: valid_until.map_or(0, Timestamp::millis) }
}
