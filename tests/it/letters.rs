//! `waypostctl deadletter`: what was set aside is found, shown without its values, and put back once.

use std::thread;

use bytes::Bytes;
use serde_json::{Value as Json, json};

use crate::{
    http::Request,
    public::Event,
    shop::{Shop, said, vase},
    stack::visit,
};

/// The name of the letter that holds these bytes.
pub(crate) fn id_of(shop: &Shop, original: &[u8]) -> String {
    shop.until("the dead letter", || {
        let letters = shop.dead.raw();
        letters.iter().find(|letter| letter.payload == original).map(|letter| format!("{}-{}", letter.partition, letter.offset))
    })
}

fn listed(shop: &Shop, arguments: &[&str], id: &str) -> Option<Json> {
    let all = shop.tell_json(&[&["deadletter", "list", "--limit", "1000"], arguments].concat());
    all["letters"].as_array().unwrap().iter().find(|letter| letter["id"] == id).cloned()
}

#[test]
fn a_letter_of_a_schema_that_comes_late_is_put_back_once() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("ahead");
    // a producer that is ahead of the registry: its schema is not there yet
    let event = Event {
        message_id: "a-1",
        name: "Product Added",
        identifiers: &[("user_id", "ahead")],
        properties: vase("k-ahead"),
        ..Event::default()
    };
    let written = shop.registry.event(&event);
    let id = shop.registry.next_id();
    let payload: Bytes = [&[0][..], &id.to_be_bytes(), &written[5..]].concat().into();
    // `reason` is what a letter says too
    let headers = [("trace", "t-1"), ("reason", "theirs"), ("trace", "t-2")];
    shop.events().write_at(5, "ahead's key", &headers, payload.clone());
    let letter = id_of(shop, &payload);
    let found = listed(shop, &["--reason", "SCHEMA_UNKNOWN", "--source", "kafka"], &letter).expect("it is listed");
    assert_eq!((found["door"].as_str(), found["bytes"].as_u64()), (Some("kafka"), Some(payload.len() as u64)), "{found}");
    assert!(listed(shop, &["--reason", "DECODE_FAILED"], &letter).is_none());
    let shown = shop.tell(&["deadletter", "show", &letter]);
    assert!(shown.contains("SCHEMA_UNKNOWN") && !shown.contains("ahead") && !shown.contains("k-ahead"), "{shown}");
    let checked = shop.tell(&["deadletter", "redrive", &letter, "--dry-run", "server"]);
    assert!(checked.contains("1 of 1 put back (server dry run)"), "{checked}");

    // the schema arrives, and two people put the letter back at once: one of them does
    let (_, text) = shop.registry.of_events();
    let mut schema: Json = serde_json::from_str(&text).unwrap();
    schema["doc"] = json!("An event, as the producer that is ahead describes it.");
    assert_eq!(shop.registry.register("ahead-value", &schema.to_string()), id, "somebody else has registered a schema meanwhile");
    let both = thread::scope(|scope| {
        let ask = |by: &'static str| {
            scope.spawn({
                let letter = &letter;
                move || shop.ask(&["--as", by, "deadletter", "redrive", letter])
            })
        };
        [ask("ana"), ask("ben")].map(|asked| asked.join().unwrap())
    });
    let (done, refused): (Vec<_>, Vec<_>) = both.iter().map(said).partition(|said| said.contains("1 of 1 put back"));
    assert!(done.len() == 1 && refused.len() == 1, "{done:?} {refused:?}");
    let why = ["somebody else puts it back at this moment", "it was put back before"];
    assert!(why.iter().any(|why| refused[0].contains(why)) && refused[0].starts_with("exit status: 1"), "{refused:?}");
    shop.mail(&address, "remind k-ahead");
    let third = shop.ask(&["deadletter", "redrive", &letter]);
    assert!(!third.status.success() && said(&third).contains("--again"), "{}", said(&third));
    let found = listed(shop, &[], &letter).expect("it is still listed");
    let redrives = found["redrives"].as_array().unwrap();
    let lines: Vec<Json> = shop.audit().into_iter().filter(|line| line["subject"] == format!("deadletters/{letter}")).collect();
    assert!(lines.iter().all(|line| line["act"] == "deadletter.redrive"), "{lines:?}");
    assert_eq!(redrives.len(), lines.len(), "{redrives:?} {lines:?}");

    // once more on purpose: folded once all the same, because the message id is the event's own
    let again = shop.tell(&["deadletter", "redrive", &letter, "--again"]);
    assert!(again.contains("1 of 1 put back"), "{again}");
    // each time to where it lay, with its key and with its own headers alone
    let events = shop.topic("waypost.events.v1").rows(5, 0);
    let copies: Vec<_> = events.iter().filter(|event| event.payload == payload).collect();
    assert_eq!(copies.len(), 3, "written, put back, put back again");
    assert!(copies.iter().all(|copy| copy.key == copies[0].key && copy.headers == copies[0].headers), "{copies:?}");
    assert_eq!((copies[0].key.as_deref(), copies[0].headers.len()), (Some(&b"ahead's key"[..]), 3));
    shop.mail(&address, "again k-ahead");
    assert_eq!(shop.sink.to(&address).len(), 2);
}

#[test]
fn what_cannot_be_put_back_says_what_to_do_instead() {
    let visit = visit();
    let shop = &visit.shop;
    let ask = |arguments: &[&str]| {
        let output = shop.ask(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };
    // bytes that no schema reads come back as another letter; the first one counts
    let whole =
        shop.registry.event(&Event { message_id: "cut", name: "Cut Short", identifiers: &[("user_id", "cut")], ..Event::default() });
    let payload = whole.slice(..whole.len() - 6);
    shop.events().write([payload.clone()]);
    let letter = id_of(shop, &payload);
    assert_eq!(listed(shop, &["--reason", "DECODE_FAILED"], &letter).expect("it is listed")["redrives"], json!([]));
    shop.tell(&["deadletter", "redrive", &letter]);
    shop.until("another letter of the same bytes", || {
        let again = shop.dead.raw().iter().filter(|letter| letter.payload == payload).count();
        (again == 2).then_some(())
    });
    assert!(ask(&["deadletter", "redrive", &letter]).contains("--again"));
    // a caller over HTTP was told at once
    let body = json!({"event": "Nobody's", "properties": {"note": "redrive me"}}).to_string();
    shop.request(&Request::post("/v1/track", body.clone()).key(&shop.backend));
    let letter = id_of(shop, body.as_bytes());
    let shown = shop.tell(&["deadletter", "show", &letter]);
    assert!(shown.contains("Nobody's") && shown.contains("note") && !shown.contains("redrive me"), "{shown}");
    assert!(ask(&["deadletter", "redrive", &letter]).contains("sent again there"));
    assert!(ask(&["deadletter", "redrive", "0-999999"]).contains("there is no letter 0-999999"));
    assert!(ask(&["deadletter", "show", "first"]).contains("they look like 3-1042"));
}

#[test]
fn a_stop_for_somebody_who_has_expired_is_set_aside_or_meets_who_came_after() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("expires");
    let who = json!({"userId": "expires"});
    shop.touch(&who, "k-expires");
    let mail = shop.mail(&address, "remind k-expires");
    let link = mail.header("list-unsubscribe").trim_matches(['<', '>']).to_owned();
    let press = || {
        let form = Request::post(&link[link.find("/u/").expect("an unsubscribe link")..], "List-Unsubscribe=One-Click");
        assert_eq!(shop.request(&form).status, 200);
    };
    shop.tell(&["profile", "expire", "user_id:expires", "--yes"]);
    // until then what comes still goes to her
    shop.until("the account to be nobody's", || {
        said(&shop.ask(&["profile", "show", "user_id:expires"])).contains("was forgotten").then_some(())
    });

    // nobody is left whom the link could stop: somebody hears of it
    press();
    let letter = shop.until("the stop among the letters", || {
        let all = shop.tell_json(&["deadletter", "list", "--reason", "PROFILE_GONE"]);
        all["letters"].as_array().unwrap().first().map(|letter| letter["id"].as_str().unwrap().to_owned())
    });
    let refused = shop.tell(&["deadletter", "redrive", &letter]);
    assert!(refused.contains("1 of 1 put back"), "{refused}");
    shop.until("the same again: still nobody", || {
        let all = shop.tell_json(&["deadletter", "list", "--reason", "PROFILE_GONE"]);
        (all["letters"].as_array().unwrap().len() == 2).then_some(())
    });

    // the account comes back and says yes again; the old link stops what goes to it now
    shop.person("expires");
    shop.touch(&who, "k-expires-2");
    shop.mail(&address, "remind k-expires-2");
    press();
    shop.touch(&who, "k-expires-3");
    let stopped = shop.decision("the stop", |row| row["key"] == "k-expires-3" && row["what"] == "STOPPED");
    assert_eq!((stopped["step"].as_str(), stopped["reason"].as_str()), (Some("remind"), Some("CONSENT_DENIED")));
}
