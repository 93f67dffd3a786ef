//! Every rule of the protocol has a switch, and without the rule some world goes wrong (PROTOCOL §16.4).
//!
//! A rule that no world needs is either not needed, or the worlds are too tame to show it: so each switch says which
//! of the two it is, and a test holds it to that.

use waypost_engine::dispatch::Receipts;
use waypost_memory::store::Checks;
use waypost_runtime::Rules;

/// The rules that are on; by default all are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is the switch of one independent rule")]
pub struct Switches {
    /// Of the machines.
    pub rules: Rules,
    /// Of the store.
    pub checks: Checks,
    /// Of identity.
    pub identity: waypost_engine::identity::Rules,
    /// Of the segmenter.
    pub segmenter: waypost_segmenter::Rules,
    /// Of the orchestrator.
    pub orchestrator: waypost_orchestrator::Rules,
    /// Of the sender.
    pub sender: waypost_engine::dispatch::Rules,
    /// What the log has lost after it was acknowledged is put back.
    pub repair: bool,
    /// A record is skipped only where nobody has folded it.
    pub look: bool,
    /// What one producer sends to one partition lands in the order in which it was sent.
    pub order: bool,
    /// A leader record has a frame of its own.
    pub leaders_alone: bool,
    /// In milliseconds: a record that a door appends is said so much later with each place in its frame.
    pub later_by_place: i64,
    /// People have custom identifiers too. No rule: it is off by default, so that seeds keep the worlds they had before there were any.
    pub cards: bool,
    /// Operators hold journeys, and begin and end runs by hand. No rule either, and off for the same reason.
    pub operators: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            checks: Checks::default(),
            identity: waypost_engine::identity::Rules::default(),
            segmenter: waypost_segmenter::Rules::default(),
            orchestrator: waypost_orchestrator::Rules::default(),
            sender: waypost_engine::dispatch::Rules::default(),
            repair: true,
            look: true,
            order: true,
            leaders_alone: true,
            later_by_place: 0,
            cards: false,
            operators: false,
        }
    }
}

/// One rule that can be switched off.
#[derive(Clone, Copy, Debug)]
pub struct Switch {
    /// The rule.
    pub rule: &'static str,
    /// What the worlds say without it.
    pub without: Without,
    /// Switches it off.
    pub off: fn(&mut Switches),
}

/// What the worlds say without a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// Some go wrong.
    Wrong {
        /// The first seed that did when this was written. It drifts with every change of the simulator.
        first: u64,
        /// The verdict of some world contains one of these.
        found: &'static [&'static str],
    },
    /// All stay right; why the rule is there all the same.
    Right(&'static str),
}

/// An output is missing where it was to go, or there is one too many.
const OUTPUTS: &[&str] = &["accepted ≠ put out"];
/// A state is not what its log means.
const FOLD: &[&str] = &["independent fold"];
/// A life has put out under the same numbers what the one before had not.
const OTHERWISE: &[&str] = &["differs from what it had sent", "accepted ≠ put out"];
/// What is stored is not what was committed.
const DIGEST: &[&str] = &["a part of the state is lost"];
/// A state that was older than it ought to be: it is told what contradicts it.
const OLDER: &[&str] = &["PASS_WITHOUT_TOMBSTONE", "ALREADY_MOVED", "GONE_BUT_ALIVE", "BURIED_ALIVE"];
const TWICE: &[&str] = &["provider count"];
const LATER: &[&str] = &["behind a later record"];
const STOP: &[&str] = &["acknowledged stop"];
/// A person's events and state went different ways.
const AHEAD: &[&str] = &["state at fold"];

macro_rules! switches {
    ($($rule:literal: wrong from $first:literal by $found:expr, $off:expr;)* ; $($kept:literal: right because $why:literal, $kept_off:expr;)*) => {
        /// Every switch there is.
        pub const ALL: &[Switch] = &[
            $(Switch { rule: $rule, without: Without::Wrong { first: $first, found: $found }, off: $off },)*
            $(Switch { rule: $kept, without: Without::Right($why), off: $kept_off },)*
        ];
    };
}

switches! {
    "a commit waits for all acknowledgements": wrong from 5 by OUTPUTS, |s| s.rules.commit_behind_acknowledgements = false;
    "acknowledgements count as a contiguous prefix": wrong from 0 by OUTPUTS, |s| s.rules.contiguous_acknowledgements = false;
    "acknowledgements of a discarded producer are void": wrong from 41 by OUTPUTS, |s| s.rules.void_discarded_acknowledgements = false;
    "a write set is frozen with its batch": wrong from 0 by DIGEST, |s| s.rules.frozen_write_sets = false;
    "uncommitted entities stay in memory": wrong from 0 by OLDER, |s| s.rules.keep_uncommitted = false;
    "reads are checked": wrong from 0 by OLDER, |s| (s.checks.read_offset, s.checks.read_token) = (false, false);
    "reads are checked by offset": wrong from 6 by OLDER, |s| s.checks.read_offset = false;
    "commits are checked by offset": wrong from 0 by DIGEST, |s| s.checks.commit_offset = false;
    "`through` waits for acknowledgements": wrong from 18 by STOP, |s| s.rules.through_behind_acknowledgements = false;
    "ticks are in the log": wrong from 0 by FOLD, |s| s.rules.ticks_in_log = false;
    "activations are in the log": wrong from 11 by OTHERWISE, |s| s.rules.activations_in_log = false;
    "a receiver goes back N": wrong from 1 by FOLD, |s| s.rules.go_back_n = false;
    "the tail of an overlapping section is taken": wrong from 0 by FOLD, |s| s.rules.overlapping_tail = false;
    "offsets are dense": wrong from 2 by &["another log: the frame before the committed offset"], |s| s.rules.density_check = false;
    "every claim draws a fresh token": wrong from 8 by TWICE, |s| s.rules.fresh_token = false;
    "attempts are checked against the leader": wrong from 8 by TWICE, |s| s.rules.leader_check = false;
    "own timers go first": wrong from 141 by LATER, |s| s.rules.own_timers_first = false;
    "what one producer sends lands in order": wrong from 17 by OUTPUTS, |s| s.order = false;
    "absent timers wait for the upstream watermark": wrong from 11 by STOP, |s| s.rules.wm_gate = false;
    "what meets a tombstone goes the one road": wrong from 0 by AHEAD, |s| s.segmenter.one_road = false;
    "a route is switched behind a flush": wrong from 83 by AHEAD, |s| s.identity.flush = false;
    "items wait while a flush is under way": wrong from 147 by AHEAD, |s| s.identity.hold = false;
    "a profile drains after a merge": wrong from 1 by STOP, |s| (s.segmenter.drain, s.orchestrator.drain) = (false, false);
    "a doubt waits for the longest call": wrong from 62 by TWICE, |s| s.sender.in_doubt_wait = false;
    "exits are judged again at an import": wrong from 211 by &["a stop the state knew"], |s| s.orchestrator.recheck_at_import = false;
    "receipts go to the node of their profile": wrong from 0 by &["no such node"], |s| s.sender.receipts = Receipts::ToAddress;
    "what was falsely acknowledged is repaired": wrong from 61 by OUTPUTS, |s| s.repair = false;
    "a message id counts once in the window": wrong from 100 by &["comes twice"], |s| s.identity.window = false;
    "lastrec vouches for the log": wrong from 102 by &["unnoticed log-"], |s| s.rules.lastrec_check = false;
    "stored state is compared with its digest": wrong from 120 by &["unnoticed field-lost"], |s| s.rules.digest_check = false;
    "what is read is taken only from whole parts": wrong from 160 by OLDER, |s| s.rules.whole_parts = false;
    "an erased profile never moves": wrong from 29 by &["and ought to be Erased"],
        |s| (s.segmenter.erased_never_moves, s.orchestrator.erased_never_moves) = (false, false);
    "what comes to an erased profile is answered": wrong from 90 by &["is not buried", "is answered"], |s| s.segmenter.answer_erased = false;
    "a deletion stays where write sets become one": wrong from 28 by FOLD, |s| s.rules.coalesced_deletions = false;
    "a panic is caught": wrong from 0 by &["panic"], |s| s.rules.catch_unwind = false;
    "a listed record is set aside in every life": wrong from 8 by &["come to rest"], |s| s.rules.skip_list = false;
    "a record is skipped only where nobody has folded it": wrong from 14 by OTHERWISE, |s| s.look = false;
    ;
    "the run-ahead limit": right because "it bounds memory, and what a crash repeats", |s| s.rules.run_ahead_limit = false;
    "reads are checked by token": right because "the offset says all: a token only tells who asks", |s| s.checks.read_token = false;
    "calls do not wait for the commit": right because "neither waiting nor not is a rule: whether an attempt counts is a function of the log",
        |s| s.rules.calls_ahead_of_commits = false;
    "`through` does not wait for the commit": right because "neither waiting nor not is a rule: it speaks about logs",
        |s| s.rules.through_ahead_of_commits = false;
    "`through` stays behind what is held": right because "who has what a node sent before drains while it holds; it stands for a hold that outlasts the 15 minutes",
        |s| s.rules.held_in_through = false;
    "receipts go by identity": right because "the one road takes them behind their sends too; by their node they go straight",
        |s| s.sender.receipts = Receipts::ToProfile;
    "a producer that failed is thrown away whole": right because "the other destinations' acknowledgements stand on their own",
        |s| s.rules.whole_producer = false;
    "leaders have frames of their own": right because "how records fall into frames is chance", |s| s.leaders_alone = false;
    "a door's records are said earlier by place": right because "how records fall into frames is chance", |s| s.later_by_place = -3;
    "a door's records are said later by place": right because "how records fall into frames is chance", |s| s.later_by_place = 3;
    "nobody has a custom identifier": right because "what people are called is chance", |s| s.cards = true;
    "no operator is at work": right because "what operators do is chance", |s| s.operators = true;
    "the owner's token": right because "the offset guards the state; the token makes duels visible and cheap, and names a commit",
        |s| (s.checks.commit_token, s.checks.read_token) = (false, false);
}

// === impl Switch ===

impl Switch {
    /// All rules but this one.
    pub fn switches(&self) -> Switches {
        let mut switches = Switches::default();
        (self.off)(&mut switches);
        switches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_a_row() {
        let flags = |switches: Switches| format!("{switches:?}").split(", ").map(str::to_owned).collect::<Vec<_>>();
        for (at, on) in flags(Switches::default()).iter().enumerate() {
            assert!(ALL.iter().any(|switch| flags(switch.switches())[at] != *on), "nothing switches off {on}");
        }
    }

    #[test]
    fn every_switch_changes_something_and_is_named_once() {
        for switch in ALL {
            assert_ne!(switch.switches(), Switches::default(), "{}", switch.rule);
            assert_eq!(ALL.iter().filter(|other| other.rule == switch.rule).count(), 1, "{}", switch.rule);
        }
    }
}
