//! Each gate by table: who is asked to, and what the first gate that stops says.

use std::{collections::BTreeMap, sync::Arc};

use super::harness::{World, check, shop};
use crate::definitions::{StepKind, Workspace};

/// A send at once, with everything the gates look at.
fn journey(extra: &str, send: &str) -> String {
    format!(
        r"
journey ping
  topic: news
{extra}  entries: [{{id: in, on_event: {{name: Ping}}, key: event.id_}}]
  steps:
    - {{id: go, send: {{channel: email, template: hello{send}}}}}
"
    )
}

fn outcome(extra: &str, send: &str, before: &str) -> String {
    let world = World::new(&shop(&journey(extra, send))).with(&format!("{before}\n1m event Ping id_=1 cart_id=k1 order_id=o1"));
    let said = world.decisions.iter().find(|d| d.what == "SENT" || d.what == "STOPPED" || d.what == "DEFERRED");
    said.map_or_else(|| world.told.join("\n"), |d| format!("{} {}", d.what, d.reason).trim().to_owned())
}

#[test]
fn the_first_gate_that_stops_gives_the_reason() {
    let yes = "0m address ana@shop.example · consent email/news granted";
    let guard = "  guards: [{id: no-vip, when: '!in_segment(\"vip\")'}]\n";
    for (extra, send, before, expected) in [
        ("", "", yes, "SENT"),
        ("", "", "0m address ana@shop.example", "STOPPED CONSENT_MISSING"),
        ("", "", "0m address ana@shop.example · consent email/news denied", "STOPPED CONSENT_DENIED"),
        ("", "", "0m address ana@shop.example · consent email/news pending", "STOPPED CONSENT_PENDING"),
        ("", "", "0m address ana@shop.example · consent email/* granted", "SENT"),
        ("", "", "0m consent email/news granted", "STOPPED ADDRESS_MISSING"),
        ("", "", "0m address nowhere · consent email/news granted", "STOPPED ADDRESS_INVALID"),
        ("", ", class: transactional", "0m address ana@shop.example", "SENT"),
        ("", ", class: transactional", "0m address ana@shop.example · consent email/* denied", "STOPPED CONSENT_DENIED"),
        (guard, "", "0m address ana@shop.example · consent email/news granted · segment vip no", "SENT"),
        (guard, "", "0m address ana@shop.example · consent email/news granted · segment vip yes", "STOPPED GUARD_NO"),
        (guard, "", yes, "STOPPED GUARD_UNKNOWN"),
        (guard, ", class: transactional", yes, "SENT"),
        ("", ", fresh: [cart]", yes, "STOPPED STALE_CART"),
        ("", ", fresh: [cart]", "0m address ana@shop.example · consent email/news granted · cart k1 open", "SENT"),
        ("", ", fresh: [cart]", "0m address ana@shop.example · consent email/news granted · cart k1 in_checkout", "SENT"),
        ("", ", fresh: [cart]", "0m address ana@shop.example · consent email/news granted · cart k1 ordered", "STOPPED STALE_CART"),
        ("", ", fresh: [order]", yes, "STOPPED STALE_ORDER"),
        ("", ", fresh: [order]", "0m address ana@shop.example · consent email/news granted · order o1 placed", "SENT"),
        ("", ", fresh: [order]", "0m address ana@shop.example · consent email/news granted · order o1 returned", "STOPPED STALE_ORDER"),
        (
            "",
            ", fresh: [order]",
            "0m address ana@shop.example · consent email/news granted · order o1 placed refunded",
            "STOPPED STALE_ORDER",
        ),
        ("", ", fresh: [order]", "0m address ana@shop.example · consent email/news granted · order o1 placed partially_refunded", "SENT"),
        // Consent comes before the address, the address before the guard.
        (guard, ", fresh: [cart]", "0m consent email/news denied", "STOPPED CONSENT_DENIED"),
        (guard, ", fresh: [cart]", "0m consent email/news granted", "STOPPED ADDRESS_MISSING"),
    ] {
        assert_eq!(outcome(extra, send, before), expected, "{extra} {send} {before}");
    }
}

#[test]
fn a_field_that_the_template_requires_must_be_there() {
    let strict = journey("", "").replace("template: hello", "template: strict");
    let run = |field: &str| {
        World::new(&shop(&strict)).with(&format!("0m address ana@shop.example · consent email/news granted{field}\n1m event Ping id_=1"))
    };
    let stopped = run("");
    let said = stopped.decisions.iter().find(|d| d.what == "STOPPED").unwrap();
    assert_eq!(said.reason, "FIELD_MISSING");
    assert!(said.detail.contains("profile.first_name"), "{}", said.detail);
    assert!(!said.detail.contains("ana@"), "{}", said.detail);
    assert_eq!(run(" · field first_name Ana").sent(), ["go"]);
}

#[test]
fn a_denial_takes_back_what_is_on_its_way_and_fences_the_address() {
    check(
        &journey("", ""),
        "0m address ana@shop.example · consent email/news granted
         1m event Ping id_=1
         2m event Unsubscribed channel=email topic=news with consent email/news denied
         3m receipt stopped RECALLED",
        "1m ENTERED ping
         1m SENT ping go
         2m suppress UNSUBSCRIBED news
         2m recall CONSENT_DENIED
         2m RECALLED ping go CONSENT_DENIED
         3m RECEIPT ping go RECALLED
         3m EXITED ping go COMPLETED",
    );
}

#[test]
fn a_message_that_outran_its_recall_is_marked() {
    let world = World::new(&shop(&journey("", ""))).with(
        "0m address ana@shop.example · consent email/news granted
         1m event Ping id_=1
         2m event Unsubscribed channel=email topic=news with consent email/news denied
         3m receipt accepted",
    );
    let receipt = world.state.trail.iter().find(|t| t.what == "RECEIPT").unwrap();
    assert!(receipt.note.starts_with("RACED"), "{}", receipt.note);
    assert_eq!(world.exits(), ["COMPLETED"]);
}

#[test]
fn a_newer_grant_takes_the_fence_down() {
    check(
        &journey("", ""),
        "0m address ana@shop.example
         1m event Unsubscribed channel=email with consent email/* denied
         2m event Subscribed channel=email topic=news with consent email/news granted
         3m event Subscribed channel=email topic=news browser=yes",
        "1m suppress UNSUBSCRIBED
         2m unsuppress UNSUBSCRIBED
         2m unsuppress COMPLAINT",
    );
}

#[test]
fn every_stop_shows_what_it_looked_at() {
    let world = World::new(&shop(&journey("", ""))).with("0m address ana@shop.example\n1m event Ping id_=1");
    let stopped = world.state.trail.iter().find(|t| t.what == "STOPPED").unwrap();
    let checks: Vec<&str> = stopped.checks.iter().map(|c| c.what.as_str()).collect();
    assert_eq!(checks, ["1 RUN", "3 CONSENT"]);
    assert_eq!(stopped.checks[1].operands, ["email/news unset, opt_in"]);
    assert_eq!(stopped.cause, "Ping");
}

/// The same journey on a channel type that has a sending window; no definition can name one yet.
fn by_push(ws: &Workspace) -> Arc<Workspace> {
    let mut journeys = BTreeMap::clone(&ws.journeys);
    let versions = &mut journeys.get_mut("ping").unwrap().versions;
    for version in versions.values_mut() {
        for step in &mut Arc::make_mut(version).steps {
            if let StepKind::Send(send) = &mut step.kind {
                "push".clone_into(&mut send.channel_kind);
            }
        }
    }
    Arc::new(Workspace { journeys: journeys.into(), ..ws.clone() })
}

#[test]
fn a_send_outside_its_window_waits_for_the_opening_and_starts_again_at_the_first_gate() {
    let ws = by_push(&shop(&journey("", "")));
    // 23:00 in Berlin; push may go out from 08:00, spread over a quarter of an hour.
    let night = "0m address push:token\n13h event Ping id_=1\n";
    let world = World::new(&ws).with(&format!("{night}23h ."));
    let said: Vec<(&str, &str)> = world.decisions.iter().map(|d| (d.what.as_str(), d.reason.as_str())).collect();
    assert_eq!(said, [("ENTERED", ""), ("DEFERRED", "QUIET_HOURS"), ("SENT", "")]);
    let deferred = world.decisions[2].at.since(world.decisions[1].at);
    assert!((9 * 60..=9 * 60 + 15).contains(&(deferred.millis() / 60_000)), "{deferred}");

    let denied = World::new(&ws).with(&format!("{night}14h consent push/news denied\n23h ."));
    assert_eq!(denied.decisions.iter().find(|d| d.what == "STOPPED").map(|d| d.reason.as_str()), Some("CONSENT_DENIED"));
}

#[test]
fn a_deferral_that_would_outlive_the_send_stops_it_at_once() {
    let ws = by_push(&shop(&journey("", ", valid_for: 2h")));
    let world = World::new(&ws).with("0m address push:token\n13h event Ping id_=1");
    assert_eq!(world.told[1], "13h STOPPED ping go QUIET_HOURS");
}

#[test]
fn an_address_that_refused_for_good_gets_nothing_more() {
    let world = World::new(&shop(&journey("", ""))).with(
        "0m address ana@shop.example · consent email/news granted
         1m event Ping id_=1
         2m receipt failed HARD_BOUNCE
         3m event Ping id_=2
         4m address ada@shop.example
         5m event Ping id_=3",
    );
    let said: Vec<(&str, &str)> = world
        .decisions
        .iter()
        .filter(|d| ["SENT", "STOPPED"].contains(&d.what.as_str()))
        .map(|d| (d.what.as_str(), d.reason.as_str()))
        .collect();
    assert_eq!(said, [("SENT", ""), ("STOPPED", "SUPPRESSED_HARD_BOUNCE"), ("SENT", "")]);
}
