//! Unsubscribe links (RFC 8058): a GET shows a button and changes nothing, a POST unsubscribes at once.

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{frame::Record, inbox, kind, unsubscribe::Unsubscribe, value::object_to_proto};
use waypost_telemetry::metrics::SourceKind;
use waypost_types::{Role, Timestamp, Value};

use super::{
    Ingest,
    answer::{Refusal, not_stored},
    caller::{Caller, Client},
    linger::linger,
};
use crate::normalise::record_id;

const ASK: &str = "<h1>Unsubscribe</h1><p>Press the button and these messages stop.</p>\
    <form method=\"post\"><input type=\"hidden\" name=\"List-Unsubscribe\" value=\"One-Click\"><button>Unsubscribe</button></form>";
const DONE: &str = "<h1>Unsubscribed</h1><p>These messages have been stopped.</p>";
const INVALID: &str = "<h1>This link is not valid</h1><p>It may have been cut off. Open it again from the message.</p>";

pub(super) async fn page(State(ingest): State<Ingest>, Path(token): Path<String>, client: Client) -> Response {
    match open(&ingest, &token, client) {
        Ok(Some(_)) => html(StatusCode::OK, ASK),
        Ok(None) => html(StatusCode::NOT_FOUND, INVALID),
        Err(refusal) => refusal.into_response(),
    }
}

// The body says `List-Unsubscribe=One-Click`, in one of two encodings; nothing else can be meant, so
// nothing is made of it.
pub(super) async fn unsubscribe(
    State(ingest): State<Ingest>,
    Path(token): Path<String>,
    client: Client,
    headers: HeaderMap,
    body: Body,
) -> Response {
    linger(&headers, body).await;
    let link = match open(&ingest, &token, client) {
        Ok(Some(link)) => link,
        Ok(None) => return html(StatusCode::NOT_FOUND, INVALID),
        Err(refusal) => return refusal.into_response(),
    };
    let Some(record) = record(&token, &link, ingest.inner.clock.now()) else { return html(StatusCode::NOT_FOUND, INVALID) };
    match ingest.inner.door.append(vec![(Role::Identity, record)]).await {
        Ok(()) => {
            ingest.inner.config.metrics.received(SourceKind::Browser, "other", 1);
            html(StatusCode::OK, DONE)
        }
        Err(error) => not_stored(error).into_response(),
    }
}

/// What a link says; none: it is no link of ours. Whoever has one is no stranger, as often as he comes: mailbox providers
/// press the button for many.
fn open(ingest: &Ingest, token: &str, client: Client) -> Result<Option<Unsubscribe>, Refusal> {
    let mut caller = Caller::new(&ingest.inner, client);
    let link = ingest.inner.config.link_keys.open(token).ok();
    if link.is_some() {
        caller.welcome();
    } else {
        caller.may_ask()?;
    }
    Ok(link)
}

/// `Unsubscribed`, addressed to the profile that the link was sent to.
fn record(token: &str, link: &Unsubscribe, now: Timestamp) -> Option<Record> {
    let node = link.profile.node().ok()?;
    let topic = if link.topic.is_empty() { "*" } else { &link.topic };
    // One id a press: after a new consent the same link must work again.
    let hash = blake3::hash(format!("{token}\0{}", now.millis()).as_bytes());
    let message_id = format!("unsubscribe-{}", hex::encode(&hash.as_bytes()[..16]));
    let properties = [("channel", link.channel.as_str()), ("method", "one_click"), ("topic", topic)];
    let event = inbox::Event {
        message_id: message_id.clone(),
        name: "Unsubscribed".to_owned(),
        event_time: now.millis(),
        received_at: now.millis(),
        properties: Some(object_to_proto(&properties.map(|(name, value)| (name.to_owned(), Value::text(value))))),
        source: "unsubscribe".to_owned(),
        ..inbox::Event::default()
    };
    let key = Bytes::copy_from_slice(node.hash.as_bytes());
    let generation = Bytes::copy_from_slice(&node.to_bytes()[17..]);
    let reference = inbox::NodeRef { class: node.class.number(), hash: key.clone(), generation, custom: String::new() };
    let body = inbox::IdentityEvent { identifiers: vec![reference], event: event.encode_to_vec().into(), by_profile: true };
    Some(Record::new(kind::EVENT, link.workspace, record_id(link.workspace, &message_id), key, now, body.encode_to_vec().into()))
}

fn html(status: StatusCode, body: &'static str) -> Response {
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Unsubscribe</title></head><body>{body}</body></html>"
    );
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ];
    (status, headers, Html(page)).into_response()
}
