//! Where the pipeline stands, as an operator sees it.

use crate::stack::visit;

#[test]
fn each_partition_has_an_owner_and_says_how_far_it_is() {
    let visit = visit();
    let shop = &visit.shop;
    let partitions = shop.until("every partition to be led", || {
        let partitions = shop.tell_json(&["partitions"])["partitions"].as_array().unwrap().clone();
        partitions.iter().all(|partition| partition["state"] == "leading").then_some(partitions)
    });
    assert_eq!(partitions.len(), 16, "{partitions:#?}");
    for partition in &partitions {
        let [committed, next, end] = ["committed", "next", "end"].map(|name| partition[name].as_u64().unwrap());
        assert!(committed <= next && next <= end && end > 0, "{partition}");
        assert!(partition["owner"].as_str().unwrap().starts_with("127.0.0.1:"), "{partition}");
    }
    assert_eq!(shop.tell(&["-o", "name", "partitions", "--role", "sender"]).lines().count(), 4);
    let top = shop.tell(&["top", "--once", "--every", "1"]);
    let roles = ["identity", "segmenter", "orchestrator", "sender"];
    assert!(roles.iter().all(|role| top.lines().any(|line| line.trim_start().starts_with(role) && line.contains("4/4"))), "{top}");
    let refused = shop.ask(&["partitions", "--role", "ingest"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("no role with partitions"), "{refused:?}");
}
