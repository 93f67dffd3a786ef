//! `waypostctl pause`, `resume` and `kill`: what becomes of who comes, of who is in it, and of a message that is queued.

use std::{fs, path::Path};

use serde_json::{Value as Json, json};

use crate::{
    shop::{Shop, said},
    stack::visit,
};

/// A journey that greets whoever says this, after this delay.
fn journey(name: &str, event: &str, delay: &str) -> String {
    format!(
        "apiVersion: waypost.dev/v1
kind: Journey
metadata: {{name: {name}}}
spec:
  title: Held
  describe: A greeting after a while.
  owner: lifecycle@shop.example
  topic: greetings
  entries:
    - {{id: came, on_event: {{name: {event}}}, key: event.visit}}
  steps:
    - {{id: settle, delay: {{for: {delay}}}}}
    - {{id: greet, send: {{channel: email, template: greet, valid_for: 30m}}}}
"
    )
}

/// Puts the journeys in force.
fn publish(shop: &Shop, folder: &Path, journeys: &[(&str, String)]) {
    for (name, text) in journeys {
        fs::write(folder.join(format!("{name}.yaml")), text).unwrap();
    }
    shop.tell(&["apply", "-f", &folder.display().to_string()]);
    for (name, _) in journeys {
        shop.tell(&["publish", name]);
    }
}

fn state(shop: &Shop, journey: &str) -> Json {
    shop.tell_json(&["get", "journey", journey])["state"].clone()
}

#[test]
fn a_paused_journey_takes_nobody_and_a_killed_one_lets_everybody_go() {
    let visit = visit();
    let shop = &visit.shop;
    let folder = tempfile::tempdir().unwrap();
    publish(shop, folder.path(), &[("held", journey("held", "Held Visit", "20m")), ("queued", journey("queued", "Queued Visit", "1s"))]);
    let address = shop.person("held");
    let who = json!({"userId": "held"});

    assert!(shop.tell(&["pause", "held"]).contains("journey/held paused, version 1"));
    assert_eq!(state(shop, "held"), "paused");
    assert!(shop.tell(&["pause", "journeys/held"]).contains("paused"), "and again");
    let refused = shop.ask(&["archive", "held"]);
    assert!(!refused.status.success() && said(&refused).contains("resume it first"), "{}", said(&refused));
    shop.track(&who, "Held Visit", json!({"visit": "first"}));
    let refused = shop.decision("the refusal", |row| row["journey"] == "held" && row["key"] == "first");
    assert_eq!((refused["what"].as_str(), refused["reason"].as_str()), (Some("REFUSED"), Some("JOURNEY_PAUSED")));
    shop.until("explain to tell why", || {
        let explained = shop.tell(&["explain", "user_id:held", "held"]);
        explained.contains("NOT ENTERED  JOURNEY_PAUSED").then_some(())
    });

    shop.tell(&["resume", "held"]);
    assert_eq!(state(shop, "held"), "active");
    shop.track(&who, "Held Visit", json!({"visit": "second"}));
    shop.decision("the entry", |row| row["journey"] == "held" && row["key"] == "second" && row["what"] == "ENTERED");

    // One whose greeting waits at the address, because its server was busy.
    let busy = shop.person("busy-queued");
    shop.track(&json!({"userId": "busy-queued"}), "Queued Visit", json!({"visit": "third"}));
    shop.until("a server that is busy", || shop.sink.was_busy(&busy).then_some(()));
    shop.tell(&["kill", "held", "--yes"]);
    shop.tell(&["kill", "queued", "--yes"]);
    assert_eq!((state(shop, "held"), state(shop, "queued")), (json!("killed"), json!("killed")));
    let refused = shop.ask(&["resume", "held"]);
    assert!(!refused.status.success() && said(&refused).contains("was killed"), "{}", said(&refused));

    // Anything that comes ends the run; nothing needs to come for what is queued to be stopped.
    shop.track(&who, "Page Viewed", json!({}));
    assert_eq!(shop.ended("held", "second"), "KILLED");
    let stopped = shop.message("the queued greeting", |row| row["journey"] == "queued" && row["step"] == "greet");
    assert_eq!((stopped["name"].as_str(), stopped["reason"].as_str()), (Some("Message Failed"), Some("JOURNEY_KILLED")));
    assert_eq!(shop.ended("queued", "third"), "KILLED", "the receipt has ended it");
    assert!(shop.sink.to(&address).is_empty() && shop.sink.to(&busy).is_empty());

    let acts: Vec<Json> = shop.audit().into_iter().filter(|line| line["subject"].to_string().contains("journeys/held")).collect();
    for act in ["journey.pause", "journey.resume", "journey.kill"] {
        let line = acts.iter().find(|line| line["act"] == act).unwrap_or_else(|| panic!("no {act} in {acts:#?}"));
        assert!(line["before"].is_string() && line["before"] != line["after"], "{line}");
    }
}
