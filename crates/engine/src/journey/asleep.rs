//! Runs of definitions that are not in force here (PROTOCOL §9.1). A merge may bring them from a partition
//! that changed before this one: they sleep until this one changes too. A run of a retired version falls.
//!
//! Nobody can say yet what a sleeping run looks for. So every event is kept while one sleeps, and when it
//! wakes it is judged on all of them, before anything else.

use waypost_codec::state::{Fact, Run, TimerKind};
use waypost_types::Span;

use super::{exits, facts, import, is_live, timers, turn::Turn, version_of};
use crate::definitions::Workspace;

/// Set while it sleeps; when it is due, the run looks whether its version has come.
const ASLEEP: &str = "asleep";
/// How often it looks.
pub(crate) const NAP: Span = Span::from_secs(60);

/// Whether a run waits for its version.
pub(crate) fn sleeps(run: &Run) -> bool {
    run.timers.iter().any(|t| t.what == ASLEEP)
}

/// Puts live runs without a version to sleep, or lets them fall, where it has been retired.
pub(crate) fn sort_out(turn: &mut Turn<'_>, runs: &mut [Run]) {
    let ws = turn.ws;
    for run in runs.iter_mut().filter(|r| is_live(r) && version_of(ws, r).is_none()) {
        if is_retired(ws, run) {
            exits::cancel(turn, run);
        } else {
            timers::set(run, ASLEEP, turn.now().plus(NAP), TimerKind::Absent);
        }
    }
}

/// Wakes the runs whose version has come, on what happened meanwhile.
pub(crate) fn wake(turn: &mut Turn<'_>, runs: &mut [Run], facts: &[Fact]) {
    let ws = turn.ws;
    for run in runs.iter_mut().filter(|r| sleeps(r)) {
        let Some(journey) = version_of(ws, run) else { continue };
        timers::unset(run, ASLEEP);
        import::judge(turn, run, facts);
        if facts::forgotten_until(facts).is_some_and(|until| import::began_before(run, until)) {
            import::end_unknown(turn, run, journey);
        }
    }
}

/// A timer of a run without version is due: it is looked at again later, or the run falls.
pub(crate) fn nap(turn: &mut Turn<'_>, run: &mut Run, what: &str) {
    if is_retired(turn.ws, run) || what == timers::MAX_AGE {
        return exits::cancel(turn, run);
    }
    let later = turn.now().plus(NAP);
    timers::set(run, what, later, TimerKind::Absent);
    timers::set(run, ASLEEP, later, TimerKind::Absent);
}

/// Versions are numbered: one below the newest, and not among the definitions, comes no more.
fn is_retired(ws: &Workspace, run: &Run) -> bool {
    ws.journeys.get(&run.journey).and_then(|v| v.versions.keys().next_back()).is_some_and(|newest| run.version < *newest)
}
