//! Each kind of wrong, seeded into an otherwise right story, is found, and nothing else is.

use waypost_types::{IdentifierClass, Timestamp};

use super::*;
use crate::chaos::people::Name;

/// One cart of one person: everything there is about it.
#[derive(Clone)]
struct Story {
    person: Person,
    decisions: Vec<Decision>,
    messages: Vec<Message>,
    mails: Vec<Mail>,
    faults: Vec<Fault>,
    doubts: BTreeMap<String, Doubts>,
}

fn said(what: What, at: i64) -> Said {
    let names: Vec<Name> = vec![(IdentifierClass::UserId, "u0".to_owned())];
    Said { what, names, first_tried: at, acknowledged: Some(at + 5), tries: 1 }
}

fn decision(what: &str, step: &str, at: i64) -> Decision {
    let send = if what == "SENT" { format!("send-{step}") } else { String::new() };
    Decision {
        journey: "cart-recovery".into(),
        key: "k0".into(),
        profile: "root".into(),
        what: what.into(),
        step: step.into(),
        at: Timestamp::from_millis(at),
        send,
        ..Decision::default()
    }
}

fn message(name: &str, step: &str, at: i64) -> Message {
    Message { name: name.into(), send: format!("send-{step}"), at: Timestamp::from_millis(at), ..Message::default() }
}

fn mail(subject: &str, at: i64) -> Mail {
    Mail { at, to: "u0@mail.example".into(), subject: subject.into(), unsubscribe: String::new(), told: Told::Accepted }
}

/// A cart left alone, reminded of twice.
fn left_alone() -> Story {
    let person = Person { number: 0, plot: "cart", said: vec![said(What::Touched("k0".into()), 1_000)], done: true, refused: None };
    let decisions = [("ENTERED", "", 1_001), ("SENT", "remind", 7_001), ("SENT", "again", 15_001), ("EXITED", "", 15_001)];
    Story {
        person,
        decisions: decisions.map(|(what, step, at)| decision(what, step, at)).into(),
        messages: vec![message("Message Accepted", "remind", 7_100), message("Message Accepted", "again", 15_100)],
        mails: vec![mail("remind k0", 7_050), mail("again k0", 15_050)],
        faults: Vec::new(),
        doubts: BTreeMap::new(),
    }
}

fn verdict(story: &Story) -> (Vec<Wrong>, Verdict) {
    let mut verdict = Verdict::default();
    Journeys::of(&story.decisions, &story.messages, &story.mails, (&story.faults, &story.doubts)).judge(
        &mut verdict,
        &story.person,
        Some("root"),
    );
    (verdict.findings.iter().map(|f| f.wrong).collect(), verdict)
}

fn wrongs(change: impl FnOnce(&mut Story)) -> Vec<Wrong> {
    let mut story = left_alone();
    change(&mut story);
    verdict(&story).0
}

#[test]
fn a_right_story_has_nothing_wrong() {
    assert_eq!(wrongs(|_| {}), []);
}

#[test]
fn what_is_missing_is_lost() {
    assert_eq!(
        wrongs(|s| drop(s.decisions.remove(1))),
        [Wrong::Unexplained, Wrong::Lost],
        "a mail that nobody decided, a send that is not there"
    );
    assert_eq!(wrongs(|s| drop(s.messages.remove(1))), [Wrong::Lost]);
    assert_eq!(wrongs(|s| drop(s.mails.remove(1))), [Wrong::Lost], "reported accepted");
    assert_eq!(wrongs(|s| drop(s.decisions.pop())), [Wrong::Lost], "a run that never ends");
    assert_eq!(wrongs(|s| s.decisions.clear()).iter().filter(|w| **w == Wrong::Lost).count(), 4);
}

#[test]
fn twice_is_doubled() {
    assert_eq!(wrongs(|s| s.mails.push(mail("remind k0", 7_090))), [Wrong::Doubled]);
    assert_eq!(wrongs(|s| s.decisions.insert(2, decision("SENT", "remind", 7_002))), [Wrong::Doubled]);
    assert_eq!(wrongs(|s| s.decisions.insert(0, decision("ENTERED", "", 1_000))), [Wrong::Doubled]);
}

#[test]
fn before_its_time_is_early() {
    assert_eq!(wrongs(|s| s.mails[0].at = 6_990), [Wrong::Early]);
    // the touch at 3 s was acknowledged well before the reminder of the first was due
    assert_eq!(wrongs(|s| s.person.said.push(said(What::Touched("k0".into()), 3_000)))[..2], [Wrong::Early, Wrong::Early]);
    // one that may have come behind the first reminder moves the second for certain no more than the first (chaos, seed 12)
    let late = |s: &mut Story| s.person.said.push(Said { acknowledged: Some(8_000), ..said(What::Touched("k0".into()), 3_000) });
    assert_eq!(wrongs(late), []);
    let and_bought = |s: &mut Story| s.person.said.push(said(What::Ordered("o0".into()), 15_100));
    assert_eq!(wrongs(|s| (late(s), and_bought(s)).0), []);
    // one that came too late to be in time moves nothing for certain
    assert_eq!(wrongs(|s| s.person.said.push(said(What::Touched("k0".into()), 14_000))), []);
}

#[test]
fn a_stop_in_time_prevents_and_a_late_one_may() {
    let order = |at| move |s: &mut Story| s.person.said.push(said(What::Ordered("o".into()), at));
    assert_eq!(wrongs(order(4_000)), [Wrong::AfterStop, Wrong::AfterStop]);
    assert_eq!(wrongs(order(6_000)), [Wrong::AfterStop], "too late for the first, in time for the second");
    assert_eq!(wrongs(order(14_500)), []);
    assert_eq!(wrongs(|s| s.decisions[3].at = Timestamp::from_millis(9_000)), [Wrong::AfterStop], "sent after it had ended");
}

#[test]
fn a_stop_excuses_what_was_not_sent_only_if_it_can_have_been_there_before() {
    let unsent = |what: What, at: i64, fault: Option<(&str, i64, i64)>| {
        wrongs(|s| {
            s.decisions.remove(2);
            s.messages.pop();
            s.mails.pop();
            s.person.said.push(said(what, at));
            let fault = fault.map(|(target, from, until)| Fault { number: 1, kind: "kill", target: target.to_owned(), from, until });
            s.faults.extend(fault);
        })
    };
    // acknowledged at 1,005, due 14 s later, and two of slack
    for what in [What::Ordered("o".into()), What::OptedOut, What::Pressed] {
        assert_eq!(unsent(what.clone(), 17_005, None), []);
        assert_eq!(unsent(what, 17_006, None), [Wrong::Lost]);
    }
    let pressed = |target, from, until| unsent(What::Pressed, 25_000, Some((target, from, until)));
    assert_eq!(pressed("orchestrator-1", 14_000, 16_000), [], "the decision was held up that long");
    assert_eq!(pressed("sender-1", 14_000, 16_000), [Wrong::Lost], "it is not the one who decides");
    assert_eq!(pressed("orchestrator-1", 2_500, 9_000), [Wrong::Lost], "the successor had caught up when the stop came");
    assert_eq!(pressed("orchestrator-1", 17_006, 0), [Wrong::Lost], "afterwards");
}

#[test]
fn a_stop_excuses_a_step_that_waited_for_the_outcome_of_the_one_before() {
    let late = |kind: Option<&'static str>| {
        wrongs(|s| {
            s.decisions[2] = decision("RECEIPT", "remind", 25_000);
            s.messages.pop();
            s.mails.pop();
            s.person.said.push(said(What::Pressed, 24_900));
            s.faults.extend(kind.map(|kind| Fault { number: 1, kind, target: String::new(), from: 6_000, until: 12_000 }));
        })
    };
    assert_eq!(late(Some("smtp-mute")), [], "chaos, seed 12");
    assert_eq!(late(Some("http-mute")), [Wrong::Lost], "of another provider");
    assert_eq!(late(None), [Wrong::Lost]);
}

#[test]
fn an_unknown_outcome_needs_a_fault_that_can_have_caused_it() {
    let unknown = |s: &mut Story| s.messages[0] = message("Message Unknown", "remind", 8_000);
    assert_eq!(wrongs(unknown), [Wrong::Unexplained]);
    let fault = |kind, target: &str, from, until| Fault { number: 1, kind, target: target.to_owned(), from, until };
    let with = |fault: Fault| {
        let mut story = left_alone();
        unknown(&mut story);
        story.faults.push(fault);
        verdict(&story)
    };
    let (wrong, verdict) = with(fault("kill", "sender-1", 7_000, 7_500));
    assert_eq!((wrong, verdict.unknown), (Vec::new(), vec![Unknown { message: "remind k0".into(), since: 7_001, fault: ("kill", 1) }]));
    assert_eq!(with(fault("kill", "identity-1", 7_000, 7_500)).0, [Wrong::Unexplained], "of somebody who calls nobody");
    assert_eq!(with(fault("smtp-dies", "", 9_000, 9_500)).0, [Wrong::Unexplained], "afterwards");
    assert_eq!(with(fault("http-dies", "", 7_000, 7_500)).0, [Wrong::Unexplained], "of another provider");
}

#[test]
fn of_several_faults_the_one_that_was_there_first_is_the_cause() {
    let mut story = left_alone();
    story.messages[0] = message("Message Unknown", "remind", 60_000);
    story.doubts.insert("remind k0".into(), Doubts { followed: 0, since: Some(Timestamp::from_millis(7_010)) });
    let fault = |number, kind, target: &str, from, until| Fault { number, kind, target: target.to_owned(), from, until };
    story.faults = vec![fault(1, "smtp-mute", "", 12_000, 15_000), fault(2, "kill", "sender-1", 7_020, 9_000)];
    assert_eq!(verdict(&story).1.unknown[0].fault, ("kill", 2));
    story.faults = vec![fault(1, "kill", "sender-1", 2_000, 8_000), fault(2, "smtp-mute", "", 6_000, 9_000)];
    assert_eq!(verdict(&story).1.unknown[0].fault, ("smtp-mute", 2));
    story.faults = vec![fault(1, "redis-failover", "", 6_000, 9_000), fault(2, "smtp-mute", "", 7_100, 9_000)];
    assert_eq!(verdict(&story).1.unknown[0].fault, ("smtp-mute", 2));
    story.faults = vec![fault(1, "kill", "sender-1", 20_000, 28_000)];
    assert_eq!(verdict(&story).0, [Wrong::Unexplained], "long after the call");
}

/// One message of another journey, and what became of it.
fn single(what: What, plan: &Plan, (step, delay): (&str, i64), came: &str) -> Story {
    let person = Person { number: 0, plot: "", said: vec![said(what, 1_000)], done: true, refused: None };
    let at = 1_001 + delay;
    let rows = [("ENTERED", "", 1_001), ("SENT", step, at), ("EXITED", "", at)];
    let of = |row: Decision| Decision { journey: plan.name.into(), ..row };
    Story {
        person,
        decisions: rows.map(|(what, step, at)| of(decision(what, step, at))).into(),
        messages: vec![message(came, step, at + 100)],
        mails: vec![mail(&format!("{step} k0"), at + 50)],
        faults: vec![Fault { number: 1, kind: "http-dies", target: String::new(), from: 0, until: 0 }],
        doubts: BTreeMap::new(),
    }
}

#[test]
fn under_a_key_nothing_is_unknown_unless_it_was_recalled() {
    let story = |came| {
        let mut story = single(What::Joined("k0".into()), &GREETINGS, ("greet", 0), came);
        story.decisions.insert(2, Decision { journey: "greetings".into(), ..decision("STOPPED", "follow", 1_500) });
        story.person.said.push(said(What::Ordered("o".into()), 1_400));
        story
    };
    assert_eq!(verdict(&story("Message Accepted")).0, []);
    assert_eq!(verdict(&story("Message Unknown")).0, [Wrong::Unexplained]);
    let mut recalled = story("Message Unknown");
    recalled.messages[0].detail = r#"{"outcome":"unknown","raced":true}"#.into();
    assert_eq!(verdict(&recalled).0, []);
    recalled.person.said.pop();
    assert!(verdict(&recalled).0.contains(&Wrong::Unexplained), "nobody stopped it");
}

#[test]
fn what_must_arrive_arrives_and_again_only_after_a_doubt() {
    let story = |came| single(What::Asked("k0".into()), &TICKETS, ("answer", 0), came);
    let again = |doubts: usize| {
        let mut story = story("Message Accepted");
        story.mails.push(mail("answer k0", 1_900));
        story.doubts.insert("answer k0".into(), Doubts { followed: doubts, since: None });
        verdict(&story)
    };
    assert_eq!(verdict(&story("Message Accepted")).0, []);
    assert_eq!(verdict(&story("Message Unknown")).0, [Wrong::Unexplained], "it must be sent again");
    assert_eq!(again(0).0, [Wrong::Doubled]);
    assert_eq!((again(1).0, again(1).1.tickets), (Vec::new(), (1, 1)));
    let mut silent = story("Message Accepted");
    silent.mails.clear();
    assert_eq!(verdict(&silent).0, [Wrong::Lost]);
}
