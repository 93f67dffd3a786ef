//! The HTTP door's answers, by status, reason and what was stored.

use std::sync::atomic::Ordering;

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use prost::Message as _;
use serde_json::json;
use waypost_codec::{
    inbox,
    unsubscribe::{Unsubscribe, seal},
    value,
};
use waypost_runtime::ports::Clock as _;
use waypost_types::{Generation, IdentifierClass, IdentifierHash, Node, Span, Value, WorkspaceId};

use crate::support::{BROWSER_KEY, INSTALL, KAFKA_KEY, SERVER_KEY, Server, event, key, workspace};

#[tokio::test]
async fn a_call_is_answered_when_it_is_stored() {
    let server = Server::new();
    assert_eq!(server.post("/v1/track", Some(SERVER_KEY), event(7).to_string()).await, (StatusCode::OK, json!({"success": true})));
    let events = server.door.events();
    assert_eq!((events.len(), events[0].source.as_str(), events[0].may_grant), (1, "backend", true));
}

#[tokio::test]
async fn the_key_may_come_in_three_ways() {
    let server = Server::new();
    let mut body = event(7);
    body["writeKey"] = json!(SERVER_KEY);
    assert_eq!(server.post("/v1/track", None, body.to_string()).await.0, StatusCode::OK);
    let bearer = Request::post("/v1/track").header(header::AUTHORIZATION, "Bearer some-token").body(body.to_string().into()).unwrap();
    assert_eq!(server.send(bearer).await.status(), StatusCode::OK);
    assert_eq!(server.post("/v1/track", Some(SERVER_KEY), event(7).to_string()).await.0, StatusCode::OK);
    assert_eq!(server.stored(), 3);
}

#[tokio::test]
async fn each_bad_request_has_its_reason_and_stores_nothing() {
    let server = Server::new();
    let track = event(7).to_string();
    let many = json!({"batch": vec![json!({}); 2_501]}).to_string();
    let huge = json!({"batch": [{"a": "x".repeat(520_000)}]}).to_string();
    let with_key = |key: &str| json!({"writeKey": key, "batch": [event(1)]}).to_string();
    for (what, path, key, body, status, reason) in [
        ("no key", "/v1/track", None, track.clone(), 401, "BAD_KEY"),
        ("unknown key", "/v1/track", Some("wk_other"), track.clone(), 401, "BAD_KEY"),
        ("unknown key before a bad body", "/v1/track", Some("wk_other"), "{".into(), 401, "BAD_KEY"),
        ("unknown key in the body", "/v1/batch", None, with_key("wk_other"), 401, "BAD_KEY"),
        ("a key without source", "/v1/batch", None, with_key("wk_orphan"), 401, "BAD_KEY"),
        ("a key of another door", "/v1/track", Some(KAFKA_KEY), track.clone(), 403, "SOURCE_FORBIDDEN"),
        ("broken JSON", "/v1/track", Some(SERVER_KEY), "{\"event\": ".into(), 400, "BAD_JSON"),
        ("no object", "/v1/track", Some(SERVER_KEY), "[1]".into(), 400, "BAD_JSON"),
        ("no batch", "/v1/batch", Some(SERVER_KEY), "{}".into(), 400, "BAD_JSON"),
        ("batch is no list", "/v1/batch", Some(SERVER_KEY), r#"{"batch": 5}"#.into(), 400, "BAD_JSON"),
        ("too many", "/v1/batch", Some(SERVER_KEY), many, 400, "BATCH_TOO_MANY_EVENTS"),
        ("too large", "/v1/batch", Some(SERVER_KEY), huge, 400, "BODY_TOO_LARGE"),
        ("deep context", "/v1/batch", Some(SERVER_KEY), format!(r#"{{"batch": [], "context": {}}}"#, nested(40)), 400, "BAD_JSON"),
    ] {
        let (found, body) = server.post(path, key, body).await;
        assert_eq!(
            (found.as_u16(), body["reason"].as_str(), body["success"].as_bool()),
            (status, Some(reason), Some(false)),
            "{what}: {body}"
        );
    }
    assert_eq!(server.post("/v1/merge", Some(SERVER_KEY), track).await.0, StatusCode::NOT_FOUND);
    let form = Request::post("/v1/track").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body("a=b".into()).unwrap();
    assert_eq!(server.send(form).await.status(), StatusCode::BAD_REQUEST);
    let latin = Request::post("/v1/track").body(vec![b'{', 0xff, b'}'].into()).unwrap();
    assert_eq!(server.send(latin).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!((server.stored(), server.door.reasons()), (0, vec![]));
}

#[tokio::test]
async fn a_key_that_is_on_its_way_out_is_taken_until_its_end_and_then_unknown() {
    let server = Server::new();
    let (old, end) = ("wk_old", server.clock.now().plus(Span::from_secs(60)));
    server.ring.replace([&workspace()], vec![key(old, "backend", Some(end)), key(SERVER_KEY, "backend", None)]);
    let ask = |word| server.post("/v1/track", Some(word), event(1).to_string());
    for word in [old, SERVER_KEY] {
        assert_eq!(ask(word).await.0, 200, "{word}");
    }
    server.clock.sleep_until(end.minus(Span::from_millis(1))).await;
    assert_eq!(ask(old).await.0, 200, "the last moment");
    server.clock.sleep_until(end).await;
    let stored = server.stored();
    let (unknown, late) = (ask("wk_other").await, ask(old).await);
    assert_eq!((late.0.as_u16(), &late), (401, &unknown), "nobody hears that it was one");
    assert_eq!(ask(SERVER_KEY).await.0, 200);
    assert_eq!(server.stored(), stored + 1);
}

fn nested(depth: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
}

#[tokio::test]
async fn bad_items_of_a_batch_are_set_aside_and_the_good_are_stored() {
    let server = Server::new();
    let deep = format!(r#"{{"type":"track","messageId":"m-5","userId":"u-1","event":"E","properties":{}}}"#, nested(5_000));
    let big = json!({"type": "track", "messageId": "m-4", "userId": "u-1", "event": "E", "properties": {"a": "x".repeat(33_000)}});
    let items = [
        event(0).to_string(),
        json!({"type": "track", "messageId": "m-1", "event": "E"}).to_string(),
        json!({"type": "track", "messageId": "m-2", "userId": "u-1"}).to_string(),
        json!({"type": "track", "messageId": "m-3", "userId": "u-1", "event": "Order Cancelled"}).to_string(),
        big.to_string(),
        deep,
        json!({"type": "dance", "messageId": "m-6", "userId": "u-1"}).to_string(),
        json!({"type": "track", "messageId": "m-7", "userId": "u-1", "event": "Catalog Product Created"}).to_string(),
        "17".to_owned(),
        event(9).to_string(),
    ];
    let body = format!(r#"{{"batch": [{}], "context": {{"locale": "de-DE"}}, "sentAt": "2026-03-01T12:00:00Z"}}"#, items.join(","));
    let (status, answer) = server.post("/v1/batch", Some(SERVER_KEY), body).await;
    assert_eq!((status, &answer["success"]), (StatusCode::OK, &json!(true)));
    let found: Vec<_> = answer["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["index"].as_u64(), r["messageId"].as_str(), r["reason"].as_str()))
        .collect();
    let expected = [
        (1, Some("m-1"), "NO_IDENTIFIER"),
        (2, Some("m-2"), "NAME_MISSING"),
        (3, Some("m-3"), "PROPERTY_MISSING"),
        (4, None, "EVENT_TOO_LARGE"),
        (5, None, "TOO_DEEP"),
        (6, Some("m-6"), "SCHEMA_MISMATCH"),
        (7, Some("m-7"), "NOT_YET_SUPPORTED"),
        (8, None, "BAD_JSON"),
    ];
    assert_eq!(found, expected.map(|(i, id, reason)| (Some(i), id, Some(reason))));
    let names: Vec<_> = server.door.events().iter().map(|e| e.message_id.clone()).collect();
    assert_eq!(names, ["m-0", "m-9"]);
    assert_eq!(server.door.events()[0].context.as_ref().unwrap().entries[0].name, "locale");
    assert_eq!(server.door.reasons(), expected.map(|(_, _, reason)| reason));
    let letters = server.door.letters.lock().unwrap();
    assert_eq!((letters[7].original.as_ref(), letters[7].door), (&b"17"[..], "http"));
    assert!(letters.iter().flat_map(waypost_ingest::DeadLetter::headers).all(|(_, value)| !value.windows(3).any(|w| w == b"u-1")));
}

#[tokio::test]
async fn a_request_of_bad_items_only_is_never_a_silent_success() {
    let server = Server::new();
    let (status, answer) = server.post("/v1/track", Some(SERVER_KEY), r#"{"event": "E", "messageId": "m-1"}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!((&answer["success"], &answer["reason"]), (&json!(false), &json!("NO_IDENTIFIER")));
    assert_eq!(answer["rejected"][0]["messageId"], json!("m-1"));
    let large = json!({"userId": "u-1", "event": "E", "properties": {"a": "x".repeat(33_000)}}).to_string();
    assert_eq!(server.post("/v1/track", Some(SERVER_KEY), large).await.1["reason"], json!("EVENT_TOO_LARGE"));
    let deep = format!(r#"{{"userId":"u-1","event":"E","properties":{}}}"#, nested(40));
    assert_eq!(server.post("/v1/track", Some(SERVER_KEY), deep).await.1["reason"], json!("TOO_DEEP"));
    assert_eq!(server.door.reasons(), ["NO_IDENTIFIER", "EVENT_TOO_LARGE", "TOO_DEEP"]);
    assert_eq!(server.post("/v1/batch", Some(SERVER_KEY), r#"{"batch": []}"#).await, (StatusCode::OK, json!({"success": true})));
}

#[tokio::test]
async fn a_log_that_does_not_answer_is_a_503() {
    let server = Server::new();
    server.door.away.store(true, Ordering::SeqCst);
    let (status, answer) = server.post("/v1/track", Some(SERVER_KEY), event(1).to_string()).await;
    assert_eq!((status, &answer["reason"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("UNAVAILABLE")));
    // What is not let in has to be set aside before it is answered.
    assert_eq!(server.post("/v1/track", Some(SERVER_KEY), r#"{"event": "E"}"#).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.stored(), 0);
}

#[tokio::test]
async fn a_browser_asserts_only_what_its_source_may() {
    let server = Server::new();
    let body = json!({"messageId": "m-1", "userId": "u-1", "anonymousId": "c-1", "event": "Subscribed", "properties": {"channel": "email", "topic": "news"}});
    assert_eq!(server.post("/v1/track", Some(BROWSER_KEY), body.to_string()).await.0, StatusCode::OK);
    let event = server.door.events().remove(0);
    assert_eq!((event.identifiers.len(), event.identifiers[0].value.as_str(), event.may_grant), (1, "c-1", false));
    assert_eq!((event.quality[0].path.as_str(), event.quality[0].reason.as_str()), ("userId", "SOURCE_FORBIDDEN"));
    assert_eq!(server.post("/v1/identify", Some(BROWSER_KEY), r#"{"userId": "u-1"}"#).await.1["reason"], json!("NO_IDENTIFIER"));
}

#[tokio::test]
async fn a_get_never_unsubscribes_and_a_post_does() {
    let server = Server::new();
    let generation = Generation { layout: 1, offset: 9, index: 2 };
    let node = Node { class: IdentifierClass::Email, hash: IdentifierHash::new([3; 16]), generation };
    let link = Unsubscribe { workspace: WorkspaceId::new(1), profile: node.profile(), channel: "email".into(), topic: "cart".into() };
    let path = format!("/u/{}", seal(&INSTALL, &link));

    let response = server.send(Request::get(&path).body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-robots-tag", "noindex"),
    ] {
        assert_eq!(response.headers().get(name).unwrap(), value);
    }
    let page = to_bytes(response.into_body(), 1 << 16).await.unwrap();
    assert!(String::from_utf8_lossy(&page).contains("<form method=\"post\">"));
    assert_eq!(server.stored(), 0);

    let request =
        Request::post(&path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body("List-Unsubscribe=One-Click".into());
    assert_eq!(server.send(request.unwrap()).await.status(), StatusCode::OK);
    let record = server.door.records.lock().unwrap()[0].clone();
    let body = inbox::IdentityEvent::decode(record.body).unwrap();
    assert!(body.by_profile);
    assert_eq!(record.key.as_ref(), [3; 16]);
    assert_eq!(body.identifiers[0].generation.as_ref(), &node.to_bytes()[17..]);
    let event = inbox::Event::decode(body.event).unwrap();
    let properties = Value::Object(value::object_from_proto(&event.properties.unwrap()).unwrap());
    assert_eq!(event.name, "Unsubscribed");
    assert_eq!((properties.get("channel"), properties.get("topic")), (Some(&Value::text("email")), Some(&Value::text("cart"))));

    for bad in ["/u/nonsense".to_owned(), format!("{path}x")] {
        for method in ["GET", "POST"] {
            let request = Request::builder().method(method).uri(&bad).body(Body::empty()).unwrap();
            let answer = server.send(request).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{method} {bad}");
            assert!(answer.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        }
    }
    server.door.away.store(true, Ordering::SeqCst);
    let request = Request::post(&path).body(Body::empty()).unwrap();
    assert_eq!(server.send(request).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.stored(), 1);
}

#[tokio::test]
async fn liveness_needs_nothing() {
    let server = Server::new();
    server.door.away.store(true, Ordering::SeqCst);
    assert_eq!(server.send(Request::get("/livez").body(Body::empty()).unwrap()).await.status(), StatusCode::OK);
}
