//! Bad input at every door: the documented answer, a dead letter where one is promised, and the next good
//! event goes through.

use bytes::Bytes;
use serde_json::{Value as Json, json};

use crate::{
    http::Request,
    public::{Event, header},
    shop::{Shop, said, vase},
    stack::visit,
};

/// Waits for the dead letter that holds these bytes; its headers of interest.
fn letter(shop: &Shop, original: &[u8]) -> (String, String) {
    shop.until("the dead letter", || {
        let letters = shop.dead.raw();
        let own = letters.iter().find(|letter| letter.payload == original)?;
        Some((header(own, "door"), header(own, "reason")))
    })
}

#[test]
fn http_refuses_each_bad_call_with_its_reason() {
    let visit = visit();
    let shop = &visit.shop;
    let deep = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
    let long = "x".repeat(40_000);
    let track = |more: Json| {
        let mut call = json!({"event": "Product Viewed", "anonymousId": "bad", "properties": {"product_id": "p1"}});
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        call.to_string()
    };
    let nameless = json!({"anonymousId": "bad", "properties": {}}).to_string();
    let unsigned = json!({"event": "Product Viewed", "properties": {"product_id": "p1"}}).to_string();
    let table: [(&str, String, u16, &str, bool); 10] = [
        ("/v1/track", "{\"event\": \"Product Viewed\", ".to_owned(), 400, "BAD_JSON", false),
        ("/v1/track", "[]".to_owned(), 400, "BAD_JSON", false),
        ("/v1/track", unsigned, 400, "NO_IDENTIFIER", true),
        ("/v1/track", track(json!({"anonymousId": "null"})), 400, "NO_IDENTIFIER", true),
        ("/v1/track", nameless, 400, "NAME_MISSING", true),
        ("/v1/track", track(json!({"properties": {"cart_id": "k"}})), 400, "PROPERTY_MISSING", true),
        ("/v1/track", track(json!({"properties": {"product_id": "p1", "text": long}})), 400, "EVENT_TOO_LARGE", true),
        ("/v1/track", format!("{{\"event\": \"Deep\", \"anonymousId\": \"bad\", \"properties\": {deep}}}"), 400, "TOO_DEEP", true),
        ("/v1/track", track(json!({"properties": "none"})), 400, "SCHEMA_MISMATCH", true),
        ("/v1/group", json!({"anonymousId": "bad"}).to_string(), 400, "PROPERTY_MISSING", true),
    ];
    for (path, body, status, reason, kept) in table {
        let answer = shop.request(&Request::post(path, body.clone()).key(&shop.backend));
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{body:.200}");
        if kept {
            assert_eq!(letter(shop, body.as_bytes()), ("http".to_owned(), reason.to_owned()), "{body:.200}");
        }
    }
}

#[test]
fn http_refuses_strangers_and_what_is_too_much() {
    let visit = visit();
    let shop = &visit.shop;
    let good = json!({"event": "Product Viewed", "anonymousId": "good", "properties": {"product_id": "p1"}}).to_string();
    let ask = |request: Request<'_>| {
        let answer = shop.request(&request);
        (answer.status, answer.reason())
    };
    let refused = |status, reason: &str| (status, reason.to_owned());
    assert_eq!(ask(Request::post("/v1/track", good.clone())), refused(401, "BAD_KEY"));
    assert_eq!(ask(Request::post("/v1/track", good.clone()).key("wrong")), refused(401, "BAD_KEY"));
    let page = || "https://shop.example".to_owned();
    assert_eq!(ask(Request::post("/v1/track", good.clone()).key(&shop.backend).header("origin", page())), refused(403, "SOURCE_FORBIDDEN"));
    assert_eq!(shop.request(&Request::post("/v1/track", good.clone()).key(&shop.web).header("origin", page())).status, 200);
    assert_eq!(ask(Request::post("/v1/batch", "").stating(600_000).key(&shop.backend)), refused(400, "BODY_TOO_LARGE"));
    let many = json!({"batch": vec![json!({}); 2_501]}).to_string();
    assert_eq!(ask(Request::post("/v1/batch", many).key(&shop.backend)), refused(400, "BATCH_TOO_MANY_EVENTS"));
    assert_eq!(shop.request(&Request::post("/v1/other", good.clone()).key(&shop.backend)).status, 404);
    let mut signed: Json = serde_json::from_str(&good).unwrap();
    signed["writeKey"] = json!(shop.backend);
    assert_eq!(shop.request(&Request::post("/v1/track", signed.to_string())).status, 200);
    assert_eq!(shop.request(&Request::get("/livez")).status, 200);
}

#[test]
fn a_key_that_is_replaced_is_good_beside_the_new_one_until_its_end_and_a_revoked_one_no_more() {
    let visit = visit();
    let shop = &visit.shop;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("till.yaml");
    let source = "apiVersion: waypost.dev/v1\nkind: Source\nmetadata: {name: till}\nspec: {kind: server}\n";
    std::fs::write(&file, source).unwrap();
    shop.tell(&["apply", "-f", &file.display().to_string()]);
    let is = |key: &str, status: u16| shop.request(&Request::post("/v1/batch", "{\"batch\": []}").key(key)).status == status;
    let first = shop.tell(&["source", "rotate-key", "till"]);
    shop.until("the door to know the first key", || is(&first, 200).then_some(()));
    let rash = shop.ask(&["source", "rotate-key", "till"]);
    assert!(!rash.status.success() && said(&rash).contains("--keep-old-for"), "{}", said(&rash));
    let dry = shop.tell(&["source", "rotate-key", "till", "--dry-run"]);
    assert!(dry.contains("server dry run") && is(&first, 200), "{dry}");

    let second = shop.tell(&["source", "rotate-key", "till", "--keep-old-for", "24h"]);
    shop.until("the door to know the second key", || is(&second, 200).then_some(()));
    assert!(is(&first, 200), "both are good");
    let list = || -> Vec<Json> {
        let told: Json = serde_json::from_str(&shop.tell(&["source", "list-keys", "till", "-o", "json"])).unwrap();
        told["keys"].as_array().unwrap().clone()
    };
    assert_eq!(list().iter().map(|key| key["until"] == "").collect::<Vec<_>>(), [false, true]);
    // An end that is sooner counts.
    let third = shop.tell(&["source", "rotate-key", "till", "--keep-old-for", "1s"]);
    shop.until("the end of both keys", || (is(&first, 401) && is(&second, 401)).then_some(()));
    assert!(is(&third, 200));

    let [left] = &list()[..] else { panic!("{:?}", list()) };
    let id = left["name"].as_str().unwrap().rsplit('/').next().unwrap();
    assert!(!shop.ask(&["source", "revoke-key", id]).status.success(), "it asks");
    shop.tell(&["source", "revoke-key", id, "--yes"]);
    shop.until("the end of the third key", || is(&third, 401).then_some(()));
    assert!(list().is_empty());
}

#[test]
fn the_good_events_of_a_bad_batch_are_kept() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("batch");
    let who = "batch";
    let batch = json!({"batch": [
        {"type": "track", "event": "Product Viewed", "messageId": "bad-1", "properties": {"product_id": "p1"}},
        {"type": "track", "event": "Product Added", "messageId": "good-1", "userId": who, "properties": vase("k-batch")},
        {"type": "nothing", "messageId": "bad-2", "userId": who},
    ]});
    let answer = shop.request(&Request::post("/v1/batch", batch.to_string()).key(&shop.backend));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let rejected: Vec<(u64, String, String)> = answer.json()["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["index"].as_u64().unwrap(), r["messageId"].as_str().unwrap().to_owned(), r["reason"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [(0, "bad-1", "NO_IDENTIFIER"), (2, "bad-2", "SCHEMA_MISMATCH")];
    assert_eq!(rejected, expected.map(|(index, id, reason)| (index, id.to_owned(), reason.to_owned())));
    shop.mail(&address, "remind k-batch");
}

#[test]
fn a_browser_grants_nothing() {
    let visit = visit();
    let shop = &visit.shop;
    shop.say("/v1/identify", json!({"userId": "self-made", "traits": {"email": "self-made@mail.example"}}));
    let grant = json!({"event": "Subscribed", "userId": "self-made", "properties": {"channel": "email", "topic": "cart-reminders"}});
    shop.request(&Request::post("/v1/track", grant.to_string()).key(&shop.web));
    shop.touch(&json!({"userId": "self-made"}), "k-self-made");
    let stopped = shop.decision("the stop", |row| row["key"] == "k-self-made" && row["what"] == "STOPPED");
    assert_eq!(stopped["reason"], "CONSENT_MISSING");
}

#[test]
fn kafka_sets_bad_records_aside_and_goes_on() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("behind-bad");
    let who: &[(&str, &str)] = &[("user_id", "behind-bad")];
    let event = |event: Event<'_>| shop.registry.event(&event);
    let good =
        event(Event { message_id: "g-1", name: "Product Added", identifiers: who, properties: vase("k-behind-bad"), ..Event::default() });
    let whole = event(Event { message_id: "b-0", name: "Cut Off", identifiers: who, ..Event::default() });
    let unknown = [&[0, 0, 0x0f, 0x42, 0x3f][..], &whole[5..]].concat();
    let bad: [(Bytes, &str); 8] = [
        (Bytes::from_static(b"{\"name\": \"plain JSON\"}"), "NOT_FRAMED"),
        (unknown.into(), "SCHEMA_UNKNOWN"),
        (whole.slice(..whole.len() - 4), "DECODE_FAILED"),
        (event(Event { name: "No Id", identifiers: who, ..Event::default() }), "MESSAGE_ID_MISSING"),
        (event(Event { message_id: "b-1", identifiers: who, ..Event::default() }), "NAME_MISSING"),
        (event(Event { message_id: "b-2", name: "Nobody", ..Event::default() }), "NO_IDENTIFIER"),
        (event(Event { message_id: "b-3", name: "Product Added", identifiers: who, ..Event::default() }), "PROPERTY_MISSING"),
        (event(Event { message_id: "b-4", name: "Stranger", identifiers: who, source: "web", ..Event::default() }), "SOURCE_FORBIDDEN"),
    ];
    shop.events().write(bad.iter().map(|(payload, _)| payload.clone()).chain([good]));
    shop.mail(&address, "remind k-behind-bad");
    for (payload, reason) in bad {
        assert_eq!(letter(shop, &payload), ("kafka".to_owned(), reason.to_owned()));
    }
}
