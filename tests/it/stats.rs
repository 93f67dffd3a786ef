//! `waypostctl stats`: what the public topics hold, counted once, through control processes that are killed.

use std::{collections::BTreeMap, thread, time::Duration};

use serde_json::{Value as Json, json};
use waypost_types::Timestamp;

use crate::{
    shop::{Shop, said},
    stack::alone,
};

const HOUR: i64 = 3_600_000;
/// Figures that decisions and messages of this story have, by what their rows say.
const FIGURES: [(&str, &str); 8] = [
    ("ENTERED", "entered"),
    ("REFUSED", "refused"),
    ("REARMED", "rearmed"),
    ("SENT", "sent"),
    ("STOPPED", "stopped"),
    ("EXITED", "exited"),
    ("GOAL", "goals"),
    ("Message Accepted", "accepted"),
];

/// Hour, step and figure, and how many.
type Figures = BTreeMap<(String, String, String), u64>;

/// What the topics hold of the journey, each row once.
fn held(shop: &Shop) -> Figures {
    let mut all = Figures::new();
    let decisions = shop.decisions.rows(&shop.registry).into_iter().map(|row| (row["what"].clone(), row));
    let messages = shop.messages.rows(&shop.registry).into_iter().map(|row| (row["name"].clone(), row));
    for (word, row) in decisions.chain(messages).filter(|(_, row)| row["journey"] == "cart-recovery") {
        let Some((_, figure)) = FIGURES.iter().find(|(known, _)| word == **known) else { continue };
        let hour = Timestamp::from_millis(row["at"].as_i64().unwrap() / HOUR * HOUR).to_string();
        *all.entry((hour, row["step"].as_str().unwrap().to_owned(), (*figure).to_owned())).or_default() += 1;
    }
    all
}

fn answer(shop: &Shop, arguments: &[&str]) -> Json {
    shop.tell_json(&[&["stats", "cart-recovery", "--since", "2h"], arguments].concat())
}

/// None while a process that has just begun reads what was counted before.
fn counted(shop: &Shop) -> Option<Figures> {
    let output = shop.ask(&["stats", "cart-recovery", "--since", "2h", "--by", "hour", "--steps", "-o", "json"]);
    if !output.status.success() {
        assert!(said(&output).contains("try again"), "{}", said(&output));
        return None;
    }
    let answer: Json = serde_json::from_slice(&output.stdout).unwrap();
    let mut all = Figures::new();
    for row in answer["rows"].as_array().unwrap() {
        let text = |field: &str| row[field].as_str().unwrap().to_owned();
        let figures = FIGURES.iter().map(|(_, figure)| (figure, row[*figure].as_u64().unwrap())).filter(|(_, count)| *count > 0);
        all.extend(figures.map(|(figure, count)| ((text("from"), text("step"), (*figure).to_owned()), count)));
    }
    Some(all)
}

/// The figures are those of the topics, and stay so.
fn agrees(shop: &Shop) -> Figures {
    let agrees = |shop: &Shop| {
        let held = held(shop);
        (!held.is_empty() && counted(shop).as_ref() == Some(&held)).then_some(held)
    };
    shop.until("figures as the topics have them", || agrees(shop));
    thread::sleep(Duration::from_secs(2));
    agrees(shop).unwrap_or_else(|| panic!("{:#?}\nand the topics: {:#?}", counted(shop), held(shop)))
}

fn sum(figures: &Figures, wanted: &str) -> u64 {
    figures.iter().filter(|((_, _, figure), _)| figure == wanted).map(|(_, count)| count).sum()
}

/// How many records of progress stand there.
fn progress(shop: &Shop) -> usize {
    let records = shop.topic("wp1.reports").rows(0, 0);
    records.iter().filter(|record| record.key.as_ref().is_some_and(|key| key.starts_with(br#"{"kind":"progress""#))).count()
}

/// Somebody touches a cart and lets it lie.
fn leaves(shop: &Shop, name: &str) {
    shop.person(name);
    shop.touch(&json!({"userId": name}), &format!("k-{name}"));
}

/// Somebody orders what lay in the cart.
fn buys(shop: &Shop, name: &str) {
    leaves(shop, name);
    shop.decision("the entry", |row| row["key"] == format!("k-{name}") && row["what"] == "ENTERED");
    shop.order(&json!({"userId": name}), &format!("o-{name}"));
    assert_eq!(shop.ended("cart-recovery", &format!("k-{name}")), "GOAL");
}

#[test]
fn stats_say_what_the_public_topics_hold_through_kills_of_control() {
    let alone = alone("stats");
    let shop = &alone.shop;
    leaves(shop, "reminded");
    buys(shop, "buyer");
    assert_eq!(shop.ended("cart-recovery", "k-reminded"), "COMPLETED");
    let first = agrees(shop);
    assert_eq!(["entered", "goals", "exited", "sent", "accepted"].map(|figure| sum(&first, figure)), [2, 1, 2, 2, 2], "{first:#?}");

    // Killed behind a write: the next one goes on from it, while more has come.
    shop.until("a write", || (progress(shop) > 0).then_some(()));
    thread::sleep(Duration::from_secs(6));
    shop.kill("control");
    leaves(shop, "meanwhile");
    buys(shop, "another");
    assert_eq!(shop.ended("cart-recovery", "k-meanwhile"), "COMPLETED");
    shop.start("control");
    shop.wait_for_control();
    let second = agrees(shop);
    assert_eq!(sum(&second, "entered"), 4);

    // Killed at once, again and again, wherever that may be within a write.
    for n in 0..3 {
        leaves(shop, &format!("again-{n}"));
        thread::sleep(Duration::from_millis(900 * n + 300));
        shop.kill("control");
        shop.start("control");
        shop.wait_for_control();
    }
    for n in 0..3 {
        assert_eq!(shop.ended("cart-recovery", &format!("k-again-{n}")), "COMPLETED");
    }
    let third = agrees(shop);
    assert_eq!(sum(&third, "entered"), 7);

    let total = answer(shop, &[]);
    assert_eq!((&total["live"], &total["missed"], &total["rows"][0]["entered"]), (&json!(0), &json!(0), &json!(7)), "{total}");
    let version = answer(shop, &["--version", "1"]);
    assert_eq!((&version["rows"][0]["entered"], &version["rows"][0]["accepted"]), (&json!(7), &json!(0)), "{version}");
    let table = shop.tell(&["stats", "journeys/cart-recovery", "--by", "day", "--steps"]);
    assert!(table.contains("ENTERED") && table.contains("remind") && table.contains("exited: COMPLETED 5, GOAL 2"), "{table}");
    let refused = shop.ask(&["stats", "cart-recoverie"]);
    assert!(!refused.status.success() && said(&refused).contains("there is no Journey `cart-recoverie`"), "{}", said(&refused));
    let metrics = shop.admin("control", "/metrics").body;
    assert!(metrics.contains("\nwaypost_reports_lag_seconds "), "{metrics}");
}
