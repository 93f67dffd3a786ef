//! How often a key and an address may call, by the clock of the test.

use std::net::SocketAddr;

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Request, StatusCode, header},
};
use serde_json::{Value as Json, json};
use waypost_codec::unsubscribe::{Unsubscribe, seal};
use waypost_ingest::{IngestConfig, TrustedProxies};
use waypost_runtime::ports::Clock as _;
use waypost_types::{Generation, IdentifierClass, IdentifierHash, Node, Span, WorkspaceId};

use crate::support::{BROWSER_KEY, INSTALL, KAFKA_KEY, SERVER_KEY, Server, basic, event, judged};

const HERE: &str = "203.0.113.9:4711";
const THERE: &str = "198.51.100.1:4711";

/// One call, with the key in its header.
fn track(from: &str, key: &str) -> Request<Body> {
    from_address(from, Request::post("/v1/track").header(header::AUTHORIZATION, basic(key)).body(called()).unwrap())
}

fn called() -> Body {
    let mut call = event(1);
    call["anonymousId"] = json!("c-1");
    call.to_string().into()
}

fn from_address(from: &str, mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(ConnectInfo(from.parse::<SocketAddr>().unwrap()));
    request
}

/// How many of twenty are answered each way, in order of their coming.
async fn twenty(server: &Server, request: impl Fn() -> Request<Body>) -> Vec<(u16, usize)> {
    let mut answers: Vec<(u16, usize)> = Vec::new();
    for _ in 0..20 {
        let status = judged(server.send(request()).await).await.0.as_u16();
        match answers.last_mut() {
            Some((last, count)) if *last == status => *count += 1,
            _ => answers.push((status, 1)),
        }
    }
    answers
}

fn limited(key_rate: u32, address_rate: u32) -> impl FnOnce(&mut IngestConfig) {
    move |config| (config.key_rate, config.address_rate) = (key_rate, address_rate)
}

#[tokio::test]
async fn a_key_has_its_rate_wherever_its_callers_are() {
    let server = Server::with(limited(5, 0));
    assert_eq!(twenty(&server, || track(HERE, SERVER_KEY)).await, [(200, 5), (429, 15)]);
    assert_eq!(server.send(track(THERE, SERVER_KEY)).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(twenty(&server, || track(HERE, BROWSER_KEY)).await, [(200, 5), (429, 15)], "each key by itself");
    let (_, refusal) = judged(server.send(track(HERE, SERVER_KEY)).await).await;
    assert_eq!((&refusal["reason"], &refusal["success"]), (&json!("THROTTLED"), &json!(false)));
    assert!(refusal["message"].as_str().unwrap().contains("write key"));
    assert_eq!(server.stored(), 10, "what is refused is not stored");
    server.clock.sleep_until(server.clock.now().plus(Span::from_secs(1))).await;
    assert_eq!(twenty(&server, || track(HERE, SERVER_KEY)).await, [(200, 5), (429, 15)], "as the answer promised");
    let in_body = || {
        let body = json!({"writeKey": SERVER_KEY, "batch": [event(1)]}).to_string();
        from_address(HERE, Request::post("/v1/batch").body(body.into()).unwrap())
    };
    server.clock.sleep_until(server.clock.now().plus(Span::from_secs(1))).await;
    assert_eq!(twenty(&server, in_body).await, [(200, 5), (429, 15)], "wherever the key stands");
}

#[tokio::test]
async fn a_workspace_has_its_quota_of_events_whichever_key_brings_them() {
    let server = Server::with(limited(0, 0));
    assert_eq!(twenty(&server, || track(HERE, SERVER_KEY)).await, [(200, 20)], "none is set");
    server.ring.bound([(WorkspaceId::new(1), 10), (WorkspaceId::new(2), 1)].into());
    let batch = |events: usize| {
        let body = json!({"batch": (0..events).map(event).collect::<Vec<_>>()}).to_string();
        from_address(HERE, Request::post("/v1/batch").header(header::AUTHORIZATION, basic(SERVER_KEY)).body(body.into()).unwrap())
    };
    assert_eq!(server.send(batch(6)).await.status(), StatusCode::OK);
    assert_eq!(twenty(&server, || track(THERE, BROWSER_KEY)).await, [(200, 4), (429, 16)], "both keys together");
    server.clock.sleep_until(server.clock.now().plus(Span::from_secs(1))).await;
    let stored = server.stored();
    assert_eq!(server.send(batch(40)).await.status(), StatusCode::OK, "never cut");
    assert_eq!(server.stored(), stored + 40);
    let refused = server.send(batch(1)).await;
    assert_eq!(refused.headers()[header::RETRY_AFTER], "4", "and paid for");
    let (_, refusal) = judged(refused).await;
    assert_eq!(refusal["message"], "the workspace may send 10 events a second");
    server.clock.sleep_until(server.clock.now().plus(Span::from_secs(4))).await;
    assert_eq!(server.send(batch(1)).await.status(), StatusCode::OK, "as the answer promised");
    server.ring.bound([].into());
    assert_eq!(twenty(&server, || track(HERE, SERVER_KEY)).await, [(200, 20)], "it is taken back at once");
}

#[tokio::test]
async fn an_address_has_its_rate_for_pages_and_a_server_has_none() {
    let server = Server::with(limited(0, 5));
    assert_eq!(twenty(&server, || track(HERE, BROWSER_KEY)).await, [(200, 5), (429, 15)]);
    assert_eq!(twenty(&server, || track(THERE, BROWSER_KEY)).await, [(200, 5), (429, 15)], "each address by itself");
    assert_eq!(twenty(&server, || track(HERE, SERVER_KEY)).await, [(200, 20)], "not even beside a page that asks too often");
    let (_, refusal) = judged(server.send(track(HERE, BROWSER_KEY)).await).await;
    assert!(refusal["message"].as_str().unwrap().contains("address"));
}

#[tokio::test]
async fn whoever_has_no_valid_key_uses_up_his_address_whatever_he_tries() {
    let post = |path: &str, key: Option<&str>, body: &str| {
        let mut request = Request::post(path);
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, key);
        }
        from_address(HERE, request.body(body.to_owned().into()).unwrap())
    };
    for (what, request, status) in [
        ("a guessed key", Box::new(move || post("/v1/track", Some(&basic("wk_guess")), "{}")) as Box<dyn Fn() -> Request<Body>>, 401),
        ("a guessed key in the body", Box::new(move || post("/v1/track", None, r#"{"writeKey": "wk_guess"}"#)), 401),
        ("no key", Box::new(move || post("/v1/batch", None, "{}")), 401),
        ("no JSON, so no key", Box::new(move || post("/v1/track", None, "{")), 400),
        ("another kind of authorization", Box::new(move || post("/v1/track", Some("Digest x"), "{}")), 401),
        ("a key of the Kafka door", Box::new(move || post("/v1/track", Some(&basic(KAFKA_KEY)), "{}")), 403),
        ("a link that is none", Box::new(move || from_address(HERE, Request::get("/u/guess").body(Body::empty()).unwrap())), 404),
        (
            "a press on a link that is none",
            Box::new(move || from_address(HERE, Request::post("/u/guess").body(Body::empty()).unwrap())),
            404,
        ),
    ] {
        let server = Server::with(limited(0, 5));
        assert_eq!(twenty(&server, request).await, [(status, 5), (429, 15)], "{what}");
        assert_eq!(
            server.send(track(HERE, BROWSER_KEY)).await.status(),
            StatusCode::TOO_MANY_REQUESTS,
            "{what}: pages of the same address"
        );
        assert_eq!(server.send(track(HERE, SERVER_KEY)).await.status(), StatusCode::OK, "{what}: a server there");
        assert_eq!(server.send(track(THERE, BROWSER_KEY)).await.status(), StatusCode::OK, "{what}: others");
    }
}

#[tokio::test]
async fn a_request_that_its_caller_gives_up_has_used_one_too() {
    let server = Server::with(limited(0, 1));
    let never = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let given_up = server.send(from_address(HERE, Request::post("/v1/track").body(never).unwrap()));
    assert!(futures::future::poll_immediate(Box::pin(given_up)).await.is_none());
    assert_eq!(server.send(track(HERE, BROWSER_KEY)).await.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_server_with_its_key_in_the_body_uses_nothing_of_its_address() {
    let server = Server::with(limited(0, 1));
    let body = json!({"writeKey": SERVER_KEY, "batch": [event(1)]}).to_string();
    let request = || from_address(HERE, Request::post("/v1/batch").body(body.clone().into()).unwrap());
    assert_eq!(twenty(&server, request).await, [(200, 20)]);
    assert_eq!(server.send(track(HERE, BROWSER_KEY)).await.status(), StatusCode::OK);
    assert_eq!(server.send(request()).await.status(), StatusCode::TOO_MANY_REQUESTS, "a page of that address has used what strangers may");
}

#[tokio::test]
async fn a_link_works_as_often_as_it_is_pressed() {
    let server = Server::with(limited(0, 1));
    let generation = Generation { layout: 1, offset: 9, index: 2 };
    let node = Node { class: IdentifierClass::Email, hash: IdentifierHash::new([3; 16]), generation };
    let link = Unsubscribe { workspace: WorkspaceId::new(1), profile: node.profile(), channel: "email".into(), topic: "cart".into() };
    let path = format!("/u/{}", seal(&INSTALL, &link));
    let press = || from_address(HERE, Request::post(&path).body(Body::empty()).unwrap());
    assert_eq!(twenty(&server, press).await, [(200, 20)], "one mailbox provider presses for many people");
    assert_eq!(server.stored(), 20);
}

#[tokio::test]
async fn behind_a_proxy_each_client_has_his_own_rate_and_nobody_can_lie() {
    let proxied = |config: &mut IngestConfig| {
        limited(0, 5)(config);
        config.proxies = TrustedProxies::parse("10.0.0.0/8").unwrap();
    };
    let forwarded = |from: &str, said: &str| {
        let mut request = track(from, BROWSER_KEY);
        request.headers_mut().insert("x-forwarded-for", said.parse().unwrap());
        request
    };
    let server = Server::with(proxied);
    assert_eq!(twenty(&server, || forwarded("10.1.1.1:1", "203.0.113.9")).await, [(200, 5), (429, 15)]);
    let lie = "192.0.2.66, 203.0.113.9";
    assert_eq!(twenty(&server, || forwarded("10.2.2.2:1", lie)).await, [(429, 20)], "what he put before it himself");
    assert_eq!(twenty(&server, || forwarded("10.1.1.1:1", "203.0.113.8")).await, [(200, 5), (429, 15)]);
    assert_eq!(twenty(&server, || forwarded("[2001:db8::1]:1", "192.0.2.1")).await, [(200, 5), (429, 15)], "believed of proxies only");
    assert_eq!(twenty(&server, || forwarded("[2001:db8::2]:1", "192.0.2.2")).await, [(429, 20)], "a household of IPv6 is one");
}

#[tokio::test]
async fn bodies_on_their_way_take_bounded_memory_and_servers_keep_their_half() {
    let server = Server::with(|config| (config.max_body, config.max_arriving) = (64 * 1024, 256 * 1024));
    let waiting = |key: Option<&str>, stated: Option<usize>| {
        let never = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let mut request = Request::post("/v1/track");
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, basic(key));
        }
        if let Some(stated) = stated {
            request = request.header(header::CONTENT_LENGTH, stated);
        }
        Box::pin(server.send(request.body(never).unwrap()))
    };
    let reason = |answer: (StatusCode, Json)| (answer.0.as_u16(), answer.1["reason"].as_str().unwrap_or_default().to_owned());
    let mut open = [waiting(None, None), waiting(Some(BROWSER_KEY), Some(64 * 1024))];
    for request in &mut open {
        assert!(futures::future::poll_immediate(request).await.is_none(), "two of 64 KiB fit");
    }
    assert_eq!(reason(judged(waiting(None, Some(1)).await).await), (429, "THROTTLED".to_owned()));
    assert_eq!(server.post("/v1/track", Some(BROWSER_KEY), event(1).to_string()).await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(server.post("/v1/track", Some(SERVER_KEY), event(1).to_string()).await.0, StatusCode::OK);
    drop(open);
    assert_eq!(
        server.post("/v1/track", None, json!({"writeKey": SERVER_KEY, "userId": "u", "event": "E"}).to_string()).await.0,
        StatusCode::OK
    );
}
