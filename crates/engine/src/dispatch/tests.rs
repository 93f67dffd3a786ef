//! Transitions of a dispatch by a table, and what they tell.

use std::fmt::Write as _;

use bytes::Bytes;
use waypost_codec::inbox::{Feedback, Promise, Suppress};

use super::*;

const VALID: i64 = 3_600_000;
const T0: Timestamp = Timestamp::from_millis(1_000_000);

fn here(now: Timestamp, leader: u64) -> Here {
    Here { now, leader, workspace: WorkspaceId::new(1), rules: Rules::default() }
}

fn dispatch(class: Class) -> Dispatch {
    Dispatch {
        dispatch: Bytes::from_static(&[1; 16]),
        send: Bytes::from_static(&[2; 16]),
        run: Bytes::from_static(&[3; 16]),
        profile: Bytes::from_static(&[4; 31]),
        journey: "cart".to_owned(),
        step: "remind".to_owned(),
        channel: "email".to_owned(),
        address: "ann@shop.example".to_owned(),
        class: class.as_str().to_owned(),
        valid_until: T0.millis() + VALID,
        ..Dispatch::default()
    }
}

fn fresh(class: Class) -> DispatchState {
    let mut state = None;
    assert_eq!(dispatched(&mut state, &dispatch(class), b"key", here(T0, 5)), [Effect::Propose]);
    state.expect("set")
}

fn attempt(number: u32, leader: u64) -> Attempt {
    Attempt { dispatch: Bytes::from_static(&[1; 16]), number, leader, render_hash: Bytes::from_static(b"h"), ..Attempt::default() }
}

fn outcome(number: u32, outcome: Outcome) -> AttemptOutcome {
    AttemptOutcome { dispatch: Bytes::from_static(&[1; 16]), number, outcome: outcome.into(), ..AttemptOutcome::default() }
}

// A dispatch in this phase, at T0, under leader 5; two attempts made where any was.
fn in_phase(phase: Phase, class: Class) -> (DispatchState, AddressState) {
    let (mut state, mut address) = (fresh(class), AddressState::default());
    let at = here(T0, 5);
    if phase == Phase::Ready {
        return (state, address);
    }
    if phase == Phase::Stopped {
        recalled(&mut state, at);
        return (state, address);
    }
    attempted(&mut state, &mut address, &attempt(1, 5), at);
    settled(&mut state, &mut address, &outcome(1, Outcome::Transient), at);
    let retry = here(Timestamp::from_millis(state.due), 5);
    if phase == Phase::Retry {
        return (state, address);
    }
    fired(&mut state, retry);
    attempted(&mut state, &mut address, &attempt(2, 5), retry);
    match phase {
        Phase::Inflight => {}
        Phase::InDoubt => doubt::begin(&mut state, retry),
        Phase::Done => drop(settled(&mut state, &mut address, &outcome(2, Outcome::Accepted), retry)),
        Phase::Failed => drop(settled(&mut state, &mut address, &outcome(2, Outcome::PermanentContent), retry)),
        Phase::Unknown => {
            doubt::begin(&mut state, retry);
            unknown(&mut state, retry);
        }
        Phase::Unspecified | Phase::Ready | Phase::Retry | Phase::Stopped => unreachable!("made above"),
    }
    assert_eq!(state.phase(), phase);
    (state, address)
}

const PHASES: [Phase; 8] =
    [Phase::Ready, Phase::Inflight, Phase::InDoubt, Phase::Retry, Phase::Done, Phase::Failed, Phase::Unknown, Phase::Stopped];

const OUTCOMES: [Outcome; 7] = [
    Outcome::Accepted,
    Outcome::PermanentRecipient,
    Outcome::PermanentContent,
    Outcome::Transient,
    Outcome::Throttled,
    Outcome::Auth,
    Outcome::Unknown,
];

fn word(phase: Phase) -> &'static str {
    phase.as_str_name().trim_start_matches("DISPATCH_PHASE_")
}

fn shown(state: &DispatchState, effects: &[Effect]) -> String {
    let mut text = word(state.phase()).to_owned();
    for effect in effects {
        let words = match effect {
            Effect::Propose => " propose".to_owned(),
            Effect::Call { .. } => " call".to_owned(),
            Effect::Forget => " forget".to_owned(),
            Effect::LookUp => " ask".to_owned(),
            Effect::Tell(told) => format!(" row({})", told.1.name.trim_start_matches("Message ")),
            Effect::Report(report) => format!(" tell({} {})", report.1.name.trim_start_matches("Message "), report.0.reason),
        };
        text.push_str(&words);
    }
    if state.raced {
        text.push_str(" raced");
    }
    text
}

type Step = fn(&mut DispatchState, &mut AddressState, Timestamp) -> Vec<Effect>;

fn inputs() -> Vec<(String, Step)> {
    vec![
        ("dispatch again".to_owned(), |state, _, now| {
            let mut known = Some(state.clone());
            dispatched(&mut known, &dispatch(Class::Marketing), b"key", here(now, 5))
        }),
        ("attempt".to_owned(), |state, address, now| {
            let next = attempt(state.attempt + 1, 5);
            attempted(state, address, &next, here(now, 5))
        }),
        ("attempt, other number".to_owned(), |state, address, now| {
            let wrong = attempt(state.attempt + 2, 5);
            attempted(state, address, &wrong, here(now, 5))
        }),
        ("attempt of an older leader".to_owned(), |state, address, now| {
            let old = attempt(state.attempt + 1, 4);
            attempted(state, address, &old, here(now, 5))
        }),
        ("attempt, refused".to_owned(), |state, address, now| {
            let refused = Attempt { refused: "RENDER_LIMIT".to_owned(), ..attempt(state.attempt + 1, 5) };
            attempted(state, address, &refused, here(now, 5))
        }),
        ("attempt, suppressed".to_owned(), |state, address, now| {
            address::suppress(address, &Suppress { reason: "STOP".to_owned(), ..Suppress::default() }, now);
            let next = attempt(state.attempt + 1, 5);
            attempted(state, address, &next, here(now, 5))
        }),
        ("attempt, duplicate".to_owned(), |state, address, now| {
            let other =
                Dispatch { profile: Bytes::from_static(&[9; 31]), dispatch: Bytes::from_static(&[9; 16]), ..dispatch(Class::Marketing) };
            address::sent(address, &other, now);
            let next = attempt(state.attempt + 1, 5);
            attempted(state, address, &next, here(now, 5))
        }),
        ("attempt, expired".to_owned(), |state, address, _| {
            let next = attempt(state.attempt + 1, 5);
            attempted(state, address, &next, here(T0.plus(Span::from_millis(VALID)), 5))
        }),
        ("recall".to_owned(), |state, _, now| recalled(state, here(now, 5))),
        ("recall, new leader".to_owned(), |state, _, now| recalled(state, here(now, 9))),
        ("timer".to_owned(), |state, _, _| {
            let due = Timestamp::from_millis(state.due);
            fired(state, here(due, 5))
        }),
        ("timer, new leader".to_owned(), |state, _, _| {
            let due = Timestamp::from_millis(state.due);
            fired(state, here(due, 9))
        }),
        ("timer, too early".to_owned(), |state, _, _| {
            let early = Timestamp::from_millis(state.due - 1);
            fired(state, here(early, 5))
        }),
    ]
}

// Every phase with every input, written down: whoever changes a transition changes this table.
#[test]
fn the_table_is_closed() {
    let mut found = String::new();
    for phase in PHASES {
        for (input, step) in inputs() {
            let (mut state, mut address) = in_phase(phase, Class::Marketing);
            let now = Timestamp::from_millis(state.now);
            let effects = step(&mut state, &mut address, now);
            writeln!(found, "{} · {input} → {}", word(phase), shown(&state, &effects)).expect("to a string");
        }
        for class in [Class::Marketing, Class::Transactional] {
            for of in OUTCOMES {
                for earlier in [false, true] {
                    let (mut state, mut address) = in_phase(phase, class);
                    let now = Timestamp::from_millis(state.now);
                    let number = state.attempt.saturating_sub(u32::from(earlier));
                    let effects = settled(&mut state, &mut address, &outcome(number, of), here(now, 5));
                    let after = shown(&state, &effects);
                    // What changes nothing is left out; the lines that are there are all there are.
                    if after != word(phase) {
                        let (of, earlier) = (of.as_str_name().trim_start_matches("OUTCOME_"), if earlier { ", earlier" } else { "" });
                        writeln!(found, "{} · {of}{earlier}, {} → {after}", word(phase), class.as_str()).expect("to a string");
                    }
                }
            }
        }
    }
    let expected = include_str!("table.txt");
    assert_eq!(found, expected, "\n{found}");
}

#[test]
fn a_transactional_doubt_ends_in_one_more_attempt() {
    let (mut state, mut address) = in_phase(Phase::Inflight, Class::Transactional);
    let at = Timestamp::from_millis(state.due);
    assert_eq!(fired(&mut state, here(at, 9)), []);
    assert_eq!((state.phase(), state.due), (Phase::InDoubt, at.plus(Span::from_secs(845)).millis()));
    let at = Timestamp::from_millis(state.due);
    assert_eq!(fired(&mut state, here(at, 9)), [Effect::Propose]);
    assert!(matches!(attempted(&mut state, &mut address, &attempt(3, 9), here(at, 9))[..], [Effect::Call { .. }]));
    assert_eq!((state.phase(), state.attempt, state.leader), (Phase::Inflight, 3, 9));
}

#[test]
fn a_marketing_doubt_does_not_wait_for_long_calls() {
    for (class, seconds) in [(Class::Marketing, 35), (Class::Transactional, 845)] {
        let (mut state, _) = in_phase(Phase::Inflight, class);
        let at = Timestamp::from_millis(state.due);
        fired(&mut state, here(at, 9));
        assert_eq!(state.due, at.plus(Span::from_secs(seconds)).millis());
    }
}

#[test]
fn the_answer_of_a_killed_life_settles_the_doubt() {
    let (mut state, mut address) = in_phase(Phase::Inflight, Class::Transactional);
    let at = Timestamp::from_millis(state.due);
    fired(&mut state, here(at, 9));
    let effects = settled(&mut state, &mut address, &outcome(2, Outcome::Accepted), here(at, 9));
    assert_eq!(shown(&state, &effects), "DONE tell(Accepted )");
}

#[test]
fn a_doubt_that_was_called_back_or_outlived_is_unknown_not_stopped() {
    for recall in [false, true] {
        let (mut state, _) = in_phase(Phase::InDoubt, Class::Transactional);
        let due = Timestamp::from_millis(state.due);
        let effects = if recall {
            recalled(&mut state, here(due, 5));
            fired(&mut state, here(due, 5))
        } else {
            fired(&mut state, here(T0.plus(Span::from_millis(VALID)), 5))
        };
        assert!(shown(&state, &effects).starts_with("UNKNOWN tell(Unknown OUTCOME_UNKNOWN)"), "{recall}");
    }
}

// Attempt 2 in doubt, and attempt 3 under way.
fn after_a_doubt() -> (DispatchState, AddressState, Timestamp) {
    let (mut state, mut address) = in_phase(Phase::InDoubt, Class::Transactional);
    let now = Timestamp::from_millis(state.due);
    assert_eq!(fired(&mut state, here(now, 5)), [Effect::Propose]);
    attempted(&mut state, &mut address, &attempt(3, 5), here(now, 5));
    assert_eq!(state.phase(), Phase::Inflight);
    (state, address, now)
}

#[test]
fn what_comes_of_a_later_attempt_does_not_answer_for_an_earlier_one() {
    for of in OUTCOMES {
        let (mut state, mut address, now) = after_a_doubt();
        let mut effects = settled(&mut state, &mut address, &outcome(3, of), here(now, 5));
        if state.phase() == Phase::Retry {
            // It is tried again and recalled, or outlived.
            effects = if of == Outcome::Auth {
                fired(&mut state, here(T0.plus(Span::from_millis(VALID)), 5))
            } else {
                recalled(&mut state, here(now, 5))
            };
        } else if state.phase() == Phase::InDoubt {
            effects = fired(&mut state, here(T0.plus(Span::from_millis(VALID)), 5));
        }
        let expected = if of == Outcome::Accepted { "DONE tell(Accepted )" } else { "UNKNOWN tell(Unknown OUTCOME_UNKNOWN)" };
        assert!(shown(&state, &effects).starts_with(expected), "{of:?}: {}", shown(&state, &effects));
        assert!(!address::is_empty(&address), "{of:?}: it may have been reached");
    }
}

#[test]
fn an_unknown_end_is_set_right_when_every_attempt_is_answered_for() {
    let (mut state, mut address, now) = after_a_doubt();
    settled(&mut state, &mut address, &outcome(3, Outcome::PermanentContent), here(now, 5));
    let (mut late, mut there) = (state.clone(), address.clone());
    let effects = settled(&mut late, &mut there, &outcome(2, Outcome::Accepted), here(now, 5));
    assert_eq!(shown(&late, &effects), "DONE tell(Accepted )");
    let effects = settled(&mut state, &mut address, &outcome(3, Outcome::Transient), here(now, 5));
    assert_eq!(shown(&state, &effects), "UNKNOWN", "attempt 3 has had its answer");
    let effects = settled(&mut state, &mut address, &outcome(2, Outcome::Transient), here(now, 5));
    assert_eq!(shown(&state, &effects), "FAILED tell(Failed PROVIDER_UNAVAILABLE)");
    assert!(address::is_empty(&address));
}

#[test]
fn an_answer_for_the_doubted_attempt_takes_the_doubt_away() {
    let (mut state, mut address, now) = after_a_doubt();
    settled(&mut state, &mut address, &outcome(2, Outcome::Transient), here(now, 5));
    let effects = settled(&mut state, &mut address, &outcome(3, Outcome::PermanentContent), here(now, 5));
    assert_eq!(shown(&state, &effects), "FAILED tell(Failed PROVIDER_CONTENT)");
}

#[test]
fn a_recall_that_overtakes_its_dispatch_ends_it() {
    let mut state = Some(recalled_unknown(here(T0, 5)));
    let now = T0.plus(Span::from_secs(9));
    let effects = dispatched(&mut state, &dispatch(Class::Marketing), b"key", here(now, 5));
    let ended = state.clone().expect("set");
    assert_eq!(shown(&ended, &effects), "STOPPED tell(Failed RECALLED)");
    assert_eq!(ended.due, now.plus(LEDGER).millis());
    assert_eq!(dispatched(&mut state, &dispatch(Class::Marketing), b"key", here(now, 5)), [], "told once");
    let mut alone = recalled_unknown(here(T0, 5));
    assert_eq!(recalled(&mut alone, here(now, 5)), []);
    assert_eq!(fired(&mut alone, here(T0.plus(LEDGER), 5)), [Effect::Forget]);
}

#[test]
fn retries_back_off_and_end_with_validity() {
    let (mut state, mut address) = (fresh(Class::Marketing), AddressState::default());
    let (mut now, mut waits) = (T0, Vec::new());
    loop {
        let number = state.attempt + 1;
        attempted(&mut state, &mut address, &attempt(number, 5), here(now, 5));
        let effects = settled(&mut state, &mut address, &outcome(number, Outcome::Throttled), here(now, 5));
        if state.phase() == Phase::Failed {
            assert_eq!(shown(&state, &effects), "FAILED tell(Failed PROVIDER_UNAVAILABLE)");
            break;
        }
        waits.push((state.due - now.millis()) / 1_000);
        now = Timestamp::from_millis(state.due);
        fired(&mut state, here(now, 5));
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 960]);
    assert!(address::is_empty(&address), "nothing reached it");
}

#[test]
fn a_provider_may_ask_for_a_longer_pause() {
    let (mut state, mut address) = (fresh(Class::Marketing), AddressState::default());
    attempted(&mut state, &mut address, &attempt(1, 5), here(T0, 5));
    let asked = AttemptOutcome { retry_at: T0.millis() + 600_000, ..outcome(1, Outcome::Throttled) };
    settled(&mut state, &mut address, &asked, here(T0, 5));
    assert_eq!(state.due, T0.millis() + 600_000);
}

#[test]
fn a_lost_proposal_is_made_again_ever_more_slowly() {
    let mut state = fresh(Class::Marketing);
    let mut waits = Vec::new();
    let mut before = T0.millis();
    for _ in 0..8 {
        waits.push((state.due - before) / 1_000);
        before = state.due;
        assert_eq!(fired(&mut state, here(Timestamp::from_millis(before), 5)), [Effect::Propose]);
    }
    assert_eq!(waits, [5, 5, 5, 7, 11, 16, 25, 37]);
}

#[test]
fn what_is_final_is_kept_without_personal_data_and_then_forgotten() {
    for (phase, kept) in [(Phase::Done, false), (Phase::Unknown, true)] {
        let (mut state, _) = in_phase(phase, Class::Marketing);
        assert_eq!(state.dispatch.is_some(), kept);
        assert!(state.dispatch.iter().all(|d| d.address.is_empty() && d.variables.is_none()));
        let due = T0.plus(LEDGER);
        assert_eq!(state.due, due.millis());
        assert_eq!(fired(&mut state, here(due, 5)), [Effect::Forget]);
    }
}

#[test]
fn a_hard_bounce_suppresses_the_address() {
    let (mut state, mut address) = in_phase(Phase::Inflight, Class::Marketing);
    let now = Timestamp::from_millis(state.now);
    settled(&mut state, &mut address, &outcome(2, Outcome::PermanentRecipient), here(now, 5));
    assert_eq!(address::refusal(&address, &dispatch(Class::Transactional), now).as_deref(), Some("SUPPRESSED_HARD_BOUNCE"));
}

#[test]
fn receipts_and_rows_name_the_send() {
    let (mut state, mut address) = in_phase(Phase::Inflight, Class::Marketing);
    recalled(&mut state, here(T0, 5));
    let accepted = AttemptOutcome { provider_id: "id-1".to_owned(), ..outcome(2, Outcome::Accepted) };
    let now = Timestamp::from_millis(state.now);
    let effects = settled(&mut state, &mut address, &accepted, here(now, 5));
    let [Effect::Report(report)] = &effects[..] else { panic!("{effects:?}") };
    let (receipt, row) = &**report;
    assert_eq!((receipt.outcome(), receipt.attempt, receipt.reason.as_str()), (Outcome::Accepted, 2, "RACED"));
    assert_eq!(
        (row.name.as_str(), row.provider_id.as_str(), row.detail.as_str()),
        ("Message Accepted", "id-1", r#"{"outcome":"accepted","raced":true}"#)
    );
    assert_eq!(row.profile, format!("prf_{}", "04".repeat(31)));
}

const HOUR: Span = Span::from_hours(1);

fn promised(number: u32, leader: u64, key_window: Span, lookup: bool) -> Attempt {
    let promise = Promise { key_window: key_window.millis(), lookup, longest_call: 30_000, way: Bytes::from_static(b"here") };
    Attempt { promise: Some(promise), ..attempt(number, leader) }
}

// One attempt under leader 5 at T0, and its leader gone a second later.
fn doubted(class: Class, key_window: Span, lookup: bool) -> (DispatchState, AddressState, Timestamp) {
    let (mut state, mut address) = (fresh(class), AddressState::default());
    attempted(&mut state, &mut address, &promised(1, 5, key_window, lookup), here(T0, 5));
    let now = T0.plus(Span::from_secs(1));
    assert_eq!(settled(&mut state, &mut address, &outcome(7, Outcome::Accepted), here(now, 9)), []);
    assert_eq!(state.phase(), Phase::InDoubt);
    (state, address, now)
}

#[test]
fn a_doubt_ends_as_its_provider_promised() {
    // Class, key window, look-up, when the timer fires after T0; what then.
    for (class, window, lookup, at, expected) in [
        (Class::Marketing, HOUR, false, 36, "READY propose"),
        (Class::Marketing, HOUR, true, 36, "READY propose"),
        (Class::Transactional, HOUR, false, 36, "READY propose"),
        (Class::Marketing, Span::ZERO, true, 36, "IN_DOUBT ask"),
        (Class::Transactional, Span::ZERO, true, 36, "IN_DOUBT ask"),
        (Class::Marketing, Span::ZERO, false, 36, "UNKNOWN tell(Unknown OUTCOME_UNKNOWN)"),
        (Class::Transactional, Span::ZERO, false, 36, "READY propose"),
        // An outage longer than the window, one minute of it kept back: as its class without key.
        (Class::Marketing, Span::from_secs(600), false, 539, "READY propose"),
        (Class::Marketing, Span::from_secs(600), false, 540, "UNKNOWN tell(Unknown OUTCOME_UNKNOWN)"),
        (Class::Marketing, Span::from_secs(600), true, 540, "IN_DOUBT ask"),
        (Class::Transactional, Span::from_secs(600), false, 540, "READY propose"),
        (Class::Marketing, KEY_MARGIN, false, 36, "UNKNOWN tell(Unknown OUTCOME_UNKNOWN)"),
    ] {
        let (mut state, _, _) = doubted(class, window, lookup);
        assert_eq!(state.due, T0.plus(Span::from_secs(36)).millis(), "the promised longest call, and five seconds");
        let effects = fired(&mut state, here(T0.plus(Span::from_secs(at)), 9));
        assert_eq!(shown(&state, &effects), expected, "{class:?} {window:?} {lookup} {at}");
    }
}

#[test]
fn a_silent_provider_is_asked_again_under_its_key() {
    for (window, lookup, class, expected) in [
        (HOUR, false, Class::Marketing, "READY propose"),
        (Span::ZERO, true, Class::Marketing, "IN_DOUBT ask"),
        (Span::ZERO, false, Class::Transactional, "READY propose"),
    ] {
        let (mut state, mut address) = (fresh(class), AddressState::default());
        attempted(&mut state, &mut address, &promised(1, 5, window, lookup), here(T0, 5));
        let effects = settled(&mut state, &mut address, &outcome(1, Outcome::Unknown), here(T0, 5));
        assert_eq!(shown(&state, &effects), "IN_DOUBT");
        let due = Timestamp::from_millis(state.due);
        assert_eq!(due, T0.plus(Span::from_secs(30)));
        let effects = fired(&mut state, here(due, 5));
        assert_eq!(shown(&state, &effects), expected);
    }
}

#[test]
fn a_key_counts_only_where_and_as_long_as_it_is_known() {
    let other = Promise { key_window: HOUR.millis(), way: Bytes::from_static(b"there"), ..Promise::default() };
    let late = T0.plus(Span::from_secs(540));
    for (class, attempt, at, expected) in [
        (Class::Marketing, promised(2, 9, HOUR, false), T0.plus(Span::from_secs(40)), "INFLIGHT call"),
        // It was on its way while the window went over.
        (Class::Marketing, promised(2, 9, HOUR, false), late, "UNKNOWN tell(Unknown OUTCOME_UNKNOWN)"),
        (Class::Transactional, promised(2, 9, HOUR, false), late, "INFLIGHT call"),
        // The channel was given to another provider.
        (
            Class::Marketing,
            Attempt { promise: Some(other.clone()), ..attempt(2, 9) },
            T0.plus(Span::from_secs(40)),
            "UNKNOWN tell(Unknown OUTCOME_UNKNOWN)",
        ),
        (Class::Marketing, attempt(2, 9), T0.plus(Span::from_secs(40)), "UNKNOWN tell(Unknown OUTCOME_UNKNOWN)"),
        (Class::Transactional, Attempt { promise: Some(other), ..attempt(2, 9) }, T0.plus(Span::from_secs(40)), "INFLIGHT call"),
    ] {
        let (mut state, mut address, _) = doubted(class, Span::from_secs(600), false);
        assert_eq!(fired(&mut state, here(T0.plus(Span::from_secs(36)), 9)), [Effect::Propose]);
        let effects = attempted(&mut state, &mut address, &attempt, here(at, 9));
        assert_eq!(shown(&state, &effects), expected);
        if let [Effect::Call { until, .. }] = &effects[..] {
            assert_eq!(*until, (class == Class::Marketing).then_some(late), "and the call itself watches the clock");
        }
    }
}

#[test]
fn a_look_up_settles_every_attempt_or_gives_up() {
    let (mut state, mut address, _) = doubted(Class::Marketing, Span::ZERO, true);
    let mut waits = Vec::new();
    loop {
        let now = Timestamp::from_millis(state.due);
        let effects = fired(&mut state, here(now, 9));
        if effects != [Effect::LookUp] {
            assert_eq!(shown(&state, &effects), "UNKNOWN tell(Unknown OUTCOME_UNKNOWN)");
            break;
        }
        waits.push((state.due - now.millis()) / 1_000);
    }
    assert_eq!(waits, [20, 40, 80, 160, 320]);

    // Not taken: it is tried again. Taken: it is done.
    for (of, expected) in [(Outcome::Transient, "RETRY"), (Outcome::Accepted, "DONE tell(Accepted )")] {
        let (mut state, mut address, _) = doubted(Class::Marketing, Span::ZERO, true);
        let now = Timestamp::from_millis(state.due);
        assert_eq!(fired(&mut state, here(now, 9)), [Effect::LookUp]);
        let effects = settled(&mut state, &mut address, &outcome(1, of), here(now, 9));
        assert_eq!(shown(&state, &effects), expected);
        assert!(state.unanswered.is_empty() && state.doubted.is_none());
    }

    // Two attempts in doubt; the earlier one's answer alone leaves the doubt, and the later one's ends it.
    state = fresh(Class::Transactional);
    attempted(&mut state, &mut address, &promised(1, 5, HOUR, true), here(T0, 5));
    settled(&mut state, &mut address, &outcome(1, Outcome::Unknown), here(T0, 5));
    let now = Timestamp::from_millis(state.due);
    fired(&mut state, here(now, 5));
    attempted(&mut state, &mut address, &promised(2, 5, HOUR, true), here(now, 5));
    settled(&mut state, &mut address, &outcome(2, Outcome::Transient), here(now, 5));
    assert_eq!((state.phase(), &state.unanswered[..]), (Phase::Retry, &[1][..]));
    recalled(&mut state, here(now, 5));
    assert_eq!(state.phase(), Phase::InDoubt, "called back: it is not sent again, but somebody knows");
    let effects = settled(&mut state, &mut address, &outcome(1, Outcome::Transient), here(now, 5));
    assert_eq!(shown(&state, &effects), "STOPPED tell(Failed RECALLED) raced");
}

#[test]
fn what_a_former_leader_did_not_begin_says_nothing_of_its_successors_call() {
    let (mut state, mut address) = (fresh(Class::Marketing), AddressState::default());
    attempted(&mut state, &mut address, &attempt(1, 9), here(T0, 9));
    let not_begun = |leader| AttemptOutcome { leader, ..outcome(1, Outcome::Transient) };
    assert_eq!(settled(&mut state, &mut address, &not_begun(5), here(T0, 9)), []);
    assert_eq!(state.phase(), Phase::Inflight);
    settled(&mut state, &mut address, &not_begun(9), here(T0, 11));
    assert_eq!(state.phase(), Phase::Retry, "of its own attempt it is an answer, whoever leads by now");
}

#[test]
fn what_is_not_begun_before_it_is_in_the_log_never_begins() {
    for (leader, calls) in [(9, false), (7, true)] {
        let (mut state, mut address) = (fresh(Class::Marketing), AddressState::default());
        let given_back = AttemptOutcome { leader, reason: NOT_BEGUN.to_owned(), ..outcome(1, Outcome::Transient) };
        settled(&mut state, &mut address, &given_back, here(T0, 9));
        let effects = attempted(&mut state, &mut address, &attempt(1, 9), here(T0, 9));
        let called = effects.iter().any(|effect| matches!(effect, Effect::Call { .. }));
        assert_eq!((called, state.phase() == Phase::Inflight), (calls, calls), "said under leader {leader}");
        assert!(state.unanswered.is_empty());
    }
}

#[test]
fn without_the_wait_a_doubt_ends_at_once() {
    let (mut state, mut address) = (fresh(Class::Transactional), AddressState::default());
    attempted(&mut state, &mut address, &attempt(1, 5), here(T0, 5));
    let hasty = Here { rules: Rules { in_doubt_wait: false, ..Rules::default() }, ..here(T0, 9) };
    settled(&mut state, &mut address, &outcome(7, Outcome::Accepted), hasty);
    assert_eq!((state.phase(), state.due), (Phase::InDoubt, T0.millis()));
}

fn said(what: &str) -> Feedback {
    let (dispatch, profile) = (Bytes::from_static(&[1; 16]), Bytes::from_static(&[4; 31]));
    Feedback { dispatch, what: what.to_owned(), profile, channel: "email".to_owned(), ..Feedback::default() }
}

#[test]
fn feedback_settles_what_is_open_and_corrects_what_was_unknown() {
    for (phase, what, expected) in [
        (Phase::Ready, "delivered", "READY"),
        (Phase::Inflight, "delivered", "DONE tell(Accepted ) row(Delivered)"),
        (Phase::InDoubt, "opened", "DONE tell(Accepted ) row(Opened)"),
        (Phase::Retry, "delivered", "DONE tell(Accepted ) row(Delivered)"),
        (Phase::Unknown, "delivered", "DONE tell(Accepted ) row(Delivered)"),
        (Phase::Unknown, "complained", "DONE tell(Accepted ) row(Complained)"),
        (Phase::Unknown, "bounced", "FAILED tell(Bounced PROVIDER_RECIPIENT) row(Bounced)"),
        (Phase::InDoubt, "bounced", "FAILED tell(Bounced PROVIDER_RECIPIENT) row(Bounced)"),
        (Phase::Done, "delivered", "DONE row(Delivered)"),
        (Phase::Done, "bounced", "DONE row(Bounced)"),
        (Phase::Failed, "bounced", "FAILED row(Bounced)"),
        (Phase::Stopped, "delivered", "STOPPED"),
        (Phase::Done, "sang", "DONE"),
    ] {
        let (mut state, mut address) = in_phase(phase, Class::Marketing);
        let now = Timestamp::from_millis(state.now);
        let effects = heard(Some(&mut state), &mut address, &said(what), here(now, 5));
        assert_eq!(shown(&state, &effects), expected, "{phase:?} {what}");
        assert_eq!(heard(Some(&mut state), &mut address, &said(what), here(now, 5)), [], "it comes twice");
    }
}

#[test]
fn feedback_rises_and_a_bounce_sticks() {
    let (mut state, mut address) = in_phase(Phase::Done, Class::Marketing);
    let now = Timestamp::from_millis(state.now);
    let mut rows = |words: &[&str]| -> Vec<String> {
        let told = words.iter().flat_map(|what| heard(Some(&mut state), &mut address, &said(what), here(now, 5)));
        told.map(|effect| match effect {
            Effect::Tell(told) => told.1.spec_name,
            other @ (Effect::Propose | Effect::Call { .. } | Effect::LookUp | Effect::Report(_) | Effect::Forget) => panic!("{other:?}"),
        })
        .collect()
    };
    assert_eq!(rows(&["opened", "delivered", "opened", "bounced", "opened", "delivered"]), ["Email Opened", "Email Bounced"]);
    assert_eq!(address::refusal(&address, &dispatch(Class::Transactional), now).as_deref(), Some("SUPPRESSED_HARD_BOUNCE"));
}

#[test]
fn feedback_about_a_forgotten_dispatch_still_reaches_its_address() {
    for (what, class, expected) in [
        ("bounced", Class::Transactional, Some("SUPPRESSED_HARD_BOUNCE")),
        ("complained", Class::Marketing, Some("SUPPRESSED_COMPLAINT")),
        ("complained", Class::Transactional, None),
        ("delivered", Class::Marketing, None),
    ] {
        let mut address = AddressState::default();
        assert_eq!(heard(None, &mut address, &said(what), here(T0, 5)), []);
        assert_eq!(address::refusal(&address, &dispatch(class), T0).as_deref(), expected, "{what}");
    }
}
