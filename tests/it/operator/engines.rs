//! `waypost engine activate`: every process must have the engine; then each partition changes where its log says so.

use serde_json::{Value as Json, json};
use waypost_kafka::{Connection, KafkaLog};
use waypost_runtime::{host::SystemClock, progress::Speaker};
use waypost_types::{Role, Timestamp};

use super::Site;
use crate::{public::RUNTIME, stack};

/// Signs up, and once more by an event of a second before, when the greeting is over; what the refusal says.
fn refusal(site: &Site<'_>, name: &str) -> String {
    let shop = site.shop;
    shop.person(name);
    let who = json!({"userId": name});
    let signed_up = shop.track(&who, "Signed Up", json!({}));
    let id = shop.until("the person", || {
        let shown = shop.ask(&["-o", "json", "profile", "show", &format!("user_id:{name}")]);
        serde_json::from_slice::<Json>(&shown.stdout).ok().map(|shown| shown["id"].clone())
    });
    shop.decision("the end of the greeting", |row| row["journey"] == "greetings" && row["profile"] == id && row["what"] == "EXITED");
    let earlier = Timestamp::from_millis(signed_up.first_tried - 1_000).to_string();
    shop.say("/v1/track", json!({"userId": name, "event": "Signed Up", "properties": {}, "timestamp": earlier}));
    let refused = shop.decision("the refusal", |row| row["profile"] == id && row["reason"] == "REENTRY");
    refused["detail"].as_str().unwrap().to_owned()
}

pub(super) fn a_later_engine_comes_into_force_where_every_process_has_it(site: &Site<'_>) {
    let before = refusal(site, "signs-up-before");
    assert!(!before.contains("earlier run"), "{before}");
    site.refused(&["engine", "activate", "4"], "has engines 1 to 3: roll out the binary that has engine 4 first");
    // a process of the release before: it owns nothing yet, but a partition may be given to it at any time
    let older = Speaker::new(site.shop.prefix(), "127.0.0.1:1").with_engines(1..=1);
    let log = KafkaLog::new(&Connection::new(stack::variable("WAYPOST_TEST_KAFKA"))).unwrap();
    RUNTIME.block_on(async { older.say(&log, &SystemClock, Role::Sender, Vec::new()) });
    site.refused(
        &["engine", "activate", "2"],
        "the process at 127.0.0.1:1 has engines 1 to 1: roll out the binary that has engine 2 first",
    );
    let all = || Role::KEYED.into_iter().flat_map(Site::of);
    assert!(all().all(|partition| site.held.engine(partition) == "1"), "nothing was activated");
    // it ends, and is forgotten
    let said = site.shop.until("the older process to be forgotten", || {
        let output = site.shop.run(&["engine", "activate", "2"]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert!(said.contains("engine 2 is activated"), "{said}");
    assert_eq!(site.audit("engines/2").len(), 1, "what was refused is no act");
    site.shop.until("every partition to fold with it", || all().all(|partition| site.held.engine(partition) == "2").then_some(()));
    let after = refusal(site, "signs-up-after");
    assert!(after.contains("earlier run"), "{after}");
    // the same again changes nothing, and there is no way back
    site.tell(&["engine", "activate", "2"]);
    site.refused(&["engine", "activate", "1"], "folds with engine 2: the way back from it is a later engine");
}
