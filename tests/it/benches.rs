//! `waypost bench`: made-up people through a real installation with its own journeys, and nothing of them afterwards, however it ends.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value as Json;

use crate::{
    public::RUNTIME,
    redis::Held,
    shop::{Shop, said},
    stack::{PATIENCE, alone, visit},
};

/// What needs no consent: nothing but the address that is not there can stop it.
const RECEIPTS: &str = "\
apiVersion: waypost.dev/v1
kind: Template
metadata: {name: receipt}
spec:
  action: {label: Your order, url: 'https://shop.example/orders'}
  channels: {email: {subject: Your order, html: receipt.html}}
---
apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: receipts}
spec:
  title: Receipts
  describe: Every order is answered at once.
  owner: help@shop.example
  class: transactional
  entries:
    - {id: ordered, on_event: {name: Order Completed}}
  steps:
    - {id: thank, send: {channel: email, template: receipt, valid_for: 10m}}
";

/// What stands in everything that a run says of its people.
fn mark(run: &str) -> &str {
    run.split('-').next().unwrap()
}

/// The run that a bench has told in its log.
fn run_in(shop: &Shop, log: &str) -> String {
    let told = || shop.log(log).lines().find_map(|line| Some(line.strip_prefix("run ")?.split(':').next()?.to_owned()));
    shop.until("the bench to tell its run", told)
}

/// Nothing in Redis names anybody of a run, and whoever asks for one of them is told that she was forgotten.
fn nobody_is_left(shop: &Shop, run: &str) {
    let held = Held::under(shop.prefix());
    shop.until("everybody of the bench to be gone", || held.where_is(mark(run)).is_empty().then_some(()));
    let shown = shop.ask(&["profile", "show", &format!("user_id:waypost-bench-{}-0", mark(run))]);
    assert!(!shown.status.success() && said(&shown).contains("was forgotten at 20"), "{}", said(&shown));
}

/// None of these profiles was ever on the way to a provider, though journeys with consent and without tried.
fn nothing_was_sent(shop: &Shop, profiles: &BTreeSet<&str>) {
    let of_them = |row: &&Json| profiles.contains(row["profile"].as_str().unwrap());
    let (decisions, messages) = (shop.decisions.rows(&shop.registry), shop.messages.rows(&shop.registry));
    let sends: Vec<&Json> = decisions.iter().filter(of_them).filter(|row| row["what"] == "SENT").collect();
    assert!(sends.is_empty(), "{sends:#?}");
    let messages: Vec<&Json> = messages.iter().filter(of_them).collect();
    assert!(messages.is_empty(), "{messages:#?}");
    for (journey, reason) in [("greetings", "CONSENT_MISSING"), ("receipts", "ADDRESS_MISSING")] {
        let stopped = |row: &Json| row["what"] == "STOPPED" && row["journey"] == journey && row["reason"] == reason;
        assert!(decisions.iter().filter(of_them).any(stopped), "no send of {journey} stopped with {reason}");
    }
}

fn read(path: &Path) -> Json {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_bench_measures_the_journeys_in_force_and_leaves_nobody_behind() {
    let alone = alone("bench");
    let shop = &alone.shop;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("receipts.yaml"), RECEIPTS).unwrap();
    fs::write(folder.path().join("receipt.html"), "<p><a href=\"{{ action.url }}\">{{ action.label }}</a></p>").unwrap();
    shop.tell(&["apply", "-f", folder.path().to_str().unwrap()]);
    shop.tell(&["publish", "receipts"]);
    let file = folder.path().join("figures.json");
    let arguments = ["bench", "--rate", "60", "--seconds", "12", "--as", "ana", "--json", file.to_str().unwrap()];

    let refused = shop.run(&arguments);
    assert!(
        !refused.status.success() && said(&refused).contains("720 events") && said(&refused).contains("say --yes"),
        "{}",
        said(&refused)
    );
    assert!(!file.exists());
    let done = shop.run(&[&arguments[..], &["--yes"]].concat());
    let words = said(&done);
    assert!(done.status.success(), "{words}");
    assert!(words.contains("all of its people are erased") && words.contains("0 lost, 0 doubled"), "{words}");

    let figures = read(&file);
    assert_eq!(
        (&figures["events"], &figures["lost"], &figures["doubled"], &figures["sent"]),
        (&720.into(), &0.into(), &0.into(), &0.into())
    );
    for role in ["identity", "segmenter", "orchestrator"] {
        assert!(figures["lag_s"][role]["max"].as_f64().unwrap() >= 0.0, "{figures:#}");
    }
    let answers = figures["answers"].as_array().unwrap();
    for (journey, decision, by) in [
        ("cart-recovery", "ENTERED", "Product Added"),
        ("cart-recovery", "EXITED", "Order Completed"),
        ("greetings", "ENTERED", "Signed Up"),
        ("receipts", "EXITED", "Order Completed"),
    ] {
        let answer = answers.iter().find(|a| a["journey"] == journey && a["decision"] == decision && a["by"] == by);
        let answer = answer.unwrap_or_else(|| panic!("no {journey} {decision} by {by} in {answers:#?}"));
        assert!(answer["came"].as_u64().unwrap() >= 3 && answer["came"] == answer["asked"], "{answer}");
        let at = |quantile: &str| answer["ms"][quantile].as_f64().unwrap();
        assert!(at("p50") > 0.0 && at("p50") <= at("p99") && at("p99") <= at("max"), "{answer}");
    }
    let stopped = figures["stopped"].as_array().unwrap();
    assert!(stopped.iter().any(|line| line["journey"] == "receipts" && line["reason"] == "ADDRESS_MISSING"), "{stopped:#?}");

    let run = figures["run"].as_str().unwrap();
    let profiles: BTreeSet<&str> = figures["profiles"].as_array().unwrap().iter().map(|profile| profile.as_str().unwrap()).collect();
    assert_eq!((profiles.len() as u64, &figures["erased"]), (figures["people"].as_u64().unwrap(), &true.into()));
    nobody_is_left(shop, run);
    nothing_was_sent(shop, &profiles);
    // the carts of the run, by which its rows are known
    let entered = shop.decision("a cart of the run", |row| row["what"] == "ENTERED" && row["key"].as_str().unwrap().contains(mark(run)));
    assert!(profiles.contains(entered["profile"].as_str().unwrap()));
    let lines = shop.audit();
    let own: Vec<&Json> = lines.iter().filter(|line| line["subject"] == format!("bench/{run}").as_str()).collect();
    assert_eq!(own.iter().map(|line| (&line["act"], &line["by"])).collect::<Vec<_>>(), [(&"profile.erase".into(), &"ana".into())]);
}

#[test]
fn a_bench_that_is_ended_or_killed_is_cleaned_up_too() {
    let visit = visit();
    let shop = &visit.shop;
    let held = Held::under(shop.prefix());
    let arguments = ["bench", "--rate", "40", "--seconds", "600", "--yes"];

    let ended = shop.begin("bench-ended", &arguments);
    let run = run_in(shop, "bench-ended");
    shop.until("somebody of the bench to be kept", || (!held.where_is(mark(&run)).is_empty()).then_some(()));
    let status = RUNTIME.block_on(ended.terminate(PATIENCE)).expect("a bench ends after SIGTERM");
    let words = shop.log("bench-ended");
    assert_eq!(status.code(), Some(1), "{words}");
    assert!(words.contains("it was interrupted") && words.contains("all of its people are erased"), "{words}");
    nobody_is_left(shop, &run);

    let killed = shop.begin("bench-killed", &arguments);
    let run = run_in(shop, "bench-killed");
    shop.until("somebody of the bench to be kept", || (!held.where_is(mark(&run)).is_empty()).then_some(()));
    killed.kill();
    let cleaned = shop.run(&["bench", "clean", "--run", &run]);
    assert!(cleaned.status.success() && said(&cleaned).contains("all of its people are erased"), "{}", said(&cleaned));
    nobody_is_left(shop, &run);
    let wrong = shop.run(&["bench", "clean", "--run", "me"]);
    assert!(!wrong.status.success() && said(&wrong).contains("`me` is no run"), "{}", said(&wrong));
}
