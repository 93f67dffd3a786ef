//! Many letters as an operation of the shipped binaries: its process is killed in mid-way, and each letter is put back once.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use serde_json::Value as Json;
use waypost_codec::{
    frame::{Frame, Record},
    kind,
};
use waypost_types::{Timestamp, WorkspaceId};

use crate::{
    public::Writer,
    shop::{Shop, said},
    stack::alone,
};

/// Letters: enough that a process is killed before it has put all of them back.
const COUNT: u32 = 4_000;
/// A reason that no role has.
const REASON: &str = "SET_ASIDE_BY_A_TEST";
const CONTROL: &str = "control";

/// How often each letter stands in the inbox, by number.
fn put_back(shop: &Shop) -> BTreeMap<u32, usize> {
    let mut found = BTreeMap::new();
    for partition in 0..4 {
        let rows = shop.topic("wp1.identity").rows(partition, 0);
        let sections = rows.into_iter().flat_map(|row| Frame::decode(row.payload).unwrap().sections);
        for record in sections.flat_map(|section| section.records) {
            let number = std::str::from_utf8(&record.key).ok().and_then(|key| key.strip_prefix("letter ")?.parse().ok());
            if let Some(number) = number {
                *found.entry(number).or_default() += 1;
            }
        }
    }
    found
}

/// Sets letters aside, as identity does with what it cannot read.
fn fill(shop: &Shop) {
    let letter = |number: u32| {
        let key = Bytes::from(format!("letter {number}"));
        let id = u128::from(number).to_be_bytes();
        let record = Record::new(kind::EVENT, WorkspaceId::new(1), id, key, Timestamp::from_millis(3), Bytes::from_static(b"\xff"));
        (number % 8, record.to_proto().encode_to_vec().into())
    };
    let headers = [("reason", REASON), ("door", "identity"), ("workspace", "1"), ("origin", "identity/0/1.0.0")];
    Writer::of(&format!("{}wp1.dead", shop.prefix())).write_many(&headers, (0..COUNT).map(letter));
}

fn described(shop: &Shop, name: &str) -> Json {
    shop.tell_json(&["operation", "describe", name])
}

#[test]
fn a_redrive_whose_process_is_killed_is_gone_on_with_and_doubles_nothing() {
    let alone = alone("operations");
    let shop = &alone.shop;
    fill(shop);
    let checked = shop.tell(&["deadletter", "redrive", "--reason", REASON, "--dry-run"]);
    assert!(checked.contains(&format!("{COUNT} of {COUNT} put back (server dry run)")), "{checked}");
    assert!(put_back(shop).is_empty());

    let name = shop.tell(&["--as", "ana", "deadletter", "redrive", "--reason", REASON, "--async"]);
    assert!(name.starts_with("operations/"), "{name}");
    let killed_at = shop.until("some letters", || described(shop, &name)["done"].as_u64().filter(|done| *done > 0));
    shop.kill(CONTROL);
    let before = put_back(shop);
    assert!(killed_at < u64::from(COUNT) && before.len() < COUNT as usize, "killed in mid-way, at {killed_at} and {}", before.len());

    shop.start(CONTROL);
    shop.wait_for_control();
    let left = shop.until("that it is told as interrupted", || Some(described(shop, &name)).filter(|left| left["state"] == "interrupted"));
    assert!(left["note"].as_str().unwrap().contains("goes on with it") && left["done"].as_u64() < Some(COUNT.into()), "{left}");
    assert!(shop.tell(&["operation", "list", "--open"]).contains("interrupted"));
    let early = shop.ask(&["operation", "wait", &name, "--timeout", "0"]);
    assert!(early.status.code() == Some(1) && said(&early).contains("is not done yet"), "{}", said(&early));
    shop.tell(&["operation", "wait", &name, "--timeout", "140"]);

    let done = described(shop, &name);
    assert_eq!(
        (done["state"].as_str(), done["by"].as_str(), done["attempts"].as_u64()),
        (Some("succeeded"), Some("ana"), Some(2)),
        "{done}"
    );
    assert_eq!((done["total"].as_u64(), done["done"].as_u64(), done["failed"].as_u64()), (Some(COUNT.into()), Some(COUNT.into()), Some(0)));
    let after = put_back(shop);
    assert_eq!((after.len(), after.values().filter(|times| **times != 1).count()), (COUNT as usize, 0), "each once");
    // nothing is left of them, and a stop in order leaves nothing behind
    let again = shop.tell(&["deadletter", "redrive", "--reason", REASON]);
    assert!(again.contains("0 of 0 put back"), "{again}");
    assert!(shop.stop(CONTROL).success());
}
