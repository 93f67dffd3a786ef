//! Success: once per run, within its window from entry, also after exit.

use waypost_codec::{inbox::Event, state::Run};
use waypost_types::{Timestamp, Value};

use super::{
    exits,
    trail::{self, Entry, What},
    turn::{Sight, Turn},
};
use crate::definitions::{Goal, Journey, Match};

/// Whether the run reaches its goal now; it is recorded, once.
pub(crate) fn reached(turn: &mut Turn<'_>, journey: &Journey, run: &mut Run, entry: &Event, event: Option<&Event>) -> bool {
    let Some(goal) = &journey.goal else { return false };
    if run.goal_met || !looked_for(turn, goal, run, entry, event) {
        return false;
    }
    let sight = Sight { run, entry, event };
    let check = turn.explain("goal".to_owned(), &goal.on, sight);
    let value = goal.value.as_ref().and_then(|program| program.evaluate(&turn.facts(sight)).value);
    let note = value.map_or_else(String::new, |value| format!("value {}", words(turn, &value)));
    run.goal_met = true;
    if !super::is_live(run) {
        // Nothing more is watched of it.
        run.timers.clear();
    }
    trail::record(turn, What::Goal, Entry::of(run).checks(vec![check]).note(note));
    true
}

/// Whether this event reaches the goal of a run that would end by it; nothing is recorded.
pub(crate) fn ends(turn: &Turn<'_>, journey: &Journey, run: &Run, entry: &Event, event: &Event) -> bool {
    journey
        .goal
        .as_ref()
        .is_some_and(|goal| goal.exit && matches!(goal.on, Match::Event { .. }) && looked_for(turn, goal, run, entry, Some(event)))
}

fn looked_for(turn: &Turn<'_>, goal: &Goal, run: &Run, entry: &Event, event: Option<&Event>) -> bool {
    let closes = Timestamp::from_millis(run.entry_time).plus(goal.within);
    let in_time = match &goal.on {
        Match::Event { .. } => event.is_some_and(|e| e.event_time <= closes.millis()),
        Match::Segment { .. } | Match::When(_) => turn.now() <= closes,
    };
    in_time && turn.matches(&goal.on, Sight { run, entry, event }, exits::counts(run, entry, event)).truth.is_yes()
}

fn words(turn: &Turn<'_>, value: &Value) -> String {
    match value {
        Value::Money(minor) => turn.ws.policy.currency.format(*minor),
        Value::Amount { minor, currency } => {
            waypost_types::Currency::parse(currency).map_or_else(|| format!("{minor} {currency}"), |c| c.format(*minor))
        }
        Value::Int(i) => i.to_string(),
        Value::Text(text) => text.clone(),
        Value::Bool(b) => b.to_string(),
        Value::Decimal(_) | Value::Time(_) | Value::Date(_) | Value::List(_) | Value::Object(_) => format!("{value:?}"),
    }
}
