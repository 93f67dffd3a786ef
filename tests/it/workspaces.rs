//! `waypostctl workspace`: a quota holds at apply, at publish and at the door, and outlives the processes.

use serde_json::json;

use crate::{http::Request, shop::said, stack::beside};

#[test]
fn a_quota_holds_where_definitions_and_events_come_and_after_a_restart() {
    let beside = beside("quotas", Vec::new());
    let shop = &beside.shop;
    let has = shop.tell_json(&["workspace", "describe"])["usage"].clone();
    assert_eq!(has["liveJourneys"], 3, "{has}");
    let definitions = has["definitions"].to_string();
    let set = shop.tell_json(&["workspace", "set-quota", "default", "--definitions", &definitions, "--events-per-second", "2"]);
    assert_eq!(set["quota"], json!({"liveJourneys": null, "segments": null, "definitions": has["definitions"], "eventsPerSecond": 2}));

    let folder = tempfile::tempdir().unwrap();
    let topic = |title: &str| {
        let text =
            format!("apiVersion: waypost.dev/v1\nkind: Topic\nmetadata: {{name: one-more}}\nspec: {{title: {title}, class: marketing}}\n");
        std::fs::write(folder.path().join("topic.yaml"), text).unwrap();
        shop.ask(&["apply", "-f", &folder.path().display().to_string()])
    };
    let refused = topic("Too many");
    assert!(!refused.status.success() && said(&refused).contains(&format!("of which it may have {definitions}")), "{}", said(&refused));
    assert!(!shop.ask(&["get", "topic", "one-more"]).status.success(), "nothing was changed");

    // what the door may take is spent by one batch, which is stored whole
    let batch = || {
        let events: Vec<_> = (0..600).map(|_| json!({"type": "track", "userId": "often", "event": "Signed In"})).collect();
        shop.request(&Request::post("/v1/batch", json!({"batch": events}).to_string()).key(&shop.backend))
    };
    let spend = |what: &str| {
        shop.until(what, || {
            let first = batch();
            assert!(matches!(first.status, 200 | 401 | 429), "{} {}", first.status, first.body);
            (batch().status == 429).then_some(())
        });
    };
    spend("a door that knows the quota");
    let refused = batch();
    assert!(refused.body.contains("the workspace may send 2 events a second"), "{}", refused.body);
    let wait: u32 =
        refused.head.to_lowercase().split("retry-after: ").nth(1).unwrap().split("\r\n").next().unwrap().trim().parse().unwrap();
    assert!((100..=300).contains(&wait), "{}", refused.head);

    for role in ["control", "ingest"] {
        assert!(shop.stop(role).success());
        shop.start(role);
    }
    shop.wait_for_control();
    assert_eq!(shop.tell_json(&["workspace", "describe"])["quota"], set["quota"], "after a restart");
    shop.wait_for_ingest();
    spend("a restarted door that knows the quota");
    shop.tell(&["workspace", "set-quota", "--definitions", "none", "--events-per-second", "none"]);
    shop.until("a door without a quota", || (batch().status == 200).then_some(()));
    assert!(topic("One more").status.success());
    let lines = shop.tell(&["audit", "list", "--act", "workspace.update"]);
    assert_eq!(lines.matches("workspace.update").count(), 2, "{lines}");
}
