//! The decision trail: what was decided, when, on what, and why; kept with the profile for explain, and
//! put out on `waypost.decisions.v1`.

use std::{cmp::Ordering, collections::VecDeque};

use prost::Message as _;
use serde::Serialize;
use waypost_codec::{
    inbox::Truth,
    public::Decision,
    state::{Check, Run, Trail},
};
use waypost_types::{RunId, SendId, Timestamp};

use super::{Effect, MAX_TRAIL, MAX_TRAIL_BYTES, gates, turn::Turn};

/// Checks kept of one decision; more would push other decisions out of the trail.
const MAX_CHECKS: usize = 16;
/// Operands kept of one check.
const MAX_OPERANDS: usize = 8;
/// Characters kept of one operand.
const MAX_OPERAND: usize = 160;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Entered,
    Refused,
    Rearmed,
    Exited,
    Goal,
    Waiting,
    Branched,
    Sent,
    Stopped,
    Deferred,
    Recalled,
    Receipt,
    Merged,
    Drained,
}

/// What a public decision says beside its columns.
#[derive(Serialize)]
struct Detail<'a> {
    checks: Vec<Checked<'a>>,
    offset: u64,
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

/// One check of it.
#[derive(Serialize)]
struct Checked<'a> {
    what: &'a str,
    truth: &'static str,
    operands: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<i64>,
}

/// A decision about to be recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) journey: String,
    pub(crate) version: u32,
    pub(crate) run: bytes::Bytes,
    pub(crate) key: String,
    pub(crate) step: String,
    pub(crate) reason: String,
    pub(crate) checks: Vec<Check>,
    pub(crate) send: bytes::Bytes,
    pub(crate) note: String,
}

// === impl What ===

impl What {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Entered => "ENTERED",
            Self::Refused => "REFUSED",
            Self::Rearmed => "REARMED",
            Self::Exited => "EXITED",
            Self::Goal => "GOAL",
            Self::Waiting => "WAITING",
            Self::Branched => "BRANCHED",
            Self::Sent => "SENT",
            Self::Stopped => "STOPPED",
            Self::Deferred => "DEFERRED",
            Self::Recalled => "RECALLED",
            Self::Receipt => "RECEIPT",
            Self::Merged => "MERGED",
            Self::Drained => "DRAINED",
        }
    }
}

// === impl Entry ===

impl Entry {
    /// About a run, in its present step.
    pub(crate) fn of(run: &Run) -> Self {
        Self {
            journey: run.journey.clone(),
            version: run.version,
            run: run.id.clone(),
            key: run.key.clone(),
            step: run.step.clone(),
            ..Self::default()
        }
    }

    pub(crate) fn reason(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(crate) fn checks(mut self, checks: Vec<Check>) -> Self {
        self.checks = checks;
        self
    }

    pub(crate) fn send(mut self, send: bytes::Bytes) -> Self {
        self.send = send;
        self
    }
}

/// Records a decision in the trail and puts it out.
///
/// Three kinds would fill the trail with repetitions and are folded together in it: the touches that
/// re-arm a run one after another, refusals of one kind and key, and the looks of a send whose journey is
/// paused. Of what an entry's filter lets pass by (PRODUCT §7.2), and of these looks, the first is put out
/// and the rest only counted.
pub(crate) fn record(turn: &mut Turn<'_>, what: What, entry: Entry) {
    let mut trail = stored(turn, what, entry);
    let mut bytes = turn.trail_bytes.unwrap_or_else(|| bytes_of(turn.trail));
    let repeated = take_repeated(turn.trail, &trail);
    bytes -= repeated.as_ref().map_or(0, prost::Message::encoded_len);
    let repeats = repeated.map(|old| times(&old).saturating_add(1));
    let only_counted = repeats.is_some() && (trail.reason == "ENTRY_FILTER" || what == What::Deferred);
    if !only_counted {
        let decision = decision(turn, &trail);
        turn.effects.push(Effect::Decision(Box::new(decision)));
    }
    if let Some(times) = repeats {
        let note = format!("times {times} {}", trail.note);
        note.trim_end().clone_into(&mut trail.note);
    }
    bytes += trail.encoded_len();
    turn.trail.push(trail);
    turn.trail_bytes = Some(limit(turn.trail, bytes));
}

fn stored(turn: &Turn<'_>, what: What, entry: Entry) -> Trail {
    let mut checks = entry.checks;
    checks.truncate(MAX_CHECKS);
    for check in &mut checks {
        check.operands.truncate(MAX_OPERANDS);
        for operand in &mut check.operands {
            // As many characters take at least as many bytes.
            if operand.len() > MAX_OPERAND
                && let Some((end, _)) = operand.char_indices().nth(MAX_OPERAND)
            {
                operand.truncate(end);
                operand.push('…');
            }
        }
    }
    Trail {
        at: turn.now().millis(),
        journey: entry.journey,
        version: entry.version,
        run: entry.run,
        key: entry.key,
        what: what.as_str().to_owned(),
        step: entry.step,
        reason: entry.reason,
        checks,
        offset: turn.cx.position.offset,
        index: turn.cx.position.index,
        cause: turn.cause.to_owned(),
        send: entry.send,
        note: entry.note,
    }
}

/// Takes out the decision that this one repeats, if one stands in the trail.
fn take_repeated(trail: &mut Vec<Trail>, new: &Trail) -> Option<Trail> {
    let same = |old: &Trail| old.what == new.what && old.journey == new.journey && old.reason == new.reason && old.step == new.step;
    let at = if new.what == What::Refused.as_str() {
        trail.iter().rposition(|old| same(old) && old.key == new.key)
    } else if new.what == What::Rearmed.as_str() || (new.what == What::Deferred.as_str() && new.reason == gates::PAUSED) {
        trail.iter().rposition(|old| old.run == new.run).filter(|at| trail.get(*at).is_some_and(same))
    } else {
        None
    };
    Some(trail.remove(at?))
}

/// How often a decision was made that stands in the trail once.
fn times(trail: &Trail) -> u32 {
    trail.note.strip_prefix("times ").and_then(|n| n.split_whitespace().next()?.parse().ok()).unwrap_or(1)
}

/// Lets the oldest of a trail of so many bytes fall; how many are left.
fn limit(trail: &mut Vec<Trail>, mut bytes: usize) -> usize {
    let mut drop = 0;
    while trail.len() - drop > MAX_TRAIL || (bytes > MAX_TRAIL_BYTES && drop + 1 < trail.len()) {
        bytes -= trail[drop].encoded_len();
        drop += 1;
    }
    trail.drain(..drop);
    bytes
}

fn bytes_of(trail: &[Trail]) -> usize {
    trail.iter().map(prost::Message::encoded_len).sum()
}

/// At a merge: both halves' trails as one. Each half keeps its own order, since one fold may decide several things.
pub(crate) fn unite(a: &[Trail], b: &[Trail]) -> Vec<Trail> {
    let (mut a, mut b): (VecDeque<&Trail>, VecDeque<&Trail>) = (a.iter().collect(), b.iter().collect());
    let mut all: Vec<Trail> = Vec::new();
    loop {
        for half in [&mut a, &mut b] {
            while half.front().is_some_and(|t| all.contains(t)) {
                half.pop_front();
            }
        }
        let from_a = match (a.front(), b.front()) {
            (None, None) => break,
            (Some(x), Some(y)) => match (b.contains(x), a.contains(y)) {
                // What both have stands behind what either has before it.
                (true, false) => false,
                (false, true) => true,
                (true, true) | (false, false) => earlier(x, y).is_le(),
            },
            (here, _) => here.is_some(),
        };
        all.extend(if from_a { a.pop_front() } else { b.pop_front() }.cloned());
    }
    let bytes = bytes_of(&all);
    limit(&mut all, bytes);
    all
}

/// In log order, as far as two halves have one; by their bytes where they have none.
fn earlier(x: &Trail, y: &Trail) -> Ordering {
    let place = |t: &Trail| (t.at, t.offset, t.index);
    place(x).cmp(&place(y)).then_with(|| x.encode_to_vec().cmp(&y.encode_to_vec()))
}

fn decision(turn: &Turn<'_>, trail: &Trail) -> Decision {
    let checks = trail.checks.iter().map(|c| Checked {
        what: &c.what,
        truth: match c.truth() {
            Truth::Yes => "yes",
            Truth::No => "no",
            Truth::Unknown | Truth::Unspecified => "unknown",
        },
        operands: &c.operands,
        valid_until: Some(c.valid_until).filter(|until| *until != 0),
    });
    let detail = Detail {
        checks: checks.collect(),
        offset: trail.offset,
        index: trail.index,
        note: Some(trail.note.as_str()).filter(|note| !note.is_empty()),
    };
    Decision {
        workspace: turn.cx.workspace.number(),
        profile: turn.cx.profile.to_string(),
        at: Timestamp::from_millis(trail.at),
        journey: trail.journey.clone(),
        version: trail.version,
        run: RunId::from_slice(&trail.run).map_or_else(|_| String::new(), |id| id.to_string()),
        key: trail.key.clone(),
        what: trail.what.clone(),
        step: trail.step.clone(),
        reason: trail.reason.clone(),
        send: SendId::from_slice(&trail.send).map_or_else(|_| String::new(), |id| id.to_string()),
        cause: trail.cause.clone(),
        // Texts and numbers under fixed names can always be written.
        detail: serde_json::to_string(&detail).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: i64, note: usize) -> Trail {
        Trail { at: n, what: "SENT".to_owned(), note: "x".repeat(note), ..Trail::default() }
    }

    #[test]
    fn the_trail_keeps_the_newest_64_in_8_kib() {
        let mut short: Vec<Trail> = (0..100).map(|n| entry(n, 1)).collect();
        let bytes = bytes_of(&short);
        assert_eq!(limit(&mut short, bytes), bytes_of(&short));
        assert_eq!((short.len(), short.first().map(|t| t.at)), (64, Some(36)));
        let mut long: Vec<Trail> = (0..10).map(|n| entry(n, 2_000)).collect();
        let bytes = bytes_of(&long);
        assert_eq!(limit(&mut long, bytes), bytes_of(&long));
        assert_eq!(long.iter().map(|t| t.at).collect::<Vec<_>>(), [6, 7, 8, 9]);
    }

    #[test]
    fn filtered_events_are_counted_not_listed() {
        let filtered = |at| Trail {
            at,
            what: "REFUSED".to_owned(),
            reason: "ENTRY_FILTER".to_owned(),
            journey: "cart".to_owned(),
            ..Trail::default()
        };
        let mut trail = vec![filtered(1), entry(2, 0)];
        let repeated = |trail: &mut Vec<Trail>, at| take_repeated(trail, &filtered(at)).map(|old| times(&old));
        assert_eq!(repeated(&mut trail, 3), Some(1));
        assert_eq!(trail, [entry(2, 0)]);
        trail.push(Trail { note: "times 2".to_owned(), ..filtered(3) });
        assert_eq!(repeated(&mut trail, 4), Some(2));
        assert_eq!(repeated(&mut trail, 5), None);
    }

    #[test]
    fn trails_of_two_halves_become_one() {
        let (a, b) = ([entry(1, 0), entry(3, 0)], [entry(1, 0), entry(2, 0)]);
        assert_eq!(unite(&a, &b), unite(&b, &a));
        assert_eq!(unite(&a, &b).len(), 3);
    }

    #[test]
    fn decisions_of_one_log_time_keep_their_order_in_a_union() {
        let said = |at: i64, offset: u64, run: u8, what: &str| Trail {
            at,
            offset,
            run: bytes::Bytes::copy_from_slice(&[run; 16]),
            what: what.to_owned(),
            ..Trail::default()
        };
        let words = |trail: &[Trail]| trail.iter().map(|t| format!("{} {}", t.run[0], t.what)).collect::<Vec<_>>().join(", ");
        // Two folds at one instant, and one fold of several decisions.
        let a = [said(5, 1, 1, "ENTERED"), said(5, 2, 1, "EXITED"), said(7, 3, 1, "STOPPED"), said(7, 3, 1, "BRANCHED")];
        let b = [said(5, 2, 2, "WAITING"), said(7, 3, 2, "SENT"), said(7, 3, 2, "GOAL")];
        let both = unite(&a, &b);
        assert_eq!(both, unite(&b, &a), "from either side");
        assert_eq!(words(&both), "1 ENTERED, 1 EXITED, 2 WAITING, 1 STOPPED, 1 BRANCHED, 2 SENT, 2 GOAL");
        assert_eq!(unite(&both, &b), both, "again");
        // One half has lost the beginning of what both know, and has gone on since.
        let since: Vec<Trail> = both[3..].iter().cloned().chain([said(8, 1, 2, "SENT")]).collect();
        assert_eq!(words(&unite(&since, &both)), format!("{}, 2 SENT", words(&both)));
    }
}
