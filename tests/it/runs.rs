//! `waypostctl run`: a run is begun by hand, goes its way, is listed, and ends when somebody says so.

use std::fs;

use serde_json::{Value as Json, json};

use crate::{
    shop::{Shop, said},
    stack::visit,
};

/// A journey that greets whoever is in it after this delay.
fn journey(name: &str, delay: &str) -> String {
    format!(
        "apiVersion: waypost.dev/v1
kind: Journey
metadata: {{name: {name}}}
spec:
  title: Begun by hand
  describe: A greeting after a while.
  owner: lifecycle@shop.example
  topic: greetings
  entries:
    - {{id: came, on_event: {{name: Errand}}, key: event.errand}}
  steps:
    - {{id: settle, delay: {{for: {delay}}}}}
    - {{id: greet, send: {{channel: email, template: greet, valid_for: 30m}}}}
"
    )
}

fn refused(shop: &Shop, arguments: &[&str], why: &str) {
    let answer = shop.ask(arguments);
    assert!(!answer.status.success() && said(&answer).contains(why), "{arguments:?}: {}", said(&answer));
}

fn runs(shop: &Shop, who: &str) -> Vec<Json> {
    let mut told = shop.tell_json(&["run", "list", who]);
    serde_json::from_value(told["runs"].take()).unwrap()
}

#[test]
fn a_run_begun_by_hand_goes_its_way_and_ends_when_somebody_says_so() {
    let visit = visit();
    let shop = &visit.shop;
    let folder = tempfile::tempdir().unwrap();
    for (name, delay) in [("errand", "20m"), ("dash", "1s")] {
        fs::write(folder.path().join(format!("{name}.yaml")), journey(name, delay)).unwrap();
    }
    shop.tell(&["apply", "-f", &folder.path().display().to_string()]);
    for name in ["errand", "dash"] {
        shop.tell(&["publish", name]);
    }
    shop.person("runner");
    let who = "user_id:runner";
    shop.until("the person to be known", || shop.ask(&["run", "list", who]).status.success().then_some(()));

    refused(shop, &["run", "start", who, "nowhere", "--key", "e1"], "there is no journey");
    refused(shop, &["run", "start", who, "errand"], "have a key");
    refused(shop, &["run", "start", "user_id:runner-nobody", "errand", "--key", "e1"], "no event ever carried");
    assert!(shop.tell(&["run", "start", who, "errand", "--key", "e0", "--dry-run"]).contains("dry run"));
    shop.tell(&["--as", "ops", "run", "start", who, "errand", "--key", "e1"]);
    let entered = shop.decision("the entry", |row| row["journey"] == "errand" && row["what"] == "ENTERED");
    assert_eq!(entered["key"], "e1", "what was only checked did not begin");
    shop.tell(&["run", "start", who, "errand", "--key", "e1"]);
    let twice = shop.decision("the refusal", |row| row["journey"] == "errand" && row["what"] == "REFUSED");
    assert_eq!(twice["reason"], "ALREADY_LIVE");

    let live =
        shop.until("the run in the list", || runs(shop, who).into_iter().find(|run| run["state"] == "live" && run["journey"] == "errand"));
    assert_eq!((&live["id"], &live["key"], &live["step"], &live["version"]), (&entered["run"], &json!("e1"), &json!("settle"), &json!(1)));
    assert_eq!((&live["waits"][0]["what"], &live["latest"]), (&json!("delay"), &json!("WAITING")));
    let id = live["id"].as_str().unwrap();
    assert_eq!(shop.tell_json(&["run", "describe", who, id]), live);

    shop.tell(&["--as", "ops", "run", "cancel", who, id]);
    assert_eq!(shop.ended("errand", "e1"), "CANCELLED");
    let ended = shop.until("the list to say so", || runs(shop, who).into_iter().find(|run| run["id"] == id && run["state"] == "ended"));
    assert_eq!(ended["exitReason"], "CANCELLED");
    refused(shop, &["run", "cancel", who, id], "no such live run");

    // What it has queued does not go, and nothing needs to come for that.
    let busy = shop.person("busy-runner");
    shop.until("that person too", || shop.ask(&["run", "list", "user_id:busy-runner"]).status.success().then_some(()));
    shop.tell(&["run", "start", "user_id:busy-runner", "dash", "--key", "d1"]);
    shop.until("a server that is busy", || shop.sink.was_busy(&busy).then_some(()));
    shop.tell(&["run", "cancel", "user_id:busy-runner", "--journey", "dash"]);
    assert_eq!(shop.ended("dash", "d1"), "CANCELLED");
    let recalled = shop.message("the recall", |row| row["journey"] == "dash" && row["step"] == "greet");
    assert_eq!((recalled["name"].as_str(), recalled["reason"].as_str()), (Some("Message Failed"), Some("RECALLED")));
    assert!(shop.sink.to(&busy).is_empty());

    let audit = shop.audit();
    let by_ops: Vec<_> = audit.iter().filter(|line| line["by"] == "ops").map(|line| line["act"].as_str().unwrap()).collect();
    assert_eq!(by_ops, ["run.start", "run.cancel"]);
    let noted = audit.iter().find(|line| line["act"] == "run.cancel").unwrap();
    assert_eq!(noted["note"], id);
}
