//! Pages of a browser: which may call (CORS), with which keys, and what they may say.

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use serde_json::{Value as Json, json};
use waypost_ingest::Origins;

use crate::support::{BROWSER_KEY, SERVER_KEY, Server, basic, judged};

const SHOP: &str = "https://shop.example";
const OTHER: &str = "https://other.example";

fn server(origins: &str) -> Server {
    Server::with(|config| config.origins = Origins::parse(origins).unwrap())
}

fn preflight(origin: &str) -> Request<Body> {
    Request::options("/v1/track")
        .header(header::ORIGIN, origin)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type")
        .body(Body::empty())
        .unwrap()
}

fn called(origin: Option<&str>, key: &str) -> Request<Body> {
    let mut request = Request::post("/v1/track").header(header::AUTHORIZATION, basic(key));
    if let Some(origin) = origin {
        request = request.header(header::ORIGIN, origin);
    }
    request.body(json!({"anonymousId": "c-1", "userId": "u-1", "event": "Signed In"}).to_string().into()).unwrap()
}

fn cors(headers: &HeaderMap) -> Vec<&str> {
    headers.keys().map(axum::http::HeaderName::as_str).filter(|name| name.starts_with("access-control-")).collect()
}

async fn status_and_reason(server: &Server, request: Request<Body>) -> (u16, String) {
    let (status, body) = judged(server.send(request).await).await;
    (status.as_u16(), body["reason"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_preflight_is_answered_for_pages_that_may_call() {
    let server = server("https://shop.example,https://www.shop.example");
    let answer = server.send(preflight(SHOP)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let said = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_ascii_lowercase()).unwrap_or_default();
    assert_eq!(said("access-control-allow-origin"), SHOP);
    assert_eq!(said("access-control-allow-methods"), "post");
    assert_eq!(said("access-control-allow-headers"), "content-type,authorization");
    assert_eq!(said("access-control-max-age"), "7200");
    assert!(said("vary").contains("origin"), "what one page is told is not kept for another");
    assert_eq!(said("access-control-allow-credentials"), "");

    let answer = server.send(preflight(OTHER)).await;
    assert!(!answer.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{:?}", answer.headers());
    assert_eq!(server.stored(), 0);
}

#[tokio::test]
async fn an_answer_can_be_read_by_pages_that_may_call_refusals_too() {
    let server = Server::with(|config| {
        config.origins = Origins::parse(SHOP).unwrap();
        config.key_rate = 1;
    });
    for (status, exposed) in [(200, None), (429, Some("1"))] {
        let answer = server.send(called(Some(SHOP), BROWSER_KEY)).await;
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], SHOP);
        assert_eq!(answer.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS], "retry-after,x-ratelimit-reset");
        assert_eq!(answer.headers().get(header::RETRY_AFTER).map(|seconds| seconds.to_str().unwrap()), exposed);
    }
}

#[tokio::test]
async fn any_page_may_call_where_the_setting_says_so_and_none_is_told_where_it_is_empty() {
    let any = server("*");
    for request in [preflight(OTHER), called(Some(OTHER), BROWSER_KEY)] {
        let answer = any.send(request).await;
        assert_eq!((answer.status(), &answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN]), (StatusCode::OK, &"*".parse().unwrap()));
    }
    let unnamed = server("");
    assert_eq!(unnamed.send(preflight(SHOP)).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    let answer = unnamed.send(called(Some(SHOP), BROWSER_KEY)).await;
    assert_eq!((answer.status(), cors(answer.headers())), (StatusCode::OK, vec![]), "the page may be of the door's own origin");
}

#[tokio::test]
async fn a_browser_key_is_taken_from_pages_of_the_list_and_from_what_is_no_page() {
    let server = server(SHOP);
    let ok = (200, String::new());
    assert_eq!(status_and_reason(&server, called(Some(SHOP), BROWSER_KEY)).await, ok);
    assert_eq!(status_and_reason(&server, called(None, BROWSER_KEY)).await, ok, "an app");
    for origin in [OTHER, "null", "https://shop.example.evil.example", "http://shop.example"] {
        assert_eq!(status_and_reason(&server, called(Some(origin), BROWSER_KEY)).await, (403, "SOURCE_FORBIDDEN".to_owned()), "{origin}");
    }
    // What a beacon sends needs no preflight, so the browser would not have stopped it.
    let body = json!({"writeKey": BROWSER_KEY, "anonymousId": "c-1", "event": "Signed In"}).to_string();
    let beacon = Request::post("/v1/track").header(header::ORIGIN, OTHER).header(header::CONTENT_TYPE, "text/plain").body(body.into());
    assert_eq!(status_and_reason(&server, beacon.unwrap()).await, (403, "SOURCE_FORBIDDEN".to_owned()));
    assert_eq!(server.stored(), 2);
}

#[tokio::test]
async fn a_servers_key_in_a_page_does_not_work_wherever_the_page_is() {
    for origins in ["", "*", SHOP] {
        let server = server(origins);
        let (status, answer) = judged(server.send(called(Some(SHOP), SERVER_KEY)).await).await;
        assert_eq!((status, &answer["reason"]), (StatusCode::FORBIDDEN, &json!("SOURCE_FORBIDDEN")), "{origins}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains("rotate") && !message.contains(SERVER_KEY), "{message}");
        let body = json!({"writeKey": SERVER_KEY, "userId": "u-1", "event": "Signed In"}).to_string();
        let in_body = Request::post("/v1/track").header(header::ORIGIN, SHOP).body(body.into()).unwrap();
        assert_eq!(status_and_reason(&server, in_body).await, (403, "SOURCE_FORBIDDEN".to_owned()), "{origins}");
        assert_eq!(server.stored(), 0);
        assert_eq!(server.send(called(None, SERVER_KEY)).await.status(), StatusCode::OK, "{origins}: and from a server it does");
    }
}

/// What the identity service gets from a call, by its key.
async fn stored(key: &str, path: &str, body: &Json) -> Json {
    let server = Server::new();
    let (status, answer) = server.post(path, Some(key), body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let event = server.door.events().remove(0);
    let names = |object: Option<waypost_codec::inbox::Object>| -> Vec<String> {
        object.map(|o| o.entries.into_iter().map(|entry| entry.name).collect()).unwrap_or_default()
    };
    json!({
        "identifiers": event.identifiers.iter().map(|i| i.value.clone()).collect::<Vec<_>>(),
        "traits": names(event.traits),
        "may_grant": event.may_grant,
        "noted": event.quality.iter().map(|q| format!("{} {}", q.path, q.reason)).collect::<Vec<_>>(),
    })
}

#[tokio::test]
async fn of_one_call_a_servers_key_says_all_and_a_browsers_what_its_source_lists() {
    let body = json!({
        "userId": "u-1", "anonymousId": "c-1",
        "traits": {"email": "ana@shop.example", "phone": "+491701234567", "firstName": "Ana"},
        "context": {"externalIds": [{"type": "card", "id": "77"}]},
    });
    assert_eq!(
        stored(SERVER_KEY, "/v1/identify", &body).await,
        json!({
            "identifiers": ["u-1", "ana@shop.example", "+491701234567", "c-1", "77"],
            "traits": ["email", "first_name", "phone"],
            "may_grant": true,
            "noted": [],
        })
    );
    assert_eq!(
        stored(BROWSER_KEY, "/v1/identify", &body).await,
        json!({
            "identifiers": ["ana@shop.example", "c-1"],
            "traits": ["email", "first_name"],
            // Its source says that it may, and a browser may not.
            "may_grant": false,
            "noted": ["userId SOURCE_FORBIDDEN", "traits.phone SOURCE_FORBIDDEN", "context.externalIds[0].id SOURCE_FORBIDDEN"],
        })
    );
}
